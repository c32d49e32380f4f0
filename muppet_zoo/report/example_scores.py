"""A score of each row, so that two models can be compared row by row.

A test over examples needs one number per row whose mean says who is better. Where the metric is
such a mean, the rows' own scores are taken, by the metric itself. F1, Matthews and correlations are
none, so rows stand in for them by what the metric looks at: whether a label is right, how many of a
sentence's are, how far a number is off. `ExampleScore.name` says which, and stands beside the test.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from muppet_zoo.metrics import METRICS, score


@dataclass(frozen=True, kw_only=True)
class ExampleScore:
    """What is compared row by row: `function` of (prediction, target); more is better."""

    name: str
    function: Callable[[Any, Any], float]


def example_score(metric: str) -> ExampleScore | None:
    """The row's score for a metric; None for a metric that is not ours."""
    known = METRICS.get(metric)
    if known is None:
        return None
    if known.heads & {"span", "generation"}:
        return ExampleScore(name=metric, function=partial(_one_row, metric))
    if "regression" in known.heads:
        return ExampleScore(name="nearness to the target", function=_nearness)
    return ExampleScore(name="right labels", function=_right)


def _one_row(metric: str, prediction: str, target: Any) -> float:
    return score(metric, [prediction], [target], num_labels=0)


def _nearness(prediction: float, target: float) -> float:
    return -abs(prediction - target)


def _right(prediction: Any, target: Any) -> float:
    """1 where a label or a set of labels is right; of words, the share of right ones."""
    if not isinstance(target, list):
        return float(prediction == target)
    if not target or not isinstance(target[0], str):
        return float(set(prediction) == set(target))
    num_right = sum(bool(p == t) for p, t in zip(prediction, target, strict=True))
    return num_right / len(target)
