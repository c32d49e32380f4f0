"""One process per rank: what failed is told, and nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from muppet_zoo_deepspeed import launch
from muppet_zoo_deepspeed.launch import (
    Failure,
    failure_error,
    free_port,
    rank_environment,
    run_ranks,
)

from muppet_zoo.errors import TrainingError, UsageError

# By its path: the package around it would import torch, which takes seconds in each process.
LOAD = f"""\
import sys
from importlib.util import module_from_spec, spec_from_file_location

spec = spec_from_file_location("launch", {launch.__file__!r})
launch = sys.modules["launch"] = module_from_spec(spec)
spec.loader.exec_module(launch)
"""

# Writes its process id, then does what its argument says.
RANK = f"""\
{LOAD}
import os, signal, sys, time
from pathlib import Path
from muppet_zoo.errors import TrainingError, UsageError
from muppet_zoo.parent_watch import stop_with_parent

stop_with_parent()
folder, what = Path(sys.argv[1]), sys.argv[2]
rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
temporary = folder / (str(rank) + ".tmp")
temporary.write_text(str(os.getpid()))
temporary.rename(folder / (str(rank) + ".pid"))
if what == "end":
    names = ("LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "OMP_NUM_THREADS")
    (folder / (str(rank) + ".env")).write_text(" ".join(os.environ[name] for name in names))
    sys.exit(0)
if rank == world_size - 1 and what != "wait":
    while len(list(folder.glob("*.pid"))) < world_size:
        time.sleep(0.01)
    (folder / "dying").touch()
    if what == "hang":
        os.kill(os.getpid(), signal.SIGSTOP)
    print("the last words", file=sys.stderr, flush=True)
    if what == "abort":
        os.abort()
    if what.isdecimal():
        sys.exit(int(what))
    kind = {{"training": TrainingError, "usage": UsageError, "bug": KeyError}}[what]
    os._exit(launch.report_error(kind("nobody knows")))
while what != "wait" and not (folder / "dying").exists():
    time.sleep(0.001)
if what == "hang":  # what gloo says; one rank began to wait later than the other
    launch.LINGER_S = 1.5
    time.sleep(0.8 * rank)
    text = "[unbound_buffer.cc:81] Timed out waiting 60000ms for recv operation to complete"
    os._exit(launch.report_error(RuntimeError(text)))
if what != "wait":  # as a rank does whose connection is lost
    time.sleep(0.02)
    os._exit(launch.report_error(RuntimeError("connection closed by peer")))
time.sleep(60)
"""

PARENT = f"""\
{LOAD}
import sys

launch.run_ranks("rank_program", [sys.argv[1], "wait"], 2)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "rank_program.py").write_text(RANK)
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("PYTHONPATH", path)
    return tmp_path


def process_ids(folder: Path, count: int) -> list[int]:
    deadline = time.monotonic() + 30
    while len(files := sorted(folder.glob("*.pid"))) < count:
        assert time.monotonic() < deadline, "the processes did not start"
        time.sleep(0.02)
    return [int(file.read_text()) for file in files]


def is_running(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    # A zombie has ended; nobody may have collected it when its parent was killed.
    stat = Path(f"/proc/{process_id}/stat")
    return not stat.is_file() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


def wait_until_gone(ids: list[int]) -> None:
    deadline = time.monotonic() + 20
    while any(is_running(process_id) for process_id in ids):
        assert time.monotonic() < deadline, "processes are left behind"
        time.sleep(0.02)


def test_all_ranks_end_well(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    run_ranks("rank_program", [str(folder), "end"], 2)
    values = [(folder / f"{rank}.env").read_text().split() for rank in range(2)]
    assert [value[:3] for value in values] == [["0", "2", "127.0.0.1"], ["1", "2", "127.0.0.1"]]
    assert values[0][3] == values[1][3]
    assert values[0][4] == "5"


@pytest.mark.parametrize(
    ("what", "kind", "told"),
    [
        ("training", TrainingError, "nobody knows"),
        ("usage", UsageError, "nobody knows"),
        (
            "bug",
            TrainingError,
            "process 1 of 2 ended with exit code 1:\nKeyError: 'nobody knows'\n",
        ),
        ("7", TrainingError, "process 1 of 2 ended with exit code 7:\nthe last words\n"),
        ("abort", TrainingError, "process 1 of 2 ended with signal SIGABRT:\nthe last words\n"),
    ],
)
def test_the_rank_that_failed_first_is_told_and_all_end(
    folder: Path, what: str, kind: type[Exception], told: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(kind) as caught:
        run_ranks("rank_program", [str(folder), what], 2)
    assert type(caught.value) is kind
    # Errors found on purpose have said themselves what to do.
    what_next = "" if kind is UsageError or what == "training" else "Checkpoints are kept: go on"
    assert str(caught.value).removesuffix(" with --resume") == told + what_next
    assert not any(map(is_running, process_ids(folder, 2)))
    assert "connection" not in capfd.readouterr().err


def test_a_rank_that_hangs_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "_GRACE_S", 0.5)
    with pytest.raises(TrainingError, match="no sign of life from process 2 of 3: ") as caught:
        run_ranks("rank_program", [str(folder), "hang"], 3)
    assert "go on with --resume; if it was only slow, with a higher" in str(caught.value)
    assert not any(map(is_running, process_ids(folder, 3)))


def failure(rank: int, at: float, text: str, expected: bool = False) -> Failure:
    return Failure(rank=rank, code=1, at=at, text=text, expected=expected)


LOST = "RuntimeError: [pair.cc:547] Connection closed by peer [10.0.0.2]:53817"
GAVE_UP = "DistStoreError: Timed out after 61 seconds waiting for clients. 1/2 clients joined."


@pytest.mark.parametrize(
    ("failures", "told"),
    [
        ([failure(0, 2.0, LOST)], "process 1 of 2 on b ended without saying why"),
        ([failure(1, 2.0, GAVE_UP)], "no sign of life from process 0 of 2 on a: "),
        ([failure(0, 1.0, LOST), failure(1, 2.0, "KeyError: 3")], "process 1 of 2 on b ended with"),
        ([failure(0, 1.0, "KeyError: 2"), failure(1, 2.0, "oh no", True)], "oh no"),
        ([failure(0, 2.0, GAVE_UP), failure(1, 1.0, LOST)], "process 1 of 2 on b ended with"),
        ([failure(1, 1.0, "KeyError: 4")], "process 1 of 2 on b ended with exit code 1:\nKeyError"),
    ],
)
def test_who_is_to_blame(failures: list[Failure], told: str, tmp_path: Path) -> None:
    by_rank = {failure.rank: failure for failure in failures}
    assert str(failure_error(by_rank, 2, tmp_path, "ab")).startswith(told)


def test_an_error_common_to_all_ranks_is_told_once(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Here both find that the request cannot be read."""
    with pytest.raises(TrainingError) as caught:
        run_ranks("muppet_zoo_deepspeed.worker", [str(folder / "absent.json")], 2)
    assert str(caught.value).count("No such file or directory") == 1
    assert capfd.readouterr().err == ""


def test_a_module_that_does_not_exist(folder: Path) -> None:
    with pytest.raises(TrainingError, match="ended with exit code 1"):
        run_ranks("no_such_rank_program", [], 2)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_rank_outlives_its_launcher(folder: Path, how: signal.Signals) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(folder)], stderr=subprocess.DEVNULL
    )
    ids = process_ids(folder, 2)
    assert all(map(is_running, ids))
    parent.send_signal(how)
    parent.wait(30)
    wait_until_gone(ids)


def test_rank_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    threads = [rank_environment(1, size, 1)["OMP_NUM_THREADS"] for size in (2, 4, 100)]
    assert threads == ["3", "1", "1"]
    assert rank_environment(1, 4, 9)["MASTER_PORT"] == "9"


def test_a_free_port_can_be_used() -> None:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", free_port()))


def test_a_rank_that_cannot_be_started_stops_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: object) -> subprocess.Popen[bytes]:
        if started:
            raise OSError("too many processes")
        started.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]))
        return started[0]

    monkeypatch.setattr(launch, "_start", start)
    with pytest.raises(OSError, match="too many"):
        run_ranks("rank_program", [], 2)
    assert started[0].poll() is not None
