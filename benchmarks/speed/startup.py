"""The light commands, from the shell's call to their end, as rows of the table.

python -m benchmarks.speed.startup [--rounds N]
"""

from __future__ import annotations

import subprocess
import sys
import time
from functools import partial

import click

from benchmarks.speed.record import (
    Goal,
    Row,
    Spread,
    interleave,
    medians,
    ratio,
    rounds_option,
    write_row,
)

COMMANDS = {
    "python -c pass": ("-c", "pass"),
    "muppet-zoo --help": ("-m", "muppet_zoo", "--help"),
    "muppet-zoo list": ("-m", "muppet_zoo", "list"),
    "muppet-zoo validate": ("-m", "muppet_zoo", "validate"),
}
LIMITS_MS = {"muppet-zoo --help": 150.0, "muppet-zoo list": 400.0, "muppet-zoo validate": 2000.0}


@click.command()
@rounds_option(15)
def main(rounds: int) -> None:
    """Measure, and store a row for each command."""
    times = interleave(
        {name: partial(run_once_ms, arguments) for name, arguments in COMMANDS.items()},
        rounds=rounds,
    )
    for name, limit_ms in LIMITS_MS.items():
        over_empty = ratio(times, over=name, under="python -c pass")
        write_row(
            Row(
                name="startup_" + name.split()[-1].strip("-"),
                topic="startup",
                what=name,
                against="",
                goal=Goal(at_most=limit_ms, unit="ms"),
                figure=Spread.of(times[name]),
                command="python -m benchmarks.speed.startup",
                measured={
                    **medians({each: times[each] for each in (name, "python -c pass")}, "ms"),
                    "times an empty Python process": over_empty.median,
                },
            )
        )


def run_once_ms(arguments: tuple[str, ...]) -> float:
    """Wall-clock milliseconds of one run; fails where the command does."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
    return (time.perf_counter() - start) * 1e3


if __name__ == "__main__":
    main()
