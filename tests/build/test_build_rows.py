"""What the build does with bad rows, dropped rows and rows without labels."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from build_bench import Bench, told
from tiny_zoo import files_below, random_rows

from muppet_zoo.errors import RowError
from muppet_zoo.shards import open_task

BAD_ROWS: dict[str, tuple[str, dict[str, Any], str]] = {
    "missing column": ("single", {"label": 1}, "column 'text' is missing"),
    "null text": ("single", {"text": None, "label": 1}, "holds None, text is expected"),
    "no text": ("single", {"text": "  ", "label": 1}, "no text"),
    "unknown label": ("single", {"text": "cat", "label": "great"}, "which is no label"),
    "label beyond": ("single", {"text": "cat", "label": 3}, "which is no label"),
    "hidden label": ("single", {"text": "cat", "label": -1}, "drop_where"),
    "off the scale": ("pair", {"text": "a", "other": "b", "score": 5.5}, "outside 0 to 5"),
    "no number": ("pair", {"text": "a", "other": "b", "score": "x"}, "a number is expected"),
    "no list": ("multi_label", {"text": "a", "tags": "red"}, "a list is expected"),
    "one option": ("multiple_choice", {"text": "a", "options": ["b"], "label": 0}, "option"),
    "wrong option": ("multiple_choice", {"text": "a", "options": ["b", "c"], "label": 2}, "0 to 1"),
    "tags short": ("tokens", {"words": ["a", "b"], "tags": [0]}, "2 words but 1 labels"),
    "answer elsewhere": (
        "extractive_qa",
        {"question": "who", "context": "the cat", "answers": {"text": ["dog"], "start": [4]}},
        "is not in the context at character 4",
    ),
    "no answer": (
        "extractive_qa",
        {"question": "who", "context": "the cat", "answers": {"text": [], "start": []}},
        "0 answers",
    ),
    "no target": ("text_to_text", {"text": "a", "other": ""}, "no text in the target"),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_a_bad_row_stops_its_split_or_is_counted(bench: Bench, name: str) -> None:
    kind, row, reason = BAD_ROWS[name]
    bench.add("toy", kind)
    rows = random_rows(kind, 100)
    rows[57] = row
    bench.write("toy", "train", rows)
    report = bench.build()
    (error,) = report.errors
    assert isinstance(error, RowError)
    assert (error.task, error.split, error.row) == ("toy", "train", 57)
    assert reason in error.reason
    assert not (bench.out / "toy/train/manifest.json").exists()
    assert bench.manifest("toy", "validation").num_examples == 25

    bench.data["toy"]["on_bad_row"] = "skip"
    assert bench.build().errors == ()
    manifest = bench.manifest("toy")
    assert (manifest.num_source_rows, manifest.num_examples, manifest.num_bad_rows) == (100, 99, 1)
    assert (manifest.bad_rows[0].row, manifest.bad_rows[0].reason) == (57, error.reason)
    assert 57 not in open_task(bench.out, "toy", "train").column("row", np.arange(99))


def test_bad_rows_are_counted_exactly_and_listed_up_to_a_bound(bench: Bench) -> None:
    bench.add("toy", on_bad_row="skip")
    rows = random_rows("single", 1300)
    for row in rows[:1234]:
        row["label"] = "?"
    bench.write("toy", "train", rows)
    bench.build()
    manifest = bench.manifest("toy")
    assert (manifest.num_bad_rows, manifest.num_examples) == (1234, 66)
    assert [bad.row for bad in manifest.bad_rows] == list(range(1000))


def test_bad_rows_after_the_last_example_are_counted(bench: Bench) -> None:
    bench.add("toy", on_bad_row="skip")
    rows = random_rows("single", 80)
    for row in rows[30:]:
        row["text"] = " "
    bench.write("toy", "train", rows)
    bench.build()
    manifest = bench.manifest("toy")
    assert (manifest.num_source_rows, manifest.num_examples, manifest.num_bad_rows) == (80, 30, 50)
    assert [(shard.first_row, shard.next_row) for shard in manifest.shards] == [(0, 80)]


def test_shards_that_do_not_join_are_made_again(bench: Bench) -> None:
    bench.add("toy")
    bench.build()
    whole = files_below(bench.out)
    sidecars = sorted((bench.out / "toy/train").glob("*-?????.json"))
    record = json.loads(sidecars[2].read_text())
    record["shard"]["first_row"] = 50
    sidecars[2].write_text(json.dumps(record))
    (bench.out / "toy/train/manifest.json").unlink()
    assert told(bench.build())["toy/train"] == "resumed: new; went on after 2 finished shards"
    assert files_below(bench.out) == whole


@pytest.mark.parametrize("rows", [[], [{"text": " ", "label": 1}] * 25], ids=["empty", "all bad"])
def test_no_usable_rows_is_an_error(bench: Bench, rows: list[dict[str, Any]]) -> None:
    bench.add("toy", on_bad_row="skip")
    bench.write("toy", "train", rows)
    (error,) = bench.build().errors
    assert "task toy, split train: no usable rows" in str(error)
    assert f"{len(rows)} read, {len(rows)} bad" in str(error)
    assert not any(name.startswith("toy/train/") for name in files_below(bench.out))


def test_rows_dropped_by_filters_alone_leave_no_data(bench: Bench) -> None:
    keep = [{"op": "keep_where", "column": "text", "values": ["never"]}]
    bench.add("toy", rows=keep)
    assert "100 read, 0 bad" in str(bench.build().errors[0])


def test_limit_counts_source_rows_and_explode_keeps_their_number(bench: Bench) -> None:
    bench.add("toy")
    bench.data["toy"]["source"]["columns"] = {"text": "strings", "label": "label"}
    bench.data["toy"]["rows"] = [{"op": "explode", "columns": {"text": "piece"}}]
    bench.data["toy"]["inputs"]["text"] = "{piece}"
    rows = [{"text": ["cat"] * (i % 4), "label": 0} for i in range(50)]
    for split in ("train", "validation"):
        bench.write("toy", split, rows)
    bench.build(limit=10)
    manifest = bench.manifest("toy")
    assert (manifest.num_source_rows, manifest.num_examples) == (10, 13)
    numbers = open_task(bench.out, "toy", "train").column("row", np.arange(13))
    assert numbers == [i for i in range(10) for _ in range(i % 4)]


def test_unlabelled_splits_need_no_target(bench: Bench) -> None:
    bench.add("toy")
    bench.data["toy"]["source"]["splits"]["test"] = {"split": "hidden", "labels": False}
    bench.write("toy", "hidden", [{"text": "cat", "label": -1}, {"text": "dog"}])
    assert bench.build().errors == ()
    split = open_task(bench.out, "toy", "test")
    assert [split.record(row).target for row in range(2)] == [-1, -1]
    assert split.manifest.label_histogram == {}
