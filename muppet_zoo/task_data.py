"""What the batcher and `collate` ask of one built split of one task: lengths, and columns to read.

Planning and reading are kept apart on purpose. A plan needs two small numbers per example, which
stay in memory for millions of examples; token ids are only touched for the rows of the micro-batch
at hand. The contract lives in its own module, below both sides, so that the shard reader fulfils
it without importing the batcher, and a test fulfils it with ten lines of numpy.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Sequence

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]


class Record(NamedTuple):
    """One example as it is stored; its K options are K sequences.

    sequences:      K arrays of token ids, of any unsigned type, each (T_k,) with T_k >= 1.
    second_starts:  K indices of the second segment's first token; T_k where there is none.
    target:         as the shard column holds it, by head type:
                    classification, multiple_choice: int, -1 where unlabelled;
                    regression: float, NaN where unlabelled;
                    multi_label: int array (labels that hold,);
                    token_classification: int array (T,), -100 where not scored;
                    span: int array (2,), start and end inclusive;
                    generation: array of token ids.
    """

    sequences: Sequence[NDArray[np.unsignedinteger[Any]]]
    second_starts: Sequence[int]
    target: Any


@dataclass(frozen=True, slots=True)
class Ranges:
    """n ranges of a longer array: range i goes from starts[i] to before ends[i]; both (n,)."""

    starts: I32
    ends: I32

    @classmethod
    def of_offsets(cls, offsets: I32) -> Ranges:
        """Of (n + 1,) offsets as Arrow keeps them: each range begins where the last one ended."""
        return cls(offsets[:-1], offsets[1:])

    def lengths(self) -> I32:
        """(n,) how long each is."""
        return self.ends - self.starts

    def picked(self, places: I64) -> Ranges:
        """The ranges of these numbers."""
        return Ranges(self.starts[places], self.ends[places])


@dataclass(frozen=True, slots=True)
class Lists:
    """n lists of numbers that share one array: list i is `values` in range i."""

    values: NDArray[Any]
    ranges: Ranges

    def __getitem__(self, place: int) -> NDArray[Any]:
        return self.values[self.ranges.starts[place] : self.ranges.ends[place]]

    def picked(self, places: I64) -> Lists:
        """The lists of these numbers; `values` are not copied."""
        return Lists(self.values, self.ranges.picked(places))


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The columns of some rows of a task as they lie in memory, such as a mapped record batch.

    sequences:      token ids of all sequences of all rows.
    second_starts:  (sequences,) see `Record`.
    options:        which sequences each row has; None where each row is one sequence.
    target:         (rows,) numbers, or as many lists; see `Record`.
    """

    sequences: Lists
    second_starts: I32
    options: Ranges | None
    target: NDArray[Any] | Lists

    @property
    def num_rows(self) -> int:
        """How many rows these are."""
        return len((self.options or self.sequences.ranges).starts)

    def num_sequences(self) -> NDArray[np.uint16]:
        """(rows,) sequences of each row."""
        if self.options is None:
            return np.ones(self.num_rows, np.uint16)
        return self.options.lengths().astype(np.uint16)

    def lengths(self, *, with_target: bool) -> NDArray[np.uint32]:
        """(rows,) tokens of each row's longest sequence, or of its target if that is longer.

        with_target: targets are token ids too.
        """
        lengths = self.sequences.ranges.lengths()
        if self.options is not None:
            # Every other result is of the gap to the next row; a last 0 so that no end is beyond.
            bounds = np.column_stack([self.options.starts, self.options.ends]).ravel()
            lengths = np.maximum.reduceat(np.append(lengths, 0), bounds)[::2]
        if with_target and isinstance(self.target, Lists):
            lengths = np.maximum(lengths, self.target.ranges.lengths())
        return lengths.astype(np.uint32)

    def record(self, row: int) -> Record:
        """One row; its ids are views."""
        its = range(row, row + 1)
        if self.options is not None:
            its = range(self.options.starts[row], self.options.ends[row])
        target = self.target[row]
        return Record(
            sequences=[self.sequences[i] for i in its],
            second_starts=self.second_starts[its.start : its.stop].tolist(),
            target=target if isinstance(self.target, Lists) else target.item(),
        )

    def picked(self, rows: I64) -> Part:
        """The rows of these numbers, in this order; no token id is copied."""
        target = self.target
        target = target.picked(rows) if isinstance(target, Lists) else target[rows]
        if self.options is not None:
            return replace(self, options=self.options.picked(rows), target=target)
        return replace(
            self,
            sequences=self.sequences.picked(rows),
            second_starts=self.second_starts[rows],
            target=target,
        )


class TaskData(Protocol):
    """One split of one task. Rows are numbered from 0 to len(lengths) - 1, through all parts."""

    @property
    def head_type(self) -> str:
        """One of the head types of the task spec, such as `classification`."""
        ...

    @property
    def lengths(self) -> NDArray[np.uint32]:
        """(rows,) tokens of each example's longest sequence, special tokens included, >= 1.

        An answer that is generated counts as a sequence: the decoder reads it beside the others.
        """
        ...

    @property
    def num_sequences(self) -> NDArray[np.uint16]:
        """(rows,) token sequences of each example: its options in multiple choice, else 1."""
        ...

    @property
    def parts(self) -> Sequence[Part]:
        """The rows, in order."""
        ...
