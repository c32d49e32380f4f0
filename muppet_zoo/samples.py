"""Some examples of a built split: what a few-shot run trains on, and what is held out to choose by.

One permutation of the split's examples, keyed by the seed, serves both: training takes it from the
front, holding out from the back. So 16 examples are among the 32 of the same seed, more held-out
examples are those and others, and no example is ever in both. Examples, not records: a long context
whose windows were parted between the two would be trained on and held out at once.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from muppet_zoo.arrow_columns import offsets
from muppet_zoo.errors import UsageError
from muppet_zoo.order import TRAIN_SAMPLE, key, permute
from muppet_zoo.shards import BuiltSplit
from muppet_zoo.task_data import I64

if TYPE_CHECKING:
    from collections.abc import Sequence

    from muppet_zoo.task_data import Part, Record

HELD_OUT = "held_out"  # as a split to evaluate on; no task has a split of this name


@dataclass(frozen=True, kw_only=True)
class Sample:
    """How many examples to train on, None for all that are left, and how many to hold out."""

    examples: int | None
    held_out: int = 0


@dataclass(kw_only=True)
class SplitPart(BuiltSplit):
    """The examples `examples` (n,) of a built split, in this order and numbered from 0."""

    whole: BuiltSplit
    examples: I64

    @property
    def num_examples(self) -> int:
        """Number of examples of the part."""
        return len(self.examples)

    @property
    def num_records(self) -> int:
        """Number of records of the part."""
        return len(self._records)

    @property
    def fingerprint(self) -> str:
        """Names the split and which of its examples these are."""
        digest = hashlib.sha256(self.whole.fingerprint.encode())
        digest.update(self.examples.tobytes())
        return digest.hexdigest()

    @cached_property
    def example_starts(self) -> I64:
        """(n + 1,) the first record of each example in the part, and the number of records."""
        sizes = np.diff(self.whole.example_starts)[self.examples]
        return offsets(sizes)

    @cached_property
    def parts(self) -> Sequence[Part]:
        """The columns of the part's records, whose token ids are those of the whole."""
        parts = self.whole.parts
        starts = offsets([part.num_rows for part in parts])
        which = np.searchsorted(starts, self._records, side="right") - 1
        firsts = np.flatnonzero(np.diff(which, prepend=-1))  # of each run of one part's records
        runs = np.split(self._records, firsts[1:])
        return [
            parts[number].picked(records - starts[number])
            for number, records in zip(which[firsts].tolist(), runs, strict=False)
        ]

    def record(self, row: int) -> Record:
        """The record of this number in the part."""
        return self.whole.record(int(self._records[row]))

    def column(self, name: str, rows: I64) -> list[Any]:
        """Any column as Python values, by the numbers of the part."""
        return self.whole.column(name, self._records[rows])

    @cached_property
    def _records(self) -> I64:
        """(num_records,) their numbers in the whole split."""
        starts = self.whole.example_starts
        parts = [np.arange(starts[i], starts[i + 1]) for i in self.examples.tolist()]
        return np.concatenate([np.empty(0, np.int64), *parts]).astype(np.int64)


def sampled_numbers(num_examples: int, sample: Sample, seed: int) -> tuple[I64, I64]:
    """Ascending numbers of the examples to train on, (k,), and of those held out, (m,).

    Raises:
        UsageError: there are not so many examples.
    """
    left = num_examples - sample.held_out
    wanted = left if sample.examples is None else sample.examples
    if wanted < 1 or wanted > left:
        what = "any" if sample.examples is None else f"{wanted:,}"
        raise UsageError(
            f"sample: {what} examples to train on and {sample.held_out:,} to hold out are more "
            f"than the {num_examples:,} of the train split; ask for fewer"
        )
    places = np.arange(num_examples, dtype=np.uint64)
    permuted = permute(
        places, np.uint64(num_examples), key(seed, TRAIN_SAMPLE, np.zeros(1, np.uint64))
    ).astype(np.int64)
    return np.sort(permuted[:wanted]), np.sort(permuted[left:])


def sampled(split: BuiltSplit, sample: Sample, seed: int) -> tuple[SplitPart, SplitPart]:
    """The part of a train split to train on, and the one that is held out, which may be empty.

    Raises:
        UsageError: it has not so many examples.
    """
    train, held_out = (part_of(split, numbers) for numbers in _told(split, sample, seed))
    return train, held_out


def part_of(split: BuiltSplit, examples: I64) -> SplitPart:
    """The examples of these numbers, with all their records."""
    return SplitPart(folder=split.folder, manifest=split.manifest, whole=split, examples=examples)


def _told(split: BuiltSplit, sample: Sample, seed: int) -> Sequence[I64]:
    try:
        return sampled_numbers(split.num_examples, sample, seed)
    except UsageError as error:
        raise UsageError(f"task {split.manifest.task}: {error}") from None
