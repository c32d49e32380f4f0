"""Cells sorted into what is compared: by target, split and number of examples, then arm, then seed.

The order is that of the targets and arms as they were read, with numbers of examples and seeds
ascending, so that the order in which seeds finished changes no table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from muppet_zoo.finetune.results import Shots
from muppet_zoo.report.cells import Cell, Group, Runs

ByArm = dict[str, dict[int, Cell]]
"""Arm → seed → its cell in one group."""


def shots_order(shots: Shots) -> float:
    """A key to sort by: numbers ascending, then all."""
    return float("inf") if isinstance(shots, str) else shots


def groups_of(runs: Runs) -> dict[Group, ByArm]:
    """All cells of the runs."""
    targets = list(dict.fromkeys((cell.split, cell.target) for cell in runs.cells))
    arms = list(runs.arms)

    def place(cell: Cell) -> tuple[float, ...]:
        at = targets.index((cell.split, cell.target))
        return at, shots_order(cell.shots), arms.index(cell.arm), cell.seed

    groups: dict[Group, ByArm] = {}
    for cell in sorted(runs.cells, key=place):
        groups.setdefault(cell.group, {}).setdefault(cell.arm, {})[cell.seed] = cell
    return groups


def seeds_of(by_arm: Mapping[str, Mapping[int, Cell]]) -> list[int]:
    """The seeds that any arm has."""
    return sorted({seed for cells in by_arm.values() for seed in cells})


def missing_cells(by_arm: ByArm, arms: Iterable[str]) -> list[Cell]:
    """What one of `arms` lacks of the seeds that another has, as cells without scores."""
    model = next(cell for cells in by_arm.values() for cell in cells.values())
    return [
        replace(model, arm=arm, seed=seed, scores={}, predictions=None, overlap=None, settings={})
        for arm in arms
        for seed in seeds_of(by_arm)
        if seed not in by_arm.get(arm, {})
    ]
