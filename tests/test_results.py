"""Reports: what survives a crash, what is refused, how runs are compared and shown."""

from __future__ import annotations

import json
import math
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muppet_zoo.errors import MissingExtraError
from muppet_zoo.results import (
    ComparisonRow,
    ReportError,
    TaskReport,
    append_report,
    compare,
    mean_and_interval,
    read_reports,
    report_rows,
    write_comparison_html,
)

if TYPE_CHECKING:
    from pathlib import Path

REPORT = TaskReport(
    task="boolq",
    split="validation",
    num_examples=10,
    scores={"accuracy": 0.5, "f1": 0.25},
    headline="accuracy",
    step=100,
    seed=1,
    checkpoint="step-00000100",
    fingerprint="0123abcd",
)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
REPORTS = st.builds(
    TaskReport,
    task=st.text(min_size=1).filter(lambda text: text.isprintable()),
    split=st.just("test"),
    num_examples=st.integers(0, 10**9),
    scores=st.dictionaries(st.sampled_from(["f1", "rougeL"]), NUMBERS).map(
        lambda scores: {"accuracy": 0.5} | scores
    ),
    headline=st.just("accuracy"),
    step=st.none() | st.integers(0, 10**12),
    seed=st.none() | st.integers(0, 2**63),
    checkpoint=st.none() | st.just("ü/step-1"),
    fingerprint=st.none() | st.just("ab"),
)


def _row(**changes: Any) -> ComparisonRow:
    row = ComparisonRow(
        task="boolq",
        split="validation",
        metric="accuracy",
        before=0.5,
        after=0.75,
        difference=0.25,
        num_examples=10,
    )
    return replace(row, **changes)


@settings(max_examples=30, deadline=None)
@given(reports=st.lists(REPORTS, max_size=4))
def test_what_is_appended_is_read_back(
    reports: list[TaskReport], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("reports") / "reports.jsonl"
    path.touch()
    for report in reports:
        append_report(path, report)
    read = read_reports(path)
    assert (list(read.reports), read.num_truncated) == (reports, 0)


def test_a_report_is_one_line_of_json(tmp_path: Path) -> None:
    path = tmp_path / "reports.jsonl"
    append_report(path, replace(REPORT, scores=MappingProxyType({"accuracy": 1.0})))
    text = path.read_text(encoding="utf-8")
    assert text.endswith("\n")
    assert text.count("\n") == 1
    assert json.loads(text)["scores"] == {"accuracy": 1.0}


def test_every_cut_of_the_last_line_is_survived_and_mended(tmp_path: Path) -> None:
    path = tmp_path / "reports.jsonl"
    first, second = replace(REPORT, checkpoint="ü"), replace(REPORT, step=200, checkpoint="ü")
    append_report(path, first)
    num_first_bytes = path.stat().st_size
    append_report(path, second)
    whole = path.read_bytes()
    for num_bytes in range(num_first_bytes + 1, len(whole) - 1):
        path.write_bytes(whole[:num_bytes])
        read = read_reports(path)
        assert (read.reports, read.num_truncated) == ((first,), 1)
        append_report(path, second)
        assert path.read_bytes() == whole
    # All but the line end was written: nothing is lost.
    path.write_bytes(whole[:-1])
    assert read_reports(path).reports == (first, second)
    append_report(path, first)
    assert read_reports(path).reports == (first, second, first)


def test_a_cut_only_line_leaves_no_reports(tmp_path: Path) -> None:
    path = tmp_path / "reports.jsonl"
    path.write_bytes(b'{"task": "bo')
    read = read_reports(path)
    assert (read.reports, read.num_truncated) == ((), 1)
    append_report(path, REPORT)
    assert read_reports(path).reports == (REPORT,)


RECORD = {
    "task": "boolq",
    "split": "test",
    "num_examples": 3,
    "scores": {"accuracy": 0.5},
    "headline": "accuracy",
}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{", "this is not JSON"),
        (b"", "this is not JSON"),
        (b"\xff", "this is not JSON"),
        (b"[" * 100_000, "this is not JSON"),
        (b"[]", "this is not a JSON object"),
        (RECORD | {"score": 1}, "unknown field 'score'; did you mean 'scores'"),
        ({"task": "boolq"}, "the field 'split' is missing"),
        (RECORD | {"task": ""}, "'task' is ''; allowed: a text"),
        (RECORD | {"checkpoint": 3}, "'checkpoint' is 3; allowed: a text"),
        (RECORD | {"num_examples": None}, "'num_examples' is None; allowed: a whole number"),
        (RECORD | {"num_examples": True}, "'num_examples' is True"),
        (RECORD | {"step": -1}, "'step' is -1; allowed: a whole number from 0"),
        (RECORD | {"scores": [1]}, r"'scores' is \[1\]; allowed: metric names"),
        (RECORD | {"scores": {"accuracy": "1"}}, "score 'accuracy' is '1'; allowed: a finite"),
        (RECORD | {"scores": {"accuracy": math.nan}}, "score 'accuracy' is nan"),
        (RECORD | {"scores": {"accuracy": 10**400}}, "score 'accuracy' is 1000"),
        (RECORD | {"headline": "acuracy"}, "no score for 'acuracy'; did you mean 'accuracy'"),
    ],
)
def test_a_malformed_line_is_named(
    line: bytes | dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "reports.jsonl"
    append_report(path, REPORT)
    written = line if isinstance(line, bytes) else json.dumps(line).encode()
    path.write_bytes(path.read_bytes() + written + b"\n")
    with pytest.raises(ReportError, match=f"^{re.escape(str(path))}:2: .*{message}"):
        read_reports(path)


def test_optional_fields_may_be_absent(tmp_path: Path) -> None:
    path = tmp_path / "published.jsonl"
    path.write_text(json.dumps(RECORD) + "\n", encoding="utf-8")
    (report,) = read_reports(path).reports
    assert (report.step, report.seed, report.checkpoint, report.fingerprint) == (None,) * 4


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=r"none\.jsonl: there is no such file"):
        read_reports(tmp_path / "none.jsonl")


def test_rows_are_one_per_metric_with_the_headline_first() -> None:
    rows = report_rows([replace(REPORT, scores={"f1": 0.25, "accuracy": 0.5})])
    shared = {
        "task": "boolq", "split": "validation", "num_examples": 10, "overlap": None, "step": 100,
        "seed": 1,
    }  # fmt: skip
    assert rows == [
        shared | {"metric": "accuracy", "score": 0.5},
        shared | {"metric": "f1", "score": 0.25},
    ]


def test_compare_subtracts_and_puts_headlines_first() -> None:
    before = [replace(REPORT, scores={"f1": 0.25, "accuracy": 0.5})]
    after = [replace(REPORT, scores={"f1": 0.5, "accuracy": 0.75}), replace(REPORT, task="rte")]
    assert compare(before, after) == [
        _row(),
        _row(metric="f1", before=0.25, after=0.5),
        _row(task="rte", before=None, after=0.5, difference=None),
        _row(task="rte", metric="f1", before=None, after=0.25, difference=None),
    ]


def test_compare_takes_the_last_report_of_a_seed_and_the_mean_over_seeds() -> None:
    after = [
        replace(REPORT, scores={"accuracy": 0.0}, seed=1, step=1),
        replace(REPORT, scores={"accuracy": 1.0}, seed=2, step=1),
        replace(REPORT, scores={"accuracy": 0.5}, seed=1, step=2),
    ]
    before = [replace(REPORT, scores={"accuracy": 0.5}, seed=None)]
    assert compare(before, after) == [_row()]  # (0.5 + 1.0) / 2


def test_compare_has_no_score_where_some_seed_has_none() -> None:
    after = [replace(REPORT, seed=1), replace(REPORT, seed=2, scores={"accuracy": 0.5})]
    assert [(row.metric, row.after) for row in compare([], after)] == [
        ("accuracy", 0.5),
        ("f1", None),
    ]


def test_compare_refuses_different_numbers_of_examples() -> None:
    with pytest.raises(ReportError, match=r"boolq, split validation was scored on 10 .* and 20 in"):
        compare([REPORT], [replace(REPORT, num_examples=20)])


def test_interval_against_a_table_of_t() -> None:
    # Values 1, 2, 3: mean 2, s = 1, s/sqrt(3) = 0.57735; t(0.975, 2) = 4.30265 in any table.
    result = mean_and_interval([1.0, 2.0, 3.0])
    assert result.low is not None
    assert result.high is not None
    assert result.mean == 2.0
    assert result.high - result.mean == pytest.approx(4.30265 * 0.57735, abs=1e-4)
    assert result.mean - result.low == pytest.approx(result.high - result.mean)
    assert (result.num_values, result.confidence) == (3, 0.95)


@settings(max_examples=30, deadline=None)
@given(values=st.lists(st.integers(0, 1000).map(lambda n: n / 1000), min_size=2, max_size=8))
def test_interval_equals_the_library(values: list[float]) -> None:
    from scipy.stats import ttest_1samp

    result = mean_and_interval(values, confidence=0.9)
    assert result.low is not None
    assert result.high is not None
    if len(set(values)) == 1:
        assert result.low == result.mean == result.high
        return
    library = ttest_1samp(values, 0.0).confidence_interval(0.9)
    assert (result.low, result.high) == pytest.approx((library.low, library.high))


def test_one_value_has_no_interval() -> None:
    result = mean_and_interval([0.5])
    assert (result.mean, result.low, result.high, result.num_values) == (0.5, None, None, 1)


def test_interval_refuses_what_has_none() -> None:
    for values in ([], [0.5, math.nan]):
        with pytest.raises(ReportError, match="needed: one or more finite numbers"):
            mean_and_interval(values)
    with pytest.raises(ValueError, match="between 0 and 1"):
        mean_and_interval([0.5], confidence=95)


class _Page(HTMLParser):
    """Collects the tags, the attributes and the text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.values: list[str] = []
        self.cells: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.values += [value or "" for _, value in attrs]

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] == "td" and data.strip():
            self.cells.append(data)


def test_page_shows_every_row(tmp_path: Path) -> None:
    path = tmp_path / "comparison.html"
    write_comparison_html(
        path, "Before and after", [_row(), _row(task="rte", before=None, difference=None)]
    )
    page = _Page(path.read_text(encoding="utf-8"))
    assert page.cells == [
        *("boolq", "validation", "accuracy", "0.5000", "0.7500", "+0.2500", "10"),
        *("rte", "validation", "accuracy", "n/a", "0.7500", "n/a", "10"),
    ]
    assert page.tags.count("svg") == 1
    assert "script" not in page.tags
    assert "link" not in page.tags


def test_page_needs_no_network(tmp_path: Path) -> None:
    path = tmp_path / "comparison.html"
    write_comparison_html(path, "Title", [_row()])
    text = path.read_text(encoding="utf-8")
    references = re.findall(r"(?:src|href|url)\s*[=(]\s*[\"']?([^\"')\s>]+)", text)
    assert [reference for reference in references if not reference.startswith("#")] == []


def test_page_escapes_all_text(tmp_path: Path) -> None:
    path = tmp_path / "comparison.html"
    evil = "<script>alert('$x$')</script>&amp;"
    rows = [_row(task=evil, split=evil, metric=evil)]
    write_comparison_html(path, evil, rows, [evil])
    page = _Page(path.read_text(encoding="utf-8"))
    assert "script" not in page.tags
    assert evil in page.cells


def test_page_is_the_same_bytes_again_whatever_the_users_settings(tmp_path: Path) -> None:
    import matplotlib

    rows = [_row(), _row(metric="f1", after=-0.5)]
    write_comparison_html(tmp_path / "a.html", "Title", rows, ["a note"])
    with matplotlib.rc_context({"lines.linewidth": 9, "svg.fonttype": "path", "font.size": 30}):
        write_comparison_html(tmp_path / "b.html", "Title", rows, ["a note"])
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_page_without_rows_and_with_foreign_names(tmp_path: Path) -> None:
    write_comparison_html(tmp_path / "empty.html", "Title", [])
    assert "no scores to compare" in (tmp_path / "empty.html").read_text(encoding="utf-8")
    write_comparison_html(tmp_path / "foreign.html", "题", [_row(task="任务")])
    assert "任务" in (tmp_path / "foreign.html").read_text(encoding="utf-8")


def test_a_missing_library_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"'matplotlib'.*muppet-zoo\[train\]"):
        write_comparison_html(tmp_path / "page.html", "Title", [_row()])
