"""What an evaluation found: one TaskReport per task and split, kept as JSON lines.

Reports outlive runs. They are appended while a training goes on, by a process that may be killed
at any byte, and read months later to be compared, so: one line is one report, written by one call
and flushed to the disk; a cut last line is expected and is no obstacle; anything else that is
malformed is named by file and line, never guessed at.

They are compared as cells of a report (`report/cells.py`), together with what `finetune` writes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import TYPE_CHECKING

from muppet_zoo.errors import MuppetZooError, suggest
from muppet_zoo.file_tools import append_line, end_last_line

if TYPE_CHECKING:
    from pathlib import Path


class ReportError(MuppetZooError):
    """Reports that cannot be written, read or compared."""


@dataclass(frozen=True, kw_only=True)
class TaskReport:
    """Scores of one model on one split of one task.

    `headline` is the key in `scores` that picks the best checkpoint; `fingerprint` names the
    built data. `step`, `seed`, `checkpoint` and `fingerprint` are None where there is none, as
    for published numbers. `overlap` counts the training rows whose inputs are those of scored rows;
    None where that was not checked. Raises ReportError for fields that a reader would later reject.
    """

    task: str
    split: str
    num_examples: int
    scores: Mapping[str, float]
    headline: str
    step: int | None = None
    seed: int | None = None
    checkpoint: str | None = None
    fingerprint: str | None = None
    overlap: int | None = None

    def __post_init__(self) -> None:
        problem = _problem(self)
        if problem:
            raise ReportError(f"report of task {self.task!r}, split {self.split!r}: {problem}")


@dataclass(frozen=True, kw_only=True)
class ReportFile:
    """Reports in file order; `num_truncated` is 1 when a cut last line was left out, else 0."""

    reports: tuple[TaskReport, ...]
    num_truncated: int


def append_report(path: Path, report: TaskReport) -> None:
    """Add one line to `path`, creating the file. What a crash left of a last line goes first.

    One process at a time may append to a file: rank 0 of a run. Raises ReportError when the disk
    takes only a part of the line; a later append removes that part.
    """
    record = {field.name: getattr(report, field.name) for field in fields(TaskReport)}
    record["scores"] = dict(report.scores)
    line = json.dumps(record, ensure_ascii=False, allow_nan=False).encode()
    if path.is_file():
        end_last_line(path, _is_report)
    try:
        append_line(path, line)
    except OSError as error:
        raise ReportError(f"{path}: {error.strerror}; is the disk full?") from error


def read_reports(path: Path) -> ReportFile:
    """Every report of the file. A last line that a crash cut is counted, not an error.

    Raises ReportError, with path and line, for any other line that is not a report, and when
    there is no such file.
    """
    try:
        *lines, last = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        raise ReportError(f"{path}: there is no such file; an evaluation writes it") from None
    reports = []
    for number, line in enumerate(lines, start=1):
        try:
            reports.append(_parse(line))
        except ReportError as error:
            raise ReportError(f"{path}:{number}: {error}") from None
    if not last:
        return ReportFile(reports=tuple(reports), num_truncated=0)
    # An editor may have saved the last line whole and without its line end.
    try:
        return ReportFile(reports=(*reports, _parse(last)), num_truncated=0)
    except ReportError:
        return ReportFile(reports=tuple(reports), num_truncated=1)


def report_rows(reports: Sequence[TaskReport]) -> list[dict[str, str | int | float | None]]:
    """One plain row per report and metric, headlines first, for a table or for JSON.

    Tasks have different metrics, so a column per metric would be mostly empty.
    """
    return [
        {
            "task": report.task,
            "split": report.split,
            "metric": metric,
            "score": report.scores[metric],
            "num_examples": report.num_examples,
            "overlap": report.overlap,
            "step": report.step,
            "seed": report.seed,
        }
        for report in reports
        for metric in dict.fromkeys([report.headline, *report.scores])
    ]


def overlap_note(reports: Sequence[TaskReport]) -> list[str]:
    """What the column `overlap` of `report_rows` means, as lines to print below the table."""
    if all(report.overlap is None for report in reports):
        return ["overlap -: training rows were not compared with these rows"]
    return [
        "overlap: training rows with the inputs of the split's rows, of all of them also where a "
        "sample is scored, at the level of the mixture's policy; -: not checked"
    ]


def _problem(report: TaskReport) -> str | None:
    """What makes the fields of a report unusable, if anything."""
    for name in ("task", "split", "headline", "checkpoint", "fingerprint"):
        value: object = getattr(report, name)
        if name in ("checkpoint", "fingerprint") and value is None:
            continue
        if not isinstance(value, str) or not value:
            return f"'{name}' is {value!r}; allowed: a text"
    for name in ("num_examples", "step", "seed", "overlap"):
        value = getattr(report, name)
        if name != "num_examples" and value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            return f"'{name}' is {value!r}; allowed: a whole number from 0"
    if not isinstance(report.scores, Mapping):
        return f"'scores' is {report.scores!r}; allowed: metric names with numbers"
    for metric, score in report.scores.items():
        if not isinstance(metric, str) or not _is_finite(score):
            return f"score {metric!r} is {score!r}; allowed: a finite number"
    if report.headline not in report.scores:
        return f"no score for '{report.headline}'{suggest(report.headline, report.scores)}"
    return None


def _is_finite(value: object) -> bool:
    """Whether `value` is a number that a float64 holds; JSON's whole numbers have no bound."""
    limit = sys.float_info.max
    return (
        isinstance(value, (int, float)) and not isinstance(value, bool) and -limit <= value <= limit
    )


def _parse(line: bytes) -> TaskReport:
    """Read one line. Raises ReportError with the reason."""
    try:
        record = json.loads(line.decode())
    except (ValueError, RecursionError) as error:
        raise ReportError(f"this is not JSON: {error}") from None
    if not isinstance(record, dict):
        raise ReportError("this is not a JSON object")
    known = {field.name: field for field in fields(TaskReport)}
    for name in record:
        if name not in known:
            raise ReportError(f"unknown field '{name}'{suggest(name, known)}")
    for name, field in known.items():
        if name not in record and field.default is MISSING:
            raise ReportError(f"the field '{name}' is missing")
    return TaskReport(**record)


def _is_report(line: bytes) -> bool:
    try:
        _parse(line)
    except ReportError:
        return False
    return True
