"""One task through all checks: the list of them, and the order of the results."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from muppet_zoo.doctor.columns import check_columns
from muppet_zoo.doctor.duplicates import check_duplicates
from muppet_zoo.doctor.encodings import check_encodings
from muppet_zoo.doctor.labels import check_labels
from muppet_zoo.doctor.misfits import check_misfits
from muppet_zoo.doctor.missing_text import check_missing_text
from muppet_zoo.doctor.options import check_options
from muppet_zoo.doctor.records import SEVERITIES, Diagnosis, at_least
from muppet_zoo.doctor.sample import OnStep, TaskSample, sample_task
from muppet_zoo.doctor.signal import check_signal, measure
from muppet_zoo.doctor.thresholds import Thresholds
from muppet_zoo.doctor.truncation import TokenBudget, check_truncation
from muppet_zoo.spec import TaskSpec

DEFAULT_LIMIT = 5000


@dataclass(frozen=True, kw_only=True)
class Examination:
    """How to examine. limit: rows sampled of each split. budget: None leaves truncation out."""

    mirror: Path | None = None
    limit: int = DEFAULT_LIMIT
    budget: TokenBudget | None = None
    thresholds: Thresholds = field(default_factory=Thresholds)


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was examined, and what was found, the gravest first."""

    task: str
    splits: dict[str, dict[str, Any]]
    diagnoses: tuple[Diagnosis, ...]

    def to_json(self, least: str) -> dict[str, Any]:
        """Plain data for `--json`, with diagnoses of severity `least` and above."""
        found = [d.to_json() for d in self.diagnoses if at_least(d.severity, least)]
        counts = {level: sum(d.severity == level for d in self.diagnoses) for level in SEVERITIES}
        return {"task": self.task, "splits": self.splits, "counts": counts, "findings": found}


def examine(spec: TaskSpec, examination: Examination, *, on_step: OnStep | None = None) -> Report:
    """All diagnoses of one task.

    Raises:
        SourceError: its rows cannot be read.
        MissingExtraError: scikit-learn or ftfy is not installed.
    """
    sample = sample_task(spec, mirror=examination.mirror, limit=examination.limit, on_step=on_step)
    found: list[Diagnosis] = []
    for done, (name, check) in enumerate(CHECKS.items()):
        if on_step is not None:
            on_step(name, done, len(CHECKS))
        found += check(sample, examination)
    return Report(
        task=spec.name,
        splits={
            split.role: {
                "rows": split.num_rows,
                "sampled": len(split.rows),
                "examples": len(split.examples),
            }
            for split in sample.splits
        },
        diagnoses=tuple(sorted(found, key=lambda d: SEVERITIES.index(d.severity))),
    )


Check = Callable[[TaskSample, Examination], Iterator[Diagnosis]]


def _signal(sample: TaskSample, examination: Examination) -> Iterator[Diagnosis]:
    limits = examination.thresholds
    measured = measure(sample, limits)  # once: it takes most of the time
    if measured is not None:
        yield from check_signal(sample, measured, limits)
    yield from check_missing_text(sample, measured, limits)


def _truncation(sample: TaskSample, examination: Examination) -> Iterator[Diagnosis]:
    if examination.budget is not None:
        yield from check_truncation(sample, examination.thresholds, examination.budget)


CHECKS: dict[str, Check] = {
    "misfits": lambda sample, how: check_misfits(sample, how.thresholds),
    "columns": lambda sample, how: check_columns(sample, how.thresholds),
    "labels": lambda sample, how: check_labels(sample, how.thresholds),
    "signal": _signal,
    "options": lambda sample, how: check_options(sample, how.thresholds),
    "duplicates": lambda sample, how: check_duplicates(sample, how.thresholds),
    "encodings": lambda sample, how: check_encodings(sample, how.thresholds),
    "truncation": _truncation,
}
