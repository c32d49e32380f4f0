"""Row operations that find answers in a context, for the span head.

Datasets say where an answer stands by numbers of words, or not at all. These records give what the
head reads: answer texts, and the character in the context at which each begins. Part of the closed
list in `row_operations.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

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
class Locate:
    """Find answers, a text or a list of them, as whole words of the context.

    `into_answers` gets those that occur, as the context spells them, in the order given;
    `into_starts` the character at which each occurs first. Where none occurs the row is bad, or
    dropped with `if_missing: drop`.
    """

    op: ClassVar[str] = "locate"
    context: str
    answers: str
    into_answers: str
    into_starts: str
    ignore_case: bool = False
    if_missing: str = "error"

    def needs(self) -> tuple[str, ...]:
        return (self.context, self.answers)

    def leaves(self, columns: Columns) -> Columns:
        return with_columns(columns, {self.into_answers: "strings", self.into_starts: "integers"})

    def apply(self, row: Row) -> Iterator[Row]:
        context = as_text(get_path(row, self.context), self.context)
        value = get_path(row, self.answers)
        listed = [value] if isinstance(value, str) else get_list(row, self.answers)
        answers = [as_text(answer, self.answers) for answer in listed]
        spans: dict[int, str] = {}
        for answer in answers:
            found = _whole_words(answer, ignore_case=self.ignore_case).search(context)
            # Two spellings of an answer that stand at one place are one answer, the longer.
            if found and answer.strip() and len(found[0]) > len(spans.get(found.start(), "")):
                spans[found.start()] = found[0]
        if spans:
            found_answers = {self.into_answers: list(spans.values())}
            yield {**row, **found_answers, self.into_starts: list(spans)}
        elif self.if_missing == "error":
            raise RowProblem(f"none of {describe(answers)} occurs in '{self.context}'")


@dataclass(frozen=True, kw_only=True)
class KeepWords:
    """Join the words of a list whose flag is not set, such as all that is not markup.

    `first` and `end` name numbers of words: only the words from `first` up to `end` are kept.
    `starts` and `ends` name lists of such numbers, the answers in the full list of words; their
    texts and characters in the joined text go into `into_answers` and `into_starts`. An answer
    that is not among the kept words is left out; where none is left, the row is bad, or dropped
    with `if_missing: drop`.
    """

    op: ClassVar[str] = "keep_words"
    list_fields: ClassVar[frozenset[str]] = frozenset({"words", "starts", "ends"})
    words: str
    drop_where_true: str
    into: str
    first: str | None = None
    end: str | None = None
    starts: str | None = None
    ends: str | None = None
    into_answers: str | None = None
    into_starts: str | None = None
    if_missing: str = "error"

    def needs(self) -> tuple[str, ...]:
        named = (self.words, self.drop_where_true, self.first, self.end, self.starts, self.ends)
        return tuple(column for column in named if column is not None)

    def leaves(self, columns: Columns) -> Columns:
        new = {self.into: "string"}
        if self.into_answers is not None and self.into_starts is not None:
            new |= {self.into_answers: "strings", self.into_starts: "integers"}
        return with_columns(columns, new)

    def apply(self, row: Row) -> Iterator[Row]:
        words, kept = self._kept(row)
        text = " ".join(words[i] for i in kept)
        if self.starts is None or self.ends is None:
            yield {**row, self.into: text}
            return
        at, begins = 0, {}  # number of a kept word -> its first character in the text
        for i in kept:
            begins[i] = at
            at += len(words[i]) + 1
        starts, ends = get_list(row, self.starts), get_list(row, self.ends)
        if len(starts) != len(ends):
            raise RowProblem(f"{len(starts)} first words of answers but {len(ends)} last ones")
        answers = {}  # first character -> text
        for start, end in zip(starts, ends, strict=True):
            inside = [i for i in range(start, end) if i in begins]
            if inside:
                answers[begins[inside[0]]] = " ".join(words[i] for i in inside)
        if answers:
            found = {self.into_answers: list(answers.values()), self.into_starts: list(answers)}
            yield {**row, self.into: text, **found}  # type: ignore[dict-item]
        elif self.if_missing == "error":
            raise RowProblem("no answer is among the words that are kept")

    def _kept(self, row: Row) -> tuple[list[str], list[int]]:
        """All words, and the numbers of those that are kept."""
        words = [as_text(word, self.words) for word in get_list(row, self.words)]
        flags = get_list(row, self.drop_where_true)
        if len(words) != len(flags):
            raise RowProblem(f"{len(words)} words but {len(flags)} flags")
        first = 0 if self.first is None else get_integer(row, self.first)
        end = len(words) if self.end is None else get_integer(row, self.end)
        return words, [i for i in range(max(first, 0), min(end, len(words))) if not flags[i]]


def _whole_words(answer: str, *, ignore_case: bool) -> re.Pattern[str]:
    """Finds `answer` where it is no part of a longer word: "no" is not in "known"."""
    before = r"(?<!\w)" if re.match(r"\w", answer) else ""
    after = r"(?!\w)" if re.search(r"\w\Z", answer) else ""
    flags = re.IGNORECASE if ignore_case else re.NOFLAG
    return re.compile(before + re.escape(answer) + after, flags)
