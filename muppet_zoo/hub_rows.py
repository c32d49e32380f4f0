"""Rows of a dataset on the Hugging Face hub, pinned to one commit.

A branch or tag moves, so it is resolved to the commit behind it before anything is read, and that
commit is part of the rows' identity. The `datasets` library downloads, converts and memory-maps;
it runs no code of the dataset's. It is imported here only, and only when rows are read.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from muppet_zoo.errors import SourceError
from muppet_zoo.row_files import Meter, NumberedRows
from muppet_zoo.spec import Source

_BATCH_ROWS = 1024
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(kw_only=True)
class HubRows:
    """One split of a hub dataset at a fixed commit, read through the `datasets` library's cache."""

    source: Source
    split: str

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
    def _commit(self) -> str:
        """The commit behind the revision; a branch or tag is asked for, a commit is taken as is."""
        revision = self.source.revision or ""
        if _COMMIT.fullmatch(revision):
            return revision
        try:
            from huggingface_hub import HfApi

            commit = HfApi().dataset_info(str(self.source.hub), revision=revision).sha
        except Exception as error:
            raise self._unreachable(
                f"asked for the commit of revision '{revision}'", error
            ) from error
        if not commit:
            raise SourceError(f"{self.where}: the hub names no commit for revision '{revision}'")
        return commit

    @cached_property
    def _loaded(self) -> Any:
        if Path(str(self.source.hub)).exists():
            raise SourceError(
                f"{self.where}: '{self.source.hub}' is also here, in {Path.cwd()}, and the library "
                f"would read that instead; run this in another folder, or give files with --mirror"
            )
        try:
            import datasets

            datasets.disable_progress_bars()
            return datasets.load_dataset(
                str(self.source.hub), split=self.split, revision=self._commit, **self._selection()
            )
        # The library raises dozens of types, from its own to the HTTP client's; all mean the same.
        except Exception as error:
            raise self._unreachable(f"loaded it at commit {self._commit}", error) from error

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

    def _selection(self) -> dict[str, Any]:
        if self.source.revision != "refs/convert/parquet":
            return {"name": self.source.config}
        # The hub's own conversion keeps CONFIG/SPLIT/NNNN.parquet and no card, so that the library
        # sees one unnamed configuration there; the files are named instead.
        folder = self.source.config or "default"
        return {"data_files": {self.split: f"{folder}/{self.split}/*.parquet"}}

    def _unreachable(self, tried: str, error: Exception) -> SourceError:
        offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") else ""
        reason = " ".join(str(error).split())[:300]
        return SourceError(
            f"{self.where}: {tried}{offline}, and got {type(error).__name__}: {reason}. Without "
            f"the hub, give the rows as files: --mirror DIR with DIR/<task>/{self.split}.jsonl"
        )
