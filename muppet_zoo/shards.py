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
from collections.abc import Callable, Iterator, Sequence
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
from muppet_zoo.manifests import Manifest, ShardInfo, Statistics, read_manifest
from muppet_zoo.spec import TaskSpec
from muppet_zoo.task_data import Record

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
        self._in_memory = [_Part(batch)]

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
        return sum(part.batch.num_rows for part in self._parts)

    @property
    def _parts(self) -> list[_Part]:
        return self._in_memory

    @cached_property
    def example_starts(self) -> NDArray[np.int64]:
        """(num_examples + 1,) the first record of each example, and the number of records."""
        if self.num_examples == self.num_records:
            return np.arange(self.num_records + 1, dtype=np.int64)
        windows = np.concatenate([part.windows() for part in self._parts])
        return np.append(np.flatnonzero(windows == 0), self.num_records)

    @cached_property
    def lengths(self) -> NDArray[np.uint32]:
        """(num_records,) tokens of each record's longest sequence, or of its answer if longer."""
        return np.concatenate([part.lengths() for part in self._parts])

    @cached_property
    def num_sequences(self) -> NDArray[np.uint16]:
        """(num_records,) sequences of each record."""
        return np.concatenate([part.num_sequences() for part in self._parts])

    @cached_property
    def record(self) -> Callable[[int], Record]:
        """`record(row)` is the record of this number; its ids are views into the mapped file.

        A function that is made once, in place of a method, since a feed calls it for every row.
        """
        readers, starts = [part.reader() for part in self._parts], self._starts

        def record(row: int) -> Record:
            which = _part_of(row, starts)
            return readers[which](row - starts[which])

        return record

    def column(self, name: str, rows: NDArray[np.int64]) -> list[Any]:
        """Any column as Python values, for what only scoring needs: `context`, `answers`, `row`…"""
        places = map(self._place, rows.tolist())
        return [part.batch.column(name)[at].as_py() for part, at in places]

    def groups(self, rows: NDArray[np.int64]) -> list[str] | None:
        """What these rows are scored together by; None where the spec names no `group`."""
        has_groups = "group" in self._parts[0].batch.schema.names
        return self.column("group", rows) if has_groups else None

    def _place(self, row: int) -> tuple[_Part, int]:
        which = _part_of(row, self._starts)
        return self._parts[which], row - self._starts[which]

    @cached_property
    def _starts(self) -> list[int]:
        """The first row of each record batch, and the number of records."""
        return list(accumulate((part.batch.num_rows for part in self._parts), initial=0))


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
    def _parts(self) -> list[_Part]:
        return [
            _Part(batch)
            for shard in self.manifest.shards
            for batch in _batches(self.folder / shard.file, shard)
        ]


class _Part:
    """One record batch with views of its columns.

    Numbers that are read one at a time are views of Python's kind, which hands them out three
    times as fast as numpy does. Slots, since a run of many tasks has thousands of parts.

    _options: (n + 1,) where each example's sequences begin; None when each has one.
    """

    __slots__ = ("_ids", "_options", "_second_start", "_target", "batch")

    def __init__(self, batch: pa.RecordBatch) -> None:
        self.batch = batch
        ids, second_start, target = map(batch.column, ("input_ids", "second_start", "target"))
        self._options = None
        if pa.types.is_list(ids.type.value_type):
            self._options = _offsets(ids)
            ids, second_start = ids.values, second_start.values
        self._ids = _Lists(ids)
        self._second_start = _view(second_start).data
        self._target = _Lists(target) if pa.types.is_list(target.type) else _view(target).data

    def lengths(self) -> NDArray[np.uint32]:
        lengths = np.diff(self._ids.offsets).astype(np.uint32)
        if self._options is not None:
            return np.maximum.reduceat(lengths, self._options[:-1])
        # Targets are token ids where answers are generated.
        if "answer" in self.batch.schema.names and isinstance(self._target, _Lists):
            return np.maximum(lengths, np.diff(self._target.offsets).astype(np.uint32))
        return lengths

    def num_sequences(self) -> NDArray[np.uint16]:
        if self._options is None:
            return np.ones(self.batch.num_rows, np.uint16)
        return np.diff(self._options).astype(np.uint16)

    def windows(self) -> NDArray[np.int32]:
        return _view(self.batch.column("window"))

    def reader(self) -> Callable[[int], Record]:
        """A function of a row's number in this batch, with all that it reads at hand."""
        ids, second_start, target = self._ids, self._second_start, self._target
        bounds, values = ids.bounds, ids.values
        if self._options is None:

            def record(at: int) -> Record:
                sequence = values[bounds[at] : bounds[at + 1]]
                return Record((sequence,), (second_start[at],), target[at])

            return record

        options = self._options.data

        def record_with_options(at: int) -> Record:
            start, end = options[at], options[at + 1]
            return Record([ids[i] for i in range(start, end)], second_start[start:end], target[at])

        return record_with_options


class _Lists:
    """A list column as numpy slices."""

    __slots__ = ("bounds", "offsets", "values")

    def __init__(self, column: Any) -> None:
        self.offsets = _offsets(column)
        self.bounds = self.offsets.data
        self.values = _view(column.values)

    def __getitem__(self, at: int) -> NDArray[Any]:
        return self.values[self.bounds[at] : self.bounds[at + 1]]


def _part_of(row: int, starts: Sequence[int]) -> int:
    """Which record batch holds a row, by the first row of each and the number of rows."""
    if not 0 <= row < starts[-1]:
        raise IndexError(f"rows are numbered from 0 to {starts[-1] - 1}, not {row}")
    return bisect_right(starts, row) - 1


def _offsets(column: Any) -> NDArray[np.int32]:
    return _view(column.offsets)


def _view(column: Any) -> NDArray[Any]:
    """The numbers of an Arrow array without nulls; nothing is copied.

    Not by `to_numpy`: its first call imports pandas where that is installed, a quarter second.
    """
    dtype = np.dtype(column.type.to_pandas_dtype())
    offset = column.offset * dtype.itemsize
    return np.frombuffer(column.buffers()[1], dtype, count=len(column), offset=offset)


def _batches(path: Path, shard: ShardInfo) -> Iterator[pa.RecordBatch]:
    again = "build the task again with --verify"
    try:
        if path.stat().st_size != shard.num_bytes:
            raise ShardError(
                f"{path}: {shard.num_bytes} bytes were built, found another size; {again}"
            )
        num_rows = 0
        for batch in pa.ipc.open_stream(pa.memory_map(str(path))):
            num_rows += batch.num_rows
            yield batch
    except FileNotFoundError:
        raise ShardError(f"{path}: missing; {again}") from None
    except (OSError, pa.ArrowException) as error:
        raise ShardError(f"{path}: cannot be read: {error}; {again}") from None
    if num_rows != shard.rows:
        raise ShardError(f"{path}: {shard.rows} examples were built, found {num_rows}; {again}")
