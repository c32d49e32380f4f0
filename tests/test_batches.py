"""Batches hold their budget, lose and repeat nothing, and resume exactly."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from itertools import groupby, islice, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muppet_zoo.batches import (
    SCHEMES,
    Batcher,
    Batching,
    MicroBatchPlan,
    Position,
    StepPlan,
    eval_plans,
    sample_examples,
)
from muppet_zoo.errors import CheckpointError, UnknownNameError, UsageError
from muppet_zoo.mixture import Rates
from muppet_zoo.order import Draws, Order, quotas
from muppet_zoo.task_data import Part, TaskData

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray


@dataclass
class Lengths:
    """A task of which only lengths exist: enough to plan."""

    lengths: NDArray[np.uint32]
    num_sequences: NDArray[np.uint16]
    head_type: str = "classification"

    @property
    def parts(self) -> Sequence[Part]:
        raise AssertionError("planning must not read rows")


def lengths_task(
    num_rows: int, seed: int, *, options: int = 1, mean: float = 27.0, most: int = 128
) -> Lengths:
    drawn = np.random.default_rng(seed).lognormal(np.log(mean), 0.6, num_rows)
    return Lengths(
        lengths=np.clip(drawn, 4, most).astype(np.uint32),
        num_sequences=np.full(num_rows, options, dtype=np.uint16),
    )


def batcher_of(
    datas: Sequence[TaskData], *, seed: int = 1, rates: Rates | None = None, **batching: Any
) -> Batcher:
    sizes = tuple(len(data.lengths) for data in datas)
    in_turn = batching.get("scheme") == "dataset_homogeneous"
    order = Order(
        seed=seed,
        task_sizes=sizes,
        quotas=quotas(sizes, rates or Rates()),
        tasks_in_turn=in_turn,
    )
    return Batcher(order=order, datas=datas, batching=Batching(**batching))


def small_batcher(seed: int = 1, scheme: str = "mixed") -> Batcher:
    tasks = [lengths_task(40, 1), lengths_task(7, 2, options=3), lengths_task(90, 3)]
    return batcher_of(
        tasks,
        seed=seed,
        scheme=scheme,
        tokens_per_micro_batch=300,
        micro_batches_per_step=3,
        window_examples=32,
    )


def rows_of(plan: MicroBatchPlan) -> tuple[tuple[int, int], ...]:
    return tuple(zip(plan.tasks.tolist(), plan.rows.tolist(), strict=True))


def content(steps: Iterable[StepPlan]) -> list[tuple[tuple[tuple[int, int], ...], ...]]:
    return [tuple(rows_of(plan) for plan in step.micro_batches) for step in steps]


def epoch(batcher: Batcher, num_epochs: float = 1) -> list[StepPlan]:
    return list(batcher.steps(stop_after_examples=batcher.num_examples(num_epochs)))


def cost(plan: MicroBatchPlan, datas: Sequence[TaskData]) -> int:
    counts = [int(datas[task].num_sequences[row]) for task, row in rows_of(plan)]
    return sum(counts) * int(plan.lengths.max())


# Planning


@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=4),
    budget=st.integers(8, 400),
    window=st.integers(1, 80),
    per_step=st.integers(1, 5),
    num_epochs=st.sampled_from([0.3, 1, 2, 2.5]),
    scheme=st.sampled_from(SCHEMES),
    most=st.none() | st.integers(1, 9),
)
@settings(max_examples=150, deadline=None)
def test_every_draw_is_used_once_within_the_budget(
    seed: int,
    sizes: list[int],
    budget: int,
    window: int,
    per_step: int,
    num_epochs: float,
    scheme: str,
    most: int | None,
) -> None:
    tasks = [lengths_task(size, n, options=1 + 2 * (n == 1)) for n, size in enumerate(sizes)]
    batcher = batcher_of(
        tasks,
        seed=seed,
        scheme=scheme,
        tokens_per_micro_batch=budget,
        examples_per_micro_batch=most,
        micro_batches_per_step=per_step,
        window_examples=window,
    )
    steps = epoch(batcher, num_epochs)
    draws = batcher.order.draws(0, batcher.num_examples(num_epochs))
    drawn = Counter(zip(draws.task.tolist(), draws.row.tolist(), strict=True))
    plans = [plan for step in steps for plan in step.micro_batches]
    assert Counter(pair for plan in plans for pair in rows_of(plan)) == drawn
    assert all(cost(plan, tasks) <= budget or len(plan.rows) == 1 for plan in plans)
    assert all(most is None or len(plan.rows) <= most for plan in plans)
    assert batcher.num_steps(num_epochs) == len(steps)
    if not batcher.batching.one_task_per_step:
        assert all(len(step.micro_batches) == per_step for step in steps[:-1])
    assert all(1 <= len(step.micro_batches) <= per_step for step in steps)
    for step in steps:
        assert step.num_examples == sum(len(plan.rows) for plan in step.micro_batches)


def test_lengths_in_a_plan_are_those_of_its_rows_and_rise() -> None:
    batcher = small_batcher()
    for step in epoch(batcher):
        for plan in step.micro_batches:
            true = [int(batcher.datas[task].lengths[row]) for task, row in rows_of(plan)]
            assert plan.lengths.tolist() == true == sorted(true)


def test_padding_is_at_most_five_percent_on_twelve_tasks() -> None:
    rng = np.random.default_rng(0)
    sizes = [250, 600, 1200, 2500, 3700, 4000, 5500, 7000, 8500, 9000, 9700, 11_000]
    means = rng.uniform(12, 60, len(sizes))
    tasks = [
        lengths_task(size, number, mean=mean, options=5 if number == 4 else 1, most=256)
        for number, (size, mean) in enumerate(zip(sizes, means, strict=True))
    ]
    num_tokens = padded = 0
    batcher = batcher_of(tasks)
    assert batcher.batching == Batching(tokens_per_micro_batch=4096, window_examples=4096)
    for step in epoch(batcher):
        for plan in step.micro_batches:
            counts = np.array([tasks[task].num_sequences[row] for task, row in rows_of(plan)])
            num_tokens += int((plan.lengths * counts).sum())
            padded += int(counts.sum() * plan.lengths.max())
    assert (padded - num_tokens) / padded <= 0.05


def test_tasks_mix_inside_micro_batches() -> None:
    plans = [plan for step in epoch(small_batcher()) for plan in step.micro_batches]
    assert sum(len(set(plan.tasks.tolist())) > 1 for plan in plans) > len(plans) / 2


def tasks_of(step: StepPlan) -> list[set[int]]:
    return [set(plan.tasks.tolist()) for plan in step.micro_batches]


def test_heterogeneous_mixes_in_the_step_alone() -> None:
    steps = epoch(small_batcher(scheme="heterogeneous"), 4)
    assert all(len(tasks) == 1 for step in steps for tasks in tasks_of(step))
    assert sum(len(set.union(*tasks_of(step))) > 1 for step in steps) > len(steps) / 2


def test_batch_homogeneous_has_one_task_a_step_and_shuffles_the_steps() -> None:
    steps = epoch(small_batcher(scheme="batch_homogeneous"), 4)
    turns = [set.union(*tasks_of(step)) for step in steps]
    assert all(len(tasks) == 1 for tasks in turns)
    changes = sum(a != b for a, b in pairwise(turns))
    assert changes > len(steps) / 4  # in turn, four epochs of three tasks would have eleven
    assert max(len(step.micro_batches) for step in steps) == 3


def test_dataset_homogeneous_has_one_task_after_another() -> None:
    steps = epoch(small_batcher(scheme="dataset_homogeneous"), 2)
    turns = [set.union(*tasks_of(step)) for step in steps]
    assert [tasks for tasks, _ in groupby(turns)] == [{0}, {1}, {2}, {0}, {1}, {2}]
    longest = [int(plan.lengths.max()) for step in steps for plan in step.micro_batches]
    assert longest != sorted(longest)


def test_an_example_over_the_budget_stands_alone() -> None:
    short = Lengths(np.full(90, 5, dtype=np.uint32), np.ones(90, dtype=np.uint16))
    long = Lengths(np.array([50], dtype=np.uint32), np.array([1], dtype=np.uint16))
    options = Lengths(np.array([5], dtype=np.uint32), np.array([7], dtype=np.uint16))
    batcher = batcher_of([short, long, options], tokens_per_micro_batch=20)
    plans = [rows_of(plan) for step in epoch(batcher) for plan in step.micro_batches]
    assert ((1, 0),) in plans
    assert ((2, 0),) in plans
    assert max(map(len, plans)) == 4


def test_one_row_beside_400_000() -> None:
    batcher = batcher_of([lengths_task(1, 0), lengths_task(400_000, 1)])
    stop = 400_001
    seen = np.zeros(stop, dtype=np.int64)
    for step in batcher.steps(stop_after_examples=stop):
        for plan in step.micro_batches:
            np.add.at(seen, np.where(plan.tasks == 0, 400_000, plan.rows), 1)
    assert seen.min() == seen.max() == 1


def company(steps: Iterable[StepPlan]) -> set[frozenset[tuple[int, int]]]:
    """Pairs of examples that share a micro-batch."""
    batches = [rows_of(plan) for step in steps for plan in step.micro_batches]
    return {frozenset((a, b)) for rows in batches for a in rows for b in rows if a != b}


@pytest.mark.parametrize("window", [100, 400, 4096])
def test_company_changes_between_epochs(window: int) -> None:
    """A fixed cut into batches would show the model the same pairs for ever."""
    batcher = batcher_of(
        [lengths_task(300, 1), lengths_task(100, 2)],
        tokens_per_micro_batch=300,
        micro_batches_per_step=1,
        window_examples=window,
    )
    assert batcher.window_examples == 100
    first = company(epoch(batcher))
    second = company(batcher.steps(Position(window=4), stop_after_examples=800))
    assert len(first & second) < 0.35 * len(first)


def test_a_micro_batch_of_a_tiny_task_holds_no_copies() -> None:
    batcher = batcher_of([lengths_task(32, 1)])
    for step in epoch(batcher, 8):
        for plan in step.micro_batches:
            assert len(set(rows_of(plan))) == len(plan.rows) <= 8


def test_micro_batches_of_a_window_are_not_sorted_by_length() -> None:
    batcher = batcher_of([lengths_task(4096, 0)])
    longest = [int(plan.lengths.max()) for step in epoch(batcher) for plan in step.micro_batches]
    assert longest != sorted(longest)
    assert longest != sorted(longest, reverse=True)


# Ranks


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
def test_ranks_share_the_same_steps(world_size: int, scheme: str) -> None:
    for step in epoch(small_batcher(scheme=scheme)):
        shares = [step.for_rank(rank, world_size) for rank in range(world_size)]
        assert len({len(share) for share in shares}) == 1
        passes = zip(*shares, strict=True)
        together = [plan for plans in passes for plan in plans if plan is not None]
        assert together == list(step.micro_batches)


def test_a_rank_with_nothing_left_gets_none() -> None:
    step = next(small_batcher().steps())
    assert step.for_rank(0, 2) == (step.micro_batches[0], step.micro_batches[2])
    assert step.for_rank(1, 2) == (step.micro_batches[1], None)
    assert step.for_rank(3, 4) == (None,)
    with pytest.raises(ValueError, match="rank 2 of 2"):
        step.for_rank(2, 2)


# Resume


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("stop", [None, 300])
def test_resume_is_a_suffix_from_every_step(stop: int | None, scheme: str) -> None:
    batcher = small_batcher(scheme=scheme)
    steps = list(islice(batcher.steps(stop_after_examples=stop), 60))
    whole = content(steps)
    assert len(whole) == 60 if stop is None else len(whole) > 10
    for number, step in enumerate(steps, start=1):
        rest = content(
            islice(batcher.steps(step.after, stop_after_examples=stop), len(whole) - number)
        )
        assert rest == whole[number:]
    if stop is not None:
        assert list(batcher.steps(steps[-1].after, stop_after_examples=stop)) == []


def test_resume_plans_no_earlier_window(monkeypatch: pytest.MonkeyPatch) -> None:
    batcher = small_batcher()
    asked: list[tuple[int, int]] = []
    draws = Order.draws

    def count(order: Order, start: int, number: int) -> Draws:
        asked.append((start, number))
        return draws(order, start, number)

    monkeypatch.setattr(Order, "draws", count)
    next(batcher.steps(Position(window=1_000_000, micro_batch=0)))
    assert asked == [(32_000_000, 32)]


def test_a_position_that_does_not_exist_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"window 0 has .* not that of the checkpoint"):
        next(small_batcher().steps(Position(window=0, micro_batch=999)))


def test_the_stream_has_no_end_without_a_bound() -> None:
    batcher = small_batcher()
    more = len(epoch(batcher, 3)) + 5
    assert len(list(islice(batcher.steps(), more))) == more


def test_equal_fields_give_equal_steps_and_seeds_differ() -> None:
    assert content(epoch(small_batcher())) == content(epoch(small_batcher()))
    assert content(epoch(small_batcher())) != content(epoch(small_batcher(seed=2)))


def test_bad_settings_are_refused() -> None:
    with pytest.raises(UsageError, match=r"batching\.window_examples must be at least 1, not 0"):
        Batching(window_examples=0)
    with pytest.raises(UnknownNameError, match="did you mean 'mixed'"):
        Batching(scheme="mixd")
    with pytest.raises(ValueError, match="the order does not suit the scheme mixed"):
        Batcher(
            order=replace(small_batcher().order, tasks_in_turn=True),
            datas=small_batcher().datas,
            batching=Batching(),
        )
    batcher = small_batcher()
    with pytest.raises(ValueError, match="the order is of"):
        replace(batcher, datas=batcher.datas[:2])


def test_epochs_round_to_whole_examples() -> None:
    batcher = small_batcher()
    assert [batcher.num_examples(n) for n in (1e-9, 0.5, 1, 2)] == [1, 68, 137, 274]


# Evaluation


@given(
    size=st.integers(1, 200),
    budget=st.integers(8, 500),
    num_rows=st.none() | st.integers(1, 50),
)
@settings(max_examples=40, deadline=None)
def test_evaluation_covers_every_row_once(size: int, budget: int, num_rows: int | None) -> None:
    data = lengths_task(size, 5, options=2)
    chosen = sample_examples(size, num_rows)
    plans = list(eval_plans(data, budget, task=3, rows=chosen))
    rows = [row for plan in plans for row in plan.rows.tolist()]
    assert sorted(rows) == chosen.tolist()
    assert all(set(plan.tasks.tolist()) == {3} for plan in plans)
    assert all(2 * len(p.rows) * p.lengths.max() <= budget or len(p.rows) == 1 for p in plans)
    lengths = [length for plan in plans for length in plan.lengths.tolist()]
    assert lengths == sorted(lengths)


@given(size=st.integers(1, 5000), at_most=st.integers(1, 300))
@settings(max_examples=60, deadline=None)
def test_a_sample_is_distinct_ascending_and_always_the_same(size: int, at_most: int) -> None:
    chosen = sample_examples(size, at_most)
    assert len(chosen) == min(size, at_most)
    assert (np.diff(chosen) > 0).all()
    assert chosen.min() >= 0
    assert chosen.max() < size
    assert (chosen == sample_examples(size, at_most)).all()
    assert (sample_examples(size, None) == np.arange(size)).all()


def test_a_sample_is_no_head_of_the_file() -> None:
    """Many datasets are sorted by label; their first rows have only one."""
    chosen = sample_examples(1066, 500)
    assert 0.4 < (chosen < 533).mean() < 0.6
