"""Reaching into a row, and templates."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muppet_zoo.rows import (
    RowProblem,
    Template,
    as_text,
    get_integer,
    get_list,
    get_path,
    spelled,
)


def test_values_in_messages_are_short() -> None:
    with pytest.raises(RowProblem) as caught:
        get_list({"a": "x" * 500}, "a")
    assert len(str(caught.value)) < 110


def test_reaching_into_a_row() -> None:
    assert get_path({"a": {"b": {"c": 1}}}, "a.b.c") == 1
    assert get_integer({"a": -3}, "a") == -3
    for value in (True, 1.0, "1"):
        with pytest.raises(RowProblem, match=r"column 'a' holds .*, a whole number is expected"):
            get_integer({"a": value}, "a")
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
        template.render({"text": "Rain fell."})


def test_equal_templates_are_equal() -> None:
    assert Template("{a}") == Template("{a}")
    assert hash(Template("{a}")) == hash(Template("{a}"))
