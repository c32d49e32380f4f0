"""The generated table of task_specs/README.md: its figures, its text, and --check."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from tiny_zoo import write_jsonl

from benchmarks import zoo_table
from muppet_zoo.zoo import shipped_specs

TOKENIZER = shipped_specs() / "quickstart" / "tiny_encoder"
COLA = [{"sentence": "a " * (i + 1), "label": int(i < 15), "idx": i} for i in range(20)]


def line(**changes: object) -> zoo_table.Line:
    parts = {
        "task": "toy", "family": "question_type", "head": "classification", "split": "train",
        "num_examples": 1234, "mean_tokens": 12.4, "p95_tokens": 130,
        "longer": {128: 0.061, 512: 0.0}, "labels": {"no": 0.304, "yes": 0.696},
    }  # fmt: skip
    return zoo_table.Line(**{**parts, **changes})  # type: ignore[arg-type]


def test_a_line_in_markdown() -> None:
    expected = "| toy | question type | train | 1,234 | 12 / 130 | 6 % | 0 % | 2: 30/70 % |"
    assert zoo_table.table([line()]).splitlines()[2] == expected


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"labels": {str(i): i / 45 for i in range(10)}}, "10: 0.0 to 20.0 %"),
        ({"labels": {}, "head": "regression"}, "a number"),
        ({"labels": {}, "head": "span"}, "a span"),
        ({"labels": {}, "head": "generation"}, "a text"),
        ({"labels": {}}, "hidden"),
    ],
)
def test_labels_in_short(changes: dict[str, object], text: str) -> None:
    assert zoo_table.labels(line(**changes)) == text


def test_a_small_share_is_not_shown_as_none() -> None:
    assert [zoo_table.percent(share) for share in (0, 0.0001, 0.011, 1)] == [
        "0 %", "< 1 %", "1 %", "100 %",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("histogram", "p95"), [({7: 1}, 7), ({1: 95, 9: 5}, 1), ({1: 94, 9: 6}, 9), ({9: 1, 3: 19}, 3)]
)
def test_the_percentile_is_a_length_that_occurs(histogram: dict[int, int], p95: int) -> None:
    assert zoo_table.percentile(histogram, 0.95) == p95


def test_options_that_are_never_right_are_counted_up_to_the_last_that_is() -> None:
    assert zoo_table.positions({"3": 1, "0": 2}) == ["0", "1", "2", "3"]


def test_marks_that_are_missing_are_told() -> None:
    with pytest.raises(click.ClickException, match="must have one"):
        zoo_table.with_table("no marks", "| a |")


@pytest.fixture
def readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "README.md"
    path.write_text(f"before\n{zoo_table.BEGIN}\n{zoo_table.END}\nafter\n")
    monkeypatch.setattr(zoo_table, "README", path)
    write_jsonl(tmp_path / "mirror/cola/train.jsonl", COLA)
    return path


def run(tmp_path: Path, *flags: str) -> tuple[int, str]:
    arguments = ["--mirror", str(tmp_path / "mirror"), "--out", str(tmp_path / "out"), *flags]
    result = CliRunner().invoke(zoo_table.main, [*arguments, "--tokenizer", str(TOKENIZER)])
    return result.exit_code, result.output


def test_the_table_is_written_and_checked(tmp_path: Path, readme: Path) -> None:
    assert run(tmp_path, "--check")[0] == 1
    assert "| cola |" not in readme.read_text()
    assert run(tmp_path)[0] == 0
    # 1 to 20 words of one token each, and two special tokens.
    row = "| cola | acceptability | train | 20 | 12 / 21 | 0 % | 0 % | 2: 25/75 % |"
    assert row in readme.read_text().splitlines()
    assert readme.read_text().startswith("before\n")
    assert readme.read_text().endswith("\nafter\n")
    assert run(tmp_path, "--check")[0] == 0
    readme.write_text(readme.read_text().replace("25/75", "26/74"))
    code, output = run(tmp_path, "--check")
    assert code == 1
    assert "-| cola | acceptability | train | 20 | 12 / 21 | 0 % | 0 % | 2: 26/74 % |" in output
    assert "differs" in output


def test_the_figures_as_json(tmp_path: Path, readme: Path) -> None:
    code, output = run(tmp_path, "--json")
    assert code == 0
    assert '"task": "cola"' in output
