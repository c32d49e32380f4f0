"""Prediction tensors → what metrics compare, and the references to compare with.

Forms, in row order: classification and multiple choice an index; regression a number; multi-label
a list of indices; token classification a list of label names, one per word; span a text, whose
reference is the list of accepted texts; generation a text. Rows are records of a shard; where an
example has several, the windows of a long context, `of_example` makes one prediction of them. Which
functions belong to a head type is said in `heads.HEAD_MATH`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from muppet_zoo.model_folder import HeadSlot
from muppet_zoo.shards import Records
from muppet_zoo.targets import NO_TOKEN

if TYPE_CHECKING:
    from tokenizers import Tokenizer

I64 = NDArray[np.int64]
# Longest answer considered, in tokens. Source: the max_answer_length of BERT's run_squad.py.
MAX_ANSWER_TOKENS = 30
OUTSIDE = "O"  # the tag of no entity, in all of the field's schemes


@dataclass(frozen=True, kw_only=True)
class ScoredTask:
    """A task's records, its slot in the model, and the tokenizer that made them."""

    split: Records
    slot: HeadSlot
    tokenizer: Tokenizer


@dataclass(frozen=True, kw_only=True)
class WindowAnswer:
    """The best answer of one window; `empty_score` is that of the first token, for no answer."""

    text: str
    score: float
    empty_score: float


# --- predictions of records ------------------------------------------------------------------


def _plain(predicted: Tensor, rows: I64, task: ScoredTask) -> list[Any]:
    values: list[Any] = predicted.float().tolist() if predicted.is_floating_point() else []
    return values or [int(value) for value in predicted.tolist()]


def _label_sets(predicted: Tensor, rows: I64, task: ScoredTask) -> list[Any]:
    return [np.flatnonzero(row).tolist() for row in predicted.cpu().numpy()]


def _tags(predicted: Tensor, rows: I64, task: ScoredTask) -> list[Any]:
    """One name a word, read at its first token; None where it has none."""
    tags, labels = predicted.cpu().numpy(), task.slot.labels
    return [
        [None if at == NO_TOKEN else labels[int(tags[i, at])] for at in first]
        for i, first in enumerate(task.split.column("first_token", rows))
    ]


def _window_answers(predicted: Tensor, rows: I64, task: ScoredTask) -> list[Any]:
    scores = predicted.cpu().numpy()
    contexts = task.split.column("context", rows)
    offsets = task.split.column("offsets", rows)
    return [
        best_answer(scores[i, :, 0], scores[i, :, 1], np.array(offsets[i]).reshape(-1, 2), context)
        for i, context in enumerate(contexts)
    ]


def _texts(predicted: Tensor, rows: I64, task: ScoredTask) -> list[Any]:
    return list(task.tokenizer.decode_batch(predicted.tolist(), skip_special_tokens=True))


# --- predictions of examples -----------------------------------------------------------------


def _first(records: Sequence[Any], slot: HeadSlot) -> Any:
    return records[0]


def _tag_of_each_word(records: Sequence[Any], slot: HeadSlot) -> Any:
    """A word that the model could not read counts as one outside of what is looked for."""
    outside = OUTSIDE if OUTSIDE in slot.labels else slot.labels[0]
    return [outside if tag is None else tag for tag in records[0]]


def _best_window(windows: Sequence[WindowAnswer], slot: HeadSlot) -> str:
    """The best of all windows, or "" where every window rates that higher.

    Source: BERT's run_squad.py compares the lowest score of no answer, that of the window surest of
    an answer, with the best answer's; its threshold is 0 here.
    """
    best = max(windows, key=lambda window: window.score)
    if slot.no_answer and min(window.empty_score for window in windows) > best.score:
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


# --- references ------------------------------------------------------------------------------


def _plain_targets(rows: I64, task: ScoredTask) -> list[Any]:
    return [task.split.record(row).target for row in rows.tolist()]


def _label_lists(rows: I64, task: ScoredTask) -> list[Any]:
    return [task.split.record(row).target.tolist() for row in rows.tolist()]


def _tag_names(rows: I64, task: ScoredTask) -> list[Any]:
    return [[task.slot.labels[i] for i in tags] for tags in task.split.column("tags", rows)]


def _accepted_answers(rows: I64, task: ScoredTask) -> list[Any]:
    return task.split.column("answers", rows)


def _answer_texts(rows: I64, task: ScoredTask) -> list[Any]:
    return task.split.column("answer", rows)


def _all_known(targets: Sequence[Any]) -> bool:
    return -1 not in targets


def _all_numbers(targets: Sequence[Any]) -> bool:
    return not any(map(math.isnan, targets))  # -1 is a number like any other


def _no_unknown(targets: Sequence[Any]) -> bool:
    return not any(-1 in target for target in targets)


def _label_set_size(rows: I64, task: ScoredTask) -> int:
    return len(task.slot.labels)


def _most_options(rows: I64, task: ScoredTask) -> int:
    return int(task.split.num_sequences[rows].max())


@dataclass(frozen=True, kw_only=True)
class Decoder:
    """How one head type's predictions become what metrics compare.

    predictions: of records, from that task's part of a prediction tensor.
    of_example: one prediction, from those of an example's records.
    references: the targets in the same form; `rows` are the first records of examples.
    is_labelled: whether there are any labels to score against among these references.
    num_labels: size of the label set; for multiple choice the most options of any example.
    """

    predictions: Callable[[Tensor, I64, ScoredTask], list[Any]] = _plain
    of_example: Callable[[Sequence[Any], HeadSlot], Any] = _first
    references: Callable[[I64, ScoredTask], list[Any]] = _plain_targets
    is_labelled: Callable[[Sequence[Any]], bool] = _all_known
    num_labels: Callable[[I64, ScoredTask], int] = _label_set_size


PLAIN = Decoder()
NUMBER = Decoder(is_labelled=_all_numbers)
CHOICE = Decoder(num_labels=_most_options)
LABEL_SET = Decoder(predictions=_label_sets, references=_label_lists, is_labelled=_no_unknown)
TAGS = Decoder(
    predictions=_tags, of_example=_tag_of_each_word, references=_tag_names, is_labelled=any
)
ANSWER = Decoder(
    predictions=_window_answers,
    of_example=_best_window,
    references=_accepted_answers,
    is_labelled=any,
)
TEXT = Decoder(predictions=_texts, references=_answer_texts, is_labelled=any)
