"""Arrow columns of numbers and texts, made of their buffers.

Not by `pyarrow.array`: its first call imports pandas where that is installed, for which a build of
a few seconds would wait a quarter of a second.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray


def numbers(values: ArrayLike, kind: pa.DataType) -> pa.Array:
    """(n,) numbers of an Arrow type, none of them null.

    Raises OverflowError for a Python number that the type does not hold.
    """
    array = np.ascontiguousarray(values, dtype=kind.to_pandas_dtype())
    return pa.Array.from_buffers(kind, len(array), [None, pa.py_buffer(array)], null_count=0)


def lists(values: pa.Array, lengths: ArrayLike) -> pa.ListArray:
    """(n,) lists of these lengths, cut from `values` one after another; below 2^31 values."""
    return pa.ListArray.from_arrays(numbers(offsets(lengths), pa.int32()), values)


def number_lists(rows: Sequence[Sequence[int]], kind: pa.DataType) -> pa.ListArray:
    """(n,) lists of numbers."""
    flat = list(chain.from_iterable(rows))
    return lists(numbers(flat, kind), [len(row) for row in rows])


def texts(values: Sequence[str], kind: pa.DataType) -> pa.Array:
    """(n,) texts as `string` or `large_string`."""
    encoded = [value.encode("utf-8") for value in values]
    offset_kind = pa.int64() if kind == pa.large_string() else pa.int32()
    [_, ends] = numbers(offsets([len(text) for text in encoded]), offset_kind).buffers()
    data = pa.py_buffer(b"".join(encoded))
    return pa.Array.from_buffers(kind, len(encoded), [None, ends, data], null_count=0)


def offsets(lengths: ArrayLike) -> NDArray[np.int64]:
    """(n,) lengths → (n + 1,) list offsets."""
    ends: NDArray[Any] = np.cumsum(lengths, dtype=np.int64)
    return np.concatenate([[0], ends])
