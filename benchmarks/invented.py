"""Sequences of random tokens and lognormal length, in memory, for timings."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from muppet_zoo.arrow_columns import offsets
from muppet_zoo.batches import Batcher, Batching
from muppet_zoo.collate import MicroBatch, collate
from muppet_zoo.order import Order
from muppet_zoo.row_pool import RowPool
from muppet_zoo.task_data import Lists, Part, Ranges

PADDING_ID = 1
# Of 128 tokens at most: a median of 27, a mean of 33, and 95 of 100 sequences up to 77.
_MEDIAN_SHARE, _SPREAD = 0.21, 0.64


@dataclass(frozen=True, kw_only=True)
class Invented:
    """A task with three labels; a `TaskData`. lengths: (rows,)."""

    lengths: NDArray[np.uint32]
    vocab_size: int
    head_type: str = "classification"

    @property
    def num_sequences(self) -> NDArray[np.uint16]:
        """(rows,) ones."""
        return np.ones(len(self.lengths), dtype=np.uint16)

    @cached_property
    def parts(self) -> list[Part]:
        """See `TaskData.parts`."""
        bounds = offsets(self.lengths).astype(np.int32)
        ids = np.random.default_rng(0).integers(PADDING_ID + 1, self.vocab_size, bounds[-1])
        part = Part(
            sequences=Lists(ids.astype(np.uint16), Ranges.of_offsets(bounds)),
            second_starts=self.lengths.astype(np.int32),
            options=None,
            target=np.arange(len(self.lengths), dtype=np.int32) % 3,
        )
        return [part]


def invented(num_examples: int, longest: int, vocab_size: int) -> Invented:
    """A task whose lengths are lognormal, up to `longest`."""
    random = np.random.default_rng(0)
    lengths = random.lognormal(np.log(_MEDIAN_SHARE * longest), _SPREAD, num_examples)
    return Invented(lengths=lengths.clip(4, longest).astype(np.uint32), vocab_size=vocab_size)


def micro_batches(data: Invented, num_tokens: int, count: int) -> list[MicroBatch]:
    """The first of a run on this task, bucketed by length as in every run."""
    size = len(data.lengths)
    batcher = Batcher(
        order=Order(seed=0, task_sizes=(size,), quotas=(size,)),
        datas=(data,),
        batching=Batching(tokens_per_micro_batch=num_tokens, micro_batches_per_step=1),
    )
    pool = RowPool([data])
    return [
        collate(step.micro_batches[0], pool, PADDING_ID) for step in islice(batcher.steps(), count)
    ]
