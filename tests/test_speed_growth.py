"""How cost grows: slopes, rows and figures from curves that are known."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.speed import growth
from benchmarks.speed.growth import Panel, all_panels, draw, row_of, shortened, slope_of, typical


def panel(**changed: object) -> Panel:
    fields: dict[str, object] = {
        "topic": "feed", "by": "longest text", "sizes": (10, 100, 1000), "unit": "s",
        "notes": "Made up.", "measure": float,
    }  # fmt: skip
    return Panel(**{**fields, **changed})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "slope"), [([2, 20, 200], 1), ([5, 5, 5], 0), ([1, 0.1, 0.01], -1)]
)
def test_the_slope_is_that_of_the_logarithms(values: list[float], slope: float) -> None:
    assert slope_of((10, 100, 1000), values) == pytest.approx(slope, abs=1e-9)


def test_what_is_quick_is_measured_three_times(monkeypatch: pytest.MonkeyPatch) -> None:
    values = iter([3.0, 1.0, 2.0, 7.0])
    assert typical(lambda size: next(values), 1) == 2.0
    monkeypatch.setattr(growth, "ENOUGH_S", 0.0)
    assert typical(lambda size: next(values), 1) == 7.0


def test_a_row_names_sizes_slope_and_figure() -> None:
    row = row_of(panel(), [2.0, 20.0, 200.0])
    assert row.name == "growth_feed_longest_text"
    assert row.what == "growth of feed with longest text, 10 to 1,000"
    assert row.measured == {"10 [s]": 2.0, "100 [s]": 20.0, "1,000 [s]": 200.0}
    assert row.figure.median == pytest.approx(1.0)
    assert row.meets is None
    assert row.notes.endswith("Figure: growth_feed.svg.")


def test_a_figure_has_a_panel_for_each_curve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(growth, "ROWS", tmp_path)
    draw("feed", [(panel(), [2.0, 20.0, 200.0]), (panel(by="tasks"), [1.0, 1.0, 1.0])])
    text = (tmp_path / "growth_feed.svg").read_text("utf-8")
    assert "slope 1.00" in text
    assert {shortened(size) for size in (10, 2500, 10**4, 10**10)} == {"10", "2,500", "10⁴", "10¹⁰"}
    assert "slope 0.00" in text


def test_every_topic_grows_with_what_it_can() -> None:
    grown = {(each.topic, each.by) for each in all_panels(Path("anywhere"), 10**5)}
    assert grown == {
        *((topic, by) for topic in ("build", "feed") for by in ("rows", "tasks", "longest text")),
        ("feed", "processes"), ("order", "rows"), ("order", "tasks"),
        ("step", "tasks"), ("step", "longest text"), ("step", "processes"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("most", "sizes"),
    [
        (10**5, (10**4, 10**5)),
        (5 * 10**5, (10**4, 10**5, 5 * 10**5)),
        (10**7, (10**4, 10**5, 10**6, 10**7)),
    ],
)
def test_rows_grow_as_far_as_asked(most: int, sizes: tuple[int, ...]) -> None:
    by_rows = [p for p in all_panels(Path("anywhere"), most) if p.by == "rows"]
    assert [p.sizes for p in by_rows[:2]] == 2 * [sizes]
    rows = [row_of(p, [1.0] * len(p.sizes)) for p in by_rows]
    assert [row.command.endswith(f"--rows {most}") for row in rows] == [True, True, False]
