"""Running a study: build, pre-finetune each arm, fine-tune on each target, gather the results.

Each part is a public command that resumes by itself, on files that `files.py` wrote; so a study
that was killed goes on with what is missing, and any part of it can be repeated by hand.

    OUT/results/<study>/<encoder>/results.jsonl, arms.yaml     what `muppet-zoo report` reads
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from muppet_zoo.console import ProgressDisplay, note, progress
from muppet_zoo.encode import open_tokenizer
from muppet_zoo.errors import ShardError, UsageError
from muppet_zoo.file_tools import link_or_copy, own_folder, write_atomically
from muppet_zoo.finetune.plan import counts_of, without_cells
from muppet_zoo.finetune.results import (
    RESULTS_FILE,
    CellResult,
    Shots,
    predictions_file,
    read_results,
)
from muppet_zoo.fingerprints import components_of, what_changed
from muppet_zoo.model_folder import CHECKPOINTS_FOLDER
from muppet_zoo.provenance import weights_digest
from muppet_zoo.report.cells import ARMS_FILE
from muppet_zoo.shards import check_labelled, check_role, open_task
from muppet_zoo.study.arms import StudyArm, arms_of
from muppet_zoo.study.design import Design, Encoder, Setting
from muppet_zoo.study.files import (
    Prefinetuning,
    TargetPlan,
    TargetRows,
    data_folder,
    finetune_settings,
    prefinetuning,
    study_id,
    target_plans,
)
from muppet_zoo.study.jobs import FailedJob, Job, run_jobs
from muppet_zoo.validation import load_schema
from muppet_zoo.zoo import Zoo, load_zoo

_DONE_FILE = "study_done.json"
_MOST_APART = 1.05  # of the arms' budgets; more is told
_FOLDERS = {"data", "specs", "runs", "plans", "prefinetuned", "finetuned", "results", "logs"}


@dataclass(frozen=True, kw_only=True)
class StudyOptions:
    """Where a study writes, and how it runs; none of it changes a result."""

    out: Path
    mirror: Path | None
    workers: int
    spec_dirs: tuple[Path, ...]


@dataclass(frozen=True, kw_only=True)
class StudyOutcome:
    """Folders of results by encoder, jobs that failed, and how many cells have no result yet."""

    folders: Mapping[str, Path]
    failed: tuple[FailedJob, ...]
    num_missing: int


@dataclass(frozen=True, kw_only=True)
class _Work:
    """One study with one encoder."""

    design: Design
    setting: Setting
    encoder: Encoder
    options: StudyOptions
    zoo: Zoo
    arms: tuple[StudyArm, ...]
    targets: tuple[str, ...]

    @property
    def specs(self) -> list[str]:
        own = self.options.out / "specs"
        folders = [*self.setting.specs, *self.options.spec_dirs, *([own] if own.is_dir() else [])]
        return [part for folder in folders for part in ("--specs", str(folder))]

    @property
    def shots(self) -> tuple[Shots, ...]:
        wanted = self.design.shots or self.setting.shots
        allowed = self.encoder.shots
        return wanted if allowed is None else tuple(s for s in wanted if s in allowed) or wanted

    @property
    def split(self) -> str:
        default = load_schema("run")["properties"]["evaluation"]["properties"]["split"]["default"]
        evaluation = self.setting.finetune["run"].get("evaluation", {})
        return str(evaluation.get("split", default))


def run_study(
    design: Design, setting: Setting, options: StudyOptions, encoders: Sequence[str] = ()
) -> StudyOutcome:
    """Run what is missing of a study; `encoders` names some of the setting's, all when empty.

    Raises:
        UsageError: an encoder is not the setting's, or `out` holds something else or is in use.
        SpecError: the files make no runs.
        ShardError: rows that a study needs could not be built, or have no labels.
    """
    zoo = load_zoo((*setting.specs, *options.spec_dirs))
    failed: list[FailedJob] = []
    folders: dict[str, Path] = {}
    num_missing = 0
    with own_folder(options.out, "study", _FOLDERS), progress() as display:
        for encoder in _chosen(setting, encoders):
            work = _work(design, setting, encoder, options, zoo)
            failed += _build(work, display)
            starts = _prefinetune(work, display, failed)
            plans = _finetune(work, starts, display, failed)
            folder = options.out / "results" / design.name / encoder.name
            num_results = _gather(work, starts, plans, folder)
            num_missing += sum(plan.num_cells for plan in plans) - num_results
            folders[encoder.name] = folder
    return StudyOutcome(folders=folders, failed=tuple(failed), num_missing=num_missing)


def _chosen(setting: Setting, names: Sequence[str]) -> list[Encoder]:
    known = {encoder.name: encoder for encoder in setting.encoders}
    for name in names:
        if name not in known:
            raise UsageError(f"{setting.path}: no encoder '{name}'; it has {', '.join(known)}")
    return [known[name] for name in names] or list(known.values())


def _work(
    design: Design, setting: Setting, encoder: Encoder, options: StudyOptions, zoo: Zoo
) -> _Work:
    pool = [zoo.task(name) for name in zoo.mixture(setting.pool).tasks]
    work = _Work(
        design=design,
        setting=setting,
        encoder=encoder,
        options=options,
        zoo=zoo,
        arms=tuple(arms_of(design, pool, encoder)),
        targets=tuple(spec.name for spec in zoo.named(setting.targets)),
    )
    for target in work.targets:
        check_role(zoo.task(target), work.split)
        check_labelled(zoo.task(target), work.split)
    return work


# --- the stages --------------------------------------------------------------------------------


def _build(work: _Work, display: ProgressDisplay) -> list[FailedJob]:
    """Build the tasks of all arms and the targets, if anything is missing or out of date."""
    data = data_folder(work.options.out, work.encoder)
    tasks = sorted({task for arm in work.arms for task in arm.tasks} | set(work.targets))
    if not _absent(work, tasks):
        return []
    mirror = ["--mirror", str(work.options.mirror)] if work.options.mirror else []
    line = display.start(f"build for {work.encoder.name}", unit="tasks")
    job = Job(
        name="build",
        arguments=(
            "build", *tasks, "--tokenizer", work.encoder.encoder, "--out", str(data),
            "--max-tokens", str(work.setting.max_tokens), *mirror, *work.specs,
        ),
        log=_log(work, "build"),
        total=len(tasks),
        done=lambda: sum((data / task).is_dir() for task in tasks),
    )  # fmt: skip
    # Splits that a study does not need may be missing; those that it needs are looked for below.
    failed = run_jobs([job], 1, line)
    line.finish()
    if absent := _absent(work, tasks):
        said = f":\n{failed[0].text}" if failed else ""
        raise ShardError(f"{', '.join(absent)}: not built; {job.log} says why{said}")
    return []


def _absent(work: _Work, tasks: Sequence[str]) -> list[str]:
    """The splits that the study needs and that are not there, as it needs them."""
    data = data_folder(work.options.out, work.encoder)
    tokenizer = open_tokenizer(work.encoder.encoder).digest
    options = {"max_tokens": work.setting.max_tokens, "limit": None}
    needed = [(task, "train") for task in tasks]
    needed += [(task, work.split) for task in work.targets]
    absent = []
    for task, split in needed:
        try:
            manifest = open_task(data, task, split).manifest
        except ShardError:
            absent.append(f"{task} {split}")
            continue
        wanted = components_of(
            work.zoo.task(task), split, source=manifest.components["source"],
            tokenizer=tokenizer, options=options,
        )  # fmt: skip
        if what_changed(manifest, wanted):
            absent.append(f"{task} {split}")
    return absent


def _prefinetune(
    work: _Work, display: ProgressDisplay, failed: list[FailedJob]
) -> list[tuple[StudyArm, Prefinetuning]]:
    """Train what arms start from; returns the arms whose start is there."""
    pool = work.zoo.mixture(work.setting.pool)
    encoder, data = work.encoder, data_folder(work.options.out, work.encoder)
    weights = weights_digest(encoder.encoder, random_init=encoder.random_init)
    tasks = sorted({task for arm in work.arms for task in arm.tasks})
    rows = {task: open_task(data, task, "train").fingerprint for task in tasks}
    starts = [
        (arm, prefinetuning(work.options.out, work.setting, encoder, pool, arm, weights, rows))
        for arm in work.arms
    ]
    jobs = {
        start.id: _training(work, arm, start)
        for arm, start in starts
        if start.folder is not None and not (start.folder / _DONE_FILE).is_file()
    }
    line = display.start(f"pre-finetune {work.encoder.name}", unit="runs")
    failed += run_jobs(list(jobs.values()), work.options.workers, line)
    line.finish()
    return [
        (arm, start)
        for arm, start in starts
        if start.folder is None or (start.folder / _DONE_FILE).is_file()
    ]


def _training(work: _Work, arm: StudyArm, start: Prefinetuning) -> Job:
    assert start.folder is not None
    assert start.run is not None
    folder, num_steps = start.folder, _num_steps(start.run)
    resume = ["--resume"] if folder.is_dir() else []

    def finish() -> None:
        about = {"arm": arm.name, "tasks": arm.tasks}
        write_atomically(folder / _DONE_FILE, json.dumps(about).encode())
        shutil.rmtree(folder / CHECKPOINTS_FOLDER, ignore_errors=True)

    return Job(
        name=arm.name,
        arguments=("train", str(start.run), "--out", str(folder), *resume, *work.specs),
        log=_log(work, start.id),
        total=1,
        done=lambda: _last_step(folder / "metrics.jsonl") / num_steps,
        finish=finish,
    )


def _num_steps(run: Path) -> float:
    schedule = yaml.safe_load(run.read_bytes())["schedule"]
    return float(schedule.get("steps", "inf"))  # of epochs nobody knows yet how many steps they are


def _last_step(log: Path) -> int:
    """The step of the last whole line; one may be cut by a kill, or be written just now."""
    if not log.is_file():
        return 0
    *whole, _ = log.read_bytes().split(b"\n")
    return int(json.loads(whole[-1])["step"]) if whole else 0


def _finetune(
    work: _Work,
    starts: Sequence[tuple[StudyArm, Prefinetuning]],
    display: ProgressDisplay,
    failed: list[FailedJob],
) -> list[TargetPlan]:
    rows = {target: _target_rows(work, target) for target in work.targets}
    plans = target_plans(
        work.options.out, work.setting, work.encoder, starts, rows, work.shots, work.zoo
    )
    jobs = [_fine_tuning(work, plan) for plan in plans]
    missing = [job for job, plan in zip(jobs, plans, strict=True) if job.done() < plan.num_cells]
    line = display.start(f"fine-tune {work.encoder.name}", unit="cells")
    failed += run_jobs(missing, work.options.workers, line)
    line.finish()
    return plans


def _target_rows(work: _Work, target: str) -> TargetRows:
    """What is built of a target, with a word where it has too few examples for some shots."""
    data = data_folder(work.options.out, work.encoder)
    train, scored = (open_task(data, target, split) for split in ("train", work.split))
    held_out = work.setting.finetune.get("held_out", 0)
    if len(counts_of(work.shots, train.num_examples, held_out)) < len(work.shots):
        note(without_cells(target, work.shots, train.num_examples, held_out))
    return TargetRows(
        num_examples=train.num_examples, fingerprints=(train.fingerprint, scored.fingerprint)
    )


def _fine_tuning(work: _Work, plan: TargetPlan) -> Job:
    return Job(
        name=plan.target,
        arguments=("finetune", str(plan.plan), "--out", str(plan.folder), *work.specs),
        log=_log(work, f"{plan.group}-{plan.target}"),
        total=plan.num_cells,
        done=lambda: len(_results(work, plan)),
    )


def _log(work: _Work, job: str) -> Path:
    return work.options.out / "logs" / work.encoder.name / f"{job}.log"


def _results(work: _Work, plan: TargetPlan) -> list[CellResult]:
    """What is scored of a plan, whatever other studies have scored in its folder."""
    path = plan.folder / RESULTS_FILE
    found = read_results(path) if path.is_file() else []
    return [
        result
        for result in found
        if result.arm in plan.arms
        and result.shots in work.shots
        and result.seed in work.setting.seeds
    ]


# --- what comes out ------------------------------------------------------------------------------


def _gather(
    work: _Work,
    starts: Sequence[tuple[StudyArm, Prefinetuning]],
    plans: Sequence[TargetPlan],
    folder: Path,
) -> int:
    """Write the results under the arms' own names, and what the arms are; returns their number."""
    results = {(plan.group, plan.target): (plan, _results(work, plan)) for plan in plans}
    lines, count = [], 0
    (folder / "predictions").mkdir(parents=True, exist_ok=True)
    for arm, start in starts:
        group = study_id(finetune_settings(work.setting, work.encoder, arm))
        for target in work.targets:
            plan, found = results[group, target]
            mine = [result for result in found if result.arm == start.id]
            mine.sort(key=lambda result: (str(result.shots), result.seed))
            for result in mine:
                lines.append(_renamed(result, arm.name, plan.folder, folder))
            count += len(mine)
    text = "".join(json.dumps(asdict(line), ensure_ascii=False) + "\n" for line in lines)
    write_atomically(folder / RESULTS_FILE, text.encode())
    write_atomically(
        folder / ARMS_FILE, yaml.safe_dump(_facts(work, starts), sort_keys=False).encode()
    )
    return count


def _renamed(result: CellResult, arm: str, source: Path, folder: Path) -> CellResult:
    """The result as that of an arm, with its predictions beside it."""
    predictions = predictions_file(source / RESULTS_FILE, result)
    if predictions is None:
        return replace(result, arm=arm)
    name = f"{arm}-{result.target}-{result.shots}-seed{result.seed}.jsonl"
    link_or_copy(predictions, folder / "predictions" / name)
    return replace(result, arm=arm, predictions=f"predictions/{name}")


def _facts(
    work: _Work, starts: Sequence[tuple[StudyArm, Prefinetuning]]
) -> dict[str, Mapping[str, Any]]:
    """What the arms are. Tasks count that were trained on, which a short run may not come to."""
    mixes = {arm.name: _mix(start) for arm, start in starts if start.folder is not None}
    tokens = {name: int(mix["num_tokens"]) for name, mix in mixes.items()}
    if tokens and max(tokens.values()) > _MOST_APART * min(tokens.values()):
        listed = ", ".join(f"{name} {count:,}" for name, count in tokens.items())
        note(f"{work.design.name}: arms were pre-finetuned on unequal numbers of tokens: {listed}")
    return {
        "arms": {
            arm.name: {
                "num_tasks": _num_trained(mixes[arm.name]) if arm.name in mixes else len(arm.tasks),
                "description": arm.description,
            }
            for arm in work.arms
        }
    }


def _mix(start: Prefinetuning) -> dict[str, Any]:
    assert start.folder is not None
    mix: dict[str, Any] = json.loads((start.folder / "mix.json").read_bytes())
    return mix


def _num_trained(mix: Mapping[str, Any]) -> int:
    return sum(task["num_examples"] > 0 for task in mix["tasks"].values())


def warn_of_missing(outcome: StudyOutcome) -> None:
    """Tell what failed and what has no result yet."""
    for job in outcome.failed:
        note(f"{job.name} failed with exit code {job.code} ({job.log}):\n{job.text}")
    if outcome.num_missing:
        note(f"{outcome.num_missing:,} cells have no score yet; the same command goes on")
