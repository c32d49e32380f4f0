"""`zoo.lock`: which commit each revision of a hub dataset meant, and the files that were there.

A branch moves, and even under one commit a hub may serve other bytes than it did. The lock says
what was meant, so that everybody builds from the same rows or is told. It is JSON: a machine writes
it, every language reads it, and with sorted entries and one value a line a change is a short diff.
It is keyed by (hub, config, revision), since that is what rows are read by; tasks share entries.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from muppet_zoo.errors import SourceError, SpecError
from muppet_zoo.file_tools import sha256_of, write_atomically
from muppet_zoo.spec import CONVERSION, Source, TaskSpec, is_commit
from muppet_zoo.validation import schema_findings
from muppet_zoo.yaml_reader import Document

LOCK_NAME = "zoo.lock"

Key = tuple[str, str, str]
"""hub, config ("" for none), revision."""


@dataclass(frozen=True, kw_only=True, order=True)
class LockedFile:
    """One data file. `digest` is the SHA-256 of its bytes, or git's blob id where the hub has none.

    size: bytes.
    """

    path: str
    size: int
    algorithm: Literal["sha256", "git_blob"]
    digest: str

    def difference(self, local: Path) -> str:
        """How the bytes of `local` differ from the recorded ones, in words; empty if they do not.

        Raises OSError when the file cannot be read.
        """
        size = local.stat().st_size
        if size != self.size:
            return f"{self.size:,} bytes are recorded, {size:,} were found"
        found = sha256_of(local) if self.algorithm == "sha256" else _git_blob(local)
        if found == self.digest:
            return ""
        return f"{self.algorithm} {self.digest[:16]}… is recorded, {found[:16]}… was found"


@dataclass(frozen=True, kw_only=True)
class LockedSource:
    """One configuration of a dataset at one revision; `splits` are source splits, not roles."""

    hub: str
    config: str | None
    revision: str
    commit: str
    splits: Mapping[str, tuple[LockedFile, ...]]

    @property
    def key(self) -> Key:
        """What entries are found and sorted by."""
        return self.hub, self.config or "", self.revision

    @property
    def files(self) -> dict[str, LockedFile]:
        """The files of all splits by path."""
        return {file.path: file for files in self.splits.values() for file in files}


@dataclass(frozen=True, kw_only=True)
class Lock:
    """The entries of one file; none where there is no file."""

    path: Path
    sources: Mapping[Key, LockedSource] = field(default_factory=dict)

    def find(self, task: str, source: Source) -> LockedSource | None:
        """The entry that a task's source is read by, if there is one.

        Raises:
            SourceError: the spec pins a commit, and the lock has only another for the same rows.
        """
        entry = self.sources.get(key_of(source))
        if entry is not None or not is_commit(source.revision or ""):
            return entry
        for other in self.sources.values():
            same_rows = (other.hub, other.config) == (source.hub, source.config)
            if same_rows and other.revision != CONVERSION and other.commit != source.revision:
                raise SourceError(
                    f"task {task}: the spec pins {source.hub} to commit {source.revision}, but "
                    f"{self.path} has {other.commit} (for revision '{other.revision}'); if the "
                    f"spec is right, run `muppet-zoo lock {task}`"
                )
        return None

    def with_entry(self, entry: LockedSource) -> Lock:
        """A copy in which `entry` replaces what has its key."""
        return Lock(path=self.path, sources={**self.sources, entry.key: entry})

    def without(self, keys: Iterable[Key]) -> Lock:
        """A copy that lacks the entries of these keys."""
        gone = set(keys)
        kept = {key: entry for key, entry in self.sources.items() if key not in gone}
        return Lock(path=self.path, sources=kept)


def key_of(source: Source) -> Key:
    """The key of the entry that a hub source is read by."""
    return source.hub or "", source.config or "", source.revision or ""


def lock_path(spec: TaskSpec, folders: Sequence[Path]) -> Path:
    """The lock of the zoo folder that a spec is in; of several, of the innermost."""
    spec_path = spec.path.resolve()
    around = [folder for folder in folders if spec_path.is_relative_to(folder.resolve())]
    nearest = max(around, key=lambda folder: len(folder.resolve().parts), default=spec.path.parent)
    return nearest / LOCK_NAME


def locks_of(
    specs: Iterable[TaskSpec], folders: Sequence[Path], file: Path | None = None
) -> dict[str, Lock]:
    """The lock of each task by its name: `file` if given, else the one of its zoo folder."""
    paths = {spec.name: file or lock_path(spec, folders) for spec in specs}
    locks = {path: read_lock(path) for path in dict.fromkeys(paths.values())}
    return {name: locks[path] for name, path in paths.items()}


def read_lock(path: Path) -> Lock:
    """The lock in a file; an empty one where there is no file.

    Raises:
        SourceError: it cannot be read, is no JSON, or has an entry twice or that fits no commit.
        SpecError: with every finding of the schema.
    """
    try:
        data = json.loads(path.read_bytes())
    except FileNotFoundError:
        return Lock(path=path)
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise SourceError(
            f"{path}: is no JSON: {error}; take back the change, or remove the file and run "
            f"`muppet-zoo lock`"
        ) from None
    if not isinstance(data, dict):
        raise SourceError(f"{path}: a mapping with lock_version and sources is expected")
    if findings := list(schema_findings(Document(path=path, data=data), "lock")):
        raise SpecError(findings)
    sources: dict[Key, LockedSource] = {}
    for raw in data["sources"]:
        entry = _entry(raw)
        if is_commit(entry.revision) and entry.commit != entry.revision:
            raise SourceError(
                f"{path}: {entry.hub} at commit {entry.revision} is recorded as {entry.commit}; "
                f"remove the entry and run `muppet-zoo lock`"
            )
        if sources.setdefault(entry.key, entry) is not entry:
            name = f"{entry.hub}, config {entry.config}, revision {entry.revision}"
            raise SourceError(f"{path}: two entries for {name}; keep one of them")
    return Lock(path=path, sources=sources)


def write_lock(lock: Lock) -> None:
    """Write the lock atomically, entries and files sorted.

    Raises:
        SourceError: the file cannot be written.
    """
    sources = [_raw(entry) for _, entry in sorted(lock.sources.items())]
    text = json.dumps({"lock_version": 1, "sources": sources}, indent=1, ensure_ascii=False) + "\n"
    try:
        write_atomically(lock.path, text.encode("utf-8"))
    except OSError as error:
        raise SourceError(
            f"{lock.path}: cannot be written: {error.strerror or error}; name another with --lock"
        ) from None


def _entry(raw: Mapping[str, Any]) -> LockedSource:
    splits = {name: tuple(map(_file, files)) for name, files in raw["splits"].items()}
    return LockedSource(**{**raw, "splits": splits})


def _file(raw: Mapping[str, Any]) -> LockedFile:
    algorithm: Literal["sha256", "git_blob"] = "sha256" if "sha256" in raw else "git_blob"
    return LockedFile(
        path=raw["path"], size=raw["size"], algorithm=algorithm, digest=raw[algorithm]
    )


def _raw(entry: LockedSource) -> dict[str, Any]:
    return {
        "hub": entry.hub,
        "config": entry.config,
        "revision": entry.revision,
        "commit": entry.commit,
        "splits": {
            name: [
                {"path": file.path, "size": file.size, file.algorithm: file.digest}
                for file in sorted(files)
            ]
            for name, files in sorted(entry.splits.items())
        },
    }


def _git_blob(path: Path) -> str:
    """Git's name of a file. Source: "Git Internals - Git Objects", Pro Git, section 10.2."""
    data = path.read_bytes()  # only files that are small enough for git itself have one
    header = f"blob {len(data)}\0".encode()
    return hashlib.sha1(header + data, usedforsecurity=False).hexdigest()
