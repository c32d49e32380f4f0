"""Every spec of the zoo: rows made up from its schema go to shards and come back the same.

The tokenizer here has one token per byte, so that what a shard holds can be read as text again.
What must come back is known from three sides: what `examples_of` gives, what the made row says
itself (the number of its label), and where the hand-checked golden example has each column's text.
"""

from __future__ import annotations

import json
import math
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import byte_level
from schema_rows import linked_columns, rows_of
from tiny_zoo import write_jsonl
from tokenizers import Tokenizer

from muppet_zoo.build import BuildOptions, build
from muppet_zoo.examples import Example, examples_of
from muppet_zoo.hub.facts import key_of, read_facts
from muppet_zoo.manifests import Manifest
from muppet_zoo.row_files import read_rows
from muppet_zoo.shards import BuiltSplit, open_task
from muppet_zoo.sources import Carving
from muppet_zoo.spec import Split, TaskSpec
from muppet_zoo.zoo import load_zoo

GOLDEN = Path(__file__).parent / "golden"
NUM_ROWS = 12
# Nothing is cut, but contexts with answers become several windows.
MAX_TOKENS = {"span": 192}
ENOUGH_TOKENS = 1 << 14

FACTS = read_facts()
SPECS = load_zoo().tasks


@dataclass(frozen=True, kw_only=True)
class Case:
    """A spec, the file with the hand-checked example, and the rows that were made up for it."""

    spec: TaskSpec
    golden: Mapping[str, Any]
    rows: list[dict[str, Any]]

    def examples(self, role: str) -> list[Example]:
        """What the rows of this role should become."""
        carving, labelled = (
            Carving.of(self.spec.source, role),
            self.spec.source.splits[role].labels,
        )
        numbered = [(i, row) for i, row in enumerate(self.rows) if i in carving]
        return [
            example
            for number, row in numbered
            for example in examples_of(self.spec, number, row, labelled=labelled)
        ]


@dataclass(frozen=True, kw_only=True)
class World:
    """All cases, built."""

    out: Path
    cases: dict[str, Case]
    failed: dict[tuple[str, str], str]
    tokenizer: Tokenizer


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("schema_rows")
    cases = {name: make_case(spec) for name, spec in SPECS.items()}
    mirror, out = folder / "mirror", folder / "out"
    for name, case in cases.items():
        for split in {split.split for split in case.spec.source.splits.values()}:
            write_jsonl(mirror / name / f"{split}.jsonl", case.rows)
    tokenizer = byte_level(folder)
    failed = {}
    for is_span in (False, True):
        specs = [c.spec for c in cases.values() if (c.spec.head.type == "span") == is_span]
        options = BuildOptions(
            mirror=mirror, max_tokens=MAX_TOKENS["span"] if is_span else ENOUGH_TOKENS, jobs=1
        )
        # Some thousand small files need not outlive a power cut.
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "fsync", lambda descriptor: None)
            report = build(specs, tokenizer=tokenizer, out=out, options=options)
        failed |= {(o.task, o.role): o.why for o in report.outcomes if o.status != "built"}
    return World(out=out, cases=cases, failed=failed, tokenizer=tokenizer.load())


def make_case(spec: TaskSpec) -> Case:
    file = GOLDEN / f"{spec.name}.json"
    if file.is_file():
        golden = json.loads(file.read_text(encoding="utf-8"))
    else:  # the quickstart tasks bring their rows
        path = spec.source.root / next(iter(spec.source.files.values()))
        golden = {"row": next(read_rows(path, spec.source.columns))[1], "segments": []}
        spec = replace(spec, source=replace(spec.source, files={}))
    labels = (FACTS.get(key_of(spec)) or {}).get("labels") or {}
    return Case(spec=spec, golden=golden, rows=rows_of(spec, golden["row"], labels, NUM_ROWS))


@pytest.mark.parametrize("name", SPECS)
def test_made_up_rows_come_back_from_the_shards(name: str, world: World) -> None:
    case = world.cases[name]
    for role in case.spec.source.splits:
        if case.examples(role):
            assert (name, role) not in world.failed, world.failed[name, role]
            check_split(case, role, world.out, world.tokenizer)
        else:
            assert "no usable rows" in world.failed[name, role]


def test_most_rows_are_not_filtered_away() -> None:
    for spec in SPECS.values():
        case = make_case(spec)
        num_examples = sum(len(case.examples(role)) for role in spec.source.splits)
        assert num_examples >= len(case.rows) // 3, spec.name


def swapped(spec: TaskSpec) -> TaskSpec:
    """The spec with its two texts, or its first two options, the wrong way round."""
    inputs = spec.inputs
    if inputs.format == "pair":
        return replace(spec, inputs=replace(inputs, first=inputs.second, second=inputs.first))
    assert inputs.format == "multiple_choice"
    first, second, *others = inputs.choices
    return replace(spec, inputs=replace(inputs, choices=(second, first, *others)))


@pytest.mark.parametrize("name", ["rte", "anli_r1", "cosmos_qa", "piqa", "paws"])
def test_swapped_texts_are_noticed(name: str, tmp_path: Path) -> None:
    case = make_case(swapped(SPECS[name]))
    write_jsonl(tmp_path / "mirror" / name / "train.jsonl", case.rows)
    source = replace(case.spec.source, splits={"train": Split(split="train")})
    case = replace(case, spec=replace(case.spec, source=source))
    tokenizer = byte_level(tmp_path)
    options = BuildOptions(mirror=tmp_path / "mirror", max_tokens=ENOUGH_TOKENS)
    report = build([case.spec], tokenizer=tokenizer, out=tmp_path / "out", options=options)
    assert report.errors == ()
    with pytest.raises(AssertionError, match="is not where tests/golden has it"):
        check_split(case, "train", tmp_path / "out", tokenizer.load())


# --- reading back ----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Record:
    """One entry of a shard, as text. `ids`: of the only sequence, for targets per token."""

    row: int
    texts: list[tuple[str, str | None]]
    ids: list[int]
    target: Any
    extra: dict[str, Any]


def read_records(data: BuiltSplit, tokenizer: Tokenizer) -> list[Record]:
    """All records of a split."""
    every = np.arange(data.num_records)
    numbers = data.column("row", every)
    names = ("window", "context", "answers", "offsets") if data.head_type == "span" else ()
    extra = {name: data.column(name, every) for name in names}
    records = []
    for i in range(data.num_records):
        stored = data.record(i)
        sequences = [ids.tolist() for ids in stored.sequences]
        pairs = zip(sequences, stored.second_starts, strict=True)
        records.append(
            Record(
                row=numbers[i],
                texts=[split_texts(ids, second, tokenizer) for ids, second in pairs],
                ids=sequences[-1],
                target=stored.target,
                extra={name: values[i] for name, values in extra.items()},
            )
        )
    return records


def split_texts(ids: list[int], second: int, tokenizer: Tokenizer) -> tuple[str, str | None]:
    """First and second text of a sequence: `<s> first </s> second </s>`."""
    if second == len(ids):
        return tokenizer.decode(ids[1:-1]), None
    return tokenizer.decode(ids[1 : second - 1]), tokenizer.decode(ids[second:-1])


def records_of_examples(records: list[Record], spec: TaskSpec) -> Iterator[list[Record]]:
    """The windows of each example; elsewhere an example is one record."""
    if spec.head.type != "span":
        yield from ([record] for record in records)
        return
    groups: list[list[Record]] = []
    for record in records:
        # Training leaves out windows without the answer, so a group may begin at any number.
        if groups and record.row == groups[-1][-1].row:
            assert record.extra["window"] > groups[-1][-1].extra["window"]
            groups[-1].append(record)
        else:
            groups.append([record])
    yield from groups


# --- what must hold --------------------------------------------------------------------------


def check_split(case: Case, role: str, out: Path, tokenizer: Tokenizer) -> None:
    expected = case.examples(role)
    data = open_task(out, case.spec.name, role)
    check_counts(data.manifest, case, role, expected)
    by_example = records_of_examples(read_records(data, tokenizer), case.spec)
    for example, records in zip(expected, by_example, strict=True):
        check_texts(example, records, case)
        check_target(example, records, case, tokenizer)


def check_counts(manifest: Manifest, case: Case, role: str, expected: list[Example]) -> None:
    carving = Carving.of(case.spec.source, role)
    assert manifest.num_examples == len(expected)
    assert manifest.num_source_rows == sum(i in carving for i in range(len(case.rows)))
    assert manifest.bad_rows == ()
    histogram: dict[str, int] = defaultdict(int)
    for example in expected:
        if example.target is not None:
            for key in case.spec.head.histogram_keys(example.target):
                histogram[key] += 1
    assert manifest.label_histogram == histogram
    assert manifest.num_truncated == 0


def check_texts(example: Example, records: list[Record], case: Case) -> None:
    """The texts are the rendered ones, and each free column stands where the golden file has it."""
    assert {record.row for record in records} == {example.row}
    segments = example.segments
    if case.spec.head.type == "span":
        question, context = segments.sequences[0]
        assert context is not None
        for record in records:
            ((first, second),) = record.texts
            assert first == question
            # A window begins and ends between tokens, which here may be inside a letter.
            assert second is not None
            assert second.strip("\ufffd") in context
            assert record.extra["context"] in context
        return
    (record,) = records
    if segments.words is not None:
        assert record.texts == [("".join(segments.words), None)]
        return
    assert tuple(record.texts) == segments.sequences
    row = case.rows[example.row]
    for column, places in golden_places(case).items():
        found = {
            place for place in places_of(record.texts) if row[column] in text_at(record, place)
        }
        assert found == places, f"{column} is not where tests/golden has it"


def golden_places(case: Case) -> dict[str, set[tuple[int, int]]]:
    """Of each text that no operation changes: in which sequences and segments it stands."""
    segments = case.golden["segments"]
    fixed = not isinstance(getattr(case.spec.inputs, "choices", ()), str)
    if not fixed or not segments:
        return {}
    linked, found = linked_columns(case.spec), {}
    changed = {getattr(op, "column", None) for op in case.spec.rows}
    row = case.golden["row"]
    for column, kind in case.spec.source.columns.items():
        text = row.get(column)
        if kind != "string" or column in linked | changed or not text:
            continue
        # A short text, or one that another column repeats, does not tell where it came from.
        if len(text.split()) < 4 or sum(text in json.dumps(v, ensure_ascii=False)
                                        for v in row.values()) > 1:  # fmt: skip
            continue
        found[column] = {
            (s, side)
            for s, pair in enumerate(segments)
            for side, segment in enumerate(pair)
            if segment is not None and text in segment
        }
    return found


def places_of(texts: list[tuple[str, str | None]]) -> Iterator[tuple[int, int]]:
    for s, pair in enumerate(texts):
        yield from ((s, side) for side, text in enumerate(pair) if text is not None)


def text_at(record: Record, place: tuple[int, int]) -> str:
    return record.texts[place[0]][place[1]] or ""


def check_target(example: Example, records: list[Record], case: Case, tokenizer: Tokenizer) -> None:
    stored, target = records[0].target, example.target
    match case.spec.head.type:
        case "classification" | "multiple_choice":
            assert stored == (-1 if target is None else target)
            if target is not None:
                check_against_row(int(stored), case, example.row)
        case "regression":
            assert math.isnan(stored) if target is None else stored == pytest.approx(target)
        case "multi_label":
            assert stored.tolist() == ([-1] if target is None else list(target))
        case "token_classification":
            check_word_labels(records[0], example, tokenizer)
        case "span":
            check_answers(records, example, case)
        case "generation":
            check_answer_text(stored.tolist(), target, case, tokenizer)


def check_against_row(stored: int, case: Case, row: int) -> None:
    """The label that the row itself states, where no operation comes between."""
    head = case.spec.head
    value = case.rows[row].get(head.target)
    if case.spec.rows or not isinstance(value, int) or getattr(head, "keys", None) is not None:
        return
    assert stored == value


def check_word_labels(record: Record, example: Example, tokenizer: Tokenizer) -> None:
    scored = [label for label in record.target.tolist() if label != -100]
    assert scored == list(example.target or ())
    # Each label stands at the first byte of its word.
    at, firsts = 1, []
    for word in example.segments.words or ():
        firsts.append(at)
        at += len(word.encode())
    if example.target is not None:
        assert np.flatnonzero(record.target != -100).tolist() == firsts
        assert len(tokenizer.decode(record.ids[1:-1]).encode()) == at - 1


def check_answers(records: list[Record], example: Example, case: Case) -> None:
    answers = () if example.target is None else example.target.answers
    hits = 0
    for record in records:
        assert record.extra["answers"] == list(answers)
        first, last = record.target.tolist()
        if first == -1:
            continue
        if first == 0:
            assert case.spec.head.no_answer
            continue
        offsets = record.extra["offsets"]
        text = record.extra["context"][offsets[2 * first] : offsets[2 * last + 1]]
        assert text in answers
        hits += 1
    assert hits or not answers


def check_answer_text(
    stored: list[int], target: str | None, case: Case, tokenizer: Tokenizer
) -> None:
    if target is None:
        assert stored == []
        return
    text = tokenizer.decode(stored[1:-1])
    if len(stored) < case.spec.head.max_target_tokens:
        assert text == target
    else:
        assert target.startswith(text.rstrip("\ufffd"))
