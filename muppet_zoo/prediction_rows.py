"""Rows that are to be answered → examples: what a spec says about inputs, without the target.

A row that somebody wants an answer for has no label, or one that means nothing, such as -1. So of a
spec's operations only those are carried out that the inputs depend on. Which these are is read off
the spec, never off a row: from what the operations need and leave, from the last to the first.
Filters are left out with the others: every row is answered.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from muppet_zoo.answer_operations import KeepWords
from muppet_zoo.examples import Example
from muppet_zoo.heads import TokenClassification
from muppet_zoo.row_operations import Explode, Rename, RowOperation, apply_operations
from muppet_zoo.rows import Row
from muppet_zoo.spec import TaskSpec


def input_operations(spec: TaskSpec) -> tuple[RowOperation, ...]:
    """The spec's operations that its inputs depend on, in order."""
    return _sliced(spec)[0]


def input_columns(spec: TaskSpec) -> tuple[str, ...]:
    """The columns of a source row that the inputs are made of, sorted; nested ones by outer name.

    What `input_operations` do not make has to be in the row.
    """
    return tuple(sorted(_sliced(spec)[1]))


def _sliced(spec: TaskSpec) -> tuple[tuple[RowOperation, ...], set[str]]:
    names = [_outer_names(spec.source.columns)]
    for operation in spec.rows:
        names.append(_outer_names(operation.leaves(dict.fromkeys(names[-1], "any"))))
    needed = _outer_names(spec.inputs.columns())
    kept: list[RowOperation] = []
    for operation, before in zip(reversed(spec.rows), reversed(names[:-1]), strict=True):
        written = _written(operation, before) & needed
        if written:
            own = _narrowed(operation, needed)
            kept.append(own)
            needed = (needed - written) | _outer_names(own.needs())
    return tuple(reversed(kept)), needed


def _written(operation: RowOperation, names: set[str]) -> set[str]:
    """Columns that are new afterwards or no longer what they were."""
    before = {name: f"of column {name}" for name in names}  # a type that no operation states
    after = operation.leaves(before)
    return _outer_names(name for name, kind in after.items() if before.get(name) != kind)


def _narrowed(operation: RowOperation, needed: set[str]) -> RowOperation:
    """The operation without the part that makes nothing of what is needed."""
    if isinstance(operation, Rename | Explode):
        columns = {old: new for old, new in operation.columns.items() if new in needed}
        return replace(operation, columns=columns)
    if isinstance(operation, KeepWords):
        return replace(operation, starts=None, ends=None, into_answers=None, into_starts=None)
    return operation


def _outer_names(columns: Iterable[str]) -> set[str]:
    return {column.partition(".")[0] for column in columns}


def examples_to_answer(
    spec: TaskSpec, operations: tuple[RowOperation, ...], number: int, row: Row
) -> list[Example]:
    """The examples of row `number`, several when it is exploded, without targets.

    Of a sequence of words the target is their numbers, so that each tag can be laid at its word.

    Raises:
        RowProblem: the row lacks a column of the inputs, or holds no text there.
    """
    examples = []
    for result in apply_operations(operations, row):
        segments = spec.inputs.render(result)
        is_tagged = isinstance(spec.head, TokenClassification)
        target = tuple(range(len(segments.words or ()))) if is_tagged else None
        examples.append(Example(row=number, segments=segments, target=target))
    return examples
