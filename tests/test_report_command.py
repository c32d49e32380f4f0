"""`muppet-zoo report` as a user runs it: what it prints and writes, and how it fails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers import muppet_zoo
from report_runs import line, write_lines, write_study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "study"
    return write_study(folder, targets=("subj", "rte"), shots=("all",), seeds=(0, 1))


def test_tables_go_to_stdout_notes_to_stderr(study: Path) -> None:
    done = muppet_zoo("report", str(study), "--baseline", "few_tasks")
    assert done.returncode == 0, done.stderr
    for title in ("Averages over targets", "Gains over few_tasks", "Scores", "Published scores"):
        assert f"\n{title}" in done.stdout
    assert "Missing cells" not in done.stdout
    assert "no p below 2/2^n (seeds and least p here: 2: 0.5)" in done.stderr


def test_json_page_and_figures(study: Path, tmp_path: Path) -> None:
    page, figures = tmp_path / "page.html", tmp_path / "figures"
    done = muppet_zoo(
        "report", str(study), "--json", "--html", str(page), "--figures", str(figures),
        "--title", "Five <tasks>",
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    data = json.loads(done.stdout)
    assert data["baseline"] == "original"
    assert data["arms"]["many_tasks"] == {"num_tasks": 30, "description": ""}
    assert len(data["comparisons"]) == 4
    assert "<h1>Five &lt;tasks&gt;</h1>" in page.read_text("utf-8")
    assert len(list(figures.glob("*.svg"))) == len(list(figures.glob("*.png"))) == 3


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nowhere"], 1, "error: nowhere: there is no such folder; needed: one with results.jsonl"),
        (["."], 1, "error: .: no results are in this folder; needed: one with results.jsonl"),
        (["mixed"], 1, "data_fingerprint is ab12 for arm 'original', seed 0, and other for arm"),
        (["good", "--baseline", "orignal"], 2, "no arm is named 'orignal'; did you mean 'origina"),
        (["good", "--arms", "facts.yaml"], 1, "facts.yaml:1:"),
        (["good", "--html", "good"], 2, "File 'good' is a directory"),
        (["good", "--html", "facts.yaml/page.html"], 1, "page.html: cannot be written:"),
        ([], 2, "Missing argument 'RUNS...'"),
    ],
)
def test_a_wrong_request_is_explained_without_a_traceback(
    arguments: list[str], code: int, message: str, tmp_path: Path
) -> None:
    write_lines(tmp_path / "good", [line()])
    write_lines(tmp_path / "mixed", [line(), line(arm="mtl", data_fingerprint="other")])
    (tmp_path / "facts.yaml").write_text("arms: []\n", encoding="utf-8")
    done = muppet_zoo("report", *arguments, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
