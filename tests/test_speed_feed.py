"""The feed's contenders: what ours yields, and what all of them share."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tiny_zoo import random_rows, spec_data, write_jsonl, write_spec, write_tokenizer

from benchmarks.speed.contenders import feeding, our_feed
from benchmarks.speed.generated import shard_list
from muppet_zoo.build import BuildOptions, build


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """Two built tasks of 40 rows."""
    specs = [write_spec(tmp_path / "specs", spec_data(name)) for name in ("first", "second")]
    mirror, out = tmp_path / "mirror", tmp_path / "built"
    for spec in specs:
        (mirror / spec.name).mkdir(parents=True)
        write_jsonl(mirror / spec.name / "train.jsonl", random_rows("single", 40))
    tokenizer = write_tokenizer(tmp_path / "tokenizer")
    report = build(specs, tokenizer=tokenizer, out=out, options=BuildOptions(mirror=mirror))
    assert not report.errors
    return out


def test_our_feed_yields_every_token_of_an_epoch_once(built: Path) -> None:
    shards = shard_list(built, ["first", "second"])
    stored = [
        (task, tuple(ids.tolist()))
        for task, files in enumerate(feeding.shard_files(shards))
        for ids in feeding.token_ids(files)
    ]
    fed = [
        (int(task), tuple(row[real].tolist()))
        for ids, mask, tasks in our_feed.feed(built, 64)
        for row, real, task in zip(ids, mask, tasks, strict=True)
    ]
    assert len(stored) == 80
    assert sorted(fed) == sorted(stored)


def test_the_first_of_two_processes_is_fed_every_second_micro_batch(built: Path) -> None:
    whole, share = (list(our_feed.feed(built, 64, processes)) for processes in (1, 2))
    assert [ids.tolist() for ids, _, _ in share] == [ids.tolist() for ids, _, _ in whole[::2]]


def test_a_feed_is_timed_by_its_real_tokens(capsys: pytest.CaptureFixture[str]) -> None:
    batch = feeding.pad([np.array([5, 6, 7]), np.array([8])], [0, 3])
    assert batch[0].tolist() == [[5, 6, 7], [8, 0, 0]]
    feeding.say(lambda: iter([batch] * 10), num_tokens=8)
    said = json.loads(capsys.readouterr().out)
    assert (said["tokens_per_batch"], said["rows_per_batch"], said["tasks"]) == (4, 2, 2)
    assert said["tokens_per_s"] > 0
