"""The closed list of row operations.

A spec may ask for these steps and no others: they move, select and cut values and evaluate
nothing, so reading a spec from a stranger is safe. Each operation is a frozen record that knows
which columns it needs and leaves (for the checks that run without data) and turns one row into
rows. Those that write texts or find answers are in `text_operations.py` and
`answer_operations.py`. A new one is added to one of these files and to
`schemas/task_spec.schema.json`; the contract tests pick it up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from muppet_zoo.answer_operations import KeepWords, Locate
from muppet_zoo.rows import (
    Columns,
    Row,
    RowProblem,
    Template,
    describe,
    element,
    get_list,
    get_path,
    kind_of,
    spelled,
    with_columns,
    without,
)
from muppet_zoo.text_operations import (
    Flatten,
    MarkSpan,
    MarkWords,
    ReplaceText,
    SplitAt,
    SplitOptions,
)


@dataclass(frozen=True, kw_only=True)
class Rename:
    """Give columns other names."""

    op: ClassVar[str] = "rename"
    columns: Mapping[str, str]

    def needs(self) -> tuple[str, ...]:
        return tuple(self.columns)

    def leaves(self, columns: Columns) -> Columns:
        moved = {}
        for path, kind in columns.items():
            outer, dot, inner = path.partition(".")
            if outer in self.columns:
                moved[self.columns[outer] + dot + inner] = kind
        return {**without(columns, *self.columns, *self.columns.values()), **moved}

    def apply(self, row: Row) -> Iterator[Row]:
        moved = {new: get_path(row, old) for old, new in self.columns.items()}
        gone = {*self.columns, *moved}
        yield {**{name: value for name, value in row.items() if name not in gone}, **moved}


@dataclass(frozen=True, kw_only=True)
class Pick:
    """Copy a nested field, or one element of a list, into a column of its own."""

    op: ClassVar[str] = "pick"
    column: str
    into: str
    index: int | None = None

    def needs(self) -> tuple[str, ...]:
        return (self.column,)

    def leaves(self, columns: Columns) -> Columns:
        if self.index is not None:
            return with_columns(columns, {self.into: element(columns.get(self.column, "any"))})
        fields = {
            self.into + path.removeprefix(self.column): kind
            for path, kind in columns.items()
            if path == self.column or path.startswith(f"{self.column}.")
        }
        return with_columns(columns, fields or {self.into: "any"})

    def apply(self, row: Row) -> Iterator[Row]:
        if self.index is None:
            yield {**row, self.into: get_path(row, self.column)}
            return
        values = get_list(row, self.column)
        if not -len(values) <= self.index < len(values):
            raise RowProblem(
                f"column '{self.column}' has {len(values)} elements, no [{self.index}]"
            )
        yield {**row, self.into: values[self.index]}


@dataclass(frozen=True, kw_only=True)
class Join:
    """Write a column from a template."""

    op: ClassVar[str] = "join"
    template: Template
    into: str

    def needs(self) -> tuple[str, ...]:
        return self.template.columns

    def leaves(self, columns: Columns) -> Columns:
        return with_columns(columns, {self.into: "string"})

    def apply(self, row: Row) -> Iterator[Row]:
        yield {**row, self.into: self.template.render(row)}


@dataclass(frozen=True, kw_only=True)
class MapValues:
    """Replace a column's values by a table that must be complete."""

    op: ClassVar[str] = "map_values"
    column: str
    values: Mapping[str, Any]

    def needs(self) -> tuple[str, ...]:
        return (self.column,)

    def leaves(self, columns: Columns) -> Columns:
        kinds = {kind_of(value) for value in self.values.values()}
        return with_columns(columns, {self.column: kinds.pop() if len(kinds) == 1 else "any"})

    def apply(self, row: Row) -> Iterator[Row]:
        key = spelled(get_path(row, self.column))
        if key not in self.values:
            allowed = ", ".join(self.values)
            raise RowProblem(
                f"column '{self.column}' holds {key!r}, which is not one of: {allowed}"
            )
        yield {**row, self.column: self.values[key]}


@dataclass(frozen=True, kw_only=True)
class KeepWhere:
    """Keep only rows whose column holds one of the values."""

    op: ClassVar[str] = "keep_where"
    column: str
    values: tuple[Any, ...]

    def needs(self) -> tuple[str, ...]:
        return (self.column,)

    def leaves(self, columns: Columns) -> Columns:
        return columns

    def apply(self, row: Row) -> Iterator[Row]:
        if _holds(row, self.column, self.values):
            yield row


@dataclass(frozen=True, kw_only=True)
class DropWhere:
    """Leave out rows whose column holds one of the values, such as -1 for 'no agreement'."""

    op: ClassVar[str] = "drop_where"
    column: str
    values: tuple[Any, ...]

    def needs(self) -> tuple[str, ...]:
        return (self.column,)

    def leaves(self, columns: Columns) -> Columns:
        return columns

    def apply(self, row: Row) -> Iterator[Row]:
        if not _holds(row, self.column, self.values):
            yield row


@dataclass(frozen=True, kw_only=True)
class Explode:
    """One new row per element of a list column; several lists are walked together."""

    op: ClassVar[str] = "explode"
    list_fields: ClassVar[frozenset[str]] = frozenset({"columns"})
    columns: Mapping[str, str]

    def needs(self) -> tuple[str, ...]:
        return tuple(self.columns)

    def leaves(self, columns: Columns) -> Columns:
        elements = {new: element(columns.get(old, "any")) for old, new in self.columns.items()}
        return with_columns(columns, elements)

    def apply(self, row: Row) -> Iterator[Row]:
        lists = {new: get_list(row, old) for old, new in self.columns.items()}
        lengths = {old: len(lists[new]) for old, new in self.columns.items()}
        if len(set(lengths.values())) > 1:
            raise RowProblem(f"lists of different lengths: {lengths}")
        for elements in zip(*lists.values(), strict=True):
            yield {**row, **dict(zip(lists, elements, strict=True))}


@dataclass(frozen=True, kw_only=True)
class Bin:
    """The number of bounds that a number has reached: a label of ascending classes."""

    op: ClassVar[str] = "bin"
    column: str
    bounds: tuple[float, ...]
    into: str

    def needs(self) -> tuple[str, ...]:
        return (self.column,)

    def leaves(self, columns: Columns) -> Columns:
        return with_columns(columns, {self.into: "label"})

    def apply(self, row: Row) -> Iterator[Row]:
        value = get_path(row, self.column)
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
            found = describe(value)
            raise RowProblem(f"column '{self.column}' holds {found}, a number is expected")
        yield {**row, self.into: sum(value >= bound for bound in self.bounds)}


@dataclass(frozen=True, kw_only=True)
class Flags:
    """The positions of those columns that hold 1, for datasets with one column per label."""

    op: ClassVar[str] = "flags"
    columns: tuple[str, ...]
    into: str

    def needs(self) -> tuple[str, ...]:
        return self.columns

    def leaves(self, columns: Columns) -> Columns:
        return with_columns(columns, {self.into: "labels"})

    def apply(self, row: Row) -> Iterator[Row]:
        yield {**row, self.into: [i for i, c in enumerate(self.columns) if _is_set(row, c)]}


def apply_operations(operations: Sequence[RowOperation], row: Row) -> Iterator[Row]:
    """The rows that `row` becomes, in order; none when a filter drops it.

    Raises:
        RowProblem: when an operation cannot be carried out on this row.
    """
    if not operations:
        yield row
        return
    for result in operations[0].apply(row):
        yield from apply_operations(operations[1:], result)


def _is_set(row: Row, column: str) -> bool:
    value = get_path(row, column)
    if not isinstance(value, bool | int | float) or value not in (0, 1):
        raise RowProblem(f"column '{column}' holds {describe(value)}, 0 or 1 is expected")
    return bool(value)


def _holds(row: Row, column: str, values: tuple[Any, ...]) -> bool:
    found = get_path(row, column)
    # 1 == True in Python; a filter on the number 1 must not catch the boolean.
    return any(found == value and type(found) is type(value) for value in values)


RowOperation = (
    Rename
    | Pick
    | Join
    | MapValues
    | KeepWhere
    | DropWhere
    | Explode
    | Bin
    | Flags
    | MarkSpan
    | MarkWords
    | Locate
    | Flatten
    | SplitAt
    | SplitOptions
    | ReplaceText
    | KeepWords
)

OPERATIONS: dict[str, type[RowOperation]] = {
    operation.op: operation
    for operation in (
        Rename,
        Pick,
        Join,
        MapValues,
        KeepWhere,
        DropWhere,
        Explode,
        Bin,
        Flags,
        MarkSpan,
        MarkWords,
        Locate,
        Flatten,
        SplitAt,
        SplitOptions,
        ReplaceText,
        KeepWords,
    )
}
