"""Results of cells and their predictions: what is written is what is read, whatever was cut."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from muppet_zoo.finetune.results import (
    CellResult,
    Prediction,
    append_result,
    read_predictions,
    read_results,
    row_ids,
    write_predictions,
)
from muppet_zoo.results import ReportError

RESULT = CellResult(
    arm="prefinetuned",
    target="rte",
    split="validation",
    shots=16,
    seed=0,
    settings={"optimizer.learning_rate": 1e-4},
    scores={"accuracy": 0.5},
    headline="accuracy",
    num_examples=277,
    steps=60,
    data_fingerprint="ab",
    checkpoint_fingerprint="cd",
    versions={"torch": "2.9.0"},
    commit=None,
    seconds=1.5,
    predictions="predictions/prefinetuned-rte-16-seed0.jsonl",
)


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    results = [RESULT, replace(RESULT, shots="all", seed=1, commit="abc+changes")]
    for result in results:
        append_result(path, result)
    assert read_results(path) == results
    assert json.loads(path.read_text().splitlines()[0]) == asdict(RESULT)


@pytest.mark.parametrize("cut", [1, 40, 200])
def test_a_cut_last_line_is_passed_over_and_then_mended(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "results.jsonl"
    append_result(path, RESULT)
    append_result(path, replace(RESULT, seed=1))
    whole = path.read_bytes()
    path.write_bytes(whole[: -1 - cut])
    assert read_results(path) == [RESULT]
    append_result(path, replace(RESULT, seed=1))
    assert path.read_bytes() == whole


def test_a_last_line_without_its_end_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    append_result(path, RESULT)
    path.write_bytes(path.read_bytes()[:-1])
    append_result(path, replace(RESULT, seed=1))
    assert [result.seed for result in read_results(path)] == [0, 1]


def test_another_malformed_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text("{}\n" + json.dumps(asdict(RESULT)) + "\n")
    with pytest.raises(ReportError, match=r"results.jsonl:1: the field 'arm' is missing"):
        read_results(path)
    with pytest.raises(ReportError, match="there is no such file"):
        read_results(tmp_path / "nothing.jsonl")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arm": ""}, "'arm' is ''; allowed: a text"),
        ({"shots": 0}, "'shots' is 0"),
        ({"shots": "some"}, "'shots' is 'some'"),
        ({"seed": True}, "'seed' is True"),
        ({"overlap": -1}, "'overlap' is -1; allowed: a whole number from 0, or null"),
        ({"commit": 5}, "'commit' is 5"),
        ({"scores": {"accuracy": float("nan")}}, "'accuracy' is nan; allowed: a finite number"),
        ({"seconds": "1"}, "'seconds' is '1'; allowed: a number"),
        ({"headline": "acuracy"}, "no score for 'acuracy'; did you mean 'accuracy'"),
        ({"settings": []}, "'settings' is \\[\\]"),
    ],
)
def test_fields_that_a_reader_would_reject_are_not_written(
    change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ReportError, match=message):
        replace(RESULT, **change)


def test_lines_of_other_versions_are_read(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    record = {**asdict(RESULT), "to_come": 1}
    del record["overlap"]
    path.write_text(json.dumps(record) + "\n")
    assert read_results(path) == [RESULT]


def test_predictions_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "predictions" / "cell.jsonl"
    predictions = [
        Prediction(row=0, prediction=1, target=0),
        Prediction(row="1.0", prediction="", target=["a", "ä"]),
        Prediction(row="1.1", prediction=[0, 2], target=[]),
        Prediction(row=2, prediction=0.25, target=1.0),
    ]
    write_predictions(path, predictions)
    assert read_predictions(path) == predictions
    path.write_text('{"row": 1, "prediction": 0}\n')
    with pytest.raises(ReportError, match=r"cell.jsonl:1: a JSON object with prediction, row, ta"):
        read_predictions(path)


@pytest.mark.parametrize(
    ("rows", "ids"),
    [
        ([], []),
        ([0, 1, 5], [0, 1, 5]),
        ([3, 3, 4, 6, 6, 6], ["3.0", "3.1", 4, "6.0", "6.1", "6.2"]),
    ],
)
def test_rows_with_several_examples_number_them(rows: list[int], ids: list[int | str]) -> None:
    assert row_ids(rows) == ids
