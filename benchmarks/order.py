"""What the order of examples costs: seeking by formula against a stored numpy permutation.

Run: python benchmarks/order.py [--json FILE]. One process; memory is what Python and numpy hold at
the peak (tracemalloc), times are medians. The permutation is what a sampler without a formula
makes before its first batch, and makes again when it resumes.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
import tracemalloc
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from muppet_zoo.batches import Batcher, Batching
from muppet_zoo.mixture import Rates
from muppet_zoo.order import Order, quotas

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from muppet_zoo.task_data import Columns


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured line: milliseconds (median of `repeats`) and peak megabytes."""

    name: str
    repeats: int
    time_ms: float
    peak_mb: float


@dataclass(frozen=True, kw_only=True)
class LengthsOnly:
    """A task of which only lengths exist, enough to plan steps."""

    lengths: NDArray[np.uint32]
    num_sequences: NDArray[np.uint16]
    head_type: str = "classification"

    def take(self, rows: NDArray[np.int64]) -> Columns:
        raise AssertionError(f"planning reads no rows, but asked for {len(rows)}")


def measure(name: str, action: Callable[[], object], repeats: int) -> Figure:
    """Times first, then one more run for memory, since tracing slows the timed code."""
    times_ms = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times_ms.append((time.perf_counter() - start) * 1e3)
    tracemalloc.start()
    action()
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return Figure(
        name=name,
        repeats=repeats,
        time_ms=round(statistics.median(times_ms), 3),
        peak_mb=round(peak_bytes / 1e6, 3),
    )


def even_order(num_rows: int, num_tasks: int) -> Order:
    sizes = tuple(len(part) for part in np.array_split(np.empty(num_rows, np.bool_), num_tasks))
    return Order(seed=1, task_sizes=sizes, quotas=sizes)


def skewed_batcher(num_rows: int, num_tasks: int) -> Batcher:
    """Tasks of lognormal sizes and token lengths, as in collections of language tasks."""
    rng = np.random.default_rng(0)
    shares = rng.lognormal(0.0, 1.5, num_tasks)
    sizes = [max(1, int(size)) for size in num_rows * shares / shares.sum()]
    tasks = []
    for size in sizes:
        lengths = rng.lognormal(rng.uniform(2.5, 4.2), 0.5, size).clip(4, 256).astype(np.uint32)
        tasks.append(LengthsOnly(lengths=lengths, num_sequences=np.ones(size, dtype=np.uint16)))
    order = Order(seed=1, task_sizes=tuple(sizes), quotas=quotas(sizes, Rates()))
    return Batcher(order=order, datas=tasks, batching=Batching())


def figures(num_rows: int, num_tasks: int, plan_rows: int, repeats: int) -> list[Figure]:
    order = even_order(num_rows, num_tasks)
    position = iter(np.random.default_rng(0).integers(0, num_rows, 100 * (repeats + 1)).tolist())
    batcher = skewed_batcher(plan_rows, 50)

    def construct_and_seek() -> None:
        fresh = Order(seed=1, task_sizes=order.task_sizes, quotas=order.quotas)
        fresh.draws(next(position), 1)

    size = f"{num_rows:.0e} rows, {num_tasks} tasks"
    return [
        measure(f"order: new, first draw anywhere ({size})", construct_and_seek, repeats),
        measure("order: seek, 1 draw", lambda: order.draws(next(position), 1), repeats),
        measure("order: seek, 4096 draws", lambda: order.draws(next(position), 4096), repeats),
        measure(
            f"numpy: permutation ({num_rows:.0e} rows)",
            lambda: np.random.default_rng(1).permutation(num_rows),
            1,
        ),
        measure(
            f"batcher: count the steps of an epoch ({plan_rows:.1e} rows, 50 tasks)",
            lambda: batcher.num_steps(1),
            min(3, repeats),
        ),
    ]


@click.command()
@click.option("--rows", default=100_000_000, show_default=True, help="Rows of the whole mixture.")
@click.option("--tasks", default=1000, show_default=True, help="Tasks that share the rows.")
@click.option("--plan-rows", default=4_800_000, show_default=True, help="Rows of a planned epoch.")
@click.option("--repeats", default=21, show_default=True, help="Timed runs of each seek.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Also write JSON here.")
def main(rows: int, tasks: int, plan_rows: int, repeats: int, json_file: Path | None) -> None:
    """Time and memory to find any position of the order, and to plan an epoch."""
    measured = figures(rows, tasks, plan_rows, repeats)
    width = max(len(figure.name) for figure in measured)
    click.echo(f"{'':{width}}  {'median ms':>12}  {'peak MB':>10}")
    for figure in measured:
        click.echo(f"{figure.name:{width}}  {figure.time_ms:12.3f}  {figure.peak_mb:10.3f}")
    if json_file is not None:
        versions = {"python": platform.python_version(), "numpy": np.__version__}
        report = {
            "command": f"--rows {rows} --tasks {tasks} --plan-rows {plan_rows}",
            "machine": {"architecture": platform.machine(), "cores": os.cpu_count()},
            "versions": versions,
            "figures": [asdict(figure) for figure in measured],
        }
        json_file.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
