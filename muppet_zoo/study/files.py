"""What a study asks of the public commands, as files: mixtures, run files, finetune plans.

    OUT/specs/mixtures/study_<id>.yaml       the tasks of an arm, with the pool's rates
    OUT/runs/<encoder>/<id>.yaml             for `muppet-zoo train`
    OUT/plans/<encoder>/<id>/<target>.yaml   for `muppet-zoo finetune`

An id is a digest of what it stands for, not of the study's or arm's name. So studies that share a
folder share what is equal in them: the encoder trained on all tasks is the same in each.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from muppet_zoo.errors import SpecError, UsageError
from muppet_zoo.file_tools import write_atomically
from muppet_zoo.finetune.checks import plan_findings, with_setting
from muppet_zoo.finetune.plan import counts_of
from muppet_zoo.finetune.results import Shots
from muppet_zoo.mixture import Mixture
from muppet_zoo.run import with_defaults
from muppet_zoo.study.arms import StudyArm
from muppet_zoo.study.design import Encoder, Setting
from muppet_zoo.validation import load_schema, schema_findings
from muppet_zoo.yaml_reader import Document, read_yaml
from muppet_zoo.zoo import MIXTURE_FOLDER, Zoo

_DIGITS = 12


@dataclass(frozen=True, kw_only=True)
class Prefinetuning:
    """A training that arms start from. `folder` is None where they start from the encoder."""

    id: str
    run: Path | None
    folder: Path | None


@dataclass(frozen=True, kw_only=True)
class TargetRows:
    """What is built of a target: train examples, and the fingerprints of train and scored split."""

    num_examples: int
    fingerprints: tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class TargetPlan:
    """Fine-tunings on one target with equal settings, of all arms that have them.

    group: the id of the settings. arms: name in the plan, which is the id of its pre-finetuning.
    num_cells: without those that the target has too few examples for.
    """

    group: str
    target: str
    plan: Path
    folder: Path
    arms: tuple[str, ...]
    num_cells: int


def study_id(what: Any) -> str:
    """A short name of plain data: it begins with a letter, as names of arms do."""
    text = json.dumps(what, sort_keys=True).encode()
    return f"s{hashlib.sha256(text).hexdigest()[:_DIGITS]}"


def data_folder(out: Path, encoder: Encoder) -> Path:
    """Where the shards of an encoder's tokenizer are."""
    return out.resolve() / "data" / encoder.name


def prefinetuning(
    out: Path,
    setting: Setting,
    encoder: Encoder,
    pool: Mixture,
    arm: StudyArm,
    weights: str,
    rows: Mapping[str, str],
) -> Prefinetuning:
    """Write the run file of an arm, and the mixture that it names.

    weights: digest of the encoder's. rows: fingerprint of each task's train split.

    Raises:
        SpecError: the settings make no run.
        UsageError: the pool's rates cannot be those of a part of it.
    """
    start = {"encoder": encoder.encoder, "random_init": encoder.random_init}
    what: dict[str, Any] = {"start": start, "weights": weights}
    if not arm.tasks:
        return Prefinetuning(id=study_id(what), run=None, folder=None)
    run = _changed(setting.prefinetune, encoder.prefinetune, arm.prefinetune)
    if arm.micro_batches_per_step is not None:
        run["batching"] = _cut(run.get("batching", {}), arm.micro_batches_per_step)
    part = _part(pool, sorted(arm.tasks))
    name = study_id(
        what | {"run": run, "mixture": part, "rows": {task: rows[task] for task in arm.tasks}}
    )
    mixture = f"study_{study_id(part)}"
    run |= {
        "run_version": 1,
        "trainer": run.get("trainer", "torch"),
        "data": str(data_folder(out, encoder)),
        "mixture": mixture,
        "model": run.get("model", {}) | start,
    }
    # Arms are scored on targets, after fine-tuning.
    run["evaluation"] = {"at_end": False} | run.get("evaluation", {})
    if findings := schema_findings(Document(path=setting.path, data=run), "run"):
        raise SpecError(findings)
    description = f"{len(arm.tasks)} tasks of the mixture {pool.name}, first of the arm {arm.name}."
    head = {"mixture_version": 1, "name": mixture, "description": description}
    _write(out / "specs" / MIXTURE_FOLDER / f"{mixture}.yaml", head | part)
    file = out / "runs" / encoder.name / f"{name}.yaml"
    _write(file, run)
    return Prefinetuning(id=name, run=file, folder=out / "prefinetuned" / encoder.name / name)


def target_plans(
    out: Path,
    setting: Setting,
    encoder: Encoder,
    arms: Sequence[tuple[StudyArm, Prefinetuning]],
    targets: Mapping[str, TargetRows],
    shots: Sequence[Shots],
    zoo: Zoo,
) -> list[TargetPlan]:
    """Write the finetune plans of a study: one for each target and group of equal settings.

    A plan's folder is named by settings and rows, so scores on other rows are never taken for its.

    Raises:
        SpecError: the settings make no plan.
    """
    groups: dict[str, tuple[dict[str, Any], dict[str, Prefinetuning]]] = {}
    for arm, start in arms:
        settings = finetune_settings(setting, encoder, arm)
        groups.setdefault(study_id(settings), (settings, {}))[1][start.id] = start
    plans = []
    for key, (settings, starts) in groups.items():
        for target, rows in targets.items():
            plan = {
                "finetune_version": 1,
                "targets": [target],
                "arms": {name: _plan_arm(encoder, start) for name, start in starts.items()},
                "seeds": list(setting.seeds),
                "shots": list(shots),
                **settings,
                "run": settings["run"] | {"data": str(data_folder(out, encoder))},
            }
            document = Document(path=setting.path, data=plan)
            if findings := plan_findings(document, zoo.tasks, zoo.mixtures):
                raise SpecError(findings)
            counts = counts_of(shots, rows.num_examples, settings.get("held_out", 0))
            name = study_id([key, rows.fingerprints])
            file = out / "plans" / encoder.name / name / f"{target}.yaml"
            _write(file, plan)
            plans.append(
                TargetPlan(
                    group=key,
                    target=target,
                    plan=file,
                    folder=out / "finetuned" / encoder.name / name / target,
                    arms=tuple(starts),
                    num_cells=len(starts) * len(counts) * len(setting.seeds),
                )
            )
    return plans


def finetune_settings(setting: Setting, encoder: Encoder, arm: StudyArm) -> dict[str, Any]:
    """What arms that are fine-tuned alike have in common: parts of a finetune plan."""
    run = _changed(setting.finetune["run"], encoder.finetune, arm.finetune)
    if arm.finetune_budget > 1:
        (key,) = {"steps", "epochs"} & run["schedule"].keys()
        run["schedule"] = run["schedule"] | {key: run["schedule"][key] * arm.finetune_budget}
    return {**setting.finetune, "run": run}


def _plan_arm(encoder: Encoder, start: Prefinetuning) -> dict[str, Any]:
    if start.folder is None:
        return {"encoder": encoder.encoder, "random_init": encoder.random_init}
    return {"encoder": str(start.folder.resolve())}


def _changed(run: Mapping[str, Any], *changes: Mapping[str, Any]) -> dict[str, Any]:
    changed = dict(run)
    for change in changes:
        for key, value in change.items():
            changed = with_setting(changed, key, value)
    return changed


def _cut(batching: Mapping[str, Any], num_micro_batches: int) -> dict[str, Any]:
    """So many micro-batches a step, which are as large in all as those of `batching`."""
    whole = with_defaults(batching, load_schema("run")["properties"]["batching"])
    cut = dict(batching) | {"micro_batches_per_step": num_micro_batches}
    for size in ("tokens_per_micro_batch", "examples_per_micro_batch"):
        if size in whole:
            cut[size] = whole[size] * whole["micro_batches_per_step"] // num_micro_batches
    return cut


def _part(pool: Mixture, tasks: Sequence[str]) -> dict[str, Any]:
    """Some of the pool's tasks with the caps, weights and rates of its file."""
    raw = read_yaml(pool.path).data
    listed = {each if isinstance(each, str) else each["task"]: each for each in raw["tasks"]}
    if "mixtures" in raw or raw.get("rates", {}).get("scheme") == "explicit":
        raise UsageError(
            f"the pool {pool.name} cannot be cut into parts: a study needs a mixture that lists "
            f"all its tasks itself, with rates that are not explicit"
        )
    part: dict[str, Any] = {"tasks": [listed[task] for task in tasks]}
    return part | ({"rates": raw["rates"]} if "rates" in raw else {})


class _WithoutAliases(yaml.SafeDumper):
    """Writes equal parts out, as run files have to."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _write(path: Path, data: Mapping[str, Any]) -> None:
    """Write YAML, but leave equal content as it is: others may be reading it."""
    text = yaml.dump(
        data, Dumper=_WithoutAliases, sort_keys=False, allow_unicode=True, width=100
    ).encode()
    if not path.is_file() or path.read_bytes() != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text)
