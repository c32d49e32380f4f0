"""The build: what is rebuilt and why, what bad rows do, that equal inputs give equal bytes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_zoo import (
    KINDS,
    files_below,
    random_rows,
    spec_data,
    write_jsonl,
    write_spec,
    write_tokenizer,
)

from muppet_zoo import build as build_module
from muppet_zoo import build_split, fingerprints
from muppet_zoo.build import BuildOptions, BuildProgress, BuildReport, build
from muppet_zoo.cli.build import command
from muppet_zoo.encode import TokenizerSource
from muppet_zoo.errors import RowError, UsageError
from muppet_zoo.manifests import Manifest
from muppet_zoo.shards import open_task
from muppet_zoo.spec import TaskSpec


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> TokenizerSource:
    return write_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_split, "CHUNK_ROWS", 10)
    monkeypatch.setattr(build_split, "SHARD_EXAMPLES", 30)


class Bench:
    """A folder with one spec a task, a mirror, and an output folder."""

    def __init__(self, folder: Path, tokenizer: TokenizerSource) -> None:
        self.folder, self.tokenizer = folder, tokenizer
        self.mirror, self.out = folder / "mirror", folder / "out"
        self.data: dict[str, dict[str, Any]] = {}

    def add(self, name: str, kind: str = "single", count: int = 100, **changes: Any) -> TaskSpec:
        self.data[name] = spec_data(name, kind, **changes)
        for split, number in (("train", count), ("validation", count // 4)):
            self.write(name, split, random_rows(kind, number, seed=number))
        return self.spec(name)

    def spec(self, name: str) -> TaskSpec:
        return write_spec(self.folder / "specs", self.data[name])

    def write(self, name: str, split: str, rows: list[dict[str, Any]]) -> None:
        write_jsonl(self.mirror / name / f"{split}.jsonl", rows)

    def build(self, **changes: Any) -> BuildReport:
        options = BuildOptions(**{"mirror": self.mirror, "max_tokens": 16, **changes})
        specs = [self.spec(name) for name in self.data]
        return build(specs, tokenizer=self.tokenizer, out=self.out, options=options)

    def manifest(self, name: str, role: str = "train") -> Manifest:
        return open_task(self.out, name, role).manifest


@pytest.fixture
def bench(tmp_path: Path, tokenizer: TokenizerSource) -> Bench:
    return Bench(tmp_path, tokenizer)


def told(report: BuildReport) -> dict[str, str]:
    return {f"{o.task}/{o.role}": f"{o.status}: {o.why}" for o in report.outcomes}


# --- content-addressed -----------------------------------------------------------------------


def shards_and_manifests(out: Path) -> dict[Path, int]:
    """When each was changed; what is only remembered, in hidden files, may be added to."""
    paths = [path for path in out.rglob("*") if path.is_file() and path.name[0] != "."]
    return {path: path.stat().st_mtime_ns for path in paths}


def test_a_second_build_does_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in KINDS:
        bench.add(f"toy_{kind}", kind)
    assert {o.status for o in bench.build().outcomes} == {"built"}
    before = shards_and_manifests(bench.out)

    def forbidden(*arguments: Any, **options: Any) -> None:
        raise AssertionError("encoded again")

    monkeypatch.setattr("muppet_zoo.encode.ExampleEncoder.__init__", forbidden)
    report = bench.build()
    assert {(o.status, o.why) for o in report.outcomes} == {("reused", "unchanged")}
    assert shards_and_manifests(bench.out) == before
    assert bench.manifest("toy_pair").num_examples == 100


Change = Callable[[Bench], Any]


@pytest.mark.parametrize(
    "change",
    [
        lambda b: b.data["toy"].update(description="Something else altogether, at length."),
        lambda b: b.data["toy"].update(metrics=["macro_f1"], license="MIT", homepage="http://x.y"),
        lambda b: b.data["toy"]["head"].update(shared_head="common"),
        lambda b: b.data["toy"]["source"].update(hub="somebody/else", revision="1" * 40),
        lambda b: b.mirror.rename(b.folder / "moved") and setattr(b, "mirror", b.folder / "moved"),
    ],
    ids=["description", "metrics", "shared_head", "hub", "mirror_moved"],
)
def test_what_does_not_change_the_data_rebuilds_nothing(bench: Bench, change: Change) -> None:
    bench.add("toy")
    bench.build()
    change(bench)
    assert set(told(bench.build()).values()) == {"reused: unchanged"}


@pytest.mark.parametrize(
    ("change", "train", "validation"),
    [
        (
            lambda b: b.data["toy"]["head"].update(labels=["bad", "fine", "good"]),
            "built: spec changed",
            "built: spec changed",
        ),
        (
            lambda b: b.data["toy"].update(rows=[{"op": "drop_where", "column": "label",
                                                  "values": [0]}]),
            "built: spec changed",
            "built: spec changed",
        ),
        (
            lambda b: b.data["toy"].update(on_bad_row="skip"),
            "built: spec changed",
            "built: spec changed",
        ),
        (
            lambda b: b.write("toy", "train", random_rows("single", 99)),
            "built: source changed",
            "reused: unchanged",
        ),
        (
            lambda b: setattr(b, "tokenizer", write_tokenizer(b.folder / "t", ["cat", "dog"])),
            "built: tokenizer changed",
            "built: tokenizer changed",
        ),
    ],
    ids=["labels", "rows", "on_bad_row", "source", "tokenizer"],
)  # fmt: skip
def test_what_changes_the_data_rebuilds_what_it_touches(
    bench: Bench, change: Change, train: str, validation: str
) -> None:
    bench.add("toy")
    bench.build()
    change(bench)
    assert told(bench.build()) == {"toy/train": train, "toy/validation": validation}
    assert set(told(bench.build()).values()) == {"reused: unchanged"}


def test_options_and_builder_version_say_what_changed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.add("toy")
    assert set(told(bench.build()).values()) == {"built: new"}
    reason = "built: options changed: limit none -> 50, max_tokens 16 -> 12"
    assert set(told(bench.build(max_tokens=12, limit=50)).values()) == {reason}
    monkeypatch.setattr(fingerprints, "BUILDER_VERSION", 999)
    reason = "built: builder version changed, options changed: max_tokens 12 -> 14"
    assert set(told(bench.build(max_tokens=14, limit=50)).values()) == {reason}


def test_the_builder_version_stands_for_these_examples(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When this fails, shards of equal inputs have changed: raise BUILDER_VERSION, then the pin."""
    for kind in KINDS:
        bench.add(kind, kind, count=40)
    bench.build()
    digest = hashlib.sha256()
    for kind in sorted(KINDS):
        manifest = bench.manifest(kind)
        digest.update(json.dumps(manifest.length_histogram).encode())
        for shard in manifest.shards:
            import pyarrow as pa

            with pa.memory_map(str(bench.out / kind / "train" / shard.file)) as file:
                rows = pa.ipc.open_stream(file).read_all().to_pylist()
            digest.update(json.dumps(rows).encode())
    assert (fingerprints.BUILDER_VERSION, digest.hexdigest()[:16]) == (4, "253c28aae70a8c37")


def test_files_of_the_last_build_are_gone(bench: Bench) -> None:
    bench.add("toy")
    bench.build()
    first = set(files_below(bench.out))
    bystander = bench.out / "toy/train/notes.txt"
    bystander.write_text("mine")
    bench.build(max_tokens=12)
    second = set(files_below(bench.out))
    assert first & second == {"toy/train/manifest.json", "toy/validation/manifest.json"}
    named = {shard.file for shard in bench.manifest("toy").shards}
    shards = {Path(name).name for name in second if name.startswith("toy/train/")}
    sidecars = {name.replace(".arrow", ".json") for name in named}
    assert shards == named | sidecars | {"manifest.json", "notes.txt"}


@pytest.mark.parametrize("damage", ["manifest", "shard_cut", "shard_missing"])
def test_damage_is_repaired_to_the_same_bytes(bench: Bench, damage: str) -> None:
    bench.add("toy")
    bench.build()
    whole = files_below(bench.out)
    shards = [bench.out / "toy/train" / shard.file for shard in bench.manifest("toy").shards]
    if damage == "manifest":
        (bench.out / "toy/train/manifest.json").write_text("{")
        reason = "the manifest was damaged; went on after 4 finished shards"
    elif damage == "shard_cut":
        shards[1].write_bytes(shards[1].read_bytes()[:-1])
        reason = f"{shards[1].name} was missing or cut; went on after 1 finished shard"
    else:
        shards[3].unlink()
        reason = f"{shards[3].name} was missing or cut; went on after 3 finished shards"
    assert told(bench.build())["toy/train"] == f"resumed: {reason}"
    assert files_below(bench.out) == whole


@pytest.mark.parametrize(
    "change",
    [
        {"task": "other"},
        {"split": "validation"},
        {"head": "regression"},
        {"max_tokens": 17},
        {"num_examples": 99},
        {"components": {}},
    ],
)
def test_a_manifest_that_says_other_than_its_shards_is_written_anew(
    bench: Bench, change: dict[str, Any]
) -> None:
    bench.add("toy")
    bench.build()
    whole = files_below(bench.out)
    path = bench.out / "toy/train/manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    (outcome,) = [o for o in bench.build().outcomes if o.role == "train"]
    assert outcome.status == "resumed"
    assert files_below(bench.out) == whole


def test_verify_finds_and_mends_changed_bytes(bench: Bench) -> None:
    bench.add("toy")
    bench.build()
    whole = files_below(bench.out)
    shard = bench.out / "toy/train" / bench.manifest("toy").shards[1].file
    raw = bytearray(shard.read_bytes())
    raw[len(raw) // 2] ^= 1
    shard.write_bytes(raw)
    assert told(bench.build())["toy/train"] == "reused: unchanged"
    done = told(bench.build(verify=True))
    damaged = f"{shard.name} was damaged; went on after 1 finished shard"
    assert done == {"toy/train": f"resumed: {damaged}", "toy/validation": "reused: unchanged"}
    assert files_below(bench.out) == whole
    assert set(told(bench.build(verify=True)).values()) == {"reused: unchanged"}


def test_going_back_to_an_earlier_spec_after_a_failure_is_cheap(bench: Bench) -> None:
    bench.add("toy")
    bench.build()
    whole = files_below(bench.out)
    good = bench.data["toy"]["head"]["labels"]
    bench.data["toy"]["head"]["labels"] = ["bad", "good"]  # rows of label 2 are now bad
    assert {o.status for o in bench.build().outcomes} == {"failed"}
    assert not (bench.out / "toy/train/manifest.json").exists()  # the old data is not the new
    bench.data["toy"]["head"]["labels"] = good
    assert told(bench.build())["toy/train"] == "resumed: new; went on after 4 finished shards"
    assert files_below(bench.out) == whole


# --- the bytes -------------------------------------------------------------------------------


def test_jobs_do_not_change_the_bytes(bench: Bench) -> None:
    for kind in KINDS:
        bench.add(f"toy_{kind}", kind)
    bench.build(jobs=1)
    one = files_below(bench.out)
    for jobs in (2, 5):
        bench.out = bench.folder / f"out{jobs}"
        bench.build(jobs=jobs)
        assert files_below(bench.out) == one


class Cut(BaseException):
    """Stands for the end of the process in the middle of the work."""


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_stopped_anywhere_it_goes_on_to_the_same_bytes(
    tmp_path_factory: pytest.TempPathFactory, tokenizer: TokenizerSource, data: st.DataObject
) -> None:
    bench = Bench(tmp_path_factory.mktemp("stopped"), tokenizer)
    drop = [{"op": "drop_where", "column": "label", "values": [data.draw(st.integers(0, 2))]}]
    bench.add("toy", rows=drop, on_bad_row="skip")
    rows = random_rows("single", 130, seed=data.draw(st.integers(0, 9)))
    for row in rows[95:125]:  # three chunks without any example, across a shard's end
        row["text"] = " "
    bench.write("toy", "train", rows)
    if data.draw(st.booleans(), label="carved"):
        carve = {"carve_from": "train", "percent": 40}
        bench.data["toy"]["source"]["splits"] = {"train": "train", "validation": carve}
    bench.build(jobs=1)
    whole, bench.out = files_below(bench.out), bench.folder / "stopped"
    for _ in range(data.draw(st.integers(1, 3))):
        with pytest.MonkeyPatch.context() as patch:
            stop_after(patch, data.draw(st.integers(0, 40)))
            with contextlib.suppress(Cut):
                bench.build(jobs=1)
        left = files_below(bench.out) if bench.out.exists() else {}
        for name in left:  # what looks complete is complete
            if name.endswith("manifest.json"):
                folder = name.removesuffix("manifest.json")
                expected = {path for path in whole if path.startswith(folder)}
                assert {path: left[path] for path in expected} == {p: whole[p] for p in expected}
    report = bench.build(jobs=1)
    assert report.errors == ()
    assert files_below(bench.out) == whole


def stop_after(patch: pytest.MonkeyPatch, steps: int) -> None:
    """Raise at the n-th of all writes, renames and flushes."""
    left = [steps]

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **options: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise Cut
            return function(*arguments, **options)

        return run

    for name in ("fsync", "replace", "rename"):
        patch.setattr(os, name, counted(getattr(os, name)))
    for name in ("replace", "unlink"):
        patch.setattr(Path, name, counted(getattr(Path, name)))


def test_a_shard_ends_by_examples_or_by_tokens(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.add("toy", count=200)
    bench.build()
    assert [shard.rows for shard in bench.manifest("toy").shards] == [30] * 6 + [20]
    monkeypatch.setattr(build_split, "SHARD_TOKENS", 1)
    bench.build(max_tokens=15)
    assert [shard.rows for shard in bench.manifest("toy").shards] == [10] * 20


def test_chunks_end_by_rows_or_by_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_split, "CHUNK_CHARACTERS", 100)
    rows = [(i, {"text": "x" * size, "list": ["y"] * 3}) for i, size in enumerate([30] * 5 + [900])]
    chunks = list(build_split._chunks(iter(rows)))
    assert [[number for number, _ in chunk] for chunk in chunks] == [[0, 1, 2, 3], [4, 5]]


# --- rows ------------------------------------------------------------------------------------

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


# --- what a mirror lacks, and errors together ------------------------------------------------


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


# --- progress and interruption ---------------------------------------------------------------


def test_progress_tells_rows_and_the_end(bench: Bench) -> None:
    seen: list[BuildProgress] = []
    options = BuildOptions(mirror=bench.mirror, max_tokens=16)
    spec = bench.add("toy")
    build(
        [spec], tokenizer=bench.tokenizer, out=bench.out, options=options, on_progress=seen.append
    )
    train = [progress for progress in seen if progress.role == "train"]
    assert [progress.num_rows for progress in train[:-1]] == list(range(0, 101, 10))
    assert [progress.row for progress in train[:-1]] == list(range(0, 101, 10))
    assert train[-1].phase == "done"
    assert train[-1].outcome is not None
    assert train[-1].outcome.status == "built"


def test_an_interrupt_stops_all_and_leaves_nothing_that_looks_complete(bench: Bench) -> None:
    specs = [bench.add(name, count=4000) for name in ("a", "b")]
    options = BuildOptions(mirror=bench.mirror, max_tokens=16, jobs=2)

    def interrupt(progress: BuildProgress) -> None:
        if progress.num_rows == 40:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(
            specs, tokenizer=bench.tokenizer, out=bench.out, options=options, on_progress=interrupt
        )
    assert threading.active_count() == 1 or not any(
        thread.name.startswith("build") for thread in threading.enumerate()
    )
    assert not list(bench.out.rglob("manifest.json"))
    assert not list(bench.out.rglob("*.tmp"))
    assert "resumed" in {outcome.status for outcome in bench.build().outcomes}


def test_a_bug_is_not_taken_for_a_failed_split(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.add("toy")

    def broken(*arguments: Any, **options: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(build_module, "build_split", broken)
    with pytest.raises(ZeroDivisionError):
        bench.build()


# --- the command -----------------------------------------------------------------------------


def run(bench: Bench, *arguments: str, code: int = 0) -> str:
    for name in bench.data:
        bench.spec(name)
    common = [
        "--tokenizer", str(bench.tokenizer.path.parent), "--out", str(bench.out),
        "--mirror", str(bench.mirror), "--specs", str(bench.folder / "specs"),
    ]  # fmt: skip
    result = CliRunner().invoke(command, [*arguments, *common], standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    assert result.return_value == code
    return result.stdout


def test_the_command_prints_a_table(bench: Bench) -> None:
    bench.add("toy_a")
    bench.add("toy_b")
    output = run(bench, "toy_a", "toy_b", "toy_a")
    assert "4 splits built, 0 unchanged" in output
    assert output.count("toy_a") == 2
    assert "0 splits built, 4 unchanged" in run(bench, "toy_a", "toy_b")
    (bench.mirror / "toy_b/validation.jsonl").unlink()
    (bench.mirror / "toy_b/train.jsonl").write_text("{")
    output = run(bench, "toy_a", "toy_b", code=1)
    assert "0 splits built, 2 unchanged, 1 absent, 1 failed" in output


def test_the_command_prints_one_json_document(bench: Bench) -> None:
    bench.add("toy")
    (bench.mirror / "toy/validation.jsonl").unlink()
    report = json.loads(run(bench, "toy", "--json"))
    assert report["errors"] == []
    train, validation = report["splits"]
    assert (train["task"], train["split"], train["status"]) == ("toy", "train", "built")
    assert train["num_examples"] == 100
    assert train["fingerprint"] == bench.manifest("toy").fingerprint
    assert (validation["status"], validation["num_examples"]) == ("absent", None)


def test_a_command_without_tasks_says_so(bench: Bench) -> None:
    bench.add("toy")
    with pytest.raises(UsageError, match="no task is named"):
        run(bench)


def test_a_build_with_nothing_to_do_imports_nothing_heavy(bench: Bench) -> None:
    bench.add("toy")
    run(bench, "toy")
    # pyarrow comes with the encoder's module; the libraries that read and tokenize do not.
    code = (
        "import sys\n"
        "from muppet_zoo.cli import cli\n"
        f"cli.main({['build', 'toy', '--json', *_common(bench)]!r}, standalone_mode=False)\n"
        "heavy = {'torch', 'transformers', 'datasets', 'sklearn', 'tokenizers', 'pandas'}\n"
        "sys.exit(f'imported: {heavy & set(sys.modules)}' if heavy & set(sys.modules) else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert '"status": "reused"' in done.stdout


def _common(bench: Bench) -> list[str]:
    return [
        "--tokenizer", str(bench.tokenizer.path.parent), "--out", str(bench.out),
        "--mirror", str(bench.mirror), "--specs", str(bench.folder / "specs"),
    ]  # fmt: skip
