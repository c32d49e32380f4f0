"""Masks drawn four to a word are what torch's are, and torch is left as it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from muppet_zoo_torch import dropout
from muppet_zoo_torch.dropout import fast_masks
from muppet_zoo_torch.random_words import sixteen_bits
from muppet_zoo_torch.trainer import TorchTrainer
from scipy import stats
from torch import Tensor, nn

from muppet_zoo.run import Run
from muppet_zoo.trainer_api import TrainRequest, tasks_of
from muppet_zoo.zoo import load_zoo

SMALLEST = 1e-6  # of a p-value; seeds are fixed, so a test passes always or never


def mask(p: float, *shape: int, seed: int = 3, dtype: torch.dtype = torch.float32) -> Tensor:
    torch.manual_seed(seed)
    with fast_masks():
        return torch.full(shape, 7.0, dtype=dtype).bernoulli_(p)


@pytest.mark.parametrize("p", [0.9, 0.5, 0.1, 0.003, 1 - 2**-16])
def test_ones_are_as_many_as_was_asked_for(p: float) -> None:
    drawn = mask(p, 1000, 1001)
    assert set(drawn.unique().tolist()) <= {0.0, 1.0}
    assert stats.binomtest(int(drawn.sum()), drawn.numel(), p).pvalue > SMALLEST


@pytest.mark.parametrize("p", [0.0, 1e-7, 1 - 1e-7, 1.0])
def test_what_16_bits_cannot_tell_apart(p: float) -> None:
    drawn = mask(p, 3_000_000)
    assert stats.binomtest(int(drawn.sum()), drawn.numel(), p).pvalue > SMALLEST


@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan"), float("inf")])
def test_what_is_no_probability(p: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        mask(p, 3)


@pytest.mark.parametrize("apart", [1, 2, 3, 4, 1001])
def test_places_are_independent(apart: int) -> None:
    drawn = mask(0.5, 1_000_000).int()
    pairs = torch.bincount(2 * drawn[:-apart] + drawn[apart:], minlength=4)
    assert stats.chisquare(pairs.numpy()).pvalue > SMALLEST


def test_all_values_of_16_bits_are_equally_likely() -> None:
    drawn = sixteen_bits(torch.arange(1000), 10_000).flatten().long() + (1 << 15)
    assert stats.chisquare(torch.bincount(drawn, minlength=1 << 16).numpy()).pvalue > SMALLEST


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([-9, 0, 2**62]))
def test_the_first_numbers_of_a_key_do_not_depend_on_how_many(
    few: int, more: int, key: int
) -> None:
    keys = torch.tensor([key, 5])
    few, more = sorted((few, more))
    assert torch.equal(sixteen_bits(keys, few), sixteen_bits(keys, more)[:, :few])
    assert torch.equal(sixteen_bits(keys, few)[0], sixteen_bits(keys[0], few))


@pytest.mark.parametrize("shape", [(), (0,), (1,), (5,), (3, 7), (2, 3, 5, 7)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_any_shape_and_type(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    drawn = mask(0.9, *shape, dtype=dtype)
    assert (drawn.shape, drawn.dtype) == (shape, dtype)
    assert ((drawn == 0) | (drawn == 1)).all()


def test_a_part_of_another_tensor() -> None:
    whole = torch.full((6, 8), 7.0)
    with fast_masks():
        whole[::2, 1::3].bernoulli_(0.5)
    assert (whole == 7).sum() == 48 - 9


def test_the_same_for_a_seed_with_any_number_of_threads() -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = mask(0.9, 500, 501)
        torch.set_num_threads(2)
        assert torch.equal(mask(0.9, 500, 501), one)
    finally:
        torch.set_num_threads(threads)
    assert not torch.equal(mask(0.9, 500, 501, seed=4), one)


def test_each_mask_is_another_one_and_a_generator_of_ones_own_is_used() -> None:
    with fast_masks():
        torch.manual_seed(0)
        first, second = torch.empty(2, 1000).bernoulli_(0.5)
        mine = torch.empty(1000).bernoulli_(0.5, generator=torch.Generator().manual_seed(0))
    assert not torch.equal(first, second)
    torch.manual_seed(0)
    with fast_masks():
        assert torch.equal(torch.empty(1000).bernoulli_(0.5), mine)


def dropout_module(x: Tensor) -> Tensor:
    dropped: Tensor = nn.Dropout(0.25)(x)
    return dropped


def dropout_function(x: Tensor) -> Tensor:
    return nn.functional.dropout(x, 0.25)


def attention(x: Tensor) -> Tensor:
    """Values of ones, so what attention gives is the sum of what it kept."""
    query = torch.zeros_like(x)
    return nn.functional.scaled_dot_product_attention(
        query, query, torch.ones_like(x), dropout_p=0.25
    )


@pytest.mark.parametrize("drop", [dropout_module, dropout_function, attention])
def test_all_kinds_of_dropout_are_reached(drop: Callable[[Tensor], Tensor]) -> None:
    x = torch.ones(2, 8, 64, 64)
    with fast_masks():
        torch.manual_seed(1)
        fast = drop(x)
    torch.manual_seed(1)
    assert not torch.equal(fast, drop(x))  # so it was this module's
    assert fast.mean().item() == pytest.approx(1.0, abs=0.02)


def test_torch_is_left_as_it_was() -> None:
    def torchs() -> Tensor:
        torch.manual_seed(2)
        return torch.empty(100).bernoulli_(0.5)

    def fails() -> None:
        with fast_masks():
            assert not torch.equal(torchs(), before)
            raise RuntimeError("in the midst")

    before = torchs()
    with pytest.raises(RuntimeError, match="in the midst"):
        fails()
    assert torch.equal(torchs(), before)


def test_training_draws_them(
    make_run: Callable[..., Run],
    mixed_specs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept: list[float] = []
    drawn = dropout._bernoulli_

    def counted(self: Tensor, p: float = 0.5, **settings: Any) -> Tensor:
        kept.append(p)
        return drawn(self, p, **settings)

    monkeypatch.setattr(dropout, "_bernoulli_", counted)
    run = make_run()
    tasks, rates = tasks_of(run, load_zoo([mixed_specs]))
    TorchTrainer().train(TrainRequest(run=run, tasks=tasks, rates=rates, out=tmp_path / "out"))
    assert set(kept) == {0.9}
