"""Manifests: equal data gives equal text, and damage is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muppet_zoo.errors import ShardError
from muppet_zoo.manifests import (
    MAX_LISTED_ROWS,
    BadRow,
    Manifest,
    ShardInfo,
    ShardRecord,
    Statistics,
    TokenizerInfo,
    read_manifest,
)

SHARD = ShardInfo(
    file="0123456789abcdef-00000.arrow", rows=3, tokens=30, num_bytes=999, sha256="f" * 64,
    first_row=0, next_row=4,
)  # fmt: skip
MANIFEST = Manifest(
    task="toy", split="train", head="classification", fingerprint="a" * 64,
    components={"spec": "b" * 64, "options": '{"limit":null}'},
    tokenizer=TokenizerInfo(digest="c" * 64, vocab_size=100), max_tokens=128, shards=(SHARD,),
    num_source_rows=4, num_examples=2, num_records=3, num_tokens=30, num_bad_rows=1,
    bad_rows=(BadRow(row=2, reason="no text ü"),), length_histogram={9: 1, 10: 1, 11: 1},
    label_histogram={"good": 3},
)  # fmt: skip


def test_a_manifest_reads_back_and_is_the_same_text() -> None:
    text = MANIFEST.to_json()
    read = Manifest.from_json(text, "here")
    assert read == MANIFEST
    assert read.to_json() == text
    assert json.loads(text)["length_histogram"] == {"9": 1, "10": 1, "11": 1}
    record = ShardRecord(shard=SHARD, statistics=Statistics(num_examples=3))
    assert ShardRecord.from_json(record.to_json(), "here") == record


def changed(**fields: Any) -> str:
    return json.dumps({**json.loads(MANIFEST.to_json()), **fields})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Expecting value"),
        (MANIFEST.to_json()[:-10], "Expecting"),
        ("[]", "dict expected, found []"),
        (changed(num_examples="3"), "num_examples: int expected, found '3'"),
        (changed(num_examples=True), "num_examples: int expected, found True"),
        (changed(num_examples=-1), "num_examples: -1 is negative"),
        (changed(num_records=4), "num_records is not the sum of the shards' rows"),
        (changed(extra=1), "missing or unknown: extra"),
        (changed(length_histogram={"x": 1}), "the key 'x' is no whole number"),
        (changed(bad_rows=[{"row": 1}]), "bad_rows[0]: missing or unknown: reason"),
        (changed(shards=[{**vars(SHARD), "file": "../x.arrow"}]), "no name of a shard"),
        (changed(shards=[{**vars(SHARD), "sha256": None}]), "shards[0].sha256: str expected"),
    ],
)
def test_damage_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(ShardError) as caught:
        read_manifest(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'manifest.json'}: damaged: ")
    assert message in str(caught.value)


def test_a_missing_manifest_is_no_damage(tmp_path: Path) -> None:
    assert read_manifest(tmp_path) is None
    assert read_manifest(tmp_path / "nowhere") is None
    (tmp_path / "manifest.json").write_bytes(b"\xff\xfe")
    with pytest.raises(ShardError, match="cannot be read"):
        read_manifest(tmp_path)


@given(
    lengths=st.lists(st.dictionaries(st.integers(1, 9), st.integers(1, 5)), min_size=1),
    bad=st.lists(st.integers(0, 700), min_size=1, max_size=4),
)
def test_merging_adds_up_in_any_grouping(lengths: list[dict[int, int]], bad: list[int]) -> None:
    parts = [Statistics(num_examples=sum(h.values()), length_histogram=h) for h in lengths]
    rows = iter(range(10_000))
    parts += [
        Statistics(
            num_bad_rows=n, bad_rows=tuple(BadRow(row=next(rows), reason="") for _ in range(n))
        )
        for n in bad
    ]
    whole = Statistics.merged(parts)
    assert whole == Statistics.merged([Statistics.merged(parts[:2]), *parts[2:]])
    assert sum(whole.length_histogram.values()) == whole.num_examples
    assert list(whole.length_histogram) == sorted(whole.length_histogram)
    assert whole.num_bad_rows == sum(bad)
    assert [b.row for b in whole.bad_rows] == list(range(min(sum(bad), MAX_LISTED_ROWS)))
