"""litdata: one store of chunks a task, shuffled, mixed by CombinedStreamingDataset.

python -m benchmarks.speed.contenders.litdata_feed prepare SHARDS STORE
python -m benchmarks.speed.contenders.litdata_feed feed STORE ROWS WORKERS NUM_TOKENS
"""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from litdata import CombinedStreamingDataset, StreamingDataLoader, StreamingDataset
from litdata.streaming import Cache

from benchmarks.speed.contenders.feeding import Batch, pad, say, shard_files, token_ids


def prepare(shards: Path, store: Path) -> None:
    """Write the rows of each task in its format, as its `optimize` does in its workers."""
    for task, files in enumerate(shard_files(shards)):
        folder = store / f"{task:04}"
        folder.mkdir(parents=True)
        cache = Cache(str(folder), chunk_bytes="64MB")
        for number, ids in enumerate(token_ids(files)):
            cache[number] = {"ids": ids.astype("int32"), "task": task}
        cache.done()
        cache.merge()


def feed(store: Path, rows: int, workers: int) -> Iterable[Batch]:
    """One epoch; rows are drawn in proportion to the tasks' sizes, which are equal here."""
    tasks = [
        StreamingDataset(str(folder), shuffle=True, seed=1) for folder in sorted(store.iterdir())
    ]
    mixed = CombinedStreamingDataset(tasks, seed=1, iterate_over_all=False, weights=_equal(tasks))
    loader: Iterable[Batch] = StreamingDataLoader(
        mixed, batch_size=rows, num_workers=workers, collate_fn=_collate
    )
    return loader


def _equal(tasks: list[Any]) -> list[float]:
    return [1 / len(tasks)] * len(tasks)


def _collate(rows: list[dict[str, Any]]) -> Batch:
    return pad([row["ids"] for row in rows], [row["task"] for row in rows])


if __name__ == "__main__":
    if sys.argv[1] == "prepare":
        prepare(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        store, rows, workers = Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
        say(lambda: feed(store, rows, workers), int(sys.argv[5]))
