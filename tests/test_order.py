"""The order is a bijection, keeps its quotas, looks random, and is the same wherever it is cut."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from itertools import chain, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from muppet_zoo.errors import ShardError, UnknownNameError, UsageError
from muppet_zoo.mixture import Rates
from muppet_zoo.order import Order, key, permute, quotas

SEEDS = st.integers(min_value=0, max_value=2**32 - 1)
SIZES = st.lists(st.integers(min_value=1, max_value=60), min_size=1, max_size=6)
# Chi-square tests run on fixed seeds, so that they pass or fail for good.
SMALLEST_P = 1e-4
# (task, row) of the first epoch of seed 0 over tasks of 5 and 3 rows.
GOLDEN = [(0, 4), (0, 1), (1, 2), (0, 2), (1, 1), (0, 3), (0, 0), (1, 0)]


def rates_of(scheme: str, sizes: list[int]) -> Rates:
    weights = tuple(1.0 + number for number in range(len(sizes)))
    return Rates(scheme=scheme, temperature=2.0, cap=10, weights=weights)


def order_of(seed: int, sizes: list[int], scheme: str = "natural") -> Order:
    return Order(seed=seed, task_sizes=tuple(sizes), quotas=quotas(sizes, rates_of(scheme, sizes)))


def pairs(order: Order, start: int, count: int) -> list[tuple[int, int]]:
    draws = order.draws(start, count)
    return list(zip(draws.task.tolist(), draws.row.tolist(), strict=True))


def shuffled(size: int, seed: int) -> list[int]:
    numbers = np.arange(size, dtype=np.uint64)
    return [int(number) for number in permute(numbers, np.uint64(size), key(seed, 9))]


@given(size=st.integers(min_value=1, max_value=3000), seed=SEEDS)
@settings(max_examples=100, deadline=None)
def test_permute_is_a_bijection(size: int, seed: int) -> None:
    assert sorted(shuffled(size, seed)) == list(range(size))


@pytest.mark.parametrize("size", range(1, 70))
def test_permute_is_a_bijection_of_every_small_range(size: int) -> None:
    assert sorted(shuffled(size, seed=5)) == list(range(size))


def test_permute_takes_a_size_and_a_key_for_each_value() -> None:
    sizes = np.repeat(np.array([1, 7, 100, 1000], dtype=np.uint64), [1, 7, 100, 1000])
    values = np.concatenate([np.arange(size, dtype=np.uint64) for size in (1, 7, 100, 1000)])
    keys = key(3, 9, sizes)
    together = permute(values, sizes, keys)
    for size in (1, 7, 100, 1000):
        alone = permute(
            np.arange(size, dtype=np.uint64),
            np.uint64(size),
            key(3, 9, np.array([size], dtype=np.uint64)),
        )
        assert together[sizes == size].tolist() == alone.tolist()


@pytest.mark.parametrize("size", [2**31 + 11, 2**40 + 1, 2**53])
def test_permute_stays_inside_and_apart_in_huge_ranges(size: int) -> None:
    last = np.arange(size - 5000, size, dtype=np.uint64)
    result = permute(last, np.uint64(size), key(1, 9))
    assert len(np.unique(result)) == 5000
    assert int(result.max()) < size


@pytest.mark.parametrize("size", [2, 3, 4, 7, 13, 30, 64, 101])
def test_every_place_and_pair_of_places_is_equally_likely(size: int) -> None:
    num_keys = 4000
    keys = np.repeat(key(7, 9, np.arange(num_keys, dtype=np.uint64)), size)
    numbers = np.tile(np.arange(size, dtype=np.uint64), num_keys)
    result = permute(numbers, np.uint64(size), keys).reshape(num_keys, size).astype(np.int64)
    for place in (0, size // 2, size - 1):
        assert chisquare(np.bincount(result[:, place], minlength=size)).pvalue > SMALLEST_P
    if size <= 13:
        both = np.bincount(result[:, 0] * size + result[:, 1], minlength=size * size)
        apart = ~np.eye(size, dtype=bool).ravel()
        assert chisquare(both[apart]).pvalue > SMALLEST_P


def test_tasks_and_rows_are_spread_evenly_over_the_epoch() -> None:
    sizes = [20_000, 5_000, 1_000]
    draws = order_of(11, sizes).draws(0, sum(sizes))
    for task, size in enumerate(sizes):
        positions = np.flatnonzero(draws.task == task)
        assert chisquare(np.histogram(positions, 20, (0, sum(sizes)))[0]).pvalue > SMALLEST_P
        early = draws.row[positions[: size // 2]]
        assert chisquare(np.histogram(early, 20, (0, size))[0]).pvalue > SMALLEST_P
    steps = np.diff(draws.row[draws.task == 0])
    assert abs(float(np.corrcoef(steps[:-1], steps[1:])[0, 1]) + 0.5) < 0.03  # as of a shuffle


@given(seed=SEEDS, sizes=SIZES)
@settings(max_examples=50, deadline=None)
def test_natural_gives_every_row_once_an_epoch(seed: int, sizes: list[int]) -> None:
    order = order_of(seed, sizes)
    everything = sorted((task, row) for task, size in enumerate(sizes) for row in range(size))
    for epoch in range(3):
        assert sorted(pairs(order, epoch * order.epoch_size, order.epoch_size)) == everything


@given(
    seed=SEEDS,
    sizes=SIZES,
    scheme=st.sampled_from(["natural", "temperature", "capped", "explicit"]),
)
@settings(max_examples=60, deadline=None)
def test_quotas_hold_in_every_epoch_and_rows_take_turns(
    seed: int, sizes: list[int], scheme: str
) -> None:
    order = order_of(seed, sizes, scheme)
    seen: Counter[tuple[int, int]] = Counter(
        {(task, row): 0 for task, size in enumerate(sizes) for row in range(size)}
    )
    for epoch in range(4):
        drawn = pairs(order, epoch * order.epoch_size, order.epoch_size)
        per_task = Counter(task for task, _ in drawn)
        assert tuple(per_task[task] for task in range(len(sizes))) == order.quotas
        seen.update(drawn)
        for task, size in enumerate(sizes):
            times = [seen[task, row] for row in range(size)]
            assert max(times) - min(times) <= 1


@given(
    seed=SEEDS,
    sizes=SIZES,
    scheme=st.sampled_from(["natural", "temperature", "capped", "explicit"]),
    cuts=st.lists(st.integers(min_value=0, max_value=500), max_size=6),
)
@settings(max_examples=50, deadline=None)
def test_the_order_does_not_depend_on_how_it_is_cut(
    seed: int, sizes: list[int], scheme: str, cuts: list[int]
) -> None:
    order = order_of(seed, sizes, scheme)
    pieces = [pairs(order, a, b - a) for a, b in pairwise(sorted({0, 500, *cuts}))]
    assert list(chain.from_iterable(pieces)) == pairs(order, 0, 500)


def test_epochs_and_seeds_differ() -> None:
    order = order_of(0, [50, 200])
    first, second = (pairs(order, epoch * 250, 250) for epoch in range(2))
    assert sum(a == b for a, b in zip(first, second, strict=True)) < 25
    other = pairs(order_of(1, [50, 200]), 0, 250)
    assert sum(a == b for a, b in zip(first, other, strict=True)) < 25


def test_draws_of_a_seed_never_change() -> None:
    """A checkpoint of an older version must go on with the same data."""
    assert pairs(order_of(0, [5, 3]), 0, 8) == GOLDEN


def test_a_seek_is_cheap_anywhere() -> None:
    order = Order(seed=1, task_sizes=(100_000,) * 1000, quotas=(100_000,) * 1000)
    order.draws(0, 1)
    tracemalloc.start()
    order.draws(99_999_999, 1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000


def test_one_row_beside_very_many() -> None:
    order = order_of(2, [1, 400_000])
    draws = order.draws(0, 400_001)
    assert np.count_nonzero(draws.task == 0) == 1
    assert len(np.unique(draws.row[draws.task == 1])) == 400_000


def test_an_impossible_order_is_refused() -> None:
    with pytest.raises(ValueError, match="2 sizes but 1 quotas"):
        Order(seed=0, task_sizes=(1, 2), quotas=(1,))
    with pytest.raises(ValueError, match="at least one task"):
        Order(seed=0, task_sizes=(0,), quotas=(1,))
    with pytest.raises(ValueError, match="from position -1"):
        order_of(0, [3]).draws(-1, 2)


def test_quotas_by_hand() -> None:
    sizes = [100, 400, 2500]
    assert quotas(sizes, Rates()) == (100, 400, 2500)
    assert quotas(sizes, Rates(scheme="capped", cap=300)) == (100, 300, 300)
    # Square roots 10, 20 and 50: shares 1/8, 2/8 and 5/8 of 3000 draws.
    assert quotas(sizes, Rates(scheme="temperature", temperature=2)) == (375, 750, 1875)
    assert quotas(sizes, Rates(scheme="temperature", temperature=1)) == (100, 400, 2500)
    assert quotas(sizes, Rates(scheme="explicit", weights=(1, 1, 2))) == (750, 750, 1500)
    # 10 draws in three equal shares: the first of equal remainders gets the draw left over.
    assert quotas([3, 3, 4], Rates(scheme="explicit", weights=(1, 1, 1))) == (4, 3, 3)
    # No task vanishes, however small its weight.
    assert quotas([2, 2, 2], Rates(scheme="explicit", weights=(1e-9, 1e-9, 1))) == (1, 1, 4)


@given(sizes=SIZES, weights=st.lists(st.floats(1e-6, 1e6), min_size=6, max_size=6))
@settings(max_examples=100, deadline=None)
def test_explicit_shares_add_up(sizes: list[int], weights: list[float]) -> None:
    shares = quotas(sizes, Rates(scheme="explicit", weights=tuple(weights[: len(sizes)])))
    assert sum(shares) == sum(sizes)
    assert min(shares) >= 1


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        (Rates(scheme="temperature"), "temperature must be a number of at least 1, not None"),
        (Rates(scheme="temperature", temperature=0.5), "at least 1, not 0.5"),
        (Rates(scheme="temperature", temperature=float("nan")), "at least 1, not nan"),
        (Rates(scheme="capped", cap=0), "cap must be a whole number of at least 1, not 0"),
        (Rates(scheme="explicit", weights=(1.0,)), "each of the 2 tasks"),
        (Rates(scheme="explicit", weights=(1.0, 0.0)), "one positive weight"),
    ],
)
def test_bad_rates_are_explained(rates: Rates, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        quotas([3, 4], rates)


def test_unknown_scheme_and_empty_task() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'capped'"):
        quotas([3], Rates(scheme="caped"))
    with pytest.raises(ShardError, match="task number 1 of the mixture"):
        quotas([3, 0], Rates())
    with pytest.raises(ShardError, match="no tasks"):
        quotas([], Rates())
