"""The figures of `stats`, on rows that are counted by hand."""

from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import Any

import pytest
from helpers import muppet_zoo
from tiny_zoo import KINDS, random_rows, spec_data, write_jsonl, write_spec, write_tokenizer

from muppet_zoo.errors import MissingExtraError
from muppet_zoo.task_stats import SplitStats, split_stats, write_plot

ROWS = [
    {"text": "the cat sat", "label": 0},
    {"text": "the cat sat", "label": 0},  # a duplicate row
    {"text": "the cat sat", "label": 1},  # the same text with another label
    {"text": "a dog", "label": 2},
    {"text": "a b " * 100, "label": 2},
    {"text": "bird", "label": 9},  # no label
]


def stats_of(folder: Path, rows: list[dict[str, Any]], kind: str = "single", **more: Any) -> Any:
    spec = write_spec(folder, spec_data("toy", kind))
    return split_stats(spec, "train", enumerate(rows), **more)


def test_figures_in_words(tmp_path: Path) -> None:
    assert stats_of(tmp_path, ROWS).to_json() == {
        "task": "toy",
        "split": "train",
        "rows": 6,
        "examples": 5,
        "bad_rows": 1,
        "unit": "words",
        "length": {"mean": 42.2, "p50": 3.0, "p95": 160.6, "max": 200},
        "truncated": {"64": 0.2, "128": 0.2, "256": 0.0, "512": 0.0},
        "labels": {"bad": 2, "fine": 2, "good": 1},
        "duplicate_rows": 1,
        "duplicate_inputs": 2,
        "contradictions": 1,
    }


def test_tokens_include_the_special_ones(tmp_path: Path) -> None:
    tokenizer = write_tokenizer(tmp_path / "tokenizer")
    found = stats_of(tmp_path, ROWS[:5], tokenizer=tokenizer)
    assert found.unit == "tokens"
    assert found.lengths.tolist() == [5, 5, 5, 4, 202]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_task(tmp_path: Path, kind: str) -> None:
    tokenizer = write_tokenizer(tmp_path / "tokenizer")
    for given in (None, tokenizer):
        found = stats_of(tmp_path, random_rows(kind, 700), kind, tokenizer=given)
        assert (found.num_rows, found.num_bad_rows, len(found.lengths)) == (700, 0, 700)
        assert (found.lengths > 0).all()


def test_the_longest_option_counts(tmp_path: Path) -> None:
    row = {"text": "who sat", "options": ["cat", "the big dog on a mat"], "label": 0}
    assert stats_of(tmp_path, [row], "multiple_choice").lengths.tolist() == [8]


def test_no_rows_are_no_figures(tmp_path: Path) -> None:
    found = stats_of(tmp_path, []).to_json()
    assert found["length"] == {"mean": None, "p50": None, "p95": None, "max": None}
    assert found["truncated"]["64"] is None


@pytest.mark.parametrize(("suffix", "start"), [("svg", b"<?xml"), ("png", b"\x89PNG")])
def test_the_plot(tmp_path: Path, suffix: str, start: bytes) -> None:
    odd = [{**row, "text": "日本 $x_{$"} for row in ROWS[:2]]
    stats: list[SplitStats] = [stats_of(tmp_path, rows) for rows in (ROWS, odd, [])]
    write_plot(tmp_path / f"plot.{suffix}", stats)
    assert (tmp_path / f"plot.{suffix}").read_bytes().startswith(start)


def test_the_plot_needs_matplotlib_and_nothing_else_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def refuse(name: str, *rest: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ModuleNotFoundError(name=name)
        return real(name, *rest)

    monkeypatch.setattr("importlib.import_module", lambda name: refuse(name, {}, {}, ["x"], 0))
    with pytest.raises(MissingExtraError, match=r"pip install 'muppet-zoo\[train\]'"):
        write_plot(tmp_path / "plot.svg", [stats_of(tmp_path, ROWS)])
    assert not (tmp_path / "plot.svg").exists()


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    write_spec(tmp_path / "specs", spec_data("toy", "single"))
    write_jsonl(tmp_path / "rows" / "toy" / "train.jsonl", ROWS)
    return tmp_path


def test_the_command(mirror: Path) -> None:
    arguments = ("stats", "toy", "--specs", "specs", "--mirror", "rows")
    done = muppet_zoo(*arguments, "--plot", "p.svg", cwd=mirror)
    assert (done.returncode, done.stderr) == (0, "")
    title, header, row, absent, written = done.stdout.splitlines()
    assert title == "lengths in words; give --tokenizer for tokens"
    assert header.split()[:3] == ["task", "split", "examples"]
    assert row.split()[:3] == ["toy", "train", "5"]
    assert row.endswith("bad 2, fine 2, good 1")
    assert (absent, written) == ("no rows for: toy validation", "written: p.svg")
    report = json.loads(muppet_zoo(*arguments, "--json", "--limit", "2", cwd=mirror).stdout)
    assert report["absent"] == ["toy validation"]
    assert report["splits"][0]["rows"] == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no task is named: name tasks or a --mixture"),
        (["toy", "--plot", "p.jpg"], "a file that ends in .svg or .png is expected"),
        (["toy", "--split", "trian"], "no split is named 'trian'; did you mean 'train'?"),
        (["tpy"], "no task is named 'tpy'; did you mean 'toy'?"),
    ],
)
def test_a_wrong_request(mirror: Path, arguments: list[str], message: str) -> None:
    done = muppet_zoo("stats", *arguments, "--specs", "specs", "--mirror", "rows", cwd=mirror)
    assert done.returncode == 2
    assert message in done.stderr
