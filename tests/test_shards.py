"""Shards: what is written is what is read, by our reader and by the `datasets` library."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_zoo import KINDS, random_rows, spec_data, write_jsonl, write_spec, write_tokenizer

from muppet_zoo import build_split
from muppet_zoo.build import BuildOptions, build
from muppet_zoo.encode import ExampleEncoder, TokenizerSource
from muppet_zoo.errors import ShardError
from muppet_zoo.shards import BuiltSplit, ShardWriter, open_task, verify
from muppet_zoo.spec import TaskSpec
from muppet_zoo.task_data import TaskData

MAX_TOKENS = 16


def built(
    folder: Path, kind: str, rows: list[dict[str, Any]], tokenizer: TokenizerSource
) -> tuple[TaskSpec, BuiltSplit]:
    """A task of one split, built from `rows` under folder/out."""
    data = spec_data("toy", kind)
    data["source"]["splits"] = {"train": "train"}
    spec = write_spec(folder, data)
    write_jsonl(folder / "mirror/toy/train.jsonl", rows)
    options = BuildOptions(mirror=folder / "mirror", max_tokens=MAX_TOKENS)
    report = build([spec], tokenizer=tokenizer, out=folder / "out", options=options)
    assert report.errors == ()
    return spec, open_task(folder / "out", "toy", "train")


def encoded(spec: TaskSpec, rows: list[Any], tokenizer: TokenizerSource) -> list[dict[str, Any]]:
    chunk = ExampleEncoder(spec, tokenizer, MAX_TOKENS).encode(
        enumerate(rows), labelled=True, every_window=False
    )
    examples: list[dict[str, Any]] = chunk.batch.to_pylist()
    return examples


def small(monkeypatch: pytest.MonkeyPatch, chunk: int, shard: int) -> None:
    monkeypatch.setattr(build_split, "CHUNK_ROWS", chunk)
    monkeypatch.setattr(build_split, "SHARD_EXAMPLES", shard)


@pytest.mark.parametrize("kind", KINDS)
@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 60), data=st.data())
def test_reading_gives_what_the_encoder_made(
    kind: str,
    tokenizer: TokenizerSource,
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    count: int,
    data: st.DataObject,
) -> None:
    rows = random_rows(kind, count, seed)
    chunk, shard = data.draw(st.integers(1, 20)), data.draw(st.integers(1, 40))
    with pytest.MonkeyPatch.context() as patch:
        small(patch, chunk, shard)
        spec, split = built(tmp_path_factory.mktemp("built"), kind, rows, tokenizer)
    examples = encoded(spec, rows, tokenizer)
    assert split.num_examples == count
    assert split.num_records == len(examples)
    numbers = st.integers(0, len(examples) - 1)
    wanted = np.array(data.draw(st.lists(numbers, max_size=80)), dtype=np.int64)
    compare(split, examples, wanted)
    compare(split, examples, np.arange(len(examples)))
    starts = [i for i, example in enumerate(examples) if example.get("window", 0) == 0]
    assert split.example_starts.tolist() == [*starts, len(examples)]


def compare(split: TaskData, examples: list[dict[str, Any]], rows: Any) -> None:
    options = [e["input_ids"] if isinstance(e["input_ids"][0], list) else [e["input_ids"]]
               for e in examples]  # fmt: skip
    # A decoder reads the answer, so it counts where it is the longer one.
    answers = [len(e["target"]) if "answer" in e else 0 for e in examples]
    longest = [max(*map(len, o), n) for o, n in zip(options, answers, strict=True)]
    np.testing.assert_array_equal(split.lengths, longest)
    np.testing.assert_array_equal(split.num_sequences, [len(o) for o in options])
    assert split.lengths.dtype == np.uint32
    assert split.num_sequences.dtype == np.uint16
    for row in rows.tolist():
        record, example = split.record(row), examples[row]
        assert [ids.tolist() for ids in record.sequences] == options[row]
        assert list(record.second_starts) == np.atleast_1d(example["second_start"]).tolist()
        assert np.asarray(record.target).tolist() == example["target"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_datasets_library_opens_every_shard(
    tmp_path: Path, kind: str, tokenizer: TokenizerSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    small(monkeypatch, 7, 20)
    rows = random_rows(kind, 50)
    spec, split = built(tmp_path, kind, rows, tokenizer)
    assert len(split.manifest.shards) > 1
    found: list[dict[str, Any]] = []
    for shard in split.manifest.shards:
        found += datasets.Dataset.from_file(str(split.folder / shard.file)).to_list()
    assert found == encoded(spec, rows, tokenizer)


def test_token_ids_are_views_of_the_file(tmp_path: Path, tokenizer: TokenizerSource) -> None:
    _, split = built(tmp_path, "single", random_rows("single", 5), tokenizer)
    before = pa.total_allocated_bytes()
    [ids] = split.record(4).sequences
    assert pa.total_allocated_bytes() == before
    assert ids.dtype == np.uint16
    assert not ids.flags.owndata
    assert not ids.flags.writeable


def test_a_large_vocabulary_takes_wider_ids(tmp_path: Path) -> None:
    words = [f"w{i}" for i in range(70_000)]
    wide = write_tokenizer(tmp_path / "tokenizer", words)
    _, split = built(tmp_path, "single", [{"text": "w69999", "label": 1}], wide)
    [ids] = split.record(0).sequences
    assert ids.dtype == np.uint32
    assert ids[1] > 65535


def test_other_columns_are_there_for_scoring(tmp_path: Path, tokenizer: TokenizerSource) -> None:
    rows = random_rows("extractive_qa", 9)
    _, split = built(tmp_path, "extractive_qa", rows, tokenizer)
    some = np.array([8, 0])
    records = split.example_starts[some]
    for context, row in zip(split.column("context", records), (8, 0), strict=True):
        assert context in rows[row]["context"]
    assert split.column("answers", records) == [rows[i]["answers"]["text"] for i in (8, 0)]
    assert split.column("row", records) == [8, 0]


def test_the_manifest_counts_what_is_there(tmp_path: Path, tokenizer: TokenizerSource) -> None:
    rows = random_rows("single", 200)
    _, split = built(tmp_path, "single", rows, tokenizer)
    manifest = split.manifest
    assert manifest.num_source_rows == manifest.num_examples == split.num_examples == 200
    assert manifest.num_sequences == manifest.num_records == split.num_records == 200
    assert manifest.num_tokens == split.lengths.sum() == sum(s.tokens for s in manifest.shards)
    lengths, counts = np.unique(split.lengths, return_counts=True)
    assert manifest.length_histogram == dict(zip(lengths.tolist(), counts.tolist(), strict=True))
    names = ["bad", "good", "fine"]
    labels = [names[row["label"]] for row in rows]
    assert manifest.label_histogram == {name: labels.count(name) for name in sorted(names)}
    assert manifest.tokenizer.vocab_size == tokenizer.vocab_size
    for shard in manifest.shards:
        data = (split.folder / shard.file).read_bytes()
        assert hashlib.sha256(data).hexdigest() == shard.sha256
        assert len(data) == shard.num_bytes


def test_options_are_counted_as_sequences(tmp_path: Path, tokenizer: TokenizerSource) -> None:
    rows = random_rows("multiple_choice", 50)
    _, split = built(tmp_path, "multiple_choice", rows, tokenizer)
    num_options = sum(len(row["options"]) for row in rows)
    assert split.manifest.num_sequences == split.num_sequences.sum() == num_options


def test_windows_are_records_of_one_example(tmp_path: Path, tokenizer: TokenizerSource) -> None:
    context = " ".join(["the cat sat on the mat"] * 8)
    rows = [
        {"question": "who", "context": context, "answers": {"text": ["cat"], "start": [4]}},
        {"question": "who", "context": "the cat", "answers": {"text": ["cat"], "start": [4]}},
    ]
    data = spec_data("toy", "extractive_qa")
    spec = write_spec(tmp_path, data)
    for role in ("train", "validation"):
        write_jsonl(tmp_path / f"mirror/toy/{role}.jsonl", rows)
    options = BuildOptions(mirror=tmp_path / "mirror", max_tokens=MAX_TOKENS)
    assert not build([spec], tokenizer=tokenizer, out=tmp_path, options=options).errors
    train, validation = (open_task(tmp_path, "toy", role) for role in ("train", "validation"))
    assert (train.num_examples, train.num_records) == (2, 2)
    assert (validation.num_examples, validation.num_records) == (2, 8)
    assert validation.example_starts.tolist() == [0, 7, 8]
    assert validation.column("row", np.arange(8)) == [0] * 7 + [1]
    assert validation.manifest.num_truncated == validation.manifest.num_targets_cut == 0


def test_rows_out_of_range_are_refused(tmp_path: Path, tokenizer: TokenizerSource) -> None:
    _, split = built(tmp_path, "single", random_rows("single", 5), tokenizer)
    for row in (-1, 5):
        with pytest.raises(IndexError, match=f"rows are numbered from 0 to 4, not {row}"):
            split.record(row)


def test_lists_that_reach_beyond_their_shard_are_refused(
    tmp_path: Path, tokenizer: TokenizerSource
) -> None:
    """Even where size and manifest fit: nothing outside the file is ever read."""
    _, split = built(tmp_path, "single", random_rows("single", 2), tokenizer)
    [shard] = split.manifest.shards
    path = split.folder / shard.file
    [batch] = pa.ipc.open_stream(pa.memory_map(str(path)))
    offsets = np.frombuffer(batch.column("input_ids").buffers()[1], np.int32)[:3].tobytes()
    data = path.read_bytes()
    assert data.count(offsets) == 1
    path.write_bytes(data.replace(offsets, np.array([0, 1 << 20, 1 << 21], np.int32).tobytes()))
    again = open_task(split.folder.parent.parent, "toy", "train")
    with pytest.raises(ShardError, match=f"{path.name}: cannot be read"):
        _ = again.parts


def test_options_without_their_second_start_are_refused(
    tmp_path: Path, tokenizer: TokenizerSource
) -> None:
    _, split = built(tmp_path, "multiple_choice", random_rows("multiple_choice", 3), tokenizer)
    [shard] = split.manifest.shards
    path = split.folder / shard.file
    [batch] = pa.ipc.open_stream(pa.BufferReader(path.read_bytes()))
    fewer = pa.array([[1]] * 3, type=batch.column("second_start").type)
    at = batch.schema.get_field_index("second_start")
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, batch.schema) as writer:
        writer.write_batch(batch.set_column(at, batch.schema.field(at), fewer))
    size = path.stat().st_size
    manifest = replace(split.manifest, shards=(replace(shard, num_bytes=size),))
    again = BuiltSplit(folder=split.folder, manifest=manifest)
    with pytest.raises(ShardError, match=f"{path.name}: not each option has one second_start"):
        _ = again.parts


def test_what_is_not_built_says_what_is(tmp_path: Path, tokenizer: TokenizerSource) -> None:
    built(tmp_path, "single", random_rows("single", 5), tokenizer)
    with pytest.raises(ShardError, match=r"split test: not built in .* \(built: train\)"):
        open_task(tmp_path / "out", "toy", "test")


@pytest.mark.parametrize(
    "change", [{"task": "other"}, {"split": "test"}, {"components": {}}, {"fingerprint": "0" * 64}]
)
def test_a_manifest_of_another_split_is_refused(
    tmp_path: Path, tokenizer: TokenizerSource, change: dict[str, Any]
) -> None:
    _, split = built(tmp_path, "single", random_rows("single", 5), tokenizer)
    path = split.folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ShardError, match="its manifest is damaged or another split's"):
        open_task(tmp_path / "out", "toy", "train")


def test_damaged_shards_are_found(tmp_path: Path, tokenizer: TokenizerSource) -> None:
    _, split = built(tmp_path, "single", random_rows("single", 5), tokenizer)
    out, path = tmp_path / "out", split.folder / split.manifest.shards[0].file
    assert verify(out, "toy", "train") == split.manifest
    whole = path.read_bytes()
    path.write_bytes(whole[:-20] + bytes([whole[-20] ^ 1]) + whole[-19:])
    with pytest.raises(ShardError, match="its bytes are not the ones that were built"):
        verify(out, "toy", "train")
    path.write_bytes(whole[:-1])
    with pytest.raises(ShardError, match="bytes were built, found another size"):
        _ = open_task(out, "toy", "train").lengths
    path.write_bytes(b"\0" * len(whole))
    with pytest.raises(ShardError, match=r"cannot be read|found 0"):
        _ = open_task(out, "toy", "train").lengths
    path.unlink()
    with pytest.raises(ShardError, match=f"{path.name}: missing"):
        _ = open_task(out, "toy", "train").lengths
    with pytest.raises(ShardError, match=f"{path.name}: missing"):
        verify(out, "toy", "train")


def test_an_unfinished_shard_leaves_nothing(tmp_path: Path) -> None:
    batch = pa.RecordBatch.from_pydict({"row": [1, 2]})
    writer = ShardWriter(tmp_path / "a.arrow")
    writer.write(batch)
    writer.discard()
    assert list(tmp_path.iterdir()) == []
    writer = ShardWriter(tmp_path / "b.arrow")
    writer.write(batch)
    shard = writer.finish(first_row=0, next_row=2, num_tokens=5)
    writer.discard()
    assert [path.name for path in tmp_path.iterdir()] == ["b.arrow"]
    assert (shard.rows, shard.num_bytes) == (2, (tmp_path / "b.arrow").stat().st_size)


def test_groups_are_kept_beside_the_targets(tmp_path: Path, tokenizer: TokenizerSource) -> None:
    data = spec_data("toy", "single")
    data["source"]["splits"] = {"train": "train"}
    data["source"]["columns"]["idx"] = "any"
    data["head"]["group"] = ["idx.paragraph", "idx.question"]
    spec = write_spec(tmp_path, data)
    places = [(0, 1), (0, 2), (0, 1), (1, 1)]
    rows = [
        {"text": "the cat", "label": 0, "idx": {"paragraph": paragraph, "question": question}}
        for paragraph, question in places
    ]
    write_jsonl(tmp_path / "mirror/toy/train.jsonl", rows)
    options = BuildOptions(mirror=tmp_path / "mirror", max_tokens=MAX_TOKENS)
    assert build([spec], tokenizer=tokenizer, out=tmp_path / "out", options=options).errors == ()
    groups = open_task(tmp_path / "out", "toy", "train").groups(np.arange(4))
    assert groups == [f"[{paragraph}, {question}]" for paragraph, question in places]


def test_without_groups_there_are_none(tmp_path: Path, tokenizer: TokenizerSource) -> None:
    _, split = built(tmp_path, "single", [{"text": "the cat", "label": 0}], tokenizer)
    assert split.groups(np.arange(1)) is None
