"""A sample of `benchmarks/exactness.py`: gradients on two processes, however a step is cut."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks import exactness

ROOT = Path(__file__).resolve().parent.parent.parent


def test_only_results_of_the_same_code_are_kept(tmp_path: Path) -> None:
    case = exactness.Case(trainer="deepspeed", noise=True, num_ranks=3)
    found = exactness.Difference(case=case, gradient=1e-7, parameters=2e-9)
    line = json.dumps({"commit": "abc", "found": asdict(found)}) + "\n"
    path = tmp_path / "part.jsonl"
    path.write_text(line + line.replace("abc", "def"))
    assert exactness._found_before(path, "abc") == [found]
    assert exactness._found_before(path, "abc+changes") == []
    assert exactness._found_before(path, None) == []
    assert exactness._found_before(tmp_path / "none.jsonl", "abc") == []


@pytest.mark.slow
@pytest.mark.timeout(1200)  # five minutes and more on busy cores
def test_gradients_do_not_depend_on_the_cut(tmp_path: Path) -> None:
    arguments = ["--ranks", "2", "--micro-batches", "1", "--micro-batches", "4", "--no-absent",
                 "--out", str(tmp_path)]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.exactness", *arguments],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "exactness.json").read_text())["differences"]
    cases = [d["case"] for d in found if d["case"]["trainer"] == "deepspeed"]
    assert {case["stage"] for case in cases} == {0, 1, 2, 3}
    assert {case["communication"] for case in cases} == {"plain", "overlapped"}
    assert max(d["gradient"] for d in found if d["case"]["trainer"] != "double") <= 1e-6
    assert (tmp_path / "exactness.md").read_text().count("| 2 | ") == 2 * 5
