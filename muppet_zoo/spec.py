"""TaskSpec: one labelled dataset as a frozen record.

`parse_task_spec` turns a document into a record or into findings, all of them at once: those of the
schema (`validation.py`) and those that a schema cannot say (`spec_checks.py`). Checks that need
several specs are in `zoo.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muppet_zoo.errors import SpecError
from muppet_zoo.formats import FORMATS, Format
from muppet_zoo.heads import HEADS, Head
from muppet_zoo.row_operations import OPERATIONS, RowOperation
from muppet_zoo.spec_checks import cross_findings
from muppet_zoo.spec_fields import record_of
from muppet_zoo.validation import check_schema
from muppet_zoo.yaml_reader import Document

CONVERSION = "refs/convert/parquet"
"""The branch on which the hub keeps its own Parquet files of a dataset, CONFIG/SPLIT/NNNN.parquet.

Source: https://huggingface.co/docs/dataset-viewer/parquet
"""

_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, kw_only=True)
class Split:
    """A role's rows: a source split, or `carve_percent` of one that publishes too few splits."""

    split: str
    labels: bool = True
    carve_percent: int = 0
    carve_seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where rows come from: a dataset on the hub, or files beside the spec (under `root`)."""

    hub: str | None
    config: str | None
    revision: str | None
    files: Mapping[str, str]
    columns: Mapping[str, str]
    splits: Mapping[str, Split]
    root: Path


@dataclass(frozen=True, kw_only=True)
class TaskSpec:
    """One task. Field by field as in `schemas/task_spec.schema.json`; `path` is its file."""

    name: str
    family: str
    description: str
    source: Source
    rows: tuple[RowOperation, ...]
    inputs: Format
    head: Head
    metrics: tuple[str, ...]
    on_bad_row: str
    license: str
    citation: str
    homepage: str
    languages: tuple[str, ...]
    lineage: tuple[str, ...]
    spec_version: int
    path: Path
    raw: Mapping[str, Any]

    @property
    def num_labels(self) -> int | None:
        """Size of the closed label set; None where the head has none."""
        labels = getattr(self.head, "labels", None)
        return len(labels) if labels is not None else None


def is_commit(revision: str) -> bool:
    """Whether a revision is a commit, which stays what it is, and no branch or tag."""
    return _COMMIT.fullmatch(revision) is not None


def parse_task_spec(document: Document) -> TaskSpec:
    """The record of a spec file.

    Raises:
        SpecError: with every finding of the schema, and those cross-checks of `spec_checks` whose
            part of the file the schema finds nothing wrong with.
    """
    schema = check_schema(document, "task_spec")
    findings = [*schema.findings, *cross_findings(document, schema)]
    if findings:
        raise SpecError(findings)
    return build_task_spec(document)


def build_task_spec(document: Document) -> TaskSpec:
    """The record of a document that is known to be right."""
    data = document.data
    kept = ("name", "family", "description", "license", "citation", "homepage", "spec_version")
    return TaskSpec(
        **{key: data[key] for key in kept},
        source=_source(data["source"], document.path.parent),
        rows=tuple(record_of(OPERATIONS[raw["op"]], raw) for raw in data.get("rows", [])),
        inputs=record_of(FORMATS[data["inputs"]["format"]], data["inputs"]),
        head=record_of(HEADS[data["head"]["type"]], data["head"]),
        metrics=tuple(data["metrics"]),
        on_bad_row=data.get("on_bad_row", "error"),
        languages=tuple(data["languages"]),
        lineage=tuple(data.get("lineage", ())),
        path=document.path,
        raw=data,
    )


def _source(data: Mapping[str, Any], root: Path) -> Source:
    return Source(
        hub=data.get("hub"),
        config=data.get("config"),
        revision=data.get("revision"),
        files=data.get("files", {}),
        columns=data["columns"],
        splits={role: _split(value) for role, value in data["splits"].items()},
        root=root,
    )


def _split(value: str | Mapping[str, Any]) -> Split:
    if isinstance(value, str):
        return Split(split=value)
    if "carve_from" in value:
        return Split(
            split=value["carve_from"],
            carve_percent=value["percent"],
            carve_seed=value.get("seed", 0),
        )
    return Split(split=value["split"], labels=value.get("labels", True))
