"""The learning rate's course and which parameters are decayed."""

from __future__ import annotations

import pytest
import torch
from muppet_zoo_torch.model import MultiTaskModel
from muppet_zoo_torch.optimizer import (
    base_rates,
    learning_rate_factor,
    make_optimizer,
    parameter_groups,
)

from muppet_zoo.model_folder import HeadLayout
from muppet_zoo.run import OptimizerSettings, Schedule

SETTINGS = OptimizerSettings(
    name="adamw",
    learning_rate=1e-3,
    head_learning_rate=None,
    weight_decay=0.1,
    betas=(0.9, 0.98),
    eps=1e-6,
    gradient_clipping=0.0,
    head_momentum=True,
)
HEAD_RATE = OptimizerSettings(**{**vars(SETTINGS), "head_learning_rate": 5e-3})


def curve(decay: str, warmup: float, num_steps: int = 10) -> list[float]:
    schedule = Schedule(steps=num_steps, epochs=None, warmup=warmup, decay=decay)
    return [learning_rate_factor(step, num_steps, schedule) for step in range(num_steps)]


# Worked out by hand; the cosine's values are (1 + cos(pi p)) / 2 at p = 0, 1/10, … and 0, 1/9, ….
GOLDEN = {
    ("linear", 0.0): [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1],
    ("linear", 0.1): [1.0, 1.0, 8 / 9, 7 / 9, 6 / 9, 5 / 9, 4 / 9, 3 / 9, 2 / 9, 1 / 9],
    ("linear", 0.4): [0.25, 0.5, 0.75, 1.0, 1.0, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6],
    ("constant", 0.0): [1.0] * 10,
    ("constant", 0.1): [1.0] * 10,
    ("constant", 0.4): [0.25, 0.5, 0.75] + [1.0] * 7,
    ("cosine", 0.0): [1.0, 0.975528, 0.904508, 0.793893, 0.654508, 0.5, 0.345492, 0.206107,
                      0.095492, 0.024472],
    ("cosine", 0.1): [1.0, 1.0, 0.969846, 0.883022, 0.75, 0.586824, 0.413176, 0.25, 0.116978,
                      0.030154],
}  # fmt: skip


@pytest.mark.parametrize(("decay", "warmup"), list(GOLDEN))
def test_golden_curves(decay: str, warmup: float) -> None:
    assert curve(decay, warmup) == pytest.approx(GOLDEN[decay, warmup], abs=1e-6)


def test_polynomial_decay_is_the_linear_one_to_a_power() -> None:
    schedule = Schedule(steps=4, epochs=None, warmup=0.0, decay="polynomial", power=2.0)
    factors = [learning_rate_factor(step, 4, schedule) for step in range(4)]
    assert factors == pytest.approx([1.0, 0.5625, 0.25, 0.0625])


def test_warm_up_by_steps_is_that_many_steps() -> None:
    schedule = Schedule(steps=10, epochs=None, warmup=None, decay="linear", warmup_steps=4)
    factors = [learning_rate_factor(step, 10, schedule) for step in range(10)]
    assert factors == pytest.approx(GOLDEN["linear", 0.4])


@pytest.mark.parametrize("decay", ["linear", "cosine", "constant"])
def test_all_warm_up(decay: str) -> None:
    assert curve(decay, 1.0) == pytest.approx([i / 10 for i in range(1, 11)])


@pytest.mark.parametrize("decay", ["linear", "cosine", "constant"])
@pytest.mark.parametrize("warmup", [0.0, 0.06, 0.1, 1.0])
@pytest.mark.parametrize("num_steps", [1, 2, 7, 100])
def test_no_step_is_wasted(decay: str, warmup: float, num_steps: int) -> None:
    factors = curve(decay, warmup, num_steps)
    assert all(0.0 < factor <= 1.0 for factor in factors)
    assert max(factors) == 1.0


def test_warmup_is_the_share_asked_for() -> None:
    """0.07 * 100 is 7.000000000000001 in floating point, but means 7 steps."""
    for percent in range(1, 101):
        assert curve("constant", percent / 100, 100).index(1.0) + 1 == percent


def small_model(*, tied: bool = False) -> MultiTaskModel:
    from transformers import AutoModel, BertConfig

    config = BertConfig(
        vocab_size=11,
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=12,
    )
    encoder = AutoModel.from_config(config, add_pooling_layer=False)
    if tied:
        first, second = encoder.encoder.layer
        second.intermediate.dense.weight = first.intermediate.dense.weight
    layout = HeadLayout(slots=(), num_sentence_columns=5, num_token_columns=2)
    return MultiTaskModel(encoder, layout, pooling="first", dropout=0.0)


@pytest.mark.parametrize("tied", [False, True])
def test_every_parameter_is_in_exactly_one_group(tied: bool) -> None:
    model = small_model(tied=tied)
    groups = parameter_groups(model, SETTINGS)
    grouped = [id(p) for group in groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters())


def test_what_is_decayed() -> None:
    model = small_model()
    decayed = {
        id(p) for g in parameter_groups(model, SETTINGS) if g["weight_decay"] for p in g["params"]
    }
    names = {name for name, p in model.named_parameters() if id(p) in decayed}
    assert names
    assert all(name.startswith("encoder.") and name.endswith(".weight") for name in names)
    assert not any("LayerNorm" in name for name in names)
    assert "encoder.encoder.layer.0.attention.self.query.weight" in names


def test_heads_without_gradient_do_not_drift() -> None:
    """A head whose task is absent gets a gradient of zero: AdamW must leave it where it is."""
    model = small_model()
    optimizer = make_optimizer(model, SETTINGS)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    for _ in range(3):
        optimizer.step()
    after = dict(model.named_parameters())
    for name in ("sentence.weight", "sentence.bias", "token.weight", "token.bias"):
        assert torch.equal(after[name], before[name])
    name = "encoder.encoder.layer.0.output.dense.weight"
    assert not torch.equal(after[name], before[name])


@pytest.mark.parametrize("head_momentum", [True, False])
def test_a_head_whose_task_stays_away(head_momentum: bool) -> None:
    """Momentum goes on moving it for a while; without, only a gradient moves it."""
    model = small_model()
    settings = OptimizerSettings(**{**vars(SETTINGS), "head_momentum": head_momentum})
    optimizer = make_optimizer(model, settings)
    head = model.sentence.weight
    positions = []
    for step in range(103):
        for p in model.parameters():
            p.grad = torch.ones_like(p) if step < 3 else torch.zeros_like(p)
        optimizer.step()
        positions.append(head.detach().clone())
    moved = (positions[-1] - positions[2]).abs().max()
    assert not torch.equal(positions[0], positions[2])
    assert moved > SETTINGS.learning_rate if head_momentum else moved == 0.0


def test_frozen_parameters_are_left_out() -> None:
    model = small_model()
    frozen = model.encoder.embeddings.word_embeddings.weight
    frozen.requires_grad_(False)
    groups = parameter_groups(model, SETTINGS)
    assert id(frozen) not in [id(p) for group in groups for p in group["params"]]


@pytest.mark.parametrize("settings", [SETTINGS, HEAD_RATE], ids=["one_rate", "head_rate"])
def test_rates_are_in_the_order_of_the_groups(settings: OptimizerSettings) -> None:
    model = small_model()
    groups = parameter_groups(model, settings)
    assert [group["lr"] for group in groups] == base_rates(model, settings)
    heads = {id(p) for p in [*model.sentence.parameters(), *model.token.parameters()]}
    rates = {group["lr"] for group in groups for p in group["params"] if id(p) in heads}
    assert rates == {settings.head_learning_rate or settings.learning_rate}


@pytest.mark.parametrize(("name", "kind"), [("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)])
def test_optimizers(name: str, kind: type) -> None:
    settings = OptimizerSettings(**{**vars(SETTINGS), "name": name})
    optimizer = make_optimizer(small_model(), settings)
    assert type(optimizer) is kind
    if name == "adamw":
        assert optimizer.defaults["betas"] == (0.9, 0.98)
        assert optimizer.defaults["eps"] == 1e-6
    else:
        assert optimizer.defaults["momentum"] == 0
