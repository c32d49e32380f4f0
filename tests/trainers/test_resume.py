"""Training that is killed and goes on writes what an uninterrupted one would have written."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from muppet_zoo.zoo import shipped_specs

TIMINGS = ("seconds", "tokens_per_s", "peak_memory_bytes")
RUN = """\
run_version: 1
data: {data}
mixture: everything
seed: 3
trainer: {trainer}
model: {{encoder: {encoder}, random_init: true, pooling: mean}}
batching: {{tokens_per_micro_batch: 256, micro_batches_per_step: 2, window_examples: 64}}
optimizer: {{learning_rate: 1.0e-3}}
schedule: {{steps: 40}}
checkpointing: {{every_steps: 5, keep: 2}}
evaluation: {{every_steps: 15, max_examples: 4}}
logging: {{every_steps: 1}}
"""


@pytest.fixture
def run_file(quickstart_data: Path, tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    encoder = shipped_specs() / "quickstart" / "tiny_encoder"
    path.write_text(RUN.format(data=quickstart_data, encoder=encoder, trainer="torch"))
    return path


def command(run_file: Path, specs: Path, out: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "muppet_zoo", "train", str(run_file), "--out", str(out),
            "--specs", str(specs), *more]  # fmt: skip


def log(out: Path, name: str = "metrics.jsonl") -> list[dict[str, Any]]:
    lines = (out / name).read_bytes().splitlines() if (out / name).is_file() else []
    entries = [json.loads(line) for line in lines]
    return [
        {k: v for k, v in entry.items() if k not in (*TIMINGS, "checkpoint")} for entry in entries
    ]


def kill_after(process: subprocess.Popen[bytes], out: Path, step: int) -> None:
    """`kill -9` once the log has reached `step`."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        lines = (out / "metrics.jsonl").read_bytes().count(b"\n") if out.is_dir() and (
            out / "metrics.jsonl").is_file() else 0  # fmt: skip
        if lines >= step:
            break
        time.sleep(0.02)
    assert process.poll() is None, "the training ended before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.mark.parametrize(
    ("trainer", "num_processes"),
    [("torch", 1), ("deepspeed", 1), ("deepspeed", 2)],
)
def test_killed_twice_and_resumed(
    run_file: Path, mixed_specs: Path, tmp_path: Path, trainer: str, num_processes: int
) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    options = ("--trainer", trainer, "--num-processes", str(num_processes))
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    subprocess.run(command(run_file, mixed_specs, whole, *options), check=True, env=environment,
                   capture_output=True)  # fmt: skip

    for step, resume in ((8, ()), (22, ("--resume",))):
        process = subprocess.Popen(
            command(run_file, mixed_specs, cut, *options, *resume),
            env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        kill_after(process, cut, step)
        assert not (cut / "model").exists(), "a killed run must not look complete"
    done = subprocess.run(
        command(run_file, mixed_specs, cut, *options, "--resume"),
        check=True, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert "resuming after step" in done.stderr

    assert log(cut) == log(whole)
    assert len(log(cut)) == 40
    assert log(cut, "reports.jsonl") == log(whole, "reports.jsonl")
    for file in ("encoder/model.safetensors", "heads.safetensors"):
        ours, theirs = load_file(cut / "model" / file), load_file(whole / "model" / file)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours), file


def test_a_half_written_checkpoint_is_passed_over(
    run_file: Path, mixed_specs: Path, tmp_path: Path
) -> None:
    """What a kill inside a save leaves behind is not mistaken for a checkpoint."""
    out = tmp_path / "out"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command(run_file, mixed_specs, out), env=environment, stderr=subprocess.DEVNULL
    )
    kill_after(process, out, 12)
    newest = sorted((out / "checkpoints").glob("step-*"))[-1]
    (newest / "checkpoint.json").unlink()
    done = subprocess.run(
        command(run_file, mixed_specs, out, "--resume"),
        check=True, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert f"{newest.name} is not whole" in done.stderr
    assert log(out)[-1]["step"] == 40


@pytest.mark.slow
def test_killed_at_twenty_moments(run_file: Path, mixed_specs: Path, tmp_path: Path) -> None:
    """Kills come at any time: in imports, steps, scoring, saving and publishing."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    longer = ("--resume", "--set", "schedule.steps=500")
    subprocess.run(command(run_file, mixed_specs, whole, *longer), check=True, env=environment,
                   capture_output=True)  # fmt: skip
    moments, num_cut = random.Random(20), 0
    for _ in range(20):
        process = subprocess.Popen(
            command(run_file, mixed_specs, cut, *longer),
            env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(moments.uniform(2.5, 5.0))
        num_cut += process.poll() is None
        process.kill()
        process.wait()
    subprocess.run(command(run_file, mixed_specs, cut, *longer), check=True, env=environment,
                   capture_output=True)  # fmt: skip
    assert num_cut >= 10, "the run ended before it could be killed often"
    assert log(cut) == log(whole)
    assert log(cut, "reports.jsonl") == log(whole, "reports.jsonl")
    for file in ("encoder/model.safetensors", "heads.safetensors"):
        ours, theirs = load_file(cut / "model" / file), load_file(whole / "model" / file)
        assert all(torch.equal(ours[key], theirs[key]) for key in ours), file
