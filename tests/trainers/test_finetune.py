"""Finetune plans: resumed to the same results, settings chosen without a look at what is scored."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from muppet_zoo_torch import loop
from muppet_zoo_torch.plan import make_plan

from muppet_zoo.build import BuildOptions, build
from muppet_zoo.cli.train import command as train
from muppet_zoo.encode import open_tokenizer
from muppet_zoo.errors import DivergedError, ShardError, TrainingError, UnknownNameError, UsageError
from muppet_zoo.finetune.plan import read_plan
from muppet_zoo.finetune.results import read_predictions, read_results
from muppet_zoo.finetune.run_cells import Outcome, finetune
from muppet_zoo.metrics import score_all
from muppet_zoo.run import Run
from muppet_zoo.spec import parse_task_spec
from muppet_zoo.trainer_api import TrainRequest, tasks_of
from muppet_zoo.yaml_reader import read_yaml
from muppet_zoo.zoo import Zoo, shipped_specs

QUICKSTART = shipped_specs() / "quickstart"
ENCODER = str(QUICKSTART / "tiny_encoder")


@pytest.fixture
def write_plan(quickstart_data: Path, trained: Path, tmp_path: Path) -> Callable[..., Path]:
    """A plan of 2 arms, 2 targets, 2 numbers of shots, 2 seeds and 2 settings; change by key."""

    def write(**changes: Any) -> Path:
        plan: dict[str, Any] = {
            "finetune_version": 1,
            "targets": ["qs_topic", "qs_similarity"],
            "arms": {
                "random": {"encoder": ENCODER, "random_init": True},
                "trained": {"encoder": str(trained), "heads": "reuse"},
            },
            "seeds": [0, 5],
            "shots": [8, "all"],
            "held_out": 16,
            "grid": {"optimizer.learning_rate": [1e-3, 1e-2]},
            "run": {
                "data": str(quickstart_data),
                "batching": {"tokens_per_micro_batch": 256, "micro_batches_per_step": 1},
                "schedule": {"steps": 2},
                "evaluation": {"max_examples": 16},
            },
        }
        plan.update(changes)
        path = tmp_path / "plan.yaml"
        path.write_text(yaml.safe_dump(plan, sort_keys=False))
        return path

    return write


@pytest.fixture
def small(write_plan: Callable[..., Path]) -> Callable[..., Path]:
    """The same with a single arm, target, seed and number of shots."""

    def write(**changes: Any) -> Path:
        one = {
            "targets": ["qs_topic"],
            "arms": {"random": {"encoder": ENCODER, "random_init": True}},
            "seeds": [0],
            "shots": [8],
        }
        return write_plan(**{**one, **changes})

    return write


def carry_out(plan: Path, out: Path, zoo: Zoo) -> Outcome:
    return finetune(read_plan(plan, zoo), zoo, out)


def lines(out: Path) -> list[dict[str, Any]]:
    """results.jsonl without what the moment decides; somebody may commit meanwhile."""
    text = (out / "results.jsonl").read_text()
    return [{k: v for k, v in json.loads(line).items() if k not in ("seconds", "commit")}
            for line in text.splitlines()]  # fmt: skip


def files(out: Path, pattern: str) -> list[str]:
    return sorted(str(path.relative_to(out)) for path in out.glob(pattern))


def started(plan: Path, out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "muppet_zoo", "finetune", str(plan), "--out", str(out)]
    return subprocess.Popen(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def test_killed_in_the_middle_it_ends_with_the_same_results(
    write_plan: Callable[..., Path], tmp_path: Path, zoo: Zoo
) -> None:
    plan, whole, cut = write_plan(), tmp_path / "whole", tmp_path / "cut"
    outcome = carry_out(plan, whole, zoo)
    assert not outcome.failed
    assert len(lines(whole)) == 2 * 2 * 2 * 2  # arms, targets, shots, seeds
    assert len(files(whole, "cells/*/cell.json")) == 2 * len(lines(whole))

    process = started(plan, cut)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and len(files(cut, "cells/*/cell.json")) < 13:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert 0 < len(read_results(cut / "results.jsonl")) < len(lines(whole))

    process = started(plan, cut)
    stdout, stderr = process.communicate()
    assert process.returncode == 0, stderr
    assert b"qs_similarity" in stdout
    assert lines(cut) == lines(whole)
    for name in files(whole, "predictions/*"):
        assert (cut / name).read_bytes() == (whole / name).read_bytes()
    assert files(cut, "predictions/*") == files(whole, "predictions/*")
    # Scores and predictions are kept, models and checkpoints are not.
    assert not files(cut, "cells/*/model") + files(cut, "cells/*/checkpoints/*")


def test_train_takes_a_plan_too(small: Callable[..., Path], tmp_path: Path, zoo: Zoo) -> None:
    plan = small()
    arguments = [str(plan), "--out", str(tmp_path / "by_train")]
    with pytest.raises(UsageError, match=r"is a finetune plan.*leave --trainer"):
        train.main([*arguments, "--set", "seed=1"], standalone_mode=False)
    assert train.main([*arguments, "--json"], standalone_mode=False) == 0
    carry_out(plan, tmp_path / "by_finetune", zoo)
    assert lines(tmp_path / "by_train") == lines(tmp_path / "by_finetune") != []


@pytest.mark.slow
def test_killed_at_many_moments(write_plan: Callable[..., Path], tmp_path: Path, zoo: Zoo) -> None:
    """Kills come at any time: in imports, steps, choices, scoring, and between two files."""
    plan, whole, cut = write_plan(), tmp_path / "whole", tmp_path / "cut"
    carry_out(plan, whole, zoo)
    moments, num_killed = random.Random(6), 0
    while True:
        process = started(plan, cut)
        num_before = len(files(cut, "cells/*/cell.json"))
        wanted = num_before + moments.randint(3, 8)
        while process.poll() is None and len(files(cut, "cells/*/cell.json")) < wanted:
            time.sleep(0.002)
        time.sleep(moments.uniform(0, 0.2))
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.communicate()
        num_killed += 1
    _, stderr = process.communicate()
    assert process.returncode == 0, stderr
    assert num_killed >= 3
    assert lines(cut) == lines(whole)
    for name in files(whole, "predictions/*"):
        assert (cut / name).read_bytes() == (whole / name).read_bytes()
    assert not files(cut, "cells/*/model") + files(cut, "cells/*/checkpoints/*")


def test_scores_of_another_plan_are_refused_without_its_cells_too(
    small: Callable[..., Path], tmp_path: Path, zoo: Zoo
) -> None:
    """Somebody may remove the cells to save room; each score still knows its training."""
    plan, out = small(grid={}, held_out=0), tmp_path / "out"
    [result] = carry_out(plan, out, zoo).results
    shutil.rmtree(out / "cells")
    assert carry_out(plan, out, zoo).results == (result,)
    run = yaml.safe_load(plan.read_text())["run"] | {"schedule": {"steps": 3}}
    with pytest.raises(UsageError, match=r"holds another plan: random-qs_topic-8-seed0 was scored"):
        carry_out(small(grid={}, held_out=0, run=run), out, zoo)
    assert lines(out)[0]["steps"] == 2


def test_what_a_line_says_is_what_was_predicted(
    write_plan: Callable[..., Path], tmp_path: Path, zoo: Zoo, quickstart_data: Path
) -> None:
    plan = write_plan(seeds=[0], shots=[8], grid={}, held_out=0)
    outcome = carry_out(plan, tmp_path / "out", zoo)
    assert [(r.target, r.arm) for r in outcome.results] == [
        ("qs_topic", "random"), ("qs_topic", "trained"),
        ("qs_similarity", "random"), ("qs_similarity", "trained"),
    ]  # fmt: skip
    for result in outcome.results:
        found = read_predictions(tmp_path / "out" / result.predictions)
        assert len(found) == result.num_examples == 16
        rows = [each.row for each in found]
        assert rows == sorted(set(rows))  # type: ignore[type-var]
        scores = score_all(
            zoo.task(result.target).metrics,
            [each.prediction for each in found],
            [each.target for each in found],
            num_labels=6,
        )
        assert scores == pytest.approx(dict(result.scores))
        assert (result.split, result.steps, result.settings) == ("validation", 2, {})
        assert result.versions["torch"] == torch.__version__
    fingerprints = {r.arm: r.checkpoint_fingerprint for r in outcome.results}
    assert fingerprints["random"] != fingerprints["trained"]


@pytest.fixture
def two_zoos(tmp_path: Path) -> tuple[Path, Path]:
    """The task `topics` twice; the labels of its validation rows are rotated in the second."""
    text = (QUICKSTART / "qs_topic.yaml").read_text().replace("name: qs_topic", "name: topics")
    zoos = tmp_path / "first", tmp_path / "second"
    for number, folder in enumerate(zoos):
        shutil.copytree(QUICKSTART / "data" / "qs_topic", folder / "data" / "qs_topic")
        (folder / "topics.yaml").write_text(text)
        path = folder / "data" / "qs_topic" / "validation.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        labels = sorted({row["label"] for row in rows})
        for row in rows:
            row["label"] = labels[(labels.index(row["label"]) + number) % len(labels)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return zoos


def test_the_choice_does_not_read_the_evaluation_split(
    small: Callable[..., Path], tmp_path: Path, two_zoos: tuple[Path, Path]
) -> None:
    chosen, held_out, scores = [], [], []
    for folder in two_zoos:
        spec = parse_task_spec(read_yaml(folder / "topics.yaml"))
        zoo = Zoo(tasks={"topics": spec}, mixtures={})
        data = tmp_path / f"data_{folder.name}"
        build([spec], tokenizer=open_tokenizer(ENCODER), out=data,
              options=BuildOptions(max_tokens=64, limit=240, jobs=1))  # fmt: skip
        run = {"data": str(data), "schedule": {"steps": 12}}
        rates = {"optimizer.learning_rate": [1e-5, 1e-2, 3e-3]}
        plan = small(targets=["topics"], shots=[128], held_out=64, grid=rates, run=run)
        outcome = finetune(read_plan(plan, zoo), zoo, tmp_path / f"out_{folder.name}", [folder])
        [result] = outcome.results
        cells = sorted((tmp_path / f"out_{folder.name}").glob("cells/*/cell.json"))
        found = [json.loads(cell.read_text())["held_out_score"] for cell in cells]
        assert result.settings == {"optimizer.learning_rate": rates["optimizer.learning_rate"][
            found.index(max(found))]}  # fmt: skip
        chosen.append(result.settings)
        held_out.append(found)
        scores.append(result.scores)
    assert chosen[0] == chosen[1]
    assert held_out[0] == held_out[1]
    assert len(set(held_out[0])) > 1, "nothing to choose between"
    assert scores[0] != scores[1], "the planted labels are not read at all"


def test_a_failing_cell_is_named_and_the_others_finish(
    small: Callable[..., Path], tmp_path: Path, zoo: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish = loop.publish_model

    def refuse(engine: Any, plan: Any, step: int, name: str) -> None:
        if plan.run.seed == 5:
            raise TrainingError("no space left")
        publish(engine, plan, step, name)

    plan, out = small(seeds=[0, 5], grid={}), tmp_path / "out"
    monkeypatch.setattr(loop, "publish_model", refuse)
    outcome = carry_out(plan, out, zoo)
    assert [result.seed for result in outcome.results] == [0]
    assert outcome.failed == (("random-qs_topic-8-seed5-grid0", "no space left"),)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "publish_model", lambda *_: 1 / 0)
        [(name, reason)] = carry_out(plan, out, zoo).failed
    assert name == "random-qs_topic-8-seed5-grid0"
    assert "Traceback" in reason
    assert "ZeroDivisionError" in reason
    monkeypatch.undo()
    again = carry_out(plan, out, zoo)
    assert not again.failed
    assert [result.seed for result in again.results] == [0, 5]


def test_without_a_failed_cell_nothing_is_chosen(
    small: Callable[..., Path], tmp_path: Path, zoo: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "publish_model", lambda *_: 1 / 0)
    outcome = carry_out(small(), tmp_path / "out", zoo)
    assert not outcome.results
    assert len(outcome.failed) == 2


def test_settings_that_diverge_are_not_chosen_and_not_tried_again(
    small: Callable[..., Path], tmp_path: Path, zoo: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = loop._train_step
    tried = []

    def diverge(engine: Any, plan: Any, *rest: Any) -> Any:
        tried.append(plan.run.optimizer.learning_rate)
        if plan.run.optimizer.learning_rate > limit:
            raise DivergedError("the gradient is not finite")
        return step(engine, plan, *rest)

    monkeypatch.setattr(loop, "_train_step", diverge)
    limit = 5e-3
    outcome = carry_out(small(), tmp_path / "out", zoo)
    assert not outcome.failed
    assert [result.settings for result in outcome.results] == [{"optimizer.learning_rate": 1e-3}]
    tried.clear()
    assert carry_out(small(), tmp_path / "out", zoo) == outcome
    assert not tried
    limit = 0.0
    [(name, reason)] = carry_out(small(), tmp_path / "all", zoo).failed
    assert (name, reason) == (
        "random-qs_topic-8-seed0", "the training diverged at every point of the grid",
    )  # fmt: skip


def test_another_plan_is_not_mixed_in_and_arms_may_join(
    small: Callable[..., Path], tmp_path: Path, zoo: Zoo
) -> None:
    out = tmp_path / "out"
    carry_out(small(grid={}), out, zoo)
    changed = small(grid={"optimizer.learning_rate": [3e-3]})
    with pytest.raises(UsageError, match=r"optimizer.learning_rate 2e-05, now 0.003. Choose anoth"):
        carry_out(changed, out, zoo)
    arms = {"random": {"encoder": ENCODER, "random_init": True},
            "again": {"encoder": ENCODER, "random_init": True}}  # fmt: skip
    outcome = carry_out(small(grid={}, arms=arms), out, zoo)
    assert [result.arm for result in outcome.results] == ["random", "again"]
    assert outcome.results[0].scores == outcome.results[1].scores
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(UsageError, match="is not empty and holds no fine-tuning"):
        carry_out(small(), tmp_path / "mine", zoo)


def test_a_lost_line_is_scored_again(small: Callable[..., Path], tmp_path: Path, zoo: Zoo) -> None:
    plan, out = small(), tmp_path / "out"
    carry_out(plan, out, zoo)
    before = lines(out)
    (out / "results.jsonl").write_bytes((out / "results.jsonl").read_bytes()[:-30])
    carry_out(plan, out, zoo)
    assert lines(out) == before


def test_models_are_kept_where_the_plan_says_so(
    small: Callable[..., Path], tmp_path: Path, zoo: Zoo
) -> None:
    carry_out(small(keep_models=True), tmp_path / "out", zoo)
    assert len(files(tmp_path / "out", "cells/*/model/heads.json")) == 2
    assert len(files(tmp_path / "out", "cells/*/checkpoints/*")) == 2


def test_too_many_shots_are_left_out_and_told(
    small: Callable[..., Path], tmp_path: Path, zoo: Zoo, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = carry_out(small(shots=[8, 40, 64], grid={}), tmp_path / "out", zoo)
    assert [result.shots for result in outcome.results] == [8]
    text = capsys.readouterr().err
    assert "qs_topic: 48 train examples, 16 of them held out: no cells with shots 40, 64" in text
    with pytest.raises(UsageError, match="no target has enough train examples"):
        carry_out(small(shots=[64]), tmp_path / "none", zoo)


def test_a_target_that_is_not_built_stops_before_the_first_cell(
    small: Callable[..., Path], tmp_path: Path, zoo: Zoo
) -> None:
    with pytest.raises(ShardError, match="task rte, split train: not built"):
        carry_out(small(targets=["qs_topic", "rte"]), tmp_path / "out", zoo)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"schedule": {"steps": 1, "power": 2, "decay": "constant"}}, "power: 2 has no effect"),
        ({"precision": "fp16", "trainer": "deepspeed"}, "precision: fp16 runs with trainer: torch"),
        ({"schedule": {"steps": 2, "warmup_steps": 3}}, "warmup_steps: 3, but the run has 2 steps"),
        ({"checkpointing": {"keep_best": True}}, "keep_best needs scores of several checkpoints"),
        (
            {
                "checkpointing": {"keep_best": True, "every_steps": 2},
                "evaluation": {"every_steps": 3},
            },
            "no checkpoint of every 2 steps is scored with evaluation.every_steps: 3 before step 6",
        ),
    ],
)
def test_settings_that_no_cell_can_have_stop_before_the_first_as_those_of_a_run(
    changes: dict[str, Any],
    told: str,
    small: Callable[..., Path],
    make_run: Callable[..., Run],
    tmp_path: Path,
    zoo: Zoo,
) -> None:
    plan = yaml.safe_load(small().read_text())
    path = small(run={**plan["run"], "schedule": {"steps": 2}, **changes}, grid={}, held_out=0)
    with pytest.raises(UsageError) as caught:
        carry_out(path, tmp_path / "out", zoo)
    assert told in str(caught.value)
    assert not (tmp_path / "out").exists()
    changes = {"schedule": {"steps": 2}, **changes}
    run = make_run(mixture=None, task="qs_topic", **changes)
    tasks, rates = tasks_of(run, zoo)
    with pytest.raises(UsageError, match=re.escape(str(caught.value))):
        make_plan(TrainRequest(run=run, tasks=tasks, rates=rates, out=tmp_path / "run"))


def test_nor_can_a_point_of_the_grid_have_them(
    small: Callable[..., Path], tmp_path: Path, zoo: Zoo
) -> None:
    path = small(grid={"schedule.power": [1, 2]})
    with pytest.raises(UsageError, match=r"grid, at schedule\.power: 2: .* has no effect"):
        carry_out(path, tmp_path / "out", zoo)
    assert not (tmp_path / "out").exists()


def test_a_split_that_a_target_does_not_have_stops_before_the_first_cell(
    small: Callable[..., Path], tmp_path: Path, zoo: Zoo
) -> None:
    plan = yaml.safe_load(small().read_text())
    path = small(run={**plan["run"], "evaluation": {"split": "tran"}})
    with pytest.raises(UnknownNameError, match="no split of task qs_topic is named 'tran'; did yo"):
        carry_out(path, tmp_path / "out", zoo)
    assert not (tmp_path / "out").exists()


def test_a_split_without_labels_is_refused_before_anything_is_trained(
    small: Callable[..., Path], tmp_path: Path, zoo: Zoo
) -> None:
    spec = zoo.task("qs_topic")
    splits = {
        **spec.source.splits,
        "validation": replace(spec.source.splits["validation"], labels=False),
    }
    kept = replace(spec, source=replace(spec.source, splits=splits))
    secret = replace(zoo, tasks={**zoo.tasks, "qs_topic": kept})
    with pytest.raises(ShardError, match="qs_topic, split validation: its publisher keeps"):
        carry_out(small(), tmp_path / "out", secret)
    assert not (tmp_path / "out").exists()
