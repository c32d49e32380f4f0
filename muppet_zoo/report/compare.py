"""Cells → the tables of a report: scores, comparisons with a baseline, averages, what is missing.

Three rules keep the tables honest. A cell is expected where any arm has one for the same target,
examples and seed, and an expected cell that is not there is named. Averages and ranks are over
targets that lack no cell, and say which were left out. Arms are compared with one baseline, chosen
before looking, not all with all, and every p-value is corrected for the number of comparisons.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from muppet_zoo.errors import UnknownNameError
from muppet_zoo.finetune.results import ALL, Shots
from muppet_zoo.metric_inputs import ScoreError
from muppet_zoo.report.averages import AverageRow, averages_of
from muppet_zoo.report.cells import ArmFacts, Cell, Group, Runs, predictions_of
from muppet_zoo.report.example_scores import example_score
from muppet_zoo.report.groups import ByArm, groups_of, missing_cells, seeds_of
from muppet_zoo.report.published import Published
from muppet_zoo.report.score_statistics import (
    PairedTest,
    compare_examples,
    compare_pairs,
    holm,
    mean_and_interval,
    smallest_p,
)
from muppet_zoo.results import ReportError

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class ScoreRow:
    """One arm and metric on one group, over its seeds; the interval is Student's over seeds."""

    target: str
    split: str
    shots: Shots
    arm: str
    metric: str
    is_headline: bool
    mean: float
    median: float
    low: float | None
    high: float | None
    seeds: dict[int, float]
    missing_seeds: tuple[int, ...]
    num_examples: int
    overlap: int | None


@dataclass(frozen=True, kw_only=True)
class ComparisonRow:
    """One arm against the baseline on the headline metric of one group.

    p_seeds, p_examples: those of the tests, corrected among all comparisons of the report.
    smallest_p: the least p that a test over so many seeds can give, before correction.
    examples: the test over rows; None where predictions were not kept. `example_score` is what it
        compares row by row, the mean over the paired seeds.
    """

    target: str
    split: str
    shots: Shots
    arm: str
    baseline: str
    metric: str
    seeds: PairedTest
    p_seeds: float
    smallest_p: float
    example_score: str | None = None
    examples: PairedTest | None = None
    p_examples: float | None = None


@dataclass(frozen=True, kw_only=True)
class PublishedRow:
    """A published score and ours, by `metric`, on the same split with all training examples."""

    published: Published
    metric: str
    ours: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything that is shown; plain data, the same for the same cells."""

    baseline: str
    arms: Mapping[str, ArmFacts]
    scores: tuple[ScoreRow, ...]
    comparisons: tuple[ComparisonRow, ...]
    averages: tuple[AverageRow, ...]
    missing: tuple[Cell, ...]
    published: tuple[PublishedRow, ...]

    @property
    def headlines(self) -> tuple[ScoreRow, ...]:
        """The rows of headline metrics."""
        return tuple(row for row in self.scores if row.is_headline)


def build_report(
    runs: Runs,
    *,
    baseline: str | None = None,
    published: Sequence[Published] = (),
    progress: Progress = lambda done, total: None,
) -> Report:
    """All tables. `baseline` is the arm that others are compared with: the first one without it.

    Raises:
        ReportError: there are no cells, or predictions of one group are of different rows.
        UnknownNameError: no arm has the baseline's name.
    """
    if not runs.cells:
        raise ReportError("there are no scores in these runs yet; let them score a first cell")
    if baseline is not None and baseline not in runs.arms:
        raise UnknownNameError("arm", baseline, list(runs.arms))
    baseline = baseline or next(iter(runs.arms))
    groups = groups_of(runs)
    scores = [row for group in groups for row in _score_rows(groups[group])]
    return Report(
        baseline=baseline,
        arms=runs.arms,
        scores=tuple(scores),
        comparisons=_comparisons(groups, baseline, progress),
        averages=averages_of(groups, baseline),
        missing=tuple(cell for group in groups for cell in missing_cells(groups[group], runs.arms)),
        published=_published(scores, published),
    )


def _score_rows(by_arm: ByArm) -> list[ScoreRow]:
    seeds = seeds_of(by_arm)
    rows = []
    for arm, cells in by_arm.items():
        first = next(iter(cells.values()))
        names = [name for cell in cells.values() for name in cell.scores]
        for metric in dict.fromkeys([first.headline, *names]):
            values = {s: cell.scores[metric] for s, cell in cells.items() if metric in cell.scores}
            interval = mean_and_interval([*values.values()])
            overlaps = {cell.overlap for cell in cells.values()}
            rows.append(
                ScoreRow(
                    target=first.target,
                    split=first.split,
                    shots=first.shots,
                    arm=arm,
                    metric=metric,
                    is_headline=metric == first.headline,
                    mean=interval.mean,
                    median=interval.median,
                    low=interval.low,
                    high=interval.high,
                    seeds=values,
                    missing_seeds=tuple(seed for seed in seeds if seed not in values),
                    num_examples=first.num_examples,
                    overlap=None if None in overlaps else max(o for o in overlaps if o is not None),
                )
            )
    return rows


def _comparisons(
    groups: Mapping[Group, ByArm], baseline: str, progress: Progress
) -> tuple[ComparisonRow, ...]:
    pairs = [
        (cells, by_arm[baseline])
        for by_arm in groups.values()
        if baseline in by_arm
        for arm, cells in by_arm.items()
        if arm != baseline and cells.keys() & by_arm[baseline].keys()
    ]
    rows: list[ComparisonRow] = []
    for number, (cells, base) in enumerate(pairs, start=1):
        rows.append(_compare(cells, base))
        progress(number, len(pairs))
    over_seeds = iter(holm([row.seeds.p for row in rows]))
    over_examples = iter(holm([row.examples.p for row in rows if row.examples]))
    return tuple(
        replace(
            row,
            p_seeds=next(over_seeds),
            p_examples=next(over_examples) if row.examples else None,
        )
        for row in rows
    )


def _compare(cells: Mapping[int, Cell], base: Mapping[int, Cell]) -> ComparisonRow:
    seeds = sorted(cells.keys() & base.keys())
    first, other = cells[seeds[0]], base[seeds[0]]
    metric = first.headline
    over_seeds = compare_pairs([cells[s].scores[metric] - base[s].scores[metric] for s in seeds])
    row = ComparisonRow(
        target=first.target,
        split=first.split,
        shots=first.shots,
        arm=first.arm,
        baseline=other.arm,
        metric=metric,
        seeds=over_seeds,
        p_seeds=over_seeds.p,
        smallest_p=smallest_p(len(seeds)),
    )
    rule = example_score(metric)
    if rule is None or any(side[s].predictions is None for side in (cells, base) for s in seeds):
        return row
    differences = _row_differences([(cells[s], base[s]) for s in seeds], rule.function)
    over_examples = compare_examples(differences)
    return replace(row, example_score=rule.name, examples=over_examples)


def _row_differences(
    pairs: Sequence[tuple[Cell, Cell]], function: Callable[..., float]
) -> list[float]:
    """The arm's score of each row less the baseline's, the mean over pairs of equal seed."""
    sums: dict[int | str, float] = {}
    for cell, base in pairs:
        ours, theirs = predictions_of(cell), predictions_of(base)
        if [(row, each[1]) for row, each in ours.items()] != [
            (row, each[1]) for row, each in theirs.items()
        ] or (sums and ours.keys() != sums.keys()):
            raise ReportError(
                f"{cell.predictions} and {base.predictions}: rows or targets differ, so they are "
                f"predictions of different data; score both on the same built data"
            )
        for row in ours:
            gain = _row_score(cell, row, ours[row], function)
            gain -= _row_score(base, row, theirs[row], function)
            sums[row] = sums.get(row, 0.0) + gain
    return [total / len(pairs) for total in sums.values()]


def _row_score(
    cell: Cell, row: int | str, answer: tuple[Any, Any], function: Callable[[Any, Any], float]
) -> float:
    try:
        return function(*answer)
    except (TypeError, ValueError, ScoreError) as error:
        raise ReportError(
            f"{cell.predictions}: row {row} has prediction {answer[0]!r} for target {answer[1]!r}, "
            f"which {cell.headline} cannot score: {error}"
        ) from error


def _published(
    scores: Sequence[ScoreRow], published: Sequence[Published]
) -> tuple[PublishedRow, ...]:
    """Published scores that have one of ours beside them, in the order of the targets."""
    rows = []
    for target, split in dict.fromkeys((row.target, row.split) for row in scores):
        mine = [row for row in scores if (row.target, row.split, row.shots) == (target, split, ALL)]
        for score in published:
            if (score.task, score.split) != (target, split) or not mine:
                continue
            # The first row has the headline metric.
            metric = score.metric or mine[0].metric
            ours = {row.arm: row.mean for row in mine if row.metric == metric}
            if ours:
                rows.append(PublishedRow(published=score, metric=metric, ours=ours))
    return tuple(rows)
