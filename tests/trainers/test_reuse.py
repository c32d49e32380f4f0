"""Heads that start from a trained model's, and runs on a part of the train split."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from muppet_zoo_torch.plan import Plan, make_plan
from muppet_zoo_torch.trainer import TorchTrainer, make_model
from safetensors.torch import load_file

from muppet_zoo.errors import CheckpointError, UnknownNameError, UsageError
from muppet_zoo.finetune.results import read_predictions
from muppet_zoo.metrics import score_all
from muppet_zoo.model_folder import HeadSlot, find_model
from muppet_zoo.results import read_reports
from muppet_zoo.run import Run
from muppet_zoo.shards import BuiltSplit
from muppet_zoo.trainer_api import EvalRequest, TrainRequest, tasks_of
from muppet_zoo.zoo import Zoo


@pytest.fixture
def plan_for(
    make_run: Callable[..., Run], trained: Path, zoo: Zoo, tmp_path: Path
) -> Callable[..., Plan]:
    """The plan of a fine-tuning from the encoder of the model `trained`; change by keyword."""

    def make(task: str, model: dict[str, Any], **changes: Any) -> Plan:
        inner = {"encoder": str(trained / "model" / "encoder"), "random_init": False, **model}
        run = replace(make_run(model=inner, **changes), mixture=None, task=task)
        run = replace(run, raw={**run.raw, "mixture": None, "task": task})
        tasks, rates = tasks_of(run, zoo)
        return make_plan(TrainRequest(run=run, tasks=tasks, rates=rates, out=tmp_path / "out"))

    return make


def columns(state: dict[str, torch.Tensor], slot: HeadSlot) -> torch.Tensor:
    return state[f"{slot.level}.weight"][slot.start : slot.start + slot.size]


@pytest.mark.parametrize("task", ["qs_topic", "qs_find_thing", "qs_fitting_thing"])
def test_the_columns_are_those_of_the_trained_model(
    plan_for: Callable[..., Plan], trained: Path, task: str
) -> None:
    folder = find_model(trained)
    [before] = [slot for slot in folder.layout.slots if slot.task == task]
    state = load_file(folder.path / "heads.safetensors")
    for heads in ("reuse", "fresh"):
        model = make_model(plan_for(task, {"heads": heads}))
        own = columns(model.state_dict(), model.layout.slots[0])
        assert torch.equal(own, columns(state, before)) == (heads == "reuse")


def test_reuse_changes_the_first_steps_loss(
    plan_for: Callable[..., Plan], tmp_path: Path, zoo: Zoo
) -> None:
    losses = {}
    for heads in ("reuse", "fresh"):
        plan = plan_for("qs_topic", {"heads": heads, "dropout": 0.0}, schedule={"steps": 1})
        out = tmp_path / heads
        tasks, rates = tasks_of(plan.run, zoo)
        TorchTrainer().train(TrainRequest(run=plan.run, tasks=tasks, rates=rates, out=out))
        [line] = (out / "metrics.jsonl").read_text().splitlines()
        losses[heads] = json.loads(line)["loss"]
    assert losses["reuse"] != losses["fresh"]


def test_what_the_model_has_no_head_for_starts_fresh(
    plan_for: Callable[..., Plan], trained: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    other = tmp_path / "other"
    shutil.copytree(trained / "model", other)
    text = (other / "heads.json").read_text()
    (other / "heads.json").write_text(text.replace('"qs_topic"', '"qs_other"'))
    fresh = make_model(plan_for("qs_topic", {"heads": "fresh"})).state_dict()
    reused = make_model(
        plan_for("qs_topic", {"heads": "reuse", "encoder": str(other / "encoder")})
    ).state_dict()
    assert torch.equal(reused["sentence.weight"], fresh["sentence.weight"])
    assert "has no head for qs_topic: it starts fresh" in capsys.readouterr().err


def test_heads_that_mean_or_read_something_else_are_refused(
    plan_for: Callable[..., Plan], trained: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"model.pooling first, this run has mean; set model.pool"):
        make_model(plan_for("qs_topic", {"heads": "reuse", "pooling": "mean"}))
    other = tmp_path / "other"
    shutil.copytree(trained / "model", other)
    text = (other / "heads.json").read_text()
    (other / "heads.json").write_text(text.replace('"animal"', '"machine"'))
    with pytest.raises(CheckpointError, match="was trained with labels"):
        make_model(plan_for("qs_topic", {"heads": "reuse", "encoder": str(other / "encoder")}))


@pytest.mark.parametrize("head_dense", ["shared", "per_task"])
def test_the_dense_layer_comes_with_its_heads(
    plan_for: Callable[..., Plan], make_run: Callable[..., Run], mixed_specs: Path,
    tmp_path: Path, head_dense: str,
) -> None:  # fmt: skip
    from muppet_zoo.zoo import load_zoo

    run = make_run(model={"head_dense": head_dense}, schedule={"steps": 1})
    tasks, rates = tasks_of(run, load_zoo([mixed_specs]))
    dense = tmp_path / "dense"
    TorchTrainer().train(TrainRequest(run=run, tasks=tasks, rates=rates, out=dense))
    encoder = str(dense / "model" / "encoder")
    model = make_model(
        plan_for("qs_topic", {"heads": "reuse", "head_dense": head_dense, "encoder": encoder})
    )
    state = load_file(dense / "model" / "heads.safetensors")["dense.weight"]
    layout = find_model(dense).layout
    [before] = [slot for slot in layout.slots if slot.task == "qs_topic"]
    hidden = state.shape[1]
    group = 0 if head_dense == "shared" else layout.sentence_starts.index(before.start)
    assert model.dense is not None
    assert torch.equal(model.dense.weight, state[group * hidden : (group + 1) * hidden])


def rows_of(split: BuiltSplit) -> set[int]:
    return set(split.column("row", split.example_starts[:-1]))


def test_a_run_trains_on_its_sample_and_scores_what_is_held_out(
    plan_for: Callable[..., Plan], zoo: Zoo
) -> None:
    sample = {"examples": 8, "held_out": 12}
    plan = plan_for("qs_topic", {}, sample=sample,
                    evaluation={"split": "held_out", "max_examples": None})  # fmt: skip
    [train], [held_out] = plan.train, plan.evaluation.values()
    assert (train.num_examples, held_out.num_examples) == (8, 12)
    assert not rows_of(train) & rows_of(held_out)
    assert plan.batcher.order.epoch_size == 8
    tasks, rates = tasks_of(plan.run, zoo)
    request = TrainRequest(run=plan.run, tasks=tasks, rates=rates, out=plan.out)
    [report] = TorchTrainer().train(request)
    assert (report.split, report.num_examples) == ("held_out", 12)
    assert report.fingerprint == held_out.fingerprint


def test_another_sample_is_other_data(plan_for: Callable[..., Plan]) -> None:
    samples = [None, {"examples": 8, "held_out": 0}, {"examples": 9, "held_out": 0}]
    digests = {plan_for("qs_topic", {}, **({"sample": s} if s else {})).data_digest
               for s in samples}  # fmt: skip
    digests.add(plan_for("qs_topic", {}, seed=8, sample=samples[1]).data_digest)
    assert len(digests) == 4


def test_scoring_what_is_not_held_out_is_refused(plan_for: Callable[..., Plan]) -> None:
    with pytest.raises(UsageError, match=r"is held_out, and nothing is: set sample.held_out"):
        plan_for("qs_topic", {}, evaluation={"split": "held_out"})
    with pytest.raises(UnknownNameError, match="no split of the run's tasks is named 'held'"):
        plan_for("qs_topic", {}, evaluation={"split": "held"})


def test_no_scores_at_the_end_where_none_are_wanted(
    plan_for: Callable[..., Plan], zoo: Zoo
) -> None:
    plan = plan_for("qs_topic", {}, evaluation={"at_start": True, "at_end": False})
    tasks, rates = tasks_of(plan.run, zoo)
    request = TrainRequest(run=plan.run, tasks=tasks, rates=rates, out=plan.out)
    assert list(TorchTrainer().train(request)) == []
    assert [r.step for r in read_reports(plan.out / "reports.jsonl").reports] == [0]


def test_eval_writes_the_predictions_that_its_scores_are_of(
    trained: Path, quickstart_data: Path, quickstart_tasks: tuple[str, ...], zoo: Zoo,
    tmp_path: Path,
) -> None:  # fmt: skip
    tasks = tuple(zoo.task(name) for name in quickstart_tasks)
    request = EvalRequest(checkpoint=trained, data=quickstart_data, tasks=tasks)
    plain = list(TorchTrainer().evaluate(request))
    written = list(TorchTrainer().evaluate(replace(request, predictions=tmp_path / "answers")))
    assert written == plain
    for report, spec in zip(plain, tasks, strict=True):
        found = read_predictions(tmp_path / "answers" / f"{spec.name}.jsonl")
        assert len(found) == report.num_examples
        assert len({each.row for each in found}) == len(found)
        scores = score_all(
            spec.metrics,
            [each.prediction for each in found],
            [each.target for each in found],
            num_labels=len(getattr(spec.head, "labels", ())) or 10,
        )
        assert scores[report.headline] == pytest.approx(report.scores[report.headline])
