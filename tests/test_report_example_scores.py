"""Rows scored one by one: what each metric looks at."""

from __future__ import annotations

from typing import Any

import pytest

from muppet_zoo.metrics import METRICS, score
from muppet_zoo.report.example_scores import example_score


@pytest.mark.parametrize(
    ("metric", "prediction", "target", "expected"),
    [
        ("accuracy", 1, 1, 1.0),
        ("matthews_correlation", 0, 1, 0.0),
        ("group_exact_match", 1, 1, 1.0),
        ("micro_f1", [2, 0], [0, 2], 1.0),
        ("macro_f1", [0], [0, 2], 0.0),
        ("micro_f1", [], [], 1.0),
        ("entity_f1", ["O", "B-PER", "O"], ["O", "B-PER", "B-PER"], 2 / 3),
        ("accuracy", ["A", "B"], ["A", "A"], 1 / 2),
        ("pearson", 2.5, 3.0, -0.5),
        ("squad_f1", "black cat", ["big black cat"], 4 / 5),
        ("rougeL", "b c d", "b d c", 2 / 3),
    ],
)
def test_rows(metric: str, prediction: Any, target: Any, expected: float) -> None:
    rule = example_score(metric)
    assert rule is not None
    assert rule.function(prediction, target) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_has_a_rule(metric: str) -> None:
    assert example_score(metric) is not None


def test_a_metric_of_others_has_none() -> None:
    assert example_score("bertscore") is None


def test_the_mean_over_rows_is_the_metric_where_its_name_is_shown() -> None:
    predictions, targets = ["the cat", "a dog", ""], [["cat"], ["cat", "dogs"], ["rat"]]
    rule = example_score("squad_f1")
    assert rule is not None
    assert rule.name == "squad_f1"
    rows = [rule.function(p, t) for p, t in zip(predictions, targets, strict=True)]
    assert sum(rows) / 3 == pytest.approx(score("squad_f1", predictions, targets, num_labels=0))
