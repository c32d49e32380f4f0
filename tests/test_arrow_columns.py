"""Columns that are made of buffers are those that pyarrow makes of the same values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muppet_zoo.arrow_columns import lists, number_lists, numbers, offsets, texts

INTEGERS = {
    kind: st.integers(np.iinfo(kind.to_pandas_dtype()).min, np.iinfo(kind.to_pandas_dtype()).max)
    for kind in (pa.int32(), pa.int64(), pa.uint16(), pa.uint32())
}
SOME_TEXTS = st.lists(st.text(st.characters(exclude_categories=("Cs",)), max_size=5))


def same(ours: pa.Array, theirs: pa.Array) -> bool:
    ours.validate(full=True)
    return bool(ours.type == theirs.type and ours.null_count == 0 and ours.equals(theirs))


@pytest.mark.parametrize("kind", INTEGERS, ids=str)
@given(data=st.data())
def test_whole_numbers(kind: pa.DataType, data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.lists(INTEGERS[kind], max_size=4)))
    flat = [number for row in rows for number in row]
    assert same(numbers(flat, kind), pa.array(flat, type=kind))
    assert same(number_lists(rows, kind), pa.array(rows, type=pa.list_(kind)))


@given(values=st.lists(st.floats(width=32, allow_nan=False)))
def test_floats(values: list[float]) -> None:
    assert same(numbers(values, pa.float32()), pa.array(values, type=pa.float32()))


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()], ids=str)
@given(rows=st.lists(SOME_TEXTS))
def test_texts(kind: pa.DataType, rows: list[list[str]]) -> None:
    flat = [text for row in rows for text in row]
    assert same(texts(flat, kind), pa.array(flat, type=kind))
    made = lists(texts(flat, kind), list(map(len, rows)))
    assert same(made, pa.array(rows, type=pa.list_(kind)))


@pytest.mark.parametrize("value", [1 << 31, -(1 << 31) - 1, 1 << 70])
def test_a_number_that_the_type_does_not_hold(value: Any) -> None:
    with pytest.raises(OverflowError):
        numbers([0, value], pa.int32())


def test_offsets() -> None:
    assert offsets([]).tolist() == [0]
    assert offsets([2, 0, 3]).tolist() == [0, 2, 2, 5]
