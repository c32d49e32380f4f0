"""How cost grows: build, feed, order and step, over rows, tasks, lengths and processes.

    python -m benchmarks.speed.growth --mirror DIR [--only TOPIC] [--rows N]

A figure for each of the four, and a row of the table for each of its panels. The slope is that of a
line through the logarithms: 1 means that twice as much costs twice as much, 0 that it costs nothing
more. Rows, texts and labels are generated, but for processes, which train on real ones.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import matplotlib
import numpy as np

from benchmarks.invented import invented, micro_batches
from benchmarks.speed.generated import generated_shards, run_build
from benchmarks.speed.inputs import encoder_folder
from benchmarks.speed.order import even_sizes
from benchmarks.speed.peers import OURS, run_contender
from benchmarks.speed.record import ROWS, Goal, Row, Spread, Topic, seconds, write_row
from benchmarks.speed.training.overheads import head_steps
from benchmarks.speed.training.processes import run_rate
from muppet_zoo.order import Order

COMMAND = "python -m benchmarks.speed.growth --mirror DIR"
TOKENS = 3_000_000  # of all texts together, where lengths grow
TOKENS_PER_BATCH, TOKENS_PER_STEP = 4096, 2048
ENOUGH_S = 5.0  # what took longer is not measured again


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One curve: what is measured, at which sizes of what, in which unit."""

    topic: Topic
    by: str
    sizes: tuple[int, ...]
    unit: str
    notes: str
    measure: Callable[[int], float]


@click.command()
@click.option("--mirror", required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--only", type=click.Choice(("build", "feed", "order", "step")))
@click.option(
    "--rows",
    default=1_000_000,
    show_default=True,
    type=click.IntRange(min=100_000),
    help="Most rows of build and feed.",
)
def main(mirror: Path, only: str | None, rows: int) -> None:
    """Measure, draw, and store the rows. Ten million rows take a quarter of an hour more."""
    panels = [panel for panel in all_panels(mirror, rows) if only in (None, panel.topic)]
    for topic in dict.fromkeys(panel.topic for panel in panels):
        curves = [
            (p, [typical(p.measure, size) for size in p.sizes]) for p in panels if p.topic == topic
        ]
        draw(topic, curves)
        for panel, values in curves:
            write_row(row_of(panel, values))


def all_panels(mirror: Path, most_rows: int) -> list[Panel]:
    """In the order of the table."""
    powers = (10**power for power in range(4, len(str(most_rows))))
    rows_of_all = tuple(dict.fromkeys((*powers, most_rows)))
    return [
        Panel(
            topic="build", by="rows", sizes=rows_of_all, unit="s",
            notes="One task.", measure=lambda rows: float(run_build(rows)["seconds"]),
        ),
        Panel(
            topic="build", by="tasks", sizes=(1, 10, 100, 1000), unit="s",
            notes="100,000 rows in all.",
            measure=lambda tasks: float(run_build(100_000, tasks)["seconds"]),
        ),
        Panel(
            topic="build", by="longest text", sizes=(32, 128, 512), unit="s",
            notes="One task; the fewer rows, the longer they are.",
            measure=lambda longest: float(run_build(rows_of(longest), 1, longest)["seconds"]),
        ),
        Panel(
            topic="feed", by="rows", sizes=rows_of_all, unit="s a million tokens",
            notes="12 tasks.", measure=lambda rows: feed_seconds(rows, 12),
        ),
        Panel(
            topic="feed", by="tasks", sizes=(1, 10, 100, 1000), unit="s a million tokens",
            notes="100,000 rows in all, equally many of each task.",
            measure=lambda tasks: feed_seconds(100_000, tasks),
        ),
        Panel(
            topic="feed", by="longest text", sizes=(32, 128, 512), unit="s a million tokens",
            notes="12 tasks; the fewer rows, the longer they are.",
            measure=lambda longest: feed_seconds(rows_of(longest), 12, longest),
        ),
        Panel(
            topic="feed", by="processes", sizes=(1, 4, 16, 64), unit="s a million tokens of all",
            notes="12 tasks, 1,000,000 rows; the share of one process, which plans all: −1 is "
            "ideal.",
            measure=lambda processes: feed_seconds(10**6, 12, processes=processes),
        ),
        Panel(
            topic="order", by="rows", sizes=(10**4, 10**6, 10**8, 10**10), unit="ms",
            notes="1,000 tasks; new, then the draw at a random position.",
            measure=lambda rows: seek_ms(rows, 1000),
        ),
        Panel(
            topic="order", by="tasks", sizes=(1, 10, 100, 1000), unit="ms",
            notes="10⁸ rows; new, then the draw at a random position.",
            measure=lambda tasks: seek_ms(10**8, tasks),
        ),
        Panel(
            topic="step", by="tasks", sizes=(1, 10, 100, 1000), unit="s",
            notes="MiniLM, 2,048 tokens a step of texts of at most 128; each row another head's.",
            measure=lambda tasks: step_seconds(128, tasks),
        ),
        Panel(
            topic="step", by="longest text", sizes=(32, 128, 512), unit="s",
            notes="MiniLM, 2,048 tokens a step; 10 heads.",
            measure=lambda longest: step_seconds(longest, 10),
        ),
        Panel(
            topic="step", by="processes", sizes=(1, 2), unit="s a million tokens",
            notes="MiniLM on ten real tasks, DeepSpeed, a thread each on two cores: −1 is ideal.",
            measure=lambda processes: 1e6 / run_rate(mirror, "deepspeed", processes, threads=1),
        ),
    ]  # fmt: skip


def typical(measure: Callable[[int], float], size: int) -> float:
    """The median of three measurements; the only one where it takes long."""
    start = time.perf_counter()
    values = [measure(size)]
    if time.perf_counter() - start < ENOUGH_S:
        values += [measure(size) for _ in range(2)]
    return float(np.median(values))


def slope_of(sizes: Sequence[int], values: Sequence[float]) -> float:
    """Of the line through the logarithms, by least squares."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def rows_of(longest: int) -> int:
    """So many rows that all together have about `TOKENS` tokens."""
    return round(TOKENS / float(invented(4096, longest, 2).lengths.mean()))


def feed_seconds(num_rows: int, num_tasks: int, longest: int = 128, *, processes: int = 1) -> float:
    """Seconds in which each of some processes gets its share of a million tokens."""
    built, _ = generated_shards(num_rows, num_tasks, longest)
    said = run_contender(OURS, "our_feed", built, TOKENS_PER_BATCH, TOKENS, processes)
    return 1e6 / processes / float(said["tokens_per_s"])


def seek_ms(num_rows: int, num_tasks: int) -> float:
    """Milliseconds, as the mean of a hundred positions."""
    sizes = even_sizes(num_rows, num_tasks)
    positions = np.random.default_rng(0).integers(0, num_rows, 100).tolist()

    def seek() -> None:
        for position in positions:
            Order(seed=1, task_sizes=sizes, quotas=sizes).draws(position, 1)

    return 1e3 * seconds(seek)() / len(positions)


def step_seconds(longest: int, num_heads: int, num_steps: int = 4) -> float:
    """Seconds of a step, after one that does not count."""
    data = invented(4096, longest, 30_000)
    step = head_steps(encoder_folder(), micro_batches(data, TOKENS_PER_STEP, num_steps), num_heads)
    step()
    return seconds(step)() / num_steps


def row_of(panel: Panel, values: Sequence[float]) -> Row:
    """A row that promises nothing."""
    many_rows = panel.by == "rows" and panel.topic != "order"
    return Row(
        name=f"growth_{panel.topic}_{panel.by.replace(' ', '_')}",
        topic=panel.topic,
        what=f"growth of {panel.topic} with {panel.by}, {panel.sizes[0]:,} to {panel.sizes[-1]:,}",
        against="",
        goal=Goal(unit="slope"),
        figure=Spread.once(slope_of(panel.sizes, values)),
        command=COMMAND + (f" --rows {panel.sizes[-1]}" if many_rows else ""),
        measured={
            f"{size:,} [{panel.unit}]": value
            for size, value in zip(panel.sizes, values, strict=True)
        },
        notes=f"{panel.notes} Figure: growth_{panel.topic}.svg.",
    )


def shortened(size: int) -> str:
    """10,000 as 10⁴; small numbers as they are."""
    exponent = len(str(size)) - 1
    if size < 10_000 or size != 10**exponent:
        return f"{size:,}"
    return "10" + str(exponent).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))


def draw(topic: str, curves: Sequence[tuple[Panel, Sequence[float]]]) -> None:
    """One panel beside the other, all axes logarithmic, beside the stored rows."""
    matplotlib.use("svg")
    from matplotlib import pyplot
    from matplotlib.ticker import LogLocator, NullFormatter

    matplotlib.rcParams["svg.hashsalt"] = "growth"
    figure, axes = pyplot.subplots(
        1, len(curves), figsize=(3.2 * len(curves), 2.8), layout="constrained", squeeze=False
    )
    for panel, (described, values) in zip(axes[0], curves, strict=True):
        panel.loglog(described.sizes, values, marker="o")
        panel.set(
            xlabel=described.by, ylabel=described.unit, ylim=(min(values) / 2, 2 * max(values)),
            title=f"slope {slope_of(described.sizes, values):.2f}",
        )  # fmt: skip
        panel.set_xticks(described.sizes, [shortened(size) for size in described.sizes])
        panel.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        panel.yaxis.set_major_formatter("{x:g}")
        for axis in (panel.xaxis, panel.yaxis):
            axis.set_minor_formatter(NullFormatter())
    figure.suptitle(topic)
    metadata: dict[str, Any] = {"Date": None}
    figure.savefig(ROWS / f"growth_{topic}.svg", metadata=metadata)
    pyplot.close(figure)


if __name__ == "__main__":
    main()
