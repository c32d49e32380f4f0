"""The gradient of one optimizer step against a reference that shares no code with the trainers.

The reference runs every sequence alone, unpadded, through the encoder, gives every head its own
map, takes each example's loss from PyTorch, divides it by the log of its outcomes, adds all up and
divides once. It knows nothing of micro-batches, fused maps or masks.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from muppet_zoo_torch.batch import to_tensors
from muppet_zoo_torch.evaluate import pad_id
from muppet_zoo_torch.model import MultiTaskModel
from muppet_zoo_torch.plan import Plan, make_plan
from muppet_zoo_torch.trainer import make_model
from torch import Tensor
from torch.nn import functional as F

from muppet_zoo.batches import MicroBatchPlan, StepPlan
from muppet_zoo.collate import collate
from muppet_zoo.run import Run
from muppet_zoo.shards import BuiltSplit
from muppet_zoo.trainer_api import TrainRequest, tasks_of
from muppet_zoo.zoo import load_zoo

MakeRun = Callable[..., Run]
CPU = torch.device("cpu")


def plan_of(run: Run, specs: Path, out: Path) -> Plan:
    tasks, rates = tasks_of(run, load_zoo([specs]))
    return make_plan(TrainRequest(run=run, tasks=tasks, rates=rates, out=out))


def gradients(model: MultiTaskModel) -> dict[str, Tensor]:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def micro_batched(model: MultiTaskModel, plan: Plan, step: StepPlan, parts: int) -> None:
    """Backward passes as the loop does them, each planned micro-batch cut into `parts`."""
    for whole in step.micro_batches:
        for rows in np.array_split(np.arange(len(whole.rows)), parts):
            if not len(rows):
                continue
            part = MicroBatchPlan(
                tasks=whole.tasks[rows], rows=whole.rows[rows], lengths=whole.lengths[rows]
            )
            batch = to_tensors(collate(part, plan.train, pad_id(model)), CPU)
            losses, _ = model(batch)
            (losses.sum() / step.num_examples).backward()


def naive(model: MultiTaskModel, plan: Plan, step: StepPlan) -> None:
    """One backward pass of the whole step, example by example."""
    total = torch.zeros(())
    for micro_batch in step.micro_batches:
        for task, row in zip(micro_batch.tasks.tolist(), micro_batch.rows.tolist(), strict=True):
            total = total + naive_loss(model, plan, task, plan.train[task], row)
    (total / step.num_examples).backward()


def naive_loss(model: MultiTaskModel, plan: Plan, task: int, data: BuiltSplit, row: int) -> Tensor:
    slot, columns = plan.layout.slots[task], data.take(np.array([row]))
    level = model.sentence if slot.level == "sentence" else model.token
    weight = level.weight[slot.start : slot.start + slot.size]
    bias = level.bias[slot.start : slot.start + slot.size]
    states = [
        model.encoder(input_ids=torch.from_numpy(ids.astype(np.int64))[None]).last_hidden_state[0]
        for ids in columns.sequences
    ]
    target: Any = columns.target[0]
    if slot.level == "sentence":
        pooled = [s[0] if model.pooling == "first" else s.mean(0) for s in states]
        logits = torch.stack([p @ weight.T + bias for p in pooled])
        return naive_sentence_loss(slot.head, logits, target, slot.range)
    logits = states[0] @ weight.T + bias
    if slot.head == "span":
        outcomes = len(logits)
        edges = [F.cross_entropy(logits[:, i], torch.tensor(int(target[i]))) for i in (0, 1)]
        return (edges[0] + edges[1]) / 2 / math.log(outcomes)
    tags = torch.from_numpy(np.asarray(target).astype(np.int64))
    return F.cross_entropy(logits, tags, ignore_index=-100) / math.log(slot.size)


def naive_sentence_loss(
    head: str, logits: Tensor, target: Any, scale: tuple[float, float] | None
) -> Tensor:
    if head == "regression":
        low, high = scale or (0.0, 1.0)
        return (logits[0, 0] - (float(target) - low) / (high - low)) ** 2
    if head == "multiple_choice":
        return F.cross_entropy(logits[:, 0], torch.tensor(int(target))) / math.log(len(logits))
    if head == "multi_label":
        hot = torch.zeros_like(logits[0])
        hot[torch.from_numpy(np.asarray(target).astype(np.int64))] = 1.0
        return F.binary_cross_entropy_with_logits(logits[0], hot) / math.log(2)
    return F.cross_entropy(logits[0], torch.tensor(int(target))) / math.log(logits.shape[1])


@pytest.mark.parametrize("pooling", ["first", "mean"])
@pytest.mark.parametrize("parts", [1, 2, 4])
def test_step_gradient_equals_the_reference(
    make_run: MakeRun, mixed_specs: Path, tmp_path: Path, parts: int, pooling: str
) -> None:
    run = make_run(
        model={"pooling": pooling},
        batching={"tokens_per_micro_batch": 512, "micro_batches_per_step": 6},
    )
    plan = plan_of(run, mixed_specs, tmp_path)
    model = make_model(plan).double().eval()  # no dropout; doubles leave no doubt about 1e-6
    step = next(iter(plan.batcher.steps()))
    heads = {plan.layout.slots[t].head for m in step.micro_batches for t in m.tasks}
    assert heads == {"classification", "multi_label", "multiple_choice", "regression", "span",
                     "token_classification"}  # fmt: skip
    micro_batched(model, plan, step, parts)
    ours = gradients(model)
    naive(model, plan, step)
    for name, expected in gradients(model).items():
        assert (ours[name] - expected).norm() <= 1e-6 * max(1e-3, float(expected.norm())), name
        assert torch.isfinite(ours[name]).all()


def test_uniform_predictions_cost_one(make_run: MakeRun, mixed_specs: Path, tmp_path: Path) -> None:
    """What loss scaling is for: at the start no task weighs more than another."""
    plan = plan_of(make_run(), mixed_specs, tmp_path)
    model = make_model(plan).eval()
    for linear in (model.sentence, model.token):
        torch.nn.init.zeros_(linear.weight)
    seen: dict[str, float] = {}
    for _, step in zip(range(6), plan.batcher.steps(), strict=False):
        for micro_batch in step.micro_batches:
            batch = to_tensors(collate(micro_batch, plan.train, pad_id(model)), CPU)
            losses, tasks = model(batch)
            for loss, task in zip(losses.tolist(), tasks.tolist(), strict=True):
                seen[plan.layout.slots[task].head] = loss
                if plan.layout.slots[task].head != "regression":
                    assert loss == pytest.approx(1.0, abs=1e-5)
    assert len(seen) == 6
