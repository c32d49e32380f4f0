"""What a schema cannot say of one spec: that its parts fit each other.

Every check looks only at parts that the schema found nothing wrong with, so that a file with many
faults shows all of them in one go. No data is read; of files only their being there is checked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from muppet_zoo.errors import Finding, allowed
from muppet_zoo.formats import FORMATS
from muppet_zoo.heads import HEADS
from muppet_zoo.licenses import license_problem
from muppet_zoo.metrics import METRICS
from muppet_zoo.row_operations import OPERATIONS
from muppet_zoo.rows import Columns, Template
from muppet_zoo.spec_fields import Mention, mentions_of, record_of, templates_of
from muppet_zoo.validation import SchemaCheck
from muppet_zoo.yaml_reader import DataPath, Document

_KINDS = {
    "list": frozenset({"strings", "integers", "numbers", "labels"}),
    "text": frozenset({"string", "integer", "number", "boolean", "label"}),
}
_WANTED = {"text": "one value", "list": "a list"}
_DECIMAL = re.compile(r"-?[0-9]{1,19}")

# Where operations name the columns that they write, apart from `into` and the values of `columns`.
_WRITES: dict[str, tuple[str, ...]] = {
    "split_at": ("left", "right"),
    "locate": ("into_answers", "into_starts"),
    "keep_words": ("into", "into_answers", "into_starts"),
}


class _Problem(NamedTuple):
    path: DataPath
    message: str
    at_key: bool = False


def cross_findings(document: Document, schema: SchemaCheck) -> Iterator[Finding]:
    """All findings, in no particular order."""
    data = schema.data
    problems = (
        *_check_name(document, schema),
        *_check_license(data, schema),
        *_check_templates(data, schema),
        *_check_source(data, document.path.parent, schema),
        *_check_columns(data, schema),
        *_check_written(data, schema),
        *_check_leak(data, schema),
        *_check_mapped(data, schema),
        *_check_fit(data, schema),
    )
    for problem in problems:
        yield document.finding(problem.path, problem.message, at_key=problem.at_key)


def _check_name(document: Document, schema: SchemaCheck) -> Iterator[_Problem]:
    if schema.intact("name") and document.path.stem != document.data["name"]:
        name = document.data["name"]
        message = f"found '{name}', but the file is {document.path.name}; both must be equal"
        yield _Problem(("name",), message)


def _check_license(data: Mapping[str, Any], schema: SchemaCheck) -> Iterator[_Problem]:
    problem = license_problem(data["license"]) if schema.intact("license") else None
    if problem is not None:
        yield _Problem(("license",), problem)


# --- source ----------------------------------------------------------------------------------


def _check_source(data: Mapping[str, Any], root: Path, schema: SchemaCheck) -> Iterator[_Problem]:
    if not schema.intact("source", "splits"):
        return
    source = data["source"]
    splits: Mapping[str, Any] = source["splits"]
    named = {role: _source_split(value) for role, value in splits.items()}
    yield from _check_carving(splits)
    if "files" not in source or not schema.intact("source", "files"):
        return
    files: Mapping[str, str] = source["files"]
    for role, split in named.items():
        if split not in files:
            message = f"no file is given for '{split}'{allowed(split, files)}"
            yield _Problem(("source", "splits", role), message)
    for split, file in files.items():
        path: DataPath = ("source", "files", split)
        if split not in named.values() and set(named.values()) <= set(files):
            yield _Problem(path, f"no role in `splits` reads '{split}'", at_key=True)
        problem = _file_problem(root, file)
        if problem:
            yield _Problem(path, problem)


def _source_split(value: str | Mapping[str, Any]) -> str:
    if isinstance(value, str):
        return value
    return str(value["split"] if "split" in value else value["carve_from"])


def _check_carving(splits: Mapping[str, Any]) -> Iterator[_Problem]:
    carved: dict[str, int] = {}
    for role, value in splits.items():
        if not isinstance(value, dict) or "carve_from" not in value:
            continue
        split = value["carve_from"]
        if role.startswith("train"):
            message = "rows are carved for validation and test; training takes what is left"
            yield _Problem(("source", "splits", role), message)
        carved[split] = carved.get(split, 0) + value["percent"]
        if carved[split] >= 100:
            message = f"{carved[split]} percent of '{split}' are carved away; some must be left"
            yield _Problem(("source", "splits", role, "percent"), message)


def _file_problem(root: Path, file: str) -> str | None:
    if Path(file).is_absolute() or not (root / file).resolve().is_relative_to(root.resolve()):
        return f"'{file}' leaves the folder of the spec; keep data beside it"
    return None if (root / file).is_file() else f"no such file: {file}"


# --- templates and columns -------------------------------------------------------------------


def _check_templates(data: Mapping[str, Any], schema: SchemaCheck) -> Iterator[_Problem]:
    for path, kind, raw in _sections(data, schema):
        for inner, text in templates_of(kind, raw):
            try:
                Template(text)
            except ValueError as error:
                yield _Problem((*path, *inner), str(error))


def _sections(
    data: Mapping[str, Any], schema: SchemaCheck
) -> Iterator[tuple[DataPath, type, Mapping[str, Any]]]:
    """Path, record type and mapping of each row operation, of the inputs and of the head."""
    for i, raw in enumerate(data.get("rows", []) if schema.intact("rows") else []):
        yield ("rows", i), OPERATIONS[raw["op"]], raw
    if schema.intact("inputs"):
        yield ("inputs",), FORMATS[data["inputs"]["format"]], data["inputs"]
    if schema.intact("head"):
        yield ("head",), HEADS[data["head"]["type"]], data["head"]


def _check_columns(data: Mapping[str, Any], schema: SchemaCheck) -> Iterator[_Problem]:
    """Follows the columns from the source through the row operations to inputs and head."""
    if not schema.intact("source", "columns") or not schema.intact("rows"):
        return
    columns: Columns = dict(data["source"]["columns"])
    for path, kind, raw in _sections(data, schema):
        try:
            record: Any = record_of(kind, raw)
        except ValueError:  # a malformed template, reported already
            if path[0] == "rows":
                return
            continue
        is_operation = path[0] == "rows"
        needs = record.needs() if is_operation else record.columns()
        for mention in mentions_of(kind, raw, needs):
            if raw.get("op") == "pick" and "index" in raw:
                mention = replace(mention, wanted="list")
            problem = _column_problem(mention, columns)
            if problem:
                yield _Problem((*path, *mention.path), problem, at_key=mention.at_key)
        for inner, text in templates_of(kind, raw):
            if text in columns:
                message = f"this is the word '{text}' itself; write \"{{{text}}}\" for the column"
                yield _Problem((*path, *inner), message)
        if path == ("inputs",) and not needs:
            message = "no column is named, so every row would read the same; write {column}"
            yield _Problem(path, message)
        if path == ("head",):
            yield from _check_target(data["head"], columns)
        if is_operation:
            columns = record.leaves(columns)


def _column_problem(mention: Mention, columns: Columns) -> str | None:
    column = mention.column
    kind = columns.get(column)
    if kind is None and any(known.startswith(f"{column}.") for known in columns):
        kind = "a mapping of fields"
    if kind is None:
        opaque = any(columns.get(column[:i]) == "any" for i, c in enumerate(column) if c == ".")
        return None if opaque else f"'{column}' is not a column here{allowed(column, columns)}"
    if mention.wanted is None or kind == "any" or kind in _KINDS[mention.wanted]:
        return None
    return f"column '{column}' is declared as {kind}; {_WANTED[mention.wanted]} is expected here"


def _check_target(head: Mapping[str, Any], columns: Columns) -> Iterator[_Problem]:
    kind = HEADS[head["type"]]
    key = "answers" if "answers" in head else "target"
    declared = columns.get(head[key])
    if declared not in (None, "any") and declared not in kind.target_kinds:
        message = (
            f"column '{head[key]}' is declared as {declared}; "
            f"a {kind.type} target is one of: {', '.join(sorted(kind.target_kinds))}"
        )
        yield _Problem(("head", key), message)


# --- what row operations write ---------------------------------------------------------------


def _written(raw: Mapping[str, Any]) -> list[tuple[DataPath, str]]:
    """The columns that an operation writes, each with its place in the operation."""
    if raw["op"] in ("rename", "explode"):
        return [(("columns", old), new) for old, new in raw["columns"].items()]
    fields = _WRITES.get(raw["op"], ("into",))
    return [((name,), raw[name]) for name in fields if name in raw]


def _check_written(data: Mapping[str, Any], schema: SchemaCheck) -> Iterator[_Problem]:
    for i, raw in enumerate(data.get("rows", []) if schema.intact("rows") else []):
        seen: set[str] = set()
        for path, column in _written(raw):
            if column in seen:
                message = f"'{column}' is written twice by this operation; one would be lost"
                yield _Problem(("rows", i, *path), message)
            seen.add(column)


def _check_leak(data: Mapping[str, Any], schema: SchemaCheck) -> Iterator[_Problem]:
    """What is to be predicted must not be there to read."""
    if not schema.intact("inputs") or not schema.intact("head"):
        return
    kind, head = FORMATS[data["inputs"]["format"]], data["head"]
    try:
        record: Any = record_of(kind, data["inputs"])
        targets = Template(head["target"]).columns if head["type"] == "generation" else ()
    except ValueError:  # a malformed template, reported already
        return
    read = record.columns()
    targets = targets or (head.get("target", head.get("answers")),)
    if not set(targets) <= set(read):
        return
    for mention in mentions_of(kind, data["inputs"], read):
        if mention.column in targets:
            message = f"'{mention.column}' is what the head predicts; the model would read it"
            yield _Problem(("inputs", *mention.path), message)


def _check_mapped(data: Mapping[str, Any], schema: SchemaCheck) -> Iterator[_Problem]:
    """Follows the target back to a table that writes it, whose values must be ones it can have."""
    if not schema.intact("rows") or not schema.intact("head") or "target" not in data["head"]:
        return
    head, column = data["head"], data["head"]["target"]
    dropped: list[Any] = []
    for i, raw in reversed(list(enumerate(data.get("rows", [])))):
        if raw["op"] == "drop_where" and raw["column"] == column:
            dropped += raw["values"]
        elif raw["op"] == "keep_where" and raw["column"] == column:
            return
        elif raw["op"] == "map_values" and raw["column"] == column:
            for key, value in raw["values"].items():
                problem = None if value in dropped else _value_problem(head, value)
                if problem:
                    yield _Problem(("rows", i, "values", key), problem)
            return
        elif raw["op"] == "rename" and column in raw["columns"].values():
            column = next(old for old, new in raw["columns"].items() if new == column)
        elif column in [new for _, new in _written(raw)]:
            return


def _value_problem(head: Mapping[str, Any], value: Any) -> str | None:
    """Why this is no target of a head of classification or regression; others are not decided."""
    if head["type"] == "classification":
        labels = head["labels"]
        if value in labels or (isinstance(value, int) and 0 <= value < len(labels)):
            return None
        return f"{value!r} is no label of the head{allowed(str(value), labels)}"
    if head["type"] == "regression":
        low, high = head["range"]
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if is_number and low <= value <= high:
            return None
        return f"{value!r} is not in the head's range, {low} to {high}"
    return None


# --- inputs, head and metrics ----------------------------------------------------------------


def _check_fit(data: Mapping[str, Any], schema: SchemaCheck) -> Iterator[_Problem]:
    if not schema.intact("head", "type"):
        return
    kind = HEADS[data["head"]["type"]]
    if schema.intact("inputs", "format") and data["inputs"]["format"] not in kind.formats:
        found = data["inputs"]["format"]
        formats = ", ".join(sorted(kind.formats))
        message = f"a {kind.type} head does not read the format {found}; it reads: {formats}"
        yield _Problem(("head", "type"), message)
    if schema.intact("metrics"):
        suited = [metric.name for metric in METRICS.values() if kind.type in metric.heads]
        for i, name in enumerate(data["metrics"]):
            if name not in suited:
                message = f"{name} does not score a {kind.type} head; allowed: {', '.join(suited)}"
                yield _Problem(("metrics", i), message)
            elif "labels" in data["head"] and schema.intact("head"):
                problem = METRICS[name].labels_problem(data["head"]["labels"])
                if METRICS[name].grouped and not data["head"].get("group"):
                    problem = "the head names no `group`, the columns equal within one group"
                if problem:
                    yield _Problem(("metrics", i), f"{name}: {problem}")
    if schema.intact("head"):
        yield from _check_head_values(data["head"])
        if schema.intact("inputs"):
            yield from _check_option_keys(data["inputs"], data["head"])


def _check_head_values(head: Mapping[str, Any]) -> Iterator[_Problem]:
    if "range" in head and head["range"][0] >= head["range"][1]:
        yield _Problem(
            ("head", "range"), f"{head['range']} is no range; the lowest value comes first"
        )
    first: dict[str, str] = {}
    for i, label in enumerate(head.get("labels", [])):
        other = first.setdefault(label.strip().casefold(), label)
        if other is not label:
            message = f"'{label}' differs from the label '{other}' only in case or spaces"
            yield _Problem(("head", "labels", i), message)
        # A number in the data is the label at that place; CSV cannot tell it from a label's name.
        if _DECIMAL.fullmatch(label) and int(label) != i:
            message = f"'{label}' reads as label number {int(label)}, but is number {i}; name it"
            yield _Problem(("head", "labels", i), f"{message} with letters")


def _check_option_keys(inputs: Mapping[str, Any], head: Mapping[str, Any]) -> Iterator[_Problem]:
    options, keys = inputs.get("choices"), head.get("keys")
    if isinstance(options, list) and isinstance(keys, list) and len(options) != len(keys):
        yield _Problem(("head", "keys"), f"{len(keys)} keys for {len(options)} options")
