"""Row operations: what they do, what they say of columns without data, how they refuse a row."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muppet_zoo.rows import (
    OPERATIONS,
    DropWhere,
    Explode,
    Join,
    KeepWhere,
    MapValues,
    Pick,
    Rename,
    RowOperation,
    RowProblem,
    Template,
    apply_operations,
    as_text,
    get_list,
    get_path,
    spelled,
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


def test_values_in_messages_are_short() -> None:
    with pytest.raises(RowProblem) as caught:
        get_list({"a": "x" * 500}, "a")
    assert len(str(caught.value)) < 110


def test_reaching_into_a_row() -> None:
    assert get_path({"a": {"b": {"c": 1}}}, "a.b.c") == 1
    assert as_text(True, "a") == "True"
    with pytest.raises(RowProblem, match="column 'a' holds None, text is expected"):
        as_text(None, "a")
    assert [spelled(value) for value in (None, True, False, 1, 1.5, "no")] == [
        "null", "true", "false", "1", "1.5", "no"
    ]  # fmt: skip


# --- templates -------------------------------------------------------------------------------

TEXT = st.text(max_size=15)
COLUMN = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,5}", fullmatch=True)


@given(st.lists(st.tuples(TEXT, COLUMN, TEXT), max_size=5), TEXT)
def test_a_template_puts_values_between_the_texts(
    parts: list[tuple[str, str, str]], end: str
) -> None:
    row = {column: value for _, column, value in parts}
    escaped = [text.replace("{", "{{").replace("}", "}}") for text, _, _ in parts]
    source = "".join(f"{e}{{{c}}}" for e, (_, c, _) in zip(escaped, parts, strict=True))
    source += end.replace("{", "{{").replace("}", "}}")
    template = Template(source)
    assert template.columns == tuple(column for _, column, _ in parts)
    assert template.render(row) == "".join(text + row[column] for text, column, _ in parts) + end


@given(st.text(alphabet="ab{}!:.[]()_ 0", max_size=12))
def test_a_template_is_read_or_refused(text: str) -> None:
    try:
        columns = Template(text).columns
    except ValueError as error:
        assert "brace" in str(error) or "placeholder" in str(error)  # noqa: PT017
    else:
        assert all(part.isidentifier() for column in columns for part in column.split("."))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "a brace has no partner; write {{ and }} for literal braces"),
        ("a } b", "a brace has no partner; write {{ and }} for literal braces"),
        ("{a!r}", "the placeholder {a!r} is not a column name"),
        ("{a:>9}", "the placeholder {a:>9} is not a column name"),
        ("{a.b[0]}", "the placeholder {a.b[0]} is not a column name"),
        ("{a.__class__()}", "the placeholder {a.__class__()} is not a column name"),
        ("{}", "the placeholder {} is not a column name"),
        ("{0}", "the placeholder {0} is not a column name"),
        ("{ a }", "the placeholder { a } is not a column name"),
    ],
)
def test_a_malformed_template_is_explained(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Template(text)


def test_a_template_never_reaches_into_objects() -> None:
    template = Template("{text.__class__.__name__}")
    with pytest.raises(RowProblem, match="is missing"):
        template.render(ROW)


def test_equal_templates_are_equal() -> None:
    assert Template("{a}") == Template("{a}")
    assert hash(Template("{a}")) == hash(Template("{a}"))
