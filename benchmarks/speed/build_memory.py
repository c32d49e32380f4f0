"""Peak memory of a build of a million rows against one of a tenth, as a row of the table.

python -m benchmarks.speed.build_memory [--rows N]
"""

from __future__ import annotations

import click

from benchmarks.speed.generated import run_build
from benchmarks.speed.record import Goal, Row, Spread, write_row


@click.command()
@click.option("--rows", default=1_000_000, show_default=True)
def main(rows: int) -> None:
    """Build twice, each time in a new process, and store the row."""
    few, many = peak_mb(rows // 10), peak_mb(rows)
    write_row(
        Row(
            name="build_memory",
            topic="build",
            what=f"peak memory of a build of {rows:,} rows",
            against=f"of {rows // 10:,} rows",
            goal=Goal(at_most=1.1, unit="x"),
            figure=Spread.once(many / few),
            command="python -m benchmarks.speed.build_memory",
            measured={f"{rows // 10:,} rows [MB]": few, f"{rows:,} rows [MB]": many},
            notes="One generated task; the peak of a process of its own (VmHWM).",
        )
    )


def peak_mb(rows: int) -> float:
    """The peak of a new process that builds so many rows of one task."""
    said = run_build(rows)
    return float(said["peak_mb"])


if __name__ == "__main__":
    main()
