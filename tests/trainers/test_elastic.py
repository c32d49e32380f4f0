"""A checkpoint is read by any trainer, on any number of processes, at any ZeRO stage.

Where trainer, stage and processes stay, the run that goes on is bitwise the uninterrupted one.
Elsewhere sums are taken in another order; TOLERANCE bounds what that does to losses and parameters.
AdamW, since its moments have to come along, with an epsilon that keeps it from making whole steps
of rounding noise where the true gradient is zero.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from muppet_zoo_deepspeed.launch import run_ranks
from muppet_zoo_deepspeed.trainer import DeepSpeedTrainer, write_request
from muppet_zoo_torch.trainer import TorchTrainer
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional
from zero_worker import copy_first_checkpoint

from muppet_zoo.run import Run
from muppet_zoo.trainer_api import TrainRequest, tasks_of
from muppet_zoo.zoo import load_zoo

STAGES = (0, 1, 2, 3)
# The default suite takes a part, since each process needs seconds to start.
TWO_PROCESSES = [(3,), pytest.param((0, 1, 2), marks=pytest.mark.slow)]
TOLERANCE = 1e-5
STATE = [f"state/{kind}.safetensors" for kind in ("parameters", "exp_avg", "exp_avg_sq")]


@pytest.fixture
def write(make_run: Callable[..., Run], mixed_specs: Path, tmp_path: Path) -> Callable[..., Path]:
    """Write the request of a run of two steps with a checkpoint after each; returns its path."""

    def call(name: str, *, stage: int, num_processes: int = 1) -> Path:
        out = tmp_path / name
        out.mkdir()
        return write_request(request(make_run, mixed_specs, out, stage, num_processes))

    return call


def request(
    make_run: Callable[..., Run],
    specs: Path,
    out: Path,
    stage: int = 0,
    num_processes: int = 1,
    **changes: Any,
) -> TrainRequest:
    run = make_run(
        optimizer={"name": "adamw", "learning_rate": 1e-3, "eps": 1e-3},
        schedule={"steps": 2},
        checkpointing={"every_steps": 1},
        evaluation={"max_examples": 1},
        deepspeed={"zero_stage": stage, "bucket_elements": 3000},
        **changes,
    )
    tasks, rates = tasks_of(run, load_zoo([specs]))
    return TrainRequest(
        run=run, tasks=tasks, rates=rates, out=out, resume=True, num_processes=num_processes,
        spec_dirs=(specs,),
    )  # fmt: skip


def learned(out: Path, step: int = 2) -> dict[str, Tensor]:
    folder = out / f"checkpoints/step-{step:08d}"
    return {f"{file}:{k}": v for file in STATE for k, v in load_file(folder / file).items()}


def losses(out: Path) -> list[dict[str, Any]]:
    """What the log says that does not depend on time or rounding, and the losses."""
    entries = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{k: e[k] for k in ("step", "loss", "task_examples", "num_tokens")} for e in entries]


def assert_equal(ours: Path, theirs: Path) -> None:
    a, b = learned(ours), learned(theirs)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert losses(ours) == losses(theirs)


def assert_close(ours: Path, theirs: Path) -> None:
    a, b = learned(ours), learned(theirs)
    assert a.keys() == b.keys()
    worst = max((a[key] - b[key]).abs().max().item() for key in a)
    assert worst <= TOLERANCE, (ours.name, theirs.name, worst)
    for mine, other in zip(losses(ours), losses(theirs), strict=True):
        assert mine.pop("loss") == pytest.approx(other.pop("loss"), abs=TOLERANCE)
        assert mine == other


@pytest.mark.slow
def test_one_process_from_trainer_to_trainer_and_stage_to_stage(
    make_run: Callable[..., Run], mixed_specs: Path, tmp_path: Path
) -> None:
    def train(name: str, trainer: Any, source: str | None, stage: int = 0) -> Path:
        out = tmp_path / name
        out.mkdir()
        if source is not None:
            copy_first_checkpoint(tmp_path / source, out)
        trainer().train(request(make_run, mixed_specs, out, stage))
        return out

    whole = train("torch", TorchTrainer, None)
    start, end = learned(whole, 1), learned(whole, 2)
    assert {key.partition(":")[0] for key in start} == set(STATE)
    assert max((end[key] - start[key]).abs().max().item() for key in end) > 100 * TOLERANCE
    assert_equal(train("torch-again", TorchTrainer, "torch"), whole)
    for stage in STAGES:
        name = f"stage-{stage}"
        own = train(name, DeepSpeedTrainer, None, stage)
        assert_close(own, whole)
        assert_equal(train(f"{name}-again", DeepSpeedTrainer, name, stage), own)
        assert_close(train(f"{name}-from-torch", DeepSpeedTrainer, "torch", stage), whole)
        assert_close(train(f"torch-from-{name}", TorchTrainer, name), whole)
    assert_equal(train("torch-after-all", TorchTrainer, None), whole)


def test_zero_3_leaves_torch_as_it_was(
    make_run: Callable[..., Run], mixed_specs: Path, tmp_path: Path
) -> None:
    linear = functional.linear
    DeepSpeedTrainer().train(request(make_run, mixed_specs, tmp_path / "out", 3))
    assert functional.linear is linear


@pytest.mark.slow
def test_what_is_not_trained_comes_along(
    make_run: Callable[..., Run], mixed_specs: Path, tmp_path: Path
) -> None:
    """Frozen parameters and those that R4F normalises, which have other names and buffers."""
    settings = {"model": {"freeze": {"embeddings": True}}, "r3f": {"spectral_norm": True}}
    whole = request(make_run, mixed_specs, tmp_path / "torch", **settings)
    TorchTrainer().train(whole)
    saved, trained = (
        {key.partition(":")[2] for key in learned(whole.out) if key.startswith(kind)}
        for kind in STATE[:2]
    )
    frozen = saved - trained
    assert any("embeddings" in key for key in frozen)
    for stage in (2, 3):
        there = request(make_run, mixed_specs, tmp_path / f"to-{stage}", stage, **settings)
        back = request(make_run, mixed_specs, tmp_path / f"from-{stage}", **settings)
        copy_first_checkpoint(whole.out, there.out)
        DeepSpeedTrainer().train(there)
        assert_close(there.out, whole.out)
        copy_first_checkpoint(there.out, back.out)
        TorchTrainer().train(back)
        assert_close(back.out, whole.out)


def run_chain(
    write: Callable[..., Path],
    tmp_path: Path,
    num_processes: int,
    sources: Sequence[str],
    stages: Sequence[int] = STAGES,
) -> None:
    """Whole runs at every stage, each of them resumed at its own stage, and `sources` at all."""
    arguments = []
    for stage in stages:
        name = f"{num_processes}-{stage}"
        arguments.append(str(write(name, stage=stage, num_processes=num_processes)))
        for source in (name, *sources):
            path = write(f"{name}-from-{source}", stage=stage, num_processes=num_processes)
            arguments.append(f"{tmp_path / source}>{path}")
    run_ranks("zero_worker", arguments, num_processes)


@pytest.fixture
def torch_run(make_run: Callable[..., Run], mixed_specs: Path, tmp_path: Path) -> Path:
    out = tmp_path / "torch"
    TorchTrainer().train(request(make_run, mixed_specs, out))
    return out


@pytest.mark.parametrize("stages", TWO_PROCESSES)
def test_two_processes_from_one_and_back(
    stages: tuple[int, ...],
    write: Callable[..., Path],
    torch_run: Path,
    make_run: Callable[..., Run],
    mixed_specs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
    run_chain(write, tmp_path, 2, ["torch"], stages)
    for stage in stages:
        whole = tmp_path / f"2-{stage}"
        assert_equal(tmp_path / f"2-{stage}-from-2-{stage}", whole)
        assert_close(whole, torch_run)
        assert_close(tmp_path / f"2-{stage}-from-torch", torch_run)
        back = tmp_path / f"torch-from-2-{stage}"
        back.mkdir()
        copy_first_checkpoint(whole, back)
        TorchTrainer().train(request(make_run, mixed_specs, back))
        assert_close(back, torch_run)


@pytest.mark.slow
def test_three_processes_from_two_at_other_stages(
    write: Callable[..., Path],
    torch_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
    run_chain(write, tmp_path, 2, [])
    from_two = [f"2-{stage}" for stage in STAGES]
    run_chain(write, tmp_path, 3, from_two)
    for stage in STAGES:
        assert_close(tmp_path / f"3-{stage}", torch_run)
        assert_equal(tmp_path / f"3-{stage}-from-3-{stage}", tmp_path / f"3-{stage}")
        for source in from_two:
            assert_close(tmp_path / f"3-{stage}-from-{source}", torch_run)
