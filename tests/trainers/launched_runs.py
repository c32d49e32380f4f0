"""A run, the commands that train it, and what they must agree on."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file

from muppet_zoo.zoo import shipped_specs

RUN = """\
run_version: 1
data: {data}
mixture: everything
trainer: deepspeed
model: {{encoder: {encoder}, random_init: true, pooling: mean}}
batching: {{tokens_per_micro_batch: 256, micro_batches_per_step: 2, window_examples: 64}}
optimizer: {{learning_rate: 1.0e-3}}
schedule: {{steps: {steps}}}
checkpointing: {{every_steps: 4, keep: 2}}
evaluation: {{max_examples: 4}}
logging: {{every_steps: 1}}
deepspeed: {{timeout_minutes: 5}}
"""


def write_run(folder: Path, data: Path, steps: int) -> Path:
    path = folder / "run.yaml"
    encoder = shipped_specs() / "quickstart" / "tiny_encoder"
    path.write_text(RUN.format(data=data, encoder=encoder, steps=steps))
    return path


def train(run: Path, specs: Path, out: Path, *more: str) -> list[str]:
    return ["-m", "muppet_zoo", "train", str(run), "--out", str(out), "--specs", str(specs), *more]


def start(command: Sequence[str], **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1", **variables},
    )  # fmt: skip


def finish(processes: Sequence[subprocess.Popen[str]]) -> list[tuple[int, str, str]]:
    said = [process.communicate(timeout=150) for process in processes]
    codes = [process.returncode for process in processes]
    return [(code, *words) for code, words in zip(codes, said, strict=True)]


def assert_same_model(a: Path, b: Path) -> None:
    for file in ("encoder/model.safetensors", "heads.safetensors"):
        ours, theirs = load_file(a / "model" / file), load_file(b / "model" / file)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours), file


def wait_until_logged(out: Path, lines: int, timeout_s: float = 100.0) -> None:
    """Until the run's log has so many lines, or the time is over."""
    log, deadline = out / "metrics.jsonl", time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if log.is_file() and log.read_bytes().count(b"\n") >= lines:
            return
        time.sleep(0.05)
    raise AssertionError(f"{log} has not {lines} lines after {timeout_s} s")
