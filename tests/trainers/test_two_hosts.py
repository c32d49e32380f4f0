"""Two hosts: network namespaces of one machine, joined by nothing but a virtual cable.

Each has interfaces and ports of its own, so ranks meet over the network or not at all, and the
cable can be cut. What they share is the disk, as hosts of a cluster do.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from launched_runs import assert_same_model, finish, start, train, wait_until_logged, write_run

ADDRESSES = ("10.77.0.1", "10.77.0.2")
PORT = "29511"


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


def why_no_namespaces() -> str:
    """What keeps this machine from having network namespaces; empty where it has them."""
    if shutil.which("ip") is None:
        return "needs the command ip (package iproute2)"
    probe = f"mz-probe-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True)
    if made.returncode != 0:
        return f"may not make network namespaces: {made.stderr.strip()}"
    ip("netns", "delete", probe)
    return ""


@pytest.fixture
def hosts() -> Iterator[tuple[str, str]]:
    """Two namespaces that reach each other at ADDRESSES, on interfaces named `cable`."""
    if reason := why_no_namespaces():
        pytest.skip(reason)
    names = (f"mz-a-{os.getpid()}", f"mz-b-{os.getpid()}")
    try:
        for name in names:
            ip("netns", "add", name)
        ends = ("cable", "netns", names[0]), ("cable", "netns", names[1])
        ip("link", "add", "name", *ends[0], "type", "veth", "peer", "name", *ends[1])
        for name, address in zip(names, ADDRESSES, strict=True):
            ip("-n", name, "address", "add", f"{address}/24", "dev", "cable")
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", name, "link", "set", "cable", "up")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


def start_on(host: str, command: Sequence[str]) -> subprocess.Popen[str]:
    # gloo asks for the address of the host's name, which is that of the whole machine here.
    return start(
        ["ip", "netns", "exec", host, sys.executable, *command],
        GLOO_SOCKET_IFNAME="cable", DS_ACCELERATOR="cpu",
    )  # fmt: skip


def torchrun(hosts: Sequence[str], command: Sequence[str]) -> list[subprocess.Popen[str]]:
    """A launcher on each host, with one process."""
    launcher = (
        "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1",
        "--master-addr", ADDRESSES[0], "--master-port", PORT,
    )  # fmt: skip
    return [
        start_on(host, [*launcher, "--node-rank", str(node), *command])
        for node, host in enumerate(hosts)
    ]


def train_here(run: Path, specs: Path, out: Path) -> None:
    """The same run on two processes of one host, to compare with."""
    command = [sys.executable, *train(run, specs, out, "--num-processes", "2")]
    [(code, _, said)] = finish([start(command)])
    assert code == 0, said


@pytest.mark.slow
def test_torchrun_on_two_hosts(
    hosts: tuple[str, str], quickstart_data: Path, mixed_specs: Path, tmp_path: Path
) -> None:
    run, ours, theirs = write_run(tmp_path, quickstart_data, 6), tmp_path / "a", tmp_path / "b"
    command = train(run, mixed_specs, theirs, "--launched")
    for code, _, said in finish(torchrun(hosts, command)):
        assert code == 0, said
    train_here(run, mixed_specs, ours)
    assert_same_model(ours, theirs)


@pytest.mark.slow
def test_deepspeeds_launcher_on_two_hosts(
    hosts: tuple[str, str], quickstart_data: Path, mixed_specs: Path, tmp_path: Path
) -> None:
    """One launcher for each host of the hostfile, since the hosts here have no ssh between them."""
    run, ours, theirs = write_run(tmp_path, quickstart_data, 6), tmp_path / "a", tmp_path / "b"
    hostfile = tmp_path / "hosts"
    hostfile.write_text("".join(f"{address} slots=1\n" for address in ADDRESSES))
    command = ["--no_local_rank", "--module", *train(run, mixed_specs, theirs, "--launched")[1:]]
    both = [
        start_on(host, [
            "-m", "deepspeed.launcher.runner", "--hostfile", str(hostfile), "--no_ssh",
            "--node_rank", str(node), "--master_addr", ADDRESSES[0], "--master_port", PORT,
            *command,
        ])
        for node, host in enumerate(hosts)
    ]  # fmt: skip
    for code, _, said in finish(both):
        assert code == 0, said
    train_here(run, mixed_specs, ours)
    assert_same_model(ours, theirs)


@pytest.mark.slow
def test_a_host_that_cannot_be_reached_any_more(
    hosts: tuple[str, str], quickstart_data: Path, mixed_specs: Path, tmp_path: Path
) -> None:
    """The cable is cut: neither side hears anything, and both give up within the timeout."""
    run, ours, theirs = write_run(tmp_path, quickstart_data, 300), tmp_path / "a", tmp_path / "b"
    command = train(run, mixed_specs, theirs, "--launched", "--set", "deepspeed.timeout_minutes=1")
    both = torchrun(hosts, command)
    wait_until_logged(theirs, 9)
    ip("-n", hosts[1], "link", "set", "cable", "down")
    cut = time.monotonic()
    ended = finish(both)
    assert time.monotonic() - cut < 60 + 60
    for rank, (code, _, said) in enumerate(ended):
        assert code != 0
        assert f"process {rank} of 2 on " in said
    ip("-n", hosts[1], "link", "set", "cable", "up")
    for code, _, said in finish(torchrun(hosts, [*command, "--resume"])):
        assert code == 0, said
    train_here(run, mixed_specs, ours)
    assert_same_model(ours, theirs)


@pytest.mark.slow
def test_a_host_that_loses_its_power(
    hosts: tuple[str, str], quickstart_data: Path, mixed_specs: Path, tmp_path: Path
) -> None:
    """Every process of the second host dies at once; the first one ends, and says so."""
    run, theirs = write_run(tmp_path, quickstart_data, 300), tmp_path / "b"
    command = train(run, mixed_specs, theirs, "--launched", "--set", "deepspeed.timeout_minutes=1")
    both = torchrun(hosts, command)
    wait_until_logged(theirs, 9)
    there = subprocess.run(
        ["ip", "netns", "pids", hosts[1]], check=True, capture_output=True, text=True
    )
    died = time.monotonic()
    for pid in there.stdout.split():
        os.kill(int(pid), signal.SIGKILL)
    (code, _, said), _ = finish(both)
    assert time.monotonic() - died < 60 + 60
    assert code != 0
    assert "process 0 of 2 on " in said
