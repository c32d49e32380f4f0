"""HF datasets: interleave tasks by their sizes, then read one row far into the mixture.

python -m benchmarks.speed.contenders.hf_order NUM_ROWS NUM_TASKS
"""

import json
import sys
import time

import datasets
import numpy as np
import pyarrow as pa

from benchmarks.speed.contenders.feeding import peak_mb


def main(num_rows: int, num_tasks: int) -> None:
    """Time from the tasks' tables to the row in the middle, and what memory it took."""
    column = pa.table({"row": np.arange(num_rows // num_tasks)})
    tasks = [datasets.Dataset(column) for _ in range(num_tasks)]
    before_mb, start = peak_mb(), time.perf_counter()
    shares = [1 / num_tasks] * num_tasks
    mixed = datasets.interleave_datasets(tasks, shares, seed=1, stopping_strategy="all_exhausted")
    _ = mixed[len(mixed) // 2]
    seconds = time.perf_counter() - start
    print(json.dumps({"ms": seconds * 1e3, "mb": peak_mb() - before_mb}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
