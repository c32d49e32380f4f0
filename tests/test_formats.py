"""Every input format: what it renders, which columns it reads, which rows it refuses."""

from __future__ import annotations

import re
from typing import Any

import pytest

from muppet_zoo.formats import (
    FORMATS,
    ExtractiveQA,
    Format,
    MultipleChoice,
    Pair,
    Segments,
    Single,
    TextToText,
    Tokens,
)
from muppet_zoo.rows import RowProblem, Template

ROW: dict[str, Any] = {
    "a": "Rain fell.",
    "b": "It rained.",
    "n": 3,
    "empty": " \n",
    "none": None,
    "words": ["Rain", "fell", 3],
    "one": ["x"],
    "nested": {"texts": ["x", "y", "z"], "text": "inner"},
}


def sequences(*pairs: tuple[str, str | None]) -> Segments:
    return Segments(sequences=pairs)


# Every format: examples with the columns they read and what they render of ROW.
CASES: dict[str, list[tuple[Format, tuple[str, ...], Segments]]] = {
    "single": [
        (Single(text=Template("{a} ({n})")), ("a", "n"), sequences(("Rain fell. (3)", None))),
        (Single(text=Template("{nested.text}")), ("nested.text",), sequences(("inner", None))),
    ],
    "pair": [
        (
            Pair(first=Template("{a}"), second=Template("So: {b}")),
            ("a", "b"),
            sequences(("Rain fell.", "So: It rained.")),
        )
    ],
    "multiple_choice": [
        (
            MultipleChoice(context=Template("{a}"), choices="nested.texts"),
            ("a", "nested.texts"),
            sequences(("Rain fell.", "x"), ("Rain fell.", "y"), ("Rain fell.", "z")),
        ),
        (
            MultipleChoice(context=Template("Q"), choices=(Template("{n}"), Template("no {b}"))),
            ("n", "b"),
            sequences(("Q", "3"), ("Q", "no It rained.")),
        ),
    ],
    "extractive_qa": [
        (
            ExtractiveQA(question=Template("{b}?"), context="a"),
            ("b", "a"),
            sequences(("It rained.?", "Rain fell.")),
        )
    ],
    "tokens": [
        (
            Tokens(tokens="words"),
            ("words",),
            Segments(sequences=(("", None),), words=("Rain", "fell", "3")),
        )
    ],
    "text_to_text": [
        (TextToText(text=Template("say: {a}")), ("a",), sequences(("say: Rain fell.", None)))
    ],
}
ALL = [(name, i) for name in FORMATS for i in range(len(CASES.get(name, [None])))]


@pytest.mark.parametrize(("name", "i"), ALL)
def test_a_format_renders_its_segments(name: str, i: int) -> None:
    assert name in CASES, f"write cases for the format {name}"
    kind, _, expected = CASES[name][i]
    assert type(kind) is FORMATS[name]
    assert kind.render(ROW) == expected


@pytest.mark.parametrize(("name", "i"), ALL)
def test_its_columns_are_what_it_reads(name: str, i: int) -> None:
    kind, columns, expected = CASES[name][i]
    assert kind.columns() == columns
    outer = {column.partition(".")[0] for column in columns}
    assert kind.render({column: ROW[column] for column in outer}) == expected
    for column in outer:
        with pytest.raises(RowProblem, match=f"column '{column}[.a-z]*' is missing"):
            kind.render({other: ROW[other] for other in outer - {column}})


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Single(text=Template("{empty}")), "no text in '{empty}'"),
        (Single(text=Template("{none}")), "column 'none' holds None, text is expected"),
        (Pair(first=Template("{a}"), second=Template("{empty}")), "no text in '{empty}'"),
        (Pair(first=Template("{empty}"), second=Template("{a}")), "no text in '{empty}'"),
        (
            MultipleChoice(context=Template("{a}"), choices="one"),
            "1 options; a choice needs at least two",
        ),
        (
            MultipleChoice(context=Template("{a}"), choices="b"),
            "column 'b' holds 'It rained.', a list is expected",
        ),
        (
            MultipleChoice(context=Template("{a}"), choices=(Template("{a}"), Template("{empty}"))),
            "no text in option 1",
        ),
        (
            MultipleChoice(context=Template("{empty}"), choices="nested.texts"),
            "no text in '{empty}'",
        ),
        (ExtractiveQA(question=Template("{a}"), context="empty"), "no text in column 'empty'"),
        (ExtractiveQA(question=Template("{empty}"), context="a"), "no text in '{empty}'"),
        (
            ExtractiveQA(question=Template("{a}"), context="words"),
            "column 'words' holds ['Rain', 'fell', 3], text is expected",
        ),
        (Tokens(tokens="a"), "column 'a' holds 'Rain fell.', a list is expected"),
        (TextToText(text=Template("{empty}")), "no text in '{empty}'"),
    ],
)
def test_a_row_without_text_is_explained(kind: Format, message: str) -> None:
    with pytest.raises(RowProblem, match=f"^{re.escape(message)}$"):
        kind.render(ROW)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no text: column 'words' is an empty list"),
        (["a", " "], "column 'words' has an empty word: ('a', ' ')"),
        (["a", None], "column 'words' holds None, text is expected"),
    ],
)
def test_words_are_text(words: list[Any], message: str) -> None:
    with pytest.raises(RowProblem, match=f"^{re.escape(message)}$"):
        Tokens(tokens="words").render({"words": words})


def test_the_context_keeps_its_characters() -> None:
    context = "  Rain\tfell. \n"
    rendered = ExtractiveQA(question=Template("{q}"), context="c").render({"q": "?", "c": context})
    assert rendered.sequences[0][1] == context
