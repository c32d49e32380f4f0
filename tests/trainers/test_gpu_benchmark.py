"""The script for GPUs runs, here at its tiny shape on the CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import gpu
from benchmarks.invented import PADDING_ID, Invented
from muppet_zoo.batches import MicroBatchPlan
from muppet_zoo.collate import collate
from muppet_zoo.row_pool import RowPool

ROOT = Path(__file__).resolve().parent.parent.parent


def test_every_arm_is_measured_and_packing_is_exact() -> None:
    arms = list(gpu.arms_of("tiny", gpu.CPU, torch.device("cpu"), rate=1e12))
    assert {(arm.layout, arm.r3f) for arm in arms} == {
        ("padded", False), ("padded", True), ("packed", False), ("packed", True)
    }  # fmt: skip
    for arm in arms:
        assert arm.tokens_per_s is not None
        assert arm.flops_share is not None
        assert arm.tokens_per_s > 0
        assert 0 < arm.packing_error <= 1e-6
        assert arm.padding_share > 0
        assert arm.peak_memory_gib is None
    text = gpu.table("a CPU", 1e12, arms, [])
    assert text.count("| tiny | 64 | 512 |") == 4
    assert "| not had |" in text


def test_flops_are_those_of_the_tokens() -> None:
    data = Invented(lengths=np.array([3, 5], dtype=np.uint32), vocab_size=9)
    plan = MicroBatchPlan(
        tasks=np.zeros(2, dtype=np.int32), rows=np.arange(2), lengths=data.lengths
    )
    sizes = {"hidden_size": 4, "intermediate_size": 8, "num_hidden_layers": 2}
    products = 0
    for length in (3, 5):
        products += 4 * length * 4 * 4  # queries, keys, values, output
        products += 2 * length * 4 * 8  # up and down
        products += 2 * length * length * 4  # scores and their sums
    expected = 2 * products * 2 * 3  # two FLOPs each, two layers, forward and twice backward
    assert gpu.flops(sizes, collate(plan, RowPool([data]), PADDING_ID), passes=1) == expected
    assert gpu.matmul_rate(64, torch.device("cpu"), repeats=2) > 0


@pytest.mark.slow
def test_the_whole_script_says_that_it_ran_on_a_cpu(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", "--out", str(tmp_path)],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["device"].startswith("a CPU")
    assert {d["case"]["stage"] for d in found["zero"]} == {0, 1, 2, 3}
    assert max(d["gradient"] for d in found["zero"]) <= 1e-6
    assert "# Training steps on a CPU: tiny" in (tmp_path / "gpu.md").read_text()
