"""What a mirror lacks, wrong requests, and errors told together."""

from __future__ import annotations

from typing import Any

import pytest
from build_bench import Bench, told
from tiny_zoo import files_below, random_rows

from muppet_zoo import build_split
from muppet_zoo.errors import UsageError


def test_evaluation_splits_may_be_absent_from_a_mirror(bench: Bench) -> None:
    bench.add("toy")
    (bench.mirror / "toy/validation.jsonl").unlink()
    report = bench.build()
    assert told(report)["toy/validation"] == "absent: not in the mirror"
    assert report.errors == ()
    (bench.mirror / "toy/train.jsonl").unlink()
    errors = bench.build().errors
    assert "no file for split 'train'" in str(errors[0])


def test_a_split_that_left_the_mirror_is_kept_while_it_fits(bench: Bench) -> None:
    bench.add("toy")
    bench.build()
    (bench.mirror / "toy/validation.jsonl").unlink()
    kept = "absent: not in the mirror; the one that was built before is kept"
    assert told(bench.build())["toy/validation"] == kept
    assert bench.manifest("toy", "validation").num_examples == 25
    gone = "no longer fits: options changed: max_tokens 16 -> 12"
    assert told(bench.build(max_tokens=12))["toy/validation"].endswith(gone)
    assert not (bench.out / "toy/validation/manifest.json").exists()
    assert told(bench.build(max_tokens=12))["toy/validation"] == "absent: not in the mirror"


def test_a_task_that_a_mirror_lacks_altogether_is_an_error(bench: Bench) -> None:
    bench.add("toy")
    bench.data["toy"]["source"]["splits"] = {"test": "other", "test_hard": "another"}
    report = bench.build()
    assert {o.status for o in report.outcomes} == {"failed"}
    assert len(report.errors) == 2


def test_one_tasks_error_costs_the_others_nothing(bench: Bench) -> None:
    for name in ("a", "b", "c"):
        bench.add(name)
    bench.write("a", "train", [{"text": "cat", "label": "?"}])
    (bench.mirror / "b/validation.jsonl").write_text("{\n")
    report = bench.build()
    assert {o.status for o in report.outcomes if o.task == "c"} == {"built"}
    assert [type(e).__name__ for e in report.errors] == ["RowError", "SourceError"]
    assert report.count("built") == 4


def test_wrong_requests_are_refused_before_any_work(bench: Bench) -> None:
    bench.add("toy")
    for changes, message in (
        ({"mirror": bench.folder / "nowhere"}, "no such folder"),
        ({"jobs": 0}, "--jobs 0: at least 1"),
        ({"limit": 0}, "--limit 0: at least 1"),
        ({"max_tokens": 3}, "leaves no room for text"),
    ):
        with pytest.raises(UsageError, match=message):
            bench.build(**changes)
    bench.out = bench.folder / "file"
    bench.out.write_text("a file")
    with pytest.raises(UsageError, match="is a file; name a folder"):
        bench.build()
    bench.out = bench.folder / "file/inside"
    with pytest.raises(UsageError, match="cannot be made: Not a directory"):
        bench.build()


def test_a_wrong_request_leaves_what_was_built(bench: Bench) -> None:
    bench.add("toy")
    bench.build()
    with pytest.raises(UsageError):
        bench.build(max_tokens=3)
    assert set(told(bench.build()).values()) == {"reused: unchanged"}


def test_a_folder_that_cannot_be_written_is_told_plainly(bench: Bench) -> None:
    bench.add("toy")
    bench.out.mkdir()
    (bench.out / "toy").write_text("in the way")
    report = bench.build()
    assert "cannot be written" in str(report.errors[0])


def test_a_source_that_changes_meanwhile_is_not_sealed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.add("toy")
    write = build_split._OpenShard.add

    def add(self: Any, chunk: Any, encoded: Any) -> None:
        bench.write("toy", "train", random_rows("single", 101, seed=5))
        write(self, chunk, encoded)

    monkeypatch.setattr(build_split._OpenShard, "add", add)
    (error,) = bench.build(jobs=1).errors
    assert "was changed while it was read; build again" in str(error)
    assert not any(name.startswith("toy/train/") for name in files_below(bench.out))
