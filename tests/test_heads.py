"""Every head type: how it reads a target, which rows it refuses, what lands in the shard."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muppet_zoo.formats import FORMATS, Segments
from muppet_zoo.generation import Answer, Generation
from muppet_zoo.heads import (
    HEADS,
    Classification,
    Head,
    MultiLabel,
    MultipleChoice,
    Regression,
    TokenClassification,
)
from muppet_zoo.metrics import METRICS
from muppet_zoo.rows import RowProblem, Template
from muppet_zoo.spans import Span, SpanTarget

CONTEXT = "The cat sat."
ONE = Segments(sequences=(("text", None),))
WORDS = Segments(sequences=(("", None),), words=("The", "cat"))
OPTIONS = Segments(sequences=(("q", "a"), ("q", "b"), ("q", "c")))
QA = Segments(sequences=(("Who?", CONTEXT),))

CLASSIFICATION = Classification(target="y", labels=("no", "yes"))
MULTI_LABEL = MultiLabel(target="y", labels=("joy", "fear", "awe"))
REGRESSION = Regression(target="y", range=(0, 5))
TAGS = TokenClassification(target="y", labels=("O", "B-x"))
CHOICE = MultipleChoice(target="y")
KEYED = MultipleChoice(target="y", keys=("A", "B", "C"))
KEY_COLUMN = MultipleChoice(target="y", keys="keys")
SPAN = Span(answers="y", answer_starts="at")
GENERATION = Generation(target=Template("{y}!"))

CAT = SpanTarget(context=CONTEXT, answers=("cat", "The cat"), starts=(4, 0))

# Every head: (head, segments, row, target, keys counted in the label histogram)
CASES: dict[str, list[tuple[Head, Segments, dict[str, Any], Any, tuple[str, ...]]]] = {
    "classification": [
        (CLASSIFICATION, ONE, {"y": 1}, 1, ("yes",)),
        (CLASSIFICATION, ONE, {"y": "no"}, 0, ("no",)),
        (CLASSIFICATION, ONE, {"y": True}, 1, ("yes",)),
    ],
    "multi_label": [
        (MULTI_LABEL, ONE, {"y": ["awe", 0, "awe"]}, (0, 2), ("joy", "awe")),
        (MULTI_LABEL, ONE, {"y": []}, (), ()),
    ],
    "regression": [
        (REGRESSION, ONE, {"y": 5}, 5.0, ("5",)),
        (REGRESSION, ONE, {"y": 0.2}, 0.2, ("0",)),
    ],
    "token_classification": [(TAGS, WORDS, {"y": [0, "B-x"]}, (0, 1), ("O", "B-x"))],
    "multiple_choice": [
        (CHOICE, OPTIONS, {"y": 2}, 2, ("2",)),
        (CHOICE, OPTIONS, {"y": "1"}, 1, ("1",)),
        (KEYED, OPTIONS, {"y": "C"}, 2, ("2",)),
        (KEY_COLUMN, OPTIONS, {"y": "x", "keys": ["z", "y", "x"]}, 2, ("2",)),
        (KEY_COLUMN, OPTIONS, {"y": 1, "keys": ["1", "2", "3"]}, 0, ("0",)),
    ],
    "span": [(SPAN, QA, {"y": ["cat", "The cat"], "at": [4, 0]}, CAT, ())],
    "generation": [(GENERATION, ONE, {"y": "Rain"}, "Rain!", ())],
}
ALL = [(name, i) for name in HEADS for i in range(len(CASES.get(name, [None])))]


@dataclass(kw_only=True)
class FakeEncoding:
    """What a tokenizer would return, written by hand."""

    ids: list[int] = field(default_factory=list)
    offsets: list[tuple[int, int]] = field(default_factory=list)
    word_ids: list[int | None] = field(default_factory=list)
    sequence_ids: list[int | None] = field(default_factory=list)
    overflowing: list[Any] = field(default_factory=list)


@pytest.mark.parametrize(("name", "i"), ALL)
def test_a_head_reads_its_target(name: str, i: int) -> None:
    assert name in CASES, f"write cases for the head {name}"
    head, segments, row, target, counted = CASES[name][i]
    assert type(head) is HEADS[name]
    assert head.read_target(row, segments) == target
    assert head.histogram_keys(target) == counted


@pytest.mark.parametrize(("name", "i"), ALL)
def test_its_columns_are_what_it_reads(name: str, i: int) -> None:
    head, segments, row, target, _ = CASES[name][i]
    assert head.read_target({c: row[c] for c in head.columns()}, segments) == target
    for column in head.columns():
        with pytest.raises(RowProblem, match=f"column '{column}' is missing"):
            head.read_target({c: row[c] for c in head.columns() if c != column}, segments)


@pytest.mark.parametrize("name", HEADS)
def test_a_head_suits_formats_and_metrics(name: str) -> None:
    assert HEADS[name].formats
    assert set(FORMATS) >= HEADS[name].formats
    assert [metric for metric in METRICS.values() if name in metric.heads]


@pytest.mark.parametrize("name", HEADS)
def test_a_chunk_of_targets_keeps_its_length(name: str) -> None:
    head, _, _, target, _ = CASES[name][0]
    encoding = FakeEncoding(
        ids=[5, 6], offsets=[(0, 3), (4, 7)], word_ids=[0, 1], sequence_ids=[1, 1]
    )
    targets = [target, None, target]
    encodings: list[Any] = [encoding] * 3
    if name == "generation":  # its targets went through the tokenizer
        answer = Answer(text="Rain!", encoding=encoding)
        targets = [answer, None, answer]
    if name == "span":  # its targets are in its windows
        targets = [0, 0, 0]
        made = [head.windows(t, CONTEXT, encoding, 8, every_window=True) for t in (target, None)]
        encodings = [*made[0], *made[1], *made[0]]
    columns = head.target_columns(targets, encodings, pa.uint16())
    assert columns.num_cut == 0
    assert "target" in columns.columns
    for column in columns.columns.values():
        assert len(column) == 3
        assert column[0].equals(column[2])
        assert not column.null_count
    assert not columns.columns["target"][0].equals(columns.columns["target"][1])


def stored(head: Head, targets: list[Any], *encodings: FakeEncoding) -> list[Any]:
    columns = head.target_columns(targets, list(encodings), pa.uint16())
    values: list[Any] = columns.columns["target"].to_pylist()
    return values


def test_unlabelled_targets_have_marks_of_their_own() -> None:
    assert stored(CLASSIFICATION, [1, None]) == [1, -1]
    assert stored(CHOICE, [None, 0]) == [-1, 0]
    assert stored(MULTI_LABEL, [(0, 2), None, ()]) == [[0, 2], [-1], []]
    number, nothing = stored(REGRESSION, [0.5, None])
    assert number == 0.5
    assert math.isnan(nothing)


def test_types_in_the_shard() -> None:
    def type_of(head: Head) -> pa.DataType:
        return head.target_columns([], [], pa.uint16()).columns["target"].type

    assert type_of(CLASSIFICATION) == type_of(CHOICE) == pa.int32()
    assert type_of(REGRESSION) == pa.float32()
    assert type_of(MULTI_LABEL) == type_of(TAGS) == type_of(SPAN) == pa.list_(pa.int32())
    assert type_of(GENERATION) == pa.list_(pa.uint16())


def test_a_word_scores_its_first_token() -> None:
    whole = FakeEncoding(word_ids=[None, 0, 0, 1, None])
    cut = FakeEncoding(word_ids=[None, 0, None], overflowing=[object()])
    silent = FakeEncoding(word_ids=[None, 1, None])  # the first word gave no token
    columns = TAGS.target_columns(
        [(1, 0), (1, 0), (1, 0), None], [whole, cut, silent, cut], pa.uint16()
    )
    assert columns.columns["target"].to_pylist() == [
        [-100, 1, -100, 0, -100],
        [-100, 1, -100],
        [-100, 0, -100],
        [-100, -100, -100],
    ]
    assert columns.num_cut == 2


@pytest.mark.parametrize(
    ("head", "segments", "row", "message"),
    [
        (
            CLASSIFICATION,
            ONE,
            {"y": 2},
            "column 'y' holds 2, which is no label: a number from 0 to 1 or one of no, yes is "
            "expected",
        ),
        (
            CLASSIFICATION,
            ONE,
            {"y": -1},
            "column 'y' holds -1, which is no label: a number from 0 to 1 or one of no, yes is "
            "expected; drop such rows with `drop_where`",
        ),
        (
            CLASSIFICATION,
            ONE,
            {"y": "Yes"},
            "column 'y' holds 'Yes', which is no label: a number from 0 to 1 or one of no, yes is "
            "expected",
        ),
        (
            Classification(target="y", labels=tuple("abcdefghij")),
            ONE,
            {"y": None},
            "column 'y' holds None, which is no label: a number from 0 to 9 or one of a, b, c, d, "
            "e, f, g, h, … is expected",
        ),
        (MULTI_LABEL, ONE, {"y": "joy"}, "column 'y' holds 'joy', a list is expected"),
        (
            MULTI_LABEL,
            ONE,
            {"y": [0, 3]},
            "column 'y' holds 3, which is no label: a number from 0 to 2 or one of joy, fear, awe "
            "is expected",
        ),
        (REGRESSION, ONE, {"y": 5.1}, "column 'y' holds 5.1, outside 0 to 5"),
        (REGRESSION, ONE, {"y": math.nan}, "column 'y' holds nan, outside 0 to 5"),
        (REGRESSION, ONE, {"y": "3"}, "column 'y' holds '3', a number is expected"),
        (REGRESSION, ONE, {"y": True}, "column 'y' holds True, a number is expected"),
        (TAGS, WORDS, {"y": [0]}, "2 words but 1 labels in 'y'"),
        (
            CHOICE,
            OPTIONS,
            {"y": 3},
            "column 'y' holds 3, an option's number from 0 to 2 is expected (name the options' "
            "keys with `keys` if it is a name)",
        ),
        (KEYED, OPTIONS, {"y": "D"}, "column 'y' holds 'D', not one of: A, B, C"),
        (
            KEY_COLUMN,
            OPTIONS,
            {"y": "x", "keys": ["x", "x", "z"]},
            "column 'y' holds 'x', more than one of: x, x, z",
        ),
        (KEY_COLUMN, OPTIONS, {"y": "x", "keys": ["x"]}, "3 options but 1 keys"),
        (
            SPAN,
            QA,
            {"y": [], "at": []},
            "0 answers with 0 offsets; at least one is needed, and as many of each",
        ),
        (
            SPAN,
            QA,
            {"y": ["cat"], "at": [4, 5]},
            "1 answers with 2 offsets; at least one is needed, and as many of each",
        ),
        (
            SPAN,
            QA,
            {"y": ["cat"], "at": [5]},
            "answer 'cat' is not in the context at character 5 (found: 'at ')",
        ),
        (
            SPAN,
            QA,
            {"y": ["cat", "sat"], "at": [4, -4]},
            "answer 'sat' is not in the context at character -4 (found: '')",
        ),
        (
            SPAN,
            QA,
            {"y": ["cat"], "at": ["4"]},
            "answer 'cat' is not in the context at character 4 (found: '')",
        ),
        (
            SPAN,
            QA,
            {"y": [" "], "at": [3]},
            "answer ' ' is not in the context at character 3 (found: ' ')",
        ),
        (Generation(target=Template("{y}")), ONE, {"y": " "}, "no text in the target '{y}'"),
    ],
)
def test_a_target_that_cannot_be_read_is_explained(
    head: Head, segments: Segments, row: dict[str, Any], message: str
) -> None:
    with pytest.raises(RowProblem, match=f"^{re.escape(message)}$"):
        head.read_target(row, segments)


LABELS = st.lists(st.text(min_size=1, max_size=6), min_size=2, max_size=12, unique=True)


@given(LABELS, st.data())
def test_a_label_is_read_by_number_and_by_name(labels: list[str], data: st.DataObject) -> None:
    head = Classification(target="y", labels=tuple(labels))
    number = data.draw(st.integers(0, len(labels) - 1))
    assert head.read_target({"y": number}, ONE) == number
    assert head.read_target({"y": labels[number]}, ONE) == number


@given(LABELS, st.integers() | st.text(max_size=6) | st.none() | st.floats())
def test_anything_else_is_no_label(labels: list[str], value: Any) -> None:
    head = Classification(target="y", labels=tuple(labels))
    if value in labels or (isinstance(value, int) and 0 <= value < len(labels)):
        return
    with pytest.raises(RowProblem, match="which is no label"):
        head.read_target({"y": value}, ONE)
