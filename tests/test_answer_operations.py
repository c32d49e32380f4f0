"""Answers found in a context: by their words, or by numbers of words."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muppet_zoo.answer_operations import KeepWords, Locate
from muppet_zoo.rows import RowProblem

CONTEXT = "It is known that Anna met Bo (no. 3) and Anna-Lena. Bo said no."


def located(answers: str | list[str], *, ignore_case: bool = False) -> dict[int, str]:
    locate = Locate(
        context="context", answers="answers", into_answers="texts", into_starts="starts",
        ignore_case=ignore_case,
    )  # fmt: skip
    (row,) = locate.apply({"context": CONTEXT, "answers": answers})
    return dict(zip(row["starts"], row["texts"], strict=True))


def test_only_whole_words_are_answers() -> None:
    assert located("no") == {CONTEXT.index("no."): "no"}
    assert located("Anna-Lena.") == {CONTEXT.index("Anna-L"): "Anna-Lena."}
    assert located("(no") == {CONTEXT.index("(no"): "(no"}
    with pytest.raises(RowProblem, match="none of"):
        located("now")


def test_answers_that_do_not_occur_are_left_out_and_the_order_stays() -> None:
    assert list(located(["Zoe", "Bo", "Anna", " ", "Bo"]).values()) == ["Bo", "Anna"]


def test_case_is_ignored_where_the_spec_says_so_and_the_context_spells() -> None:
    assert located(["ANNA", "anna", "bO SAID"], ignore_case=True) == {17: "Anna", 52: "Bo said"}
    with pytest.raises(RowProblem, match="none of"):
        located(["ANNA"])


def test_of_two_answers_at_one_place_the_longer_stands() -> None:
    assert located(["Bo", "Bo (no. 3)", "Anna", "Anna met"]) == {26: "Bo (no. 3)", 17: "Anna met"}


@given(st.text(max_size=30), st.lists(st.text(max_size=5), max_size=4), st.booleans())
def test_what_is_located_stands_there(context: str, answers: list[str], ignore_case: bool) -> None:
    locate = Locate(
        context="c", answers="a", into_answers="t", into_starts="s", ignore_case=ignore_case,
        if_missing="drop",
    )  # fmt: skip
    for row in locate.apply({"c": context, "a": answers}):
        assert row["t"]
        for text, start in zip(row["t"], row["s"], strict=True):
            assert context[start : start + len(text)] == text
            assert text.strip()


# --- words -----------------------------------------------------------------------------------

WORDS = ["<P>", "Rain", "fell", "<B>", "all", "</B>", "day", "</P>", "Sun"]
MARKUP = [word.startswith("<") for word in WORDS]


def kept(spans: list[tuple[int, int]], first: int = 0, end: int = len(WORDS)) -> dict[str, Any]:
    operation = KeepWords(
        words="words", drop_where_true="markup", into="text", first="first", end="end",
        starts="starts", ends="ends", into_answers="texts", into_starts="at",
    )  # fmt: skip
    row = {
        "words": WORDS, "markup": MARKUP, "first": first, "end": end,
        "starts": [s for s, _ in spans], "ends": [e for _, e in spans],
    }  # fmt: skip
    (result,) = operation.apply(row)
    return {key: result[key] for key in ("text", "texts", "at")}


def test_answers_are_found_by_their_numbers_of_words() -> None:
    text = "Rain fell all day Sun"
    assert kept([(2, 5)]) == {"text": text, "texts": ["fell all"], "at": [5]}
    assert kept([(8, 9), (0, 2)]) == {"text": text, "texts": ["Sun", "Rain"], "at": [18, 0]}


def test_only_the_named_stretch_of_words_is_kept() -> None:
    assert kept([(4, 7)], 2, 8) == {"text": "fell all day", "texts": ["all day"], "at": [5]}
    assert kept([(0, 2), (2, 3)], 2, 3) == {"text": "fell", "texts": ["fell"], "at": [0]}


@pytest.mark.parametrize(
    ("spans", "first", "end"),
    [([], 0, 9), ([(0, 1)], 0, 9), ([(1, 2)], 2, 9), ([(1, 2)], -1, -1), ([(3, 3)], 0, 9)],
)
def test_an_answer_outside_the_kept_words_is_none(
    spans: list[tuple[int, int]], first: int, end: int
) -> None:
    with pytest.raises(RowProblem, match="no answer is among the words that are kept"):
        kept(spans, first, end)


def test_answers_have_as_many_first_as_last_words() -> None:
    operation = KeepWords(
        words="w", drop_where_true="m", into="t", starts="s", ends="e", into_answers="a",
        into_starts="b",
    )  # fmt: skip
    with pytest.raises(RowProblem, match="1 first words of answers but 0 last ones"):
        list(operation.apply({"w": ["x"], "m": [False], "s": [0], "e": []}))


@given(st.data())
def test_an_answers_text_stands_at_its_character(data: st.DataObject) -> None:
    words = data.draw(st.lists(st.sampled_from(WORDS), min_size=1, max_size=12))
    markup = [word.startswith("<") for word in words]
    first = data.draw(st.integers(-1, len(words)))
    end = data.draw(st.integers(-1, len(words) + 2))
    numbers = st.integers(0, len(words))
    spans = data.draw(st.lists(st.tuples(numbers, numbers), max_size=3))
    operation = KeepWords(
        words="w", drop_where_true="m", into="t", first="f", end="l", starts="s", ends="e",
        into_answers="a", into_starts="b", if_missing="drop",
    )  # fmt: skip
    row = {
        "w": words, "m": markup, "f": first, "l": end,
        "s": [s for s, _ in spans], "e": [e for _, e in spans],
    }  # fmt: skip
    for result in operation.apply(row):
        for text, start in zip(result["a"], result["b"], strict=True):
            assert text
            assert result["t"][start : start + len(text)] == text
