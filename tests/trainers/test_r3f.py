"""The noise of R3F is what it says, belongs to examples, and touches nothing but training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from muppet_zoo_torch.batch import to_tensors
from muppet_zoo_torch.evaluate import pad_id
from muppet_zoo_torch.export import load_model
from muppet_zoo_torch.fused import FusedLinear
from muppet_zoo_torch.model import MultiTaskModel
from muppet_zoo_torch.plan import Plan, make_plan
from muppet_zoo_torch.r3f import noise, noise_keys, with_noised
from muppet_zoo_torch.trainer import TorchTrainer, make_model
from scipy import stats

from muppet_zoo.batches import MicroBatchPlan
from muppet_zoo.collate import MicroBatch, collate
from muppet_zoo.model_folder import find_model
from muppet_zoo.run import R3F, Run
from muppet_zoo.trainer_api import TrainRequest, tasks_of
from muppet_zoo.zoo import load_zoo

CPU = torch.device("cpu")
KEYS = torch.tensor([3, -5, 2**62], dtype=torch.int64)


def settings(**changes: Any) -> R3F:
    usual = {"weight": 1.0, "weight_by_head": {}, "noise": "uniform", "epsilon": 1e-5,
             "spectral_norm": False}  # fmt: skip
    return R3F(**{**usual, **changes})


@pytest.fixture
def plan(make_run: Callable[..., Run], mixed_specs: Path, tmp_path: Path) -> Plan:
    run = make_run(batching={"tokens_per_micro_batch": 512, "micro_batches_per_step": 6})
    tasks, rates = tasks_of(run, load_zoo([mixed_specs]))
    return make_plan(TrainRequest(run=run, tasks=tasks, rates=rates, out=tmp_path / "out"))


def first_micro_batch(plan: Plan, model: MultiTaskModel) -> MicroBatch:
    step = next(iter(plan.batcher.steps()))
    return collate(step.micro_batches[0], plan.pool, pad_id(model))


# --- the noise -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["uniform", "normal"])
def test_noise_has_the_distribution_that_was_asked_for(kind: str) -> None:
    epsilon = 1e-5
    drawn = noise(torch.arange(40), 50, 32, settings(noise=kind, epsilon=epsilon))
    assert (drawn.shape, drawn.dtype) == ((40, 50, 32), torch.float32)
    scaled = drawn.double().flatten().numpy() / epsilon
    expected = stats.uniform(-1, 2) if kind == "uniform" else stats.norm()
    assert stats.kstest(scaled, expected.cdf).pvalue > 0.01
    # Neighbours in each direction know nothing of one another.
    for axis in range(3):
        a, b = np.moveaxis(scaled.reshape(40, 50, 32), axis, 0)[[0, 1]]
        assert abs(stats.pearsonr(a.ravel(), b.ravel()).statistic) < 0.1


@pytest.mark.parametrize("kind", ["uniform", "normal"])
@pytest.mark.parametrize("size", [4, 6])
def test_noise_of_a_row_depends_on_its_key_alone(kind: str, size: int) -> None:
    wide = noise(KEYS, 9, size, settings(noise=kind))
    assert torch.equal(wide[:, :5], noise(KEYS, 5, size, settings(noise=kind)))
    assert torch.equal(wide[1:2], noise(KEYS[1:2], 9, size, settings(noise=kind)))
    assert not torch.equal(wide[0], wide[1])


def test_no_epsilon_is_no_noise() -> None:
    assert noise(KEYS, 5, 4, settings(epsilon=0.0)).abs().max() == 0


def test_keys_belong_to_seed_step_example_and_option(plan: Plan) -> None:
    model = make_model(plan)
    step = next(iter(plan.batcher.steps()))
    seen: dict[tuple[int, int, int], int] = {}
    for micro_batch in step.micro_batches:
        for part in (slice(None), slice(0, 3), slice(3, None)):
            piece = MicroBatchPlan(
                tasks=micro_batch.tasks[part],
                rows=micro_batch.rows[part],
                lengths=micro_batch.lengths[part],
            )
            if not len(piece.rows):
                continue
            batch = collate(piece, plan.pool, pad_id(model))
            keys = noise_keys(batch, seed=1, step=2)
            for rows in batch.groups.values():
                for task, row, sequences in zip(
                    rows.tasks.tolist(), rows.rows.tolist(), rows.sequences.tolist(), strict=True
                ):
                    for option, sequence in enumerate(sequences):
                        if sequence >= 0:
                            found = int(keys[sequence])
                            assert seen.setdefault((task, row, option), found) == found
            assert not torch.equal(keys, noise_keys(batch, seed=1, step=3))
            assert not torch.equal(keys, noise_keys(batch, seed=2, step=2))
    assert len(set(seen.values())) == len(seen) > 20


# --- the loss --------------------------------------------------------------------------------


def test_without_noise_and_dropout_nothing_is_added(plan: Plan) -> None:
    model = make_model(plan).eval()
    batch = first_micro_batch(plan, model)
    plain, _ = model(to_tensors(batch, CPU))
    model.regularise(settings(epsilon=0.0, weight=9.0))
    keys = noise_keys(batch, 1, 2)
    control, _ = model(replace(to_tensors(batch, CPU), noise_keys=keys))
    torch.testing.assert_close(control, plain, rtol=1e-5, atol=1e-6)
    model.regularise(settings(epsilon=0.1, weight=9.0))
    noised, _ = model(replace(to_tensors(batch, CPU), noise_keys=keys))
    assert (noised >= plain - 1e-5).all()
    assert (noised > plain + 1e-6).any()


def test_without_noise_dropout_alone_makes_the_difference(plan: Plan) -> None:
    """The control arm, epsilon 0, is not the plain loss while dropout is on."""
    model = make_model(plan).train()
    batch = first_micro_batch(plan, model)
    model.regularise(settings(epsilon=0.0, weight=0.0))
    tensors = replace(to_tensors(batch, CPU), noise_keys=noise_keys(batch, 1, 2))
    torch.manual_seed(0)
    plain, _ = model(tensors)
    model.regularise(settings(epsilon=0.0, weight=1.0))
    torch.manual_seed(0)
    control, _ = model(tensors)
    assert (control > plain).any()


def test_a_head_may_have_a_weight_of_its_own(plan: Plan) -> None:
    model = make_model(plan).eval()
    step = next(iter(plan.batcher.steps()))
    losses = {}
    for name, by_head in (("off", {"span": 0.0, "classification": 0.0}), ("on", {})):
        model.regularise(settings(epsilon=0.1, weight=5.0, weight_by_head=by_head))
        for micro_batch in step.micro_batches:
            batch = collate(micro_batch, plan.pool, pad_id(model))
            found, tasks = model(
                replace(to_tensors(batch, CPU), noise_keys=noise_keys(batch, 1, 2))
            )
            for loss, task in zip(found.tolist(), tasks.tolist(), strict=True):
                losses.setdefault((name, plan.layout.slots[task].head), []).append(loss)
    for head in ("span", "classification"):
        assert np.mean(losses["on", head]) > np.mean(losses["off", head])
    assert losses["on", "regression"] == pytest.approx(losses["off", "regression"])


def test_what_has_no_divergence_is_read_once(plan: Plan) -> None:
    model = make_model(plan).eval()
    model.regularise(settings(epsilon=0.1))
    [task] = [i for i, slot in enumerate(plan.layout.slots) if slot.head == "regression"]
    parts = [part for _, step in zip(range(9), plan.batcher.steps(), strict=False)
             for part in step.micro_batches if task in part.tasks]  # fmt: skip
    mixed = parts[0]
    where = mixed.tasks == task
    alone = MicroBatchPlan(
        tasks=mixed.tasks[where], rows=mixed.rows[where], lengths=mixed.lengths[where]
    )
    for part in (mixed, alone):
        batch = collate(part, plan.pool, pad_id(model))
        tensors = to_tensors(batch, CPU)
        keyed = replace(tensors, noise_keys=noise_keys(batch, 1, 2))
        num_again = len(tensors.input_ids) - where.sum()
        read = with_noised(keyed)
        assert len(read.input_ids) == len(tensors.input_ids) + (num_again if part is mixed else 0)
        (noised, tasks), (plain, _) = model(keyed), model(tensors)
        same = torch.isclose(noised, plain, rtol=1e-5, atol=1e-7)
        assert same[tasks == task].all()
        assert not same[tasks != task].any()


def test_a_little_noise_survives_half_precision(plan: Plan) -> None:
    """1e-5 added in bfloat16 to numbers near 0.02 would be rounded away; it must not be."""
    model = make_model(plan).eval()
    model.precision = "bf16"
    seen: list[torch.Tensor] = []
    embedding = model.encoder.get_input_embeddings()  # type: ignore[operator]
    model.encoder.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["inputs_embeds"]), with_kwargs=True
    )
    model.regularise(settings())
    batch = first_micro_batch(plan, model)
    tensors = replace(to_tensors(batch, CPU), noise_keys=noise_keys(batch, 1, 2))
    model(tensors)
    clean, noised = seen[0].chunk(2)
    real = tensors.attention_mask[..., None].expand_as(clean)
    assert torch.equal(clean, embedding(tensors.input_ids))
    assert (clean != noised)[real].float().mean() > 0.9
    assert torch.equal(clean[~real], noised[~real])
    assert (clean - noised).abs().max() <= 1.01e-5


# --- the spectral norm -----------------------------------------------------------------------


def test_every_head_has_norm_one_and_the_others_are_left_alone() -> None:
    linear = FusedLinear(16, 9, [(0, 3), (3, 1), (3, 1), (6, 3)])
    torch.nn.init.normal_(linear.weight)
    assert torch.equal(linear.effective(linear.weight), linear.weight)
    linear.spectral_norm = True
    weight = linear.effective(linear.weight).detach()
    for start, size in ((0, 3), (3, 1), (6, 3)):
        block = weight[start : start + size]
        assert float(torch.linalg.svdvals(block)[0]) == pytest.approx(1.0, abs=1e-5)
        ratio = linear.weight[start : start + size] / block
        torch.testing.assert_close(ratio, ratio[:1, :1].expand_as(ratio))
    assert torch.equal(weight[4:6], linear.weight[4:6])  # no head's


def test_a_model_trained_with_r4f_scores_the_same_when_it_is_loaded(
    make_run: Callable[..., Run], mixed_specs: Path, tmp_path: Path
) -> None:
    run = make_run(r3f={"spectral_norm": True, "noise": "normal"}, schedule={"steps": 2})
    tasks, rates = tasks_of(run, load_zoo([mixed_specs]))
    torch.set_num_threads(1)
    request = TrainRequest(run=run, tasks=tasks, rates=rates, out=tmp_path / "out")
    TorchTrainer().train(request)
    loaded = load_model(find_model(tmp_path / "out"), CPU)
    for linear in (loaded.sentence, loaded.token):
        for rows in linear._rows:
            norms = torch.linalg.matrix_norm(linear.weight[rows], ord=2)
            torch.testing.assert_close(norms, torch.ones_like(norms))
