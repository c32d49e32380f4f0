"""What is trained of a model: all of it, all but frozen parts, or adapters that are then merged."""

from __future__ import annotations

import builtins
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from muppet_zoo_torch.adaptation import adapt
from muppet_zoo_torch.batch import TensorBatch, to_tensors
from muppet_zoo_torch.dropout import fast_masks
from muppet_zoo_torch.engine import TorchEngine
from muppet_zoo_torch.evaluate import pad_id
from muppet_zoo_torch.export import load_model, write_model
from muppet_zoo_torch.model import MultiTaskModel
from muppet_zoo_torch.optimizer import base_rates
from muppet_zoo_torch.plan import Plan, make_plan
from muppet_zoo_torch.trainer import TorchTrainer, make_model
from torch import Tensor

from muppet_zoo.collate import collate
from muppet_zoo.errors import MissingExtraError, UsageError
from muppet_zoo.model_folder import Freeze, Lora, find_model
from muppet_zoo.run import Run
from muppet_zoo.trainer_api import TrainRequest, tasks_of
from muppet_zoo.zoo import load_zoo

CPU = torch.device("cpu")
FAMILIES = ("roberta", "bart", "t5")
Make = Callable[..., Plan]


@pytest.fixture
def plan_with(
    make_run: Callable[..., Run],
    seq2seq_folder: Callable[..., Path],
    mixed_specs: Path,
    tmp_path: Path,
) -> Make:
    """A plan with a model of this family; keywords are settings of `model`."""

    def make(family: str, **settings: Any) -> Plan:
        changes: dict[str, Any] = {
            "model": dict(settings),
            "batching": {"tokens_per_micro_batch": 256, "micro_batches_per_step": 8},
        }
        if family != "roberta":
            changes["mixture"] = "all_heads"
            changes["model"]["encoder"] = str(seq2seq_folder(family))
        run = make_run(**changes)
        tasks, rates = tasks_of(run, load_zoo([mixed_specs]))
        return make_plan(TrainRequest(run=run, tasks=tasks, rates=rates, out=tmp_path))

    return make


def batches(plan: Plan, model: MultiTaskModel) -> list[TensorBatch]:
    """The micro-batches of the first step."""
    step = next(iter(plan.batcher.steps()))
    return [to_tensors(collate(m, plan.pool, pad_id(model)), CPU) for m in step.micro_batches]


def trained(plan: Plan, num_steps: int = 2) -> tuple[TorchEngine, dict[str, Tensor]]:
    """An engine after some steps on the same examples, and its parameters before."""
    engine = TorchEngine(make_model(plan), plan.run, CPU)
    before = {name: p.detach().clone() for name, p in engine.model.named_parameters()}
    for _ in range(num_steps):
        for batch in batches(plan, engine.model):
            losses, _ = engine.forward(batch)
            engine.backward(losses.mean(), last=True)
        engine.step([0.1] * len(base_rates(engine.model, plan.run.optimizer)))
    return engine, before


def moved(engine: TorchEngine, before: dict[str, Tensor]) -> set[str]:
    return {n for n, p in engine.model.named_parameters() if not torch.equal(p, before[n])}


LORA = {"rank": 2, "alpha": 4.0, "dropout": 0.0}


@pytest.mark.parametrize("family", FAMILIES)
def test_adapters_and_heads_alone_are_trained_and_come_back_merged(
    plan_with: Make, tmp_path: Path, family: str
) -> None:
    plan = plan_with(family, lora=LORA)
    engine, before = trained(plan)
    wanted = {n for n in before if ".lora_" in n or not n.startswith("encoder.")}
    assert moved(engine, before) == wanted
    assert {n for n, p in engine.model.named_parameters() if p.requires_grad} == wanted

    write_model(engine, plan, tmp_path / "model", step=2)
    folder = find_model(tmp_path / "model")
    assert folder.lora == Lora(rank=2, alpha=4.0, dropout=0.0, target_modules=None)
    loaded = load_model(folder, CPU)
    assert not [name for name in loaded.state_dict() if "lora" in name]
    engine.model.eval()
    batch = batches(plan, engine.model)[0]
    with torch.no_grad():
        ours, _ = engine.forward(batch)
        theirs, _ = replaced(loaded, engine.model)(batch)
    assert torch.allclose(ours, theirs, atol=1e-6)
    base = make_model(plan_with(family)).eval()
    assert not torch.allclose(ours, replaced(base, engine.model)(batch)[0], atol=1e-3)


def replaced(model: MultiTaskModel, like: MultiTaskModel) -> MultiTaskModel:
    """With what a model folder does not hold, since only training reads it."""
    model.label_smoothing = like.label_smoothing
    return model


def test_merging_is_pefts_own(plan_with: Make) -> None:
    from muppet_zoo_torch.adaptation import merged
    from peft.tuners.lora import LoraLayer

    plan = plan_with("bart", lora=LORA)
    engine, _ = trained(plan)
    ours = merged(engine.full_state_dict(), plan.run.model.lora)
    layers = {n: m for n, m in engine.model.named_modules() if isinstance(m, LoraLayer)}
    assert len(layers) == 2 * 6 + 2 * 10  # all linear modules of both stacks
    for name, layer in layers.items():
        layer.merge()
        assert torch.allclose(ours[f"{name}.weight"], layer.get_base_layer().weight, atol=1e-6)


def test_named_modules_alone_are_adapted(plan_with: Make) -> None:
    model = make_model(plan_with("bart", lora={**LORA, "target_modules": ["q_proj", "v_proj"]}))
    adapted = {n.rpartition(".lora_")[0] for n, _ in model.named_parameters() if ".lora_" in n}
    assert {name.rpartition(".")[2] for name in adapted} == {"q_proj", "v_proj"}


def test_a_module_that_is_not_there(plan_with: Make) -> None:
    plan = plan_with("bart", lora={**LORA, "target_modules": ["query"]})
    with pytest.raises(UsageError, match=r"no linear module query; it has fc1, fc2, k_proj"):
        make_model(plan)


def test_without_peft_the_extra_is_named(plan_with: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def missing(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "peft":
            raise ModuleNotFoundError("No module named 'peft'", name="peft")
        return original(name, *arguments, **options)

    plan = plan_with("roberta", lora=LORA)
    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(MissingExtraError, match=r"'peft'.*muppet-zoo\[lora\]"):
        make_model(plan)


FROZEN = {
    "roberta": {"embeddings.": True, "encoder.layer.0.": True, "encoder.layer.1.": False},
    "bart": {
        "model.shared.": True, "model.encoder.embed_positions.": True,
        "model.decoder.embed_positions.": True, "model.encoder.layernorm_embedding.": True,
        "model.decoder.layernorm_embedding.": True,
        "model.encoder.layers.0.": True, "model.encoder.layers.1.": False,
        "model.decoder.layers.0.": False,
    },
    "t5": {"shared.": True, "encoder.block.0.": True, "encoder.block.1.": False,
           "decoder.block.0.": False, "encoder.final_layer_norm.": False},
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_frozen_parts_stay_bit_for_bit(plan_with: Make, family: str) -> None:
    engine, before = trained(plan_with(family, freeze={"embeddings": True, "layers": 1}))
    changed = moved(engine, before)
    for prefix, is_frozen in FROZEN[family].items():
        inside = {name for name in before if name.startswith(f"encoder.{prefix}")}
        assert inside, prefix
        assert inside.isdisjoint(changed) if is_frozen else inside <= changed, prefix
    parts = tuple(f"encoder.{prefix}" for prefix in FROZEN[family])
    rest = {name for name in before if not name.startswith(parts)}
    assert rest <= changed, "all else is trained"


def test_adapters_of_a_frozen_layer_are_frozen_with_it(plan_with: Make) -> None:
    engine, before = trained(plan_with("roberta", freeze={"layers": 1}, lora=LORA))
    changed = {name for name in moved(engine, before) if ".lora_" in name}
    assert changed
    assert not [name for name in changed if name.startswith("encoder.encoder.layer.0.")]


def test_more_layers_than_there_are(plan_with: Make) -> None:
    plan = plan_with("bart", freeze={"layers": 3})
    with pytest.raises(UsageError, match=r"freeze\.layers is 3; the encoder \(bart\) has 2 layers"):
        make_model(plan)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("masks", [fast_masks, nullcontext])
def test_checkpointed_gradients_are_equal(plan_with: Make, family: str, masks: Any) -> None:
    """With dropout, which the second computation has to draw again."""
    found = []
    for is_checkpointed in (False, True):
        plan = plan_with(family, gradient_checkpointing=is_checkpointed)
        model = make_model(plan).train()
        assert any(m.p > 0 for m in model.modules() if isinstance(m, torch.nn.Dropout))
        recomputed = count_calls(model.encoder)
        torch.manual_seed(5)
        with masks():
            losses, _ = model(batches(plan, model)[0])
            losses.mean().backward()
        found.append({name: p.grad for name, p in model.named_parameters()})
        assert recomputed() == (2 if is_checkpointed else 1)
    for name, gradient in found[0].items():
        assert torch.equal(gradient, found[1][name]), name


def count_calls(encoder: Any) -> Callable[[], int]:
    """How often the first layer is computed."""
    from muppet_zoo_torch.backbone import layers_of

    calls: list[int] = []
    norm = next(m for m in layers_of(encoder)[0].modules() if "Norm" in type(m).__name__)
    norm.register_forward_hook(lambda *_: calls.append(1))
    return lambda: len(calls)


def test_a_model_that_cannot_be_checkpointed(plan_with: Make) -> None:
    encoder: Any = make_model(plan_with("roberta")).encoder
    encoder.supports_gradient_checkpointing = False
    with pytest.raises(UsageError, match="roberta does not support it"):
        adapt(encoder, freeze=Freeze(), lora=None, checkpointing=True)


def test_a_run_with_adapters_resumes(plan_with: Make, mixed_specs: Path, tmp_path: Path) -> None:
    """Half of a run, then the other: the weights of a run without a pause."""
    plan = plan_with("bart", lora={**LORA, "dropout": 0.1})
    run = replace(plan.run, checkpointing=replace(plan.run.checkpointing, every_steps=2))
    tasks, rates = tasks_of(run, load_zoo([mixed_specs]))
    whole = TrainRequest(run=run, tasks=tasks, rates=rates, out=tmp_path / "whole")
    TorchTrainer().train(whole)
    halved = replace(whole, out=tmp_path / "halved", resume=True)
    shutil.copytree(whole.out, halved.out)
    shutil.rmtree(halved.out / "model")
    shutil.rmtree(halved.out / "checkpoints" / "step-00000004")
    TorchTrainer().train(halved)
    models = [load_model(find_model(out), CPU).state_dict() for out in (whole.out, halved.out)]
    assert all(torch.equal(value, models[1][name]) for name, value in models[0].items())
