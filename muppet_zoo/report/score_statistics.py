"""What scores over seeds, examples and targets say, and what they cannot say.

Every formula is scipy's or statsmodels'. What is decided here is which to ask, once for the whole
package, so that two tables never show two kinds of interval:

    interval of a mean     Student t, over seeds or over targets
    test over seeds        exact paired permutation test: the signs of the differences are flipped
    test over examples     McNemar's exact test where rows differ by -1, 0 or 1, else Student's
                           paired t, or the permutation test for fewer than 13 rows
    interval over examples paired bootstrap, percentiles
    several comparisons    Holm's correction

A permutation test of n pairs has 2^n arrangements, so its p is at least 2 / 2^n: with fewer than
six seeds none is below 0.05, however large the gain. `smallest_p` says so beside every such test.
Over many rows random arrangements have a floor as well, 2 / 5000 of 4999, which the correction
for a hundred comparisons lifts above 0.05; Student's t has none, and of so many rows is near exact.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from muppet_zoo.errors import MuppetZooError
from muppet_zoo.metrics import load_library

CONFIDENCE = 0.95
NUM_RESAMPLES = 4999
"""Arrangements, all of them up to 12 pairs and random ones beyond; and resamples of a bootstrap."""

_MOST_EXACT = 12  # 2^12 = 4096 arrangements
_SEED = 0  # equal input gives equal bytes
_NUMBERS_AT_ONCE = 4_000_000  # of float64, so 32 MB


class StatisticsError(MuppetZooError):
    """Values that have no mean or interval."""


@dataclass(frozen=True, kw_only=True)
class MeanInterval:
    """Mean and median of `num_values` values; `low` and `high` are None for a single value."""

    mean: float
    median: float
    low: float | None
    high: float | None
    num_values: int
    confidence: float


@dataclass(frozen=True, kw_only=True)
class PairedTest:
    """A mean difference, its interval (None for a single pair), and the two-sided p of no gain."""

    difference: float
    low: float | None
    high: float | None
    p: float
    num_pairs: int


def mean_and_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> MeanInterval:
    """Mean, median and two-sided Student t interval of independent values, such as over seeds.

    Source: mean ± t((1 + confidence) / 2, n - 1) · s / sqrt(n), Student (1908). The bounds are
    not clipped to the metric's range. Raises StatisticsError for no values or one not finite.
    """
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence is {confidence}; allowed: between 0 and 1")
    if not values or not all(math.isfinite(value) for value in values):
        message = f"no interval for {list(values)!r}; needed: one or more finite numbers"
        raise StatisticsError(message)
    num_values, mean = len(values), statistics.fmean(values)
    low = high = None
    if num_values > 1:
        # scipy's own t.interval answers NaN for equal values; theirs is the interval of width 0.
        quantile = float(load_library("scipy.stats").t.ppf((1 + confidence) / 2, num_values - 1))
        half_width = quantile * statistics.stdev(values) / math.sqrt(num_values)
        low, high = mean - half_width, mean + half_width
    return MeanInterval(
        mean=mean,
        median=statistics.median(values),
        low=low,
        high=high,
        num_values=num_values,
        confidence=confidence,
    )


def compare_pairs(differences: Sequence[float]) -> PairedTest:
    """Whether few paired differences, one per seed or per target, are around 0.

    Source: Fisher (1935), "The Design of Experiments", section 21, by scipy.stats.permutation_test.
    """
    interval = mean_and_interval(differences)
    return PairedTest(
        difference=interval.mean,
        low=interval.low,
        high=interval.high,
        p=_sign_flip_p(differences),
        num_pairs=len(differences),
    )


def compare_examples(differences: Sequence[float]) -> PairedTest:
    """Whether the differences of many scored rows are around 0.

    Source: McNemar (1947) by scipy.stats.binomtest where all are -1, 0 or 1; Student (1908) by
    scipy.stats.ttest_1samp; the interval by scipy.stats.bootstrap (Efron 1979).
    """
    import numpy as np

    stats = load_library("scipy.stats")
    values = np.asarray(differences, dtype=np.float64)
    won, lost = int((values == 1).sum()), int((values == -1).sum())
    if won + lost == np.count_nonzero(values):
        p = float(stats.binomtest(won, won + lost).pvalue) if won + lost else 1.0
    elif len(values) <= _MOST_EXACT or np.ptp(values) == 0:
        p = _sign_flip_p(values)
    else:
        p = float(stats.ttest_1samp(values, 0.0).pvalue)
    low = high = None
    if len(values) > 1:
        interval = stats.bootstrap(
            (values,),
            np.mean,
            n_resamples=NUM_RESAMPLES,
            batch=_batch(len(values)),
            method="percentile",
            confidence_level=CONFIDENCE,
            rng=_SEED,
        )
        low, high = (float(bound) for bound in interval.confidence_interval)
    mean = math.fsum(values) / len(values)
    return PairedTest(difference=mean, low=low, high=high, p=p, num_pairs=len(values))


def smallest_p(num_pairs: int) -> float:
    """The least p that a paired permutation test of so many pairs can give."""
    return min(1.0, 2.0 / 2.0**num_pairs)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values as they count among so many comparisons.

    Source: Holm (1979), "A simple sequentially rejective multiple test procedure", by
    statsmodels.stats.multitest.multipletests.
    """
    if not p_values:
        return []
    correct = load_library("statsmodels.stats.multitest").multipletests
    return [float(p) for p in correct(list(p_values), method="holm")[1]]


def ranks(values: Sequence[float]) -> list[float]:
    """1 for the highest; equal values share the mean of their places."""
    rankdata = load_library("scipy.stats").rankdata
    return [float(rank) for rank in rankdata([-value for value in values])]


def _sign_flip_p(differences: Any) -> float:
    import numpy as np

    if len(differences) < 2:
        return 1.0  # both signs of one difference are equally far from 0
    result = load_library("scipy.stats").permutation_test(
        (np.asarray(differences, dtype=np.float64),),
        np.mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=NUM_RESAMPLES,
        batch=_batch(len(differences)),
        rng=_SEED,
    )
    return float(result.pvalue)


def _batch(num_values: int) -> int:
    return max(1, _NUMBERS_AT_ONCE // num_values)
