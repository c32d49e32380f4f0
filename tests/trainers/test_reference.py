"""The gradient of one optimizer step against a reference that shares no code with the trainers.

The reference runs every sequence alone, unpadded, through the encoder, gives every head its own
map, takes each example's loss from PyTorch, divides it by the log of its outcomes, adds all up and
divides once. It knows nothing of micro-batches, fused maps or masks. With R3F it runs the clean and
the noised sequence apart and takes the divergences from PyTorch's distributions; only the noise
itself is ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from muppet_zoo_torch.batch import to_tensors
from muppet_zoo_torch.evaluate import pad_id
from muppet_zoo_torch.model import MultiTaskModel
from muppet_zoo_torch.plan import Plan, make_plan
from muppet_zoo_torch.r3f import noise, noise_keys
from muppet_zoo_torch.trainer import make_model
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Distribution, kl_divergence
from torch.nn import functional as F

from muppet_zoo.batches import MicroBatchPlan, StepPlan
from muppet_zoo.collate import collate
from muppet_zoo.model_folder import HeadSlot
from muppet_zoo.order import R3F_NOISE, key
from muppet_zoo.run import Run
from muppet_zoo.shards import BuiltSplit
from muppet_zoo.task_data import Columns
from muppet_zoo.trainer_api import TrainRequest, tasks_of
from muppet_zoo.zoo import load_zoo

MakeRun = Callable[..., Run]
CPU = torch.device("cpu")
SEED, STEP = 3, 11  # of the noise


def plan_of(run: Run, specs: Path, out: Path) -> Plan:
    tasks, rates = tasks_of(run, load_zoo([specs]))
    return make_plan(TrainRequest(run=run, tasks=tasks, rates=rates, out=out))


def gradients(model: MultiTaskModel) -> dict[str, Tensor]:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def micro_batched(model: MultiTaskModel, plan: Plan, step: StepPlan, parts: int) -> None:
    """The step as the loop does it: micro-batches, cut into `parts`, summed."""
    for micro_batch in step.micro_batches:
        for part in np.array_split(np.arange(len(micro_batch.rows)), parts):
            if not len(part):
                continue
            piece = MicroBatchPlan(
                tasks=micro_batch.tasks[part],
                rows=micro_batch.rows[part],
                lengths=micro_batch.lengths[part],
            )
            collated = collate(piece, plan.train, pad_id(model))
            batch = to_tensors(collated, CPU)
            if model.r3f is not None:
                batch = replace(batch, noise_keys=noise_keys(collated, SEED, STEP))
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
    logits = naive_logits(model, slot, columns, None)
    loss = naive_head_loss(slot, logits, columns.target[0])
    if model.r3f is None or slot.head == "regression":
        return loss
    keys = [
        key(SEED, R3F_NOISE, *(np.array([n], dtype=np.uint64) for n in (STEP, task, row, option)))
        for option in range(len(columns.sequences))
    ]
    noised = naive_logits(model, slot, columns, [torch.from_numpy(k.view(np.int64)) for k in keys])
    pairs = zip(
        naive_distributions(slot, logits, columns.target[0]),
        naive_distributions(slot, noised, columns.target[0]),
        strict=True,
    )
    divergences = [kl_divergence(p, q) + kl_divergence(q, p) for p, q in pairs]
    return loss + model.r3f.weight * torch.stack(divergences).mean()


def naive_logits(
    model: MultiTaskModel, slot: HeadSlot, columns: Columns, keys: list[Tensor] | None
) -> Tensor:
    """(options, size) of a sentence head, (tokens, size) of a token head."""
    level = model.sentence if slot.level == "sentence" else model.token
    weight = level.weight[slot.start : slot.start + slot.size]
    if model.r3f is not None and model.r3f.spectral_norm:
        weight = weight / torch.linalg.svdvals(weight)[0]
    bias = level.bias[slot.start : slot.start + slot.size]
    states = []
    for i, ids in enumerate(columns.sequences):
        given: Any = {"input_ids": torch.from_numpy(ids.astype(np.int64))[None]}
        if keys is not None:
            embedded = model.encoder.get_input_embeddings()(given["input_ids"])  # type: ignore[operator]
            added = noise(keys[i], embedded.shape[1], embedded.shape[2], model.r3f)  # type: ignore[arg-type]
            given = {"inputs_embeds": embedded + added}
        states.append(model.encoder(**given).last_hidden_state[0])
    if slot.level == "sentence":
        pooled = [s[0] if model.pooling == "first" else s.mean(0) for s in states]
        return torch.stack([p @ weight.T + bias for p in pooled])
    return states[0] @ weight.T + bias


def naive_head_loss(slot: HeadSlot, logits: Tensor, target: Any) -> Tensor:
    if slot.level == "sentence":
        return naive_sentence_loss(slot.head, logits, target, slot.range)
    if slot.head == "span":
        outcomes = len(logits)
        edges = [F.cross_entropy(logits[:, i], torch.tensor(int(target[i]))) for i in (0, 1)]
        return (edges[0] + edges[1]) / 2 / math.log(outcomes)
    tags = torch.from_numpy(np.asarray(target).astype(np.int64))
    return F.cross_entropy(logits, tags, ignore_index=-100) / math.log(slot.size)


def naive_distributions(slot: HeadSlot, logits: Tensor, target: Any) -> list[Distribution]:
    """What an example's loss is about, by the library's own classes."""
    if slot.head == "multi_label":
        return [Bernoulli(logits=logit) for logit in logits[0]]
    if slot.head == "multiple_choice":
        return [Categorical(logits=logits[:, 0])]
    if slot.head == "span":
        return [Categorical(logits=logits[:, i]) for i in (0, 1)]
    if slot.head == "token_classification":
        scored = np.flatnonzero(np.asarray(target) != -100)
        return [Categorical(logits=logits[i]) for i in scored.tolist()]
    return [Categorical(logits=logits[0])]


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


REGULARISERS = {
    "none": None,
    # Noise a thousand times the usual, so that the divergence is not nothing.
    "r3f": {"epsilon": 1e-2, "weight": 5.0},
    "normal": {"epsilon": 1e-2, "weight": 5.0, "noise": "normal"},
    "r4f": {"epsilon": 1e-2, "weight": 5.0, "spectral_norm": True},
}


@pytest.mark.parametrize(
    ("pooling", "regulariser"),
    [("first", "none"), ("mean", "none"), ("first", "r3f"), ("mean", "normal"), ("first", "r4f")],
)
@pytest.mark.parametrize("parts", [1, 2, 4])
def test_step_gradient_equals_the_reference(
    make_run: MakeRun,
    mixed_specs: Path,
    tmp_path: Path,
    parts: int,
    pooling: str,
    regulariser: str,
) -> None:
    settings = REGULARISERS[regulariser]
    run = make_run(
        **({} if settings is None else {"r3f": settings}),
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
