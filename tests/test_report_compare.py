"""The tables of a report, computed by hand on few cells, and what may not change them."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from report_runs import line, write_lines, write_predictions

from muppet_zoo.errors import UnknownNameError
from muppet_zoo.report.cells import read_runs
from muppet_zoo.report.compare import Report, build_report
from muppet_zoo.report.published import Published
from muppet_zoo.report.tables import notes_of, tables_of
from muppet_zoo.results import ReportError


def cell(arm: str, target: str, seed: int, accuracy: float, **changes: Any) -> dict[str, Any]:
    scores = {"f1": 0.25, "accuracy": accuracy}
    return line(arm=arm, target=target, seed=seed, scores=scores, **changes)


# base and mtl on two targets with two seeds; on cr, mtl lacks seed 1.
CELLS = [
    cell("base", "subj", 0, 0.50),
    cell("base", "subj", 1, 0.60),
    cell("mtl", "subj", 0, 0.70),
    cell("mtl", "subj", 1, 0.60),
    cell("base", "cr", 0, 0.40),
    cell("base", "cr", 1, 0.20),
    cell("mtl", "cr", 0, 0.30),
]


def built(folder: Path, lines: list[dict[str, Any]], **options: Any) -> Report:
    return build_report(read_runs([str(write_lines(folder, lines))]), **options)


def test_scores_over_seeds_by_hand(tmp_path: Path) -> None:
    rows = {(r.arm, r.target, r.metric): r for r in built(tmp_path, CELLS).scores}
    row = rows["base", "subj", "accuracy"]
    # s = 0.0707, s/sqrt(2) = 0.05; t(0.975, 1) = 12.706 in any table.
    assert (row.mean, row.median, row.is_headline) == (pytest.approx(0.55), 0.55, True)
    assert row.high == pytest.approx(0.55 + 12.706 * 0.05, abs=1e-4)
    assert row.seeds == {0: 0.50, 1: 0.60}
    assert not rows["base", "subj", "f1"].is_headline
    lacking = rows["mtl", "cr", "accuracy"]
    assert (lacking.mean, lacking.low, lacking.missing_seeds) == (0.30, None, (1,))


def test_a_missing_cell_is_named_and_its_target_not_averaged(tmp_path: Path) -> None:
    report = built(tmp_path, CELLS)
    assert [(c.arm, c.target, c.shots, c.seed) for c in report.missing] == [("mtl", "cr", "all", 1)]
    assert {row.left_out for row in report.averages} == {("cr",)}
    assert {row.num_targets for row in report.averages} == {1}
    assert tables_of(report)[0].name == "missing"
    whole = built(tmp_path, CELLS[:4])
    assert whole.missing == ()
    assert {row.left_out for row in whole.averages} == {()}


def test_comparisons_pair_equal_seeds(tmp_path: Path) -> None:
    subj, cr = built(tmp_path, CELLS).comparisons
    # Seeds gain 0.2 and 0.0; of the sums ±0.2, two of four are as high.
    assert (subj.arm, subj.baseline, subj.metric) == ("mtl", "base", "accuracy")
    assert subj.seeds.difference == pytest.approx(0.1)
    assert (subj.seeds.p, subj.smallest_p, subj.p_seeds) == (1.0, 0.5, 1.0)
    assert subj.examples is None
    # Seed 1 has no partner on cr.
    assert (cr.seeds.num_pairs, cr.seeds.difference) == (1, pytest.approx(-0.1))


def test_averages_and_ranks_by_hand(tmp_path: Path) -> None:
    lines = [*CELLS, cell("mtl", "cr", 1, 0.40)]
    base, mtl = built(tmp_path, lines).averages
    # base: means 0.55 and 0.30; mtl: 0.65 and 0.35.
    assert (base.mean, mtl.mean) == (pytest.approx(0.425), pytest.approx(0.50))
    assert (base.mean_rank, mtl.mean_rank, base.num_best, mtl.num_best) == (2.0, 1.0, 0, 2)
    # Seeds' averages of base: (0.5 + 0.4)/2 and (0.6 + 0.2)/2, half their distance is 0.025.
    assert base.high == pytest.approx(0.425 + 12.706 * 0.025, abs=1e-4)
    assert mtl.targets is not None
    assert mtl.targets.difference == pytest.approx(0.075)  # 0.10 and 0.05
    assert (mtl.targets.p, mtl.p_targets, base.targets) == (0.5, 0.5, None)


def with_predictions(folder: Path, answers: dict[tuple[str, int], list[int]]) -> list[Any]:
    gold = [0, 1, 0, 1, 1, 1]
    return [
        cell(
            arm, "subj", seed, sum(a == g for a, g in zip(given, gold, strict=True)) / 6,
            num_examples=6, predictions=write_predictions(folder, f"{arm}{seed}", given, gold),
        )
        for (arm, seed), given in answers.items()
    ]  # fmt: skip


def test_examples_are_paired_row_by_row(tmp_path: Path) -> None:
    # mtl wins rows 2, 3, 4 and loses row 0: McNemar 3 against 1, p = 10/16.
    lines = with_predictions(
        tmp_path, {("base", 0): [0, 1, 1, 0, 0, 1], ("mtl", 0): [1, 1, 0, 1, 1, 1]}
    )
    (row,) = built(tmp_path, lines).comparisons
    assert row.examples is not None
    assert (row.examples.difference, row.examples.num_pairs) == (pytest.approx(2 / 6), 6)
    assert row.examples.p == pytest.approx(10 / 16)
    assert row.example_score == "right labels"


def test_equal_arms_differ_by_nothing(tmp_path: Path) -> None:
    given = {(arm, seed): [seed, 1, 0, 1, 0, 1] for arm in ("base", "mtl") for seed in (0, 1)}
    (row,) = built(tmp_path, with_predictions(tmp_path, given)).comparisons
    assert row.examples is not None
    for test in (row.seeds, row.examples):
        assert (test.difference, test.low, test.high, test.p) == (0.0, 0.0, 0.0, 1.0)
    assert (row.p_seeds, row.p_examples) == (1.0, 1.0)


def test_p_values_are_corrected_for_all_comparisons(tmp_path: Path) -> None:
    # Six rows won of six by two arms each: p = 2/64, twice that after Holm.
    gold = [0, 1, 0, 1, 1, 1]
    wrong = [1 - label for label in gold]
    lines = with_predictions(tmp_path, {("base", 0): wrong, ("a", 0): gold, ("b", 0): gold})
    assert [row.p_examples for row in built(tmp_path, lines).comparisons] == [2 * 2 / 64] * 2


def test_predictions_of_other_targets_are_refused(tmp_path: Path) -> None:
    right = [0, 1, 0, 1, 1, 1]
    lines = with_predictions(tmp_path, {("base", 0): right, ("mtl", 0): right})
    write_predictions(tmp_path, "mtl0", right, [1, 1, 0, 1, 1, 1])
    with pytest.raises(ReportError, match=r"mtl0.* and .*base0.*: rows or targets differ"):
        built(tmp_path, lines)


@pytest.mark.parametrize("answer", [None, [1, 2], "same"])
def test_a_prediction_of_another_form_is_named(answer: Any, tmp_path: Path) -> None:
    cells = []
    for arm, predictions in (("base", [1.0, 2.0]), ("mtl", [1.0, answer])):
        path = write_predictions(tmp_path, arm, predictions, [1.0, 3.0])
        cells.append(
            line(arm=arm, headline="pearson", scores={"pearson": 0.5}, num_examples=2,
                 predictions=path)
        )  # fmt: skip
    with pytest.raises(ReportError, match=r"mtl\.jsonl: row 1 has prediction .*pearson cannot"):
        built(tmp_path, cells)


def test_the_order_and_the_numbers_of_seeds_change_nothing(tmp_path: Path) -> None:
    report = built(tmp_path, CELLS)
    lines = [*CELLS]
    by_seed = {0: 1, 1: 0}
    # Seeds finished in another order; arms and targets keep theirs.
    random.Random(1).shuffle(lines)
    lines.sort(key=lambda each: (each["target"] == "cr", each["arm"] == "mtl"))
    assert built(tmp_path, lines) == report
    renamed = built(tmp_path, [{**each, "seed": by_seed[each["seed"]]} for each in CELLS])
    assert [(r.mean, r.low) for r in renamed.scores] == [(r.mean, r.low) for r in report.scores]
    assert [row.seeds for row in renamed.comparisons] == [row.seeds for row in report.comparisons]


def test_the_baseline_is_the_first_arm_or_the_one_that_is_asked_for(tmp_path: Path) -> None:
    assert built(tmp_path, CELLS).baseline == "base"
    report = built(tmp_path, CELLS, baseline="mtl")
    assert {(row.arm, row.baseline) for row in report.comparisons} == {("base", "mtl")}
    with pytest.raises(UnknownNameError, match="no arm is named 'mlt'; did you mean 'mtl'"):
        built(tmp_path, CELLS, baseline="mlt")


def test_runs_without_a_cell_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="there are no scores in these runs yet"):
        built(tmp_path, [])


PUBLISHED = Published(
    model="RoBERTa-base", task="subj", split="validation", metric="accuracy", score=0.9,
    source="a paper", recalled=False,
)  # fmt: skip


def test_published_scores_stand_beside_ours_of_the_same_metric_and_split(tmp_path: Path) -> None:
    others = [
        PUBLISHED,
        replace(PUBLISHED, metric=None),
        replace(PUBLISHED, metric="f1"),
        replace(PUBLISHED, split="test"),
        replace(PUBLISHED, task="mnli"),
    ]
    rows = built(tmp_path, CELLS, published=others).published
    assert [(row.published, row.metric) for row in rows] == [
        (others[0], "accuracy"),
        (others[1], "accuracy"),
        (others[2], "f1"),
    ]
    assert rows[0].ours == {"base": pytest.approx(0.55), "mtl": pytest.approx(0.65)}
    few = [cell("base", "subj", 0, 0.5, shots=16)]
    assert built(tmp_path, few, published=others).published == ()


def test_columns_in_which_there_is_nothing_are_left_out(tmp_path: Path) -> None:
    tables = {table.name: table for table in tables_of(built(tmp_path, CELLS[:4]))}
    assert "gain" in tables["averages"].rows[0]
    assert not {"tasks", "left_out"} & tables["averages"].rows[0].keys()
    assert "example_gain" not in tables["comparisons"].rows[0]


def test_notes_say_what_few_seeds_cannot_say_and_whether_overlap_was_checked(
    tmp_path: Path,
) -> None:
    text = " ".join(notes_of(built(tmp_path, CELLS[:4])))
    assert "2: 0.5" in text
    assert "Overlap not checked" in text
    checked = [{**each, "overlap": 2} for each in CELLS[:4]]
    text = " ".join(notes_of(built(tmp_path, checked)))
    assert "not checked" not in text
    assert "Some scored rows were among the training rows" in text
