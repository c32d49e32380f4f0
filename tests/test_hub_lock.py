"""zoo.lock: what it looks like, which one a spec has, and what is wrong with one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_zoo import spec_data, write_spec

from muppet_zoo.errors import SourceError, SpecError
from muppet_zoo.hub.lock import (
    LOCK_NAME,
    Lock,
    LockedFile,
    LockedSource,
    lock_path,
    locks_of,
    read_lock,
    write_lock,
)
from muppet_zoo.spec import CONVERSION, TaskSpec

FILE = LockedFile(path="plain/train.parquet", size=5, algorithm="sha256", digest="a" * 64)
BLOB = LockedFile(path="plain/dev.csv", size=7, algorithm="git_blob", digest="b" * 40)
ENTRY = LockedSource(
    hub="nobody/nothing",
    config="plain",
    revision="main",
    commit="c" * 40,
    splits={"validation": (BLOB,), "train": (FILE,)},
)
TEXT = """\
{
 "lock_version": 1,
 "sources": [
  {
   "hub": "nobody/nothing",
   "config": "plain",
   "revision": "main",
   "commit": "cccccccccccccccccccccccccccccccccccccccc",
   "splits": {
    "train": [
     {
      "path": "plain/train.parquet",
      "size": 5,
      "sha256": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
     }
    ],
    "validation": [
     {
      "path": "plain/dev.csv",
      "size": 7,
      "git_blob": "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
     }
    ]
   }
  }
 ]
}
"""


def spec(folder: Path, name: str = "toy", **source: Any) -> TaskSpec:
    data = spec_data(name)
    data["source"] |= {"config": "plain", "revision": "main"} | source
    return write_spec(folder, data)


def test_a_lock_reads_well_and_comes_back(tmp_path: Path) -> None:
    lock = Lock(path=tmp_path / LOCK_NAME).with_entry(ENTRY)
    write_lock(lock)
    assert lock.path.read_text() == TEXT
    assert read_lock(lock.path) == lock
    assert [path.name for path in tmp_path.iterdir()] == [LOCK_NAME]


def test_entries_are_in_order_whenever_they_came(tmp_path: Path) -> None:
    others = [replace(ENTRY, hub="another/one"), replace(ENTRY, config=None)]
    texts = []
    for order in ([ENTRY, *others], [*others, ENTRY]):
        lock = Lock(path=tmp_path / LOCK_NAME)
        for entry in order:
            lock = lock.with_entry(entry)
        write_lock(lock)
        texts.append(lock.path.read_text())
    assert texts[0] == texts[1]
    raw = json.loads(texts[0])["sources"]
    assert [(entry["hub"], entry["config"]) for entry in raw] == [
        ("another/one", "plain"), ("nobody/nothing", None), ("nobody/nothing", "plain")
    ]  # fmt: skip


def test_no_file_is_an_empty_lock(tmp_path: Path) -> None:
    lock = read_lock(tmp_path / LOCK_NAME)
    assert lock.sources == {}
    assert lock.find("toy", spec(tmp_path).source) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TEXT[:-20], "is no JSON: .* take back the change, or remove the file"),
        ("[]", "a mapping with lock_version and sources is expected"),
        (TEXT.replace("c" * 40, "main"), "sources.*commit.*: .*40 hex digits"),
        (TEXT.replace('"size": 5', '"size": "5"'), "sources.*size: .*a whole number"),
        (TEXT.replace('"hub"', '"hubs"'), "did you mean 'hub'"),
        (TEXT.replace('"lock_version": 1', '"lock_version": 2'), "lock_version"),
        (TEXT.replace('"revision": "main"', f'"revision": "{"d" * 40}"'), "is recorded as ccc"),
    ],
)
def test_a_lock_that_cannot_be_right_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / LOCK_NAME
    path.write_text(text)
    with pytest.raises((SourceError, SpecError), match=message) as caught:
        read_lock(path)
    assert str(path) in str(caught.value)


def test_two_entries_for_one_thing_are_refused(tmp_path: Path) -> None:
    data = json.loads(TEXT)
    data["sources"] *= 2
    (tmp_path / LOCK_NAME).write_text(json.dumps(data))
    with pytest.raises(SourceError, match="two entries for nobody/nothing, config plain"):
        read_lock(tmp_path / LOCK_NAME)


def test_a_lock_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    lock = Lock(path=tmp_path / "absent" / LOCK_NAME)
    with pytest.raises(SourceError, match=r"cannot be written: .*; name another with --lock"):
        write_lock(lock)


def test_a_spec_has_the_lock_of_its_zoo(tmp_path: Path) -> None:
    outer, inner = tmp_path / "zoo", tmp_path / "zoo/pack"
    specs = [spec(outer / "classification", "one"), spec(inner / "classification", "two")]
    folders = [outer, inner]
    paths = [lock_path(one, folders) for one in specs]
    assert paths == [outer / LOCK_NAME, inner / LOCK_NAME]
    assert lock_path(specs[0], [inner]) == outer / "classification" / LOCK_NAME
    write_lock(Lock(path=inner / LOCK_NAME).with_entry(ENTRY))
    locks = locks_of(specs, folders)
    assert {name: len(lock.sources) for name, lock in locks.items()} == {"one": 0, "two": 1}
    locks = locks_of(specs, folders, inner / LOCK_NAME)
    assert {name: len(lock.sources) for name, lock in locks.items()} == {"one": 1, "two": 1}


def test_a_pinned_commit_and_the_lock_must_agree(tmp_path: Path) -> None:
    lock = Lock(path=tmp_path / LOCK_NAME).with_entry(ENTRY)
    assert lock.find("toy", spec(tmp_path).source) is ENTRY
    assert lock.find("toy", spec(tmp_path, revision="c" * 40).source) is None
    assert lock.find("toy", spec(tmp_path, revision="d" * 40, config="other").source) is None
    pinned = spec(tmp_path, revision="d" * 40).source
    with pytest.raises(SourceError, match=r"task toy: the spec pins .* run `muppet-zoo lock toy`"):
        lock.find("toy", pinned)
    own = replace(ENTRY, revision="d" * 40, commit="d" * 40)
    assert lock.with_entry(own).find("toy", pinned) is own


def test_the_conversion_has_commits_of_its_own(tmp_path: Path) -> None:
    lock = Lock(path=tmp_path / LOCK_NAME).with_entry(replace(ENTRY, revision=CONVERSION))
    assert lock.find("toy", spec(tmp_path, revision="d" * 40).source) is None


@pytest.mark.parametrize(
    ("algorithm", "digest"),
    [
        ("sha256", lambda data: hashlib.sha256(data).hexdigest()),
        # The one that `printf 'hello' | git hash-object --stdin` prints.
        ("git_blob", lambda data: "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0"),
    ],
)
def test_a_file_is_compared_by_size_and_bytes(
    tmp_path: Path, algorithm: Any, digest: Callable[[bytes], str]
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"hello")
    file = LockedFile(path="file", size=5, algorithm=algorithm, digest=digest(b"hello"))
    assert file.difference(path) == ""
    path.write_bytes(b"hallo")
    assert f"{algorithm} {digest(b'hello')[:16]}… is recorded" in file.difference(path)
    path.write_bytes(b"hello!")
    assert file.difference(path) == "5 bytes are recorded, 6 were found"
