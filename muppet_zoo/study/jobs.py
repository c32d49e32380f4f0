"""Public commands run side by side, each in a process of its own with its share of the cores.

What a job prints goes to its log. A job that fails does not stop the others; all that failed are
told at the end, with the last lines of their logs.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from muppet_zoo.console import ProgressLine

WORKER = "muppet_zoo.worker"
_POLL_S = 0.5
_GRACE_S = 15.0
_SHOWN_LINES = 15


@dataclass(frozen=True, kw_only=True)
class Job:
    """A command line of muppet-zoo.

    done: how much of `total` is done by now, also by an earlier try; for the progress line. It is
        asked while the job runs.
    finish: called when it ended well.
    """

    name: str
    arguments: tuple[str, ...]
    log: Path
    total: float
    done: Callable[[], float]
    finish: Callable[[], None] = lambda: None


@dataclass(frozen=True, kw_only=True)
class FailedJob:
    """A job that ended with an exit code other than 0, and what its log says last."""

    name: str
    code: int
    log: Path
    text: str


def run_jobs(jobs: Sequence[Job], workers: int, line: ProgressLine) -> list[FailedJob]:
    """Run all jobs, `workers` at a time, in their order; returns those that failed."""
    waiting = list(jobs)
    running: dict[Job, subprocess.Popen[bytes]] = {}
    failed: list[FailedJob] = []
    total, ended = sum(job.total for job in jobs), 0.0
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                job = waiting.pop(0)
                running[job] = _start(job, workers)
            for job, process in list(running.items()):
                code = process.poll()
                if code is None:
                    continue
                del running[job]
                _close(process)
                ended += job.total
                if code:
                    text = _last_lines(job.log)
                    failed.append(FailedJob(name=job.name, code=code, log=job.log, text=text))
                else:
                    job.finish()
            names = ", ".join(job.name for job in running)
            done = sum(min(job.total, job.done()) for job in running)
            line.update(ended + done, total=total, text=names)
            if running:
                time.sleep(_POLL_S)
    finally:
        for process in running.values():
            _close(process)
    return failed


def _start(job: Job, workers: int) -> subprocess.Popen[bytes]:
    job.log.parent.mkdir(parents=True, exist_ok=True)
    threads = max(1, (os.cpu_count() or 1) // workers)
    with job.log.open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", WORKER, *job.arguments],
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def _close(process: subprocess.Popen[bytes]) -> None:
    """Ends a process that still runs."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdin is not None:
        process.stdin.close()


def _last_lines(log: Path) -> str:
    lines = log.read_text("utf-8", errors="replace").splitlines()
    return "\n".join(lines[-_SHOWN_LINES:])
