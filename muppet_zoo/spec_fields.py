"""A mapping of a spec file ⇄ the record it describes, by the record's own fields.

Row operations, formats and heads are frozen dataclasses whose fields are the keys of the file. What
a field holds is read off its annotation: `Template` is a template, `tuple[Template, ...]` several,
anything else a column name or a plain value. So a new record needs no code here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from muppet_zoo.rows import Template
from muppet_zoo.yaml_reader import DataPath

Record = TypeVar("Record")


@dataclass(frozen=True, kw_only=True)
class Mention:
    """Where a mapping names a column, and what the column must hold: `text`, `list` or None."""

    path: DataPath
    column: str
    at_key: bool = False
    wanted: str | None = None


def record_of(kind: type[Record], raw: Mapping[str, Any]) -> Record:
    """The record of this mapping; keys that are no field are left out.

    Raises:
        ValueError: when a template is malformed.
    """
    templates = dict(templates_of(kind, raw))
    values = {}
    for name in _names(kind):
        if name not in raw:
            continue
        value = raw[name]
        if (name,) in templates:
            value = Template(value)
        elif isinstance(value, list):
            value = tuple(
                Template(item) if (name, i) in templates else item for i, item in enumerate(value)
            )
        values[name] = value
    return kind(**values)


def templates_of(kind: type, raw: Mapping[str, Any]) -> Iterator[tuple[DataPath, str]]:
    """The templates in this mapping, each with its path."""
    for field in fields(kind):
        annotation, value = str(field.type), raw.get(field.name)
        if annotation == "Template" and isinstance(value, str):
            yield (field.name,), value
        elif "tuple[Template" in annotation and isinstance(value, list):
            yield from (((field.name, i), item) for i, item in enumerate(value))


def mentions_of(kind: type, raw: Mapping[str, Any], columns: tuple[str, ...]) -> Iterator[Mention]:
    """Every place in this mapping that names one of `columns`, the columns its record reads."""
    templates = dict(templates_of(kind, raw))
    for path, text in templates.items():
        for column in Template(text).columns:
            yield Mention(path=path, column=column, wanted="text")
    lists: frozenset[str] = getattr(kind, "list_fields", frozenset())
    for name in _names(kind):
        wanted, value = "list" if name in lists else None, raw.get(name)
        if isinstance(value, str) and value in columns and (name,) not in templates:
            yield Mention(path=(name,), column=value, wanted=wanted)
        elif isinstance(value, dict):
            for key in value:
                if key in columns:
                    yield Mention(path=(name, key), column=key, at_key=True, wanted=wanted)
        elif isinstance(value, list):
            for i, item in enumerate(value):
                if item in columns and (name, i) not in templates:
                    yield Mention(path=(name, i), column=item, wanted=wanted)


def _names(kind: type) -> list[str]:
    return [field.name for field in fields(kind) if field.init]
