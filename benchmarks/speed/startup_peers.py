"""The light commands against those of lm_eval, as rows of the table.

python -m benchmarks.speed.startup_peers [--rounds N]
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from functools import partial

import click

from benchmarks.common import ROOT
from benchmarks.speed.peers import OURS, python_of, versions_of
from benchmarks.speed.record import Goal, Row, interleave, medians, ratio, rounds_option, write_row

# Ours, what comes nearest in lm_eval, and how the two differ.
COMMANDS = {
    "--help": (("--help",), "Both print the list of commands."),
    "list": (("ls", "tasks"), "lm_eval lists some 14,000 tasks, from as many files."),
    "validate": (
        ("validate", "--tasks", "hellaswag"),
        "Ours checks every spec of the zoo; lm_eval checks that the one named exists.",
    ),
}


@click.command()
@rounds_option(5)
def main(rounds: int) -> None:
    """Measure, and store a row for each command."""
    versions = versions_of("lm_eval")
    for ours, (theirs, notes) in COMMANDS.items():
        peer = f"lm_eval {' '.join(theirs)}"
        contenders: dict[str, Callable[[], float]] = {
            f"muppet-zoo {ours}": partial(run_ms, [OURS, "-m", "muppet_zoo", ours]),
            peer: partial(run_ms, [str(python_of("lm_eval")), "-m", "lm_eval", *theirs]),
        }
        times = interleave(contenders, rounds=rounds)
        write_row(
            Row(
                name=f"startup_{ours.strip('-')}_peer",
                topic="startup",
                what=f"muppet-zoo {ours}, times faster",
                against=peer,
                goal=Goal(unit="x"),
                figure=ratio(times, over=peer, under=f"muppet-zoo {ours}"),
                command="python -m benchmarks.speed.startup_peers",
                measured=medians(times, "ms"),
                peers=versions,
                notes=notes,
            )
        )


def run_ms(command: Sequence[str]) -> float:
    """Wall-clock milliseconds of one run, offline; fails where the command does."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    start = time.perf_counter()
    subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=True)
    return (time.perf_counter() - start) * 1e3


if __name__ == "__main__":
    main()
