"""Row → text segments: what the encoder is to read, before any tokenizer.

Six formats cover the zoo. Each is a frozen record of templates and column names with one method,
`render`; the names follow the field's: a pair is two segments of one sequence, multiple choice is
one sequence per option (Liu et al. 2019, RoBERTa, section 5 on RACE), extractive question
answering is question and context with the answer inside the context.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from muppet_zoo.rows import Row, RowProblem, Template, as_text, describe, get_list, get_path


class Segments(NamedTuple):
    """What one example gives the tokenizer.

    `sequences` holds (first, second or None), one per sequence: several for multiple choice, else
    one. `words` holds the split words of a `tokens` example, whose one sequence is left empty.
    """

    sequences: tuple[tuple[str, str | None], ...]
    words: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Single:
    """One text."""

    format: ClassVar[str] = "single"
    text: Template

    def columns(self) -> tuple[str, ...]:
        return self.text.columns

    def render(self, row: Row) -> Segments:
        return Segments(sequences=((_text(self.text, row), None),))


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two texts in one sequence, such as premise and hypothesis."""

    format: ClassVar[str] = "pair"
    first: Template
    second: Template

    def columns(self) -> tuple[str, ...]:
        return self.first.columns + self.second.columns

    def render(self, row: Row) -> Segments:
        return Segments(sequences=((_text(self.first, row), _text(self.second, row)),))


@dataclass(frozen=True, kw_only=True)
class MultipleChoice:
    """A context with two or more options; every option is read with the context, none is cut."""

    format: ClassVar[str] = "multiple_choice"
    list_fields: ClassVar[frozenset[str]] = frozenset({"choices"})
    context: Template
    choices: str | tuple[Template, ...]

    def columns(self) -> tuple[str, ...]:
        if isinstance(self.choices, str):
            return (*self.context.columns, self.choices)
        return self.context.columns + tuple(c for choice in self.choices for c in choice.columns)

    def render(self, row: Row) -> Segments:
        context = _text(self.context, row)
        if isinstance(self.choices, str):
            column = self.choices
            options = [as_text(option, column) for option in get_list(row, column)]
        else:
            options = [choice.render(row) for choice in self.choices]
        if len(options) < 2:
            raise RowProblem(f"{len(options)} options; a choice needs at least two")
        empty = [i for i, option in enumerate(options) if not option.strip()]
        if empty:
            raise RowProblem(f"no text in option {empty[0]}")
        return Segments(sequences=tuple((context, option) for option in options))


@dataclass(frozen=True, kw_only=True)
class ExtractiveQA:
    """A question and the context that holds its answer."""

    format: ClassVar[str] = "extractive_qa"
    question: Template
    context: str

    def columns(self) -> tuple[str, ...]:
        return (*self.question.columns, self.context)

    def render(self, row: Row) -> Segments:
        # The context is a bare column: a template would shift the answers' character offsets.
        context = as_text(get_path(row, self.context), self.context)
        if not context.strip():
            raise RowProblem(f"no text in column '{self.context}'")
        return Segments(sequences=((_text(self.question, row), context),))


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """A sentence that is already split into words, one label each."""

    format: ClassVar[str] = "tokens"
    list_fields: ClassVar[frozenset[str]] = frozenset({"tokens"})
    tokens: str

    def columns(self) -> tuple[str, ...]:
        return (self.tokens,)

    def render(self, row: Row) -> Segments:
        words = tuple(as_text(word, self.tokens) for word in get_list(row, self.tokens))
        if not words:
            raise RowProblem(f"no text: column '{self.tokens}' is an empty list")
        if not all(word.strip() for word in words):
            raise RowProblem(f"column '{self.tokens}' has an empty word: {describe(words)}")
        return Segments(sequences=(("", None),), words=words)


@dataclass(frozen=True, kw_only=True)
class TextToText:
    """One text that is answered by another, for encoder-decoders."""

    format: ClassVar[str] = "text_to_text"
    text: Template

    def columns(self) -> tuple[str, ...]:
        return self.text.columns

    def render(self, row: Row) -> Segments:
        return Segments(sequences=((_text(self.text, row), None),))


def _text(template: Template, row: Row) -> str:
    text = template.render(row)
    if not text.strip():
        raise RowProblem(f"no text in '{template.text}'")
    return text


Format = Single | Pair | MultipleChoice | ExtractiveQA | Tokens | TextToText

FORMATS: dict[str, type[Format]] = {
    kind.format: kind for kind in (Single, Pair, MultipleChoice, ExtractiveQA, Tokens, TextToText)
}
