"""Faults in finetune plans: one finding each, at its line; and what the other commands say."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import muppet_zoo

from muppet_zoo.errors import UsageError
from muppet_zoo.finetune.checks import plan_findings
from muppet_zoo.finetune.plan import read_plan
from muppet_zoo.run import read_run
from muppet_zoo.yaml_reader import read_yaml
from muppet_zoo.zoo import load_zoo

PLAN = """\
finetune_version: 1
targets: [rte, mrpc]
arms:
  original: {encoder: org/encoder}
  ours: {encoder: org/other, heads: reuse}
seeds: [0, 1]
shots: [16, all]
held_out: 8
grid:
  optimizer.learning_rate: [1.0e-5, 3.0e-5]
  schedule.warmup: [0.0, 0.1]
run:
  data: built
  schedule: {steps: 10}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "plan.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("mrpc", "mprc", "2:16: targets[1]: no task or mixture is named 'mprc'; did you mean "),
        ("seeds: [0, 1]\n", "", "1:1: seeds: the key 'seeds' is missing"),
        ("[0, 1]\n", "[0, 0]\n", "6:12: seeds[1]: 0 is listed twice"),
        ("16, all", "0, all", "7:9: shots[0]: found 0, at least 1 is expected"),
        ("16, all", "16, al", "7:13: shots[1]: found \"al\"; allowed: all; did you mean 'all'?"),
        ("heads: reuse", "heads: reused", '5:37: arms.ours.heads: found "reused"; allowed: fresh'),
        (
            "heads: reuse",
            "heads: reuse, random_init: true",
            "5:37: arms.ours.heads: heads of a trained model say nothing to random weights",
        ),
        ("  ours:", "  Ours:", "5:3: arms.Ours: 'Ours' cannot be a name here"),
        ("held_out: 8\n", "", "8:1: grid: 4 settings to choose from, and nothing to choose by"),
        (
            "optimizer.learning_rate",
            "optimizer.learning_rat",
            "10:3: grid.optimizer.learning_rat: optimizer has no 'learning_rat'; did you mean 'lea",
        ),
        (
            "3.0e-5",
            "-1",
            "10:37: grid.optimizer.learning_rate[1]: found -1, more than 0 is expected",
        ),
        (
            "schedule.warmup: [0.0, 0.1]",
            "schedule.steps: [5, 10]",
            "11:3: grid.schedule.steps: 'schedule.steps' is not for a grid: all cells have",
        ),
        ("schedule.warmup: [0.0", "schedule: [0.0", "11:3: grid.schedule: schedule is a group"),
        ("schedule.warmup: [0.0", "seed: [0.0", "11:3: grid.seed: 'seed' is not for a grid: list"),
        ("  data: built\n", "", "13:3: run.data: the key 'data' is missing"),
        ("steps: 10", "stesp: 10", "14:14: run.schedule.stesp: unknown key 'stesp'; allowed: ste"),
        ("steps: 10", "steps: 0", "14:21: run.schedule.steps: found 0, at least 1 is expected"),
        ("data: built", "task: rte\n  data: built", "13:3: run.task: 'task' is not for `run`: na"),
        (
            "data: built",
            "data: built\n  model: {encoder: org/third}",
            "14:11: run.model.encoder: 'model.encoder' is not for `run`: name it under `arms`",
        ),
    ],
)
def test_a_fault_is_found_at_its_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in PLAN
    path = write(tmp_path, PLAN.replace(old, new, 1))
    findings = plan_findings(read_yaml(path), {"rte", "mrpc"}, {"glue"})
    assert len(findings) == 1, findings
    assert str(findings[0]).startswith(f"{path}:{message}"), findings[0]


def test_a_good_plan_has_no_findings(tmp_path: Path) -> None:
    plan = PLAN.replace("mrpc", "glue")
    assert plan_findings(read_yaml(write(tmp_path, plan)), {"rte"}, {"glue"}) == []


def test_a_mixture_stands_for_its_tasks_and_paths_are_the_files(tmp_path: Path) -> None:
    zoo = load_zoo()
    (tmp_path / "mine").mkdir()
    text = PLAN.replace("[rte, mrpc]", "[sst2, glue]").replace("org/other", "./mine")
    plan = read_plan(write(tmp_path, text), zoo)
    assert set(plan.targets) == {"sst2", *zoo.mixture("glue").tasks}
    assert plan.targets[0] == "sst2"
    assert len(plan.targets) == len(set(plan.targets))
    assert [arm.encoder for arm in plan.arms] == ["org/encoder", str(tmp_path / "mine")]
    assert plan.common.data == tmp_path / "built"
    assert plan.common.trainer == "torch"
    assert [dict(point) for point in plan.points] == [
        {"optimizer.learning_rate": rate, "schedule.warmup": warmup}
        for rate in (1e-5, 3e-5)
        for warmup in (0.0, 0.1)
    ]
    assert plan.split == "validation"
    assert plan.common.evaluation.split == "held_out", "training would score what is to be unseen"


def test_validate_and_finetune_tell_the_same_fault(tmp_path: Path) -> None:
    path = write(tmp_path, PLAN.replace("mrpc", "mprc"))
    for arguments in (["validate", str(path)], ["finetune", str(path), "--out", "out"]):
        done = muppet_zoo(*arguments, cwd=tmp_path)
        assert done.returncode == 1
        assert f"{path}:2:16: targets[1]: no task or mixture" in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_plan_is_not_trained_and_a_run_is_no_plan(tmp_path: Path) -> None:
    path = write(tmp_path, PLAN)
    with pytest.raises(UsageError, match=r"are a finetune plan.*muppet-zoo finetune"):
        read_run(path)
    run = "run_version: 1\ndata: built\nsuite: glue\nmodel: {encoder: a}\nschedule: {steps: 1}\n"
    with pytest.raises(UsageError, match=r"are a finetune plan.*muppet-zoo finetune"):
        read_run(write(tmp_path, run))
    with pytest.raises(UsageError, match=r"is a run file and no finetune plan; use: muppet-zoo tr"):
        read_plan(write(tmp_path, run), load_zoo())
    with pytest.raises(UsageError, match="no such plan file"):
        read_plan(tmp_path / "nothing.yaml", load_zoo())
