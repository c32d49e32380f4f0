"""The tables of a report as plain rows, one set of columns for the terminal and for the page.

What is not there is said in words: a number that was never measured must not look like a zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from muppet_zoo.report.compare import ComparisonRow, Report, ScoreRow
from muppet_zoo.report.score_statistics import CONFIDENCE, smallest_p

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows with equal keys, the columns; `caption` says in words what they are."""

    name: str
    title: str
    caption: str
    rows: tuple[Row, ...]


def tables_of(report: Report) -> list[Table]:
    """The tables that have rows, the most condensed first."""
    percent = f"{CONFIDENCE:.0%}".replace("%", " %")
    made = [
        Table(
            name="missing",
            title="Missing cells",
            caption="Expected, since another arm has them, and not there. They are in no figure "
            "or mean; averages leave out their targets, comparisons pair the seeds that are there.",
            rows=tuple(_missing_rows(report)),
        ),
        Table(
            name="averages",
            title="Averages over targets",
            caption=f"Headline scores, over the targets that lack no cell. Interval: {percent}, "
            f"Student, of the seeds' averages. Gain over {report.baseline}: per target, with the "
            f"{percent} interval over targets; p: permutation test over targets, Holm.",
            rows=tuple(_average_rows(report)),
        ),
        Table(
            name="comparisons",
            title=f"Gains over {report.baseline}",
            caption=f"Runs of equal seed are paired. Over seeds: {percent} Student interval, exact "
            f"permutation test. Over examples, the paired seeds' mean of each row: {percent} "
            f"bootstrap interval; McNemar's exact test for one seed's labels, else Student's t. "
            f"Each p is corrected by Holm for all {len(report.comparisons)} comparisons here.",
            rows=tuple(_comparison_row(row) for row in report.comparisons),
        ),
        Table(
            name="scores",
            title="Scores",
            caption=f"Mean, median and {percent} Student interval over seeds; the headline metric "
            f"of a target comes first. Overlap: training rows with the inputs of the split's rows, "
            f"of all of them also where a sample is scored.",
            rows=tuple(_score_row(row) for row in report.scores),
        ),
        Table(
            name="published",
            title="Published scores beside ours",
            caption="Measured by others, on other machines and settings; no test compares them "
            "with ours. Ours: means with all training examples on the same split.",
            rows=tuple(_published_rows(report)),
        ),
    ]
    return [replace(table, rows=_known_columns(table.rows)) for table in made if table.rows]


def _known_columns(rows: Sequence[Row]) -> tuple[Row, ...]:
    """The rows without columns in which there is nothing, such as the tasks of arms without any."""
    empty = {column for column in rows[0] if all(row[column] is None for row in rows)}
    return tuple({key: row[key] for key in row if key not in empty} for row in rows)


def notes_of(report: Report) -> list[str]:
    """What a reader has to know before believing a table."""
    notes = []
    counts = sorted({row.seeds.num_pairs for row in report.comparisons})
    if counts:
        least = ", ".join(f"{count}: {smallest_p(count):.4g}" for count in counts)
        notes.append(
            f"A permutation test over n seeds has no p below 2/2^n (seeds and least p here: "
            f"{least}). Where that is above 0.05, no gain can be significant over seeds; look at "
            f"the interval, which assumes normal scores, and at a test over examples."
        )
    if any(row.examples for row in report.comparisons):
        notes.append(
            "The test over examples takes the trained models as given: it says whether the gain "
            "holds for more rows of this target, not for other seeds."
        )
    if any(row.overlap is None for row in report.scores):
        notes.append(
            "Overlap not checked: nobody compared the training rows of pre-finetuning with the "
            "scored rows, so a gain may be memory."
        )
    if any(row.overlap for row in report.scores):
        notes.append("Some scored rows were among the training rows; see the column overlap.")
    if len({row.metric for row in report.headlines}) > 1:
        notes.append("Averages are over targets with different headline metrics.")
    return notes


def _missing_rows(report: Report) -> list[Row]:
    return [
        {"arm": c.arm, "target": c.target, "split": c.split, "shots": c.shots, "seed": c.seed}
        for c in report.missing
    ]


def _average_rows(report: Report) -> list[Row]:
    return [
        {
            "arm": row.arm,
            "tasks": report.arms[row.arm].num_tasks,
            "split": row.split,
            "shots": row.shots,
            "targets": row.num_targets,
            "mean": row.mean,
            "interval": _interval(row.low, row.high),
            "mean_rank": row.mean_rank,
            "best_on": row.num_best,
            "gain": row.targets.difference if row.targets else None,
            "gain_interval": _interval(row.targets.low, row.targets.high) if row.targets else None,
            "p": row.p_targets,
            "left_out": ", ".join(row.left_out) or None,
        }
        for row in report.averages
    ]


def _comparison_row(row: ComparisonRow) -> Row:
    examples = row.examples
    return {
        "target": row.target,
        "split": row.split,
        "shots": row.shots,
        "arm": row.arm,
        "metric": row.metric,
        "gain": row.seeds.difference,
        "interval": _interval(row.seeds.low, row.seeds.high),
        "seeds": row.seeds.num_pairs,
        "p_seeds": row.p_seeds,
        "example_gain": examples.difference if examples else None,
        "example_interval": _interval(examples.low, examples.high) if examples else None,
        "examples": examples.num_pairs if examples else None,
        "p_examples": row.p_examples,
        "compared_by": row.example_score or "no predictions kept",
    }


def _score_row(row: ScoreRow) -> Row:
    expected = len(row.seeds) + len(row.missing_seeds)
    missing = ", ".join(map(str, row.missing_seeds))
    return {
        "target": row.target,
        "split": row.split,
        "shots": row.shots,
        "metric": row.metric,
        "arm": row.arm,
        "mean": row.mean,
        "median": row.median,
        "interval": _interval(row.low, row.high),
        "seeds": f"{len(row.seeds)} of {expected}" + (f", missing: {missing}" if missing else ""),
        "examples": row.num_examples,
        "overlap": "not checked" if row.overlap is None else row.overlap,
    }


def _published_rows(report: Report) -> list[Row]:
    return [
        {
            "target": row.published.task,
            "split": row.published.split,
            "metric": row.published.metric or f"not stated; ours {row.metric}",
            "model": row.published.model,
            "published": row.published.score,
            "ours": ", ".join(f"{arm} {score:.3f}" for arm, score in row.ours.items()),
            "source": row.published.source,
            "status": "recalled, unverified" if row.published.recalled else "as published",
        }
        for row in report.published
    ]


def _interval(low: float | None, high: float | None) -> str | None:
    return None if low is None or high is None else f"{low:.3f} to {high:.3f}"


def shown(value: object) -> str:
    """A cell as text on the page."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.1e}" if 0 < abs(value) < 0.0001 else f"{value:.4f}"
    return str(value)


def is_numeric(rows: Sequence[Row], column: str) -> bool:
    """Whether a column is set to the right: it holds numbers alone, where it holds anything."""
    return all(isinstance(row[column], int | float | None) for row in rows)
