"""Row operations: what they do, what they say of columns without data, how they refuse a row."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muppet_zoo.answer_operations import KeepWords, Locate
from muppet_zoo.row_operations import (
    OPERATIONS,
    Bin,
    DropWhere,
    Explode,
    Flags,
    Join,
    KeepWhere,
    MapValues,
    Pick,
    Rename,
    RowOperation,
    apply_operations,
)
from muppet_zoo.rows import RowProblem, Template
from muppet_zoo.text_operations import (
    Flatten,
    MarkSpan,
    MarkWords,
    ReplaceText,
    SplitAt,
    SplitOptions,
)

if TYPE_CHECKING:
    from muppet_zoo.rows import Columns

ROW = {
    "text": "Rain fell.",
    "label": 1,
    "flag": True,
    "score": 0.5,
    "words": ["Rain", "fell"],
    "tags": [0, 2],
    "choices": {"text": ["a", "b"], "key": ["A", "B"]},
    "number": 1,
    "end": 4,
    "phrase": "FELL",
    "markup": [False, False],
    "paragraphs": [["Rain fell.", " It stopped. "], ["Sun."]],
    "options": "a ) 1,5 , b ) a few",
}
COLUMNS: Columns = {
    "text": "string",
    "label": "label",
    "flag": "boolean",
    "score": "number",
    "words": "strings",
    "tags": "labels",
    "choices.text": "strings",
    "choices.key": "strings",
    "number": "integer",
    "end": "integer",
    "phrase": "string",
    "markup": "any",
    "paragraphs": "any",
    "options": "string",
}

# Every operation: an example, the rows it makes of ROW (changed columns only; None = gone).
CASES: dict[str, list[tuple[RowOperation, list[dict[str, Any]]]]] = {
    "rename": [
        (Rename(columns={"text": "sentence"}), [{"text": None, "sentence": "Rain fell."}]),
        (Rename(columns={"text": "label", "label": "text"}), [{"text": 1, "label": "Rain fell."}]),
        (Rename(columns={"text": "words"}), [{"text": None, "words": "Rain fell."}]),
        (
            Rename(columns={"choices": "options"}),
            [{"choices": None, "options": {"text": ["a", "b"], "key": ["A", "B"]}}],
        ),
    ],
    "pick": [
        (Pick(column="choices.text", into="options"), [{"options": ["a", "b"]}]),
        (Pick(column="words", index=0, into="first"), [{"first": "Rain"}]),
        (Pick(column="words", index=-1, into="text"), [{"text": "fell"}]),
        (
            Pick(column="choices", into="words"),
            [{"words": {"text": ["a", "b"], "key": ["A", "B"]}}],
        ),
        (Pick(column="text", into="choices"), [{"choices": "Rain fell."}]),
    ],
    "join": [
        (Join(template=Template("{text} {label}"), into="text"), [{"text": "Rain fell. 1"}]),
        (Join(template=Template("{{{score}}} {flag}"), into="new"), [{"new": "{0.5} True"}]),
    ],
    "map_values": [
        (MapValues(column="label", values={"0": "no", "1": "yes"}), [{"label": "yes"}]),
        (MapValues(column="flag", values={"true": 1, "false": 0}), [{"flag": 1}]),
        (MapValues(column="text", values={"Rain fell.": None}), [{"text": None}]),
    ],
    "keep_where": [
        (KeepWhere(column="label", values=(0, 1)), [{}]),
        (KeepWhere(column="label", values=(0, True, "1")), []),
    ],
    "drop_where": [
        (DropWhere(column="label", values=(-1, 1)), []),
        (DropWhere(column="flag", values=(1, "true")), [{}]),
    ],
    "explode": [
        (
            Explode(columns={"words": "word", "tags": "tag"}),
            [{"word": "Rain", "tag": 0}, {"word": "fell", "tag": 2}],
        ),
        (Explode(columns={"choices.text": "choices"}), [{"choices": "a"}, {"choices": "b"}]),
        (Explode(columns={"words": "words"}), [{"words": "Rain"}, {"words": "fell"}]),
    ],
    "bin": [
        (Bin(column="score", bounds=(0.5, 0.75), into="half"), [{"half": 1}]),
        (Bin(column="number", bounds=(2, 3), into="number"), [{"number": 0}]),
    ],
    "flags": [
        (Flags(columns=("label", "flag"), into="tags"), [{"tags": [0, 1]}]),
        (Flags(columns=("number", "flag", "label"), into="set"), [{"set": [0, 1, 2]}]),
    ],
    "mark_span": [
        (
            MarkSpan(column="text", start="number", end="end", into="text"),
            [{"text": "R[ain] fell."}],
        ),
        (
            MarkSpan(column="text", start="label", end="end", into="new", left="<b>", right=""),
            [{"new": "R<b>ain fell."}],
        ),
    ],
    "mark_words": [
        (
            MarkWords(column="text", index="number", phrase="phrase", into="text"),
            [{"text": "Rain [fell]."}],
        ),
    ],
    "locate": [
        (
            Locate(context="text", answers="words", into_answers="a", into_starts="s"),
            [{"a": ["Rain", "fell"], "s": [0, 5]}],
        ),
        (
            Locate(
                context="text",
                answers="phrase",
                into_answers="a",
                into_starts="s",
                ignore_case=True,
            ),
            [{"a": ["fell"], "s": [5]}],
        ),
        (
            Locate(
                context="text",
                answers="phrase",
                into_answers="a",
                into_starts="s",
                if_missing="drop",
            ),
            [],
        ),
    ],
    "flatten": [
        (Flatten(column="paragraphs", into="new"), [{"new": "Rain fell. It stopped. Sun."}]),
        (
            Flatten(column="paragraphs", titles="words", into="text", separator="\n"),
            [{"text": "Rain\nRain fell.\nIt stopped.\nfell\nSun."}],
        ),
        (Flatten(column="words", into="words"), [{"words": "Rain fell"}]),
    ],
    "split_at": [
        (
            SplitAt(column="text", marker=" ", left="text", right="rest"),
            [{"text": "Rain", "rest": "fell."}],
        ),
    ],
    "split_options": [
        (SplitOptions(column="options", into="options"), [{"options": ["1,5", "a few"]}]),
        (SplitOptions(column="choices.text", into="new"), [{"new": ["a", "b"]}]),
    ],
    "replace_text": [
        (ReplaceText(column="text", old="ll", new="", into="text"), [{"text": "Rain fe."}]),
        (ReplaceText(column="phrase", old="x", new="y", into="new"), [{"new": "FELL"}]),
    ],
    "keep_words": [
        (KeepWords(words="words", drop_where_true="markup", into="new"), [{"new": "Rain fell"}]),
        (
            KeepWords(
                words="words", drop_where_true="markup", into="text", first="number", end="end"
            ),
            [{"text": "fell"}],
        ),
        (
            KeepWords(
                words="words",
                drop_where_true="markup",
                into="new",
                starts="tags",
                ends="tags",
                into_answers="a",
                into_starts="s",
                if_missing="drop",
            ),
            [],
        ),
    ],
}
ALL = [(name, i) for name in OPERATIONS for i in range(len(CASES.get(name, [None])))]


@pytest.mark.parametrize(("name", "i"), ALL)
def test_an_operation_makes_its_rows(name: str, i: int) -> None:
    assert name in CASES, f"write cases for the operation {name}"
    operation, changes = CASES[name][i]
    assert type(operation) is OPERATIONS[name]
    expected = [{**ROW, **change} for change in changes]
    for change, row in zip(changes, expected, strict=True):
        for column in change:
            # None stands for "gone", except where an operation writes null.
            if change[column] is None and name == "rename":
                del row[column]
    assert list(operation.apply(ROW)) == expected


@pytest.mark.parametrize(("name", "i"), ALL)
def test_leaves_foretells_the_columns(name: str, i: int) -> None:
    operation, _ = CASES[name][i]
    foretold = operation.leaves(COLUMNS)
    for row in operation.apply(ROW):
        assert leaf_types(row, foretold) == foretold


@pytest.mark.parametrize(("name", "i"), ALL)
def test_needs_are_what_a_row_must_have(name: str, i: int) -> None:
    operation, _ = CASES[name][i]
    for column in operation.needs():
        outer, _, inner = column.partition(".")
        row = {name: value for name, value in ROW.items() if name != outer}
        if inner:
            row[outer] = {}
        with pytest.raises(RowProblem, match=re.escape(f"column '{column}' is missing (found: ")):
            list(operation.apply(row))


def leaf_types(row: dict[str, Any], foretold: Columns) -> Columns:
    """Column paths with the declared type that the values found there have."""
    found: Columns = {}
    for name, value in row.items():
        if isinstance(value, dict):
            found |= leaf_types({f"{name}.{k}": v for k, v in value.items()}, foretold)
        else:
            declared = foretold.get(name, "nothing is declared")
            assert declared == "any" or value_suits(value, declared), (name, value, declared)
            found[name] = declared
    return found


def value_suits(value: Any, declared: str) -> bool:
    if declared.endswith("s"):
        return isinstance(value, list) and all(value_suits(v, declared[:-1]) for v in value)
    kinds = {"string": str, "boolean": bool, "integer": int, "label": int, "number": float}
    return type(value) is kinds[declared]


@st.composite
def pipelines(draw: st.DrawFn) -> list[RowOperation]:
    """Operations in a row, each on columns that the ones before it leave."""
    columns, operations = COLUMNS, []
    names = st.sampled_from(["text", "label", "words", "choices", "a", "b"])
    for _ in range(draw(st.integers(1, 5))):
        lists = [c for c, kind in columns.items() if kind in ("strings", "labels")]
        scalars = [c for c, kind in columns.items() if kind in ("string", "label", "boolean")]
        outer = sorted({c.partition(".")[0] for c in columns})
        two = min(2, len(outer))
        makers: list[st.SearchStrategy[RowOperation]] = [
            st.builds(
                lambda olds, news: Rename(columns=dict(zip(olds, news, strict=True))),
                st.permutations(outer).map(lambda o: o[:2]),
                st.permutations(["text", "a", "b", "words"]).map(lambda o, n=two: o[:n]),
            ),
            st.builds(Pick, column=st.sampled_from(sorted(columns)), into=names),
        ]
        if scalars:
            template = st.sampled_from(scalars).map(lambda c: Template(f"<{{{c}}}>"))
            makers.append(st.builds(Join, template=template, into=names))
        if lists:
            column = st.sampled_from(lists)
            makers.append(
                st.builds(Pick, column=column, into=names, index=st.sampled_from([0, -1]))
            )
            makers.append(
                st.builds(lambda old, new: Explode(columns={old: new}), column, names)  # type: ignore[arg-type]
            )
        operation = draw(st.one_of(makers))
        operations.append(operation)
        columns = operation.leaves(columns)
    return operations


@given(pipelines())
def test_leaves_foretells_the_columns_after_any_operations(operations: list[RowOperation]) -> None:
    columns = COLUMNS
    for operation in operations:
        columns = operation.leaves(columns)
    rows = list(apply_operations(operations, ROW))
    assert rows
    for row in rows:
        assert leaf_types(dict(row), columns) == columns


def test_operations_leave_the_row_they_read_alone() -> None:
    before = repr(ROW)
    for cases in CASES.values():
        for operation, _ in cases:
            list(operation.apply(ROW))
    assert repr(ROW) == before


def test_operations_run_in_order_and_multiply() -> None:
    operations = (
        Explode(columns={"words": "word"}),
        Explode(columns={"tags": "tag"}),
        DropWhere(column="tag", values=(0,)),
        Join(template=Template("{word}{tag}"), into="both"),
    )
    assert [row["both"] for row in apply_operations(operations, ROW)] == ["Rain2", "fell2"]
    assert list(apply_operations((), ROW)) == [ROW]


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        (Pick(column="text.inner", into="a"), "column 'text.inner' is missing (found: str)"),
        (
            Pick(column="choices.x", into="a"),
            "column 'choices.x' is missing (found: text, key)",
        ),
        (Pick(column="words", index=2, into="a"), "column 'words' has 2 elements, no [2]"),
        (Pick(column="words", index=-3, into="a"), "column 'words' has 2 elements, no [-3]"),
        (
            Pick(column="text", index=0, into="a"),
            "column 'text' holds 'Rain fell.', a list is expected",
        ),
        (
            Join(template=Template("{words}"), into="a"),
            "column 'words' holds ['Rain', 'fell'], text is expected",
        ),
        (
            MapValues(column="label", values={"0": "no", "true": "yes"}),
            "column 'label' holds '1', which is not one of: 0, true",
        ),
        (
            Explode(columns={"words": "a", "text": "b"}),
            "column 'text' holds 'Rain fell.', a list is expected",
        ),
        (
            Bin(column="flag", bounds=(1,), into="a"),
            "column 'flag' holds True, a number is expected",
        ),
        (Flags(columns=("label", "end"), into="a"), "column 'end' holds 4, 0 or 1 is expected"),
        (
            Flags(columns=("label", "text"), into="a"),
            "column 'text' holds 'Rain fell.', 0 or 1 is expected",
        ),
        (
            MarkSpan(column="phrase", start="end", end="end", into="a"),
            "characters 4 to 4 are not inside 'FELL'",
        ),
        (
            MarkSpan(column="text", start="score", end="end", into="a"),
            "column 'score' holds 0.5, a whole number is expected",
        ),
        (
            MarkWords(column="text", index="end", phrase="phrase", into="a"),
            "there is no word 4 in 'Rain fell.'",
        ),
        (
            MarkWords(column="options", index="number", phrase="phrase", into="a"),
            "'FELL' does not begin in word 1, ')'",
        ),
        (
            Locate(context="text", answers="phrase", into_answers="a", into_starts="s"),
            "none of ['FELL'] occurs in 'text'",
        ),
        (
            Flatten(column="paragraphs", titles="tags2", into="a"),
            "column 'tags2' is missing (found: text, label, flag, score, words, tags, choices, "
            "number, end, phrase, markup, paragraphs, options)",
        ),
        (
            SplitAt(column="text", marker="l", left="a", right="b"),
            "column 'text' has the marker 'l' 2 times, once is expected",
        ),
        (SplitOptions(column="text", into="a"), "no options a), b), … are found in 'Rain fell.'"),
        (
            KeepWords(words="paragraphs", drop_where_true="markup", into="a"),
            "column 'paragraphs' holds ['Rain fell.', ' It stopped. '], text is expected",
        ),
        (
            KeepWords(
                words="words",
                drop_where_true="markup",
                into="a",
                starts="tags",
                ends="tags",
                into_answers="b",
                into_starts="c",
            ),
            "no answer is among the words that are kept",
        ),
    ],
)
def test_a_row_that_cannot_be_used_is_explained(operation: RowOperation, message: str) -> None:
    with pytest.raises(RowProblem, match=f"^{re.escape(message)}$"):
        list(operation.apply(ROW))


def test_lists_that_are_walked_together_are_equally_long() -> None:
    operation = Explode(columns={"a": "x", "b": "y"})
    with pytest.raises(RowProblem, match=re.escape("lists of different lengths: {'a': 1, 'b': 2}")):
        list(operation.apply({"a": [1], "b": [1, 2]}))
    assert list(operation.apply({"a": [], "b": []})) == []


@pytest.mark.parametrize(
    ("operation", "row", "message"),
    [
        (
            Flatten(column="a", titles="b", into="c"),
            {"a": ["x"], "b": []},
            "0 titles for 1 texts",
        ),
        (
            KeepWords(words="a", drop_where_true="b", into="c"),
            {"a": ["x"], "b": []},
            "1 words but 0 flags",
        ),
        (
            KeepWords(
                words="a",
                drop_where_true="b",
                into="c",
                starts="a",
                ends="b",
                into_answers="d",
                into_starts="e",
            ),
            {"a": [], "b": [], "starts": [], "c": 0},
            "no answer is among the words that are kept",
        ),
        (Bin(column="a", bounds=(1,), into="b"), {"a": math.nan}, "holds nan, a number"),
    ],
)
def test_values_that_do_not_fit_each_other_are_explained(
    operation: RowOperation, row: dict[str, Any], message: str
) -> None:
    with pytest.raises(RowProblem, match=re.escape(message)):
        list(operation.apply(row))
