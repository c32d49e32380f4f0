"""Shards: Arrow IPC stream files of encoded examples, their writer and their memory-mapped reader.

Stream files, not the random-access kind, because `datasets.Dataset.from_file` opens only those.
Each chunk of source rows is one record batch, so writing needs the memory of one chunk, and reading
maps the file and hands out numpy slices of it: nothing is copied, decoded or kept. Lengths come
from Arrow's list offsets, so planning batches never touches a token id.
"""

from __future__ import annotations

import hashlib
import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from muppet_zoo.errors import ShardError, UnknownNameError
from muppet_zoo.file_tools import flush_folder, sha256_of
from muppet_zoo.fingerprints import fingerprint_of
from muppet_zoo.generation import Generation
from muppet_zoo.manifests import Manifest, ShardInfo, Statistics, read_manifest
from muppet_zoo.spec import TaskSpec
from muppet_zoo.task_data import Lists, Part, Ranges, Record

__all__ = [
    "BuiltSplit",
    "Manifest",
    "Records",
    "ShardInfo",
    "ShardWriter",
    "Statistics",
    "open_task",
    "verify",
]


class ShardWriter:
    """Writes one shard: to a `.tmp` file first, which takes its name when it is whole."""

    def __init__(self, path: Path) -> None:
        self.num_examples = 0
        self._path = path
        self._temporary = path.with_name(path.name + ".tmp")
        self._sink = _HashingFile(self._temporary)
        self._writer: Any = None

    def write(self, batch: pa.RecordBatch) -> None:
        """Append a record batch; all batches of a shard have one schema."""
        if self._writer is None:
            self._writer = pa.ipc.new_stream(pa.PythonFile(self._sink, mode="w"), batch.schema)
        self._writer.write_batch(batch)
        self.num_examples += batch.num_rows

    def finish(self, *, first_row: int, next_row: int, num_tokens: int) -> ShardInfo:
        """Flush, rename, and describe the shard."""
        self._writer.close()
        self._sink.flush_to_disk()
        num_bytes, sha256 = self._sink.num_bytes, self._sink.hexdigest()
        self._sink.close()
        self._temporary.replace(self._path)
        flush_folder(self._path.parent)
        return ShardInfo(
            file=self._path.name,
            rows=self.num_examples,
            tokens=num_tokens,
            num_bytes=num_bytes,
            sha256=sha256,
            first_row=first_row,
            next_row=next_row,
        )

    def discard(self) -> None:
        """Remove the shard if it was not finished; else do nothing."""
        self._sink.close()
        self._temporary.unlink(missing_ok=True)


class _HashingFile:
    """A file that hashes what is written, so that a shard need not be read again for its digest."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._digest = hashlib.sha256()
        self.num_bytes = 0

    def write(self, data: Any) -> int:
        self._digest.update(data)
        self.num_bytes += len(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()

    def flush_to_disk(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())

    def hexdigest(self) -> str:
        return self._digest.hexdigest()

    @property
    def closed(self) -> bool:
        return self._file.closed

    def close(self) -> None:
        self._file.close()


# --- reading ---------------------------------------------------------------------------------


def check_labelled(spec: TaskSpec, split: str) -> None:
    """Raises ShardError for a split whose labels the publisher keeps, as the spec says."""
    described = spec.source.splits.get(split)
    if described is not None and not described.labels:
        raise ShardError(
            f"task {spec.name}, split {split}: its publisher keeps the labels, so it can "
            f"neither be trained on nor scored; use a split with labels"
        )


def check_role(spec: TaskSpec, split: str) -> None:
    """Raises UnknownNameError for a split that the task's spec does not have: no build makes it."""
    if split not in spec.source.splits:
        raise UnknownNameError(f"split of task {spec.name}", split, list(spec.source.splits))


def open_task(data_dir: Path, task: str, role: str) -> BuiltSplit:
    """One built split, ready for the batcher. Shards are mapped when first used.

    Raises:
        ShardError: when it was not built to the end, or its manifest is damaged.
    """
    folder = data_dir / task / role
    manifest = read_manifest(folder)
    if manifest is None:
        there = ", ".join(sorted(p.parent.name for p in folder.parent.glob("*/manifest.json")))
        raise ShardError(
            f"task {task}, split {role}: not built in {data_dir} (built: {there or 'none'}); "
            f"run muppet-zoo build {task}"
        )
    whole = fingerprint_of(manifest.split, manifest.components) == manifest.fingerprint
    if not whole or (manifest.task, manifest.split) != (task, role):
        raise ShardError(
            f"{folder}: its manifest is damaged or another split's; run muppet-zoo build {task}"
        )
    return BuiltSplit(folder=folder, manifest=manifest)


def verify(data_dir: Path, task: str, role: str) -> Manifest:
    """Read every shard again and compare its SHA-256 with the manifest's.

    Raises:
        ShardError: naming each shard that is missing or differs.
    """
    split = open_task(data_dir, task, role)
    problems = []
    for shard in split.manifest.shards:
        path = split.folder / shard.file
        if not path.is_file():
            problems.append(f"{path}: missing")
        elif sha256_of(path) != shard.sha256:
            problems.append(f"{path}: its bytes are not the ones that were built")
    if problems:
        raise ShardError("\n".join([*problems, f"run muppet-zoo build {task} --verify"]))
    return split.manifest


class Records:
    """Encoded records of one task, by number; fulfils `task_data.TaskData`.

    Here those of a record batch at hand, for prediction; those of a split on disk are a
    `BuiltSplit`.
    """

    def __init__(self, head_type: str, batch: pa.RecordBatch, num_examples: int) -> None:
        self._head_type, self._num_examples = head_type, num_examples
        self._in_memory = [batch]

    @property
    def head_type(self) -> str:
        """The task's head type."""
        return self._head_type

    @property
    def num_examples(self) -> int:
        """Number of examples; fewer than records where contexts are cut into windows."""
        return self._num_examples

    @property
    def num_records(self) -> int:
        """Number of records, the rows that `record` knows."""
        return self._starts[-1]

    @property
    def _batches(self) -> Sequence[pa.RecordBatch]:
        return self._in_memory

    @cached_property
    def parts(self) -> Sequence[Part]:
        """The columns that a model reads, as views into the mapped file."""
        return [_part_of(batch) for batch in self._batches]

    @cached_property
    def example_starts(self) -> NDArray[np.int64]:
        """(num_examples + 1,) the first record of each example, and the number of records."""
        if self.num_examples == self.num_records:
            return np.arange(self.num_records + 1, dtype=np.int64)
        windows = np.concatenate([_view(batch.column("window")) for batch in self._batches])
        return np.append(np.flatnonzero(windows == 0), self.num_records)

    @cached_property
    def lengths(self) -> NDArray[np.uint32]:
        """(num_records,) tokens of each record's longest sequence, or of its answer if longer."""
        answers_are_read = self.head_type == Generation.type
        return np.concatenate([part.lengths(with_target=answers_are_read) for part in self.parts])

    @cached_property
    def num_sequences(self) -> NDArray[np.uint16]:
        """(num_records,) sequences of each record."""
        return np.concatenate([part.num_sequences() for part in self.parts])

    def record(self, row: int) -> Record:
        """The record of this number; its ids are views. Many at once are read by a `RowPool`."""
        which, at = self._place(row)
        return self.parts[which].record(at)

    def column(self, name: str, rows: NDArray[np.int64]) -> list[Any]:
        """Any column as Python values, for what only scoring needs: `context`, `answers`, `row`…"""
        places = map(self._place, rows.tolist())
        return [self._batches[which].column(name)[at].as_py() for which, at in places]

    def groups(self, rows: NDArray[np.int64]) -> list[str] | None:
        """What these rows are scored together by; None where the spec names no `group`."""
        has_groups = "group" in self._batches[0].schema.names
        return self.column("group", rows) if has_groups else None

    def _place(self, row: int) -> tuple[int, int]:
        """Which record batch holds a row, and its place there."""
        if not 0 <= row < self._starts[-1]:
            raise IndexError(f"rows are numbered from 0 to {self._starts[-1] - 1}, not {row}")
        which = bisect_right(self._starts, row) - 1
        return which, row - self._starts[which]

    @cached_property
    def _starts(self) -> list[int]:
        """The first row of each record batch, and the number of records."""
        return list(accumulate((batch.num_rows for batch in self._batches), initial=0))


@dataclass(kw_only=True)
class BuiltSplit(Records):
    """One split of one task on disk. Made by `open_task`."""

    folder: Path
    manifest: Manifest

    @property
    def fingerprint(self) -> str:
        """Names what is in it."""
        return self.manifest.fingerprint

    @property
    def head_type(self) -> str:
        """The task's head type."""
        return self.manifest.head

    @property
    def num_examples(self) -> int:
        """Number of examples; fewer than records where contexts are cut into windows."""
        return self.manifest.num_examples

    @property
    def num_records(self) -> int:
        """Number of records, the rows that `record` knows."""
        return self.manifest.num_records

    @cached_property
    def _batches(self) -> Sequence[pa.RecordBatch]:
        shards = self.manifest.shards
        return [batch for shard in shards for batch in _mapped(self.folder / shard.file, shard)]


def _part_of(batch: pa.RecordBatch) -> Part:
    ids, second_start, target = map(batch.column, ("input_ids", "second_start", "target"))
    options = None
    if _has_options(batch):
        options = _ranges(ids)
        ids, second_start = ids.values, second_start.values
    return Part(
        sequences=_lists(ids),
        second_starts=_view(second_start),
        options=options,
        target=_lists(target) if pa.types.is_list(target.type) else _view(target),
    )


def _has_options(batch: pa.RecordBatch) -> bool:
    return bool(pa.types.is_list(batch.column("input_ids").type.value_type))


def _options_fit(batch: pa.RecordBatch) -> bool:
    ids, second_start = batch.column("input_ids"), batch.column("second_start")
    if not pa.types.is_list(second_start.type):
        return False
    return bool(ids.offsets.equals(second_start.offsets))


def _lists(column: Any) -> Lists:
    return Lists(_view(column.values), _ranges(column))


def _ranges(column: Any) -> Ranges:
    return Ranges.of_offsets(_view(column.offsets))


def _view(column: Any) -> NDArray[Any]:
    """The numbers of an Arrow array without nulls; nothing is copied.

    Not by `to_numpy`: its first call imports pandas where that is installed, a quarter second.
    """
    dtype = np.dtype(column.type.to_pandas_dtype())
    offset = column.offset * dtype.itemsize
    return np.frombuffer(column.buffers()[1], dtype, count=len(column), offset=offset)


def _mapped(path: Path, shard: ShardInfo) -> Iterator[pa.RecordBatch]:
    again = "build the task again with --verify"
    try:
        if path.stat().st_size != shard.num_bytes:
            raise ShardError(
                f"{path}: {shard.num_bytes} bytes were built, found another size; {again}"
            )
        num_rows = 0
        for batch in pa.ipc.open_stream(pa.memory_map(str(path))):
            batch.validate(full=True)  # offsets are followed without a further look
            if _has_options(batch) and not _options_fit(batch):
                raise ShardError(f"{path}: not each option has one second_start; {again}")
            num_rows += batch.num_rows
            yield batch
    except FileNotFoundError:
        raise ShardError(f"{path}: missing; {again}") from None
    except (OSError, pa.ArrowException) as error:
        raise ShardError(f"{path}: cannot be read: {error}; {again}") from None
    if num_rows != shard.rows:
        raise ShardError(f"{path}: {shard.rows} examples were built, found {num_rows}; {again}")
