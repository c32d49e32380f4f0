"""Which text columns a model should read, and in which order they make one or two segments.

The conventions are those of the zoo's specs: what asks comes before what is asked about, except
where the text is short enough that nothing of it is cut; what is judged comes second.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from muppet_zoo.add_task.column_roles import LONG_TEXT_WORDS, SENTENCE_WORDS, Column, share

_CONTAINED = 0.95


def text_columns(columns: Sequence[Column]) -> list[Column]:
    """The columns worth reading: texts, without those whose text another one has already."""
    texts = [column for column in columns if column.is_text]
    texts = [c for c in texts if not any(_is_inside(c, other) for other in texts if other is not c)]
    # A title says little beside the text itself and another that belongs with it.
    strong = [c for c in texts if c.words[-1:] not in (("title",), ("headline",))]
    return strong if len(strong) >= 2 else texts


def _is_inside(column: Column, other: Column) -> bool:
    is_shorter = SENTENCE_WORDS <= column.mean_words < other.mean_words
    return is_shorter and _share_inside(column, other) >= _CONTAINED


def _share_inside(column: Column, other: Column) -> float:
    """The share of rows in which the one text stands in the other."""
    rows = [(a, b) for a, b in zip(column.values, other.values, strict=True) if a and b]
    return share(rows, lambda p: isinstance(p[0], str) and isinstance(p[1], str) and p[0] in p[1])


def _is_word_of(column: Column, text: Column) -> bool:
    """Whether this is a word or two of the text, such as the aspect that is asked about."""
    if column.is_aside or column.option_name is not None:
        return False
    is_short = 0 < column.mean_words < SENTENCE_WORDS < text.mean_words
    return is_short and len(set(column.values)) > 1 and _share_inside(column, text) >= _CONTAINED


def read_by(column: Column) -> str:
    """The column that a template names for this one: lists of texts are joined first."""
    return re.sub(r"[.-]", "_", f"{column.path}_text") if column.is_flattened else column.path


def joined(columns: Sequence[Column]) -> str:
    """A template of these columns."""
    return " ".join(f"{{{read_by(column)}}}" for column in columns)


def flatten(columns: Sequence[Column]) -> tuple[Mapping[str, Any], ...]:
    """The operations that join those of these columns that hold lists of texts."""
    return tuple(
        {"op": "flatten", "column": column.path, "into": read_by(column)}
        | ({"titles": column.titles} if column.titles else {})
        for column in columns
        if column.is_flattened
    )


@dataclass(frozen=True, kw_only=True)
class Guess:
    """A kind of task with the parts of a spec that make it, and why.

    inputs, head: as in a spec, without `labels` and `range`. rows: row operations. why: field →
    reason in a phrase.
    """

    format: str
    head: str
    inputs: Mapping[str, Any]
    fields: Mapping[str, Any]
    why: Mapping[str, str]
    rows: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Texts:
    """The columns that a model should read, in the order of the dataset."""

    columns: tuple[Column, ...]

    @classmethod
    def of(cls, columns: Sequence[Column]) -> Texts:
        """The texts among `columns`; where no column reads like one, the longest that could."""
        found = text_columns(columns)
        if not found:
            strings = [c for c in columns if c.kind == "string" and not c.is_identifier]
            found = sorted(strings, key=lambda c: -c.mean_words)[:1]
        if len(found) == 1:
            found += [c for c in columns if c.kind == "string" and _is_word_of(c, found[0])][:1]
        return cls(columns=tuple(found))

    @property
    def operations(self) -> tuple[Mapping[str, Any], ...]:
        """What has to be done before they can be read."""
        return flatten(self.columns)

    def single_or_pair(self) -> tuple[dict[str, str], dict[str, str], Sequence[Column]]:
        """The parts of `inputs`, their reasons, and the columns that are used."""
        if len(self.columns) == 1:
            why = {"format": f"one text column, '{self.columns[0].path}'", "text": "the only text"}
            return {"text": joined(self.columns)}, why, self.columns
        first, second, reason = self._pair()
        used = [*first, *second]
        words = " and ".join(f"{column.mean_words:.0f}" for column in used)
        why = {"format": f"{len(used)} text columns, of {words} words on average"}
        parts = {"first": joined(first), "second": joined(second)}
        return parts, why | dict.fromkeys(parts, reason), used

    def _pair(self) -> tuple[list[Column], list[Column], str]:
        answers = [c for c in self.columns if c.answers]
        asking = [c for c in self.columns if c.asks]
        about = [c for c in self.columns if c not in answers and c not in asking]
        if about and answers and asking:
            if about[0].mean_words >= LONG_TEXT_WORDS:
                return about[:1], [asking[0], answers[0]], "a long text, then what is judged by it"
            return [about[0], asking[0]], answers[:1], "the answer is judged by what goes before"
        longest = sorted(self.columns, key=lambda c: -c.mean_words)[:2]
        one, two = (column for column in self.columns if column in longest)
        if one.answers and not two.answers:
            return [two], [one], "what is judged stands second"
        if two.asks and not one.asks:
            return [two], [one], "what asks stands first"
        return [one], [two], "in the order of the columns"

    def in_one(self) -> tuple[str, str]:
        """One template of all of them, and the reason for their order."""
        columns, why = self.ordered()
        return joined(columns), why

    def ordered(self) -> tuple[list[Column], str]:
        """In the order in which they are read as one text, and why."""
        asking = [c for c in self.columns if c.asks]
        about = [c for c in self.columns if not c.asks]
        if not asking or not about:
            return list(self.columns), "the text that goes with the options"
        if max(c.mean_words for c in about) >= LONG_TEXT_WORDS:
            return [*asking, *about], "the question first, so that no long text cuts it off"
        return [*about, *asking], "the text, then the question about it"
