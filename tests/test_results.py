"""Reports: what survives a crash, what is refused, and the rows that tables are made of."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muppet_zoo.results import (
    ReportError,
    TaskReport,
    append_report,
    read_reports,
    report_rows,
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
