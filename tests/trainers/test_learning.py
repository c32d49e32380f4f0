"""A RoBERTa and a BART, tiny and random, learn tasks of all their head types to the end.

Slow: a few minutes on one core. What is short of it is in `test_generation.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ALL_HEADS, ENCODER, ENCODER_DECODER, GENERATED
from muppet_zoo_torch.trainer import TorchTrainer

from muppet_zoo.build import build
from muppet_zoo.encode import open_tokenizer
from muppet_zoo.results import read_reports
from muppet_zoo.run import Run
from muppet_zoo.trainer_api import TrainRequest, tasks_of
from muppet_zoo.zoo import load_zoo

pytestmark = pytest.mark.slow

# The least that the headline score rises from random weights. Spans come late: until then a model
# knows the three nouns of a context, and not which of them is asked for.
RISES = {
    "qs_find_thing": 0.15,
    "qs_fitting_thing": 0.5,
    "qs_mentions": 0.4,
    "qs_similarity": 0.4,
    GENERATED: 0.5,
    "qs_topic": 0.5,
    "qs_word_tags": 0.6,
}


@pytest.fixture(scope="module")
def whole_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All rows of a task of each head."""
    out = tmp_path_factory.mktemp("whole") / "data"
    zoo = load_zoo()
    build([zoo.task(n) for n in ALL_HEADS], tokenizer=open_tokenizer(str(ENCODER)), out=out)
    return out


@pytest.fixture
def specs(tmp_path: Path) -> Path:
    folder = tmp_path / "specs" / "mixtures"
    folder.mkdir(parents=True)
    for name, tasks in (
        ("with_answers", ALL_HEADS),
        ("without_answers", [task for task in ALL_HEADS if task != GENERATED]),
    ):
        (folder / f"{name}.yaml").write_text(
            f"mixture_version: 1\nname: {name}\ndescription: For a test.\n"
            f"tasks: [{', '.join(tasks)}]\n"
        )
    return folder.parent


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("mixture", "model"),
    [
        ("without_answers", {"encoder": str(ENCODER), "pooling": "mean"}),
        ("without_answers", {"encoder": str(ENCODER), "pooling": "mean", "head_dense": "per_task"}),
        ("with_answers", {"encoder": str(ENCODER_DECODER)}),
    ],
    ids=["roberta", "roberta-dense", "bart"],
)
def test_every_head_learns(
    make_run: Callable[..., Run],
    whole_data: Path,
    specs: Path,
    tmp_path: Path,
    mixture: str,
    model: dict[str, Any],
) -> None:
    run = make_run(
        data=str(whole_data),
        mixture=mixture,
        model={**model, "dropout": 0.0},
        generation={"num_beams": 2},
        batching={"tokens_per_micro_batch": 1024, "micro_batches_per_step": 1,
                  "window_examples": 4096},
        optimizer={"name": "adamw", "learning_rate": 1e-3, "gradient_clipping": 1.0},
        schedule={"steps": 1000, "decay": "linear", "warmup": 0.06},
        evaluation={"at_start": True, "max_examples": 100},
        logging={"every_steps": 50},
    )  # fmt: skip
    tasks, rates = tasks_of(run, load_zoo([specs]))
    out = tmp_path / "out"
    torch.set_num_threads(1)
    TorchTrainer().train(TrainRequest(run=run, tasks=tasks, rates=rates, out=out))
    scores: dict[str, list[float]] = {}
    for report in read_reports(out / "reports.jsonl").reports:
        scores.setdefault(report.task, []).append(report.scores[report.headline])
    rises = {task: after - before for task, (before, after) in scores.items()}
    assert {task: rise for task, rise in rises.items() if rise < RISES[task]} == {}
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    for task, first in lines[0]["task_losses"].items():
        assert lines[-1]["task_losses"][task] < 0.7 * first, task
