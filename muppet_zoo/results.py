"""What an evaluation found: one TaskReport per task and split, kept as JSON lines.

Reports outlive runs. They are appended while a training goes on, by a process that may be killed
at any byte, and read months later to be compared, so: one line is one report, written by one call
and flushed to the disk; a cut last line is expected and is no obstacle; anything else that is
malformed is named by file and line, never guessed at.

Comparisons are plain rows. The console renders them as a table, `write_comparison_html` as one
file that needs no network and is byte for byte the same for the same rows and library versions.
"""

from __future__ import annotations

import io
import json
import math
import statistics
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import TYPE_CHECKING, Any

from muppet_zoo.errors import MuppetZooError, suggest
from muppet_zoo.file_tools import append_line, end_last_line, write_atomically
from muppet_zoo.metrics import load_library

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


@dataclass(frozen=True, kw_only=True)
class ComparisonRow:
    """One metric before and after; None where that side has no such score."""

    task: str
    split: str
    metric: str
    before: float | None
    after: float | None
    difference: float | None
    num_examples: int


@dataclass(frozen=True, kw_only=True)
class MeanInterval:
    """Mean of `num_values` values; `low` and `high` are None for a single value."""

    mean: float
    low: float | None
    high: float | None
    num_values: int
    confidence: float


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
        "overlap: training rows with the inputs of scored rows, at the level of the mixture's "
        "policy; -: not checked"
    ]


def compare(before: Sequence[TaskReport], after: Sequence[TaskReport]) -> list[ComparisonRow]:
    """One row per task, split and metric, in order of first appearance, headlines first.

    Of several reports of one task, split and seed the last counts, since a training reports
    again and again; over seeds the mean is taken. Raises ReportError when a task was scored on
    different numbers of examples, as such scores differ for that reason alone.
    """
    sides = _latest(before), _latest(after)
    rows = []
    for key in dict.fromkeys([*sides[0], *sides[1]]):
        reports = [report for side in sides for report in side.get(key, [])]
        counts = sorted({report.num_examples for report in reports})
        if len(counts) > 1:
            raise ReportError(
                f"task {key[0]}, split {key[1]} was scored on {counts[0]} examples in one report "
                f"and {counts[-1]} in another; evaluate both on the same data"
            )
        headlines = [report.headline for report in reports]
        names = [name for report in reports for name in report.scores]
        for metric in dict.fromkeys(headlines + names):
            old, new = (_mean_score(side.get(key, []), metric) for side in sides)
            rows.append(
                ComparisonRow(
                    task=key[0],
                    split=key[1],
                    metric=metric,
                    before=old,
                    after=new,
                    difference=None if old is None or new is None else new - old,
                    num_examples=counts[0],
                )
            )
    return rows


def mean_and_interval(values: Sequence[float], confidence: float = 0.95) -> MeanInterval:
    """Mean and two-sided Student t interval of independent values, such as scores over seeds.

    Source: mean ± t((1 + confidence) / 2, n - 1) · s / sqrt(n), Student (1908). The bounds are
    not clipped to the metric's range. Raises ReportError for no values or one that is not finite.
    """
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence is {confidence}; allowed: between 0 and 1")
    if not values or not all(math.isfinite(value) for value in values):
        raise ReportError(f"no interval for {list(values)!r}; needed: one or more finite numbers")
    num_values, mean = len(values), statistics.fmean(values)
    low = high = None
    if num_values > 1:
        # scipy's own t.interval answers NaN for equal values; theirs is the interval of width 0.
        quantile = float(load_library("scipy.stats").t.ppf((1 + confidence) / 2, num_values - 1))
        half_width = quantile * statistics.stdev(values) / math.sqrt(num_values)
        low, high = mean - half_width, mean + half_width
    return MeanInterval(mean=mean, low=low, high=high, num_values=num_values, confidence=confidence)


def write_comparison_html(
    path: Path, title: str, rows: Sequence[ComparisonRow], notes: Sequence[str] = ()
) -> None:
    """Write a self-contained page: a bar figure, the table, the notes. All text is escaped.

    The same arguments and library versions give the same bytes. Raises MissingExtraError without
    jinja2 and matplotlib.
    """
    environment = load_library("jinja2").Environment(autoescape=True, trim_blocks=True)
    environment.filters["score"] = lambda value: "n/a" if value is None else f"{value:.4f}"
    environment.filters["signed"] = lambda value: "n/a" if value is None else f"{value:+.4f}"
    page = environment.from_string(_PAGE).render(
        title=title, rows=rows, notes=notes, figure=comparison_svg(rows) if rows else ""
    )
    write_atomically(path, page.encode())


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


def _latest(reports: Sequence[TaskReport]) -> dict[tuple[str, str], list[TaskReport]]:
    """The last report of each (task, split) for each seed."""
    latest: dict[tuple[str, str], dict[int | None, TaskReport]] = {}
    for report in reports:
        latest.setdefault((report.task, report.split), {})[report.seed] = report
    return {key: list(by_seed.values()) for key, by_seed in latest.items()}


def _mean_score(reports: Sequence[TaskReport], metric: str) -> float | None:
    """Mean over the reports; None unless all of them have the metric."""
    values = [report.scores[metric] for report in reports if metric in report.scores]
    return statistics.fmean(values) if values and len(values) == len(reports) else None


# Okabe and Ito's blue and orange, told apart with any colour vision.
# Source: Wong, "Points of view: Color blindness", Nature Methods 8 (2011).
_SIDES = (("before", "#E69F00"), ("after", "#0072B2"))
_ROW_INCHES, _BARS_INCHES = 0.45, 5.0
# A little over the mean width of a letter at matplotlib's 10 points: a name is never squeezed.
_LETTER_INCHES = 0.1


def comparison_svg(rows: Sequence[ComparisonRow]) -> str:
    """Two horizontal bars per row, as an SVG element."""
    style = load_library("matplotlib.style")
    figure_class: Any = load_library("matplotlib.figure").Figure
    # The user's own settings and the salt of the ids would change the bytes; text stays text.
    fixed = {"svg.hashsalt": "muppet-zoo", "svg.fonttype": "none"}
    with style.context(["default", fixed]), warnings.catch_warnings():
        # The reader's browser has the glyphs that the font used for the layout may lack.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", append=False)
        labels = [f"{row.task} ({row.split}) {row.metric}" for row in rows]
        width = _BARS_INCHES + _LETTER_INCHES * max(len(label) for label in labels)
        figure = figure_class(figsize=(width, 1 + _ROW_INCHES * len(rows)), layout="constrained")
        axes = figure.subplots()
        for number, (side, color) in enumerate(_SIDES):
            places = [(at, getattr(row, side)) for at, row in enumerate(rows)]
            known = [(at - 0.2 + 0.4 * number, value) for at, value in places if value is not None]
            axes.barh([at for at, _ in known], [v for _, v in known], 0.38, color=color, label=side)
        axes.set_yticks(range(len(rows)), labels, parse_math=False)
        axes.invert_yaxis()
        axes.axvline(0.0, color="black", linewidth=0.8)
        axes.set_xlabel("score")
        figure.legend(loc="outside upper right", ncols=2, frameon=False)
        image = io.StringIO()
        figure.savefig(image, format="svg", metadata={"Date": None, "Creator": None})
    text = image.getvalue()
    # Inside HTML the XML declaration and document type are not allowed.
    return text[text.index("<svg") :]


_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
svg { max-width: 100%; height: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { padding: 0.3rem 0.6rem; border-bottom: 1px solid #ccc; text-align: left; }
th.n, td.n { text-align: right; font-variant-numeric: tabular-nums; }
</style>
</head>
<body>
<h1>{{ title }}</h1>
{% if rows %}
<figure role="img" aria-label="Scores before and after, as in the table">\
{{ figure | safe }}</figure>
<table>
<thead><tr><th>Task</th><th>Split</th><th>Metric</th><th class="n">Before</th>\
<th class="n">After</th><th class="n">Difference</th><th class="n">Examples</th></tr></thead>
<tbody>
{% for row in rows %}
<tr><td>{{ row.task }}</td><td>{{ row.split }}</td><td>{{ row.metric }}</td>\
<td class="n">{{ row.before | score }}</td><td class="n">{{ row.after | score }}</td>\
<td class="n">{{ row.difference | signed }}</td><td class="n">{{ row.num_examples }}</td></tr>
{% endfor %}
</tbody>
</table>
{% else %}
<p>There are no scores to compare.</p>
{% endif %}
{% if notes %}
<h2>Notes</h2>
<ul>
{% for note in notes %}
<li>{{ note }}</li>
{% endfor %}
</ul>
{% endif %}
</body>
</html>
"""
