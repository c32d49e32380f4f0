"""Rows of a dataset on the Hugging Face hub, pinned to one commit.

A branch or tag moves, so the commit is taken from the lock, or asked for where there is no entry,
before anything is read, and it is part of the rows' identity. Files that the lock knows are
compared with it before a row is made of them. The `datasets` library converts and memory-maps; it
is imported only when rows are read.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from muppet_zoo.errors import SourceError, allowed
from muppet_zoo.hub.errors import asking
from muppet_zoo.hub.files import (
    check_reachable,
    commit_of,
    download,
    is_cached,
    open_builder,
    split_files,
)
from muppet_zoo.hub.lock import Lock, LockedFile, LockedSource
from muppet_zoo.row_files import Meter, NumberedRows
from muppet_zoo.spec import CONVERSION, Source, is_commit

_BATCH_ROWS = 1024


@dataclass(kw_only=True)
class HubRows:
    """One split of a task's hub dataset at a fixed commit, read through the libraries' caches."""

    task: str
    source: Source
    split: str
    lock: Lock | None = None

    @property
    def where(self) -> str:
        config = f" ({self.source.config})" if self.source.config else ""
        return f"hub dataset {self.source.hub}{config}, split '{self.split}'"

    def digest(self) -> str:
        return f"hub:{self.source.hub}:{self.source.config or ''}:{self.split}:{self._commit}"

    def rows(self, start: int, meter: Meter) -> NumberedRows:
        dataset = self._dataset
        row = min(start, len(dataset))
        if row == len(dataset):
            return
        rest = dataset.select(range(row, len(dataset))).with_format("arrow")
        for table in rest.iter(_BATCH_ROWS):
            yield from enumerate(table.to_pylist(), start=row)
            row += table.num_rows
            meter.fraction = row / len(dataset)

    def check_unchanged(self) -> None:
        """A commit does not change."""

    def label_names(self, column: str) -> list[str]:
        """The dataset's own names of the numbers in a label column; none for any other column."""
        return list(getattr(self._loaded.features.get(column), "names", None) or ())

    def named_columns(self) -> list[str]:
        """All columns of the dataset, declared or not."""
        return list(self._loaded.column_names)

    @cached_property
    def _locked(self) -> LockedSource | None:
        return self.lock.find(self.task, self.source) if self.lock else None

    @cached_property
    def _commit(self) -> str:
        """The commit behind the revision; a commit in the spec is taken as is."""
        if self._locked:
            return self._locked.commit
        revision = self.source.revision or ""
        return revision if is_commit(revision) else commit_of(self.source)

    @cached_property
    def _loaded(self) -> Any:
        return self._converted() if self.source.revision == CONVERSION else self._published()

    @cached_property
    def _dataset(self) -> Any:
        dataset = self._loaded
        declared = {name.partition(".")[0] for name in self.source.columns}
        wanted = [name for name in dataset.column_names if name in declared]
        if not wanted:
            raise SourceError(
                f"{self.where}: has none of the spec's columns ({', '.join(self.source.columns)}); "
                f"it has: {', '.join(dataset.column_names)}"
            )
        return dataset.select_columns(wanted)

    def _converted(self) -> Any:
        """The Parquet files of the hub's conversion, which has no card to open it by."""
        import datasets

        locked = self._locked_files()
        paths = [*locked] or split_files(self.source, [self.split], self._commit)[self.split]
        if not all(is_cached(self.source, path, self._commit) for path in paths):
            check_reachable(self.source, self._commit)
        files = {path: download(self.source, path, self._commit) for path in paths}
        self._compare(files, locked)
        datasets.disable_progress_bars()
        names = [str(path) for path in files.values()]
        with asking(self.source, f"read split '{self.split}'"):
            return datasets.load_dataset(
                "parquet", data_files={self.split: names}, split=self.split
            )

    def _published(self) -> Any:
        """The dataset as its publisher laid it out, which the library finds out from the card."""
        builder = open_builder(self.source, self._commit)
        if locked := self._locked_files():
            files = {path: download(self.source, path, self._commit) for path in locked}
            self._compare(files, locked, prepared=Path(builder.cache_dir))
        with asking(self.source, f"read it at commit {self._commit}"):
            builder.download_and_prepare()
            splits = list(builder.info.splits)
            if self.split in splits:
                return builder.as_dataset(self.split)
        raise SourceError(f"{self.where}: there is no such split{allowed(self.split, splits)}")

    def _locked_files(self) -> dict[str, LockedFile]:
        """The recorded files of this split by path; none without an entry."""
        if self._locked is None:
            return {}
        if self.split not in self._locked.splits:
            raise SourceError(
                f"{self.where}: the lock has no files for this split; run "
                f"`muppet-zoo lock {self.task}`"
            )
        return {file.path: file for file in self._locked.splits[self.split]}

    def _compare(
        self,
        files: dict[str, Path],
        locked: dict[str, LockedFile],
        prepared: Path | None = None,
    ) -> None:
        """SourceError when a file is not the recorded one; `prepared` is what was made of them."""
        for path, file in locked.items():
            try:
                difference = file.difference(files[path])
            except OSError as error:
                reason = error.strerror or error
                raise SourceError(f"{files[path]}: cannot be read: {reason}") from None
            if difference:
                copies = " and ".join(map(str, filter(None, (files[path].resolve(), prepared))))
                raise SourceError(
                    f"{self.where}: {path} is not the file that the lock recorded at commit "
                    f"{self._commit}: {difference}. Remove {copies}, and it is fetched again; "
                    f"where the hub has changed it and that is right, first run `muppet-zoo lock "
                    f"--update {self.task}`"
                )
