"""Contract of every shipped spec and mixture; new files are picked up by being there.

A golden file pins what a spec makes of one raw row. Its sentences are invented, its columns and
types are those of the dataset: `row`, then `segments` (first and second text of every sequence),
`words` where the input is split already, `target` as the head reads it, and `label`, the target in
words, written by a person who knows the dataset, so that swapped labels cannot pass. Where a spec
makes several examples of a row, `more` has the others; where it drops rows, `dropped` has, for each
operation that does, the columns to change for the row to be dropped.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from muppet_zoo.row_operations import apply_operations
from muppet_zoo.zoo import MIXTURE_FOLDER, Zoo, find_files, load_zoo, shipped_specs, validate_paths

if TYPE_CHECKING:
    from collections.abc import Iterator

    from muppet_zoo.row_operations import RowOperation
    from muppet_zoo.spec import TaskSpec

ROOT = Path(__file__).parents[1]
SPECS = ROOT / "task_specs"
GOLDEN = Path(__file__).parent / "golden"

SPEC_FILES = find_files([SPECS])
TASK_FILES = [path for path in SPEC_FILES if path.parent.name != MIXTURE_FOLDER]
# The quickstart tasks are invented data that is built from its own files in other tests.
DATASET_FILES = [path for path in TASK_FILES if path.parent.name != "quickstart"]

FOLDER_OF_HEAD = {
    "classification": "classification",
    "multi_label": "classification",
    "regression": "classification",
    "multiple_choice": "commonsense",
    "span": "reading_comprehension",
    "token_classification": "tagging",
    "generation": "summarization",
}


def names(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(SPECS).with_suffix("")) for path in paths]


@pytest.fixture(scope="module")
def zoo() -> Zoo:
    return load_zoo()


def test_the_shipped_files_validate() -> None:
    num_files, findings = validate_paths([shipped_specs()])
    assert [str(finding) for finding in findings] == []
    assert num_files == len(SPEC_FILES)


def test_the_whole_zoo_loads(zoo: Zoo) -> None:
    assert len(zoo.tasks) + len(zoo.mixtures) >= len(SPEC_FILES)


@pytest.mark.parametrize("path", SPEC_FILES, ids=names(SPEC_FILES))
def test_the_first_line_points_editors_to_the_schema(path: Path) -> None:
    first = path.read_text(encoding="utf-8").splitlines()[0]
    found = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", first)
    assert found is not None, f"the first line is {first!r}"
    kind = "mixture" if path.parent.name == MIXTURE_FOLDER else "task_spec"
    schema = (path.parent / found[1]).resolve()
    assert schema == ROOT / "muppet_zoo" / "schemas" / f"{kind}.schema.json"
    assert schema.is_file()


@pytest.mark.parametrize("path", DATASET_FILES, ids=names(DATASET_FILES))
def test_the_folder_follows_from_the_head(path: Path, zoo: Zoo) -> None:
    assert path.parent == SPECS / FOLDER_OF_HEAD[zoo.tasks[path.stem].head.type]


@pytest.mark.parametrize("path", DATASET_FILES, ids=names(DATASET_FILES))
def test_a_hub_revision_is_pinned_or_says_why_not(path: Path, zoo: Zoo) -> None:
    revision = zoo.tasks[path.stem].source.revision or ""
    moving = {"main", "refs/convert/parquet"}
    assert revision in moving or re.fullmatch(r"[0-9a-f]{40}", revision), revision


@pytest.mark.parametrize("path", TASK_FILES, ids=names(TASK_FILES))
def test_a_bibtex_citation_parses(path: Path, zoo: Zoo) -> None:
    citation = zoo.tasks[path.stem].citation
    if not citation.startswith("@"):
        pytest.skip("cited in words")
    keys = []
    for key, fields in bibtex_entries(citation):
        assert {"title", "author", "year"} <= fields, f"{key} has only {sorted(fields)}"
        keys.append(key)
    assert len(keys) == len(set(keys))


def bibtex_entries(text: str) -> Iterator[tuple[str, set[str]]]:
    """Citation key and field names of every entry; an AssertionError where braces do not match."""
    rest = text.strip()
    while rest:
        head = re.match(r"@[a-z]+\{([A-Za-z0-9_:-]+),\s", rest)
        assert head is not None, f"no BibTeX entry starts at {rest[:40]!r}"
        depth, end = 1, head.end()
        while depth:
            assert end < len(rest), f"a brace of {head[1]} is never closed"
            depth += {"{": 1, "}": -1}.get(rest[end], 0)
            end += 1
        body = rest[head.end() : end - 1]
        fields = re.findall(r"^\s*([a-z]+)\s*=\s*\{.*\},?$", body, flags=re.MULTILINE)
        assert len(fields) == len(body.strip().splitlines()), f"a field of {head[1]} is malformed"
        yield head[1], set(fields)
        rest = rest[end:].lstrip()


@pytest.mark.parametrize("path", DATASET_FILES, ids=names(DATASET_FILES))
def test_a_row_becomes_the_golden_example(path: Path, zoo: Zoo) -> None:
    file = GOLDEN / f"{path.stem}.json"
    assert file.is_file(), f"write tests/golden/{file.name}: one row, its segments and target"
    golden, spec = json.loads(file.read_text(encoding="utf-8")), zoo.tasks[path.stem]
    assert column_paths(golden["row"], spec) == set(spec.source.columns)

    expected = [golden, *golden.get("more", [])]
    rows = list(apply_operations(spec.rows, golden["row"]))
    assert len(rows) == len(expected)
    for row, example in zip(rows, expected, strict=True):
        segments = spec.inputs.render(row)
        target = spec.head.read_target(row, segments)
        assert as_json(segments.sequences) == example["segments"]
        assert as_json(segments.words) == example.get("words")
        assert as_json(target) == example["target"]
        assert example.get("label") == in_words(spec, target)

    explodes = any(operation.op == "explode" for operation in spec.rows)
    assert explodes == ("more" in golden), "show a row that becomes several examples under `more`"
    changes = golden.get("dropped", [])
    assert len(changes) >= sum(map(drops_rows, spec.rows)), "show what is dropped under `dropped`"
    for change in changes:
        assert change.keys() <= golden["row"].keys()
        assert list(apply_operations(spec.rows, {**golden["row"], **change})) == []


def drops_rows(operation: RowOperation) -> bool:
    is_filter = operation.op in ("keep_where", "drop_where")
    return is_filter or getattr(operation, "if_missing", "error") == "drop"


def column_paths(row: dict[str, Any], spec: TaskSpec) -> set[str]:
    """The row's columns as the spec names them: `outer.inner` where it looks inside."""
    paths = set()
    for name, value in row.items():
        if isinstance(value, dict) and name not in spec.source.columns:
            paths |= {f"{name}.{inner}" for inner in value}
        else:
            paths.add(name)
    return paths


def as_json(value: Any) -> Any:
    return json.loads(json.dumps(asdict(value) if is_dataclass(value) else value))  # type: ignore[arg-type]


def in_words(spec: TaskSpec, target: Any) -> str | list[str] | None:
    match spec.head.type:
        case "classification":
            return spec.head.labels[target]
        case "multi_label":
            return [spec.head.labels[i] for i in target]
        case _:
            return None


def test_no_golden_file_is_left_over() -> None:
    assert {p.stem for p in GOLDEN.glob("*.json")} <= {p.stem for p in DATASET_FILES}


def test_copa_asks_for_the_cause_in_words(zoo: Zoo) -> None:
    spec = zoo.tasks["copa"]
    golden = json.loads((GOLDEN / "copa.json").read_text(encoding="utf-8"))
    (row,) = apply_operations(spec.rows, {**golden["row"], "question": "cause"})
    context, _ = spec.inputs.render(row).sequences[0]
    assert context == "The baker left the oven on overnight. What was the cause of this?"


def test_a_corpus_is_named_where_it_tells_that_two_tasks_are_related() -> None:
    """A name that one spec alone has is of no use, and most likely misspelt."""
    specs = load_zoo().tasks.values()
    counts = Counter(corpus for spec in specs for corpus in spec.lineage)
    assert len(counts) >= 30
    assert [corpus for corpus, count in counts.items() if count < 2] == []
