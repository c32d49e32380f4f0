"""The build as real processes: killed, run twice at once, interrupted, and measured."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_zoo import files_below, random_rows, spec_data, write_jsonl, write_spec, write_tokenizer

NAMES = ("one", "two")

# Shards of 200 examples and a pause after each chunk: many places to be killed at, in a short time.
SLOW_BUILD = """
import sys, time
from muppet_zoo import build_split
from muppet_zoo.cli import main
pause_s, rows = float(sys.argv.pop(1)), int(sys.argv.pop(1))
build_split.CHUNK_ROWS, build_split.SHARD_EXAMPLES = 50, rows
add = build_split._OpenShard.add
def slow_add(self, chunk, encoded):
    add(self, chunk, encoded)
    time.sleep(pause_s)
build_split._OpenShard.add = slow_add
main()
"""

PEAK_MEMORY = """
import resource, sys
from muppet_zoo.cli import cli
result = cli.main(sys.argv[1:], standalone_mode=False)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print("peak", peak if sys.platform != "darwin" else peak // 1024, file=sys.stderr)
sys.exit(result)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_tokenizer(tmp_path / "tokenizer")
    for name in NAMES:
        write_spec(tmp_path / "specs", spec_data(name))
        for split, count in (("train", 2000), ("validation", 300)):
            write_jsonl(tmp_path / "mirror" / name / f"{split}.jsonl", random_rows("single", count))
    return tmp_path


def arguments(folder: Path, out: str, *more: str) -> list[str]:
    return [
        "build", *NAMES, "--tokenizer", str(folder / "tokenizer"), "--mirror",
        str(folder / "mirror"), "--specs", str(folder / "specs"), "--out", str(folder / out), *more,
    ]  # fmt: skip


def start(folder: Path, out: str, *more: str, pause_s: float = 0.0) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SLOW_BUILD, str(pause_s), "200"]
    return subprocess.Popen(
        [*command, *arguments(folder, out, *more)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def finish(process: subprocess.Popen[str], code: int = 0) -> str:
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == code, stderr
    return stdout


def wait_for_shards(process: subprocess.Popen[str], out: Path, count: int) -> None:
    """Until `count` shards have their names, or the process is over."""
    end = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < end:
        if len(list(out.rglob("*.arrow"))) >= count:
            return
        time.sleep(0.005)


def test_kill_9_at_random_moments_then_the_same_bytes(folder: Path) -> None:
    finish(start(folder, "whole"))
    whole, out = files_below(folder / "whole"), folder / "killed"
    source = random.Random(1)
    finished: dict[Path, int] = {}
    for count in (1, 4, 9, 14):
        process = start(folder, "killed", "--jobs", "2", pause_s=0.01)
        wait_for_shards(process, out, count)
        time.sleep(source.random() * 0.05)
        process.kill()
        process.communicate()
        sealed = {path.with_suffix(".arrow") for path in out.rglob("*-?????.json")}
        assert finished.keys() <= sealed
        finished |= {path: path.stat().st_mtime_ns for path in sealed}
    assert finished
    assert '"status": "resumed"' in finish(start(folder, "killed", "--json"))
    assert files_below(out) == whole
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert '"status": "resumed"' not in finish(start(folder, "killed", "--json"))


def test_two_builds_at_once_share_the_work(folder: Path) -> None:
    finish(start(folder, "whole"))
    both = [start(folder, "both", "--json", pause_s=0.01) for _ in range(2)]
    outputs = [finish(process) for process in both]
    assert files_below(folder / "both") == files_below(folder / "whole")
    statuses = [output.count('"status": "built"') for output in outputs]
    assert sum(statuses) == 4, statuses
    assert "built by another process meanwhile" in "".join(outputs)


def test_a_build_goes_on_when_the_one_it_waits_for_is_killed(folder: Path) -> None:
    finish(start(folder, "whole"))
    first = start(folder, "out", pause_s=0.05)
    wait_for_shards(first, folder / "out", 2)
    second = start(folder, "out", "--json")
    time.sleep(1)
    first.kill()
    first.communicate()
    assert '"status": "resumed"' in finish(second)
    assert files_below(folder / "out") == files_below(folder / "whole")


def test_ctrl_c_ends_with_130_and_no_traceback(folder: Path) -> None:
    process = start(folder, "out", pause_s=0.05)
    wait_for_shards(process, folder / "out", 2)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stdout == ""
    assert "interrupted" in stderr
    assert "Traceback" not in stderr
    assert not list((folder / "out").rglob("*.tmp"))
    assert not list((folder / "out").rglob("one/train/manifest.json"))
    finish(start(folder, "out"))


def test_a_damaged_source_ends_with_1_and_its_place(folder: Path) -> None:
    file = folder / "mirror/two/train.jsonl"
    file.write_text(file.read_text() + "{\n")
    process = start(folder, "out")
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"{file}:2001: not JSON" in stderr
    assert "Traceback" not in stderr
    assert "3 splits built" in stdout


def peak_kib(folder: Path, num_rows: int) -> int:
    rows = random_rows("single", 2000)
    path = folder / "mirror/one/train.jsonl"
    path.unlink()
    write_jsonl(path, (rows[i % 2000] for i in range(num_rows)))
    command = [
        sys.executable,
        "-c",
        PEAK_MEMORY,
        *arguments(folder, f"out{num_rows}", "--jobs", "1"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stderr.rsplit("peak", 1)[1])


@pytest.mark.slow
def test_memory_does_not_grow_with_the_data(folder: Path) -> None:
    small, large = peak_kib(folder, 20_000), peak_kib(folder, 200_000)
    # Ten times the rows; what remains is the allocators' slack.
    assert large - small < 30 * 1024, f"{small} KiB for 20,000 rows, {large} KiB for 200,000"
