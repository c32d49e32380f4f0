"""Row operations that write a text, or a list of texts, from another.

Part of the closed list in `row_operations.py`, where the contract of an operation is described.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from muppet_zoo.rows import (
    Columns,
    Row,
    RowProblem,
    as_text,
    describe,
    get_integer,
    get_list,
    get_path,
    with_columns,
)


@dataclass(frozen=True, kw_only=True)
class MarkSpan:
    """Set the characters from `start` up to `end` between two marks."""

    op: ClassVar[str] = "mark_span"
    column: str
    start: str
    end: str
    into: str
    left: str = "["
    right: str = "]"

    def needs(self) -> tuple[str, ...]:
        return (self.column, self.start, self.end)

    def leaves(self, columns: Columns) -> Columns:
        return with_columns(columns, {self.into: "string"})

    def apply(self, row: Row) -> Iterator[Row]:
        text = as_text(get_path(row, self.column), self.column)
        start, end = get_integer(row, self.start), get_integer(row, self.end)
        if not 0 <= start < end <= len(text):
            raise RowProblem(f"characters {start} to {end} are not inside {describe(text)}")
        yield {**row, self.into: _marked(text, start, end, self.left, self.right)}


@dataclass(frozen=True, kw_only=True)
class MarkWords:
    """Set a phrase between two marks where it begins in word number `index`, counted from 0.

    Words are what white space separates. The phrase need not agree in case, in line breaks or in
    the punctuation at its end, in which datasets with word numbers are careless.
    """

    op: ClassVar[str] = "mark_words"
    column: str
    index: str
    phrase: str
    into: str
    left: str = "["
    right: str = "]"

    def needs(self) -> tuple[str, ...]:
        return (self.column, self.index, self.phrase)

    def leaves(self, columns: Columns) -> Columns:
        return with_columns(columns, {self.into: "string"})

    def apply(self, row: Row) -> Iterator[Row]:
        text = as_text(get_path(row, self.column), self.column)
        phrase = as_text(get_path(row, self.phrase), self.phrase)
        index, words = get_integer(row, self.index), list(re.finditer(r"\S+", text))
        if not 0 <= index < len(words):
            raise RowProblem(f"there is no word {index} in {describe(text)}")
        word = words[index]
        pattern = r"\s+".join(re.escape(part) for part in phrase.rstrip(".,;:!? ").split())
        found = re.compile(pattern, re.IGNORECASE).search(text, word.start()) if pattern else None
        if found is None or found.start() >= word.end():
            raise RowProblem(
                f"{describe(phrase)} does not begin in word {index}, {describe(word[0])}"
            )
        yield {**row, self.into: _marked(text, *found.span(), self.left, self.right)}


@dataclass(frozen=True, kw_only=True)
class Flatten:
    """Join a list of texts, or of lists of texts, in reading order.

    Spaces at the ends of each text are dropped, so that `separator` alone stands between them.
    `titles` is a list with one title for each element of the outer list, set before it.
    """

    op: ClassVar[str] = "flatten"
    list_fields: ClassVar[frozenset[str]] = frozenset({"titles"})
    column: str
    into: str
    separator: str = " "
    titles: str | None = None

    def needs(self) -> tuple[str, ...]:
        return (self.column,) if self.titles is None else (self.column, self.titles)

    def leaves(self, columns: Columns) -> Columns:
        return with_columns(columns, {self.into: "string"})

    def apply(self, row: Row) -> Iterator[Row]:
        elements: Sequence[Any] = get_list(row, self.column)
        if self.titles is not None:
            titles = get_list(row, self.titles)
            if len(titles) != len(elements):
                raise RowProblem(f"{len(titles)} titles for {len(elements)} texts")
            elements = list(zip(titles, elements, strict=True))
        texts = (text.strip() for text in _texts(elements, self.column))
        yield {**row, self.into: self.separator.join(text for text in texts if text)}


@dataclass(frozen=True, kw_only=True)
class SplitAt:
    """Cut a text at the only place where the marker occurs, such as the gap `_` in a sentence."""

    op: ClassVar[str] = "split_at"
    column: str
    marker: str
    left: str
    right: str

    def needs(self) -> tuple[str, ...]:
        return (self.column,)

    def leaves(self, columns: Columns) -> Columns:
        return with_columns(columns, {self.left: "string", self.right: "string"})

    def apply(self, row: Row) -> Iterator[Row]:
        parts = as_text(get_path(row, self.column), self.column).split(self.marker)
        if len(parts) != 2:
            raise RowProblem(
                f"column '{self.column}' has the marker {self.marker!r} {len(parts) - 1} times, "
                "once is expected"
            )
        yield {**row, self.left: parts[0], self.right: parts[1]}


@dataclass(frozen=True, kw_only=True)
class SplitOptions:
    """Options with letters, "a ) 38 , b ) 27,5", or a list of them, as a list without letters.

    The letters must follow each other, which is what tells them from a letter in an option's text.
    """

    op: ClassVar[str] = "split_options"
    column: str
    into: str

    def needs(self) -> tuple[str, ...]:
        return (self.column,)

    def leaves(self, columns: Columns) -> Columns:
        return with_columns(columns, {self.into: "strings"})

    def apply(self, row: Row) -> Iterator[Row]:
        value = get_path(row, self.column)
        if isinstance(value, str):
            options = _lettered_options(value)
        else:
            lettered = enumerate(get_list(row, self.column))
            options = [_bare(as_text(text, self.column), i) for i, text in lettered]
        if len(options) < 2 or not all(options):
            raise RowProblem(f"no options a), b), … are found in {describe(value)}")
        yield {**row, self.into: options}


@dataclass(frozen=True, kw_only=True)
class ReplaceText:
    """Put `new` in the place of every `old`; both are plain texts."""

    op: ClassVar[str] = "replace_text"
    column: str
    old: str
    new: str
    into: str

    def needs(self) -> tuple[str, ...]:
        return (self.column,)

    def leaves(self, columns: Columns) -> Columns:
        return with_columns(columns, {self.into: "string"})

    def apply(self, row: Row) -> Iterator[Row]:
        text = as_text(get_path(row, self.column), self.column)
        yield {**row, self.into: text.replace(self.old, self.new)}


def _marked(text: str, start: int, end: int, left: str, right: str) -> str:
    return text[:start] + left + text[start:end] + right + text[end:]


def _texts(elements: Sequence[Any], column: str) -> Iterator[str]:
    for value in elements:
        if isinstance(value, str) or not isinstance(value, Sequence):
            yield as_text(value, column)
        else:
            yield from _texts(value, column)


def _lettered_options(text: str) -> list[str]:
    # MathQA writes some option lists as Python does: "['a ) 12', 'b ) 15']".
    is_python = text.lstrip().startswith("[")
    before = r"(?:^\W*|['\"]\s*,\s*['\"])" if is_python else r"(?:^\s*|,\s*)"
    marks: list[re.Match[str]] = []
    at = 0
    while found := re.compile(rf"{before}{_letter(len(marks))}", re.IGNORECASE).search(text, at):
        marks.append(found)
        at = found.end()
    if not marks:
        return []
    ends = [*(mark.start() for mark in marks[1:]), len(text)]
    options = [text[mark.end() : end] for mark, end in zip(marks, ends, strict=True)]
    if is_python:
        options[-1] = options[-1].rstrip().rstrip("]").rstrip("'\"")
    return [_bare(option, i) for i, option in enumerate(options)]


def _bare(option: str, i: int) -> str:
    """An option without its letter, which MathQA sometimes has twice."""
    return re.sub(rf"^(?:\s*{_letter(i)})+", "", option, flags=re.IGNORECASE).strip()


def _letter(i: int) -> str:
    """Pattern of the mark of option `i`: its letter and a parenthesis."""
    return rf"{chr(ord('a') + i)}\s*\)\s*"
