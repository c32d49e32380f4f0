"""One process per rank on this machine, none of them left behind, and one error told.

The parent holds a pipe to each child's standard input (`parent_watch.py`): a launcher killed by
`kill -9` would otherwise leave processes that go on writing to the run's folder.

When one rank fails, the others fail soon after, with complaints about lost connections. So a rank
does not print its error but leaves it in a file, and the parent raises the first one. Only rank 0
writes to the terminal; what the others print is shown when they die without having said why.

A rank that hangs says nothing at all. The others give up waiting for it after
`deepspeed.timeout_minutes` and say so, all of them; the one that did not is the one to name.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from muppet_zoo.console import note
from muppet_zoo.errors import MuppetZooError, TrainingError, UsageError
from muppet_zoo.file_tools import write_atomically

ERROR_FILE_VARIABLE = "MUPPET_ZOO_ERROR_FILE"
_POLL_S = 0.2
_GRACE_S = 15.0
# Ranks that wait for the same one began to wait when they had done their own share of the work.
LINGER_S = 10.0
_SHOWN_LINES = 20
_GO_ON = "Checkpoints are kept: go on with --resume"

# How gloo, NCCL and the store of torch.distributed say that another rank is the trouble.
_GAVE_UP = re.compile(
    r"timed out waiting|timed out after .* waiting for clients|wait timeout after"
    r"|collective operation timeout",
    re.IGNORECASE,
)
_LOST = re.compile(
    r"connection (was )?(closed|reset|aborted|refused)|broken pipe|recvvalue failed"
    r"|remote process exited",
    re.IGNORECASE,
)


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
class Failure:
    """How a rank ended. `text` is empty when it did not say why; `at` is seconds since the epoch.

    expected: the rank raised a MuppetZooError, whose text is all there is to say.
    """

    rank: int
    code: int
    at: float
    text: str = ""
    expected: bool = False

    @property
    def gave_up(self) -> bool:
        """It waited for another rank until its time was over."""
        return not self.expected and bool(_GAVE_UP.search(self.text))

    @property
    def complains(self) -> bool:
        """The cause is another rank, whether that one hangs or is gone."""
        return self.gave_up or (not self.expected and bool(_LOST.search(self.text)))


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
            failures = _wait(ranks, folder)
        finally:
            _stop(ranks)
        if failures:
            raise failure_error(failures, world_size, folder)


def report_error(error: BaseException) -> int:
    """Leave what ended this rank for the launcher, and return the exit code to end with."""
    expected = isinstance(error, MuppetZooError)
    code = error.exit_code if isinstance(error, MuppetZooError) else 1
    text = str(error) if expected else "".join(traceback.format_exception(error)).rstrip()
    path = os.environ.get(ERROR_FILE_VARIABLE)
    if path is None:
        note(text)
        return code
    rank = int(os.environ["RANK"])
    failure = Failure(rank=rank, code=code, at=time.time(), text=text, expected=expected)
    write_atomically(Path(path), json.dumps(asdict(failure)).encode())
    if failure.gave_up:
        # An end would break the connections of others that wait for the same rank.
        time.sleep(LINGER_S)
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


def _wait(ranks: Sequence[subprocess.Popen[bytes]], folder: Path) -> dict[int, Failure]:
    """Wait for all to end well, or for one to fail; returns the ranks that failed.

    Where they give up waiting for another, they all have the time to say so.
    """
    failures: dict[int, Failure] = {}
    until: float | None = None
    while until is None or time.time() < until:
        looked = time.time()
        codes = [process.poll() for process in ranks]
        for rank, code in enumerate(codes):
            if code and rank not in failures:
                # A rank that cannot say when it ended may have done so right after the last look.
                text = _last_lines(folder / f"{rank}.log")
                failures[rank] = Failure(rank=rank, code=code, at=looked - _POLL_S, text=text)
        if failures and until is None:
            failures |= reported_failures(folder)
            until = looked + (LINGER_S if any(f.gave_up for f in failures.values()) else 0.0)
        if all(code is not None for code in codes):
            break
        time.sleep(_POLL_S)
    # A rank may have written its error and be on its way out when another was seen to have ended.
    return failures | reported_failures(folder) if failures else failures


def reported_failures(folder: Path) -> dict[int, Failure]:
    """What ranks have left in this folder, by rank."""
    reports = folder.glob("[0-9]*.json")
    found = [Failure(**json.loads(path.read_text("utf-8"))) for path in reports]
    return {failure.rank: failure for failure in found}


def failure_error(
    failures: Mapping[int, Failure], world_size: int, folder: Path, hosts: Sequence[str] = ()
) -> MuppetZooError:
    """What to tell of a run that failed: the one failure that the others follow from.

    It is an error found on purpose, else the earliest that blames no other rank. Where all blame
    others, it is the ranks that are not among `failures`. hosts: by rank, if there are several.
    """
    first = min(failures.values(), key=lambda f: (not f.expected, f.complains, f.at))
    if first.expected:
        kind = UsageError if first.code == UsageError.exit_code else TrainingError
        return kind(first.text)
    silent = sorted(set(range(world_size)) - failures.keys())
    if first.complains and silent:
        return _silence_error(silent, first, world_size, folder, hosts)
    code = first.code
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    found = f"{_named([first.rank], world_size, hosts)} ended with {how}"
    if first.text:
        found += f":\n{first.text}\n"
    return TrainingError(f"{found}{'' if first.text else '. '}{_GO_ON}")


def _silence_error(
    silent: Sequence[int], first: Failure, world_size: int, folder: Path, hosts: Sequence[str]
) -> TrainingError:
    who = _named(silent, world_size, hosts)
    if first.gave_up:
        return TrainingError(
            f"no sign of life from {who}: the others gave up waiting and were stopped. It hangs, "
            f"or its machine or network does. {_GO_ON}; if it was only slow, with a higher "
            f"deepspeed.timeout_minutes"
        )
    said = "\n".join(filter(None, (_last_lines(folder / f"{rank}.log") for rank in silent)))
    found = f"{who} ended without saying why, as processes do that are killed or lack memory"
    return TrainingError(f"{found}{f':{chr(10)}{said}{chr(10)}' if said else '. '}{_GO_ON}")


def _named(ranks: Sequence[int], world_size: int, hosts: Sequence[str]) -> str:
    """`process 1 of 2`, with its host where there are several."""
    names = [f"{rank} of {world_size}{f' on {hosts[rank]}' if hosts else ''}" for rank in ranks]
    return f"process{'es' if len(ranks) > 1 else ''} {', '.join(names)}"


def _last_lines(log: Path) -> str:
    if not log.is_file():
        return ""
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
