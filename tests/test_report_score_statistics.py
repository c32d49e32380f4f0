"""Intervals and paired tests: by tables, by counting arrangements, by the libraries; properties."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muppet_zoo.report.score_statistics import (
    StatisticsError,
    compare_examples,
    compare_pairs,
    holm,
    mean_and_interval,
    ranks,
    smallest_p,
)

GAINS = st.lists(st.integers(-8, 8).map(lambda n: n / 16), min_size=2, max_size=7)


def test_interval_against_a_table_of_t() -> None:
    # Values 1, 2, 3: mean 2, s = 1, s/sqrt(3) = 0.57735; t(0.975, 2) = 4.30265 in any table.
    result = mean_and_interval([1.0, 2.0, 3.0])
    assert result.low is not None
    assert result.high is not None
    assert result.mean == 2.0
    assert result.high - result.mean == pytest.approx(4.30265 * 0.57735, abs=1e-4)
    assert result.mean - result.low == pytest.approx(result.high - result.mean)
    assert (result.num_values, result.confidence) == (3, 0.95)


@settings(max_examples=30, deadline=None)
@given(values=st.lists(st.integers(0, 1000).map(lambda n: n / 1000), min_size=2, max_size=8))
def test_interval_equals_the_library(values: list[float]) -> None:
    from scipy.stats import ttest_1samp

    result = mean_and_interval(values, confidence=0.9)
    assert result.low is not None
    assert result.high is not None
    if len(set(values)) == 1:
        assert result.low == result.mean == result.high
        return
    library = ttest_1samp(values, 0.0).confidence_interval(0.9)
    assert (result.low, result.high) == pytest.approx((library.low, library.high))


def test_one_value_has_no_interval() -> None:
    result = mean_and_interval([0.5])
    assert (result.mean, result.low, result.high, result.num_values) == (0.5, None, None, 1)


def test_interval_refuses_what_has_none() -> None:
    for values in ([], [0.5, math.nan]):
        with pytest.raises(StatisticsError, match="needed: one or more finite numbers"):
            mean_and_interval(values)
    with pytest.raises(ValueError, match="between 0 and 1"):
        mean_and_interval([0.5], confidence=95)


def test_the_median_stands_beside_the_mean() -> None:
    assert mean_and_interval([1.0, 2.0, 6.0]).median == 2.0


@pytest.mark.parametrize(
    ("differences", "p"),
    [
        # Of 8 signs of (1, 2, 3), one sum is as high as 6 and one as low: 2/8.
        ([0.1, 0.2, 0.3], 2 / 8),
        ([-0.1, -0.2, -0.3], 2 / 8),
        # Sums of ±3 ±2 ±1: 6, 4, 2, 0, 0, -2, -4, -6; this one is 4: two of 8 are as high.
        ([3.0, 2.0, -1.0], 4 / 8),
        # Sums of three ones: 4 of 8 are at least 1, twice that is all.
        ([1.0, 1.0, -1.0], 1.0),
        ([0.0, 0.0, 0.0], 1.0),
        ([0.5], 1.0),
        # Five equal signs: the least that five seeds can give.
        ([0.1, 0.1, 0.2, 0.3, 0.1], 2 / 32),
    ],
)
def test_few_pairs_by_counting_arrangements(differences: list[float], p: float) -> None:
    assert compare_pairs(differences).p == pytest.approx(p)
    assert compare_pairs(differences).p >= smallest_p(len(differences))


@pytest.mark.parametrize(
    ("differences", "p"),
    [
        # McNemar, exact: 3 won, 1 lost; 0 or 1 of 4 lost has 5 of 16 chances, both sides 10.
        ([1, 1, 1, 0, -1], 10 / 16),
        ([1] * 6, 2 / 64),
        ([0, 0, 0], 1.0),
        # Means over two seeds are halves: by arrangements, as 1, 2, 3 above.
        ([0.5, 1.0, 1.5], 2 / 8),
    ],
)
def test_examples_by_hand(differences: list[float], p: float) -> None:
    assert compare_examples(differences).p == pytest.approx(p)


def test_many_rows_by_a_table_of_t() -> None:
    # 20 rows of mean 0.1: 6 times 0.5, 2 times -0.5, 12 times 0. s² = (8·0.25 - 20·0.01) / 19, so
    # t = 0.1 / (0.3078 / sqrt(20)) = 1.453; with 19 degrees of freedom p is 0.1626.
    found = compare_examples([0.5] * 6 + [-0.5] * 2 + [0.0] * 12)
    assert (found.difference, found.p) == (pytest.approx(0.1), pytest.approx(0.1626, abs=1e-4))


def test_many_rows_that_all_gain_alike_need_no_division_by_zero() -> None:
    assert compare_examples([0.5] * 40).p == pytest.approx(2 / 5000)


def test_the_bootstrap_interval_is_the_binomial_one_of_a_share() -> None:
    # 30 of 100 rows gained 1: the share of a resample is binomial, sd sqrt(0.3·0.7/100) = 0.0458,
    # and 1.96 of them on either side reach 0.21 and 0.39.
    found = compare_examples([1.0] * 30 + [0.0] * 70)
    assert found.difference == pytest.approx(0.3)
    assert (found.low, found.high) == (
        pytest.approx(0.21, abs=0.011),
        pytest.approx(0.39, abs=0.011),
    )


@settings(max_examples=25, deadline=None)
@given(gains=GAINS, data=st.data())
def test_order_does_not_matter_and_swapped_sides_only_change_the_sign(
    gains: list[float], data: st.DataObject
) -> None:
    once = compare_pairs(gains)
    again = compare_pairs(data.draw(st.permutations(gains)))
    swapped = compare_pairs([-gain for gain in gains])
    assert (again.difference, again.p) == (pytest.approx(once.difference), pytest.approx(once.p))
    assert (swapped.difference, swapped.p) == (
        pytest.approx(-once.difference),
        pytest.approx(once.p),
    )


@settings(max_examples=25, deadline=None)
@given(gains=GAINS)
def test_the_permutation_test_equals_its_definition(gains: list[float]) -> None:
    from itertools import product

    observed = sum(gains)
    sums = [sum(s * g for s, g in zip(signs, gains, strict=True))
            for signs in product((1, -1), repeat=len(gains))]  # fmt: skip
    high = sum(total >= observed for total in sums) / len(sums)
    low = sum(total <= observed for total in sums) / len(sums)
    assert compare_pairs(gains).p == pytest.approx(min(1.0, 2 * min(high, low)))


def test_holm_by_hand() -> None:
    # Sorted 0.01·3, 0.03·2, then 0.04·1, which may not be less than the one before it.
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []


def test_ranks_share_places() -> None:
    assert ranks([0.5, 0.9, 0.5]) == [2.5, 1.0, 2.5]


def test_no_p_of_few_seeds_is_below_five_percent() -> None:
    assert [smallest_p(n) for n in (1, 2, 3, 5)] == [1.0, 0.5, 0.25, 0.0625]
    assert smallest_p(6) < 0.05
