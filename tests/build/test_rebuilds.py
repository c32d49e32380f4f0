"""A second build does what has changed and nothing else, and says why."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from build_bench import Bench, told
from tiny_zoo import KINDS, files_below, random_rows, write_tokenizer

from muppet_zoo import fingerprints


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
