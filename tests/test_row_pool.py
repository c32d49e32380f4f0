"""Rows of many tasks are read at once: whatever is asked for, it is what each task's parts hold."""

from __future__ import annotations

import copy
import gc
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fake_task import FakeTask
from hypothesis import given
from hypothesis import strategies as st

from muppet_zoo.heads import HEADS
from muppet_zoo.row_pool import Ragged, RowPool
from muppet_zoo.task_data import Part, Record

ids = st.lists(st.integers(0, 65_535), min_size=1, max_size=5)
labels = st.lists(st.integers(-100, 100), max_size=4)
numbers = {"regression": st.floats(width=32, allow_nan=False)}
lists = ("multi_label", "token_classification", "generation", "span")


@st.composite
def tasks(draw: st.DrawFn) -> FakeTask:
    """One of any head type, its rows in one to many parts."""
    head = draw(st.sampled_from(sorted(HEADS)))
    sequences = st.lists(ids, min_size=1, max_size=3 if head == "multiple_choice" else 1)
    examples = draw(st.lists(sequences, min_size=1, max_size=8))
    target = labels if head in lists else numbers.get(head, st.integers(-1, 9))
    targets = draw(st.lists(target, min_size=len(examples), max_size=len(examples)))
    cuts = draw(st.sets(st.integers(1, len(examples)))) | {len(examples)}
    sizes = np.diff([0, *sorted(cuts)]).tolist()
    return FakeTask(head, examples, targets, part_sizes=sizes)


def record_of(task: FakeTask, row: int) -> Record:
    """As its parts hold it, read by themselves."""
    for part in task.parts:
        if row < part.num_rows:
            return part.record(row)
        row -= part.num_rows
    raise AssertionError(row)


def listed(values: Any) -> list[Any]:
    """Numbers, or lists of them, as Python's own."""
    if not isinstance(values, Ragged):
        return values.tolist()  # type: ignore[no-any-return]
    ends = np.cumsum(values.lengths)
    return [part.tolist() for part in np.split(values.values, ends[:-1])]


@given(datas=st.lists(tasks(), min_size=1, max_size=5), draws=st.data())
def test_it_reads_what_each_task_has(datas: list[FakeTask], draws: st.DataObject) -> None:
    called = draws.draw(st.permutations(range(len(datas) + 2)))[: len(datas)]
    pool = RowPool(datas, called)
    sizes = [len(data.examples) for data in datas]
    pairs = [(number, row) for number, size in enumerate(sizes) for row in range(size)]
    wanted = draws.draw(st.lists(st.sampled_from(pairs), min_size=1, max_size=20))
    rows = pool.places(
        np.array([called[number] for number, _ in wanted], dtype=np.int32),
        np.array([row for _, row in wanted]),
    )
    records = [record_of(datas[number], row) for number, row in wanted]
    counts, sequences = pool.sequences(rows)
    assert counts.tolist() == [len(record.sequences) for record in records]
    expected = [ids.tolist() for record in records for ids in record.sequences]
    assert listed(pool.token_ids(sequences)) == expected
    starts = [start for record in records for start in record.second_starts]
    assert pool.second_starts(sequences).tolist() == starts
    heads = pool.heads(rows)
    assert [pool.head_types[head] for head in heads] == [datas[n].head_type for n, _ in wanted]
    for head in set(heads.tolist()):
        its = np.flatnonzero(heads == head)
        targets = [records[i].target for i in its.tolist()]
        found = listed(pool.targets(head, rows.picked(its)))
        assert found == [np.asarray(target).tolist() for target in targets]


@given(task=tasks(), draws=st.data())
def test_a_picked_part_is_those_rows(task: FakeTask, draws: st.DataObject) -> None:
    part = task.parts[0]
    rows = np.array(draws.draw(st.lists(st.integers(0, part.num_rows - 1), min_size=1)))
    picked = part.picked(rows)
    assert picked.num_rows == len(rows)
    assert picked.sequences.values is part.sequences.values
    for place, row in enumerate(rows.tolist()):
        assert as_lists(picked.record(place)) == as_lists(part.record(row))
    for read in (Part.num_sequences, lambda p: p.lengths(with_target=True)):
        assert read(picked).tolist() == read(part)[rows].tolist()


def as_lists(record: Record) -> tuple[Any, ...]:
    target = np.asarray(record.target).tolist()
    return [ids.tolist() for ids in record.sequences], list(record.second_starts), target


@pytest.mark.parametrize(("task", "row"), [(0, 2), (0, -1), (1, 0), (3, 0)])
def test_a_row_that_is_not_there(task: int, row: int) -> None:
    pool = RowPool([FakeTask("classification", [[[1]], [[2]]], [0, 1])], tasks=[0])
    with pytest.raises(IndexError):
        pool.places(np.array([0, task], dtype=np.int32), np.array([0, row]))


def test_what_it_reads_lives_as_long_as_it_does() -> None:
    pool = RowPool([FakeTask("classification", [[[7] * 100_000], [[8, 9]]], [0, 1])])
    gc.collect()
    filler = [np.full(100_000, 3, np.uint16) for _ in range(20)]
    rows = pool.places(np.zeros(2, np.int32), np.arange(2))
    _, sequences = pool.sequences(rows)
    assert listed(pool.token_ids(sequences)) == [[7] * 100_000, [8, 9]]
    assert len(filler) == 20


def test_token_ids_of_two_types_are_refused() -> None:
    narrow, wide = (FakeTask("classification", [[[1]]], [0]) for _ in range(2))
    lists = wide.parts[0].sequences
    object.__setattr__(lists, "values", lists.values.astype(np.uint32))
    with pytest.raises(ValueError, match=r"uint16.*uint32"):
        RowPool([narrow, wide])


@pytest.mark.parametrize("copied", [copy.deepcopy, pickle.dumps])
def test_it_is_never_copied(copied: Callable[[RowPool], object]) -> None:
    """A copy would read all of the memory that it reaches over."""
    pool = RowPool([FakeTask("classification", [[[1]]], [0])])
    with pytest.raises(TypeError, match="cannot be copied"):
        copied(pool)
