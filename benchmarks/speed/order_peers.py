"""Finding a position far into the order of 10^6 rows, against `interleave_datasets`, as a row.

python -m benchmarks.speed.order_peers [--rounds N]
"""

from __future__ import annotations

import click
import numpy as np

from benchmarks.speed.order import even_sizes
from benchmarks.speed.peers import python_of, run_contender, versions_of
from benchmarks.speed.record import (
    Goal,
    Row,
    interleave,
    medians,
    ratio,
    rounds_option,
    seconds,
    write_row,
)
from muppet_zoo.order import Order

NUM_ROWS, NUM_TASKS = 1_000_000, 100


@click.command()
@rounds_option(5)
def main(rounds: int) -> None:
    """Measure, and store the row."""
    sizes = even_sizes(NUM_ROWS, NUM_TASKS)
    megabytes: list[float] = []

    def theirs() -> float:
        said = run_contender(python_of("hf"), "hf_order", NUM_ROWS, NUM_TASKS)
        megabytes.append(said["mb"])
        return float(said["ms"])

    def seek() -> None:
        Order(seed=1, task_sizes=sizes, quotas=sizes).draws(NUM_ROWS // 2, 1)

    ours = seconds(seek)
    times = interleave(
        {"muppet-zoo": lambda: 1e3 * ours(), "interleave_datasets": theirs}, rounds=rounds
    )
    write_row(
        Row(
            name="order_peer",
            topic="order",
            what="order of 10⁶ rows, 100 tasks: new, then the row in the middle, times faster",
            against="interleave_datasets",
            goal=Goal(unit="x"),
            figure=ratio(times, over="interleave_datasets", under="muppet-zoo"),
            command="python -m benchmarks.speed.order_peers",
            measured={
                **medians(times, "ms"),
                "interleave_datasets [MB]": float(np.median(megabytes)),
            },
            peers=versions_of("hf"),
            notes="It makes a list of indices first, and does not shuffle the rows of a task.",
        )
    )


if __name__ == "__main__":
    main()
