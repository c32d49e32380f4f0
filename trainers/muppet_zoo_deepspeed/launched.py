"""Ranks that somebody else started: torchrun, DeepSpeed's launcher, or SLURM's srun.

Each of them runs the same command once per rank, on one machine or several, and says in variables
of the environment which rank a process is. torchrun and DeepSpeed set those that torch.distributed
reads; SLURM has names of its own (https://slurm.schedmd.com/srun.html, "output environment
variables").
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping

from muppet_zoo.errors import UsageError

RANK_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_OF_SLURM = {"RANK": "SLURM_PROCID", "LOCAL_RANK": "SLURM_LOCALID", "WORLD_SIZE": "SLURM_NTASKS"}
_FIRST_PORT, _NUM_PORTS = 20_000, 10_000  # of those that we choose
_LAST_PORT = 65_535


def launched_rank(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that torch.distributed reads, from those that a launcher has set.

    Raises:
        UsageError: no launcher has set them, one of them is no number or no port, or the rank is
            not of them.
    """
    if all(name in environment for name in RANK_VARIABLES):
        found = {name: environment[name] for name in RANK_VARIABLES}
    elif all(name in environment for name in _OF_SLURM.values()):
        found = {name: environment[of_slurm] for name, of_slurm in _OF_SLURM.items()}
        nodes = environment.get("SLURM_STEP_NODELIST") or environment.get("SLURM_NODELIST", "")
        found["MASTER_ADDR"] = environment.get("MASTER_ADDR") or first_host(nodes)
        found["MASTER_PORT"] = environment.get("MASTER_PORT") or _port_of(environment)
    else:
        missing = [name for name in RANK_VARIABLES if name not in environment]
        raise UsageError(
            f"--launched: no launcher has set {', '.join(missing)}, nor "
            f"{', '.join(_OF_SLURM.values())}; start the command with torchrun, deepspeed or srun, "
            f"or leave --launched out"
        )
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_PORT"):
        # Nothing has ten digits, and int() refuses thousands of them.
        if not re.fullmatch(r"[0-9]{1,9}", found[name]):
            raise UsageError(f"--launched: {name} is {found[name]!r}; allowed: a number")
    if not 1 <= int(found["MASTER_PORT"]) <= _LAST_PORT:
        raise UsageError(
            f"--launched: MASTER_PORT is {found['MASTER_PORT']}; allowed: a port from 1 to "
            f"{_LAST_PORT} that is free on the host of the first rank"
        )
    if int(found["RANK"]) >= int(found["WORLD_SIZE"]):
        raise UsageError(
            f"--launched: RANK is {found['RANK']} and WORLD_SIZE is {found['WORLD_SIZE']}; ranks "
            f"are numbered from 0, so it waits for processes that never come"
        )
    return found


def _port_of(environment: Mapping[str, str]) -> str:
    """The same on all nodes, and another one for each job and each step of it."""
    names = [environment.get(name, "") for name in ("SLURM_JOB_ID", "SLURM_STEP_ID")]
    return str(_FIRST_PORT + zlib.crc32(".".join(names).encode()) % _NUM_PORTS)


def first_host(nodes: str) -> str:
    """The first name of a SLURM list of nodes: `gpu[07-09,12],cpu1` begins with gpu07.

    Raises:
        UsageError: it is no such list.
    """
    match = re.match(r"(?P<head>[^,\[\]]+)(\[(?P<number>\d+)[^\]]*\](?P<tail>[^,\[\]]*))?", nodes)
    if match is None:
        raise UsageError(
            f"--launched: SLURM_STEP_NODELIST is {nodes!r}, which names no node; set MASTER_ADDR "
            f"to the host of the first rank"
        )
    return match["head"] + (match["number"] or "") + (match["tail"] or "")
