"""Beside a score stands how many training rows have the inputs of the scored rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import ENCODER
from muppet_zoo_torch.trainer import TorchTrainer

from muppet_zoo.build import BuildOptions, build
from muppet_zoo.encode import open_tokenizer
from muppet_zoo.model_folder import find_model
from muppet_zoo.overlap.compare import evaluation_splits
from muppet_zoo.overlap.guard import Protection
from muppet_zoo.run import Run
from muppet_zoo.shards import open_task
from muppet_zoo.trainer_api import EvalRequest, TrainRequest, tasks_of
from muppet_zoo.zoo import Zoo


@pytest.mark.parametrize("policy", ["warn", "drop", None])
def test_scores_have_the_overlapping_rows_beside_them(
    zoo: Zoo, make_run: Callable[..., Run], tmp_path: Path, policy: str | None
) -> None:
    spec = zoo.task("qs_question_type")
    rows = tuple(evaluation_splits([spec]))
    protection = policy and Protection(policy=policy, level="ngram", evaluation=rows)
    options = BuildOptions(limit=200, max_tokens=64, overlap=protection or None)
    data, out = tmp_path / "data", tmp_path / "out"
    build([spec], tokenizer=open_tokenizer(str(ENCODER)), out=data, options=options)
    found = open_task(data, spec.name, "train").manifest.num_overlapping_rows
    expected = {"warn": found, "drop": 0, None: None}[policy]
    assert (found > 0) == (policy is not None)

    run = replace(make_run(data=str(data), mixture=None), task=spec.name, mixture=None)
    tasks, rates = tasks_of(run, zoo)
    while_training = TorchTrainer().train(TrainRequest(run=run, tasks=tasks, rates=rates, out=out))
    assert {report.overlap for report in while_training} == {expected}
    compared = find_model(out).overlap
    assert (compared is None) == (policy is None)
    [report] = TorchTrainer().evaluate(EvalRequest(checkpoint=out, data=data, tasks=(spec,)))
    assert report.overlap == expected

    # What comes after it was trained on these rows as well, though its own data is another.
    second = replace(
        run, model=replace(run.model, encoder=str(out / "model" / "encoder"), random_init=False)
    )
    again = TrainRequest(run=second, tasks=tasks, rates=rates, out=tmp_path / "again")
    twice = None if expected is None else 2 * expected
    assert {report.overlap for report in TorchTrainer().train(again)} == {twice}
    assert find_model(tmp_path / "again").earlier_tasks == (spec.name,)
