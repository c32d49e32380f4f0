"""The build of twelve real tasks against the least that it must do.

    python -m benchmarks.speed.build --mirror DIR [--rounds N]

Each build is cold: a process of its own, into an empty folder, from files that the system was asked
to drop from its cache. Both encode all rows that the mirror has of the tasks, on two cores.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from benchmarks.common import ROOT
from benchmarks.speed.inputs import (
    MAX_TOKENS,
    TASKS,
    WORK,
    check_mirror,
    encoder_folder,
    forget,
    make_bundle,
)
from benchmarks.speed.record import Goal, Row, interleave, medians, ratio, rounds_option, write_row

CONTENDERS = ROOT / "benchmarks" / "speed" / "contenders"


@click.command()
@click.option("--mirror", required=True, type=click.Path(path_type=Path, exists=True))
@rounds_option(5)
def main(mirror: Path, rounds: int) -> None:
    """Measure, and store the row."""
    check_mirror(mirror)
    tokenizer, bundle = str(encoder_folder() / "tokenizer.json"), make_bundle(mirror, None)
    limit = [sys.executable, str(CONTENDERS / "limit_build.py"), str(bundle), tokenizer]
    ours = [sys.executable, "-m", "benchmarks.speed.contenders.our_build", str(mirror), tokenizer]
    read = [bundle, *(mirror / task for task in TASKS)]
    rates = interleave(
        {
            "muppet-zoo": _rows_per_s(ours, ["0"], read),
            "limit": _rows_per_s(limit, [], read),
        },
        rounds=rounds,
    )
    write_row(
        Row(
            name="build_limit",
            topic="build",
            what="build, twelve real tasks, cold, two cores",
            against="reading, encoding on the tokenizer's threads, and writing plain Arrow",
            goal=Goal(at_least=0.85, unit="x"),
            figure=ratio(rates, over="muppet-zoo", under="limit"),
            command="python -m benchmarks.speed.build --mirror DIR",
            measured=medians(rates, "rows/s"),
            tried=(
                "Done: the tokenizer is loaded once a thread in place of once a split (16 % of "
                "the samples in which Python held its lock, py-spy --gil), label tables are "
                "remembered (8 %), Python looks for unused cycles a hundredth as often (0.9 of "
                "8.5 s), ids are copied as lists, nested values counted in one loop, lines come "
                "out of gzip without a call of Python's and examples are named tuples (4 %), and "
                "three splits are built at a time in place of two (4 %); pyarrow no longer "
                "imports pandas to make arrays (0.25 s). The rest is 3.3 s in "
                "which Python reads, checks and renders, of 12.5 s of two cores' time. Tried in "
                "vain: larger chunks, splits in other orders, more at a time. Not tried: a faster "
                "parser of JSON, which would tell other errors."
            ),
            notes=(
                "The limit reads texts that are rendered already, checks no row, and writes ids "
                "only; the build also hashes, describes, and flushes each split to the disk."
            ),
        )
    )


def _rows_per_s(
    command: Sequence[str], last: Sequence[str], read: Sequence[Path]
) -> Callable[[], float]:
    """A contender: one run of its script, into a folder that is removed before and after."""
    out = WORK / "built"

    def run() -> float:
        shutil.rmtree(out, ignore_errors=True)
        forget(*read)
        done = subprocess.run(
            [*command, str(out), str(MAX_TOKENS), *last],
            cwd=ROOT,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        shutil.rmtree(out)
        said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return float(said["rows"]) / float(said["seconds"])

    return run


if __name__ == "__main__":
    main()
