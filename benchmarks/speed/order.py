"""Finding any position of the order of 10^8 rows in 1,000 tasks, as rows of the table.

python -m benchmarks.speed.order [--rounds N]
"""

from __future__ import annotations

import tracemalloc

import click
import numpy as np

from benchmarks.speed.record import Goal, Row, Spread, interleave, rounds_option, seconds, write_row
from muppet_zoo.order import Order

NUM_ROWS, NUM_TASKS = 100_000_000, 1000
COMMAND = "python -m benchmarks.speed.order"
WHAT = "order of 10⁸ rows, 1,000 tasks"


def even_sizes(num_rows: int, num_tasks: int) -> tuple[int, ...]:
    """Rows of each task, as equal as can be."""
    each, more = divmod(num_rows, num_tasks)
    return (each + 1,) * more + (each,) * (num_tasks - more)


@click.command()
@rounds_option(101)
def main(rounds: int) -> None:
    """Measure, and store a row for time and one for memory."""
    sizes = even_sizes(NUM_ROWS, NUM_TASKS)
    positions = iter(np.random.default_rng(0).integers(0, NUM_ROWS, rounds + 2).tolist())

    def seek() -> None:
        Order(seed=1, task_sizes=sizes, quotas=sizes).draws(next(positions), 1)

    times = interleave({"seek": seconds(seek)}, rounds=rounds)["seek"]
    write_row(
        Row(
            name="order_seek",
            topic="order",
            what=f"{WHAT}: new, then the draw at any position",
            against="",
            goal=Goal(at_most=5.0, unit="ms"),
            figure=Spread.of([time * 1e3 for time in times]),
            command=COMMAND,
        )
    )
    tracemalloc.start()
    seek()
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    write_row(
        Row(
            name="order_memory",
            topic="order",
            what=f"{WHAT}: most memory held",
            against="",
            goal=Goal(at_most=10.0, unit="MB"),
            figure=Spread.once(peak_bytes / 1e6),
            command=COMMAND,
            notes="What Python and numpy allocate at the peak (tracemalloc).",
        )
    )


if __name__ == "__main__":
    main()
