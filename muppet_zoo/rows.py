"""Rows: how a row's fields are reached, templates, and the declared types of columns.

What formats, heads and row operations share. A row is what `datasets` gives: a mapping of plain
values, lists and mappings; a nested field is written `outer.inner`.
"""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Row = Mapping[str, Any]
Columns = dict[str, str]  # column path -> declared type

# dict first: what readers return, and told without asking the abstract class.
_MAPPINGS = (dict, Mapping)


class RowProblem(Exception):  # noqa: N818 - it is caught and listed, seldom raised to a user
    """This row cannot be used; the builder adds task, split and row number."""


# --- reaching into a row ---------------------------------------------------------------------


def get_path(row: Row, path: str) -> Any:
    """The value at `outer.inner`.

    Raises:
        RowProblem: when a part of the path is missing.
    """
    if path in row and "." not in path:  # nearly always, and twice as fast
        return row[path]
    value: Any = row
    for part in path.split("."):
        if not isinstance(value, _MAPPINGS) or part not in value:
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


def get_integer(row: Row, path: str) -> int:
    """The whole number at `path`; a RowProblem when it is anything else."""
    value = get_path(row, path)
    if isinstance(value, bool) or not isinstance(value, int):
        raise RowProblem(f"column '{path}' holds {describe(value)}, a whole number is expected")
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


def spelled(value: Any) -> str:
    """A value as a YAML key spells it, so that tables can be written without quotes."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


# --- declared types --------------------------------------------------------------------------


def without(columns: Columns, *names: str) -> Columns:
    """All columns but these, and but the fields inside these."""
    return {path: kind for path, kind in columns.items() if path.partition(".")[0] not in names}


def with_columns(columns: Columns, new: Columns) -> Columns:
    """These columns put in, in place of any of the same name with the fields inside."""
    return {**without(columns, *(path.partition(".")[0] for path in new)), **new}


def element(kind: str) -> str:
    """The type of one element of a list of this type."""
    return {
        "strings": "string", "integers": "integer", "numbers": "number", "labels": "label"
    }.get(kind, "any")  # fmt: skip


def kind_of(value: Any) -> str:
    """The type of a plain value."""
    return {str: "string", bool: "boolean", int: "integer", float: "number"}.get(type(value), "any")
