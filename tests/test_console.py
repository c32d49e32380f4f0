"""Tables that fit where they are shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from muppet_zoo import console
from muppet_zoo.console import plural, print_error, print_table
from muppet_zoo.errors import Finding, SpecError

ROWS: list[dict[str, Any]] = [
    {"task": "cola", "num_rows": 1234, "score": 0.5, "about": "whether a sentence is accepted"},
    {"task": "日本語", "num_rows": None, "score": 1234.5, "about": ["a", "b"]},
]


def shown_on_terminal(
    width: int, rows: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Console(force_terminal=True, width=width, highlight=False, color_system=None)
    monkeypatch.setattr(console, "_terminal", lambda: terminal)
    print_table("title", rows, notes=["a note"])


def test_a_file_gets_the_whole_table(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("title", ROWS, notes=["a note"])
    assert capsys.readouterr().out.splitlines() == [
        "title",
        "task    num rows  score  about",
        "cola       1,234  0.500  whether a sentence is accepted",
        "日本語         -   1234  a, b",
        "a note",
    ]


@pytest.mark.parametrize(
    ("width", "header", "hidden"),
    [
        (80, "task    num rows  score  about", None),
        (42, "task    num rows  score  about", None),
        (40, "task    num rows  score", "about"),
        (20, "task    num rows", "score, about"),
        (3, "task", "num rows, score, about"),
    ],
)
def test_a_terminal_gets_what_fits(
    width: int,
    header: str,
    hidden: str | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shown_on_terminal(width, ROWS, monkeypatch)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == header
    assert lines[3].startswith("日本語")
    named = f"no room for: {hidden}; widen the terminal or use --json"
    assert lines[4:] == ([named] if hidden else []) + ["a note"]


def test_the_last_column_is_cut(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown_on_terminal(42, ROWS, monkeypatch)
    line = capsys.readouterr().out.splitlines()[2]
    assert line == "cola       1,234  0.500  whether a senten…"


def test_an_empty_table_is_its_title(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("0 tasks", [])
    assert capsys.readouterr().out == "0 tasks\n"


def test_a_progress_inside_another_joins_it() -> None:
    with console.progress() as outer:
        with console.progress() as inner:
            assert inner is outer
        with console.progress(quiet=True) as silent:
            assert silent is not outer
        with console.progress() as inner:
            assert inner is outer
    with console.progress() as another:
        assert another is not outer


def test_plural() -> None:
    assert [plural(count, "task") for count in (0, 1, 2000)] == ["0 tasks", "1 task", "2,000 tasks"]


def test_a_line_number_stays_a_number(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rich would read :100: as the name of an emoji."""
    monkeypatch.setattr(console, "_stderr", console._stderr.__wrapped__)  # not one of another test
    finding = Finding(path=Path("x.yaml"), line=100, column=1, field="name", message="found 1")
    print_error(SpecError([finding]))
    assert capsys.readouterr().err == "x.yaml:100:1: name: found 1\n"


def test_a_small_number_is_not_shown_as_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("", [{"p": 0.00004}, {"p": 0.0}, {"p": 0.25}])
    assert capsys.readouterr().out.split() == ["p", "4.0e-05", "0", "0.250"]
