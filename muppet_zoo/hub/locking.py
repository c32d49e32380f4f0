"""Hub specs → entries of a lock: what each revision means now, file by file.

An entry is shared by all tasks that read the same configuration at the same revision, so it always
has the splits of all of them. What fails leaves the others, and the entry that was there, alone.
The file is written after every entry that changed: a run that is stopped loses one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from muppet_zoo.errors import MuppetZooError
from muppet_zoo.hub.errors import HubUnreachableError
from muppet_zoo.hub.files import commit_of, file_records, split_files
from muppet_zoo.hub.lock import Key, Lock, LockedFile, LockedSource, key_of, write_lock
from muppet_zoo.spec import Source, TaskSpec, is_commit

Status = Literal["added", "kept", "completed", "unchanged", "renewed", "removed", "failed"]


@dataclass(frozen=True, kw_only=True)
class LockOutcome:
    """What became of one entry. `changes` says in words how it differs from the one before."""

    tasks: tuple[str, ...]
    key: Key
    status: Status
    entry: LockedSource | None = None
    changes: tuple[str, ...] = ()
    error: MuppetZooError | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data for `--json`."""
        hub, config, revision = self.key
        files = self.entry.files.values() if self.entry else ()
        return {
            "hub": hub,
            "config": config or None,
            "revision": revision,
            "tasks": list(self.tasks),
            "status": self.status,
            "commit": self.entry and self.entry.commit,
            "files": len(files),
            "bytes": sum(file.size for file in files),
            "changes": list(self.changes),
            "error": self.error and str(self.error),
        }


def lock_specs(
    chosen: Iterable[TaskSpec],
    lock: Lock,
    *,
    everything: Iterable[TaskSpec],
    update: bool,
    on_outcome: Callable[[LockOutcome], None],
) -> list[LockOutcome]:
    """Bring the entries of the chosen hub specs up to date in the lock's file.

    everything: all specs that use this lock; entries are made for all that they read, and with
    `update` the entries that none of them reads are removed. Without `update` an entry keeps its
    commit and gets only the splits that it lacks.

    Raises:
        HubUnreachableError: at the first entry, since the others would fail alike.
        SourceError: the file cannot be written.
    """
    readers = _by_key(everything)
    asker = _Asker()
    outcomes = []
    for key in sorted(_by_key(chosen)):
        outcome = _outcome(readers[key], lock, asker, update=update)
        if outcome.entry and outcome.entry != lock.sources.get(key):
            lock = lock.with_entry(outcome.entry)
            write_lock(lock)
        outcomes.append(outcome)
        on_outcome(outcome)
    stale = sorted(lock.sources.keys() - readers.keys()) if update else []
    if stale:
        write_lock(lock.without(stale))
    return outcomes + [LockOutcome(tasks=(), key=key, status="removed") for key in stale]


def _by_key(specs: Iterable[TaskSpec]) -> dict[Key, list[TaskSpec]]:
    found: dict[Key, list[TaskSpec]] = {}
    for spec in specs:
        if spec.source.hub:
            found.setdefault(key_of(spec.source), []).append(spec)
    return found


class _Asker:
    """Asks the hub for entries, and once for a commit: a dataset's configurations stay together."""

    def __init__(self) -> None:
        self._commits: dict[tuple[str, str], str] = {}

    def entry(self, source: Source, splits: Iterable[str], commit: str | None) -> LockedSource:
        """The source's entry at `commit`, or at the one that its revision means now."""
        commit = commit or self._commit(source)
        paths = split_files(source, splits, commit)
        every = sorted({path for files in paths.values() for path in files})
        records = {file.path: file for file in file_records(source, every, commit)}
        return LockedSource(
            hub=str(source.hub),
            config=source.config,
            revision=str(source.revision),
            commit=commit,
            splits={name: tuple(records[path] for path in files) for name, files in paths.items()},
        )

    def _commit(self, source: Source) -> str:
        revision = str(source.revision)
        if is_commit(revision):
            return revision
        key = str(source.hub), revision
        if key not in self._commits:
            self._commits[key] = commit_of(source)
        return self._commits[key]


def _outcome(specs: list[TaskSpec], lock: Lock, asker: _Asker, *, update: bool) -> LockOutcome:
    source = specs[0].source
    result = LockOutcome(
        tasks=tuple(spec.name for spec in specs), key=key_of(source), status="failed"
    )
    splits = {split.split for spec in specs for split in spec.source.splits.values()}
    old = lock.sources.get(result.key)
    try:
        if update or old is None:
            return _compared(result, old, asker.entry(source, splits, None))
        lacking = splits - old.splits.keys()
        if not lacking:
            return replace(result, status="kept", entry=old)
        more = asker.entry(source, lacking, old.commit)
        entry = replace(old, splits={**old.splits, **more.splits})
        return _compared(replace(result, status="completed"), old, entry)
    except HubUnreachableError:
        raise  # the others would fail alike
    except MuppetZooError as error:
        return replace(result, entry=old, error=error)


def _compared(result: LockOutcome, old: LockedSource | None, new: LockedSource) -> LockOutcome:
    if old is None:
        return replace(result, status="added", entry=new)
    changes = tuple(_changes(old, new))
    if not changes:
        return replace(result, status="unchanged", entry=new)
    status: Status = "completed" if result.status == "completed" else "renewed"
    return replace(result, status=status, entry=new, changes=changes)


def _changes(old: LockedSource, new: LockedSource) -> Iterator[str]:
    if old.commit != new.commit:
        yield f"commit {old.commit[:10]} -> {new.commit[:10]}"
    before, after = old.files, new.files
    for path in sorted(before.keys() | after.keys()):
        if before.get(path) != after.get(path):
            yield _file_change(path, before.get(path), after.get(path))


def _file_change(path: str, old: LockedFile | None, new: LockedFile | None) -> str:
    if old is None or new is None:
        return f"{path} {'gone' if new is None else 'new'}"
    return f"{path} changed, {old.size:,} -> {new.size:,} bytes"
