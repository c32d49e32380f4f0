"""HF datasets: `interleave_datasets`, then a DataLoader, in two of its documented ways.

    python -m benchmarks.speed.contenders.hf_feed map|iterable SHARDS ROWS WORKERS NUM_TOKENS

map:      memory-mapped tables and an index list, shuffled by the DataLoader, fetched by batch.
iterable: `to_iterable_dataset` of shuffled shards, the faster for sequential reads.
"""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from torch.utils.data import DataLoader

from benchmarks.speed.contenders.feeding import Batch, pad, say, shard_files

BUFFER_ROWS = 1000


def _tables(shards: Path) -> list[datasets.Dataset]:
    tables = []
    for task, files in enumerate(shard_files(shards)):
        table = datasets.concatenate_datasets([datasets.Dataset.from_file(file) for file in files])
        table = table.select_columns(["input_ids"])
        tables.append(table.add_column("task", np.full(len(table), task)))
    return tables


def by_map(shards: Path, rows: int, workers: int) -> Iterable[Batch]:
    """Any row at any time."""
    tables = _tables(shards)
    mixed = datasets.interleave_datasets(
        tables, _shares(tables), seed=1, stopping_strategy="all_exhausted"
    )
    return DataLoader(mixed, rows, shuffle=True, num_workers=workers, collate_fn=_collate)


def by_iterable(shards: Path, rows: int, workers: int) -> Iterable[Batch]:
    """Row after row of each task, through a shuffle buffer."""
    tables = _tables(shards)
    streams = [table.to_iterable_dataset(num_shards=max(1, workers)) for table in tables]
    mixed = datasets.interleave_datasets(
        streams, _shares(tables), seed=1, stopping_strategy="all_exhausted"
    )
    mixed = mixed.shuffle(seed=1, buffer_size=BUFFER_ROWS).with_format("numpy")
    return DataLoader(mixed, rows, num_workers=workers, collate_fn=_collate)


def _shares(tables: list[datasets.Dataset]) -> list[float]:
    sizes = np.array([len(table) for table in tables])
    shares: list[float] = (sizes / sizes.sum()).tolist()
    return shares


def _collate(rows: list[dict[str, Any]]) -> Batch:
    return pad([row["input_ids"] for row in rows], [int(row["task"]) for row in rows])


if __name__ == "__main__":
    datasets.disable_progress_bars()
    way = {"map": by_map, "iterable": by_iterable}[sys.argv[1]]
    shards, rows, workers = Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    say(lambda: way(shards, rows, workers), int(sys.argv[5]))
