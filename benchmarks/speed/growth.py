"""How the build's time grows with rows, as a figure and a row of the table.

python -m benchmarks.speed.growth

The slope is that of a line through the logarithms: 1 means that twice the rows take twice the time.
"""

from __future__ import annotations

import click
import matplotlib
import numpy as np

from benchmarks.speed.generated import generated_tasks, write_rows
from benchmarks.speed.inputs import MAX_TOKENS, WORK, encoder_folder
from benchmarks.speed.peers import OURS, run_contender
from benchmarks.speed.record import ROWS, Goal, Row, Spread, write_row

NUM_ROWS = (10_000, 100_000, 1_000_000)


@click.command()
def main() -> None:
    """Measure, draw, and store the row."""
    times = [build_seconds(rows) for rows in NUM_ROWS]
    slope = float(np.polyfit(np.log(NUM_ROWS), np.log(times), 1)[0])
    draw(times, slope)
    write_row(
        Row(
            name="growth_build",
            topic="build",
            what="how build time grows with rows, 10⁴ to 10⁶ (1: in proportion)",
            against="",
            goal=Goal(unit="slope"),
            figure=Spread.once(slope),
            command="python -m benchmarks.speed.growth",
            measured={
                f"{rows:,} rows [s]": took for rows, took in zip(NUM_ROWS, times, strict=True)
            },
            notes="One generated task, built once at each size. Figure: growth_build.svg.",
        )
    )


def build_seconds(rows: int) -> float:
    """Seconds to build so many generated rows of one task."""
    folder = WORK / f"memory-{rows}"
    if not (folder / "rows").is_dir():
        write_rows(folder / "rows", generated_tasks(1), rows)
    built, tokenizer = folder / "built", encoder_folder() / "tokenizer.json"
    said = run_contender(OURS, "generated_build", folder / "rows", 1, tokenizer, built, MAX_TOKENS)
    return float(said["seconds"])


def draw(times: list[float], slope: float) -> None:
    """The times over rows, both logarithmic, beside the stored rows."""
    matplotlib.use("svg")
    from matplotlib import pyplot

    matplotlib.rcParams["svg.hashsalt"] = "growth"
    figure, axes = pyplot.subplots(figsize=(4, 3), layout="constrained")
    axes.loglog(NUM_ROWS, times, marker="o")
    axes.set(xlabel="rows", ylabel="seconds", title=f"build, slope {slope:.2f}")
    figure.savefig(ROWS / "growth_build.svg", metadata={"Date": None})
    pyplot.close(figure)


if __name__ == "__main__":
    main()
