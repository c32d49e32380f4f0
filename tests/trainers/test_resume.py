"""Training that is killed and goes on writes what an uninterrupted one would have written."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from muppet_zoo_torch import loop
from muppet_zoo_torch.trainer import TorchTrainer
from safetensors.torch import load_file

from muppet_zoo.batches import Batcher, MicroBatchPlan
from muppet_zoo.run import Run
from muppet_zoo.trainer_api import TrainRequest, tasks_of
from muppet_zoo.zoo import load_zoo, shipped_specs

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


def num_logged(out: Path) -> int:
    """Whole lines of the log; a kill may have cut the last one."""
    path = out / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.is_file() else 0


def wait_for_step(process: subprocess.Popen[Any], out: Path, step: int) -> None:
    """Until the log has reached `step`."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if num_logged(out) >= step:
            break
        time.sleep(0.02)
    assert process.poll() is None, "the training ended before it could be killed"


def kill_after(process: subprocess.Popen[Any], out: Path, step: int) -> None:
    """`kill -9` once the log has reached `step`."""
    wait_for_step(process, out, step)
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.mark.parametrize(
    ("trainer", "num_processes", "kills"),
    [
        ("torch", 1, (8, 22)),
        pytest.param("deepspeed", 1, (8, 22), marks=pytest.mark.slow),
        pytest.param("deepspeed", 2, (8, 22), marks=pytest.mark.slow),
    ],
)
def test_killed_and_resumed(
    run_file: Path, mixed_specs: Path, tmp_path: Path,
    trainer: str, num_processes: int, kills: tuple[int, ...],
) -> None:  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    options = ("--trainer", trainer, "--num-processes", str(num_processes))
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    subprocess.run(command(run_file, mixed_specs, whole, *options), check=True, env=environment,
                   capture_output=True)  # fmt: skip

    for number, step in enumerate(kills):
        resume = ("--resume",) if number else ()
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

    assert len(log(cut)) == 40
    assert_same_outcome(cut, whole)


def test_a_resumed_run_replays_nothing(
    make_run: Callable[..., Run], mixed_specs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads the micro-batches of its own steps and plans the window it is in, no other."""
    run = make_run(schedule={"steps": 12}, checkpointing={"every_steps": 10})
    tasks, rates = tasks_of(run, load_zoo([mixed_specs]))
    request = TrainRequest(run=run, tasks=tasks, rates=rates, out=tmp_path / "out")
    TorchTrainer().train(request)
    shutil.rmtree(tmp_path / "out" / "model")
    shutil.rmtree(tmp_path / "out" / "checkpoints" / "step-00000012")
    read, planned = [], []
    collate, window = loop.collate, Batcher._window

    def counted_collate(plan: MicroBatchPlan, *more: Any) -> Any:
        read.append(plan)
        return collate(plan, *more)

    def counted_window(self: Batcher, number: int, stop: int | None) -> Any:
        planned.append(number)
        return window(self, number, stop)

    monkeypatch.setattr(loop, "collate", counted_collate)
    monkeypatch.setattr(Batcher, "_window", counted_window)
    TorchTrainer().train(replace(request, resume=True))
    assert len(read) == 2 * run.batching.micro_batches_per_step
    assert planned[0] > 3
    assert len(planned) <= 2


# --- kills -----------------------------------------------------------------------------------

# Where a process is killed: its n-th call of a function, before it or after it has returned.
KILLS = {
    "inside a save, its files not written": ("training_state.save_file", 2, "before"),
    "inside a save, the record not written": ("checkpoints.write_atomically", 2, "before"),
    "inside a save, not renamed": ("checkpoints.write_atomically", 1, "after"),
    "right after a save": ("loop.save_checkpoint", 2, "after"),
    "while old checkpoints are dropped": ("checkpoints.shutil.rmtree", 3, "before"),
    "in a step": ("loop.to_tensors", 7, "before"),
    "in scoring": ("loop.append_report", 3, "after"),
    "while the model is published": ("export.write_layout", 1, "last"),
}

KILLED = """\
import importlib, os, signal, sys
module, _, name = sys.argv.pop(1).rpartition(".")
count, when = int(sys.argv.pop(1)), sys.argv.pop(1)
place = importlib.import_module("muppet_zoo_torch." + module.split(".")[0])
for part in module.split(".")[1:]:
    place = getattr(place, part)
function, calls = getattr(place, name), 0

def killed(*arguments, **options):
    global calls
    calls += 1
    last = when == "last" and ".model.tmp" in str(vars(arguments[0])["path"])
    if last or (calls == count and when == "before"):
        os.kill(os.getpid(), signal.SIGKILL)
    result = function(*arguments, **options)
    if calls == count and when == "after":
        os.kill(os.getpid(), signal.SIGKILL)
    return result

setattr(place, name, killed)
from muppet_zoo.cli import main
main()
"""


def assert_same_outcome(cut: Path, whole: Path) -> None:
    assert log(cut) == log(whole)
    assert log(cut, "reports.jsonl") == log(whole, "reports.jsonl")
    for file in ("encoder/model.safetensors", "heads.safetensors"):
        ours, theirs = load_file(cut / "model" / file), load_file(whole / "model" / file)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours), file


@pytest.mark.slow
def test_killed_in_every_phase(run_file: Path, mixed_specs: Path, tmp_path: Path) -> None:
    """Each kill happens; each time the run goes on, and ends as one that was left alone."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    subprocess.run(command(run_file, mixed_specs, whole), check=True, env=environment,
                   capture_output=True)  # fmt: skip
    for where, (function, count, when) in KILLS.items():
        kill = [sys.executable, "-c", KILLED, function, str(count), when]
        arguments = command(run_file, mixed_specs, cut, "--resume")[3:]
        done = subprocess.run(
            [*kill, *arguments], env=environment, capture_output=True, check=False
        )
        assert done.returncode == -signal.SIGKILL, (where, done.stderr.decode())
        assert not (cut / "model").exists()
    done = subprocess.run(command(run_file, mixed_specs, cut, "--resume"), check=True,
                          env=environment, capture_output=True, text=True)  # fmt: skip
    assert "passed over" not in done.stderr  # a kill leaves nothing that looks like a checkpoint
    assert_same_outcome(cut, whole)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "rank", "told"),
    [
        (signal.SIGKILL, 1, "process 1 of 2 ended with signal SIGKILL"),
        (signal.SIGSTOP, 1, "no sign of life from process 1 of 2: "),
        (signal.SIGSTOP, 0, "no sign of life from process 0 of 2: "),
    ],
)
def test_a_rank_that_is_killed_or_hangs_ends_the_run(
    run_file: Path, mixed_specs: Path, tmp_path: Path, how: signal.Signals, rank: int, told: str
) -> None:
    """The parent says which, the other rank's complaints are not shown, and the run can go on."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    options = ("--trainer", "deepspeed", "--num-processes", "2",
               "--set", "deepspeed.timeout_minutes=1")  # fmt: skip
    subprocess.run(command(run_file, mixed_specs, whole, *options), check=True, env=environment,
                   capture_output=True)  # fmt: skip
    parent = subprocess.Popen(
        command(run_file, mixed_specs, cut, *options), env=environment, stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    wait_for_step(parent, cut, 8)
    os.kill(rank_id(parent.pid, rank), how)
    _, said = parent.communicate(timeout=60 if how is signal.SIGKILL else 180)
    assert parent.returncode == 1
    assert f"error: {told}" in said
    assert "go on with --resume" in said
    assert "Traceback" not in said
    subprocess.run(command(run_file, mixed_specs, cut, *options, "--resume"), check=True,
                   env=environment, capture_output=True)  # fmt: skip
    assert_same_outcome(cut, whole)


def rank_id(parent: int, rank: int) -> int:
    """The process id of a rank that `parent` started."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    for child in map(int, children):
        if f"RANK={rank}".encode() in Path(f"/proc/{child}/environ").read_bytes().split(b"\0"):
            return child
    raise AssertionError(f"process {parent} has no rank {rank} among {children}")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("trainer", "num_processes", "steps", "kills"),
    [("torch", 1, 500, 20), ("deepspeed", 2, 200, 8)],
)
def test_killed_at_many_moments(
    run_file: Path, mixed_specs: Path, tmp_path: Path,
    trainer: str, num_processes: int, steps: int, kills: int,
) -> None:  # fmt: skip
    """Kills come at any time: in steps, scoring, saving and publishing."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    options = ("--trainer", trainer, "--num-processes", str(num_processes), "--resume",
               "--set", f"schedule.steps={steps}")  # fmt: skip
    subprocess.run(command(run_file, mixed_specs, whole, *options), check=True, env=environment,
                   capture_output=True)  # fmt: skip
    moments, num_cut = random.Random(20), 0
    for _ in range(kills):
        begun = num_logged(cut)
        process = subprocess.Popen(
            command(run_file, mixed_specs, cut, *options),
            env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        while process.poll() is None and num_logged(cut) == begun:
            time.sleep(0.01)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(moments.uniform(0, 1.5))
        num_cut += process.poll() is None
        process.kill()
        process.wait()
    subprocess.run(command(run_file, mixed_specs, cut, *options), check=True, env=environment,
                   capture_output=True)  # fmt: skip
    assert num_cut >= kills // 2, "the run ended before it could be killed often"
    assert_same_outcome(cut, whole)
