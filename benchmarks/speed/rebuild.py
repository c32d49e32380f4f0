"""A second build of 200 tasks of which nothing changed, as a row of the table.

    python -m benchmarks.speed.rebuild [--rounds N]

The tasks are the quickstart's under other names, so no data is needed.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path

import click

from benchmarks.speed.record import Goal, Row, Spread, interleave, rounds_option, seconds, write_row
from muppet_zoo.build import BuildOptions, build
from muppet_zoo.encode import open_tokenizer
from muppet_zoo.zoo import load_zoo, shipped_specs

NUM_TASKS = 200
TOKENIZER = shipped_specs() / "quickstart" / "tiny_encoder"


@click.command()
@rounds_option(11)
def main(rounds: int) -> None:
    """Build once, measure building again, and store the row."""
    zoo = load_zoo()
    names = cycle(zoo.mixture("quickstart").tasks)
    tasks = [
        replace(zoo.task(name), name=f"{name}_{number}")
        for number, name in enumerate(islice(names, NUM_TASKS))
    ]
    tokenizer = open_tokenizer(str(TOKENIZER))
    with tempfile.TemporaryDirectory() as folder:

        def run() -> None:
            report = build(
                tasks, tokenizer=tokenizer, out=Path(folder), options=BuildOptions(limit=100)
            )
            if report.errors:
                raise click.ClickException(str(report.errors[0]))

        run()
        times = interleave({"again": seconds(run)}, rounds=rounds)["again"]
    write_row(
        Row(
            name="build_rebuild",
            topic="build",
            what=f"build again, nothing changed, {NUM_TASKS} tasks",
            against="",
            goal=Goal(at_most=1.0, unit="s"),
            figure=Spread.of(times),
            command="python -m benchmarks.speed.rebuild",
            notes="Without the start of Python and reading specs. At most 100 rows a split.",
        )
    )


if __name__ == "__main__":
    main()
