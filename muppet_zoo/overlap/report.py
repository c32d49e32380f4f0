"""An overlap report as JSON and as a picture: counts and row numbers, never texts.

The picture is byte for byte the same for the same report and library versions.
"""

from __future__ import annotations

import io
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from muppet_zoo.file_tools import write_output
from muppet_zoo.metrics import load_library
from muppet_zoo.overlap.compare import OverlapReport, SplitPair
from muppet_zoo.overlap.hashes import MIN_SEGMENT_WORDS, NGRAM_WORDS
from muppet_zoo.overlap.index import NEAR_JACCARD, PART_JACCARD

_CELL_INCHES, _LETTER_INCHES = 0.42, 0.085


def report_json(report: OverlapReport) -> dict[str, Any]:
    """The whole report as plain data, pairs without any overlap included."""
    return {
        "near_jaccard": NEAR_JACCARD,
        "part_jaccard": PART_JACCARD,
        "min_segment_words": MIN_SEGMENT_WORDS,
        "ngram_words": NGRAM_WORDS,
        "train": [asdict(split) for split in report.train],
        "evaluation": [asdict(split) for split in report.evaluation],
        "same_corpus": [asdict(kinship) for kinship in report.kinships],
        "pairs": [
            {
                "train": [pair.train.task, pair.train.role],
                "evaluation": [pair.evaluation.task, pair.evaluation.role],
                "share": round(pair.share, 6),
                "evaluation_rows": pair.evaluation_rows,
                "train_rows": pair.train_rows,
                "lineage": list(pair.lineage),
                "examples": [asdict(example) for example in pair.examples],
            }
            for pair in report.pairs
        ],
    }


def write_heat_map(path: Path, report: OverlapReport, *, title: str) -> None:
    """Write an SVG: training splits down, evaluation splits across, the share of rows seen.

    Splits that share nothing with any other are left out. A ring marks pairs whose specs name the
    same corpus.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    write_output(path, _svg(report, title).encode())


def _svg(report: OverlapReport, title: str) -> str:
    style = load_library("matplotlib.style")
    figure_class: Any = load_library("matplotlib.figure").Figure
    told = [pair for pair in report.pairs if pair.share or pair.lineage]
    down = list(dict.fromkeys(pair.train.name for pair in told))
    across = list(dict.fromkeys(p.name for p in report.evaluation if _is_in(told, p.name)))
    shares = np.zeros((len(down), len(across)))
    for pair in told:
        shares[down.index(pair.train.name), across.index(pair.evaluation.name)] = pair.share
    with style.context(["default", {"svg.hashsalt": "muppet-zoo", "svg.fonttype": "none"}]):
        letters = [max((len(name) for name in names), default=0) for names in (down, across)]
        size = (
            2.5 + _LETTER_INCHES * letters[0] + _CELL_INCHES * len(across),
            1.5 + _LETTER_INCHES * letters[1] + _CELL_INCHES * len(down),
        )
        figure = figure_class(figsize=size, layout="constrained")
        axes = figure.subplots()
        axes.set_title(f"{title}: evaluation rows seen in training, in %", parse_math=False)
        if told:
            image = axes.imshow(shares * 100, cmap="Blues", vmin=0, vmax=100, aspect="auto")
            figure.colorbar(image, ax=axes, shrink=0.6)
        axes.set_xticks(range(len(across)), across, rotation=90, parse_math=False)
        axes.set_yticks(range(len(down)), down, parse_math=False)
        for (row, column), share in np.ndenumerate(shares):
            if share:
                ink = "white" if share > 0.5 else "black"
                axes.text(column, row, _percent(share), ha="center", va="center", color=ink, size=7)
        related = [
            (across.index(p.evaluation.name), down.index(p.train.name)) for p in told if p.lineage
        ]
        if related:
            places = np.array(related)
            axes.scatter(
                places[:, 0], places[:, 1], s=380, facecolors="none", edgecolors="#D55E00",
                linewidths=1.2, label="same source corpus in the specs",
            )  # fmt: skip
            figure.legend(loc="outside lower right", frameon=False)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return text.getvalue()


def _is_in(pairs: list[SplitPair], evaluation: str) -> bool:
    return any(pair.evaluation.name == evaluation for pair in pairs)


def _percent(share: float) -> str:
    percent = 100 * share
    return "<.1" if percent < 0.1 else f"{percent:.1f}" if percent < 10 else f"{percent:.0f}"
