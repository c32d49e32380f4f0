"""Experiment trackers: TensorBoard, Weights & Biases, trackio; each by one word in the run file.

All three take named numbers at a step, so a tracker is two methods. Where they send what they are
given, and whether at all, is set as their users are used to: WANDB_MODE=offline, TRACKIO_DIR, ….
The libraries are imported when a run asks for one.
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from muppet_zoo.file_tools import write_atomically
from muppet_zoo.run import Run

PROJECT = "muppet-zoo"
ID_FILE = "tracker_id"


class Tracker(Protocol):
    """Something that keeps the numbers of a run."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Numbers by name, after `step` steps."""
        ...

    def close(self) -> None:
        """The run is over, well or not."""
        ...


def open_trackers(run: Run, out: Path, *, after_step: int = 0) -> list[Tracker]:
    """The trackers that a run asks for; what they have of steps after `after_step` is done anew."""
    return [TRACKERS[name](run, out, after_step) for name in run.trackers]


class _TensorBoard:
    def __init__(self, run: Run, out: Path, after_step: int) -> None:
        writer: Any = import_module("torch.utils.tensorboard").SummaryWriter
        self._writer = writer(str(out / "tensorboard"), purge_step=after_step + 1)

    def log(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class _InitAndLog:
    """A run of wandb or of trackio, whose calls are the same; what they print goes to stderr."""

    def __init__(self, module: str, run: Run, **names: Any) -> None:
        with redirect_stdout(sys.stderr):
            self._run: Any = import_module(module).init(
                project=PROJECT, resume="allow", config=dict(run.raw), **names
            )

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        with redirect_stdout(sys.stderr):
            self._run.finish()


def _wandb(run: Run, out: Path, _after_step: int) -> Tracker:
    return _InitAndLog("wandb", run, name=out.name, id=_run_id(out), dir=str(out))


def _trackio(run: Run, out: Path, _after_step: int) -> Tracker:
    return _InitAndLog("trackio", run, name=f"{out.name}-{_run_id(out)}")


def _run_id(out: Path) -> str:
    """A name of its own for this run, the same when it is resumed."""
    path = out / ID_FILE
    if not path.is_file():
        write_atomically(path, secrets.token_hex(8).encode())
    return path.read_text("utf-8")


TRACKERS: dict[str, Callable[[Run, Path, int], Tracker]] = {
    "tensorboard": _TensorBoard,
    "wandb": _wandb,
    "trackio": _trackio,
}
