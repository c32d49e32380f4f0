"""Spans and windows: every answer within reach, and every position where it should be."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muppet_zoo.formats import Segments
from muppet_zoo.rows import RowProblem
from muppet_zoo.spans import NO_ANSWER, UNKNOWN, WINDOW_OVERLAP_TOKENS, Span, SpanTarget, Window

SPAN = Span(answers="y", answer_starts="at")
OPEN = Span(answers="y", answer_starts="at", no_answer=True)
CLS, SEP = -1, -2


@dataclass(kw_only=True)
class WordEncoding:
    """[CLS] question [SEP] context [SEP], one token a word; a token's id is its number."""

    question: str
    context: str
    num_separators: int = 1

    def __post_init__(self) -> None:
        question = [(m.span(), 0) for m in re.finditer(r"\w+", self.question)]
        context = [(m.span(), 1) for m in re.finditer(r"\w+", self.context)]
        special: list[Any] = [((0, 0), None)]
        tokens = special + question + special * self.num_separators + context + special
        self.offsets = [offset for offset, _ in tokens]
        self.sequence_ids = [sequence for _, sequence in tokens]
        self.ids = list(range(len(tokens)))
        self.word_ids: list[int | None] = []
        self.overflowing: list[Any] = []


def windows(
    context: str,
    *answers: str,
    question: str = "who ran",
    max_tokens: int = 20,
    every_window: bool = True,
    head: Span = SPAN,
) -> list[Window]:
    target = SpanTarget(context=context, answers=answers, starts=tuple(map(context.index, answers)))
    encoding = WordEncoding(question=question, context=context)
    return head.windows(target, context, encoding, max_tokens, every_window=every_window)


def text_of(window: Window) -> str:
    first, last = window.target
    return window.context[window.offsets[first][0] : window.offsets[last][1]]


def numbered(count: int) -> str:
    return " ".join(f"w{i}x" for i in range(count))


def test_a_context_that_fits_is_one_window_with_all_of_its_text() -> None:
    (window,) = windows("  The cat sat. ", "cat", max_tokens=8)
    assert window.context == "  The cat sat. "
    assert window.ids == list(range(8))
    assert window.target == (5, 5)
    assert text_of(window) == "cat"
    assert not window.overflowing


def test_a_long_context_is_cut_into_windows_that_overlap() -> None:
    # 13 tokens of context fit beside [CLS] who ran [SEP] … [SEP]; of them 6 are shared.
    made = windows(numbered(30), "w9x w10x", max_tokens=18)
    assert [w.context.split()[0] for w in made] == ["w0x", "w7x", "w14x", "w17x"]
    assert [w.context.split()[-1] for w in made] == ["w12x", "w19x", "w26x", "w29x"]
    assert {len(w.ids) for w in made} == {18}
    assert [w.target for w in made] == [(13, 14), (6, 7), UNKNOWN, UNKNOWN]
    assert {text_of(w) for w in made[:2]} == {"w9x w10x"}
    assert not any(w.is_lost for w in made)
    for window in made:
        assert window.ids[:4] == [0, 1, 2, 3]
        assert window.ids[-1] == 34
        assert window.sequence_ids == [None, 0, 0, None, *[1] * 13, None]
        assert window.offsets[:4] == [(0, 0)] * 4
        assert window.offsets[-1] == (0, 0)


def test_training_leaves_out_windows_it_could_not_learn_from() -> None:
    assert len(windows(numbered(30), "w9x", max_tokens=18, every_window=False)) == 2
    (kept,) = windows(numbered(30), numbered(20), max_tokens=18, every_window=False)
    assert kept.target == UNKNOWN
    assert kept.is_lost


def test_an_answer_too_long_for_any_window_is_counted_once() -> None:
    made = windows(numbered(30), numbered(20), max_tokens=18)
    assert {w.target for w in made} == {UNKNOWN}
    assert [w.is_lost for w in made] == [True, False, False, False]
    columns = SPAN.target_columns(range(4), made, pa.uint16())
    assert columns.num_cut == 1


def test_of_several_answers_the_first_that_a_window_holds_is_its_target() -> None:
    made = windows(numbered(30), "w28x", "w1x", "w3x", "w11x w12x w13x", max_tokens=18)
    assert [w.target == UNKNOWN for w in made] == [False, False, True, False]
    assert [text_of(w) for w in made if w.target != UNKNOWN] == ["w1x", "w11x w12x w13x", "w28x"]
    assert {w.answers for w in made} == {("w28x", "w1x", "w3x", "w11x w12x w13x")}


def test_a_window_without_the_answer_has_none_where_the_spec_knows_of_that() -> None:
    for every_window in (True, False):
        made = windows(numbered(30), "w9x", max_tokens=18, head=OPEN, every_window=every_window)
        assert [w.target for w in made] == [(13, 13), (6, 6), NO_ANSWER, NO_ANSWER]
    assert {w.target for w in windows(numbered(30), max_tokens=18, head=OPEN)} == {NO_ANSWER}
    # An answer that no window holds is not the same as no answer.
    made = windows(numbered(30), numbered(20), max_tokens=18, head=OPEN)
    assert {w.target for w in made} == {UNKNOWN}


def test_unlabelled_rows_have_every_window() -> None:
    encoding = WordEncoding(question="who", context=numbered(30))
    for head in (SPAN, OPEN):
        made = head.windows(None, numbered(30), encoding, 18, every_window=True)
        assert {w.target for w in made} == {UNKNOWN}
        assert {w.answers for w in made} == {()}
        assert not any(w.is_lost for w in made)


@pytest.mark.parametrize(
    ("num_question", "num_context", "kept"),
    [(3, 3, 3), (9, 3, 9), (12, 3, 10), (12, 20, 6), (30, 20, 6), (5, 20, 5), (0, 20, 0)],
)
def test_a_long_question_gives_way_but_for_half_of_the_room(
    num_question: int, num_context: int, kept: int
) -> None:
    made = windows(numbered(num_context), question=numbered(num_question), max_tokens=16, head=OPEN)
    assert {w.sequence_ids.count(0) for w in made} == {kept}
    assert {bool(w.overflowing) for w in made} == {kept < num_question}
    assert {len(w.ids) for w in made} <= {16, num_question + num_context + 3}
    for window in made:  # the question loses its end, the special tokens stay
        question_end = 1 + num_question
        assert window.ids[: kept + 2] == [*range(kept + 1), question_end]


def test_a_context_without_tokens_is_one_window() -> None:
    encoding = WordEncoding(question="who", context="...")
    target = SpanTarget(context="...", answers=("..",), starts=(0,))
    (window,) = SPAN.windows(target, "...", encoding, 16, every_window=True)
    assert window.target == UNKNOWN
    assert window.is_lost


@given(st.data())
def test_every_answer_of_a_few_tokens_is_whole_in_a_window(data: st.DataObject) -> None:
    num_question = data.draw(st.integers(0, 40))
    num_context = data.draw(st.integers(1, 400))
    max_tokens = data.draw(st.sampled_from([5, 9, 16, 40, 100, 128]))
    context = numbered(num_context)
    words = context.split()
    num_separators = data.draw(st.integers(1, 2))
    encoding = WordEncoding(
        question=numbered(num_question), context=context, num_separators=num_separators
    )
    room = max_tokens - 2 - num_separators
    overlap = min(WINDOW_OVERLAP_TOKENS, (room - min(num_question, room // 2)) // 2)
    first = data.draw(st.integers(0, num_context - 1))
    last = min(num_context, first + data.draw(st.integers(1, max(1, overlap)))) - 1
    answer, start = " ".join(words[first : last + 1]), len(" ".join(words[:first])) + (first > 0)
    target = SpanTarget(context=context, answers=(answer,), starts=(start,))

    made = SPAN.windows(target, context, encoding, max_tokens, every_window=True)
    assert any(w.target != UNKNOWN for w in made)
    for window in made:
        assert len(window.ids) <= max_tokens
        assert len(window.ids) == len(window.offsets) == len(window.sequence_ids)
        assert (window.target != UNKNOWN) == (answer in window.context)
        if window.target != UNKNOWN:
            assert text_of(window) == answer
        inside = [i for i, sequence in enumerate(window.sequence_ids) if sequence == 1]
        assert [window.context[slice(*window.offsets[i])] for i in inside] == window.context.split()
    assert {word for w in made for word in w.context.split()} == set(words)
    trained = SPAN.windows(target, context, encoding, max_tokens, every_window=False)
    assert trained == [w for w in made if w.target != UNKNOWN]


# --- targets ---------------------------------------------------------------------------------


def test_no_answers_are_a_target_only_where_the_spec_says_so() -> None:
    segments = Segments(sequences=(("Who?", "The cat sat."),))
    empty = SpanTarget(context="The cat sat.", answers=(), starts=())
    assert OPEN.read_target({"y": [], "at": []}, segments) == empty
    with pytest.raises(RowProblem, match="at least one is needed"):
        SPAN.read_target({"y": [], "at": []}, segments)
    with pytest.raises(RowProblem, match="0 answers with 1 offsets"):
        OPEN.read_target({"y": [], "at": [3]}, segments)


def test_the_columns_of_windows() -> None:
    made = windows(numbered(30), "w9x w10x", max_tokens=18)
    columns = SPAN.target_columns([0, 1, 2, 3], made, pa.uint16()).columns
    assert columns["window"].to_pylist() == [0, 1, 2, 3]
    assert columns["target"].to_pylist() == [[13, 14], [6, 7], [-1, -1], [-1, -1]]
    assert columns["context"].to_pylist() == [w.context for w in made]
    assert columns["answers"].to_pylist() == [["w9x w10x"]] * 4
    assert [len(offsets) for offsets in columns["offsets"].to_pylist()] == [36] * 4
