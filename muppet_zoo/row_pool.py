"""The rows of many tasks as one: a micro-batch is read with a dozen calls, however many it mixes.

A micro-batch takes a row or two of each of dozens of mapped files. Read one by one, that takes
longer than all else that is done to it; copied to one place, all files would have to fit into
memory. So each column is read through one array that reaches over all of them (`_Span`), and where
in it the wanted elements are is computed for all rows at once.

Shapes: n rows that are asked for, B sequences of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from muppet_zoo.arrow_columns import offsets
from muppet_zoo.task_data import I64, Lists

if TYPE_CHECKING:
    from collections.abc import Sequence

    from muppet_zoo.task_data import I32, Ranges, TaskData

Array = NDArray[Any]


class Places(NamedTuple):
    """Where n rows or sequences are. part: (n,) numbers of parts; at: (n,) places in them."""

    part: I64
    at: I64

    def picked(self, which: I64 | NDArray[np.bool_]) -> Places:
        """Some of them."""
        return Places(self.part[which], self.at[which])


@dataclass(frozen=True, slots=True)
class Ragged:
    """n lists of numbers, one after another. lengths: (n,); values: (sum of lengths,)."""

    lengths: I64
    values: Array


class RowPool:
    """The rows of several tasks, whose shards have one type of token ids."""

    def __init__(self, datas: Sequence[TaskData], tasks: Sequence[int] | None = None) -> None:
        """`tasks` are the numbers that plans call them by; 0, 1, … where None."""
        parts = [part for data in datas for part in data.parts]
        self._part_starts = offsets([part.num_rows for part in parts])[:-1]
        numbers = np.arange(len(datas)) if tasks is None else np.array(tasks, dtype=np.int64)
        sizes = [sum(part.num_rows for part in data.parts) for data in datas]
        self._task_starts = np.zeros(numbers.max(initial=-1) + 1, dtype=np.int64)
        self._task_starts[numbers] = offsets(sizes)[:-1]
        self._task_sizes = np.zeros_like(self._task_starts)
        self._task_sizes[numbers] = sizes
        self._token_ids = _ListSpan([part.sequences for part in parts])
        self._second_starts = _Span([part.second_starts for part in parts])
        self._has_options = np.array([part.options is not None for part in parts])
        self._options = _RangeSpan([part.options for part in parts])
        heads = [data.head_type for data in datas for _ in data.parts]
        self.head_types = sorted(set(heads))
        self._head_of_part = np.array([self.head_types.index(head) for head in heads])
        of_parts = list(zip(parts, heads, strict=True))
        self._targets = [
            _target_span([part.target if its_head == head else None for part, its_head in of_parts])
            for head in self.head_types
        ]

    def places(self, tasks: I32, rows: I64) -> Places:
        """Where n rows are; `tasks` (n,), and `rows` (n,) by their number in the task.

        Raises IndexError for a row that does not exist.
        """
        sizes = self._task_sizes[tasks]
        if (rows < 0).any() or (rows >= sizes).any():
            raise IndexError(f"rows {rows.tolist()} of tasks {tasks.tolist()}, which have {sizes}")
        number = self._task_starts[tasks] + rows
        part = np.searchsorted(self._part_starts, number, side="right") - 1
        return Places(part, number - self._part_starts[part])

    def heads(self, rows: Places) -> I64:
        """(n,) index in `head_types` of each row's."""
        return self._head_of_part[rows.part]

    def sequences(self, rows: Places) -> tuple[I64, Places]:
        """(n,) how many sequences each row has, and where they all are, row by row."""
        first, counts = rows.at.copy(), np.ones_like(rows.at)
        several = self._has_options[rows.part]
        if not several.any():
            return counts, rows
        first[several], counts[several] = self._options.read(rows.picked(several))
        return counts, Places(np.repeat(rows.part, counts), ranges(first, counts))

    def token_ids(self, sequences: Places) -> Ragged:
        """The token ids of B sequences."""
        return self._token_ids.read(sequences)

    def second_starts(self, sequences: Places) -> I32:
        """(B,) index of the second segment's first token; the length where there is none."""
        return self._second_starts.read(sequences)

    def targets(self, head: int, rows: Places) -> Array | Ragged:
        """Of n rows of one head type: numbers (n,), or lists; see `task_data.Record`."""
        return self._targets[head].read(rows)


def ranges(starts: I64, counts: I64) -> I64:
    """starts[0], starts[0] + 1, … for counts[0] numbers, then the same of starts[1], …"""
    ends = np.cumsum(counts)
    return np.repeat(starts - (ends - counts), counts) + np.arange(ends[-1] if len(ends) else 0)


class _Span:
    """A column of all parts: arrays that lie apart in memory, read as one that reaches over all.

    Its elements are those of the process's memory between the lowest and the highest of the
    arrays. What lies between two of them may not even be mapped, so only indices that are computed
    from a part and a place in it are ever read; nothing is copied, and the arrays are kept alive.
    """

    def __init__(self, arrays: Sequence[Array | None]) -> None:
        there = {i: a for i, a in enumerate(arrays) if a is not None and a.size}
        dtypes = {array.dtype for array in there.values()}
        if len(dtypes) > 1:
            raise ValueError(f"one column has several types: {sorted(map(str, dtypes))}")
        self._starts = np.zeros(len(arrays), dtype=np.int64)
        self._values: Array = np.empty(0)
        if not there:
            return
        if not all(array.flags.c_contiguous for array in there.values()):
            raise ValueError("a column is not contiguous")
        [dtype] = dtypes
        addresses = {i: array.ctypes.data for i, array in there.items()}
        low = min(addresses.values())
        high = max(addresses[i] + array.nbytes for i, array in there.items())
        if any((address - low) % dtype.itemsize for address in addresses.values()):
            raise ValueError("a column is not aligned to its type")
        memory = pa.foreign_buffer(low, high - low, base=list(there.values()))
        self._values = np.frombuffer(memory, dtype, count=(high - low) // dtype.itemsize)
        for i, address in addresses.items():
            self._starts[i] = (address - low) // dtype.itemsize

    def __reduce__(self) -> Any:
        raise TypeError("a span cannot be copied: it reaches over memory that is not its own")

    def read(self, places: Places) -> Array:
        """(n,) one element each."""
        elements: Array = self._values[self._starts[places.part] + places.at]
        return elements

    def read_ranges(self, part: I64, first: I64, counts: I64) -> Array:
        """(sum of counts,) elements first[i], first[i] + 1, … of each part."""
        elements: Array = self._values[ranges(self._starts[part] + first, counts)]
        return elements


class _RangeSpan:
    """Ranges of all parts."""

    def __init__(self, of_parts: Sequence[Ranges | None]) -> None:
        self._starts = _Span([part.starts if part else None for part in of_parts])
        self._ends = _Span([part.ends if part else None for part in of_parts])

    def read(self, places: Places) -> tuple[I64, I64]:
        """(n,) where each begins, and (n,) how long it is."""
        first = self._starts.read(places).astype(np.int64)
        return first, self._ends.read(places) - first


class _ListSpan:
    """A column of lists of all parts."""

    def __init__(self, of_parts: Sequence[Lists | None]) -> None:
        self._ranges = _RangeSpan([part.ranges if part else None for part in of_parts])
        self._values = _Span([part.values if part else None for part in of_parts])

    def read(self, places: Places) -> Ragged:
        """n lists."""
        first, lengths = self._ranges.read(places)
        return Ragged(lengths, self._values.read_ranges(places.part, first, lengths))


def _target_span(of_parts: Sequence[Array | Lists | None]) -> _Span | _ListSpan:
    lists = [part for part in of_parts if isinstance(part, Lists)]
    if not lists:
        return _Span([part for part in of_parts if not isinstance(part, Lists)])
    return _ListSpan([part if isinstance(part, Lists) else None for part in of_parts])
