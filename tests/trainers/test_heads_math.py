"""Every head's loss and prediction against plain arithmetic on one example at a time."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from muppet_zoo_torch.batch import TensorRows
from muppet_zoo_torch.heads import HEAD_MATH, HeadInput, slot_table
from torch import Tensor

from muppet_zoo.heads import HEADS
from muppet_zoo.model_folder import HeadLayout, HeadSlot
from muppet_zoo.targets import IGNORED

SCALED = sorted(set(HEAD_MATH) - {"regression"})
# Columns of three tasks with other tasks' columns before, between and behind them.
STARTS, NUM_COLUMNS = (2, 8, 13), 18
SIZES = {"regression": (1, 1, 1), "multiple_choice": (1, 1, 1), "span": (2, 2, 2),
         "generation": (0, 0, 0)}  # fmt: skip
PREDICTING = sorted(name for name, math in HEAD_MATH.items() if math.predict is not None)
WIDE = ("generation", "multiple_choice", "span", "token_classification")
RANGES = ((0.0, 5.0), (-1.0, 1.0), (1.0, 100.0))
UNLABELLED = {
    "classification": -1,
    "multiple_choice": -1,
    "regression": math.nan,
    "span": [-1, -1],
    "token_classification": IGNORED,
    "generation": IGNORED,
}
NUM_EXAMPLES, NUM_WIDE = 7, 6  # most options or tokens


def layout(head: str) -> HeadLayout:
    sizes = SIZES.get(head, (2, 5, 3))
    slots = tuple(
        HeadSlot(
            task=f"task_{i}",
            head=head,
            level=HEADS[head].level,
            start=start,
            size=size,
            range=RANGES[i] if head == "regression" else None,
        )
        for i, (start, size) in enumerate(zip(STARTS, sizes, strict=True))
    )
    return HeadLayout(slots=slots, num_sentence_columns=NUM_COLUMNS, num_token_columns=NUM_COLUMNS)


def make_input(head: str, seed: int = 0, *, scale: bool = True) -> HeadInput:
    """Random examples of the three tasks; at least two real options or tokens each."""
    draw = torch.Generator().manual_seed(seed)
    table = slot_table(layout(head), torch.device("cpu"))
    tasks = torch.randint(3, (NUM_EXAMPLES,), generator=draw)
    wide = NUM_WIDE if head in WIDE else 1
    num_real = torch.randint(2, NUM_WIDE + 1, (NUM_EXAMPLES,), generator=draw)
    mask = torch.arange(wide) < num_real[:, None]
    logits = 3 * torch.randn(NUM_EXAMPLES, wide, NUM_COLUMNS, generator=draw, dtype=torch.float64)
    size = table.size[tasks]
    target = random_target(head, draw, size, num_real, RANGES, tasks)
    return HeadInput(
        logits=logits,
        mask=mask,
        rows=TensorRows(tasks=tasks, sequences=torch.arange(NUM_EXAMPLES)[:, None], target=target),
        start=table.start[tasks],
        size=size,
        low=table.low[tasks],
        high=table.high[tasks],
        scale=scale,
    )


def random_target(
    head: str, draw: torch.Generator, size: Tensor, num_real: Tensor, ranges: Any, tasks: Tensor
) -> Tensor:
    def below(limits: Tensor) -> Tensor:
        return (torch.rand(len(limits), generator=draw) * limits).long()

    if head == "classification":
        return below(size)
    if head == "multiple_choice":
        return below(num_real)
    if head == "regression":
        low, high = torch.tensor(ranges)[tasks].T
        return low + torch.rand(len(tasks), generator=draw) * (high - low)
    if head == "multi_label":
        columns = torch.arange(5).expand(len(size), 5)
        chosen = (torch.rand(len(size), 5, generator=draw) < 0.5) & (columns < size[:, None])
        return torch.where(chosen, columns, -1)
    if head == "span":
        first = below(num_real)
        return torch.stack([first, first + below(num_real - first)], dim=-1)
    if head == "generation":
        tokens = torch.randint(NUM_COLUMNS, (len(size), NUM_WIDE), generator=draw)
        return torch.where(torch.arange(NUM_WIDE) < num_real[:, None], tokens, IGNORED)
    tags = torch.stack([below(size) for _ in range(NUM_WIDE)], dim=-1)
    scored = (torch.rand(len(size), NUM_WIDE, generator=draw) < 0.7) & (
        torch.arange(NUM_WIDE) < num_real[:, None]
    )
    scored[:, 0] = True
    return torch.where(scored, tags, IGNORED)


def cross_entropy(scores: list[float], target: int) -> float:
    return math.log(sum(math.exp(score) for score in scores)) - scores[target]


def naive_loss(head: str, x: HeadInput, i: int) -> tuple[float, float]:
    """(loss of example i without scaling, its number of outcomes)."""
    start, size = int(x.start[i]), int(x.size[i])
    own: list[list[float]] = x.logits[i, :, start : start + size].tolist()
    real = [k for k, is_real in enumerate(x.mask[i].tolist()) if is_real]
    target: Any = x.rows.target[i].tolist()
    if head == "classification":
        return cross_entropy(own[0], target), size
    if head == "multi_label":
        signed = [score if k in target else -score for k, score in enumerate(own[0])]
        return sum(math.log(1 + math.exp(-score)) for score in signed) / size, 2
    if head == "multiple_choice":
        return cross_entropy([own[k][0] for k in real], target), len(real)
    if head == "regression":
        low, high = float(x.low[i]), float(x.high[i])
        return (own[0][0] - (target - low) / (high - low)) ** 2, math.e
    if head == "span":
        edges = [cross_entropy([own[t][e] for t in real], target[e]) for e in (0, 1)]
        return sum(edges) / 2, len(real)
    if head == "generation":
        every: list[list[float]] = x.logits[i].tolist()
        return sum(cross_entropy(every[t], target[t]) for t in real) / len(real), NUM_COLUMNS
    losses = [cross_entropy(own[t], tag) for t, tag in enumerate(target) if tag != IGNORED]
    return sum(losses) / len(losses), size


def own_columns(head: str, x: HeadInput) -> Tensor:
    """(N, columns) those of each example's task; generation has the whole vocabulary."""
    column = torch.arange(NUM_COLUMNS)
    if head == "generation":
        return torch.ones(NUM_EXAMPLES, NUM_COLUMNS, dtype=torch.bool)
    return (column >= x.start[:, None]) & (column < (x.start + x.size)[:, None])


@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("head", sorted(HEAD_MATH))
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_the_loss_is_the_naive_one(head: str, scale: bool, seed: int) -> None:
    x = make_input(head, seed, scale=scale)
    naive = [naive_loss(head, x, i) for i in range(NUM_EXAMPLES)]
    wanted = [loss / math.log(outcomes) if scale else loss for loss, outcomes in naive]
    found = HEAD_MATH[head].loss(x)
    assert found.shape == (NUM_EXAMPLES,)
    # Regression targets are stored in single precision.
    assert found.tolist() == pytest.approx(wanted, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("head", SCALED)
def test_uniform_logits_cost_one(head: str) -> None:
    """Whatever other tasks' columns, padding options and padding tokens hold."""
    x = make_input(head)
    own = own_columns(head, x)
    # Multi-label is uniform at probability one half; the others at any common value.
    common = 0.0 if head == "multi_label" else -1.7
    real = x.mask if x.logits.shape[1] > 1 else torch.ones_like(x.mask)
    x = replace(x, logits=x.logits.masked_fill(own[:, None] & real[..., None], common))
    assert HEAD_MATH[head].loss(x).tolist() == pytest.approx([1.0] * NUM_EXAMPLES, abs=1e-7)


@pytest.mark.parametrize("head", sorted(UNLABELLED))
def test_unlabelled_rows_cost_nothing_and_teach_nothing(head: str) -> None:
    x = make_input(head)
    full = HEAD_MATH[head].loss(x)
    target = x.rows.target.clone()
    target[2:4] = torch.tensor(UNLABELLED[head])
    logits = x.logits.clone().requires_grad_()
    loss = HEAD_MATH[head].loss(replace(x, logits=logits, rows=replace(x.rows, target=target)))
    loss.sum().backward()
    assert loss[2:4].tolist() == [0.0, 0.0]
    kept = [0, 1, 4, 5, 6]
    assert torch.equal(loss[kept], full[kept])
    assert logits.grad is not None
    assert not logits.grad[2:4].any()
    assert logits.grad[kept].flatten(1).any(1).all()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("head", sorted(HEAD_MATH))
def test_no_gradient_reaches_other_columns_or_padding(head: str) -> None:
    x = make_input(head, seed=3)
    logits = x.logits.clone().requires_grad_()
    HEAD_MATH[head].loss(replace(x, logits=logits)).sum().backward()
    assert logits.grad is not None
    own = own_columns(head, x)
    assert not logits.grad.masked_fill(own[:, None], 0.0).any()
    if logits.shape[1] > 1:
        assert not logits.grad[~x.mask].any()


@pytest.mark.parametrize("head", sorted(HEAD_MATH))
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31), num_more=st.integers(1, 4), fill=st.floats(-1e4, 1e4))
def test_padding_never_matters(head: str, seed: int, num_more: int, fill: float) -> None:
    x = make_input(head, seed)
    padded = pad(head, x, num_more, fill)
    math_ = HEAD_MATH[head]
    assert torch.allclose(math_.loss(padded), math_.loss(x), rtol=1e-12, atol=0)
    if math_.predict is None:
        return
    before, after = math_.predict(x), math_.predict(padded)
    if HEADS[head].level == "token":
        after = after[:, : x.logits.shape[1]]
    assert torch.equal(after, before)


def pad(head: str, x: HeadInput, num_more: int, fill: float) -> HeadInput:
    """As if the micro-batch held an example with more options, or a longer sequence."""
    more = (NUM_EXAMPLES, num_more)
    target = x.rows.target
    if head in ("token_classification", "generation"):
        target = torch.cat([target, torch.full(more, IGNORED)], 1)
    if head == "multi_label":  # here an example with more labels
        target = torch.cat([target, torch.full(more, -1)], 1)
    return replace(
        x,
        logits=torch.cat([x.logits, torch.full((*more, NUM_COLUMNS), fill).double()], 1),
        mask=torch.cat([x.mask, torch.zeros(more, dtype=torch.bool)], 1),
        rows=replace(x.rows, target=target),
    )


def naive_prediction(head: str, x: HeadInput, i: int) -> Any:
    start, size = int(x.start[i]), int(x.size[i])
    own = x.logits[i, :, start : start + size]
    real = [k for k, is_real in enumerate(x.mask[i].tolist()) if is_real]
    if head == "classification":
        return max(range(size), key=lambda k: float(own[0, k]))
    if head == "multi_label":
        return [k for k in range(size) if own[0, k] > 0]
    if head == "multiple_choice":
        return max(real, key=lambda k: float(own[k, 0]))
    if head == "regression":
        return float(x.low[i] + own[0, 0] * (x.high[i] - x.low[i]))
    if head == "span":
        return [own[t].float().tolist() if t in real else [-math.inf] * 2 for t in range(NUM_WIDE)]
    return [max(range(size), key=lambda k, t=t: float(own[t, k])) for t in range(NUM_WIDE)]


@pytest.mark.parametrize("head", PREDICTING)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_predictions(head: str, seed: int) -> None:
    x = make_input(head, seed)
    wanted = [naive_prediction(head, x, i) for i in range(NUM_EXAMPLES)]
    predict = HEAD_MATH[head].predict
    assert predict is not None
    found = predict(x)
    if head == "multi_label":
        assert [torch.nonzero(row)[:, 0].tolist() for row in found] == wanted
    elif head == "regression":
        assert found.tolist() == pytest.approx(wanted)
    else:
        assert found.tolist() == wanted


def test_a_multi_label_target_is_independent_of_order_and_may_be_empty() -> None:
    x = make_input("multi_label")
    empty = replace(x, rows=replace(x.rows, target=torch.empty(NUM_EXAMPLES, 0).long()))
    padding = replace(x, rows=replace(x.rows, target=torch.full((NUM_EXAMPLES, 3), -1)))
    loss = HEAD_MATH["multi_label"].loss
    assert torch.equal(loss(empty), loss(padding))
    flipped = replace(x, rows=replace(x.rows, target=x.rows.target.flip(1)))
    assert torch.equal(loss(flipped), loss(x))


def test_smoothed_targets_are_spread_over_the_vocabulary() -> None:
    x = make_input("generation")
    share = 0.2
    found = HEAD_MATH["generation"].loss(replace(x, label_smoothing=share, scale=False))
    for i in range(NUM_EXAMPLES):
        real = int(x.mask[i].sum())
        log_probs = x.logits[i, :real].log_softmax(-1)
        right = log_probs[torch.arange(real), x.rows.target[i, :real]]
        smooth = (1 - share) * right + share * log_probs.mean(-1)
        assert found[i].item() == pytest.approx(-smooth.mean().item())
    even = replace(x, logits=torch.zeros_like(x.logits), label_smoothing=share)
    assert HEAD_MATH["generation"].loss(even).tolist() == pytest.approx([1.0] * NUM_EXAMPLES)
