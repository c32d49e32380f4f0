"""Of a spec's operations those are carried out that the inputs depend on, whatever a row holds."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import make_spec

from muppet_zoo.prediction_rows import examples_to_answer, input_columns, input_operations
from muppet_zoo.rows import Row, RowProblem
from muppet_zoo.spec import TaskSpec


def answerable(spec: TaskSpec, row: Row) -> list[tuple[str, str | None]]:
    examples = examples_to_answer(spec, input_operations(spec), 3, row)
    assert all(example.row == 3 for example in examples)
    assert all(example.target is None for example in examples)
    return [example.segments.sequences[0] for example in examples]


def test_operations_on_the_label_and_filters_are_left_out(tmp_path: Path) -> None:
    spec = make_spec(
        tmp_path,
        rows="[{op: drop_where, column: label, values: [-1]}, "
        "{op: map_values, column: label, values: {a: 0, b: 1}}, "
        "{op: join, template: 'so: {second}', into: second}]",
    )
    assert [operation.op for operation in input_operations(spec)] == ["join"]
    assert input_columns(spec) == ("first", "second")
    for row in ({}, {"label": -1}, {"label": "no such label"}, {"label": None}):
        assert answerable(spec, {"first": "x", "second": "y", **row}) == [("x", "so: y")]


def test_a_column_is_followed_through_other_names(tmp_path: Path) -> None:
    spec = make_spec(
        tmp_path,
        columns="{one: string, two: string, gold: label}",
        rows="[{op: rename, columns: {one: first, gold: label}}, "
        "{op: rename, columns: {two: second}}]",
    )
    assert input_columns(spec) == ("one", "two")
    assert answerable(spec, {"one": "x", "two": "y"}) == [("x", "y")]


def test_lists_are_exploded_without_the_list_of_labels(tmp_path: Path) -> None:
    spec = make_spec(
        tmp_path,
        columns="{first: string, others: strings, labels: labels}",
        rows="[{op: explode, columns: {others: second, labels: label}}]",
    )
    assert input_columns(spec) == ("first", "others")
    assert answerable(spec, {"first": "x", "others": ["y", "z"]}) == [("x", "y"), ("x", "z")]
    assert answerable(spec, {"first": "x", "others": []}) == []


def test_a_row_without_the_inputs_is_a_problem(tmp_path: Path) -> None:
    spec = make_spec(tmp_path)
    with pytest.raises(RowProblem, match="column 'second' is missing"):
        answerable(spec, {"first": "x", "label": 0})


def test_a_column_that_is_written_over_is_needed_as_it_was(tmp_path: Path) -> None:
    """`second` becomes the first text, and nothing of the old one is read."""
    spec = make_spec(tmp_path, rows="[{op: join, template: '{first}!', into: second}]")
    assert input_columns(spec) == ("first",)
    assert answerable(spec, {"first": "x"}) == [("x", "x!")]
