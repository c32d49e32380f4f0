"""The speed table: spreads, goals, stored rows, and the places that are generated from them."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import click
import pytest

from benchmarks.speed.record import Goal, Row, Spread, interleave, ratio, write_row
from benchmarks.speed.table import BEGIN, END, main, page, read_rows, table, with_section


def row(name: str, **changed: object) -> Row:
    fields: dict[str, object] = {
        "name": name, "topic": "build", "what": f"what {name}", "against": "the limit",
        "goal": Goal(at_least=2.0, unit="x"), "command": "python -m it",
        "figure": Spread.of([1.0, 2.0, 3.0, 4.0, 5.0]), "measured": {"ours [s]": 1.25},
    }  # fmt: skip
    return Row(**{**fields, **changed})  # type: ignore[arg-type]


def test_contenders_take_turns_and_ratios_are_taken_within_a_round() -> None:
    clock = count(1)
    values = interleave(
        {"a": lambda: float(next(clock)), "b": lambda: float(next(clock))}, rounds=5, warm_up=1
    )
    assert values == {"a": [3, 5, 7, 9, 11], "b": [4, 6, 8, 10, 12]}
    assert ratio(values, over="b", under="a") == Spread.of([4 / 3, 6 / 5, 8 / 7, 10 / 9, 12 / 11])


def test_a_spread_of_too_few_rounds_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 5"):
        Spread.of([1.0] * 4)


@pytest.mark.parametrize(
    ("goal", "met"),
    [
        (Goal(at_least=3.0, unit="x"), True),
        (Goal(at_least=3.01, unit="x"), False),
        (Goal(at_most=3.0, unit="x"), True),
        (Goal(at_most=2.99, unit="x"), False),
        (Goal(unit="x"), None),
    ],
)
def test_meeting_a_goal(goal: Goal, met: bool | None) -> None:
    assert row("a", goal=goal).meets is met


def test_rows_come_back_by_topic_and_are_shown_with_goal_and_spread(tmp_path: Path) -> None:
    missed = Goal(at_most=1.0, unit="ms")
    write_row(row("b", topic="evaluation", goal=missed, tried="Two things."), tmp_path)
    write_row(row("c"), tmp_path)
    rows = read_rows(tmp_path)
    assert [each["name"] for each in rows] == ["c", "b"]
    assert table(rows).splitlines()[2:] == [
        "| what c | the limit | ≥ 2× | 3× | 2 to 4 | yes |",
        "| what b | the limit | ≤ 1 ms | 3 ms | 2 to 4 | no |",
    ]
    text = page(rows)
    assert "ours [s]: 1.25" in text
    assert "Goal not met. Two things." in text


def test_only_what_is_between_the_markers_is_replaced() -> None:
    text = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    assert with_section(text, "new\n") == f"before\n{BEGIN}\nnew\n{END}\nafter\n"
    with pytest.raises(click.ClickException, match=r"README\.md has no"):
        with_section("nothing", "new\n")


def test_the_committed_table_is_what_the_rows_say() -> None:
    main(["--check"], standalone_mode=False)
