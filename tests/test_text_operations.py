"""Texts made from texts: marks, flattened lists, options with letters."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muppet_zoo.rows import RowProblem
from muppet_zoo.text_operations import MarkSpan, MarkWords, SplitAt, SplitOptions


def marked(text: str, index: int, phrase: str) -> str:
    mark = MarkWords(column="text", index="index", phrase="phrase", into="text")
    (row,) = mark.apply({"text": text, "index": index, "phrase": phrase})
    return str(row["text"])


@pytest.mark.parametrize(
    ("index", "phrase", "expected"),
    [
        (0, "the old mill", '[The old\nmill] stood "still", so they left it, and it fell.'),
        (4, "still", 'The old\nmill stood "[still]", so they left it, and it fell.'),
        (8, "it.", 'The old\nmill stood "still", so they left [it], and it fell.'),
        (10, "it", 'The old\nmill stood "still", so they left it, and [it] fell.'),
    ],
)
def test_a_phrase_is_marked_where_its_word_stands(index: int, phrase: str, expected: str) -> None:
    text = 'The old\nmill stood "still", so they left it, and it fell.'
    assert marked(text, index, phrase) == expected


def test_a_phrase_that_begins_in_a_later_word_is_refused() -> None:
    with pytest.raises(RowProblem, match=re.escape("'it' does not begin in word 0, 'So'")):
        marked("So they left it.", 0, "it")
    with pytest.raises(RowProblem, match=re.escape("'...' does not begin in word 0, 'So'")):
        marked("So they left it.", 0, "...")
    with pytest.raises(RowProblem, match="there is no word -1"):
        marked("So they left it.", -1, "it")


def test_two_marks_one_after_the_other_keep_the_numbers_of_words() -> None:
    first = marked("Ann told Bo that she won.", 0, "Ann")
    assert marked(first, 4, "she") == "[Ann] told Bo that [she] won."


@given(st.text(min_size=1), st.data())
def test_a_mark_adds_nothing_else(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start + 1, len(text)))
    mark = MarkSpan(column="t", start="s", end="e", into="t", left="<<", right=">>")
    (row,) = mark.apply({"t": text, "s": start, "e": end})
    found = row["t"]
    assert found == f"{text[:start]}<<{text[start:end]}>>{text[end:]}"


@given(st.text(alphabet="a_ "))
def test_a_text_is_cut_once_or_refused(text: str) -> None:
    cut = SplitAt(column="t", marker="_", left="l", right="r")
    if text.count("_") == 1:
        (row,) = cut.apply({"t": text})
        assert row["l"] + "_" + row["r"] == text
    else:
        with pytest.raises(RowProblem, match="once is expected"):
            list(cut.apply({"t": text}))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        # The first four are the shapes that MathQA has, the fifth is AQuA's.
        ("a ) 38 , b ) 27.5 , c ) none", ["38", "27.5", "none"]),
        ("a ) 1,200 , b ) 12,00 , c ) 5 , 5", ["1,200", "12,00", "5 , 5"]),
        ("['a ) 2 : 3', 'b ) 4 : 5 .', 'c ) it's']", ["2 : 3", "4 : 5 .", "it's"]),
        ("['a ) a ) 4 inches', 'b ) b ) 6 inches']", ["4 inches", "6 inches"]),
        (["A)21", "B) 21.5", "C)A)3"], ["21", "21.5", "A)3"]),
        (["none", "a few"], ["none", "a few"]),
        ("a ) x = ( a ) , b ) x = ( b )", ["x = ( a )", "x = ( b )"]),
        ("a ) rs . 400 , b ) rs . 300 , e ) 2 , c ) 7", ["rs . 400", "rs . 300 , e ) 2", "7"]),
        ("A) 1, B) 2", ["1", "2"]),
    ],
)
def test_options_with_letters_are_split(options: str | list[str], expected: list[str]) -> None:
    (row,) = SplitOptions(column="options", into="options").apply({"options": options})
    assert row["options"] == expected


@pytest.mark.parametrize("options", ["", "38", "a ) 38", "a ) , b ) 2", ["A)", "B) 1"], ["A) 1"]])
def test_options_that_cannot_be_split_are_refused(options: str | list[str]) -> None:
    with pytest.raises(RowProblem, match="no options"):
        list(SplitOptions(column="options", into="options").apply({"options": options}))


PLAIN = st.text(alphabet="0123456789xyz .:/%", min_size=1, max_size=9).map(str.strip).filter(bool)


@given(st.lists(PLAIN, min_size=2, max_size=5))
def test_options_come_back_as_they_were_joined(options: list[str]) -> None:
    text = " , ".join(f"{letter} ) {o}" for letter, o in zip("abcde", options, strict=False))
    (row,) = SplitOptions(column="o", into="o").apply({"o": text})
    assert row["o"] == options
