"""Figures of a task's rows before anything is built: lengths, truncation, labels, duplicates.

Rows become examples as in the build; bad ones are counted, not raised, since a look at the data is
when one wants to know of them. Duplicates are found by digests of 16 bytes, so a million rows take
some ten megabytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from muppet_zoo.examples import Example, examples_of
from muppet_zoo.file_tools import write_output
from muppet_zoo.metrics import load_library
from muppet_zoo.rows import Row, RowProblem
from muppet_zoo.spec import TaskSpec

if TYPE_CHECKING:
    from muppet_zoo.encode import TokenizerSource

BUDGETS = (64, 128, 256, 512)
_CHUNK_ROWS = 512
_MOST_BARS = 20


@dataclass(frozen=True, kw_only=True)
class SplitStats:
    """Figures of one role of one task.

    unit: `tokens`, special ones included, or `words`. lengths: (examples,) of each one's longest
    sequence. labels: how often each occurs. duplicate_rows: rows that an earlier one equals.
    duplicate_inputs: examples whose text an earlier one has. contradictions: texts that occur
    with different targets.
    """

    task: str
    split: str
    unit: str
    num_rows: int
    num_bad_rows: int
    lengths: NDArray[np.int64]
    labels: Mapping[str, int]
    duplicate_rows: int
    duplicate_inputs: int
    contradictions: int

    def to_json(self) -> dict[str, Any]:
        """All figures as plain values."""
        quantile = _quantiles(self.lengths)
        return {
            "task": self.task,
            "split": self.split,
            "rows": self.num_rows,
            "examples": len(self.lengths),
            "bad_rows": self.num_bad_rows,
            "unit": self.unit,
            "length": quantile,
            "truncated": {
                str(budget): round(float(np.mean(self.lengths > budget)), 4)
                if len(self.lengths)
                else None
                for budget in BUDGETS
            },
            "labels": dict(self.labels),
            "duplicate_rows": self.duplicate_rows,
            "duplicate_inputs": self.duplicate_inputs,
            "contradictions": self.contradictions,
        }


def split_stats(
    spec: TaskSpec,
    role: str,
    rows: Iterable[tuple[int, Row]],
    *,
    tokenizer: TokenizerSource | None = None,
    on_rows: Callable[[int], None] = lambda num_rows: None,
) -> SplitStats:
    """The figures of these rows. `on_rows` hears how many have been read."""
    measure = _words if tokenizer is None else _Tokens(tokenizer)
    seen = _Seen()
    labels: Counter[str] = Counter()
    lengths: list[int] = []
    num_rows = num_bad_rows = 0
    labelled = spec.source.splits[role].labels
    for chunk in _chunks(rows):
        examples: list[Example] = []
        for number, row in chunk:
            seen.row(row)
            try:
                examples += examples_of(spec, number, row, labelled=labelled)
            except RowProblem:
                num_bad_rows += 1
        lengths += measure(examples)
        for example in examples:
            seen.example(example)
            if example.target is not None:
                labels.update(spec.head.histogram_keys(example.target))
        num_rows += len(chunk)
        on_rows(num_rows)
    return SplitStats(
        task=spec.name,
        split=role,
        unit="words" if tokenizer is None else "tokens",
        num_rows=num_rows,
        num_bad_rows=num_bad_rows,
        lengths=np.array(lengths, np.int64),
        labels=dict(labels.most_common()),
        duplicate_rows=seen.duplicate_rows,
        duplicate_inputs=seen.duplicate_inputs,
        contradictions=len(seen.contradictions),
    )


def _chunks(rows: Iterable[tuple[int, Row]]) -> Iterator[list[tuple[int, Row]]]:
    rest = iter(rows)
    while chunk := list(islice(rest, _CHUNK_ROWS)):
        yield chunk


def _quantiles(lengths: NDArray[np.int64]) -> dict[str, float | None]:
    if not len(lengths):
        return dict.fromkeys(("mean", "p50", "p95", "max"))
    p50, p95 = np.percentile(lengths, [50, 95])
    return {
        "mean": round(float(lengths.mean()), 1),
        "p50": round(float(p50), 1),
        "p95": round(float(p95), 1),
        "max": int(lengths.max()),
    }


# --- lengths ---------------------------------------------------------------------------------


def _words(examples: Sequence[Example]) -> list[int]:
    return [
        len(example.segments.words)
        if example.segments.words is not None
        else max(
            len(f"{first} {second or ''}".split()) for first, second in example.segments.sequences
        )
        for example in examples
    ]


class _Tokens:
    """Counts tokens, of multiple choice those of the longest option with its context."""

    def __init__(self, source: TokenizerSource) -> None:
        self._tokenizer = source.load()
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    def __call__(self, examples: Sequence[Example]) -> list[int]:
        encode = self._tokenizer.encode_batch_fast
        if examples and examples[0].segments.words is not None:
            words = [list(example.segments.words or ()) for example in examples]
            return [len(encoding.ids) for encoding in encode(words, is_pretokenized=True)]
        texts: list[Any] = [
            first if second is None else (first, second)
            for example in examples
            for first, second in example.segments.sequences
        ]
        lengths = iter([len(encoding.ids) for encoding in encode(texts)])
        return [max(islice(lengths, len(example.segments.sequences))) for example in examples]


# --- duplicates ------------------------------------------------------------------------------


class _Seen:
    """What occurred before, by digest."""

    def __init__(self) -> None:
        self._rows: set[bytes] = set()
        self._targets: dict[bytes, bytes] = {}
        self.duplicate_rows = 0
        self.duplicate_inputs = 0
        self.contradictions: set[bytes] = set()

    def row(self, row: Row) -> None:
        digest = _digest(row)
        self.duplicate_rows += digest in self._rows
        self._rows.add(digest)

    def example(self, example: Example) -> None:
        text = _digest([example.segments.sequences, example.segments.words])
        target = _digest(repr(example.target))
        self.duplicate_inputs += text in self._targets
        if self._targets.setdefault(text, target) != target:
            self.contradictions.add(text)


def _digest(value: Any) -> bytes:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


# --- the plot --------------------------------------------------------------------------------


def write_plot(path: Path, stats: Sequence[SplitStats]) -> None:
    """One row per split: lengths with the budgets on the left, labels on the right.

    The format follows from the file's ending. Raises MissingExtraError without matplotlib.
    """
    style, figure_of = load_library("matplotlib.style"), load_library("matplotlib.figure").Figure
    with style.context("default"), warnings.catch_warnings():
        # The reader's browser has the glyphs that the font used for the layout may lack.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", append=False)
        figure = figure_of(figsize=(10, 2.6 * len(stats)), layout="constrained")
        axes = figure.subplots(len(stats), 2, squeeze=False)
        for (left, right), found in zip(axes, stats, strict=True):
            _plot_lengths(left, found)
            _plot_labels(right, found)
        image = io.BytesIO()
        figure.savefig(image, format=path.suffix[1:])
    write_output(path, image.getvalue())


def _plot_lengths(axis: Any, found: SplitStats) -> None:
    axis.set_title(f"{found.task}, {found.split}", loc="left")
    axis.set_xlabel(found.unit)
    axis.set_ylabel("examples")
    if len(found.lengths):
        axis.hist(found.lengths, bins="auto" if len(set(found.lengths.tolist())) > 1 else 1)
    for budget in (b for b in BUDGETS if len(found.lengths) and b <= found.lengths.max()):
        axis.axvline(budget, color="0.5", linestyle=":", linewidth=1)


def _plot_labels(axis: Any, found: SplitStats) -> None:
    shown = list(found.labels.items())[:_MOST_BARS]
    if not shown:
        axis.axis("off")
        return
    names = [name if len(name) <= 30 else name[:29] + "…" for name, _ in shown]
    axis.barh(range(len(shown)), [count for _, count in shown])
    axis.set_yticks(range(len(shown)), labels=names, fontsize=8, parse_math=False)
    axis.invert_yaxis()
    hidden = len(found.labels) - len(shown)
    axis.set_xlabel("occurrences" + (f"; {hidden} rarer labels are not shown" if hidden else ""))
