"""The published scores that come with the package: of tasks of the zoo, with source and status."""

from __future__ import annotations

from pathlib import Path

import pytest

from muppet_zoo.errors import SpecError
from muppet_zoo.report.published import read_published, shipped_published
from muppet_zoo.zoo import load_zoo


def test_shipped_scores_are_of_tasks_and_metrics_of_the_zoo() -> None:
    zoo = load_zoo()
    for row in read_published(shipped_published()):
        spec = zoo.task(row.task)
        assert row.split in spec.source.splits
        assert row.metric in (None, *spec.metrics)
        assert 0.5 < row.score < 1.0
        assert "2101.11038" in row.source


def test_recalled_scores_are_marked() -> None:
    rows = {(row.model, row.task): row for row in read_published(shipped_published())}
    assert len(rows) == 32
    assert rows["MUPPET-base", "rte"].recalled
    assert not rows["RoBERTa-base", "rte"].recalled
    assert rows["RoBERTa-base", "squad"].metric is None


def test_every_problem_of_a_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "scores.yaml"
    path.write_text(
        "published:\n  - {model: a, task: b, split: c, percent: 870, sorce: d}\n", "utf-8"
    )
    with pytest.raises(SpecError) as error:
        read_published(path)
    assert "did you mean 'source'" in str(error.value)
    assert "870" in str(error.value)
