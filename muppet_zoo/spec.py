"""TaskSpec: one labelled dataset as a frozen record, and the checks that a schema cannot say.

`parse_task_spec` turns a document into a record or into findings, all of them at once. The checks
here need one spec and no data; those that need several specs are in `zoo.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muppet_zoo.errors import Finding, SpecError, suggest
from muppet_zoo.formats import FORMATS, Format, MultipleChoice
from muppet_zoo.heads import HEADS, Generation, Head, Regression
from muppet_zoo.heads import MultipleChoice as MultipleChoiceHead
from muppet_zoo.metrics import METRICS
from muppet_zoo.rows import OPERATIONS, Columns, RowOperation, Template
from muppet_zoo.validation import schema_findings
from muppet_zoo.yaml_reader import DataPath, Document

_TEMPLATE_KEYS = frozenset({"text", "first", "second", "question", "template"})


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
    spec_version: int
    path: Path
    raw: Mapping[str, Any]

    @property
    def num_labels(self) -> int | None:
        """Size of the closed label set; None where the head has none."""
        labels = getattr(self.head, "labels", None)
        return len(labels) if labels is not None else None


def parse_task_spec(document: Document) -> TaskSpec:
    """The record of a spec file.

    Raises:
        SpecError: with every finding of the schema and, where it holds, of the cross-checks.
    """
    findings = schema_findings(document, "task_spec") or list(_template_findings(document))
    if findings:
        raise SpecError(findings)
    spec = _build(document)
    findings = [document.finding(path, message) for path, message in _cross_checks(spec)]
    if findings:
        raise SpecError(findings)
    return spec


def _template_findings(document: Document) -> Iterator[Finding]:
    for path, text in _templates(document.data):
        try:
            Template(text)
        except ValueError as error:
            yield document.finding(path, str(error))


def _templates(data: Mapping[str, Any]) -> Iterator[tuple[DataPath, str]]:
    for i, operation in enumerate(data.get("rows", [])):
        if "template" in operation:
            yield ("rows", i, "template"), operation["template"]
    inputs = data["inputs"]
    for key in ("text", "first", "second", "question"):
        if key in inputs:
            yield ("inputs", key), inputs[key]
    if inputs["format"] == "multiple_choice":
        yield ("inputs", "context"), inputs["context"]
        if isinstance(inputs["choices"], list):
            yield from ((("inputs", "choices", i), t) for i, t in enumerate(inputs["choices"]))
    if data["head"]["type"] == Generation.type:
        yield ("head", "target"), data["head"]["target"]


def _build(document: Document) -> TaskSpec:
    data = document.data
    kept = ("name", "family", "description", "license", "citation", "homepage", "spec_version")
    return TaskSpec(
        **{key: data[key] for key in kept},
        source=_source(data["source"], document.path.parent),
        rows=tuple(_operation(raw) for raw in data.get("rows", [])),
        inputs=_inputs(data["inputs"]),
        head=_head(data["head"]),
        metrics=tuple(data["metrics"]),
        on_bad_row=data.get("on_bad_row", "error"),
        languages=tuple(data["languages"]),
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


def _operation(data: Mapping[str, Any]) -> RowOperation:
    fields = {key: _frozen(key, value) for key, value in data.items() if key != "op"}
    return OPERATIONS[data["op"]](**fields)


def _inputs(data: Mapping[str, Any]) -> Format:
    fields = {key: _frozen(key, value) for key, value in data.items() if key != "format"}
    if data["format"] == MultipleChoice.format:
        fields["context"] = Template(data["context"])
        if isinstance(data["choices"], list):
            fields["choices"] = tuple(Template(choice) for choice in data["choices"])
    return FORMATS[data["format"]](**fields)


def _head(data: Mapping[str, Any]) -> Head:
    fields = {key: _frozen(key, value) for key, value in data.items() if key != "type"}
    if data["type"] == Generation.type:
        fields["target"] = Template(data["target"])
    return HEADS[data["type"]](**fields)


def _frozen(key: str, value: Any) -> Any:
    if key in _TEMPLATE_KEYS:
        return Template(value)
    return tuple(value) if isinstance(value, list) else value


# --- cross-checks: what the schema cannot say ------------------------------------------------


def _cross_checks(spec: TaskSpec) -> Iterator[tuple[DataPath, str]]:
    if spec.path.stem != spec.name:
        yield ("name",), f"found '{spec.name}', but the file is {spec.path.name}; both must be equal"
    yield from _check_source(spec.source)
    columns: Columns = dict(spec.source.columns)
    for i, operation in enumerate(spec.rows):
        for column in operation.needs():
            yield from _check_column(("rows", i), column, columns)
        columns = operation.leaves(columns)
    for column in spec.inputs.columns():
        yield from _check_column(("inputs",), column, columns)
    for column in spec.head.columns():
        yield from _check_column(("head",), column, columns)
    yield from _check_head(spec, columns)
    for i, name in enumerate(spec.metrics):
        if spec.head.type not in METRICS[name].heads:
            suited = [m.name for m in METRICS.values() if spec.head.type in m.heads]
            yield (
                ("metrics", i),
                f"{name} does not score a {spec.head.type} head; allowed: {', '.join(suited)}",
            )


def _check_source(source: Source) -> Iterator[tuple[DataPath, str]]:
    for role, split in source.splits.items():
        if source.files and split.split not in source.files:
            message = f"no file is given for split '{split.split}'{suggest(split.split, source.files)}"
            yield ("source", "splits", role), message
        if split.carve_percent and role.startswith("train"):
            yield ("source", "splits", role), "a training role cannot be carved; carve the others"
    named = {split.split for split in source.splits.values()}
    for name, file in source.files.items():
        if name not in named:
            yield ("source", "files", name), f"split '{name}' is used by no role in `splits`"
        inside = (source.root / file).resolve().is_relative_to(source.root.resolve())
        if Path(file).is_absolute() or not inside:
            yield ("source", "files", name), f"'{file}' leaves the spec's folder; keep data beside it"
        elif not (source.root / file).is_file():
            yield ("source", "files", name), f"no such file: {file}"


def _check_column(
    path: DataPath, column: str, columns: Mapping[str, str]
) -> Iterator[tuple[DataPath, str]]:
    outer = {known.rpartition(".")[0] for known in columns}
    opaque = any(columns.get(column[:i]) == "any" for i, c in enumerate(column) if c == ".")
    if column not in columns and column not in outer and not opaque:
        near = suggest(column, columns) or "; known: " + ", ".join(sorted(columns))
        yield path, f"'{column}' is not a column here{near}"


def _check_head(spec: TaskSpec, columns: Mapping[str, str]) -> Iterator[tuple[DataPath, str]]:
    head = spec.head
    if spec.inputs.format not in head.formats:
        allowed = ", ".join(sorted(head.formats))
        yield (
            ("head", "type"),
            f"a {head.type} head does not read the format {spec.inputs.format}; it reads: {allowed}",
        )
    kind = columns.get(head.target) if isinstance(head.target, str) else None
    if kind not in (None, "any") and kind not in head.target_kinds:
        allowed = ", ".join(sorted(head.target_kinds))
        yield ("head",), f"column '{head.target}' is of type {kind}; a {head.type} target is {allowed}"
    if isinstance(head, Regression) and head.range[0] >= head.range[1]:
        yield ("head", "range"), f"{list(head.range)} is no range; the lowest value comes first"
    if isinstance(head, MultipleChoiceHead) and isinstance(spec.inputs, MultipleChoice):
        options, keys = spec.inputs.choices, head.keys
        if isinstance(options, tuple) and isinstance(keys, tuple) and len(options) != len(keys):
            yield ("head", "keys"), f"{len(keys)} keys for {len(options)} options"
    labels = [label.strip().casefold() for label in getattr(head, "labels", ())]
    for i, label in enumerate(labels):
        if label in labels[:i]:
            yield ("head", "labels", i), f"'{label}' differs from another label only in case or spaces"
