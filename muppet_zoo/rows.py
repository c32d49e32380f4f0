"""The closed list of row operations, and how a row's fields are reached.

A spec may ask for these steps and no others: they move and select values and evaluate nothing, so
reading a spec from a stranger is safe. Each operation is a frozen record that knows which columns
it needs and leaves (for the checks that run without data) and turns one row into rows. A new one is
added to this file and to `schemas/task_spec.schema.json`; the contract tests pick it up.
"""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

Row = Mapping[str, Any]
Columns = dict[str, str]  # column path -> declared type


class RowProblem(Exception):  # noqa: N818 - it is caught and listed, seldom raised to a user
    """This row cannot be used; the builder adds task, split and row number."""


# --- reaching into a row ---------------------------------------------------------------------


def get_path(row: Row, path: str) -> Any:
    """The value at `outer.inner`.

    Raises:
        RowProblem: when a part of the path is missing.
    """
    value: Any = row
    for part in path.split("."):
        if not isinstance(value, Mapping) or part not in value:
            has = ", ".join(map(str, value)) if isinstance(value, Mapping) else type(value).__name__
            raise RowProblem(f"column '{path}' is missing (found: {has})")
        value = value[part]
    return value


def get_list(row: Row, path: str) -> Sequence[Any]:
    """The list at `path`; a RowProblem when it is anything else."""
    value = get_path(row, path)
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        raise RowProblem(f"column '{path}' holds {describe(value)}, a list is expected")
    return value


def describe(value: Any) -> str:
    """A short form of a value for messages."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def as_text(value: Any, path: str) -> str:
    """A cell as text: strings as they are, numbers and booleans in their usual spelling."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return str(value)
    raise RowProblem(f"column '{path}' holds {describe(value)}, text is expected")


@dataclass(frozen=True)
class Template:
    """Text with `{column}` placeholders, parsed once. Placeholders are names, never expressions."""

    text: str
    parts: tuple[tuple[str, str | None], ...] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", tuple(_parse(self.text)))

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the placeholders name, in order."""
        return tuple(column for _, column in self.parts if column is not None)

    def render(self, row: Row) -> str:
        """The text for this row; a RowProblem when a column is missing or holds no text."""
        pieces = []
        for literal, column in self.parts:
            pieces.append(literal)
            if column is not None:
                pieces.append(as_text(get_path(row, column), column))
        return "".join(pieces)


def _parse(text: str) -> Iterator[tuple[str, str | None]]:
    try:
        parsed = list(string.Formatter().parse(text))
    except ValueError:
        raise ValueError("a brace has no partner; write {{ and }} for literal braces") from None
    for literal, column, format_spec, conversion in parsed:
        if column is None:
            yield literal, None
            continue
        if format_spec or conversion or not all(p.isidentifier() for p in column.split(".")):
            written = column + (f"!{conversion}" if conversion else "")
            written += f":{format_spec}" if format_spec else ""
            raise ValueError(
                f"the placeholder {{{written}}} is not a column name; "
                f"write {{column}}, or {{{{ and }}}} for literal braces"
            )
        yield literal, column


# --- the operations --------------------------------------------------------------------------


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
        return {**_without(columns, *self.columns, *self.columns.values()), **moved}

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
            return _with(columns, {self.into: _element(columns.get(self.column, "any"))})
        fields = {
            self.into + path.removeprefix(self.column): kind
            for path, kind in columns.items()
            if path == self.column or path.startswith(f"{self.column}.")
        }
        return _with(columns, fields or {self.into: "any"})

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
        return _with(columns, {self.into: "string"})

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
        kinds = {_kind(value) for value in self.values.values()}
        return _with(columns, {self.column: kinds.pop() if len(kinds) == 1 else "any"})

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
        elements = {new: _element(columns.get(old, "any")) for old, new in self.columns.items()}
        return _with(columns, elements)

    def apply(self, row: Row) -> Iterator[Row]:
        lists = {new: get_list(row, old) for old, new in self.columns.items()}
        lengths = {old: len(lists[new]) for old, new in self.columns.items()}
        if len(set(lengths.values())) > 1:
            raise RowProblem(f"lists of different lengths: {lengths}")
        for elements in zip(*lists.values(), strict=True):
            yield {**row, **dict(zip(lists, elements, strict=True))}


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


def spelled(value: Any) -> str:
    """A value as a YAML key spells it, so that tables can be written without quotes."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _holds(row: Row, column: str, values: tuple[Any, ...]) -> bool:
    found = get_path(row, column)
    # 1 == True in Python; a filter on the number 1 must not catch the boolean.
    return any(found == value and type(found) is type(value) for value in values)


def _without(columns: Columns, *names: str) -> Columns:
    """All columns but these, and but the fields inside these."""
    return {path: kind for path, kind in columns.items() if path.partition(".")[0] not in names}


def _with(columns: Columns, new: Columns) -> Columns:
    """These columns put in, in place of any of the same name with the fields inside."""
    return {**_without(columns, *(path.partition(".")[0] for path in new)), **new}


def _element(kind: str) -> str:
    return {
        "strings": "string", "integers": "integer", "numbers": "number", "labels": "label"
    }.get(kind, "any")  # fmt: skip


def _kind(value: Any) -> str:
    return {str: "string", bool: "boolean", int: "integer", float: "number"}.get(type(value), "any")


RowOperation = Rename | Pick | Join | MapValues | KeepWhere | DropWhere | Explode

OPERATIONS: dict[str, type[RowOperation]] = {
    operation.op: operation
    for operation in (Rename, Pick, Join, MapValues, KeepWhere, DropWhere, Explode)
}
