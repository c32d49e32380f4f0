"""Every fault that is planted is found, at its rows; sound data has no warning."""

from __future__ import annotations

import csv
import dataclasses
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import doctor_shapes as shapes
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from doctor_shapes import Dataset, found, grave
from tiny_zoo import write_tokenizer

from muppet_zoo.doctor.examine import CHECKS, Examination, examine
from muppet_zoo.doctor.truncation import TokenBudget
from muppet_zoo.errors import SourceError
from muppet_zoo.hub.rows import HubRows

ROWS = (5, 17, 40)  # of `train`, where a test plants a fault in single rows

Plant = Callable[[Dataset], Dataset]


@pytest.mark.parametrize("make", shapes.SHAPES, ids=lambda make: make.__name__)
def test_sound_data_has_no_warning(make: Callable[[], Dataset], tmp_path: Path) -> None:
    report = make().examined(tmp_path)
    assert grave(report) == set()
    notes = {d.check for d in report.diagnoses}
    assert notes <= {"unused_columns"}, "and no note but on columns that nothing reads"


def reads(**inputs: Any) -> Plant:
    """The spec reads only this."""
    return lambda dataset: dataset.changed(inputs=inputs, rows=[])


def at_rows(change: Callable[[dict[str, Any]], Any]) -> Plant:
    """Only the rows `ROWS` of training are changed."""

    def plant(dataset: Dataset) -> Dataset:
        made = dataset.changed()
        for number in ROWS:
            change(made.rows["train"][number])
        return made

    return plant


def everywhere(change: Callable[[int, dict[str, Any]], None], role: str = "") -> Plant:
    return lambda dataset: dataset.with_rows(change, role)


# --- texts that the inputs lack --------------------------------------------------------------


def choices(context: str) -> dict[str, Any]:
    return {"format": "multiple_choice", "context": context, "choices": "choices.text"}


@pytest.mark.parametrize(
    ("make", "plant", "column"),
    [
        (shapes.boolq, reads(format="single", text="{question}"), "passage"),
        (shapes.multirc, reads(format="single", text="{question} {answer}"), "paragraph"),
        (shapes.mnli, reads(format="single", text="{hypothesis}"), "premise"),
        (shapes.stsb, reads(format="single", text="{sentence1}"), "sentence2"),
        (shapes.race, reads(**choices("{question}")), "story"),
    ],
    ids=["boolq", "multirc", "mnli", "stsb", "race"],
)
def test_a_missing_text_is_an_error(
    make: Callable[[], Dataset], plant: Plant, column: str, tmp_path: Path
) -> None:
    (diagnosis,) = found(plant(make()).examined(tmp_path), "missing_text")
    assert (diagnosis.severity, diagnosis.subject) == ("error", column)
    assert diagnosis.numbers["related"] >= 0.75
    assert diagnosis.num_rows == 300
    assert str(diagnosis.rows[0]) == "train:0"


def test_a_missing_question_is_a_warning(tmp_path: Path) -> None:
    """Shorter than what is read: it could be a remark."""
    dataset = shapes.race().changed(inputs=choices("{story}"))
    (diagnosis,) = found(dataset.examined(tmp_path), "missing_text")
    assert (diagnosis.severity, diagnosis.subject) == ("warning", "question")


def test_a_context_that_is_the_same_everywhere_asks_for_the_unused_text(tmp_path: Path) -> None:
    """Options share no word with the question that was left out, and it has no question mark."""

    def change(_: int, row: dict[str, Any]) -> None:
        row["question"] = row["question"].rstrip("?")

    dataset = shapes.race().with_rows(change).changed(inputs=choices("Which is right?"))
    found_in = found(dataset.examined(tmp_path), "missing_text")
    assert {d.subject for d in found_in} == {"story", "question"}


def test_a_missing_text_of_a_head_that_no_baseline_learns_is_a_warning(tmp_path: Path) -> None:
    def change(_: int, row: dict[str, Any]) -> None:
        row["article"] = f"{row['document']} {row['summary']}"
        row["document"] = row["document"].split(". ")[0]

    (diagnosis,) = found(shapes.xsum().with_rows(change).examined(tmp_path), "missing_text")
    assert (diagnosis.severity, diagnosis.subject) == ("warning", "article")


def test_an_explanation_that_tells_the_label_is_rightly_unused(tmp_path: Path) -> None:
    def change(_: int, row: dict[str, Any]) -> None:
        said = ("this cannot be, since", "this follows, because")[row["label"]]
        row["explanation"] = f"{said} of what we read: {row['question']}"

    (diagnosis,) = found(shapes.boolq().with_rows(change).examined(tmp_path), "missing_text")
    assert (diagnosis.severity, diagnosis.subject) == ("note", "explanation")


@pytest.mark.parametrize(
    "text",
    [
        lambda row, number: row["passage"].rpartition(". ")[0],  # the inputs have it already
        lambda row, number: f"seen on day {number} of our long survey by {number % 7} people",
        lambda row, number: row["question"].split()[2],  # a name, not a text
    ],
    ids=["contained", "unrelated", "name"],
)
def test_other_unused_texts_are_no_missing_ones(
    text: Callable[[dict[str, Any], int], str], tmp_path: Path
) -> None:
    def change(number: int, row: dict[str, Any]) -> None:
        row["extra"] = text(row, number)

    report = shapes.boolq().with_rows(change).examined(tmp_path)
    assert grave(report) == set()
    (unused,) = found(report, "unused_columns")
    assert "extra" in unused.message


def test_a_column_that_reaches_the_inputs_by_operations_is_used(tmp_path: Path) -> None:
    dataset = shapes.boolq().changed(
        inputs={"format": "single", "text": "{both}"},
        rows=[
            {"op": "rename", "columns": {"passage": "context", "question": "asked"}},
            {"op": "replace_text", "column": "context", "old": "  ", "new": " ", "into": "context"},
            {"op": "join", "template": "{asked} {context}", "into": "both"},
            {"op": "drop_where", "column": "idx", "values": [-1]},
        ],
    )
    report = dataset.examined(tmp_path)
    assert found(report, "unused_columns") == found(report, "missing_text") == []


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "tsv", "parquet"])
def test_a_text_that_the_spec_does_not_even_declare_is_missing(suffix: str, tmp_path: Path) -> None:
    made = reads(format="single", text="{question}")(shapes.boolq())
    columns = {"question": "string", "label": "label"}
    made = made.changed(source={**made.spec["source"], "columns": columns})
    spec, mirror = made.write(tmp_path)
    for role, rows in made.rows.items():
        path = mirror / spec.name / f"{role}.{suffix}"
        if suffix != "jsonl":
            path.with_suffix(".jsonl").unlink()
        if suffix == "parquet":
            pq.write_table(pa.Table.from_pylist(rows), path)
        elif suffix != "jsonl":
            with path.open("w", encoding="utf-8", newline="") as file:
                table = csv.DictWriter(
                    file, list(rows[0]), delimiter={"csv": ",", "tsv": "\t"}[suffix]
                )
                table.writeheader()
                table.writerows(rows)
    report = examine(spec, Examination(mirror=mirror))
    assert [(d.severity, d.subject) for d in found(report, "missing_text")] == [
        ("error", "passage")
    ]


def test_of_renamed_columns_the_one_not_read_is_missing(tmp_path: Path) -> None:
    dataset = shapes.boolq().changed(
        inputs={"format": "single", "text": "{asked}"},
        rows=[{"op": "rename", "columns": {"passage": "context", "question": "asked"}}],
    )
    report = dataset.examined(tmp_path)
    assert [d.subject for d in found(report, "missing_text")] == ["passage"]


# --- faults that have one check --------------------------------------------------------------


def _set(**values: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda row: row.update(values)


def _longer(row: dict[str, Any]) -> None:
    row["answers"] = {"text": ["nothing of it"], "answer_start": row["answers"]["answer_start"]}


def _damaged(text: str) -> Callable[[dict[str, Any]], Any]:
    return lambda row: row.update(question=f"{row['question']} {text}")


@pytest.mark.parametrize(
    ("make", "plant", "check", "severity"),
    [
        (shapes.boolq, at_rows(_set(label=2)), "label_outside_set", "error"),
        (shapes.sst, at_rows(_set(label="mixed")), "label_outside_set", "error"),
        (shapes.stsb, at_rows(_set(score=5.5)), "label_outside_set", "error"),
        (shapes.ner, at_rows(_set(tags=[0, 0])), "label_outside_set", "error"),
        (shapes.emotions, at_rows(_set(tags=["awe"])), "label_outside_set", "error"),
        (shapes.squad, at_rows(_longer), "answer_not_found", "error"),
        (shapes.race, at_rows(_set(answerKey="E")), "key_outside_options", "error"),
        (shapes.cosmos, at_rows(_set(label=4)), "key_outside_options", "error"),
        (shapes.boolq, at_rows(_set(passage=" ")), "no_text", "error"),
        (shapes.boolq, at_rows(_damaged("cafÃ© Ã la carte")), "mojibake", "note"),
        (shapes.boolq, at_rows(_damaged("caf\ufffd")), "replacement_character", "note"),
        (shapes.boolq, at_rows(_damaged("food &amp; drink")), "html_entity", "note"),
        (shapes.boolq, at_rows(_damaged("caf\x0ce")), "control_character", "note"),
    ],
)
def test_faults_of_single_rows_are_found_at_these_rows(
    make: Callable[[], Dataset], plant: Plant, check: str, severity: str, tmp_path: Path
) -> None:
    sound = make().examined(tmp_path / "sound")
    assert found(sound, check) == []
    report = plant(make()).examined(tmp_path / "planted")
    (diagnosis,) = found(report, check)
    assert diagnosis.severity == severity
    assert [str(ref) for ref in diagnosis.rows] == [f"train:{row}" for row in ROWS]
    assert diagnosis.num_rows == len(ROWS)
    assert grave(report) <= {check}


def test_a_row_that_the_spec_skips_is_no_error(tmp_path: Path) -> None:
    dataset = at_rows(_set(label=2))(shapes.boolq()).changed(on_bad_row="skip")
    (diagnosis,) = found(dataset.examined(tmp_path), "label_outside_set")
    assert diagnosis.severity == "note"  # 3 of 400


def test_an_answer_that_no_row_operation_finds_is_missing(tmp_path: Path) -> None:
    def flat(_: int, row: dict[str, Any]) -> None:
        row["answer"] = row.pop("answers")["text"][0]

    made = shapes.squad().with_rows(flat)
    columns = dict.fromkeys(("id", "title", "context", "question", "answer"), "string")
    locate = {
        "op": "locate", "context": "context", "answers": "answer",
        "into_answers": "found", "into_starts": "starts",
    }  # fmt: skip
    made = made.changed(
        source={**made.spec["source"], "columns": columns},
        rows=[locate],
        head={"type": "span", "answers": "found", "answer_starts": "starts"},
    )
    assert found(made.examined(tmp_path / "sound"), "answer_not_found") == []
    planted = at_rows(_set(answer="absent things"))(made)
    (diagnosis,) = found(planted.examined(tmp_path / "planted"), "answer_not_found")
    assert [ref.row for ref in diagnosis.rows] == list(ROWS)
    dropping = planted.changed(rows=[{**locate, "if_missing": "drop"}])
    report = dropping.examined(tmp_path / "dropping")
    (diagnosis,) = found(report, "dropped_rows")
    assert (diagnosis.severity, diagnosis.num_rows) == ("note", len(ROWS))
    assert grave(report) == set()


def test_a_filter_that_drops_most_rows_is_a_warning(tmp_path: Path) -> None:
    dataset = shapes.boolq().changed(rows=[{"op": "keep_where", "column": "label", "values": [0]}])
    report = dataset.examined(tmp_path)
    assert "dropped_rows" in {d.check for d in report.diagnoses}
    assert {d.severity for d in found(report, "one_label")} == {"error"}


# --- columns and labels ----------------------------------------------------------------------


def test_a_constant_and_an_empty_input_column_are_warnings(tmp_path: Path) -> None:
    def change(number: int, row: dict[str, Any]) -> None:
        row |= {"topic": "animals", "hint": "look" if number % 4 == 0 else ""}

    made = shapes.boolq().with_rows(change)
    columns = {**made.spec["source"]["columns"], "topic": "string", "hint": "string"}
    made = made.changed(
        source={**made.spec["source"], "columns": columns},
        inputs={"format": "pair", "first": "{topic} {hint} {question}", "second": "{passage}"},
    )
    report = made.examined(tmp_path)
    (constant,) = found(report, "constant_column")
    (empty,) = found(report, "empty_column")
    assert (constant.severity, constant.subject) == ("warning", "topic")
    assert (empty.severity, empty.subject) == ("warning", "hint")
    assert [ref.row for ref in empty.rows[:3]] == [1, 2, 3]
    assert empty.num_rows == 300  # three of four rows, in both splits


def test_poor_columns_that_nothing_reads_are_notes(tmp_path: Path) -> None:
    dataset = shapes.boolq().with_rows(lambda _, row: row.update(version=1, remark=None))
    report = dataset.examined(tmp_path)
    assert grave(report) == set()
    assert "version" in found(report, "constant_column")[0].message
    assert "remark" in found(report, "empty_column")[0].message


def test_a_label_that_never_occurs_is_a_warning(tmp_path: Path) -> None:
    head = {"type": "classification", "target": "label", "labels": ["no", "yes", "perhaps"]}
    (diagnosis,) = found(shapes.boolq().changed(head=head).examined(tmp_path), "label_never_seen")
    assert (diagnosis.severity, diagnosis.subject) == ("warning", "perhaps")


def test_a_label_that_only_evaluation_has_is_a_warning(tmp_path: Path) -> None:
    head = {"type": "classification", "target": "label", "labels": ["no", "yes", "perhaps"]}

    def change(number: int, row: dict[str, Any]) -> None:
        row["label"] = 2 if number % 10 == 0 else row["label"]

    dataset = shapes.boolq().changed(head=head).with_rows(change, "validation")
    report = dataset.examined(tmp_path)
    assert found(report, "label_never_seen") == []
    (diagnosis,) = found(report, "label_not_in_train")
    assert (diagnosis.severity, diagnosis.subject) == ("warning", "perhaps")


def test_a_majority_that_hides_behind_accuracy_is_a_warning(tmp_path: Path) -> None:
    def change(number: int, row: dict[str, Any]) -> None:
        if row["label"] == 1 and number % 3:
            row |= {"label": 0, "question": f"{row['question']} or number {number}"}

    dataset = shapes.boolq().with_rows(change)
    roles = [d.subject for d in found(dataset.examined(tmp_path / "a"), "majority_label")]
    assert roles == ["train", "validation"]
    better = dataset.changed(metrics=["macro_f1", "accuracy"])
    assert found(better.examined(tmp_path / "b"), "majority_label") == []


def test_swapped_labels_are_found_by_a_column_of_names(tmp_path: Path) -> None:
    head = {"type": "classification", "target": "label", "labels": ["positive", "negative"]}
    report = shapes.sst().changed(head=head).examined(tmp_path)
    (diagnosis,) = found(report, "label_order")
    assert (diagnosis.severity, diagnosis.subject) == ("error", "column 'label_text'")
    assert diagnosis.numbers["labels"] == 2


@pytest.mark.parametrize("names", [["negative", "positive"], ["neg", "pos"], ["down", "up"]])
def test_labels_in_the_order_of_the_names_are_no_finding(names: list[str], tmp_path: Path) -> None:
    dataset = shapes.sst().with_rows(lambda _, row: row.update(label_text=names[row["label"]]))
    assert found(dataset.examined(tmp_path), "label_order") == []


@pytest.mark.parametrize(("names", "count"), [(["neg", "pos"], 0), (["pos", "neg"], 1)])
def test_swapped_labels_are_found_by_the_names_in_parquet(
    names: list[str], count: int, tmp_path: Path
) -> None:
    """As the `datasets` library writes the names of a ClassLabel."""
    from datasets import ClassLabel, Features, Value

    dataset = shapes.sst()
    spec, mirror = dataset.changed(rows=[]).write(tmp_path)
    features = Features(
        {"text": Value("string"), "label": ClassLabel(names=names), "label_text": Value("string")}
    )
    for role, rows in dataset.rows.items():
        (mirror / spec.name / f"{role}.jsonl").unlink()
        plain = [{**row, "label_text": "any"} for row in rows]
        table = pa.Table.from_pylist(plain, schema=features.arrow_schema)
        pq.write_table(table, mirror / spec.name / f"{role}.parquet")
    report = examine(spec, Examination(mirror=mirror))
    assert len(found(report, "label_order")) == count


def test_on_the_hub_undeclared_columns_and_names_of_labels_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    made = reads(format="single", text="{question}")(shapes.boolq())
    columns = {"question": "string", "label": "label"}
    made = made.changed(source={**made.spec["source"], "columns": columns})
    names = datasets.ClassLabel(names=["yes", "no"])  # the spec has them the other way round

    def published(place: HubRows) -> Any:
        return datasets.Dataset.from_list(made.rows[place.split]).cast_column("label", names)

    monkeypatch.setattr(HubRows, "_published", published)
    report = examine(made.write(tmp_path)[0], Examination())
    assert [d.subject for d in found(report, "missing_text")] == ["passage"]
    (swapped,) = found(report, "label_order")
    assert (swapped.severity, swapped.numbers["labels"]) == ("error", 2)
    assert "the dataset's 'label' calls the label 0 'yes', the spec 'no'" in swapped.message


# --- what words tell -------------------------------------------------------------------------


def test_labels_without_any_relation_to_the_inputs_are_noted(tmp_path: Path) -> None:
    chance = random.Random(0)
    dataset = shapes.sst().with_rows(lambda _, row: row.update(label=chance.randrange(2)))
    (diagnosis,) = found(dataset.examined(tmp_path), "no_signal")
    assert diagnosis.severity == "note"
    assert abs(diagnosis.numbers["score"] - 0.5) < 0.1


def test_inputs_that_show_the_label_are_a_warning(tmp_path: Path) -> None:
    def change(_: int, row: dict[str, Any]) -> None:
        row["text"] += f" ({row['label_text']})"

    report = shapes.sst().with_rows(change).examined(tmp_path)
    (diagnosis,) = found(report, "too_easy")
    assert diagnosis.severity == "warning"


@pytest.mark.parametrize("shape", ["mnli", "race"])
def test_a_field_that_suffices_is_a_warning(shape: str, tmp_path: Path) -> None:
    """Annotators who write "never" for contradictions, or right options that are the longest."""

    def artefact(number: int, row: dict[str, Any]) -> None:
        if shape == "mnli" and row["label"] == 1 and number % 5:
            row["hypothesis"] = row["hypothesis"].replace("ate", "never ate")
        if shape == "race" and number % 4:
            right = "ABCD".index(row["answerKey"])
            row["choices"]["text"][right] += f" and other things of kind {number}"

    dataset = {"mnli": shapes.mnli, "race": shapes.race}[shape]().with_rows(artefact)
    (diagnosis,) = found(dataset.examined(tmp_path), "field_suffices")
    assert diagnosis.severity == "warning"
    assert diagnosis.subject == {"mnli": "second", "race": "option"}[shape]


# --- options ---------------------------------------------------------------------------------


def test_options_cut_to_the_fewest_are_an_error(tmp_path: Path) -> None:
    """A column of the series that is left out, or a list of which only some are picked."""
    options = ["{answer0}", "{answer1}", "{answer2}"]
    made = shapes.cosmos().with_rows(lambda _, row: row.update(label=min(row["label"], 2)))
    series = made.changed(inputs={**made.spec["inputs"], "choices": options})
    (diagnosis,) = found(series.examined(tmp_path / "series"), "options_dropped")
    assert (diagnosis.severity, diagnosis.subject) == ("error", "answer3")
    assert diagnosis.num_rows == 400

    picked = [
        {"op": "pick", "column": "choices.text", "index": i, "into": f"option_{c}"}
        for i, c in enumerate("xyz")
    ]
    listed = shapes.race().with_rows(lambda _, row: row.update(answerKey="A")).changed(
        rows=picked,
        inputs={
            "format": "multiple_choice", "context": "{question} {story}",
            "choices": ["{option_x}", "{option_y}", "{option_z}"],
        },
        head={"type": "multiple_choice", "target": "answerKey", "keys": ["A", "B", "C"]},
    )  # fmt: skip
    (diagnosis,) = found(listed.examined(tmp_path / "list"), "options_dropped")
    assert (diagnosis.severity, diagnosis.subject) == ("error", "choices.text")
    assert diagnosis.numbers["offered"] == 4


def test_options_in_another_order_than_the_list_are_an_error(tmp_path: Path) -> None:
    picked = [
        {"op": "pick", "column": "choices.text", "index": i, "into": f"option_{c}"}
        for i, c in zip((1, 0, 2, 3), "wxyz", strict=True)
    ]
    dataset = shapes.race().changed(
        rows=picked,
        inputs={
            "format": "multiple_choice", "context": "{question} {story}",
            "choices": ["{option_w}", "{option_x}", "{option_y}", "{option_z}"],
        },
    )  # fmt: skip
    (diagnosis,) = found(dataset.examined(tmp_path), "options_changed")
    assert (diagnosis.severity, diagnosis.num_rows) == ("error", 400)


def test_equal_options_are_found_at_their_rows(tmp_path: Path) -> None:
    def twice(row: dict[str, Any]) -> None:
        row["choices"]["text"][1] = row["choices"]["text"][0]

    report = at_rows(twice)(shapes.race()).examined(tmp_path)
    (diagnosis,) = found(report, "duplicate_options")
    assert [ref.row for ref in diagnosis.rows] == list(ROWS)


def test_an_answer_that_is_always_first_is_noted(tmp_path: Path) -> None:
    def first(_: int, row: dict[str, Any]) -> None:
        texts, right = row["choices"]["text"], "ABCD".index(row["answerKey"])
        texts[0], texts[right] = texts[right], texts[0]
        row["answerKey"] = "A"

    report = shapes.race().with_rows(first).examined(tmp_path)
    assert {d.severity for d in found(report, "answer_position")} == {"note"}
    assert grave(report) == set(), "no baseline may learn the position"


# --- duplicates ------------------------------------------------------------------------------


def test_one_input_with_two_labels_is_found(tmp_path: Path) -> None:
    dataset = shapes.boolq()
    for number in range(6):
        row = dataset.rows["train"][number]
        dataset.rows["train"].append(
            {**row, "question": f"{row['question'].upper()} ?", "label": 1 - row["label"]}
        )
    (diagnosis,) = found(dataset.examined(tmp_path), "contradiction")
    assert diagnosis.severity == "warning"
    assert {ref.row for ref in diagnosis.rows} <= {*range(6), *range(300, 306)}
    assert diagnosis.num_rows == 12


@pytest.mark.parametrize(("copies", "severity"), [(3, "warning"), (30, "error")])
def test_training_inputs_in_evaluation_are_found(
    copies: int, severity: str, tmp_path: Path
) -> None:
    dataset = shapes.boolq()
    for number in range(copies):
        row = dataset.rows["train"][number * 7]
        dataset.rows["validation"][number] = {**row, "passage": row["passage"].replace(" ", "  ")}
    (diagnosis,) = found(dataset.examined(tmp_path), "train_test_duplicate")
    assert (diagnosis.severity, diagnosis.subject) == (severity, "validation")
    assert diagnosis.num_rows == copies
    assert [str(ref) for ref in diagnosis.rows[:2]] == ["validation:0", "validation:1"]


def test_inputs_that_differ_in_a_word_or_a_sign_are_not_the_same(tmp_path: Path) -> None:
    dataset = shapes.sst()
    dataset.rows["train"] += [
        {"text": "what is 2 + 1", "label": 0, "label_text": "negative"},
        {"text": "what is 2 - 1", "label": 1, "label_text": "positive"},
        {"text": "[it] ate it", "label": 0, "label_text": "negative"},
        {"text": "it ate [it]", "label": 1, "label_text": "positive"},
    ]
    assert found(dataset.examined(tmp_path), "contradiction") == []


# --- truncation ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "max_tokens", "cut"),
    [
        (shapes.squad, 512, 0), (shapes.squad, 16, 0),  # an answer of one word fits any window
        (shapes.ner, 512, 0), (shapes.ner, 8, 400),
        (shapes.race, 512, 0), (shapes.xsum, 512, 0),
    ],
)  # fmt: skip
def test_answers_that_are_cut_are_found(
    make: Callable[[], Dataset], max_tokens: int, cut: int, tmp_path: Path
) -> None:
    tokenizer = write_tokenizer(tmp_path / "tokenizer", [w.lower() for w in _words(make())])
    budget = TokenBudget(tokenizer=tokenizer, max_tokens=max_tokens)
    report = make().examined(tmp_path, budget=budget)
    assert sum(d.num_rows for d in found(report, "answer_cut")) == cut


def _words(dataset: Dataset) -> list[str]:
    text = str(dataset.rows)
    return sorted({word.strip("'\"[]{}.,?:") for word in text.split()})


def test_options_that_are_equal_after_the_cut_are_found(tmp_path: Path) -> None:
    def change(_: int, row: dict[str, Any]) -> None:
        texts = row["choices"]["text"]
        row["choices"]["text"] = [f"{'the animal that we met eats ' * 3}{text}" for text in texts]

    dataset = shapes.race().with_rows(change)
    tokenizer = write_tokenizer(tmp_path / "tokenizer", [w.lower() for w in _words(dataset)])
    for max_tokens, count in ((24, 400), (256, 0)):
        budget = TokenBudget(tokenizer=tokenizer, max_tokens=max_tokens)
        report = dataset.examined(tmp_path, budget=budget)
        assert sum(d.num_rows for d in found(report, "answer_cut")) == count


def test_a_summary_longer_than_the_head_allows_is_cut(tmp_path: Path) -> None:
    dataset = shapes.xsum()
    dataset = dataset.changed(head={**dataset.spec["head"], "max_target_tokens": 5})
    tokenizer = write_tokenizer(tmp_path / "tokenizer", [w.lower() for w in _words(dataset)])
    report = dataset.examined(tmp_path, budget=TokenBudget(tokenizer=tokenizer, max_tokens=128))
    assert sum(d.num_rows for d in found(report, "answer_cut")) == 400
    assert "answer_cut" in grave(report)


# --- the sample ------------------------------------------------------------------------------


def test_the_sample_is_of_the_whole_split_and_the_same_every_time(tmp_path: Path) -> None:
    dataset = shapes.boolq()
    dataset.rows["train"].sort(key=lambda row: row["label"])
    once, again = (dataset.examined(tmp_path, limit=100) for _ in range(2))
    assert once == again
    assert once.splits["train"] == {"rows": 300, "sampled": 100, "examples": 100}
    assert found(once, "label_never_seen") == found(once, "one_label") == []


def test_splits_without_rows_are_named_and_all_of_them_are_an_error(tmp_path: Path) -> None:
    spec, mirror = shapes.boolq().write(tmp_path)
    (mirror / spec.name / "validation.jsonl").unlink()
    (diagnosis,) = found(examine(spec, Examination(mirror=mirror)), "no_rows")
    assert diagnosis.severity == "note"
    assert "validation" in diagnosis.message
    (mirror / spec.name / "train.jsonl").unlink()
    with pytest.raises(SourceError, match="no file for split 'train'"):
        examine(spec, Examination(mirror=mirror))


def test_few_rows_are_no_ground_for_a_warning(tmp_path: Path) -> None:
    for make in shapes.SHAPES:
        dataset = make()
        few = dataclasses.replace(dataset, rows={role: r[:3] for role, r in dataset.rows.items()})
        assert grave(few.examined(tmp_path)) == set(), make.__name__


def test_every_group_of_checks_has_a_function() -> None:
    assert list(CHECKS) == [
        *("misfits", "columns", "labels", "signal", "options", "duplicates", "encodings"),
        "truncation",
    ]
