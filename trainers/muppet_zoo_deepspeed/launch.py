"""One process per rank on this machine, and none of them left behind.

The parent holds a pipe to each child's standard input and writes nothing to it: when the parent
dies, in whatever way, the pipe ends and the child stops. A launcher killed by `kill -9` would
otherwise leave processes that go on writing to the run's folder.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence

from muppet_zoo.errors import MuppetZooError, TrainingError, UsageError

_POLL_S = 0.2
_GRACE_S = 15.0


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


def run_ranks(module: str, arguments: Sequence[str], world_size: int) -> None:
    """Run `python -m module arguments` once per rank and wait for all.

    Raises:
        TrainingError: a process failed; it has said why on stderr. The others were stopped.
        UsageError: the same, when the process found the request itself wrong.
    """
    port = free_port()
    ranks: list[subprocess.Popen[bytes]] = []
    try:
        for rank in range(world_size):
            ranks.append(_start(module, arguments, rank_environment(rank, world_size, port)))
        failed = _wait(ranks)
    finally:
        _stop(ranks)
    if failed is not None:
        rank, code = failed
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        found = f"process {rank} of {world_size} ended with {how}"
        if code == UsageError.exit_code:
            raise UsageError(f"{found}; what it found is above")
        if code == MuppetZooError.exit_code:
            raise TrainingError(f"{found}; what it found is above. Checkpoints are kept")
        raise TrainingError(f"{found}. Checkpoints are kept: go on with --resume")


def _start(
    module: str, arguments: Sequence[str], environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
    )


def _wait(ranks: Sequence[subprocess.Popen[bytes]]) -> tuple[int, int] | None:
    """The first rank that failed and its exit code; None when all ended well."""
    while True:
        codes = [process.poll() for process in ranks]
        for rank, code in enumerate(codes):
            if code not in (None, 0):
                return rank, int(code or 0)
        if all(code == 0 for code in codes):
            return None
        time.sleep(_POLL_S)


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


def stop_with_parent() -> None:
    """End this process when its standard input ends, which is when the launcher is gone."""

    def watch() -> None:
        # Not sys.stdin: its lock, held by this thread, would abort the interpreter's shutdown.
        while os.read(0, 1):
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
