"""A planned micro-batch → arrays: the rows are read, padded, and grouped by head type.

Everything is by sequence; `groups` say which sequences belong to which example, and what is to be
predicted. Which form the targets of a head type take is the head's own affair (`target_form`).

Shapes: B sequences of a micro-batch, T its longest sequence, N examples of one head type, K most
sequences of an example (options), D the longest text that a decoder reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from muppet_zoo.batches import MicroBatchPlan
from muppet_zoo.generation import Generation
from muppet_zoo.heads import HEADS
from muppet_zoo.row_pool import Ragged
from muppet_zoo.targets import IGNORED
from muppet_zoo.task_data import I32, I64

if TYPE_CHECKING:
    from muppet_zoo.row_pool import RowPool


@dataclass(frozen=True, kw_only=True)
class HeadRows:
    """The N examples of a micro-batch that one type of head scores.

    head:       the head type.
    tasks:      (N,) index in the run's list of tasks.
    rows:       (N,) row of the task's split.
    sequences:  (N, K) index into B of each example's sequences, -1 where it has fewer than K.
    target:     by head type, see `collate_target`.
    """

    head: str
    tasks: I32
    rows: I64
    sequences: I64
    target: NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class MicroBatch:
    """What one pass of the model reads.

    input_ids:       (B, T) int64, padded at the end.
    attention_mask:  (B, T) bool, true for tokens.
    second_start:    (B,) int64, index of the second segment's first token; the length if none.
    groups:          by head type, in alphabetical order, which is the same on every process.
    num_tokens:      tokens without padding.
    num_examples:    examples, each counted once however many options it has.
    """

    input_ids: I64
    attention_mask: NDArray[np.bool_]
    second_start: I64
    groups: dict[str, HeadRows]
    num_tokens: int
    num_examples: int

    @property
    def padding_share(self) -> float:
        """Padding as a share of B * T."""
        return (self.input_ids.size - self.num_tokens) / self.input_ids.size


def collate(plan: MicroBatchPlan, pool: RowPool, pad_id: int) -> MicroBatch:
    """Reads the rows of a plan and lays them out; sequences are in the order of the plan."""
    rows = pool.places(plan.tasks, plan.rows)
    counts, sequences = pool.sequences(rows)
    token_ids = pool.token_ids(sequences)
    longest = int(token_ids.lengths.max())
    input_ids, attention_mask = _padded(token_ids, longest, pad_id)
    first = np.cumsum(counts) - counts
    heads = pool.heads(rows)
    groups = {}
    for number in np.unique(heads).tolist():
        where, head = np.flatnonzero(heads == number), pool.head_types[number]
        groups[head] = HeadRows(
            head=head,
            tasks=plan.tasks[where],
            rows=plan.rows[where],
            sequences=_index(first[where], counts[where]),
            target=collate_target(head, pool.targets(number, rows.picked(where)), longest),
        )
    return MicroBatch(
        input_ids=input_ids,
        attention_mask=attention_mask,
        second_start=pool.second_starts(sequences).astype(np.int64),
        groups=groups,
        num_tokens=len(token_ids.values),
        num_examples=len(plan.rows),
    )


def _index(first: I64, counts: I64) -> I64:
    """(N, K) first[0], first[0] + 1, … for counts[0] numbers, then -1; the same of first[1], …"""
    option = np.arange(counts.max())
    return np.where(option < counts[:, None], first[:, None] + option, -1)


def collate_target(head_type: str, targets: NDArray[Any] | Ragged, num_tokens: int) -> NDArray[Any]:
    """Targets of N examples as one array, for a micro-batch whose longest sequence is `num_tokens`.

    classification, multiple_choice:  (N,) int64, -1 where unlabelled.
    regression:                       (N,) float32, NaN where unlabelled.
    multi_label:                      (N, most labels) int64, padded with -1.
    token_classification:             (N, T) int64, -100 where not scored and in padding.
    span:                             (N, 2) int64, start and end inclusive, -1 where unlabelled.
    generation:                       (N, longest target) int64, padded with -100.
    """
    form = HEADS[head_type].target_form
    if not isinstance(targets, Ragged):
        return targets.astype(form.dtype)
    if form.padding is None:
        return targets.values.astype(form.dtype).reshape(len(targets.lengths), -1)
    width = num_tokens if form.per_token else int(targets.lengths.max())
    return _padded(targets, width, form.padding)[0]


def decoder_text(batch: MicroBatch) -> I64:
    """(B, D) what a decoder is to say for each sequence, padded with -100.

    The answer where one is generated, else the sequence itself, as BART does for understanding
    (Lewis et al. 2019, section 3.1). The model shifts it by one token.
    """
    text = np.where(batch.attention_mask, batch.input_ids, IGNORED)
    answers = batch.groups.get(Generation.type)
    if answers is None:
        return text
    sequences, width = answers.sequences[:, 0], max(1, answers.target.shape[1])
    if len(sequences) < len(text):
        width = max(width, text.shape[1])
    text = np.pad(text, [(0, 0), (0, max(0, width - text.shape[1]))], constant_values=IGNORED)
    text = text[:, :width]
    text[sequences] = IGNORED
    text[sequences, : answers.target.shape[1]] = answers.target
    return text


def _padded(lists: Ragged, width: int, fill: int) -> tuple[I64, NDArray[np.bool_]]:
    """(n, width) the lists, padded at the end, and (n, width) where they are."""
    mask = np.arange(width) < lists.lengths[:, None]
    padded = np.full(mask.shape, fill, dtype=np.int64)
    padded[mask] = lists.values
    return padded, mask
