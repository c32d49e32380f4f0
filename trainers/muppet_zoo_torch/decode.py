"""Prediction tensors → what metrics compare, and the references to compare with.

Forms, in row order: classification and multiple choice an index; regression a number; multi-label
a list of indices; token classification a list of label names, one per word; span a text, whose
reference is the list of accepted texts. Rows are records of a shard; where an example has several,
the windows of a long context, `of_examples` makes one prediction of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from muppet_zoo.heads import IGNORED
from muppet_zoo.model_folder import HeadSlot
from muppet_zoo.shards import BuiltSplit

# Longest answer considered, in tokens. Source: the max_answer_length of BERT's run_squad.py.
MAX_ANSWER_TOKENS = 30


@dataclass(frozen=True, kw_only=True)
class WindowAnswer:
    """The best answer of one window; `empty_score` is that of the first token, for no answer."""

    text: str
    score: float
    empty_score: float


def decode(
    head: str, predicted: Tensor, rows: NDArray[np.int64], split: BuiltSplit, slot: HeadSlot
) -> list[Any]:
    """Predictions for `rows` of one task, from that task's part of a prediction tensor."""
    return _DECODERS[head](predicted, rows, split, slot)


def of_example(records: Sequence[Any], slot: HeadSlot) -> Any:
    """The prediction of one example, from those of its records: the windows of a long context."""
    return _answer(records, no_answer=slot.no_answer) if slot.head == "span" else records[0]


def references(split: BuiltSplit, slot: HeadSlot, examples: NDArray[np.int64]) -> list[Any]:
    """The targets of these examples in the same form."""
    rows = split.example_starts[examples]
    if slot.head == "span":
        return split.column("answers", rows)
    targets = split.take(rows).target
    if slot.head == "token_classification":
        return [[slot.labels[i] for i in target if i != IGNORED] for target in targets]
    if slot.head == "multi_label":
        return [target.tolist() for target in targets]
    return [target.item() for target in targets]


def _plain(
    predicted: Tensor, rows: NDArray[np.int64], split: BuiltSplit, slot: HeadSlot
) -> list[Any]:
    values: list[Any] = predicted.float().tolist() if predicted.is_floating_point() else []
    return values or [int(value) for value in predicted.tolist()]


def _label_sets(
    predicted: Tensor, rows: NDArray[np.int64], split: BuiltSplit, slot: HeadSlot
) -> list[Any]:
    return [np.flatnonzero(row).tolist() for row in predicted.cpu().numpy()]


def _tags(
    predicted: Tensor, rows: NDArray[np.int64], split: BuiltSplit, slot: HeadSlot
) -> list[Any]:
    targets = split.take(rows).target
    tags = predicted.cpu().numpy()
    return [
        [slot.labels[int(tags[i, t])] for t in np.flatnonzero(np.asarray(target) != IGNORED)]
        for i, target in enumerate(targets)
    ]


def _answers(
    predicted: Tensor, rows: NDArray[np.int64], split: BuiltSplit, slot: HeadSlot
) -> list[Any]:
    scores = predicted.cpu().numpy()
    contexts = split.column("context", rows)
    offsets = split.column("offsets", rows)
    return [
        best_answer(scores[i, :, 0], scores[i, :, 1], np.array(offsets[i]).reshape(-1, 2), context)
        for i, context in enumerate(contexts)
    ]


def _answer(windows: Sequence[WindowAnswer], *, no_answer: bool) -> str:
    """The best of all windows, or "" where every window rates that higher.

    Source: BERT's run_squad.py compares the lowest score of no answer, that of the window surest of
    an answer, with the best answer's; its threshold is 0 here.
    """
    best = max(windows, key=lambda window: window.score)
    if no_answer and min(window.empty_score for window in windows) > best.score:
        return ""
    return best.text


def best_answer(
    start: NDArray[np.float32], end: NDArray[np.float32], offsets: NDArray[np.int64], context: str
) -> WindowAnswer:
    """The text between the best pair of tokens inside the context.

    start, end: (T,) scores. offsets: (t, 2) characters per token, (0, 0) outside the context.
    """
    empty_score = float(start[0] + end[0])
    inside = np.flatnonzero(offsets[:, 1] > offsets[:, 0])
    if not len(inside):
        return WindowAnswer(text="", score=-np.inf, empty_score=empty_score)
    low, high = int(inside[0]), int(inside[-1]) + 1
    pair = start[low:high, None] + end[None, low:high]
    length = np.arange(high - low)[None, :] - np.arange(high - low)[:, None]
    pair = np.where((length >= 0) & (length < MAX_ANSWER_TOKENS), pair, -np.inf)
    first, last = np.unravel_index(int(pair.argmax()), pair.shape)
    return WindowAnswer(
        text=context[offsets[low + first, 0] : offsets[low + last, 1]],
        score=float(pair[first, last]),
        empty_score=empty_score,
    )


_Decoder = Callable[[Tensor, NDArray[np.int64], BuiltSplit, HeadSlot], list[Any]]

_DECODERS: dict[str, _Decoder] = {
    "classification": _plain,
    "multiple_choice": _plain,
    "regression": _plain,
    "multi_label": _label_sets,
    "token_classification": _tags,
    "span": _answers,
}


def num_labels(split: BuiltSplit, slot: HeadSlot, examples: NDArray[np.int64]) -> int:
    """Size of the label set; for multiple choice the most options of any of these examples."""
    if slot.head == "multiple_choice":
        return int(split.num_sequences[split.example_starts[examples]].max())
    return len(slot.labels)


def check_labelled(targets: Sequence[Any], head: str) -> bool:
    """Whether the split has labels to score against."""
    if head == "span":
        return any(targets)
    if head == "token_classification":
        return any(targets)
    if head == "multi_label":
        return not any(-1 in target for target in targets)
    return not any(target == -1 or target != target for target in targets)
