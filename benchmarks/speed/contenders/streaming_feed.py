"""mosaicml-streaming: one local MDS stream a task, shuffled, batches mixed at random.

python -m benchmarks.speed.contenders.streaming_feed prepare SHARDS STORE
python -m benchmarks.speed.contenders.streaming_feed feed STORE ROWS WORKERS NUM_TOKENS
"""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from streaming import MDSWriter, Stream, StreamingDataLoader, StreamingDataset
from streaming.base.util import clean_stale_shared_memory

from benchmarks.speed.contenders.feeding import Batch, pad, say, shard_files, token_ids

COLUMNS = {"ids": "ndarray:uint16", "task": "int"}


def prepare(shards: Path, store: Path) -> None:
    """Write the rows of each task in its format."""
    for task, files in enumerate(shard_files(shards)):
        with MDSWriter(out=str(store / f"{task:04}"), columns=COLUMNS) as writer:
            for ids in token_ids(files):
                writer.write({"ids": ids, "task": task})


def feed(store: Path, rows: int, workers: int) -> Iterable[Batch]:
    """One epoch; `stratified` would refuse tasks with less than a row a batch."""
    mixed = StreamingDataset(
        streams=[Stream(local=str(folder)) for folder in sorted(store.iterdir())],
        shuffle=True,
        batch_size=rows,
        batching_method="random",
    )
    loader: Iterable[Batch] = StreamingDataLoader(
        mixed, batch_size=rows, num_workers=workers, collate_fn=_collate
    )
    return loader


def _collate(rows: list[dict[str, Any]]) -> Batch:
    return pad([row["ids"] for row in rows], [row["task"] for row in rows])


if __name__ == "__main__":
    if sys.argv[1] == "prepare":
        prepare(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        clean_stale_shared_memory()
        store, rows, workers = Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
        say(lambda: feed(store, rows, workers), int(sys.argv[5]))
