"""What the contenders of the feed share: reading shards, padding, and timing micro-batches.

Standard library, numpy and pyarrow only, since every peer's environment runs it.

A batch of all contenders is (input_ids (B, T) int64, attention_mask (B, T) bool, tasks (B,) int).
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

PADDING_ID = 0
MAX_SECONDS = 5.0
Batch = tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.int64]]


def shard_files(shards: Path) -> list[list[str]]:
    """The shard files of each task."""
    tasks: list[list[str]] = json.loads(shards.read_text("utf-8"))
    return tasks


def token_ids(files: Sequence[str]) -> Iterator[NDArray[np.uint16]]:
    """The token ids of each row of one task."""
    for file in files:
        for batch in pa.ipc.open_stream(pa.memory_map(file)):
            column = batch.column("input_ids")
            values, offsets = column.values.to_numpy(), column.offsets.to_numpy()
            for start, end in pairwise(offsets):
                yield values[start:end]


def pad(sequences: Sequence[NDArray[Any]], tasks: Sequence[int]) -> Batch:
    """Lay out sequences as a batch."""
    lengths = np.array([len(sequence) for sequence in sequences])
    mask = np.arange(lengths.max()) < lengths[:, None]
    ids = np.full(mask.shape, PADDING_ID, dtype=np.int64)
    ids[mask] = np.concatenate(sequences)
    return ids, mask, np.array(tasks, dtype=np.int64)


def say(open_feed: Callable[[], Iterable[Batch]], num_tokens: int) -> None:
    """Run a feed until it gave `num_tokens` tokens, for `MAX_SECONDS`, or to its end; print JSON.

    first_s:  seconds from opening to the first batch.
    tokens_per_s:  tokens without padding of the batches after the first, over their seconds.
    peak_mb:  memory of the process and its workers at their peak, mapped files included.
    """
    start = time.perf_counter()
    feed = iter(open_feed())
    first = next(feed)
    first_seconds = time.perf_counter() - start
    seen = rows = batches = 0
    tasks = {int(task) for task in first[2]}
    start = time.perf_counter()
    for _, mask, of_tasks in feed:
        seen += int(mask.sum())
        rows += len(mask)
        batches += 1
        tasks.update(of_tasks.tolist())
        if seen >= num_tokens or time.perf_counter() - start > MAX_SECONDS:
            break
    seconds = time.perf_counter() - start
    print(
        json.dumps(
            {
                "first_s": first_seconds,
                "tokens_per_s": seen / seconds,
                "peak_mb": peak_mb(),
                "rows_per_batch": rows / batches,
                "tokens_per_batch": seen / batches,
                "tasks": len(tasks),
            }
        ),
        flush=True,
    )


def peak_mb() -> float:
    """Peak resident memory of this process and its children, from /proc (Linux).

    Not `ru_maxrss`, which begins with the peak of the process that started this one.
    """
    children = Path("/proc/self/task").glob("*/children")
    ids = ["self", *(pid for file in children for pid in file.read_text("utf-8").split())]
    return sum(_high_water_kb(pid) for pid in ids) / 1e3


def _high_water_kb(process: str) -> int:
    try:
        lines = Path(f"/proc/{process}/status").read_text("utf-8").splitlines()
    except FileNotFoundError:  # it ended meanwhile
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
