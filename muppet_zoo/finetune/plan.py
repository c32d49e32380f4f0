"""A finetune plan as frozen records: its YAML file, and the run that each of its cells is.

A cell is one training: an arm, a target, a number of examples, a seed and a point of the grid. Its
run follows from the plan alone, so a study that was killed finds out by itself what is missing.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muppet_zoo.errors import SpecError, UsageError
from muppet_zoo.finetune.checks import plan_findings, with_setting
from muppet_zoo.finetune.results import ALL, Shots
from muppet_zoo.model_folder import ENCODER_FOLDER, MODEL_FOLDER
from muppet_zoo.run import Run, parse_run, resolve_encoder, with_defaults
from muppet_zoo.samples import HELD_OUT
from muppet_zoo.validation import load_schema
from muppet_zoo.yaml_reader import read_yaml
from muppet_zoo.zoo import Zoo


@dataclass(frozen=True, kw_only=True)
class Arm:
    """An encoder, a folder or a hub name, and how fine-tuning starts from it."""

    name: str
    encoder: str
    random_init: bool
    heads: str


@dataclass(frozen=True, kw_only=True)
class Group:
    """The cells among which one point of the grid is chosen."""

    arm: Arm
    target: str
    shots: Shots


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One training; `point` is the number of its settings in the plan's grid."""

    group: Group
    seed: int
    point: int

    @property
    def name(self) -> str:
        """What its folder is called; no part of it has a `-`."""
        return f"{self.scored_name}-grid{self.point}"

    @property
    def scored_name(self) -> str:
        """The same without the point, of which only one is scored."""
        return f"{self.group.arm.name}-{self.group.target}-{self.group.shots}-seed{self.seed}"


@dataclass(frozen=True, kw_only=True)
class FinetunePlan:
    """What is fine-tuned, with all defaults filled in.

    targets: tasks; those of a mixture stand in its place.
    points: settings by dotted key of a run, one mapping per point of the grid; at least one.
    run: what all cells have in common, as plain data of a run file with resolved paths.
    """

    targets: tuple[str, ...]
    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]
    shots: tuple[Shots, ...]
    held_out: int
    points: tuple[Mapping[str, Any], ...]
    keep_models: bool
    run: Mapping[str, Any]

    @property
    def is_choosing(self) -> bool:
        """Whether settings have to be chosen."""
        return len(self.points) > 1

    def cells(self, group: Group, point: int | None = None) -> list[Cell]:
        """All cells of a group, or those of one point."""
        points = range(len(self.points)) if point is None else [point]
        return [Cell(group=group, seed=seed, point=p) for p in points for seed in self.seeds]

    @property
    def common(self) -> Run:
        """Some cell's run, for what all have in common."""
        group = Group(arm=self.arms[0], target=self.targets[0], shots=self.shots[0])
        return self.run_of(Cell(group=group, seed=self.seeds[0], point=0))

    def run_of(self, cell: Cell) -> Run:
        """The run that is this cell."""
        arm, shots = cell.group.arm, cell.group.shots
        data = dict(self.run)
        for key, value in self.points[cell.point].items():
            data = with_setting(data, key, value)
        data |= {"run_version": 1, "task": cell.group.target, "seed": cell.seed}
        data["sample"] = {"examples": None if shots == ALL else shots, "held_out": self.held_out}
        data["model"] = data.get("model", {}) | {
            "encoder": arm.encoder,
            "random_init": arm.random_init,
            "heads": arm.heads,
        }
        # The evaluation split is read when the settings are chosen, and not before.
        evaluation = {"at_end": self.is_choosing} | (
            {"split": HELD_OUT} if self.is_choosing else {}
        )
        data["evaluation"] = data.get("evaluation", {}) | evaluation
        return parse_run(with_defaults(data))

    @property
    def split(self) -> str:
        """The split that chosen cells are scored on."""
        default = load_schema("run")["properties"]["evaluation"]["properties"]["split"]["default"]
        return str(self.run.get("evaluation", {}).get("split", default))


def read_plan(path: Path, zoo: Zoo) -> FinetunePlan:
    """Read a plan; paths in it are relative to it.

    Raises:
        SpecError: with every finding in the file.
        UsageError: there is no such file, or it is another kind of file.
    """
    if not path.is_file():
        raise UsageError(f"no such plan file: {path}" + (" (a folder)" if path.is_dir() else ""))
    document = read_yaml(path)
    if "run_version" in document.data:
        raise UsageError(f"{path} is a run file and no finetune plan; use: muppet-zoo train {path}")
    if findings := plan_findings(document, zoo.tasks, zoo.mixtures):
        raise SpecError(findings)
    data = with_defaults(document.data, load_schema("finetune"))
    grid = data["grid"]
    run = {"trainer": "torch", **data["run"]}
    run["data"] = str((path.parent / Path(run["data"]).expanduser()).resolve())
    return FinetunePlan(
        targets=_tasks(data["targets"], zoo),
        arms=tuple(_arm(name, arm, path.parent) for name, arm in data["arms"].items()),
        seeds=tuple(data["seeds"]),
        shots=tuple(data["shots"]),
        held_out=data["held_out"],
        points=tuple(
            dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())
        ),
        keep_models=data["keep_models"],
        run=run,
    )


def _tasks(names: list[str], zoo: Zoo) -> tuple[str, ...]:
    """Each task once, in the order of the file and of its mixtures."""
    listed = ((name,) if name in zoo.tasks else zoo.mixture(name).tasks for name in names)
    return tuple(dict.fromkeys(itertools.chain.from_iterable(listed)))


def _arm(name: str, data: Mapping[str, Any], base: Path) -> Arm:
    encoder = resolve_encoder(data["encoder"], base)
    for inner in (ENCODER_FOLDER, f"{MODEL_FOLDER}/{ENCODER_FOLDER}"):
        # The folder of a model, or what `train --out` wrote, means the encoder in it.
        if (Path(encoder) / inner / "config.json").is_file():
            encoder = str(Path(encoder) / inner)
    return Arm(
        name=name,
        encoder=encoder,
        random_init=data.get("random_init", False),
        heads=data.get("heads", "fresh"),
    )


def counts_of(shots: Sequence[Shots], num_examples: int, held_out: int) -> dict[Shots, int]:
    """How many examples are trained on with each of `shots`; without those that are too many."""
    left = num_examples - held_out
    counts = {each: left if each == ALL else int(each) for each in shots}
    return {each: count for each, count in counts.items() if 1 <= count <= left}


def without_cells(target: str, shots: Sequence[Shots], num_examples: int, held_out: int) -> str:
    """That a target has too few examples for some of `shots`."""
    counts = counts_of(shots, num_examples, held_out)
    too_many = ", ".join(str(each) for each in shots if each not in counts)
    return (
        f"{target}: {num_examples:,} train examples, {held_out:,} of them held out: no cells with "
        f"shots {too_many}"
    )
