"""What a run tells of itself: the log, trackers, the realised mix, and the screen."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from helpers import child_env
from muppet_zoo_torch.trackers import open_trackers
from muppet_zoo_torch.trainer import TorchTrainer

from muppet_zoo import run_checks
from muppet_zoo.errors import MissingExtraError, UsageError
from muppet_zoo.run import Run
from muppet_zoo.run_checks import check_trackers
from muppet_zoo.trainer_api import TrainRequest, tasks_of
from muppet_zoo.zoo import load_zoo

VALUES = {"loss": 0.5, "family_losses/nli": 0.25}


@pytest.fixture
def run(make_run: Callable[..., Run]) -> Callable[..., Run]:
    def make(*names: str) -> Run:
        return make_run(logging={"trackers": list(names)})

    return make


def read_log(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


# --- the log and the mix ---------------------------------------------------------------------


def test_the_mix_is_the_sum_of_the_log(trained: Path) -> None:
    mix = json.loads((trained / "mix.json").read_text())
    examples: Counter[str] = Counter()
    tokens: Counter[str] = Counter()
    for line in read_log(trained):
        assert sum(line["task_tokens"].values()) == line["num_tokens"]
        assert line["peak_memory_bytes"] > 1 << 20
        examples.update(line["task_examples"])
        tokens.update(line["task_tokens"])
    assert {name: task["num_examples"] for name, task in mix["tasks"].items()} == examples
    assert {name: task["num_tokens"] for name, task in mix["tasks"].items()} == tokens
    assert mix["num_tokens"] == sum(tokens.values())
    assert sum(task["share"] for task in mix["tasks"].values()) == pytest.approx(1.0)
    assert sum(task["planned_share"] for task in mix["tasks"].values()) == pytest.approx(1.0)


def test_a_family_has_the_mean_loss_of_its_examples(trained: Path) -> None:
    zoo = load_zoo()
    line = read_log(trained)[0]
    for family, loss in line["family_losses"].items():
        own = [name for name in line["task_losses"] if zoo.task(name).family == family]
        total = sum(line["task_losses"][name] * line["task_examples"][name] for name in own)
        count = sum(line["task_examples"][name] for name in own)
        assert loss == pytest.approx(total / count)


def test_versions_are_written(trained: Path) -> None:
    import torch

    found = json.loads((trained / "versions.json").read_text())
    assert (found["torch"], found["trainer"], found["num_processes"]) == (
        torch.__version__, "torch", 1
    )  # fmt: skip


# --- trackers --------------------------------------------------------------------------------


def test_tensorboard_is_read_back(
    make_run: Callable[..., Run], mixed_specs: Path, tmp_path: Path
) -> None:
    """A real run, and the files as TensorBoard itself reads them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = make_run(logging={"trackers": ["tensorboard"]}, schedule={"steps": 2})
    tasks, rates = tasks_of(run, load_zoo([mixed_specs]))
    out = tmp_path / "out"
    reports = TorchTrainer().train(TrainRequest(run=run, tasks=tasks, rates=rates, out=out))
    events = EventAccumulator(str(out / "tensorboard")).Reload()
    log = read_log(out)
    losses = [(event.step, event.value) for event in events.Scalars("loss")]
    assert losses == [(line["step"], pytest.approx(line["loss"])) for line in log]
    for report in reports:
        [event] = events.Scalars(f"score/{report.task}/{report.headline}")
        assert (event.step, event.value) == (2, pytest.approx(report.scores[report.headline]))


class FakeRun:
    def __init__(self, **arguments: Any) -> None:
        self.arguments = arguments
        self.logged: list[tuple[int, Mapping[str, float]]] = []
        self.finished = 0

    def log(self, values: Mapping[str, float], step: int) -> None:
        self.logged.append((step, values))

    def finish(self) -> None:
        sys.stdout.write("goodbye")
        self.finished += 1


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_the_calls_that_wandb_and_trackio_document(
    name: str,
    run: Callable[..., Run],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """At the import boundary; where the libraries are installed the next tests ask themselves."""
    fake = ModuleType(name)
    made: list[FakeRun] = []

    def init(**arguments: Any) -> FakeRun:
        sys.stdout.write("welcome")
        made.append(FakeRun(**arguments))
        return made[-1]

    fake.init = init  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, name, fake)
    for _ in range(2):  # a run that is resumed goes on under the same name
        [tracker] = open_trackers(run(name), tmp_path)
        tracker.log(VALUES, 7)
        tracker.close()
    assert capsys.readouterr().out == "", "stdout is for results"
    assert [m.logged for m in made] == [[(7, VALUES)]] * 2
    assert [m.finished for m in made] == [1, 1]
    assert made[0].arguments == made[1].arguments
    assert made[0].arguments["config"]["seed"] == 7
    assert made[0].arguments["resume"] == "allow"


def test_wandb_offline(
    run: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    [tracker] = open_trackers(run("wandb"), tmp_path)
    tracker.log(VALUES, 1)
    tracker.close()
    wandb.teardown()  # its own process writes the file; now it has
    [kept] = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    assert b"family_losses/nli" in kept.read_bytes()


def test_trackio_offline(
    run: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sqlite3

    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))  # read when it is imported
    pytest.importorskip("trackio")
    [tracker] = open_trackers(run("trackio"), tmp_path)
    tracker.log(VALUES, 1)
    tracker.close()
    [kept] = (tmp_path / "trackio").rglob("*.db")
    with sqlite3.connect(kept) as database:
        [(metrics,)] = database.execute("select metrics from metrics where step = 1").fetchall()
    assert json.loads(metrics) == VALUES


def test_a_tracker_that_is_not_installed_is_said_at_once(
    run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_checks, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'muppet-zoo\[wandb\]'"):
        check_trackers(run("wandb"))
    check_trackers(run())


# --- refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"precision": "fp16", "trainer": "deepspeed"}, "with trainer: torch alone"),
        (
            {"schedule": {"warmup_steps": 5, "steps": 4}},
            "warmup_steps: 5, but the run has 4",
        ),
        (
            {"schedule": {"power": 2.0, "steps": 4}},
            "power: 2 has no effect with decay: constant; set schedule.decay: polynomial",
        ),
    ],
)
def test_what_cannot_run_is_refused(
    changes: dict[str, Any],
    message: str,
    make_run: Callable[..., Run],
    mixed_specs: Path,
    tmp_path: Path,
) -> None:
    from muppet_zoo_torch.plan import make_plan

    run = make_run(**changes)
    tasks, rates = tasks_of(run, load_zoo([mixed_specs]))
    with pytest.raises(UsageError, match=message):
        make_plan(TrainRequest(run=run, tasks=tasks, rates=rates, out=tmp_path))


# --- the screen ------------------------------------------------------------------------------

LIVE = """
import sys, torch
from pathlib import Path
from muppet_zoo.run import parse_run
from muppet_zoo.run_checks import check_trackers
from muppet_zoo.trainer_api import TrainRequest, tasks_of
from muppet_zoo.zoo import load_zoo
from muppet_zoo_torch.trainer import TorchTrainer
import json
torch.set_num_threads(1)
run = parse_run(json.loads(Path(sys.argv[1]).read_text()))
tasks, rates = tasks_of(run, load_zoo([Path(sys.argv[2])]))
TorchTrainer().train(TrainRequest(run=run, tasks=tasks, rates=rates, out=Path(sys.argv[3])))
"""


def test_a_terminal_shows_the_run_live(
    make_run: Callable[..., Run], mixed_specs: Path, tmp_path: Path
) -> None:
    import pexpect

    run = make_run(schedule={"steps": 3}, evaluation={"max_examples": 1})
    (tmp_path / "run.json").write_text(json.dumps(dict(run.raw)))
    arguments = [str(tmp_path / "run.json"), str(mixed_specs), str(tmp_path / "out")]
    child = pexpect.spawn(
        sys.executable, ["-c", LIVE, *arguments], env=child_env({"TERM": "xterm"}),
        dimensions=(40, 200), encoding="utf-8", timeout=200,
    )  # fmt: skip
    child.expect(pexpect.EOF)
    child.close()
    screen = child.before or ""
    assert child.exitstatus == 0, screen
    [line, *_] = read_log(tmp_path / "out")
    for shown in (
        "pre-finetune", "1 of 3 steps", f"{line['loss']:.3f} ", "learning rate",
        f"{line['padding_share']:.1%}", "padding", "tokens/s", "GiB", "left",
        "scaled loss by family", *(f"{loss:.3f}" for loss in line["family_losses"].values()),
        "share of the examples so far", "qs_topic",
    ):  # fmt: skip
        assert shown in screen, shown
