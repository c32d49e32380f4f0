"""The figures of a report, by matplotlib.

Each is drawn from the tables alone and returned with a title and words that say what it shows, for
those who cannot see it. Intervals are those of the tables. Colours are Okabe and Ito's, told apart
with any colour vision (Wong, "Color blindness", Nature Methods 8, 2011), and every arm has a marker
of its own as well. The bytes are the same for the same tables and library versions, whatever the
user's own matplotlib settings are.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muppet_zoo.affinity import Affinity
from muppet_zoo.file_tools import write_atomically
from muppet_zoo.metrics import load_library
from muppet_zoo.report.compare import Report, ScoreRow
from muppet_zoo.report.groups import shots_order
from muppet_zoo.results import ReportError

_COLOURS = ("#000000", "#E69F00", "#0072B2", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#999999")
_MARKERS = "osD^vPX*"
_PANEL_INCHES, _PANELS_PER_ROW = (3.4, 2.6), 3
_ROW_INCHES, _LETTER_INCHES = 0.28, 0.1


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """One figure. `name` is a file name without ending; `text` says in words what it shows."""

    name: str
    title: str
    text: str
    figure: Any


def draw(report: Report) -> list[Drawing]:
    """Every figure that the report has the scores for."""
    splits = list(dict.fromkeys(row.split for row in report.scores))
    drawings = []
    with _style():
        for split in splits:
            rows = [row for row in report.headlines if row.split == split]
            for make in _FIGURES:
                drawing = make(report, split, rows)
                if drawing is not None:
                    drawings.append(drawing)
    return drawings


def svg_of(drawing: Drawing) -> str:
    """The figure as an SVG element for a page."""
    with _style():
        text = _rendered(drawing, "svg").decode()
    # Inside HTML the XML declaration and document type are not allowed, and ids are the page's.
    text = text[text.index("<svg") :]
    return re.sub(r'( id="|href="#|url\(#)', rf"\g<1>{drawing.name}-", text)


def write_figures(drawings: Sequence[Drawing], folder: Path) -> None:
    """Write each as NAME.svg and NAME.png; the folder is made. ReportError when it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _style():
            for drawing in drawings:
                for kind in ("svg", "png"):
                    write_atomically(folder / f"{drawing.name}.{kind}", _rendered(drawing, kind))
    except OSError as error:
        raise ReportError(f"{folder}: cannot be written: {error.strerror}") from None


@contextmanager
def _style() -> Iterator[None]:
    # The user's own settings and the salt of the ids would change the bytes; text stays text.
    fixed = {
        "svg.hashsalt": "muppet-zoo", "svg.fonttype": "none", "font.size": 9, "axes.grid": True,
        "axes.spines.top": False, "axes.spines.right": False, "grid.color": "#dddddd",
        "axes.axisbelow": True, "savefig.dpi": 150,
    }  # fmt: skip
    style = load_library("matplotlib.style")
    with style.context(["default", fixed]), warnings.catch_warnings():
        # The reader's browser has the glyphs that the font used for the layout may lack.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", append=False)
        yield


def _rendered(drawing: Drawing, kind: str) -> bytes:
    image = io.BytesIO()
    metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
    drawing.figure.savefig(image, format=kind, metadata=metadata)
    return image.getvalue()


def _figure(width: float, height: float) -> Any:
    figure_class: Any = load_library("matplotlib.figure").Figure
    return figure_class(figsize=(width, height), layout="constrained")


def _look(report: Report, arm: str) -> dict[str, Any]:
    """Colour and marker of an arm, the same in every figure."""
    at = list(report.arms).index(arm)
    return {
        "color": _COLOURS[at % len(_COLOURS)],
        "marker": _MARKERS[(at + at // len(_COLOURS)) % len(_MARKERS)],
        "markersize": 5,
    }


def _errors(mean: float, low: float | None, high: float | None) -> tuple[float, float]:
    """Distances from the mean to its bounds; none for a single value."""
    return (0.0, 0.0) if low is None or high is None else (mean - low, high - mean)


def _legend(figure: Any, axes: Any, title: str = "") -> None:
    """One legend above all panels, in as many columns as its names leave room for."""
    handles, labels = axes.get_legend_handles_labels()
    one = 0.6 + _LETTER_INCHES * max(len(label) for label in labels)
    columns = max(1, min(len(labels), int(figure.get_figwidth() / one)))
    legend = figure.legend(
        handles, labels, loc="outside upper center", ncols=columns, frameon=False, title=title
    )
    for text in legend.get_texts():
        text.set_parse_math(False)


def _sample_efficiency(report: Report, split: str, rows: Sequence[ScoreRow]) -> Drawing | None:
    """Score over labelled examples, one panel per target that has several numbers of them."""
    targets = [
        target
        for target in dict.fromkeys(row.target for row in rows)
        if len({row.shots for row in rows if row.target == target}) > 1
    ]
    if not targets:
        return None
    columns = min(_PANELS_PER_ROW, len(targets))
    lines = math.ceil(len(targets) / columns)
    figure = _figure(_PANEL_INCHES[0] * columns, _PANEL_INCHES[1] * lines + 0.5)
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes, target in zip(panels, targets, strict=False):
        mine = [row for row in rows if row.target == target]
        ticks = sorted({row.shots for row in mine}, key=shots_order)
        for number, arm in enumerate(report.arms):
            points = [row for row in mine if row.arm == arm]
            # Beside each other, so that one arm's interval does not hide another's.
            aside = 0.06 * (number - (len(report.arms) - 1) / 2)
            axes.errorbar(
                [ticks.index(row.shots) + aside for row in points],
                [row.mean for row in points],
                yerr=list(zip(*(_errors(r.mean, r.low, r.high) for r in points), strict=True))
                or None,
                label=arm,
                linewidth=1.2,
                capsize=2,
                **_look(report, arm),
            )
        axes.set_xticks(range(len(ticks)), [str(tick) for tick in ticks])
        axes.set_title(f"{target} ({mine[0].metric})", parse_math=False)
        axes.set_xlabel("labelled examples")
    for axes in panels[len(targets) :]:
        axes.set_axis_off()
    _legend(figure, figure.axes[0])
    return Drawing(
        name=f"sample_efficiency_{split}",
        title=f"Score over the number of labelled examples, {split}",
        text=f"One curve per arm on {', '.join(targets)}; mean and 95 % interval over seeds. "
        f"The numbers are in the table of scores.",
        figure=figure,
    )


def _targets(report: Report, split: str, rows: Sequence[ScoreRow]) -> Drawing | None:
    """A line per target, a dot per arm, at the largest number of examples."""
    targets = list(dict.fromkeys(row.target for row in rows))
    last = {t: max((r.shots for r in rows if r.target == t), key=shots_order) for t in targets}
    shown = [row for row in rows if row.shots == last[row.target]]
    labels = [
        f"{target} ({next(row.metric for row in shown if row.target == target)})"
        for target in targets
    ]
    spread = 0.7 / len(report.arms)
    width = 5.0 + _LETTER_INCHES * max(len(label) for label in labels)
    rows_high = _ROW_INCHES * len(targets) * max(1.0, len(report.arms) / 2)
    figure = _figure(width, 1.2 + rows_high)
    axes = figure.subplots()
    for number, arm in enumerate(report.arms):
        points = [row for row in shown if row.arm == arm]
        axes.errorbar(
            [row.mean for row in points],
            [
                targets.index(row.target) + spread * (number - (len(report.arms) - 1) / 2)
                for row in points
            ],
            xerr=list(zip(*(_errors(r.mean, r.low, r.high) for r in points), strict=True)) or None,
            linestyle="none",
            label=arm,
            capsize=2,
            **_look(report, arm),
        )
    axes.set_yticks(range(len(targets)), labels, parse_math=False)
    axes.invert_yaxis()
    axes.set_xlabel("score")
    _legend(figure, axes)
    return Drawing(
        name=f"targets_{split}",
        title=f"Score on each target with the most labelled examples, {split}",
        text=f"One dot per arm on each of {len(targets)} targets; mean and 95 % interval over "
        f"seeds. The numbers are in the table of scores.",
        figure=figure,
    )


def _scale(report: Report, split: str, rows: Sequence[ScoreRow]) -> Drawing | None:
    """Average score over the number of tasks that an arm was pre-finetuned on."""
    known = {arm: facts.num_tasks for arm, facts in report.arms.items()}
    averages = [row for row in report.averages if row.split == split and known[row.arm] is not None]
    all_shots = sorted({row.shots for row in averages}, key=shots_order)
    if len({known[row.arm] for row in averages}) < 2:
        return None
    figure = _figure(6.0, 3.6)
    axes = figure.subplots()
    for number, shots in enumerate(all_shots):
        points = sorted(
            ((known[row.arm] or 0, row) for row in averages if row.shots == shots),
            key=lambda point: (point[0], point[1].arm),
        )
        counts = sorted({count for count, _ in points})
        means = [[row.mean for at, row in points if at == count] for count in counts]
        colour = _COLOURS[number % len(_COLOURS)]
        axes.plot(counts, [math.fsum(m) / len(m) for m in means], color=colour, linewidth=1.2)
        axes.errorbar(
            [count for count, _ in points],
            [row.mean for _, row in points],
            yerr=list(zip(*(_errors(r.mean, r.low, r.high) for _, r in points), strict=True)),
            linestyle="none",
            capsize=2,
            color=colour,
            marker=_MARKERS[number % len(_MARKERS)],
            markersize=5,
            label=str(shots),
        )
    axes.set_xlabel("tasks in pre-finetuning")
    axes.set_ylabel("mean score over targets")
    _legend(figure, axes, "labelled examples")
    return Drawing(
        name=f"scale_{split}",
        title=f"Average score over the number of pre-finetuning tasks, {split}",
        text="A dot per arm with its 95 % interval over seeds; the line joins the means of arms "
        "with equal numbers of tasks. The numbers are in the table of averages.",
        figure=figure,
    )


def _matrix(report: Report, split: str, rows: Sequence[ScoreRow]) -> Drawing | None:
    """Arms by targets: the gain over the baseline at the largest number of examples."""
    compared = [row for row in report.comparisons if row.split == split]
    targets = list(dict.fromkeys(row.target for row in compared))
    arms = [arm for arm in report.arms if any(row.arm == arm for row in compared)]
    if len(targets) < 2 or len(arms) < 2:
        return None
    last = {t: max((r.shots for r in compared if r.target == t), key=shots_order) for t in targets}
    gains = {
        (row.arm, row.target): row.seeds.difference
        for row in compared
        if row.shots == last[row.target]
    }
    grid = [[gains.get((arm, target), math.nan) for target in targets] for arm in arms]
    figure = _heat_map(grid, arms, targets, form="+.3f", label=f"gain over {report.baseline}")
    return Drawing(
        name=f"matrix_{split}",
        title=f"Gain over {report.baseline} of each arm on each target, {split}",
        text=f"Arms are rows, targets columns; orange is worse than {report.baseline}, purple "
        f"better, an empty field has no comparison. The numbers are in the table of comparisons.",
        figure=figure,
    )


def draw_affinity(affinity: Affinity) -> Drawing:
    """Tasks by tasks: the cosine of their gradients."""
    with _style():
        return Drawing(
            name="affinity",
            title="Cosines between the gradients of tasks",
            text="Purple pairs pull the encoder the same way, orange ones apart. On the diagonal "
            "is a task's agreement with itself on other examples, "
            f"{max(affinity.num_examples):,} at most.",
            figure=_heat_map(
                affinity.cosines, affinity.tasks, affinity.tasks, form=".2f", label="cosine"
            ),
        )


def _heat_map(
    grid: Sequence[Sequence[float]],
    lines: Sequence[str],
    columns: Sequence[str],
    *,
    form: str,
    label: str,
) -> Any:
    """Named lines by named columns, each field with its number; NaN leaves a field empty."""
    fields = [
        (line, column, value)
        for line, values in enumerate(grid)
        for column, value in enumerate(values)
        if not math.isnan(value)
    ]
    widest = max(abs(value) for *_, value in fields) or 1.0
    figure = _figure(2.5 + 0.75 * len(columns), 1.6 + 0.4 * len(lines))
    axes = figure.subplots()
    image = axes.imshow(grid, cmap="PuOr", vmin=-widest, vmax=widest, aspect="auto")
    axes.grid(visible=False)
    axes.set_xticks(range(len(columns)), columns, rotation=45, ha="right", parse_math=False)
    axes.set_yticks(range(len(lines)), lines, parse_math=False)
    for line, column, value in fields:
        axes.text(
            column, line, f"{value:{form}}", ha="center", va="center", fontsize=8,
            color="white" if abs(value) > 0.7 * widest else "black",
        )  # fmt: skip
    figure.colorbar(image, ax=axes, label=label)
    return figure


_FIGURES: tuple[Callable[[Report, str, Sequence[ScoreRow]], Drawing | None], ...] = (
    _targets,
    _sample_efficiency,
    _scale,
    _matrix,
)
