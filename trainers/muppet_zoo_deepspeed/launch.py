"""One process per rank on this machine, none of them left behind, and one error told.

The parent holds a pipe to each child's standard input (`parent_watch.py`): a launcher killed by
`kill -9` would otherwise leave processes that go on writing to the run's folder.

When one rank fails, the others fail soon after, with complaints about lost connections. So a rank
does not print its error but leaves it in a file, and the parent raises the first one. Only rank 0
writes to the terminal; what the others print is shown when they die without having said why.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from muppet_zoo.console import note
from muppet_zoo.errors import MuppetZooError, TrainingError, UsageError
from muppet_zoo.file_tools import write_atomically

ERROR_FILE_VARIABLE = "MUPPET_ZOO_ERROR_FILE"
_POLL_S = 0.2
_GRACE_S = 15.0
_SHOWN_LINES = 20


def rank_environment(rank: int, world_size: int, port: int) -> dict[str, str]:
    """The variables that make a process rank `rank` of `world_size` on this machine."""
    cores = os.cpu_count() or 1
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "LOCAL_WORLD_SIZE": str(world_size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, cores // world_size))),
    }


def free_port() -> int:
    """A TCP port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True, kw_only=True)
class _Failure:
    """How a rank ended. `text` is empty when it did not say why; `at` is seconds since the epoch.

    expected: the rank raised a MuppetZooError, whose text is all there is to say.
    """

    rank: int
    code: int
    at: float
    text: str = ""
    expected: bool = False


def run_ranks(module: str, arguments: Sequence[str], world_size: int) -> None:
    """Run `python -m module arguments` once per rank and wait for all.

    Raises:
        TrainingError: a process failed, with what it said. The others were stopped.
        UsageError: the same, when the process found the request itself wrong.
    """
    port = free_port()
    ranks: list[subprocess.Popen[bytes]] = []
    with tempfile.TemporaryDirectory(prefix="muppet-zoo-ranks-") as name:
        folder = Path(name)
        try:
            for rank in range(world_size):
                environment = rank_environment(rank, world_size, port)
                ranks.append(_start(module, arguments, environment, folder))
            ended = _wait(ranks)
        finally:
            _stop(ranks)
        if ended:
            raise _error(_first_failure(ended, folder), world_size, folder)


def report_error(error: BaseException) -> int:
    """Leave what ended this rank for the launcher, and return the exit code to end with."""
    expected = isinstance(error, MuppetZooError)
    code = error.exit_code if isinstance(error, MuppetZooError) else 1
    text = str(error) if expected else "".join(traceback.format_exception(error)).rstrip()
    path = os.environ.get(ERROR_FILE_VARIABLE)
    if path is None:
        note(text)
    else:
        data = {"code": code, "at": time.time(), "text": text, "expected": expected}
        write_atomically(Path(path), json.dumps(data).encode())
    return code


def _start(
    module: str, arguments: Sequence[str], environment: Mapping[str, str], folder: Path
) -> subprocess.Popen[bytes]:
    rank = environment["RANK"]
    with (folder / f"{rank}.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            env={**os.environ, **environment, ERROR_FILE_VARIABLE: str(folder / f"{rank}.json")},
            stdin=subprocess.PIPE,
            stdout=None if rank == "0" else log,
            stderr=None if rank == "0" else log,
        )


def _wait(ranks: Sequence[subprocess.Popen[bytes]]) -> list[_Failure]:
    """The ranks that failed first, within one look at them; none when all ended well."""
    looked = time.time()
    while True:
        codes = [process.poll() for process in ranks]
        # A rank that cannot say when it ended may have done so right after the last look.
        failed = [
            _Failure(rank=rank, code=code, at=looked) for rank, code in enumerate(codes) if code
        ]
        if failed or all(code == 0 for code in codes):
            return failed
        looked = time.time()
        time.sleep(_POLL_S)


def _first_failure(ended: Sequence[_Failure], folder: Path) -> _Failure:
    """The one that the others follow from: an error found on purpose, else the earliest."""
    failures = {failure.rank: failure for failure in ended}
    # A rank may have written its error and be on its way out when another was seen to have ended.
    for path in folder.glob("*.json"):
        rank = int(path.stem)
        failures[rank] = _Failure(rank=rank, **json.loads(path.read_text("utf-8")))
    return min(failures.values(), key=lambda failure: (not failure.expected, failure.at))


def _error(failure: _Failure, world_size: int, folder: Path) -> MuppetZooError:
    if failure.expected:
        kind = UsageError if failure.code == UsageError.exit_code else TrainingError
        return kind(failure.text)
    code = failure.code
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    found = f"process {failure.rank} of {world_size} ended with {how}"
    said = failure.text or _last_lines(folder / f"{failure.rank}.log")
    if said:
        found += f":\n{said}\n"
    return TrainingError(f"{found}{'' if said else '. '}Checkpoints are kept: go on with --resume")


def _last_lines(log: Path) -> str:
    lines = log.read_text("utf-8", errors="replace").splitlines()
    return "\n".join(lines[-_SHOWN_LINES:])


def _stop(ranks: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in ranks:
        if process.poll() is None:
            process.terminate()
    deadline = time.monotonic() + _GRACE_S
    for process in ranks:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdin is not None:
            process.stdin.close()
