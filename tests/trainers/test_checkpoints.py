"""Checkpoints are whole or passed over, and the right ones are kept."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from muppet_zoo_torch.checkpoints import best_checkpoint, checkpoint_folder, drop_checkpoints
from muppet_zoo_torch.trainer import TorchTrainer

from muppet_zoo.errors import CheckpointError, TrainingError, UsageError
from muppet_zoo.file_tools import checksum_of
from muppet_zoo.results import TaskReport
from muppet_zoo.run import CheckpointSettings, Run
from muppet_zoo.trainer_api import TrainRequest, tasks_of
from muppet_zoo.zoo import load_zoo

STEPS = (1, 2, 3)


def request(make_run: Callable[..., Run], out: Path, **changes: Any) -> TrainRequest:
    settings: dict[str, Any] = {
        "mixture": None,
        "task": "qs_topic",
        "schedule": {"steps": STEPS[-1]},
        "checkpointing": {"every_steps": 1, "keep": len(STEPS)},
    }
    run = make_run(**{**settings, **changes})
    tasks, rates = tasks_of(run, load_zoo())
    return TrainRequest(run=run, tasks=tasks, rates=rates, out=out)


@pytest.fixture(scope="session")
def three_checkpoints(
    make_run: Callable[..., Run], tmp_path_factory: pytest.TempPathFactory
) -> TrainRequest:
    """A run whose model is gone, so that it can be resumed; not to be changed."""
    asked = request(make_run, tmp_path_factory.mktemp("three") / "out")
    TorchTrainer().train(asked)
    shutil.rmtree(asked.out / "model")
    return asked


@pytest.fixture
def cut(three_checkpoints: TrainRequest, tmp_path: Path) -> TrainRequest:
    """A copy of that run to damage and resume."""
    shutil.copytree(three_checkpoints.out, tmp_path / "out")
    return replace(three_checkpoints, out=tmp_path / "out", resume=True)


def newest(asked: TrainRequest) -> Path:
    return checkpoint_folder(asked.out, STEPS[-1])


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): checksum_of(path)
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_every_file_has_its_digest(three_checkpoints: TrainRequest) -> None:
    folder = newest(three_checkpoints)
    found = digests(folder)
    del found["checkpoint.json"]
    assert json.loads((folder / "checkpoint.json").read_text())["files"] == found
    assert {"state/parameters.safetensors", "model/heads.json"} <= found.keys()


DAMAGES: dict[str, tuple[str, Callable[[bytes], bytes | None]]] = {
    "cut": ("state/parameters.safetensors", lambda content: content[: len(content) // 2]),
    "empty": ("state/parameters.safetensors", lambda content: b""),
    "absent": ("state/parameters.safetensors", lambda content: None),
    "one bit": ("model/heads.safetensors", lambda content: content[:-1] + bytes([content[-1] ^ 1])),
    "half written": ("checkpoint.json", lambda content: None),
    "no JSON": ("checkpoint.json", lambda content: b"{"),
    "a list": ("checkpoint.json", lambda content: b"[]"),
    "a field less": ("checkpoint.json", lambda content: b'{"step": 1}'),
    "no position": ("checkpoint.json", lambda content: content.replace(b'"window": ', b'"a": ')),
}


@pytest.mark.parametrize("damage", list(DAMAGES))
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(
    three_checkpoints: TrainRequest,
    cut: TrainRequest,
    damage: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name, change = DAMAGES[damage]
    path = newest(cut) / name
    content = change(path.read_bytes())
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    TorchTrainer().train(cut)
    told = capsys.readouterr().err
    how = "is only half written" if damage == "half written" else "is damaged: "
    assert f"{newest(cut)}" in told
    assert how in told
    assert "it is passed over" in told
    assert f"resuming after step {STEPS[-2]} of {STEPS[-1]}" in told
    assert digests(newest(cut)) == digests(newest(three_checkpoints))


def test_no_whole_checkpoint(cut: TrainRequest, capsys: pytest.CaptureFixture[str]) -> None:
    for step in STEPS:
        (checkpoint_folder(cut.out, step) / "state/parameters.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"no checkpoint in .* is whole; put one back"):
        TorchTrainer().train(cut)
    assert capsys.readouterr().err.count("it is passed over") == len(STEPS)


def test_a_checkpoint_of_another_model(make_run: Callable[..., Run], cut: TrainRequest) -> None:
    (cut.out / "run.json").unlink()  # it would have told before
    other = request(make_run, cut.out, model={"head_dense": "shared"})
    with pytest.raises(CheckpointError, match=r"does not fit this run's model: .*dense"):
        TorchTrainer().train(replace(other, resume=True))


def test_what_a_kill_inside_a_save_leaves_is_overwritten(cut: TrainRequest) -> None:
    folder = newest(cut)
    folder.rename(folder.with_name(f".{folder.name}.tmp"))
    (checkpoint_folder(cut.out, STEPS[-2]) / "junk").write_text("not in the record")
    TorchTrainer().train(cut)
    names = sorted(path.name for path in (cut.out / "checkpoints").iterdir())
    assert names == [checkpoint_folder(cut.out, step).name for step in STEPS]


# --- which ones stay -------------------------------------------------------------------------


def report(step: int, score: float, task: str = "qs_topic", metric: str = "accuracy") -> TaskReport:
    return TaskReport(
        task=task, split="validation", num_examples=8, scores={metric: score}, headline=metric,
        step=step,
    )  # fmt: skip


def folders(out: Path, steps: int) -> None:
    for step in range(1, steps + 1):
        (checkpoint_folder(out, step) / "state").mkdir(parents=True)


def kept(out: Path) -> list[int]:
    return [int(path.name[-8:]) for path in sorted((out / "checkpoints").iterdir())]


@pytest.mark.parametrize(
    ("keep", "keep_best", "left"),
    [(1, False, [5]), (2, False, [4, 5]), (9, False, [1, 2, 3, 4, 5]), (2, True, [2, 4, 5])],
)
def test_the_newest_and_the_best_stay(
    tmp_path: Path, keep: int, keep_best: bool, left: list[int]
) -> None:
    folders(tmp_path, 5)
    settings = CheckpointSettings(every_steps=1, keep=keep, keep_best=keep_best)
    reports = [report(1, 0.3), report(2, 0.9), report(3, 0.5), report(4, 0.6)]
    drop_checkpoints(tmp_path, settings, reports)
    assert kept(tmp_path) == left


def test_the_best_has_the_best_mean_headline(tmp_path: Path) -> None:
    folders(tmp_path, 3)
    assert best_checkpoint(tmp_path, []) is None
    reports = [
        report(0, 1.0),  # scored before the first step: there is no checkpoint of it
        report(1, 0.9), report(1, 0.1, "qs_nli"),
        report(2, 0.6), report(2, 0.6, "qs_nli"),
    ]  # fmt: skip
    assert best_checkpoint(tmp_path, reports) == checkpoint_folder(tmp_path, 2)
    equal = [*reports, report(3, 0.6), report(3, 0.6, "qs_nli")]
    assert best_checkpoint(tmp_path, equal) == checkpoint_folder(tmp_path, 3)


def test_a_run_keeps_its_best(
    make_run: Callable[..., Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = request(
        make_run,
        tmp_path / "out",
        checkpointing={"every_steps": 1, "keep": 1, "keep_best": True},
        evaluation={"every_steps": 1},
        optimizer={"learning_rate": 1e-9},  # all scores are equal, so the newest is the best
    )
    TorchTrainer().train(asked)
    assert kept(asked.out) == [3]
    assert "best mean headline score is" in capsys.readouterr().err


def test_the_best_of_what_nobody_scores(make_run: Callable[..., Run], tmp_path: Path) -> None:
    asked = request(make_run, tmp_path / "out", checkpointing={"keep_best": True})
    with pytest.raises(UsageError, match=r"keep_best needs scores .* set evaluation\.every_steps"):
        TorchTrainer().train(asked)


# --- a full disk -----------------------------------------------------------------------------

# Room for one checkpoint and a half. What follows the failure runs in the same namespace, since
# the disk goes away with it.
ON_A_SMALL_DISK = """\
mount -t tmpfs -o size={size} tmpfs {disk} || exit 77
{train}
echo "exit code $?"
ls {disk}/out/checkpoints | sed 's/^/left /'
mount -o remount,size=100m {disk}
{train} --resume
echo "exit code $?"
"""


def namespaces() -> bool:
    if shutil.which("unshare") is None:
        return False
    probe = ["unshare", "--user", "--map-root-user", "--mount", "true"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(not namespaces(), reason="mounting a small disk needs user namespaces")
def test_a_full_disk(three_checkpoints: TrainRequest, tmp_path: Path) -> None:
    """The kernel's own "no space left", in a real process; the checkpoint before is whole."""
    data = {key: value for key, value in three_checkpoints.run.raw.items() if value is not None}
    (tmp_path / "run.yaml").write_text(json.dumps(data))
    disk = tmp_path / "disk"
    disk.mkdir()
    folder = newest(three_checkpoints)
    size = int(1.5 * sum(path.stat().st_size for path in folder.rglob("*")))
    command = [sys.executable, "-m", "muppet_zoo", "train", str(tmp_path / "run.yaml"),
               "--out", str(disk / "out"), "--trainer", "torch"]  # fmt: skip
    script = ON_A_SMALL_DISK.format(size=size, disk=disk, train=" ".join(command))
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode == 77:
        pytest.skip("this kernel does not let a user mount a disk in memory")
    assert "Traceback" not in done.stderr
    assert "step-00000002 cannot be written: " in done.stderr
    assert "No space left on device" in done.stderr
    assert "make room, then go on with --resume" in done.stderr
    told = [line for line in done.stdout.splitlines() if line.startswith(("exit", "left"))]
    assert told == ["exit code 1", "left step-00000001", "exit code 0"]
    assert "resuming after step 1 of 3" in done.stderr


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("pytorch")])
def test_whatever_a_failed_write_raises(
    make_run: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    from muppet_zoo_torch import checkpoints

    write = checkpoints.write_model

    def fail(engine: Any, plan: Any, folder: Path, step: int) -> None:
        write(engine, plan, folder, step)
        if step == 2:
            raise error

    asked = request(make_run, tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "write_model", fail)
        with pytest.raises(TrainingError, match=r"step-00000002 cannot be written.*--resume"):
            TorchTrainer().train(asked)
    assert kept(asked.out) == [1]
    TorchTrainer().train(replace(asked, resume=True))
    assert kept(asked.out) == [1, 2, 3]
