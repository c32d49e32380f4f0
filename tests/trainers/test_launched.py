"""Ranks started by torchrun, DeepSpeed's launcher or SLURM train as those that we start."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from launched_runs import assert_same_model, finish, start, train, wait_until_logged, write_run
from muppet_zoo_deepspeed.launch import free_port
from muppet_zoo_deepspeed.launched import first_host, launched_rank

from muppet_zoo.errors import UsageError

TORCHRUN = {"RANK": "1", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "a",
            "MASTER_PORT": "29500"}  # fmt: skip
SLURM = {"SLURM_PROCID": "3", "SLURM_LOCALID": "1", "SLURM_NTASKS": "4", "SLURM_JOB_ID": "12345",
         "SLURM_STEP_ID": "0", "SLURM_STEP_NODELIST": "gpu[07-09],cpu1"}  # fmt: skip


def test_variables_of_torchrun_are_taken_as_they_are() -> None:
    assert launched_rank({**TORCHRUN, **SLURM, "HOME": "/"}) == TORCHRUN


def test_those_of_slurm_are_translated() -> None:
    found = launched_rank(SLURM)
    port = found.pop("MASTER_PORT")
    assert found == {"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "gpu07"}
    assert 20_000 <= int(port) < 30_000
    assert launched_rank({**SLURM, "SLURM_PROCID": "0"})["MASTER_PORT"] == port
    for other in ({"SLURM_STEP_ID": "1"}, {"SLURM_JOB_ID": "12346"}, {"SLURM_JOB_ID": "odd_7"}):
        assert launched_rank({**SLURM, **other})["MASTER_PORT"] != port
    named = launched_rank({**SLURM, "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "1234"})
    assert (named["MASTER_ADDR"], named["MASTER_PORT"]) == ("10.0.0.1", "1234")


@pytest.mark.parametrize(
    ("nodes", "host"),
    [
        ("node1", "node1"),
        ("node1,node2", "node1"),
        ("gpu[07-09,12],cpu1", "gpu07"),
        ("rack2-[3,5]", "rack2-3"),
        ("n[1-2].example.org,m1", "n1.example.org"),
    ],
)
def test_the_first_host_of_a_list(nodes: str, host: str) -> None:
    assert first_host(nodes) == host


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({}, "no launcher has set RANK, .*SLURM_PROCID.*torchrun, deepspeed or srun"),
        ({**TORCHRUN, "WORLD_SIZE": "two"}, "WORLD_SIZE is 'two'; allowed: a number"),
        ({**TORCHRUN, "MASTER_PORT": "99999"}, "MASTER_PORT is 99999; .* from 1 to 65535 that is"),
        ({**TORCHRUN, "MASTER_PORT": "0"}, "MASTER_PORT is 0; allowed: a port from 1 to 65535"),
        ({**TORCHRUN, "MASTER_PORT": "9" * 5000}, "MASTER_PORT is '9+'; allowed: a number"),
        ({**TORCHRUN, "MASTER_PORT": "٣٠٠٠"}, "MASTER_PORT is '٣٠٠٠'; allowed: a number"),
        ({**SLURM, "MASTER_PORT": "65536"}, "MASTER_PORT is 65536; allowed: a port"),
        ({**TORCHRUN, "RANK": "2"}, "RANK is 2 and WORLD_SIZE is 2; ranks are numbered from 0"),
        ({**TORCHRUN, "RANK": "0", "WORLD_SIZE": "0"}, "RANK is 0 and WORLD_SIZE is 0"),
        ({**SLURM, "SLURM_STEP_NODELIST": ""}, "names no node; set MASTER_ADDR"),
    ],
)
def test_what_is_missing_is_named(environment: Mapping[str, str], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        launched_rank(environment)


def slurm(rank: int, port: int) -> dict[str, str]:
    return {"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank), "SLURM_NTASKS": "2",
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}  # fmt: skip


@pytest.mark.slow
def test_two_tasks_of_slurm_train_as_two_processes_of_ours(
    quickstart_data: Path, mixed_specs: Path, tmp_path: Path
) -> None:
    run, ours, theirs = write_run(tmp_path, quickstart_data, 6), tmp_path / "a", tmp_path / "b"
    [(code, _, said)] = finish(
        [start([sys.executable, *train(run, mixed_specs, ours, "--num-processes", "2")])]
    )
    assert code == 0, said
    port = free_port()
    both = [
        start([sys.executable, *train(run, mixed_specs, theirs, "--launched")], **slurm(rank, port))
        for rank in range(2)
    ]
    (first, told, errors), (second, nothing, _) = finish(both)
    assert (first, second) == (0, 0), errors
    assert "scores of" in told
    assert nothing == ""
    assert_same_model(ours, theirs)
    again = [
        start([sys.executable, *train(run, mixed_specs, theirs, "--launched")], **slurm(rank, port))
        for rank in range(2)
    ]
    for rank, (code, _, errors) in enumerate(finish(again)):
        assert code == 2
        assert f"process {rank} of 2 on " in errors
        assert "already holds a run; add --resume" in errors


def test_the_first_process_says_how_to_score_what_was_not(
    quickstart_data: Path, mixed_specs: Path, tmp_path: Path
) -> None:
    run, out = write_run(tmp_path, quickstart_data, 2), tmp_path / "out"
    options = ("--launched", "--set", "evaluation.at_end=false")
    alone = {**slurm(0, free_port()), "SLURM_NTASKS": "1"}
    command = [sys.executable, *train(run, mixed_specs, out, *options)]
    [(code, told, said)] = finish([start(command, **alone)])
    assert (code, told) == (0, ""), said
    assert "is not scored, since evaluation.at_end is false; score it with: muppet-zoo" in said


@pytest.mark.slow
def test_torchrun_on_two_nodes_and_a_rank_that_is_killed(
    quickstart_data: Path, mixed_specs: Path, tmp_path: Path
) -> None:
    """One launcher for each node, as on two machines; they meet at an address and port."""
    run, ours, theirs = write_run(tmp_path, quickstart_data, 400), tmp_path / "a", tmp_path / "b"
    [(code, _, said)] = finish(
        [start([sys.executable, *train(run, mixed_specs, ours, "--num-processes", "2")])]
    )
    assert code == 0, said

    def nodes(*more: str) -> list[subprocess.Popen[str]]:
        port = str(free_port())
        return [
            start([
                sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--node-rank", rank,
                "--nproc-per-node", "1", "--master-addr", "127.0.0.1", "--master-port", port,
                *train(run, mixed_specs, theirs, "--launched", *more),
            ])
            for rank in ("0", "1")
        ]  # fmt: skip

    both = nodes()
    wait_until_logged(theirs, 9)
    children = Path(f"/proc/{both[1].pid}/task/{both[1].pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGKILL)
    for code, _, said in finish(both):
        assert code != 0, said
    finished = finish(nodes("--resume"))
    assert [code for code, *_ in finished] == [0, 0], finished
    assert_same_model(ours, theirs)


@pytest.mark.slow
def test_deepspeeds_launcher_with_a_hostfile(
    quickstart_data: Path, mixed_specs: Path, tmp_path: Path
) -> None:
    run, ours, theirs = write_run(tmp_path, quickstart_data, 6), tmp_path / "a", tmp_path / "b"
    hosts = tmp_path / "hosts"
    hosts.write_text("localhost slots=2\n")
    launcher = [
        sys.executable, "-m", "deepspeed.launcher.runner", "--hostfile", str(hosts),
        "--no_ssh_check", "--no_local_rank", "--master_addr", "127.0.0.1",
        "--master_port", str(free_port()),
        "--module", *train(run, mixed_specs, theirs, "--launched")[1:],
    ]  # fmt: skip
    [(code, _, said)] = finish([start(launcher, DS_ACCELERATOR="cpu")])
    assert code == 0, said
    [(code, _, said)] = finish(
        [start([sys.executable, *train(run, mixed_specs, ours, "--num-processes", "2")])]
    )
    assert code == 0, said
    assert_same_model(ours, theirs)


def has_slurm() -> bool:
    """Whether there are SLURM's commands, and a controller that answers them."""
    if shutil.which("srun") is None:
        return False
    asked = subprocess.run(["scontrol", "ping"], capture_output=True, check=False, timeout=60)
    return asked.returncode == 0


@pytest.mark.slow
def test_srun(quickstart_data: Path, mixed_specs: Path, tmp_path: Path) -> None:
    """Where the commands of a SLURM cluster are, of one host or many."""
    if not has_slurm():
        pytest.skip("needs a SLURM cluster (packages slurmctld and slurmd); none answers here")
    run, ours, theirs = write_run(tmp_path, quickstart_data, 6), tmp_path / "a", tmp_path / "b"
    command = [sys.executable, *train(run, mixed_specs, theirs, "--launched")]
    [(code, told, said)] = finish(
        [start(["srun", "--ntasks", "2", "--kill-on-bad-exit=1", *command])]
    )
    assert code == 0, said
    assert "scores of" in told
    [(code, _, said)] = finish(
        [start([sys.executable, *train(run, mixed_specs, ours, "--num-processes", "2")])]
    )
    assert code == 0, said
    assert_same_model(ours, theirs)
