"""From a file to a record, and the checks that a schema cannot say."""

from __future__ import annotations

import copy
import json
import random
import re
from dataclasses import fields
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from helpers import make_spec, spec_text, write_spec

from muppet_zoo.cli.options import MOST, MOST_TOKENS
from muppet_zoo.errors import SpecError
from muppet_zoo.formats import FORMATS, MultipleChoice, Pair
from muppet_zoo.heads import HEADS, Classification, Generation, Regression, Span
from muppet_zoo.heads import MultipleChoice as MultipleChoiceHead
from muppet_zoo.metrics import METRICS
from muppet_zoo.row_operations import OPERATIONS, Explode, Join, Pick
from muppet_zoo.rows import Template
from muppet_zoo.spec import Split, parse_task_spec
from muppet_zoo.spec_fields import record_of
from muppet_zoo.validation import load_schema
from muppet_zoo.yaml_reader import read_yaml
from muppet_zoo.zoo import find_files, shipped_specs, validate_paths


def findings_of(folder: Path, **parts: str) -> list[tuple[str, str]]:
    """Field and message of every finding of a spec with these parts; [] when it is valid."""
    try:
        make_spec(folder, **parts)
    except SpecError as error:
        return [(finding.field, finding.message) for finding in error.findings]
    return []


# --- schema and registries name the same things ----------------------------------------------


def choices_of(definition: str, key: str) -> list[dict[str, Any]]:
    """The alternatives of `rows[]`, `inputs` or `head`, each with its own keys."""
    whole = load_schema("task_spec")["$defs"][definition]
    found = []
    for rule in whole["allOf"]:
        name = rule["if"]["properties"][key]["const"]
        found.append({"name": name, **rule["then"]})
    assert [rule["name"] for rule in found] == whole["properties"][key]["enum"]
    return found


@pytest.mark.parametrize(
    ("definition", "key", "registry"),
    [("row_operation", "op", OPERATIONS), ("inputs", "format", FORMATS), ("head", "type", HEADS)],
)
def test_schema_and_records_have_the_same_fields(
    definition: str, key: str, registry: dict[str, type]
) -> None:
    alternatives = {rule["name"]: rule for rule in choices_of(definition, key)}
    assert list(alternatives) == list(registry)
    for name, rule in alternatives.items():
        in_schema = set(rule["properties"]) - {key}
        in_record = {field.name for field in fields(registry[name])}
        # A generated text has no set of outcomes that a head could share.
        assert in_record - in_schema <= ({"shared_head"} if name == "generation" else set())
        assert in_schema <= in_record
        assert rule["additionalProperties"] is False


def test_schema_and_registry_have_the_same_metrics() -> None:
    schema = load_schema("task_spec")["properties"]["metrics"]
    assert set(schema["items"]["enum"]) == set(METRICS)


@pytest.mark.parametrize("name", ["task_spec", "mixture", "run"])
def test_a_schema_is_valid_and_says_what_its_patterns_mean(name: str) -> None:
    from jsonschema import Draft202012Validator

    schema = load_schema(name)
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    text = resources.files("muppet_zoo").joinpath(f"schemas/{name}.schema.json").read_text("utf-8")

    def visit(node: Any) -> None:
        if isinstance(node, dict):
            if isinstance(node.get("pattern"), str):
                assert node["patternErrorMessage"], node
            for child in node.values():
                visit(child)
        elif isinstance(node, list):
            for child in node:
                visit(child)

    visit(json.loads(text))


@pytest.mark.parametrize(
    "name", ["task_spec", "mixture", "run", "finetune", "study", "study_setting", "arms"]
)
def test_every_number_that_is_counted_has_a_bound(name: str) -> None:
    """Python's whole numbers have none, and what is given them would end in a traceback."""
    largest = {MOST, MOST_TOKENS, 2**32 - 1}  # seeds have 32 bits

    def visit(node: Any) -> None:
        if isinstance(node, dict):
            kinds = node.get("type", ())
            if kinds == "integer" or kinds == ["integer", "null"]:
                assert node["maximum"] in largest or node["maximum"] <= 1_000_000, node
            for child in node.values():
                visit(child)
        elif isinstance(node, list):
            for child in node:
                visit(child)

    visit(load_schema(name))


# --- records ---------------------------------------------------------------------------------


def test_a_spec_becomes_a_record(tmp_path: Path) -> None:
    spec = make_spec(
        tmp_path,
        columns="{texts: strings, other: string, label: label}",
        splits="{train: train, validation: {carve_from: train, percent: 10}, "
        "validation_hard: {carve_from: train, percent: 5, seed: 3}, "
        "test: {split: test, labels: false}}",
        rows="[{op: explode, columns: {texts: first}}, "
        '{op: join, template: "{other}!", into: second}]',
    )
    assert (spec.name, spec.family, spec.license, spec.spec_version) == (
        "pairs", "paraphrase", "CC0-1.0", 1
    )  # fmt: skip
    assert spec.source.splits == {
        "train": Split(split="train"),
        "validation": Split(split="train", carve_percent=10, carve_seed=0),
        "validation_hard": Split(split="train", carve_percent=5, carve_seed=3),
        "test": Split(split="test", labels=False),
    }
    assert spec.source.root == tmp_path
    assert spec.rows == (
        Explode(columns={"texts": "first"}),
        Join(template=Template("{other}!"), into="second"),
    )
    assert spec.inputs == Pair(first=Template("{first}"), second=Template("{second}"))
    assert spec.head == Classification(target="label", labels=("different", "same"))
    assert (spec.metrics, spec.languages, spec.num_labels) == (("accuracy",), ("en",), 2)
    assert spec.on_bad_row == "error"
    assert spec.path == tmp_path / "pairs.yaml"
    assert spec.raw["metrics"] == ["accuracy"]


@pytest.mark.parametrize(
    ("kind", "raw", "record"),
    [
        (Pick, {"op": "pick", "column": "a", "into": "b"}, Pick(column="a", into="b")),
        (
            MultipleChoice,
            {"format": "multiple_choice", "context": "{a}", "choices": "b"},
            MultipleChoice(context=Template("{a}"), choices="b"),
        ),
        (
            MultipleChoice,
            {"format": "multiple_choice", "context": "a", "choices": ["{b}", "c"]},
            MultipleChoice(context=Template("a"), choices=(Template("{b}"), Template("c"))),
        ),
        (
            MultipleChoiceHead,
            {"type": "multiple_choice", "target": "a", "keys": ["A", "B"]},
            MultipleChoiceHead(target="a", keys=("A", "B"), shared_head="multiple_choice"),
        ),
        (
            Regression,
            {"type": "regression", "target": "a", "range": [0, 5], "shared_head": "sts"},
            Regression(target="a", range=(0, 5), shared_head="sts"),
        ),
        (
            Generation,
            {"type": "generation", "target": "{a}"},
            Generation(target=Template("{a}"), max_target_tokens=128),
        ),
        (
            Span,
            {"type": "span", "answers": "a", "answer_starts": "b"},
            Span(answers="a", answer_starts="b", shared_head="span"),
        ),
    ],
)
def test_record_of(kind: type, raw: dict[str, Any], record: object) -> None:
    assert record_of(kind, raw) == record


def test_carved_shares_default_to_seed_zero_and_files_to_none(tmp_path: Path) -> None:
    spec = make_spec(tmp_path)
    assert (spec.source.hub, spec.source.config, spec.source.revision) == (
        "example/pairs", None, "main"
    )  # fmt: skip
    assert spec.source.files == {}


def test_a_head_without_labels_has_no_number_of_them(tmp_path: Path) -> None:
    spec = make_spec(
        tmp_path,
        columns="{first: string, second: string, label: number}",
        head="{type: regression, target: label, range: [0, 1]}",
        metrics="[pearson]",
    )
    assert spec.num_labels is None


# --- cross-checks that tests/broken_specs does not show --------------------------------------


def test_columns_are_followed_through_the_operations(tmp_path: Path) -> None:
    columns = "{q: string, answers.text: strings, answers.gold: integers, meta: any}"
    rows = (
        "[{op: explode, columns: {answers.text: first, answers.gold: label}}, "
        "{op: pick, column: meta.author, into: author}, "
        "{op: rename, columns: {q: second}}]"
    )
    parts = {"columns": columns, "rows": rows}
    inputs = '{format: pair, first: "{first} {author}", second: "{second} {meta.year}"}'
    assert findings_of(tmp_path, inputs=inputs, **parts) == []
    inputs = '{format: pair, first: "{answers.first}", second: "{q}"}'
    assert findings_of(tmp_path, inputs=inputs, **parts) == [
        ("inputs.first", "'answers.first' is not a column here; allowed: answers.text, "
         "answers.gold, meta, first, label, author, second; did you mean 'answers.text' or "
         "'answers.gold'?"),
        ("inputs.second", "'q' is not a column here; allowed: answers.text, answers.gold, meta, "
         "first, label, author, second"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("parts", "field", "message"),
    [
        (
            {"inputs": '{format: pair, first: "{choices}", second: "{second}"}',
             "columns": "{choices.text: strings, second: string, label: label}"},
            "inputs.first",
            "column 'choices' is declared as a mapping of fields; one value is expected here",
        ),
        (
            {"rows": "[{op: explode, columns: {first: one}}]"},
            "rows[0].columns.first",
            "column 'first' is declared as string; a list is expected here",
        ),
        (
            {"rows": "[{op: rename, columns: {first: f}}, "
             "{op: drop_where, column: first, values: [a]}]"},
            "rows[1].column",
            "'first' is not a column here; allowed: second, label, f",
        ),
        (
            {"inputs": "{format: single, text: Read this.}"},
            "inputs",
            "no column is named, so every row would read the same; write {column}",
        ),
        (
            {"inputs": '{format: multiple_choice, context: "{first}", choices: [first, second]}',
             "head": "{type: multiple_choice, target: label}"},
            "inputs.choices[0]",
            'this is the word \'first\' itself; write "{first}" for the column',
        ),
        (
            {"head": "{type: classification, target: label, labels: [b, ' B ']}"},
            "head.labels[1]",
            "' B ' differs from the label 'b' only in case or spaces",
        ),
        (
            {"inputs": '{format: single, text: "{a} {b.c"}'},
            "inputs.text",
            "a brace has no partner; write {{ and }} for literal braces",
        ),
        (
            {"rows": '[{op: join, template: "{first!s}", into: first}]'},
            "rows[0].template",
            "the placeholder {first!s} is not a column name; write {column}, or {{ and }} for "
            "literal braces",
        ),
        (
            {"inputs": '{format: text_to_text, text: "{first}"}', "metrics": "[rouge1]",
             "head": '{type: generation, target: second, max_target_tokens: 64.0}'},
            "head.max_target_tokens",
            "found 64.0, a whole number is expected",
        ),
        (
            {"head": "{type: classification, target: label, labels: [a, b, c]}", "metrics": "[f1]"},
            "metrics[0]",
            "f1: this is defined for 2 labels and the head has 3; use macro_f1 or micro_f1",
        ),
        (
            {"inputs": "{format: tokens, tokens: words}", "metrics": "[accuracy, entity_f1]",
             "head": "{type: token_classification, target: tags, labels: [noun, verb]}",
             "columns": "{words: strings, tags: labels}"},
            "metrics[1]",
            "entity_f1: label 'noun' is not an entity tag; allowed: O, and B-TYPE, I-TYPE, E-TYPE "
            "or S-TYPE. Use accuracy or macro_f1 for other labels",
        ),
        (
            {"metrics": "[f1, group_exact_match]"},
            "metrics[1]",
            "group_exact_match: the head names no `group`, the columns equal within one group",
        ),
        (
            {"head": "{type: classification, target: label, labels: [a, b], group: [frist]}"},
            "head.group[0]",
            "'frist' is not a column here; allowed: first, second, label; did you mean 'first'?",
        ),
        (
            {"head": '{type: classification, target: label, labels: ["1", "0"]}'},
            "head.labels[0]",
            "'1' reads as label number 1, but is number 0; name it with letters",
        ),
        (
            {"rows": "[{op: rename, columns: {first: x, second: x}}]"},
            "rows[0].columns.second",
            "'x' is written twice by this operation; one would be lost",
        ),
        (
            {"rows": "[{op: explode, columns: {first: x, second: x}}]"},
            "rows[0].columns.second",
            "'x' is written twice by this operation; one would be lost",
        ),
        (
            {"rows": "[{op: split_at, column: first, marker: _, left: x, right: x}]"},
            "rows[0].right",
            "'x' is written twice by this operation; one would be lost",
        ),
        (
            {"rows": "[{op: map_values, column: label, values: {1: awful, 2: same}}]"},
            "rows[0].values.1",
            "'awful' is no label of the head; allowed: different, same",
        ),
        (
            {"rows": "[{op: map_values, column: old, values: {1: 2, 2: 1}}, "
             "{op: rename, columns: {old: label}}]",
             "columns": "{first: string, second: string, old: integer}"},
            "rows[0].values.1",
            "2 is no label of the head; allowed: different, same",
        ),
        (
            {"rows": "[{op: map_values, column: label, values: {a: 0, b: 7}}]",
             "head": "{type: regression, target: label, range: [0, 5]}", "metrics": "[pearson]"},
            "rows[0].values.b",
            "7 is not in the head's range, 0 to 5",
        ),
        (
            {"rows": "[{op: pick, column: first, index: 0, into: x}]"},
            "rows[0].column",
            "column 'first' is declared as string; a list is expected here",
        ),
        (
            {"inputs": '{format: pair, first: "{first} {label}", second: "{second}"}'},
            "inputs.first",
            "'label' is what the head predicts; the model would read it",
        ),
        (
            {"inputs": '{format: text_to_text, text: "Say {first}"}', "metrics": "[rouge1]",
             "head": '{type: generation, target: "{first}"}'},
            "inputs.text",
            "'first' is what the head predicts; the model would read it",
        ),
    ],
)  # fmt: skip
def test_a_finding_of_its_own(
    parts: dict[str, str], field: str, message: str, tmp_path: Path
) -> None:
    assert (field, message) in findings_of(tmp_path, **parts)


@pytest.mark.parametrize(
    "rows",
    [
        "[{op: map_values, column: label, values: {a: same, b: 0, c: true}}]",
        "[{op: map_values, column: label, values: {a: same, b: none}}, "
        "{op: drop_where, column: label, values: [none]}]",
        "[{op: map_values, column: label, values: {a: 7}}, "
        "{op: bin, column: label, bounds: [5], into: label}]",
    ],
)
def test_tables_that_end_in_labels_are_right(rows: str, tmp_path: Path) -> None:
    assert findings_of(tmp_path, rows=rows) == []


def test_faults_in_different_parts_are_found_together(tmp_path: Path) -> None:
    found = findings_of(
        tmp_path,
        columns="{first: string, second: strng, label: label}",
        splits="{train: train, dev: dev}",
        inputs='{format: pair, first: "{first", second: "{second}"}',
        head="{type: span, answers: first, answer_starts: second, bogus: 1}",
        metrics="[accuracy, squad_f1]",
    )
    assert [field for field, _ in found] == [
        "source.columns.second",
        "source.splits.dev",
        "inputs.first",
        "head.type",
        "head.bogus",
        "metrics[0]",
    ]


def test_a_misspelt_key_is_not_reported_as_missing_too(tmp_path: Path) -> None:
    known = "allowed: type, target, labels, group, shared_head"
    head = "{type: classification, taget: label, lables: [a, b]}"
    assert [message for _, message in findings_of(tmp_path, head=head)] == [
        f"unknown key 'taget'; {known}; did you mean 'target'?",
        f"unknown key 'lables'; {known}; did you mean 'labels'?",
    ]


def test_files_must_be_inside_the_folder_of_the_spec(tmp_path: Path) -> None:
    inside, outside = tmp_path / "specs", tmp_path / "rows.jsonl"
    inside.mkdir()
    outside.write_text("{}\n")
    (inside / "rows.jsonl").write_text("{}\n")
    (inside / "link.jsonl").symlink_to("rows.jsonl")
    text = spec_text(splits="{train: train}").replace(
        "  hub: example/pairs\n  revision: main\n", "FILES"
    )

    def findings(file: str) -> list[str]:
        path = inside / "pairs.yaml"
        path.write_text(text.replace("FILES", f"  files: {{train: {json.dumps(file)}}}\n"))
        try:
            parse_task_spec(read_yaml(path))
        except SpecError as error:
            return [finding.message for finding in error.findings]
        return []

    assert (
        findings("rows.jsonl") == findings("link.jsonl") == findings("./../specs/rows.jsonl") == []
    )
    leaves = "leaves the folder of the spec; keep data beside it"
    assert findings("../rows.jsonl") == [f"'../rows.jsonl' {leaves}"]
    assert findings(str(outside)) == [f"'{outside}' {leaves}"]
    assert findings("missing.jsonl") == ["no such file: missing.jsonl"]
    assert re.match(r'found "rows\\u0000\.jsonl"; a file that ends in', findings("rows\0.jsonl")[0])


VALUES: list[Any] = [
    *(None, True, 0, -1, 1.5, 10**30, "", "x", "{x", "{a.b}", "a\nb", "\0", "label", "train"),
    *([], {}, [1], ["a", "a"], [[]], [{}], [None], {"a": 1}, {"a": None}, {"split": "a"}),
    *([{"op": "pick"}], [{"op": "join", "template": "{", "into": "a"}], "span", "generation"),
]
KEYS = ["foo", "keys", "files", "hub", "labels", "index", "choices", "target", "weights", "cap"]
SHIPPED = find_files([shipped_specs()])


def places(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values inside `data`."""
    items = data.items() if isinstance(data, dict) else enumerate(data)
    found = []
    for key, value in items:
        found.append((*path, key))
        if isinstance(value, dict | list):
            found += places(value, (*path, key))
    return found


def damage(data: Any, rng: random.Random) -> None:
    """Remove, replace or add one value somewhere."""
    *outer, key = rng.choice(places(data))
    holder = data
    for part in outer:
        holder = holder[part]
    value, what = copy.deepcopy(rng.choice(VALUES)), rng.randrange(4)
    if what == 0:
        del holder[key]
    elif what == 1 and isinstance(holder, dict):
        holder[rng.choice(KEYS)] = value
    else:
        holder[key] = value


@pytest.mark.parametrize("seed", range(8))
def test_a_damaged_spec_is_valid_or_explained(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("muppet_zoo.zoo.spec_folders", lambda: [])  # each file by itself
    rng = random.Random(seed)
    for _ in range(100):
        shipped = rng.choice(SHIPPED)
        data = copy.deepcopy(read_yaml(shipped).data)
        for _ in range(rng.randint(1, 4)):
            damage(data, rng)
        path = tmp_path / shipped.name
        path.write_text(json.dumps(data), encoding="utf-8")
        _, findings = validate_paths([path])  # raises nothing
        assert all(finding.message and finding.line == 1 for finding in findings), data


def test_write_spec_changes_what_is_there(tmp_path: Path) -> None:
    path = write_spec(tmp_path, "pairs", ("[en]", "[de, fr]"))
    assert parse_task_spec(read_yaml(path)).languages == ("de", "fr")
