"""Packed rows give what padded ones give: losses, gradients and predictions, for every head."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from muppet_zoo_torch import packing
from muppet_zoo_torch.batch import to_tensors
from muppet_zoo_torch.engine import TorchEngine
from muppet_zoo_torch.evaluate import pad_id
from muppet_zoo_torch.export import load_model, write_model
from muppet_zoo_torch.model import MultiTaskModel
from muppet_zoo_torch.plan import Plan, make_plan
from muppet_zoo_torch.r3f import noise_keys
from muppet_zoo_torch.run_record import read_log
from muppet_zoo_torch.trainer import TorchTrainer, make_model
from test_families import config_folder
from torch import Tensor

from muppet_zoo.collate import collate
from muppet_zoo.errors import UsageError
from muppet_zoo.heads import HEADS
from muppet_zoo.model_folder import find_model
from muppet_zoo.run import Run
from muppet_zoo.trainer_api import TrainRequest, tasks_of
from muppet_zoo.zoo import load_zoo

CPU = torch.device("cpu")
MakeRun = Callable[..., Run]


@pytest.fixture
def plan_with(make_run: MakeRun, mixed_specs: Path, tmp_path: Path) -> Callable[..., Plan]:
    """A plan of all heads; keywords are settings of the model."""

    def make(r3f: dict[str, Any] | None = None, **model: Any) -> Plan:
        run = make_run(
            **({} if r3f is None else {"r3f": r3f}),
            model=model,
            batching={"tokens_per_micro_batch": 512, "micro_batches_per_step": 6},
        )
        tasks, rates = tasks_of(run, load_zoo([mixed_specs]))
        return make_plan(TrainRequest(run=run, tasks=tasks, rates=rates, out=tmp_path / "out"))

    return make


def step_of(plan: Plan, model: MultiTaskModel) -> tuple[Tensor, dict[str, Tensor]]:
    """Losses and gradients of the first step; the head's dropout falls alike."""
    step = next(iter(plan.batcher.steps()))
    heads = {plan.layout.slots[task].head for part in step.micro_batches for task in part.tasks}
    assert heads == set(HEADS) - {"generation"}
    model.train()
    found = []
    for number, part in enumerate(step.micro_batches):
        torch.manual_seed(number)
        batch = collate(part, plan.pool, pad_id(model))
        tensors = to_tensors(batch, CPU)
        assert not bool(tensors.attention_mask.all()), "nothing to leave out"
        if model.r3f is not None:
            tensors = replace(tensors, noise_keys=noise_keys(batch, 3, 11))
        losses, _ = model(tensors)
        (losses.sum() / step.num_examples).backward()
        found.append(losses.detach())
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return torch.cat(found), gradients


R3F = {"epsilon": 1e-2, "weight": 5.0}


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        *((family, {}) for family in packing.FAMILIES),
        ("bert", {"r3f": R3F, "pooling": "mean", "gradient_checkpointing": True}),
        ("roberta", {"r3f": {**R3F, "noise": "normal"}, "head_dense": "per_task"}),
    ],
)
def test_losses_and_gradients_are_those_of_padded_rows(
    family: str, settings: dict[str, Any], plan_with: Callable[..., Plan], tmp_path: Path
) -> None:
    folder = config_folder(family, tmp_path, hidden_dropout_prob=0.0,
                           attention_probs_dropout_prob=0.0)  # fmt: skip
    settings = {"encoder": str(folder), **settings}
    padded = plan_with(**settings, packing="off")
    expected, gradients = step_of(padded, make_model(padded))
    model = make_model(plan_with(**settings, packing="on"))
    assert packing.is_packed(model.encoder)
    losses, found = step_of(padded, model)
    assert (losses - expected).norm() <= 1e-6 * expected.norm()
    assert found.keys() == gradients.keys()
    apart = torch.stack([(found[name] - gradients[name]).norm() for name in gradients])
    whole = torch.stack([gradient.norm() for gradient in gradients.values()])
    assert apart.norm() <= 1e-6 * whole.norm()


def test_the_row_holds_tokens_alone_and_positions_begin_anew() -> None:
    mask = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1], [1, 1, 1, 0]], dtype=torch.bool)
    layout = packing.layout_of(mask)
    padded = torch.arange(16).view(4, 4)
    assert layout.lengths == (1, 3, 3, 4)
    assert layout.offsets.tolist() == [0, 1, 4, 7, 11]
    assert layout.pack(padded).tolist() == [[4, 0, 1, 2, 12, 13, 14, 8, 9, 10, 11]]
    assert layout.positions.tolist() == [0, 0, 1, 2, 0, 1, 2, 0, 1, 2, 3]
    states = padded[..., None].float()
    assert torch.equal(layout.unpack(layout.pack(states), 4), states * mask[..., None])


# The library converts jagged tensors on a CPU by way of an older kind of nested tensor.
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype stage")
def test_both_kinds_of_attention_stay_inside_of_a_sequence() -> None:
    torch.manual_seed(0)
    lengths = torch.tensor([3, 5, 5, 9])
    layout = packing.layout_of(torch.arange(9) < lengths[:, None])
    inputs = [torch.randn(1, 22, 2, 8, requires_grad=True) for _ in range(3)]
    query, key, value = (x.transpose(1, 2) for x in inputs)
    weights = torch.randn(1, 22, 2, 8)
    results = []
    for attend in (packing._by_length, packing._jagged):
        found = attend(query, key, value, layout, scale=0.3, dropout_p=0.0)
        results.append([found, *torch.autograd.grad(found, inputs, weights)])
    alone = [
        torch.softmax(0.3 * query[0, :, a:b] @ key[0, :, a:b].transpose(1, 2), -1)
        @ value[0, :, a:b]
        for a, b in zip(layout.offsets[:-1], layout.offsets[1:], strict=True)
    ]
    expected = torch.cat(alone, 1).transpose(0, 1)[None]
    results.append([expected, *torch.autograd.grad(expected, inputs, weights)])
    for ours, theirs in pairwise(results):
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_a_packed_model_predicts_and_is_saved_like_another(
    plan_with: Callable[..., Plan], tmp_path: Path
) -> None:
    plan = plan_with(packing="on")
    engine = TorchEngine(make_model(plan), plan.run, CPU)
    write_model(engine, plan, tmp_path / "model", step=1)
    loaded = load_model(find_model(tmp_path / "model"), CPU)
    assert not packing.is_packed(loaded.encoder)
    engine.model.eval()
    step = next(iter(plan.batcher.steps()))
    batch = to_tensors(collate(step.micro_batches[0], plan.pool, pad_id(loaded)), CPU)
    with torch.no_grad():
        ours, theirs = engine.forward(batch, predict=True), loaded(batch, predict=True)
    for head, found in ours.items():
        np.testing.assert_allclose(found.float(), theirs[head].float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("wanted", ["off", "auto"])
def test_a_cpu_does_not_pack_by_itself(plan_with: Callable[..., Plan], wanted: str) -> None:
    assert not packing.is_packed(make_model(plan_with(packing=wanted)).encoder)


@pytest.mark.parametrize("family", ["modernbert", "deberta-v2"])
def test_other_families_are_refused(
    plan_with: Callable[..., Plan], family: str, tmp_path: Path
) -> None:
    encoder = str(config_folder(family, tmp_path))
    message = rf"model\.packing is on, .*\({family}\) cannot .* those that can are bert, camembert"
    with pytest.raises(UsageError, match=message):
        make_model(plan_with(encoder=encoder, packing="on"))


def test_the_log_counts_no_padding_where_none_was_read(
    make_run: MakeRun, mixed_specs: Path, tmp_path: Path
) -> None:
    run = make_run(model={"packing": "on"}, schedule={"steps": 1}, evaluation={"at_end": False})
    tasks, rates = tasks_of(run, load_zoo([mixed_specs]))
    TorchTrainer().train(TrainRequest(run=run, tasks=tasks, rates=rates, out=tmp_path / "out"))
    [line] = read_log(tmp_path / "out" / "metrics.jsonl")
    assert line["padding_share"] == 0.0
