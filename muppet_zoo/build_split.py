"""One split of one task: rows → shards → manifest, going on where an earlier build was stopped.

The order of writing is what makes a kill at any moment harmless. A shard gets its name when it is
whole; its sidecar, after it, makes it count; the manifest, after all of them, makes the split
complete; only then are older files removed. Where shards and record batches end follows from the
rows alone, so a build that was stopped ten times leaves the same bytes as one that was not.
"""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from muppet_zoo.errors import RowError, ShardError, SourceError
from muppet_zoo.file_tools import sha256_of, write_atomically
from muppet_zoo.fingerprints import what_changed
from muppet_zoo.manifests import (
    MANIFEST_NAME,
    MAX_LISTED_ROWS,
    BadRow,
    Manifest,
    ShardRecord,
    Statistics,
    TokenizerInfo,
    read_manifest,
)
from muppet_zoo.sources import RowSource
from muppet_zoo.spec import TaskSpec

if TYPE_CHECKING:
    from muppet_zoo.encode import EncodedChunk, ExampleEncoder, TokenizerSource
    from muppet_zoo.overlap.guard import Checked, Guard

# A chunk is the unit of memory, a shard the unit of what a kill can cost. Both end by counts of
# rows, characters, examples and tokens, which do not depend on time, threads or free memory.
CHUNK_ROWS = 1000
CHUNK_CHARACTERS = 4_000_000
SHARD_EXAMPLES = 50_000
SHARD_TOKENS = 8_000_000

_LOCK_POLL_S = 0.2
_OUR_FILES = re.compile(r"[0-9a-f]{16}-[0-9]{5}\.(arrow|json)(\.([0-9]+\.)?tmp)?")

NumberedRow = tuple[int, dict[str, Any]]


class StoppedError(Exception):
    """The build was told to stop; what is finished stays."""


@dataclass(frozen=True, kw_only=True)
class SplitPlan:
    """Everything that one split is built from, and the folder it goes to.

    guard: checks training rows for overlap with evaluation rows, where the mixture asks for it.
    verify: read finished shards again and make those anew whose bytes are not the ones built.
    """

    spec: TaskSpec
    role: str
    folder: Path
    source: RowSource
    tokenizer: TokenizerSource
    max_tokens: int
    components: dict[str, str]
    fingerprint: str
    guard: Guard | None = None
    verify: bool = False

    def shard_path(self, index: int) -> Path:
        """Where shard number `index` goes."""
        return self.folder / f"{self.fingerprint[:16]}-{index:05d}.arrow"


@dataclass(frozen=True, kw_only=True)
class SplitResult:
    """A complete split, and what it took."""

    status: Literal["built", "reused", "resumed"]
    why: str
    manifest: Manifest


Phase = Literal["waiting", "comparing", "building"]
Report = Callable[[Phase, int, int], None]
"""Called with what is going on, the source rows encoded by this run, and the row it has come to."""


def build_split(plan: SplitPlan, *, report: Report, stop: threading.Event) -> SplitResult:
    """Make the split complete; does nothing when it is.

    Raises:
        RowError: a row cannot be encoded and the spec does not say to skip it.
        OverlapError: rows overlap with evaluation rows and the policy is to fail.
        SourceError: rows cannot be read, or none is usable.
        ShardError: the folder cannot be written.
        StoppedError: `stop` was set.
    """
    complete, why = _find_complete(plan)
    if complete is not None and not plan.verify:
        return SplitResult(status="reused", why=why, manifest=complete)
    try:
        plan.folder.mkdir(parents=True, exist_ok=True)
        with _locked(plan.folder, report, stop):
            if plan.verify and (damaged := _remove_damaged(plan)):
                why = f"{', '.join(damaged)} was damaged"
            was_complete, (complete, _) = complete is not None, _find_complete(plan)
            if complete is not None:
                why = why if was_complete else "built by another process meanwhile"
                return SplitResult(status="reused", why=why, manifest=complete)
            return _build_locked(plan, why, report, stop)
    except OSError as error:
        raise ShardError(f"{plan.folder}: cannot be written: {error.strerror or error}") from error


def _build_locked(plan: SplitPlan, why: str, report: Report, stop: threading.Event) -> SplitResult:
    from muppet_zoo.encode import ExampleEncoder

    encoder = ExampleEncoder(plan.spec, plan.tokenizer, plan.max_tokens)
    # From here on the old data is no longer what the spec asks for; were it left complete, a
    # training after a failed build would take it for the new.
    (plan.folder / MANIFEST_NAME).unlink(missing_ok=True)
    records = _finished_shards(plan)
    if records:
        why = f"{why}; went on after {len(records)} finished shard{'s' * (len(records) > 1)}"
    status: Literal["built", "resumed"] = "resumed" if records else "built"
    records += _write_shards(plan, encoder, records, report, stop)
    if plan.guard is not None:
        found = Statistics.merged(record.statistics for record in records)
        plan.guard.refuse(plan.spec.name, plan.role, found)
    manifest = _manifest(plan, records, plan.tokenizer.vocab_size)
    write_atomically(plan.folder / MANIFEST_NAME, manifest.to_json().encode("utf-8"))
    _remove_others(plan, manifest)
    return SplitResult(status=status, why=why, manifest=manifest)


# --- what is there already -------------------------------------------------------------------


def _find_complete(plan: SplitPlan) -> tuple[Manifest | None, str]:
    """The manifest when the split is complete as planned, and why it is or is not."""
    try:
        manifest = read_manifest(plan.folder)
    except ShardError:
        return None, "the manifest was damaged"
    if manifest is None:
        return None, "new"
    if manifest.fingerprint != plan.fingerprint:
        return None, what_changed(manifest, plan.components)
    for shard in manifest.shards:
        if _size(plan.folder / shard.file) != shard.num_bytes:
            return None, f"{shard.file} was missing or cut"
    # The sidecars say all of it a second time. The tokenizer's size alone they do not, and to ask
    # the tokenizer for it would load it.
    size = manifest.tokenizer.vocab_size
    if manifest != _manifest(plan, _finished_shards(plan), size):
        return None, "the manifest was damaged"
    return manifest, "unchanged"


def _remove_damaged(plan: SplitPlan) -> list[str]:
    """Remove the planned shards whose bytes are not the ones built; their names."""
    damaged = []
    for record in _finished_shards(plan):
        path = plan.folder / record.shard.file
        if sha256_of(path) != record.shard.sha256:
            path.unlink()
            damaged.append(path.name)
    return damaged


def _finished_shards(plan: SplitPlan) -> list[ShardRecord]:
    """The unbroken run of finished shards from the first on."""
    records: list[ShardRecord] = []
    while (record := _read_sidecar(plan.shard_path(len(records)))) is not None:
        if record.shard.first_row != (records[-1].shard.next_row if records else 0):
            break
        records.append(record)
    return records


def _read_sidecar(shard: Path) -> ShardRecord | None:
    path = shard.with_suffix(".json")
    try:
        record = ShardRecord.from_json(path.read_text("utf-8"), str(path))
    except (OSError, UnicodeDecodeError, ShardError):
        return None  # not there, or not whole: the shard is made again
    same = record.shard.file == shard.name and record.shard.num_bytes == _size(shard)
    return record if same else None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _remove_others(plan: SplitPlan, manifest: Manifest) -> None:
    """Remove shards that the manifest does not name: older ones, and what a kill left."""
    keep = {shard.file for shard in manifest.shards}
    keep |= {Path(name).with_suffix(".json").name for name in keep}
    for path in plan.folder.iterdir():
        if path.name not in keep and _OUR_FILES.fullmatch(path.name):
            path.unlink(missing_ok=True)


@contextmanager
def _locked(folder: Path, report: Report, stop: threading.Event) -> Iterator[None]:
    """Hold the folder's lock; a process that dies gives it up."""
    from filelock import FileLock, Timeout

    lock = FileLock(folder / ".lock")
    while True:
        try:
            lock.acquire(timeout=_LOCK_POLL_S)
            break
        except Timeout:
            report("waiting", 0, 0)
            if stop.is_set():
                raise StoppedError from None
    try:
        yield
    finally:
        lock.release()


# --- writing ---------------------------------------------------------------------------------


def _write_shards(
    plan: SplitPlan,
    encoder: ExampleEncoder,
    before: list[ShardRecord],
    report: Report,
    stop: threading.Event,
) -> list[ShardRecord]:
    """The shards that follow `before`."""
    start = before[-1].shard.next_row if before else 0
    labelled = plan.spec.source.splits[plan.role].labels
    is_train = plan.role.startswith("train")
    records: list[ShardRecord] = []
    shard = _OpenShard(plan, len(before), start)
    num_rows = 0
    report("building", num_rows, start)
    try:
        for chunk in _chunks(plan.source.rows(start)):
            checked = _checked(plan, chunk, report)
            encoded = encoder.encode(checked.kept, labelled=labelled, every_window=not is_train)
            _refuse_bad_rows(plan, encoded)
            # A full shard is closed by the next chunk that has examples: what comes between (rows
            # that a filter drops) needs a shard to be counted in, and the last one has to exist.
            if shard.is_full and encoded.batch.num_rows:
                records.append(shard.close())
                shard = _OpenShard(plan, len(before) + len(records), shard.next_row)
            shard.add(chunk, encoded)
            shard.add_found(checked)
            num_rows += len(chunk)
            report("building", num_rows, shard.next_row)
            if stop.is_set():
                raise StoppedError
        if shard.num_examples:
            records.append(shard.close())
        elif not before:
            raise _no_usable_rows(plan, shard.statistics)
    finally:
        shard.discard()
    return records


def _chunks(rows: Iterable[NumberedRow]) -> Iterator[list[NumberedRow]]:
    chunk: list[NumberedRow] = []
    characters = 0
    for row in rows:
        chunk.append(row)
        characters += _characters(row[1])
        if len(chunk) >= CHUNK_ROWS or characters >= CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def _characters(row: dict[str, Any]) -> int:
    """About how much text a row holds, nested values included."""
    num_characters = 0
    values: list[Any] = [row]
    for value in values:  # which grows by what is nested
        if isinstance(value, str):
            num_characters += len(value)
        elif isinstance(value, dict):
            values += value.values()
        elif isinstance(value, list):
            values += value
        else:
            num_characters += 1
    return num_characters


def _checked(plan: SplitPlan, chunk: list[NumberedRow], report: Report) -> Checked:
    from muppet_zoo.overlap.guard import Checked

    if plan.guard is None:
        return Checked(kept=chunk)
    if not plan.guard.is_ready:
        report("comparing", 0, chunk[0][0])
    return plan.guard.check(plan.spec, chunk)


def _refuse_bad_rows(plan: SplitPlan, encoded: EncodedChunk) -> None:
    if encoded.bad_rows and plan.spec.on_bad_row == "error":
        row, reason = encoded.bad_rows[0]
        split = plan.spec.source.splits[plan.role].split
        raise RowError(task=plan.spec.name, split=split, row=row, reason=reason)


def _no_usable_rows(plan: SplitPlan, statistics: Statistics) -> SourceError:
    bad = statistics.num_bad_rows
    reason = f"; the first bad one: {statistics.bad_rows[0].reason}" if bad else ""
    overlapping = statistics.num_overlapping_rows
    dropped = f" or, {overlapping} of them, for overlapping" if overlapping else ""
    return SourceError(
        f"task {plan.spec.name}, split {plan.role}: no usable rows in {plan.source.place.where}: "
        f"{statistics.num_source_rows} read, {bad} bad, the others dropped by `rows`{dropped}"
        f"{reason}"
    )


class _OpenShard:
    """A shard while it is written, with its counts."""

    def __init__(self, plan: SplitPlan, index: int, first_row: int) -> None:
        from muppet_zoo.shards import ShardWriter

        self.next_row = first_row
        self._plan = plan
        self._path = plan.shard_path(index)
        self._first_row = first_row
        self._writer = ShardWriter(self._path)
        self._parts: list[Statistics] = []
        self._num_tokens = 0

    @property
    def num_examples(self) -> int:
        return self._writer.num_examples

    @property
    def is_full(self) -> bool:
        return self.num_examples >= SHARD_EXAMPLES or self._num_tokens >= SHARD_TOKENS

    @property
    def statistics(self) -> Statistics:
        return Statistics.merged(self._parts)

    def add(self, chunk: list[NumberedRow], encoded: EncodedChunk) -> None:
        if encoded.batch.num_rows:
            self._writer.write(encoded.batch)
        self._num_tokens += encoded.num_tokens
        self._parts = [Statistics.merged([*self._parts, _statistics(chunk, encoded)])]
        self.next_row = chunk[-1][0] + 1

    def add_found(self, checked: Checked) -> None:
        """Count what of the chunk overlaps with evaluation rows."""
        found = Statistics(
            num_overlapping_rows=checked.num_found,
            overlapping_rows=checked.listed,
            overlap_histogram=checked.counts,
        )
        self._parts = [Statistics.merged([*self._parts, found])]

    def close(self) -> ShardRecord:
        """Make the shard count; SourceError when its rows were changed while they were read."""
        self._plan.source.check_unchanged()
        shard = self._writer.finish(
            first_row=self._first_row, next_row=self.next_row, num_tokens=self._num_tokens
        )
        record = ShardRecord(shard=shard, statistics=self.statistics)
        write_atomically(self._path.with_suffix(".json"), record.to_json().encode("utf-8"))
        return record

    def discard(self) -> None:
        """Remove what is not closed; a closed shard stays."""
        self._writer.discard()


def _statistics(chunk: list[NumberedRow], encoded: EncodedChunk) -> Statistics:
    listed = encoded.bad_rows[:MAX_LISTED_ROWS]
    return Statistics(
        num_source_rows=len(chunk),
        num_examples=encoded.num_examples,
        num_records=encoded.batch.num_rows,
        num_sequences=_num_sequences(encoded),
        num_tokens=encoded.num_tokens,
        num_truncated=encoded.num_truncated,
        num_targets_cut=encoded.num_targets_cut,
        num_bad_rows=len(encoded.bad_rows),
        bad_rows=tuple(BadRow(row=row, reason=reason) for row, reason in listed),
        length_histogram=dict(Counter(encoded.lengths.tolist())),
        label_histogram=dict(encoded.labels),
    )


def _num_sequences(encoded: EncodedChunk) -> int:
    import pyarrow as pa

    starts = encoded.batch.column("second_start")
    # One number a sequence: a list of them where an example has several.
    return len(starts.flatten()) if pa.types.is_list(starts.type) else len(starts)


def _manifest(plan: SplitPlan, records: list[ShardRecord], vocab_size: int) -> Manifest:
    return Manifest(
        **vars(Statistics.merged(record.statistics for record in records)),
        task=plan.spec.name,
        split=plan.role,
        head=plan.spec.head.type,
        fingerprint=plan.fingerprint,
        components=plan.components,
        tokenizer=TokenizerInfo(digest=plan.tokenizer.digest, vocab_size=vocab_size),
        max_tokens=plan.max_tokens,
        shards=tuple(record.shard for record in records),
    )
