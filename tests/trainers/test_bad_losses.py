"""A loss that is not finite stops the run, or costs one step, on all processes alike."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bad_loss_worker import with_bad_row
from muppet_zoo_deepspeed.launch import run_ranks
from muppet_zoo_deepspeed.trainer import DeepSpeedTrainer, write_request
from muppet_zoo_torch import loop
from muppet_zoo_torch.plan import Plan, make_plan
from muppet_zoo_torch.trainer import TorchTrainer
from safetensors.torch import load_file
from torch import Tensor

from muppet_zoo.errors import TrainingError
from muppet_zoo.run import Run
from muppet_zoo.trainer_api import TrainRequest, tasks_of
from muppet_zoo.zoo import load_zoo

TASK = "qs_similarity"


@pytest.fixture
def ask(make_run: Callable[..., Run], mixed_specs: Path, tmp_path: Path) -> Callable[..., Any]:
    """A request of four steps, each with a checkpoint, by AdamW."""

    def call(name: str, on_bad_loss: str, num_processes: int = 1, **changes: Any) -> TrainRequest:
        run = make_run(
            on_bad_loss=on_bad_loss,
            optimizer={"name": "adamw", "learning_rate": 1e-3, "eps": 1e-3},
            checkpointing={"every_steps": 1, "keep": 9},
            evaluation={"max_examples": 1},
            **changes,
        )
        tasks, rates = tasks_of(run, load_zoo([mixed_specs]))
        return TrainRequest(
            run=run, tasks=tasks, rates=rates, out=tmp_path / name, resume=True,
            num_processes=num_processes, spec_dirs=(mixed_specs,),
        )  # fmt: skip

    return call


def bad_place(plan: Plan) -> tuple[int, int, int]:
    """(step from 1, task, row) of an example that one process of two reads, in step 2 or later."""
    task = [spec.name for spec in plan.specs].index(TASK)
    for number, step in zip(range(1, plan.num_steps + 1), plan.batcher.steps(), strict=False):
        for micro_batch in step.for_rank(1, 2):
            if number > 1 and micro_batch is not None and task in micro_batch.tasks:
                return number, task, int(micro_batch.rows[micro_batch.tasks == task][0])
    raise AssertionError(f"{TASK} is in no later step")


def learned(out: Path, step: int) -> dict[str, Tensor]:
    state = out / f"checkpoints/step-{step:08d}/state"
    return {f"{p.stem}:{k}": v for p in sorted(state.iterdir()) for k, v in load_file(p).items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def log(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("trainer", [TorchTrainer, DeepSpeedTrainer])
def test_stopped_then_told_to_skip(
    ask: Callable[..., TrainRequest],
    trainer: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = ask("out", "stop")
    plan = make_plan(asked)
    step, task, row = bad_place(plan)
    [source_row] = plan.train[task].column("row", np.array([row]))
    monkeypatch.setattr(loop, "collate", with_bad_row(task, row))
    with pytest.raises(TrainingError) as caught:
        trainer().train(asked)
    found = f"step {step}: the loss of 1 example is not finite: task {TASK}, train row {source_row}"
    assert str(caught.value).startswith(found + ". ")
    assert "--set on_bad_loss=skip" in str(caught.value)
    assert [entry["step"] for entry in log(asked.out)] == list(range(1, step))
    assert not (asked.out / f"checkpoints/step-{step:08d}").exists()

    capsys.readouterr()
    trainer().train(replace(asked, run=ask("out", "skip").run))
    told = capsys.readouterr().err
    assert f"resuming after step {step - 1} of 4" in told
    assert f"{found}; the step is skipped" in told
    assert [entry["skipped_steps"] for entry in log(asked.out)] == [
        int(entry["step"] == step) for entry in log(asked.out)
    ]
    assert log(asked.out)[step - 1]["loss"] is None
    assert same(learned(asked.out, step), learned(asked.out, step - 1))
    assert not same(learned(asked.out, 4), learned(asked.out, step))
    record = json.loads((asked.out / "checkpoints/step-00000004/checkpoint.json").read_text())
    assert (record["step"], record["num_updates"]) == (4, 3)


def test_logits_of_one_row_spoil_no_other_rows_loss(
    ask: Callable[..., TrainRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    from muppet_zoo_torch.batch import to_tensors
    from muppet_zoo_torch.evaluate import pad_id
    from muppet_zoo_torch.trainer import make_model

    from muppet_zoo.collate import collate

    plan = make_plan(ask("out", "stop"))
    model = make_model(plan).eval()
    micro_batch = next(iter(plan.batcher.steps())).micro_batches[0]
    batch = to_tensors(collate(micro_batch, plan.pool, pad_id(model)), torch.device("cpu"))
    logits = model._logits

    def spoiled(inner: Any) -> dict[str, Tensor]:
        found = logits(inner)
        found["sentence"] = found["sentence"].clone()
        found["sentence"][0] = torch.nan
        return found

    before, _ = model(batch)
    monkeypatch.setattr(model, "_logits", spoiled)
    after, _ = model(batch)
    bad = ~torch.isfinite(after)
    assert 1 <= int(bad.sum()) < len(after)
    assert torch.equal(before[~bad], after[~bad])


def test_a_model_that_is_lost_cannot_skip(ask: Callable[..., TrainRequest]) -> None:
    lost = ask("out", "skip", schedule={"steps": 9})
    optimizer = replace(lost.run.optimizer, name="sgd", learning_rate=1e30)
    with pytest.raises(TrainingError, match=r"not finite.*start another run with a lower"):
        TorchTrainer().train(replace(lost, run=replace(lost.run, optimizer=optimizer)))


@pytest.mark.parametrize("stages", [(3,), pytest.param((0, 1, 2), marks=pytest.mark.slow)])
def test_two_processes_of_which_one_reads_the_bad_row(
    stages: tuple[int, ...],
    ask: Callable[..., TrainRequest],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    reference = ask("torch", "skip")
    plan = make_plan(reference)
    step, task, row = bad_place(plan)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "collate", with_bad_row(task, row))
        TorchTrainer().train(reference)
    requests = []
    cases = [*((str(stage), "skip", stage) for stage in stages), ("stop", "stop", 2)]
    for name, on_bad_loss, stage in cases:
        asked = ask(name, on_bad_loss, 2, deepspeed={"zero_stage": stage, "bucket_elements": 3000})
        asked.out.mkdir()
        requests.append(str(write_request(asked)))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
    with pytest.raises(TrainingError) as caught:
        run_ranks("bad_loss_worker", [str(task), str(row), *requests], 2)

    assert str(caught.value).startswith(f"step {step}: the loss of 1 example is not finite: task")
    assert "not finite" not in capfd.readouterr().err.rpartition("the step is skipped")[2]
    assert [entry["step"] for entry in log(tmp_path / "stop")] == list(range(1, step))
    for stage in stages:
        out = tmp_path / str(stage)
        assert same(learned(out, step), learned(out, step - 1)), stage
        ours, theirs = learned(out, 4), learned(reference.out, 4)
        assert max((ours[key] - theirs[key]).abs().max().item() for key in theirs) <= 1e-5, stage
