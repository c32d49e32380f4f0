"""Cells read back: both kinds of folder, what is refused and named, crashes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from report_runs import line, write_lines, write_predictions

from muppet_zoo.errors import SpecError
from muppet_zoo.report.cells import ArmFacts, predictions_of, read_runs
from muppet_zoo.results import ReportError, TaskReport, append_report


def report(**changes: Any) -> TaskReport:
    fields: dict[str, Any] = {
        "task": "subj", "split": "validation", "num_examples": 4, "scores": {"accuracy": 0.5},
        "headline": "accuracy", "seed": 0, "step": 1, "fingerprint": "ab12",
    }  # fmt: skip
    return TaskReport(**{**fields, **changes})


def training(folder: Path, *reports: TaskReport) -> Path:
    folder.mkdir()
    for each in reports:
        append_report(folder / "reports.jsonl", each)
    return folder


def test_results_of_finetune_are_cells(tmp_path: Path) -> None:
    lines = [line(seed=0, overlap=7), line(seed=1, shots=16, arm="mtl", unheard_of=1)]
    cells = read_runs([str(write_lines(tmp_path, lines))]).cells
    assert [(c.arm, c.shots, c.seed, c.overlap) for c in cells] == [
        ("original", "all", 0, 7),
        ("mtl", 16, 1, None),
    ]


def test_a_training_is_an_arm_of_the_last_report_of_each_task(tmp_path: Path) -> None:
    folder = training(
        tmp_path / "mtl",
        report(step=1),
        report(step=9, scores={"accuracy": 0.75}),
        report(task="cr", fingerprint="ff"),
    )
    runs = read_runs([str(folder)])
    assert [(c.arm, c.target, c.scores["accuracy"]) for c in runs.cells] == [
        ("mtl", "subj", 0.75),
        ("mtl", "cr", 0.5),
    ]


def test_trainings_of_one_name_are_seeds_of_one_arm(tmp_path: Path) -> None:
    folders = [training(tmp_path / f"seed{seed}", report(seed=seed)) for seed in (0, 1)]
    runs = read_runs([f"mtl={folder}" for folder in folders])
    assert [(c.arm, c.seed) for c in runs.cells] == [("mtl", 0), ("mtl", 1)]


def test_facts_of_arms_come_from_lines_the_folder_and_the_file(tmp_path: Path) -> None:
    lines = [line(arm="a", settings={"num_tasks": 5}), line(arm="b"), line(arm="c")]
    folder = write_lines(tmp_path / "run", lines)
    (folder / "arms.yaml").write_text("arms: {b: {num_tasks: 15}}\n", encoding="utf-8")
    extra = tmp_path / "arms.yaml"
    extra.write_text("arms: {b: {description: fifteen}, z: {num_tasks: 1}}\n", encoding="utf-8")
    assert read_runs([str(folder)], extra).arms == {
        "a": ArmFacts(num_tasks=5),
        "b": ArmFacts(num_tasks=15, description="fifteen"),
        "c": ArmFacts(),
    }


def test_a_malformed_file_of_arms_is_named_at_its_line(tmp_path: Path) -> None:
    folder = write_lines(tmp_path, [line()])
    (folder / "arms.yaml").write_text("arms:\n  a: {num_task: 3}\n", encoding="utf-8")
    with pytest.raises(SpecError, match=r"arms\.yaml:2:.*num_task.*did you mean 'num_tasks'"):
        read_runs([str(folder)])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data_fingerprint": "other"}, r"subj, validation, all shots: data_fingerprint is ab12 "
         r"for arm 'original', seed 0, and other for arm 'mtl', seed 0; these cannot be compared"),
        ({"num_examples": 9}, "num_examples is 4 for arm 'original', seed 0, and 9 for arm 'mtl'"),
        ({"headline": "f1", "scores": {"f1": 0.1}}, "headline is accuracy for arm 'original'"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_refused(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    folder = write_lines(tmp_path, [line(), line(arm="mtl", **changes)])
    with pytest.raises(ReportError, match=message):
        read_runs([str(folder)])


def test_other_data_under_another_number_of_examples_is_no_comparison(tmp_path: Path) -> None:
    lines = [line(), line(shots=16, data_fingerprint="other")]
    assert len(read_runs([str(write_lines(tmp_path, lines))]).cells) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arm": ""}, "'arm' is ''; allowed: a text"),
        ({"target": None}, "'target' is None; allowed: a text"),
        ({"seed": True}, "'seed' is True; allowed: a whole number"),
        ({"shots": "most"}, "'shots' is 'most'; allowed: a whole number from 1, or 'all'"),
        ({"scores": {"accuracy": math.nan}}, "'accuracy' is nan; allowed: a finite number"),
        ({"headline": "f1"}, "no score for 'f1'"),
        ({"overlap": "none"}, "'overlap' is 'none'; allowed: a whole number"),
    ],
)
def test_a_malformed_line_is_named(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    folder = write_lines(tmp_path, [line(seed=1), line(**changes)])
    with pytest.raises(ReportError, match=rf"results\.jsonl:2: result of .*: {message}"):
        read_runs([str(folder)])


def test_a_number_of_tasks_is_one(tmp_path: Path) -> None:
    for odd in ("ten", True, 1.5):
        folder = write_lines(tmp_path, [line(settings={"num_tasks": odd})])
        with pytest.raises(ReportError, match=rf"'num_tasks' is {odd!r}; allowed: a whole number"):
            read_runs([str(folder)])


def test_a_line_that_a_crash_cut_is_passed_over_and_any_other_is_not(tmp_path: Path) -> None:
    path = write_lines(tmp_path, [line(), line(seed=1)]) / "results.jsonl"
    text = path.read_text("utf-8")
    path.write_text(text[:-20], encoding="utf-8")
    assert len(read_runs([str(tmp_path)]).cells) == 1
    path.write_text("{\n" + text, encoding="utf-8")
    with pytest.raises(ReportError, match=r"results\.jsonl:1: this is no JSON object"):
        read_runs([str(tmp_path)])


def test_a_cell_scored_again_counts_once_and_with_other_settings_not_at_all(tmp_path: Path) -> None:
    again = line(scores={"accuracy": 0.75})
    cells = read_runs([str(write_lines(tmp_path, [line(), again]))]).cells
    assert [cell.scores["accuracy"] for cell in cells] == [0.75]
    write_lines(tmp_path, [line(), line(settings={"steps": 9})])
    with pytest.raises(ReportError, match="was scored twice, with other settings"):
        read_runs([str(tmp_path)])


def test_one_cell_in_two_folders_is_refused(tmp_path: Path) -> None:
    folders = [str(write_lines(tmp_path / name, [line()])) for name in "ab"]
    with pytest.raises(ReportError, match=r"b: arm 'original', seed 0 on subj.* is in .*a too"):
        read_runs(folders)


def test_folders_without_results_say_what_is_needed(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=r"no results are in this folder; needed: .*finetune"):
        read_runs([str(tmp_path)])
    with pytest.raises(ReportError, match="there is no such folder"):
        read_runs([str(tmp_path / "none")])
    write_lines(tmp_path, [line()])
    with pytest.raises(ReportError, match="give the folder without mtl="):
        read_runs([f"mtl={tmp_path}"])


def test_predictions_are_read_in_row_order_and_counted(tmp_path: Path) -> None:
    path = write_predictions(tmp_path, "cell", [0, 1, 1, 0], [0, 1, 0, 0])
    (cell,) = read_runs([str(write_lines(tmp_path, [line(predictions=path)]))]).cells
    assert predictions_of(cell) == {0: (0, 0), 1: (1, 1), 2: (1, 0), 3: (0, 0)}
    write_predictions(tmp_path, "cell", [0, 1], [0, 1])
    with pytest.raises(ReportError, match=r"cell\.jsonl: 2 predictions, and 4 rows were scored"):
        predictions_of(cell)
    (tmp_path / path).write_text('{"row": 0}\n', encoding="utf-8")
    with pytest.raises(ReportError, match=r"cell\.jsonl:1: a JSON object with prediction"):
        predictions_of(cell)
    (tmp_path / path).unlink()
    with pytest.raises(ReportError, match=r"cell\.jsonl: there is no such file"):
        predictions_of(cell)


def test_predictions_stay_inside_the_folder_of_the_results(tmp_path: Path) -> None:
    secret = tmp_path / "secret.jsonl"
    secret.write_text("keep out\n", encoding="utf-8")
    for way in ("../secret.jsonl", str(secret), "predictions/../../secret.jsonl"):
        folder = write_lines(tmp_path / "run", [line(predictions=way)])
        with pytest.raises(ReportError, match=r"predictions: '.*secret\.jsonl' leaves the folder"):
            read_runs([str(folder)])
