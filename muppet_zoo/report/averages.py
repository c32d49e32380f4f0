"""Averages and ranks over targets, at one number of examples.

Only targets that lack no cell are averaged: an arm that missed a hard target would else look better
for it. The gain over the baseline is tested over targets, since it is new targets that it is to
hold for; the seeds' interval of an average says only how well these targets were measured.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace

from muppet_zoo.finetune.results import Shots
from muppet_zoo.report.cells import Cell, Group
from muppet_zoo.report.groups import ByArm, missing_cells, seeds_of, shots_order
from muppet_zoo.report.score_statistics import (
    PairedTest,
    compare_pairs,
    holm,
    mean_and_interval,
    ranks,
)


@dataclass(frozen=True, kw_only=True)
class AverageRow:
    """One arm over all targets that lack no cell, at one number of examples.

    mean: of the targets' means. low, high: Student's interval over the averages of the seeds that
        all these targets have; None where there are fewer than two.
    mean_rank: 1 is best. num_best: targets on which no arm is better.
    targets: differences to the baseline, one per target; None where there is no baseline, and for
        itself. p_targets: its p, corrected among all rows of the report.
    left_out: targets that lack cells.
    """

    split: str
    shots: Shots
    arm: str
    num_targets: int
    mean: float
    low: float | None
    high: float | None
    mean_rank: float
    num_best: int
    targets: PairedTest | None = None
    p_targets: float | None = None
    left_out: tuple[str, ...] = ()


def averages_of(groups: Mapping[Group, ByArm], baseline: str) -> tuple[AverageRow, ...]:
    """A row per split, number of examples and arm; none where every target lacks a cell."""
    rows: list[AverageRow] = []
    places = dict.fromkeys((group.split, group.shots) for group in groups)
    for split, shots in sorted(places, key=lambda place: (place[0], shots_order(place[1]))):
        here = {g.target: by for g, by in groups.items() if (g.split, g.shots) == (split, shots)}
        arms = list(dict.fromkeys(arm for by_arm in here.values() for arm in by_arm))
        whole = {
            target: by_arm for target, by_arm in here.items() if not missing_cells(by_arm, arms)
        }
        left_out = tuple(target for target in here if target not in whole)
        if whole:
            rows += _rows(whole, baseline, left_out)
    corrected = iter(holm([row.targets.p for row in rows if row.targets]))
    return tuple(replace(row, p_targets=next(corrected)) if row.targets else row for row in rows)


def _rows(whole: Mapping[str, ByArm], baseline: str, left_out: tuple[str, ...]) -> list[AverageRow]:
    """A row per arm, from targets that all have the same arms."""
    first = next(iter(whole.values()))
    arms = list(first)
    group = next(iter(first[arms[0]].values())).group
    means = {target: {arm: _mean(by_arm[arm]) for arm in arms} for target, by_arm in whole.items()}
    places = {
        target: dict(zip(arms, ranks([of_arm[arm] for arm in arms]), strict=True))
        for target, of_arm in means.items()
    }
    seeds = set.intersection(*(set(seeds_of(by_arm)) for by_arm in whole.values()))
    rows = []
    for arm in arms:
        by_seed = [
            statistics.fmean(_headline(by_arm[arm][seed]) for by_arm in whole.values())
            for seed in sorted(seeds)
        ]
        interval = mean_and_interval(by_seed) if by_seed else None
        is_compared = baseline in arms and arm != baseline
        gains = [of_arm[arm] - of_arm[baseline] for of_arm in means.values()] if is_compared else []
        rows.append(
            AverageRow(
                split=group.split,
                shots=group.shots,
                arm=arm,
                num_targets=len(whole),
                mean=statistics.fmean(of_arm[arm] for of_arm in means.values()),
                low=interval.low if interval else None,
                high=interval.high if interval else None,
                mean_rank=statistics.fmean(of_arm[arm] for of_arm in places.values()),
                num_best=sum(of_arm[arm] == max(of_arm.values()) for of_arm in means.values()),
                targets=compare_pairs(gains) if gains else None,
                left_out=left_out,
            )
        )
    return rows


def _mean(cells: Mapping[int, Cell]) -> float:
    return statistics.fmean(_headline(cell) for cell in cells.values())


def _headline(cell: Cell) -> float:
    return cell.scores[cell.headline]
