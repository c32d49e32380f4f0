"""DeepSpeed at every ZeRO stage, on one process and on two, against the plain torch trainer.

The case that goes silently wrong elsewhere: processes whose micro-batches hold different tasks.
SGD, so that a gradient of zero moves nothing (AdamW turns rounding noise into whole steps), fp32,
no clipping; dropout is on, since the loop draws it from (seed, step, micro-batch).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from muppet_zoo_deepspeed.launch import run_ranks
from muppet_zoo_deepspeed.trainer import DeepSpeedTrainer, write_request
from muppet_zoo_torch.plan import make_plan
from muppet_zoo_torch.trainer import TorchTrainer, make_model
from safetensors.torch import load_file
from torch import Tensor

from muppet_zoo.results import read_reports
from muppet_zoo.run import Run
from muppet_zoo.trainer_api import TrainRequest, tasks_of
from muppet_zoo.zoo import load_zoo

STAGES = (0, 1, 2, 3)
WEIGHTS = ("model/encoder/model.safetensors", "model/heads.safetensors")


def weights(out: Path) -> dict[str, Tensor]:
    return {f"{file}:{k}": v for file in WEIGHTS for k, v in load_file(out / file).items()}


def request_for(run: Run, specs: Path, out: Path, num_processes: int = 1) -> TrainRequest:
    tasks, rates = tasks_of(run, load_zoo([specs]))
    return TrainRequest(
        run=run, tasks=tasks, rates=rates, out=out, num_processes=num_processes,
        spec_dirs=(specs,),
    )  # fmt: skip


# Noise that matters, so that a step whose noise came from elsewhere is found out.
R4F = {"epsilon": 1e-2, "weight": 2.0, "spectral_norm": True}


@pytest.mark.parametrize(
    ("num_processes", "stages", "changes"),
    [
        pytest.param(1, STAGES, {}, id="one process", marks=pytest.mark.slow),
        pytest.param(2, STAGES, {}, id="two processes"),
        pytest.param(
            2, STAGES, {"r3f": R4F}, id="two processes, R4F, packed", marks=pytest.mark.slow
        ),
    ],
)
def test_every_stage_equals_the_reference(
    make_run: Callable[..., Run],
    mixed_specs: Path,
    tmp_path: Path,
    num_processes: int,
    stages: tuple[int, ...],
    changes: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
    packing = "on" if "r3f" in changes else "off"
    assert_equal(make_run, mixed_specs, tmp_path, stages, num_processes, packing, **changes)


SEQ2SEQ: dict[str, dict[str, Any]] = {
    "plain": {},
    "dense": {"model": {"head_dense": "per_task", "gradient_checkpointing": True}},
    "frozen": {"model": {"freeze": {"embeddings": True, "layers": 1}}},
    "lora": {"model": {"lora": {"rank": 2, "alpha": 4.0, "dropout": 0.0}}},
    "r4f": {"r3f": R4F},
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plain", "dense", "frozen", "lora", "r4f"])
def test_an_encoder_decoder_equals_the_reference(
    make_run: Callable[..., Run],
    seq2seq_folder: Callable[..., Path],
    mixed_specs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    """Two processes, of which one often has nothing to generate; scored with beams at the end."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
    special = SEQ2SEQ[kind]
    changes = {
        **special,
        "mixture": "all_heads",
        "model": {"encoder": str(seq2seq_folder("bart")), **special.get("model", {})},
        "generation": {"num_beams": 2},
        "schedule": {"steps": 2},
        "evaluation": {"max_examples": 6},
    }
    assert_equal(make_run, mixed_specs, tmp_path, STAGES, 2, "off", **changes)


def assert_equal(
    make_run: Callable[..., Run],
    specs: Path,
    folder: Path,
    stages: tuple[int, ...],
    num_processes: int,
    packing: str,
    **changes: Any,
) -> None:
    """DeepSpeed's weights and scores are those of the torch trainer, which reads padded rows, and
    those have moved."""
    reference = request_for(make_run(**changes), specs, folder / "reference")
    plan = make_plan(reference)
    _assert_ranks_differ(plan)
    start = {k: v.clone() for k, v in make_model(plan).state_dict().items()}
    TorchTrainer().train(reference)
    expected, scores = weights(reference.out), final_scores(reference.out)

    arguments: list[str] = []
    for stage in stages:
        out = folder / f"stage-{stage}"
        out.mkdir()
        model = {**changes.get("model", {}), "packing": packing}
        run = make_run(**{**changes, "model": model}, deepspeed={"zero_stage": stage})
        arguments.append(str(write_request(request_for(run, specs, out, num_processes))))
    run_ranks("zero_worker", arguments, num_processes)

    for stage in stages:
        found = weights(folder / f"stage-{stage}")
        assert found.keys() == expected.keys()
        worst = max((found[k] - expected[k]).abs().max().item() for k in expected)
        assert worst <= 1e-6, f"stage {stage} on {num_processes} processes: {worst}"
        assert final_scores(folder / f"stage-{stage}") == pytest.approx(scores, abs=1e-3)
    moved = max(
        (expected[f"model/heads.safetensors:{k}"] - start[k]).abs().max().item()
        for k in ("sentence.weight", "token.weight")
    )
    assert moved > 5e-3, "the comparison means nothing if nothing was learned"


def final_scores(out: Path) -> dict[str, float]:
    return {
        f"{report.task}.{metric}": score
        for report in read_reports(out / "reports.jsonl").reports
        for metric, score in report.scores.items()
    }


def _assert_ranks_differ(plan) -> None:  # type: ignore[no-untyped-def]
    """The plan must hold what this test is about."""
    mixed = different = 0
    for _, step in zip(range(plan.num_steps), plan.batcher.steps(), strict=False):
        mine, theirs = step.for_rank(0, 2)[0], step.for_rank(1, 2)[0]
        mixed += len(set(mine.tasks.tolist())) > 1
        different += set(mine.tasks.tolist()) != set(theirs.tasks.tolist())
    assert mixed == plan.num_steps
    assert different == plan.num_steps


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_a_process_without_a_micro_batch_changes_nothing(
    make_run: Callable[..., Run], mixed_specs: Path, tmp_path: Path, world_size: int
) -> None:
    """Shares of all ranks add up to the step, also where they cannot be equally many."""
    plan = make_plan(request_for(make_run(), mixed_specs, tmp_path / "out"))
    step = next(iter(plan.batcher.steps()))
    shares = [step.for_rank(rank, world_size) for rank in range(world_size)]
    assert len({len(share) for share in shares}) == 1
    rows = [
        (int(t), int(r))
        for share in shares
        for part in share
        if part is not None
        for t, r in zip(part.tasks, part.rows, strict=True)
    ]
    whole = [
        (int(t), int(r))
        for part in step.micro_batches
        for t, r in zip(part.tasks, part.rows, strict=True)
    ]
    assert sorted(rows) == sorted(whole)
    assert len(whole) == step.num_examples


def test_dropout_is_the_same_whatever_came_before(
    make_run: Callable[..., Run], mixed_specs: Path, tmp_path: Path
) -> None:
    """Random numbers are a function of seed, step and micro-batch; nothing needs saving."""
    first = request_for(make_run(), mixed_specs, tmp_path / "first")
    TorchTrainer().train(first)
    torch.manual_seed(12345)
    torch.rand(1000)
    second = replace(first, out=tmp_path / "second")
    TorchTrainer().train(second)
    for key, value in weights(first.out).items():
        assert torch.equal(value, weights(second.out)[key])


def test_bf16_is_the_same_on_both_engines(
    make_run: Callable[..., Run], mixed_specs: Path, tmp_path: Path
) -> None:
    """Products are rounded, parameters are not: what is saved has single precision."""
    run = make_run(precision="bf16")
    reference = request_for(run, mixed_specs, tmp_path / "reference")
    TorchTrainer().train(reference)
    expected, exact = weights(reference.out), request_for(make_run(), mixed_specs, tmp_path / "32")
    TorchTrainer().train(exact)
    out = tmp_path / "deepspeed"
    DeepSpeedTrainer().train(request_for(run, mixed_specs, out))
    found = weights(out)
    assert max((found[k] - expected[k]).abs().max().item() for k in expected) <= 1e-5
    for key, value in weights(exact.out).items():
        assert found[key].dtype == torch.float32
        assert torch.allclose(found[key], value, atol=2e-2), key
    heads = found["model/heads.safetensors:sentence.weight"]
    assert not torch.equal(heads, heads.bfloat16().float())
    assert not torch.equal(heads, weights(exact.out)["model/heads.safetensors:sentence.weight"])
