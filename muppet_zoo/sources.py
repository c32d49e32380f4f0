"""Where a role's rows come from: a dataset on the hub, files beside the spec, or an offline mirror.

The three places give the same thing: numbered rows as a stream, and a digest that says which
content they are, so that the build can tell whether anything changed without reading it again.
Which rows of a source split belong to a role (all, a carved share, or what carving left over) is
decided here too, by row number alone, so that it is the same wherever the rows come from.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from muppet_zoo.errors import SourceError, UsageError, suggest
from muppet_zoo.file_tools import sha256_of, write_atomically
from muppet_zoo.hub.lock import Lock
from muppet_zoo.hub.rows import HubRows
from muppet_zoo.row_files import SUFFIXES, Meter, NumberedRows, kind_of, read_rows
from muppet_zoo.spec import Source, TaskSpec

# A file changed twice within one tick of its clock keeps its time stamp; the margin is git's
# "racy" rule with room for file systems that count in seconds.
_SETTLED_NS = 2_000_000_000
# What the `datasets` library calls the configuration of a dataset that has but one.
_ONLY_CONFIGURATION = (None, "default", "plain_text")


class MissingSplitError(SourceError):
    """The mirror has no file for this split."""


class SplitRows(Protocol):
    """All rows of one source split, in one place."""

    @property
    def where(self) -> str:
        """The place in words, for messages."""
        ...

    def digest(self) -> str:
        """Which content this is; equal digests mean equal rows."""
        ...

    def rows(self, start: int, meter: Meter) -> NumberedRows:
        """Rows from number `start` on."""
        ...

    def check_unchanged(self) -> None:
        """SourceError when the content is no longer what `digest` said."""
        ...


@dataclass(kw_only=True)
class RowSource:
    """The rows of one role of one task. Made by `open_rows`."""

    place: SplitRows
    carving: Carving
    limit: int | None
    meter: Meter = field(default_factory=Meter)

    def digest(self) -> str:
        """Identity of the source split's content; the choice of rows from it is not part of it."""
        return self.place.digest()

    def rows(self, start: int = 0) -> NumberedRows:
        """(row number at the source, row) for this role's rows from number `start` on."""
        carving = self.carving
        kept = self.place.rows(start, self.meter)
        if not carving.has_all:
            kept = ((row, data) for row, data in kept if row in carving)
        if self.limit is None:
            return kept
        before = sum(row in carving for row in range(start))
        return itertools.islice(kept, max(self.limit - before, 0))

    def estimated_rows(self, row: int) -> float | None:
        """About how many rows there are, when reading has come to `row`; for progress displays."""
        if not self.meter.fraction:
            return self.limit
        total = max(row / self.meter.fraction, row)
        return total if self.limit is None else min(total, max(self.limit, row))

    def check_unchanged(self) -> None:
        """SourceError when a file was changed since its digest was taken."""
        self.place.check_unchanged()


def open_rows(
    spec: TaskSpec,
    role: str,
    *,
    mirror: Path | None = None,
    limit: int | None = None,
    digests: DigestCache | None = None,
    lock: Lock | None = None,
) -> RowSource:
    """The rows of `role`, from the spec's files, else from `mirror` when given, else from the hub.

    `limit` keeps the first so many of the role's rows. `lock` says which commit and files of the
    hub are meant. Nothing is read before `digest` or `rows`.

    Raises:
        MissingSplitError: the mirror has no file for the split.
        SourceError: the files cannot be told apart or lie outside the spec's folder.
    """
    return RowSource(
        place=_place(spec, role, mirror, digests or DigestCache(None), lock),
        carving=Carving.of(spec.source, role),
        limit=limit,
    )


def _place(
    spec: TaskSpec, role: str, mirror: Path | None, digests: DigestCache, lock: Lock | None
) -> SplitRows:
    source, split = spec.source, spec.source.splits[role].split
    if source.files:
        path = _spec_file(spec, split)
    elif mirror is not None:
        path = _mirror_file(mirror, spec, role)
    else:
        return HubRows(task=spec.name, source=source, split=split, lock=lock)
    return FileRows(path=path, columns=source.columns, digests=digests)


# --- which rows ------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Share:
    """The rows whose bucket, of 100 by a hash of seed and row number, is in [low, high)."""

    seed: int
    low: int
    high: int

    def __contains__(self, row: int) -> bool:
        key = hashlib.blake2b(f"{self.seed}:{row}".encode(), digest_size=8).digest()
        return self.low <= int.from_bytes(key, "big") % 100 < self.high


@dataclass(frozen=True, kw_only=True)
class Carving:
    """Which rows of a source split a role has: those in `share` (None: all) and in none of `taken`.

    Splits that publish too few parts give up rows to a role that carves them. Roles that carve one
    split are served in the order of their names, and each share is disjoint from those before it.
    """

    share: Share | None
    taken: tuple[Share, ...]

    @property
    def has_all(self) -> bool:
        """Whether no row is left out."""
        return self.share is None and not self.taken

    def __contains__(self, row: int) -> bool:
        if self.share is not None and row not in self.share:
            return False
        return not any(row in share for share in self.taken)

    @classmethod
    def of(cls, source: Source, role: str) -> Carving:
        """The carving of `role`; SourceError when shares of one seed ask for more than all rows."""
        mine = source.splits[role]
        shares: dict[str, Share] = {}
        used: dict[int, int] = {}
        for name, split in sorted(source.splits.items()):
            if split.split != mine.split or not split.carve_percent:
                continue
            low = used.get(split.carve_seed, 0)
            used[split.carve_seed] = low + split.carve_percent
            shares[name] = Share(seed=split.carve_seed, low=low, high=low + split.carve_percent)
        if max(used.values(), default=0) > 100:
            raise SourceError(f"more than 100 percent of split '{mine.split}' is carved away")
        if role not in shares:
            return cls(share=None, taken=tuple(shares.values()))
        before = tuple(share for name, share in shares.items() if name < role)
        return cls(share=shares[role], taken=before)


# --- files -----------------------------------------------------------------------------------


@dataclass(kw_only=True)
class FileRows:
    """The rows of one file."""

    path: Path
    columns: Mapping[str, str]
    digests: DigestCache
    _seen: list[int] | None = None

    @property
    def where(self) -> str:
        return str(self.path)

    def digest(self) -> str:
        try:
            self._seen = _stamp(self.path)
            return f"{kind_of(self.path)}:{self.digests.sha256(self.path)}"
        except OSError as error:
            raise SourceError(f"{self.path}: cannot be read: {error.strerror or error}") from None

    def rows(self, start: int, meter: Meter) -> NumberedRows:
        return read_rows(self.path, self.columns, start=start, meter=meter)

    def check_unchanged(self) -> None:
        try:
            unchanged = self._seen in (None, _stamp(self.path))
        except OSError:
            unchanged = False
        if not unchanged:
            raise SourceError(f"{self.path}: was changed while it was read; build again")


def _stamp(path: Path) -> list[int]:
    """What differs after a change, even one that keeps the size and sets the time back."""
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ino, stat.st_ctime_ns]


def _spec_file(spec: TaskSpec, split: str) -> Path:
    name, root = spec.source.files[split], spec.source.root.resolve()
    path = (root / name).resolve()
    if Path(name).is_absolute() or ".." in Path(name).parts or not path.is_relative_to(root):
        raise SourceError(
            f"{spec.path}: source.files.{split}: '{name}' leaves the spec's folder; "
            f"keep data beside the spec"
        )
    if not path.is_file():
        raise SourceError(
            f"{spec.path}: source.files.{split}: no such file: {name}; in {path.parent}: "
            f"{_listing(path.parent)}"
        )
    kind_of(path)
    return path


def _mirror_file(mirror: Path, spec: TaskSpec, role: str) -> Path:
    """The file of `role`: `<folder>/<name>` with one of the suffixes.

    The folder is the task's name or, where that is not there, the dataset's; see `_mirror_folder`.
    The name is the source's split or, where that is not there, the role, since who keeps one
    validation split need not call it `validation_matched`; see `_mirror_names`.
    """
    if not mirror.is_dir():
        raise UsageError(f"the mirror {mirror} is no folder")
    folder = _mirror_folder(mirror, spec)
    names = _mirror_names(spec, role)
    for name in names:
        found = [path for suffix in SUFFIXES if (path := folder / f"{name}{suffix}").is_file()]
        if len(found) > 1:
            both = " and ".join(path.name for path in found)
            raise SourceError(f"{folder}: both {both} could be split '{name}'; keep one of them")
        if found:
            return found[0]
    other = "".join(f", nor for the role '{name}'," for name in names[1:])
    raise MissingSplitError(
        f"task {spec.name}: no file for split '{names[0]}'{other} in {folder}, as "
        f"{names[0]}.jsonl, .csv, .tsv, each also .gz, or .parquet; there is: {_listing(folder)}"
    )


def _mirror_folder(mirror: Path, spec: TaskSpec) -> Path:
    """The folder with the task's name, else with its dataset's, without the owner.

    Several tasks may read one dataset. One of several configurations has files of its own, though,
    and only the task's name says which.
    """
    if (mirror / spec.name).is_dir():
        return mirror / spec.name
    dataset = (spec.source.hub or "").rpartition("/")[2]
    if dataset and spec.source.config in _ONLY_CONFIGURATION and (mirror / dataset).is_dir():
        return mirror / dataset
    near = suggest(spec.name, (entry.name for entry in mirror.iterdir() if entry.is_dir()))
    raise MissingSplitError(
        f"task {spec.name}: the mirror {mirror} has no folder '{spec.name}'{near}"
    )


def _mirror_names(spec: TaskSpec, role: str) -> list[str]:
    """The names that the role's file may have; the first that is there counts.

    The role's own is none of them where it could be taken for something else: for the share that a
    role carves from another's split, or for the source's split of that name.
    """
    mine = spec.source.splits[role]
    if Path(mine.split).name != mine.split:
        raise SourceError(
            f"task {spec.name}: the split '{mine.split}' cannot be a file name in a mirror"
        )
    used = {split.split for split in spec.source.splits.values()}
    return [mine.split] if mine.carve_percent or role in used else [mine.split, role]


def _listing(folder: Path) -> str:
    try:
        names = sorted(entry.name for entry in folder.iterdir())
    except OSError:
        return "no such folder"
    shown = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
    return shown or "nothing"


class DigestCache:
    """SHA-256 of files, remembered by resolved path, size, inode and times of change.

    It makes a build that has nothing to do instant, however big the mirror. It is only a memory:
    a damaged or missing file costs one more reading, and two processes may overwrite each other's
    additions. Safe for threads.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lock = threading.Lock()

    def sha256(self, file: Path) -> str:
        """Hex SHA-256 of the file's bytes."""
        file = file.resolve()
        stamp = _stamp(file)
        known = self._entries.get(str(file))
        if known is not None and known[:-1] == stamp:
            return str(known[-1])
        digest = sha256_of(file)
        settled = time.time_ns() - stamp[1] > _SETTLED_NS
        if settled and stamp == _stamp(file):
            self._remember(str(file), [*stamp, digest])
        return digest

    @cached_property
    def _entries(self) -> dict[str, list[Any]]:
        return self._load()

    def _load(self) -> dict[str, list[Any]]:
        try:
            stored = json.loads(self._path.read_bytes()) if self._path else {}
        except (OSError, ValueError):
            return {}
        if not isinstance(stored, dict):
            return {}
        return {key: value for key, value in stored.items() if _is_entry(value)}

    def _remember(self, key: str, entry: list[Any]) -> None:
        with self._lock:
            self._entries[key] = entry
            if self._path is None:
                return
            merged = {**self._load(), **self._entries}
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(self._path, json.dumps(merged, indent=0, sort_keys=True).encode())
            except OSError:
                return  # what cannot be kept costs one more reading


def _is_entry(value: Any) -> bool:
    match value:
        case [int(), int(), int(), int(), str(digest)]:
            return len(digest) == 64
    return False
