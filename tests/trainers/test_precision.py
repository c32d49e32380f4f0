"""Half precision: the same update but for rounding, small gradients kept, resumed bit for bit."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from muppet_zoo_torch.batch import to_tensors
from muppet_zoo_torch.checkpoints import checkpoint_folder
from muppet_zoo_torch.engine import TorchEngine
from muppet_zoo_torch.evaluate import pad_id
from muppet_zoo_torch.plan import Plan, make_plan
from muppet_zoo_torch.trainer import TorchTrainer, make_model
from torch import Tensor

from muppet_zoo.collate import collate
from muppet_zoo.errors import DivergedError
from muppet_zoo.file_tools import checksum_of
from muppet_zoo.heads import HEADS
from muppet_zoo.run import Run
from muppet_zoo.trainer_api import TrainRequest, tasks_of
from muppet_zoo.zoo import load_zoo

MakeRun = Callable[..., Run]
CPU = torch.device("cpu")
ROUNDING = {"bf16": 2.0**-8, "fp16": 2.0**-11}


def update(plan: Plan, precision: str, share: float = 1.0) -> Tensor:
    """What one step of SGD takes from all parameters, as one vector: a part of a large step's.

    The learning rate undoes `share`, so only half precision can tell shares apart.
    """
    engine = TorchEngine(make_model(plan).eval(), replace(plan.run, precision=precision), CPU)
    before = flat(engine)
    step = next(iter(plan.batcher.steps()))
    heads = {plan.layout.slots[t].head for m in step.micro_batches for t in m.tasks}
    assert heads == set(HEADS) - {"generation"}
    for micro_batch in step.micro_batches:
        batch = collate(micro_batch, plan.pool, pad_id(engine.model))
        losses, _ = engine.forward(to_tensors(batch, CPU))
        engine.backward(losses.sum() * (share / step.num_examples), last=True)
    engine.step([1.0 / share] * 3)
    return before - flat(engine)


def flat(engine: TorchEngine) -> Tensor:
    values = [value.flatten() for value in engine.full_state_dict().values()]
    assert all(value.dtype == torch.float32 for value in values)
    return torch.cat(values).double()


@pytest.fixture
def plan(make_run: MakeRun, mixed_specs: Path, tmp_path: Path) -> Plan:
    run = make_run(batching={"tokens_per_micro_batch": 512, "micro_batches_per_step": 6})
    tasks, rates = tasks_of(run, load_zoo([mixed_specs]))
    return make_plan(TrainRequest(run=run, tasks=tasks, rates=rates, out=tmp_path))


def ask(make_run: MakeRun, specs: Path, out: Path, precision: str, **changes: Any) -> TrainRequest:
    run = make_run(trainer="torch", precision=precision, **changes)
    tasks, rates = tasks_of(run, load_zoo([specs]))
    return TrainRequest(run=run, tasks=tasks, rates=rates, out=out)


def error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("precision", list(ROUNDING))
def test_the_update_of_all_heads_is_that_of_single_precision(plan: Plan, precision: str) -> None:
    single, half = update(plan, "fp32"), update(plan, precision)
    assert 0 < error(half, single) <= 4 * ROUNDING[precision]


def test_small_gradients_of_fp16_are_kept_by_the_loss_scale(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    share = 2.0**-18  # of a step of some million examples
    single = update(plan, "fp32", share)

    def lost() -> float:
        """Share of the parameters that single precision moves and half precision does not."""
        return float((update(plan, "fp16", share)[single != 0] == 0).double().mean())

    assert lost() <= 0.001
    monkeypatch.setattr("muppet_zoo_torch.engine.FP16_LOSS_SCALE", 1.0)
    assert lost() > 0.02


def test_an_overflow_is_told_as_one(make_run: MakeRun, mixed_specs: Path, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"r3f": {"epsilon": 0.5, "weight": 1e7}, "schedule": {"steps": 1}}
    TorchTrainer().train(ask(make_run, mixed_specs, tmp_path / "fp32", "fp32", **changes))
    with pytest.raises(DivergedError, match=r"too large for fp16.*precision: bf16 or fp32"):
        TorchTrainer().train(ask(make_run, mixed_specs, tmp_path / "fp16", "fp16", **changes))


@pytest.mark.parametrize(
    ("precision", "epsilon", "told"),
    [("fp32", 1e-5, False), ("bf16", 1e-3, True), ("bf16", 1e-2, False), ("fp16", 1e-5, True),
     ("bf16", 0.0, False)],
)  # fmt: skip
def test_noise_that_rounding_takes_away_is_told(
    make_run: MakeRun, mixed_specs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    precision: str, epsilon: float, told: bool,
) -> None:  # fmt: skip
    changes: dict[str, Any] = {"r3f": {"epsilon": epsilon}, "schedule": {"steps": 1}}
    TorchTrainer().train(ask(make_run, mixed_specs, tmp_path / "out", precision, **changes))
    assert (f"r3f.epsilon: {epsilon:g} is less than {precision}" in capsys.readouterr().err) is told


@pytest.mark.parametrize("precision", list(ROUNDING))
def test_a_resumed_run_has_the_same_bits(
    make_run: MakeRun, mixed_specs: Path, tmp_path: Path, precision: str
) -> None:
    changes: dict[str, Any] = {
        "optimizer": {"name": "adamw", "learning_rate": 1e-3, "gradient_clipping": 1.0},
        "checkpointing": {"every_steps": 2, "keep": 2},
        "r3f": {"epsilon": 1e-2},
    }
    asked = ask(make_run, mixed_specs, tmp_path / "out", precision, **changes)
    TorchTrainer().train(asked)
    last = checkpoint_folder(asked.out, 4)
    whole = state_of(last)
    shutil.rmtree(last)
    shutil.rmtree(asked.out / "model")
    TorchTrainer().train(replace(asked, resume=True))
    assert state_of(last) == whole


def state_of(checkpoint: Path) -> dict[str, str]:
    files = sorted((checkpoint / "state").iterdir())
    assert len(files) == 3  # parameters and AdamW's two moments
    return {path.name: checksum_of(path) for path in files}
