"""A proposal → the files of a new task: its spec, its rows beside it, a golden test.

Everything is prepared in memory and written at the end, all or nothing, so that an interrupted
dialogue leaves no trace. Into a checkout go tasks of the hub, under the folder that follows from
the head; rows of one's own go with their spec into a folder of one's own (`--specs`), since the
zoo distributes no data.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

from muppet_zoo.add_task.proposals import FACTS, HEAD_FIELDS, INPUTS, Proposal
from muppet_zoo.add_task.samples import Sample, flat
from muppet_zoo.add_task.spec_writer import spec_yaml
from muppet_zoo.errors import Finding, SpecError, UsageError
from muppet_zoo.examples import Example, examples_of
from muppet_zoo.file_tools import write_atomically
from muppet_zoo.heads import Classification, MultiLabel
from muppet_zoo.rows import Row, RowProblem
from muppet_zoo.spans import SpanTarget
from muppet_zoo.spec import TaskSpec, build_task_spec
from muppet_zoo.spec_checks import cross_findings
from muppet_zoo.validation import check_schema
from muppet_zoo.yaml_reader import parse_yaml
from muppet_zoo.zoo import shipped_specs

FOLDER_OF_HEAD = {
    "classification": "classification",
    "multi_label": "classification",
    "regression": "classification",
    "multiple_choice": "commonsense",
    "span": "reading_comprehension",
    "token_classification": "tagging",
    "generation": "summarization",
}
NUM_KEPT_ROWS = 20  # per split, in the sample that a checkout keeps out of git
_TO_CHECK = (
    "made by add-task of a row of the dataset: put sentences of your own in its place, and check "
    "segments, target and label by hand"
)
_NO_ANSWER = "☃ not a part of the text ☃"


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a task's files go. `checkout` is its root where the spec joins the zoo, else None."""

    spec: Path
    checkout: Path | None


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A spec that is not written yet, with what is wrong with it."""

    text: str
    spec: TaskSpec | None
    findings: tuple[Finding, ...]


def check_place(sample: Sample, specs: Path | None) -> None:
    """Whether there is a place for a spec, before anything is asked.

    Raises:
        UsageError: there is none, or rows of the user's own would go into the zoo.
    """
    if specs is not None:
        return
    if sample.files:
        raise UsageError(
            "the zoo holds no rows; give --specs DIR, where the spec goes and the rows beside it"
        )
    if checkout_root() is None:
        raise UsageError("this is no checkout of muppet-zoo; give --specs DIR, where the spec goes")


def place_of(sample: Sample, values: Mapping[str, Any], specs: Path | None) -> Place:
    """Where the spec goes: `specs`, else the zoo of the checkout that the user is in.

    Raises:
        UsageError: as `check_place`.
    """
    check_place(sample, specs)
    name, root = f"{values['name']}.yaml", checkout_root()
    if specs is not None or root is None:
        return Place(spec=(specs or Path()) / name, checkout=None)
    return Place(spec=root / "task_specs" / FOLDER_OF_HEAD[values["head"]] / name, checkout=root)


def checkout_root() -> Path | None:
    """The root of the checkout that the current folder is in; None elsewhere."""
    root = shipped_specs().parent.resolve()
    is_inside = Path.cwd().resolve().is_relative_to(root)
    return root if is_inside and (root / "pyproject.toml").is_file() else None


def make_draft(sample: Sample, proposal: Proposal, path: Path) -> Draft:
    """The spec as text and, where nothing is missing or wrong, as a record.

    What is missing is left out, so that each gap is a finding. That the files are not beside the
    spec yet is none.
    """
    data = _spec_data(sample, proposal.values, path)
    text = spec_yaml(data, _reasons(proposal), schema=_schema_from(path.parent))
    document = parse_yaml(text, path)
    if document.data != data:
        raise AssertionError(f"the spec does not read as it was written: {path}")
    schema = check_schema(document, "task_spec")
    findings = tuple(
        finding
        for finding in (*schema.findings, *cross_findings(document, schema))
        if not finding.field.startswith("source.files")
    )
    spec = None if findings else build_task_spec(document)
    return Draft(text=text, spec=spec, findings=findings)


def with_placeholders(proposal: Proposal) -> Proposal:
    """The proposal with something in the place of labels or range that are still to be asked for.

    The checks look at a head only when all of it is there.
    """
    stand_ins = {"labels": ["no", "yes"], "range": [0, 1]}
    missing = {name: value for name, value in stand_ins.items() if name in proposal.missing}
    return replace(proposal, values={**proposal.values, **missing})


def field_of(finding: Finding) -> str:
    """The field of the dialogue that a finding is about: `labels` of `head.labels[1]`."""
    parts = finding.field.replace("[", ".").split(".")
    if parts[0] in ("inputs", "head", "source") and len(parts) > 1:
        return {"format": "format", "type": "head"}.get(parts[1], parts[1])
    return parts[0]


def _spec_data(sample: Sample, values: Mapping[str, Any], path: Path) -> dict[str, Any]:
    files = {split: str(_beside(file, path, values)) for split, file in sample.files.items()}
    read = {_source_split(split) for split in values.get("splits", {}).values()}
    files = {split: file for split, file in files.items() if split in read} or files
    inputs, head = values.get("format", ""), values.get("head", "")
    data = {
        "spec_version": 1,
        "name": values["name"],
        "family": values.get("family"),
        "description": values.get("description"),
        "source": {
            **sample.origin,
            **({"files": files} if files else {}),
            "columns": values["columns"],
            "splits": values.get("splits"),
        },
        "rows": values["rows"],
        "inputs": {"format": inputs} | _present(values, INPUTS.get(inputs, ())),
        "head": {"type": head} | _present(values, HEAD_FIELDS.get(head, ())),
        "metrics": values.get("metrics"),
        **_present(values, FACTS[1:]),
    }
    return {key: value for key, value in data.items() if value not in (None, [])}


def _source_split(value: Any) -> str:
    return value if isinstance(value, str) else str(value.get("split", value.get("carve_from")))


def _present(values: Mapping[str, Any], fields: Sequence[str]) -> dict[str, Any]:
    return {field: values[field] for field in fields if field in values}


def _reasons(proposal: Proposal) -> dict[str, str]:
    why = proposal.reasons
    target = why.get("target", "")
    reasons = {
        "family": why.get("family", ""),
        "splits": why.get("splits", ""),
        "inputs": why.get("format", ""),
        "head": "; ".join(filter(None, (target, why.get("labels", why.get("range", ""))))),
        "metrics": why.get("metrics", ""),
    }
    return {key: reason for key, reason in reasons.items() if reason and reason != "as given"}


def _schema_from(folder: Path) -> str:
    schema = Path(str(resources.files("muppet_zoo"))) / "schemas" / "task_spec.schema.json"
    return Path(os.path.relpath(schema, folder.resolve())).as_posix()


def _beside(file: Path, spec: Path, values: Mapping[str, Any]) -> Path:
    """The file as the spec names it: where it lies when that is beside the spec, else a copy."""
    root = spec.parent.resolve()
    if file.resolve().is_relative_to(root):
        return file.resolve().relative_to(root)
    return Path("data") / str(values["name"]) / file.name


# --- what is written -------------------------------------------------------------------------


def planned_files(sample: Sample, draft: Draft, place: Place) -> dict[Path, bytes | Path]:
    """File → its bytes, or the file to copy. Nothing is written yet."""
    if draft.spec is None:
        raise SpecError(draft.findings)
    planned: dict[Path, bytes | Path] = {place.spec: draft.text.encode()}
    for split, name in draft.spec.source.files.items():
        target = place.spec.parent / name
        if target.resolve() != sample.files[split].resolve():
            planned[target] = sample.files[split]
    if place.checkout is not None:
        golden = golden_example(draft.spec, sample)
        if golden is not None:
            text = json.dumps(golden, indent=2, ensure_ascii=False) + "\n"
            planned[place.checkout / "tests" / "golden" / f"{draft.spec.name}.json"] = text.encode()
        for split, seen in sample.splits.items():
            file = place.checkout / "runs" / "samples" / draft.spec.name / f"{split}.jsonl"
            lines = (json.dumps(row, ensure_ascii=False) for row in seen.rows[:NUM_KEPT_ROWS])
            planned[file] = "".join(f"{line}\n" for line in lines).encode()
    return planned


def refuse_overwriting(planned: Mapping[Path, bytes | Path]) -> None:
    """UsageError when one of these files is there already."""
    present = [str(path) for path in planned if path.exists()]
    if present:
        raise UsageError(f"already there: {', '.join(present)}; overwrite with --force, or change "
                         f"the name")  # fmt: skip


def write_all(planned: Mapping[Path, bytes | Path]) -> None:
    """Write every file, or, when that fails or is interrupted, none that was not there before."""
    made: list[Path] = []
    try:
        for path, content in planned.items():
            made += _make_folders(path.parent)
            if not path.exists():
                made.append(path)
            if isinstance(content, Path):
                _copy(content, path)
            else:
                write_atomically(path, content)
    except OSError as error:
        _undo(made)
        reason = error.strerror or error
        raise UsageError(f"{error.filename or path}: cannot be written: {reason}") from None
    except BaseException:
        _undo(made)
        raise


def _make_folders(folder: Path) -> list[Path]:
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing[::-1]


def _copy(source: Path, target: Path) -> None:
    temporary = target.with_name(f"{target.name}.{os.getpid()}.tmp")
    try:
        shutil.copyfile(source, temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _undo(made: Sequence[Path]) -> None:
    for path in reversed(made):
        with suppress(OSError):
            path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)


# --- the golden test -------------------------------------------------------------------------


def golden_example(spec: TaskSpec, sample: Sample) -> dict[str, Any] | None:
    """The golden file's content for the first usable row; None where no row is usable."""
    outer = {column.partition(".")[0] for column in spec.source.columns}
    split = spec.source.splits[next(iter(spec.source.splits))].split
    for whole in sample.splits[split].rows:
        row = {name: value for name, value in whole.items() if name in outer}
        with suppress(RowProblem):
            examples = [_as_golden(spec, e) for e in examples_of(spec, 0, row, labelled=True)]
            if examples and _has_all(row, spec.source.columns):
                (first, *more) = examples
                golden = {"to_check": _TO_CHECK, "row": row, **first}
                golden |= {"more": more} if more else {}
                dropped = list(_dropped(spec, row))
                return golden | ({"dropped": dropped} if dropped else {})
    return None


def _has_all(row: Row, columns: Mapping[str, str]) -> bool:
    return set(columns) <= flat(row).keys()


def _as_golden(spec: TaskSpec, example: Example) -> dict[str, Any]:
    target: Any = example.target
    golden: dict[str, Any] = {"segments": [list(pair) for pair in example.segments.sequences]}
    if example.segments.words is not None:
        golden["words"] = list(example.segments.words)
    golden["target"] = asdict(target) if isinstance(target, SpanTarget) else target
    match spec.head:
        case Classification(labels=labels):
            golden["label"] = labels[target]
        case MultiLabel(labels=labels):
            golden["label"] = [labels[i] for i in target]
    return golden


def _dropped(spec: TaskSpec, row: Row) -> Iterator[dict[str, Any]]:
    """For each operation that leaves rows out, the columns to change for it to do so."""
    for operation in spec.raw.get("rows", []):
        if operation["op"] == "drop_where":
            yield {operation["column"]: operation["values"][0]}
        elif operation.get("if_missing") == "drop":
            outer, _, inner = operation["answers"].partition(".")
            is_text = spec.source.columns.get(operation["answers"]) == "string"
            answer: Any = _NO_ANSWER if is_text else [_NO_ANSWER]
            yield {outer: {**row[outer], inner: answer} if inner else answer}
