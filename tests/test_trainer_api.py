"""Trainers are found by entry point: a fake one of ten lines, unknown ones, broken ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from muppet_zoo.errors import MissingExtraError, UnknownNameError, UsageError
from muppet_zoo.mixture import Rates
from muppet_zoo.results import TaskReport
from muppet_zoo.run import Run, read_run
from muppet_zoo.trainer_api import (
    EvalRequest,
    Trainer,
    TrainRequest,
    load_trainer,
    tasks_of,
)
from muppet_zoo.zoo import load_zoo

RUN = """\
run_version: 1
data: built
task: qs_topic
model: {encoder: org/encoder}
schedule: {steps: 10}
"""

FAKE = """\
from muppet_zoo.results import TaskReport

class FakeTrainer:
    def train(self, request):
        request.out.mkdir()
        return [
            TaskReport(task=spec.name, split="validation", num_examples=request.num_processes,
                       scores={"accuracy": 0.5}, headline="accuracy", seed=request.run.seed)
            for spec in request.tasks
        ]

    def evaluate(self, request):
        return []
"""


def install(site: Path, code: str, **points: str) -> None:
    """A distribution as pip leaves it: a module and a dist-info folder with entry points."""
    site.mkdir(exist_ok=True)
    (site / "fake_trainer.py").write_text(code)
    info = site / "fake_trainer-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fake-trainer\nVersion: 1.0\n")
    lines = [f"{name} = {value}" for name, value in points.items()]
    (info / "entry_points.txt").write_text("\n".join(["[muppet_zoo.trainers]", *lines, ""]))


def cli(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH", "")]))
    return subprocess.run(
        [sys.executable, "-m", "muppet_zoo", *arguments],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )


def test_a_fake_trainer_goes_through_the_entry_point(tmp_path: Path) -> None:
    site, run = tmp_path / "site", tmp_path / "run.yaml"
    install(site, FAKE, fake="fake_trainer:FakeTrainer")
    run.write_text(RUN)
    arguments = ("--trainer", "fake", "--num-processes", "3", "--set", "seed=5", "--json")
    done = cli(site, "train", str(run), "--out", str(tmp_path / "out"), *arguments)
    assert done.returncode == 0, done.stderr
    [row] = json.loads(done.stdout)
    assert row["task"] == "qs_topic"
    assert (row["metric"], row["score"]) == ("accuracy", 0.5)
    assert (tmp_path / "out").is_dir()


def test_an_unknown_trainer_is_a_wrong_request(tmp_path: Path) -> None:
    run = tmp_path / "run.yaml"
    run.write_text(RUN)
    done = cli(tmp_path, "train", str(run), "--out", str(tmp_path / "out"), "--trainer", "deepsped")
    assert done.returncode == 2
    assert "no trainer is named 'deepsped'; did you mean 'deepspeed'?" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.fixture
def points(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The installed trainers and those that a test installs in this folder."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)
    monkeypatch.delitem(sys.modules, "fake_trainer", raising=False)
    return site


def test_the_shipped_trainers_fulfil_the_contract(points: Path) -> None:
    known = {point.name for point in metadata.entry_points(group="muppet_zoo.trainers")}
    assert known >= {"torch", "deepspeed"}
    for name in ("torch", "deepspeed"):
        assert isinstance(load_trainer(name), Trainer)


def test_near_matches_are_among_what_is_installed(points: Path) -> None:
    install(points, FAKE, fancy="fake_trainer:FakeTrainer")
    with pytest.raises(UnknownNameError, match="did you mean 'fancy'"):
        load_trainer("fanzy")


def test_what_a_trainer_imports_may_be_missing(points: Path) -> None:
    install(points, "import surely_not_installed\n", fake="fake_trainer:FakeTrainer")
    with pytest.raises(MissingExtraError) as caught:
        load_trainer("fake")
    assert "'surely_not_installed', which is not installed" in str(caught.value)
    assert "pip install 'muppet-zoo[train]'" in str(caught.value)


@pytest.mark.parametrize("missing", ["train", "evaluate"])
def test_a_class_that_lacks_a_method(points: Path, missing: str) -> None:
    install(points, FAKE.replace(f"def {missing}", "def other"), fake="fake_trainer:FakeTrainer")
    with pytest.raises(UsageError, match=r"trainer 'fake' \(fake_trainer:FakeTrainer\) lacks"):
        load_trainer("fake")


def test_requests_have_modest_defaults(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(RUN)
    run = read_run(tmp_path / "run.yaml")
    request = TrainRequest(run=run, tasks=(), rates=Rates(), out=tmp_path)
    assert (request.resume, request.num_processes, request.spec_dirs) == (False, 1, ())
    evaluation = EvalRequest(checkpoint=tmp_path, data=tmp_path, tasks=())
    assert (evaluation.split, evaluation.max_examples) == ("validation", None)


def test_the_tasks_of_a_run(tmp_path: Path) -> None:
    zoo = load_zoo()
    (tmp_path / "run.yaml").write_text(RUN)
    tasks, rates = tasks_of(read_run(tmp_path / "run.yaml"), zoo)
    assert ([task.name for task in tasks], rates) == (["qs_topic"], Rates())
    run = read_run(tmp_path / "run.yaml", ["mixture=quickstart"])
    assert [task.name for task in tasks_of(run, zoo)[0]] == list(zoo.mixtures["quickstart"].tasks)
    with pytest.raises(UnknownNameError, match="no task is named 'qs_topics'; did you mean 'qs_t"):
        tasks_of(read_run(tmp_path / "run.yaml", ["task=qs_topics"]), zoo)
    with pytest.raises(UnknownNameError, match="no mixture is named 'quikstart'"):
        tasks_of(read_run(tmp_path / "run.yaml", ["mixture=quikstart"]), zoo)


def run_on(folder: Path, mixture: str, **changes: Any) -> Run:
    data = {
        "run_version": 1,
        "data": "data",
        "mixture": mixture,
        "model": {"encoder": "encoder"},
        "schedule": {"steps": 1},
        **changes,
    }
    path = folder / "run.yaml"
    path.write_text(json.dumps(data))
    return read_run(path)


def test_a_run_on_its_own_targets_is_refused(tmp_path: Path) -> None:
    zoo = load_zoo()
    for targets, named in ((["sst2"], "sst2"), (["glue"], "cola, sst2, mrpc, qqp, mnli")):
        run = run_on(tmp_path, "muppet_encoder", targets=targets)
        with pytest.raises(UsageError, match=rf"trains on targets of this run: {named}.*exclude"):
            tasks_of(run, zoo)
        told = run_on(tmp_path, "muppet_encoder", targets=targets, allow_trained_targets=True)
        assert len(tasks_of(told, zoo)[0]) == 45
    assert len(tasks_of(run_on(tmp_path, "muppet_encoder", targets=["unseen"]), zoo)[0]) == 45


def test_the_dataset_of_a_target_is_one_under_any_name(tmp_path: Path) -> None:
    zoo = load_zoo()
    spec = zoo.task("sst2")
    zoo.tasks["my_sentiment"] = replace(spec, name="my_sentiment")
    run = run_on(tmp_path, "glue", targets=["my_sentiment"])
    with pytest.raises(UsageError, match=r"sst2 \(the dataset of my_sentiment\)"):
        tasks_of(run, zoo)


def test_a_target_nobody_knows_is_a_wrong_request(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'sst2'"):
        tasks_of(run_on(tmp_path, "glue", targets=["sst22"]), load_zoo())


def test_any_object_with_both_methods_is_a_trainer() -> None:
    class Mine:
        def train(self, request: TrainRequest) -> Sequence[TaskReport]:
            return []

        def evaluate(self, request: EvalRequest) -> Sequence[TaskReport]:
            return []

    assert isinstance(Mine(), Trainer)
    assert not isinstance(object(), Trainer)
