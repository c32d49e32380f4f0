"""Sources: which file is taken, which rows a role has, and what identifies the content."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_zoo import random_rows, spec_data, write_jsonl, write_spec

from muppet_zoo import sources
from muppet_zoo.errors import SourceError, UsageError
from muppet_zoo.sources import Carving, DigestCache, MissingSplitError, open_rows
from muppet_zoo.spec import Split, TaskSpec

ROWS = random_rows("single", 300)


def task(folder: Path, *, splits: Mapping[str, Any] | None = None, **source: Any) -> TaskSpec:
    data = spec_data("toy")
    data["source"] |= source
    data["source"]["splits"] = dict(splits or data["source"]["splits"])
    return write_spec(folder / "specs", data)


def numbers(spec: TaskSpec, role: str, mirror: Path, start: int = 0, **options: Any) -> list[int]:
    return [row for row, _ in open_rows(spec, role, mirror=mirror, **options).rows(start)]


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    write_jsonl(tmp_path / "mirror/toy/train.jsonl", ROWS)
    write_jsonl(tmp_path / "mirror/toy/validation.jsonl", ROWS[:50])
    return tmp_path / "mirror"


# --- mirrors ---------------------------------------------------------------------------------


def test_rows_come_from_the_mirror(tmp_path: Path, mirror: Path) -> None:
    source = open_rows(task(tmp_path), "train", mirror=mirror)
    assert list(source.rows()) == list(enumerate(ROWS))
    assert list(source.rows(290)) == list(enumerate(ROWS))[290:]


def test_the_mirror_is_asked_for_the_sources_split_then_for_the_role(
    tmp_path: Path, mirror: Path
) -> None:
    spec = task(tmp_path, splits={"train": "train", "validation": "validation_matched"})
    assert numbers(spec, "validation", mirror) == list(range(50))
    write_jsonl(mirror / "toy/validation_matched.jsonl", ROWS[:7])
    assert numbers(spec, "validation", mirror) == list(range(7))


def test_a_missing_file_is_named_with_all_names_it_may_have(tmp_path: Path, mirror: Path) -> None:
    spec = task(tmp_path, splits={"train": "train", "test": "test_matched"})
    with pytest.raises(MissingSplitError) as caught:
        open_rows(spec, "test", mirror=mirror)
    assert "no file for split 'test_matched', nor for the role 'test', in " in str(caught.value)
    assert "there is: train.jsonl, validation.jsonl" in str(caught.value)


def test_a_role_is_not_taken_for_a_split_of_that_name(tmp_path: Path, mirror: Path) -> None:
    splits = {"train": "train", "validation": "dev", "test": "validation"}
    with pytest.raises(MissingSplitError, match="no file for split 'dev' in "):
        open_rows(task(tmp_path, splits=splits), "validation", mirror=mirror)


def test_a_carved_share_comes_from_its_split_alone(tmp_path: Path, mirror: Path) -> None:
    splits = {"train": "train", "validation": {"carve_from": "train", "percent": 10}}
    spec = task(tmp_path, splits=splits)
    assert 0 < len(numbers(spec, "validation", mirror)) < 50
    (mirror / "toy/train.jsonl").unlink()
    with pytest.raises(MissingSplitError, match="no file for split 'train' in "):
        open_rows(spec, "validation", mirror=mirror)


def test_tasks_of_a_dataset_with_one_configuration_may_share_its_folder(
    tmp_path: Path, mirror: Path
) -> None:
    (mirror / "toy").rename(mirror / "nothing")  # the dataset is nobody/nothing
    spec = task(tmp_path)
    assert numbers(spec, "validation", mirror) == list(range(50))
    object.__setattr__(spec.source, "config", "one_of_many")
    with pytest.raises(MissingSplitError, match="has no folder 'toy'"):
        open_rows(spec, "validation", mirror=mirror)


def test_two_candidates_are_one_too_many(tmp_path: Path, mirror: Path) -> None:
    (mirror / "toy/train.csv").write_text("text,label\n")
    with pytest.raises(SourceError, match=r"both train\.jsonl and train\.csv could be split"):
        open_rows(task(tmp_path), "train", mirror=mirror)


def test_a_missing_folder_names_near_ones(tmp_path: Path, mirror: Path) -> None:
    (mirror / "toy").rename(mirror / "toys")
    with pytest.raises(MissingSplitError, match=r"has no folder 'toy'; did you mean 'toys'\?"):
        open_rows(task(tmp_path), "train", mirror=mirror)
    with pytest.raises(UsageError, match="is no folder"):
        open_rows(task(tmp_path), "train", mirror=tmp_path / "nowhere")


def test_a_split_name_cannot_lead_out_of_the_mirror(tmp_path: Path, mirror: Path) -> None:
    write_jsonl(tmp_path / "secret.jsonl", ROWS)
    spec = task(tmp_path, splits={"train": "../../secret"})
    with pytest.raises(SourceError, match="cannot be a file name"):
        open_rows(spec, "train", mirror=mirror)


# --- files beside the spec -------------------------------------------------------------------


def file_task(folder: Path, file: str) -> TaskSpec:
    """A spec whose file is `file`, past the checks that a spec's reader makes."""
    write_jsonl(folder / "specs/data/train.jsonl", ROWS)
    data = spec_data("toy")
    del data["source"]["hub"], data["source"]["revision"]
    data["source"] |= {"files": {"train": "data/train.jsonl"}, "splits": {"train": "train"}}
    spec = write_spec(folder / "specs", data)
    object.__setattr__(spec.source, "files", {"train": file})
    return spec


def test_files_are_read_beside_the_spec_whatever_the_mirror(tmp_path: Path, mirror: Path) -> None:
    spec = file_task(tmp_path, "data/train.jsonl")
    write_jsonl(mirror / "toy/train.jsonl", ROWS[:1])
    for place in (None, mirror):
        assert list(open_rows(spec, "train", mirror=place).rows()) == list(enumerate(ROWS))


@pytest.mark.parametrize(
    "file", ["../out.jsonl", "data/../../out.jsonl", "link.jsonl", "/etc/hosts"]
)
def test_files_never_leave_the_specs_folder(tmp_path: Path, file: str) -> None:
    spec = file_task(tmp_path, file)
    write_jsonl(tmp_path / "out.jsonl", ROWS)
    (tmp_path / "specs/link.jsonl").symlink_to(tmp_path / "out.jsonl")
    with pytest.raises(SourceError, match="leaves the spec's folder"):
        open_rows(spec, "train")


def test_a_missing_file_lists_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no such file: data/tran\.jsonl; .*: train\.jsonl"):
        open_rows(file_task(tmp_path, "data/tran.jsonl"), "train")


# --- limit and carving -----------------------------------------------------------------------

CARVED = {
    "train": "train",
    "validation": {"carve_from": "train", "percent": 20, "seed": 3},
    "test": {"carve_from": "train", "percent": 30, "seed": 3},
    "test_other": {"carve_from": "train", "percent": 10, "seed": 4},
    "validation_plain": "validation",
}


def test_carved_roles_share_out_the_split(tmp_path: Path, mirror: Path) -> None:
    spec = task(tmp_path, splits=CARVED)
    shares = {role: numbers(spec, role, mirror) for role in CARVED}
    assert shares.pop("validation_plain") == list(range(50))
    assert sorted(itertools.chain(*shares.values())) == list(range(300))
    assert {role: len(rows) for role, rows in shares.items()} == {
        "train": 135, "validation": 57, "test": 90, "test_other": 18
    }  # fmt: skip
    assert all(rows == sorted(rows) for rows in shares.values())


def test_a_carved_share_is_the_stated_hash(tmp_path: Path, mirror: Path) -> None:
    from hashlib import blake2b

    def bucket(row: int) -> int:
        return int.from_bytes(blake2b(f"7:{row}".encode(), digest_size=8).digest(), "big") % 100

    splits = {"train": "train", "test": {"carve_from": "train", "percent": 10, "seed": 7}}
    spec = task(tmp_path, splits=splits)
    assert numbers(spec, "test", mirror) == [row for row in range(300) if bucket(row) < 10]


@given(start=st.integers(0, 320), limit=st.none() | st.integers(1, 320))
def test_a_later_start_is_a_suffix(
    tmp_path_factory: pytest.TempPathFactory, start: int, limit: int | None
) -> None:
    folder = tmp_path_factory.mktemp("suffix")
    write_jsonl(folder / "toy/train.jsonl", ROWS)
    spec = task(folder, splits=CARVED)
    for role in ("train", "test"):
        whole = numbers(spec, role, folder, limit=limit)
        assert len(whole) <= (limit or 300)
        rest = [row for row in whole if row >= start]
        assert numbers(spec, role, folder, start, limit=limit) == rest


def test_more_than_everything_cannot_be_carved(tmp_path: Path) -> None:
    carved = {role: Split(split="train", carve_percent=40) for role in ("test", "test_a", "test_b")}
    spec = task(tmp_path)
    object.__setattr__(spec.source, "splits", {"train": Split(split="train"), **carved})
    with pytest.raises(SourceError, match="more than 100 percent of split 'train'"):
        Carving.of(spec.source, "train")


# --- digests ---------------------------------------------------------------------------------


def settled(path: Path) -> None:
    """As if the file was written long ago."""
    os.utime(path, ns=(0, path.stat().st_mtime_ns - 10_000_000_000))


def test_the_digest_follows_the_bytes(tmp_path: Path, mirror: Path) -> None:
    spec, file = task(tmp_path), mirror / "toy/train.jsonl"
    first = open_rows(spec, "train", mirror=mirror).digest()
    assert first.startswith("jsonl:")
    assert open_rows(spec, "validation", mirror=mirror).digest() != first
    moved = tmp_path / "elsewhere"
    mirror.rename(moved)
    assert open_rows(spec, "train", mirror=moved).digest() == first
    file = moved / "toy/train.jsonl"
    file.write_bytes(file.read_bytes().replace(b"cat", b"dog", 1))
    assert open_rows(spec, "train", mirror=moved).digest() != first


def test_digests_are_remembered_until_the_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, cache = tmp_path / "a", tmp_path / "out/.digests.json"
    file.write_text("one")
    settled(file)
    first = DigestCache(cache).sha256(file)
    read: list[Path] = []
    hash_file = sources.sha256_of

    def counted(path: Path) -> str:
        read.append(path)
        return hash_file(path)

    monkeypatch.setattr(sources, "sha256_of", counted)
    assert DigestCache(cache).sha256(file) == first
    assert not read
    file.write_text("two")  # same size, another time
    assert DigestCache(cache).sha256(file) != first
    assert len(read) == 1


def test_a_change_that_keeps_size_and_time_is_seen(tmp_path: Path) -> None:
    file, cache = tmp_path / "a", tmp_path / ".digests.json"
    file.write_text("one")
    settled(file)
    first, before = DigestCache(cache).sha256(file), file.stat()
    file.write_text("two")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert DigestCache(cache).sha256(file) != first


def test_a_memory_that_cannot_be_written_is_no_obstacle(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_text("one")
    settled(file)
    expected = DigestCache(None).sha256(file)
    assert DigestCache(file / "inside" / ".digests.json").sha256(file) == expected


def test_a_file_written_just_now_is_not_remembered(tmp_path: Path) -> None:
    file, cache = tmp_path / "a", tmp_path / ".digests.json"
    file.write_text("one")
    DigestCache(cache).sha256(file)
    assert not cache.exists()


@pytest.mark.parametrize("damage", ["", "[]", "{", '{"a": 1}', '{"a": [1, 2, "short"]}', "\x00"])
def test_a_damaged_memory_is_only_forgotten(tmp_path: Path, damage: str) -> None:
    file, cache = tmp_path / "a", tmp_path / ".digests.json"
    file.write_text("one")
    settled(file)
    expected = DigestCache(None).sha256(file)
    cache.write_text(damage)
    assert DigestCache(cache).sha256(file) == expected
    assert expected in cache.read_text()


def test_a_file_that_changes_while_it_is_read_is_noticed(tmp_path: Path, mirror: Path) -> None:
    source = open_rows(task(tmp_path), "train", mirror=mirror)
    source.digest()
    source.check_unchanged()
    with (mirror / "toy/train.jsonl").open("a") as file:
        file.write(json.dumps(ROWS[0]) + "\n")
    with pytest.raises(SourceError, match="was changed while it was read"):
        source.check_unchanged()
    (mirror / "toy/train.jsonl").unlink()
    with pytest.raises(SourceError, match="was changed while it was read"):
        source.check_unchanged()


# --- the hub; test_hub_server.py has what is asked of it ---------------------------------------


def test_a_pinned_commit_needs_no_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://invalid.invalid")
    source = open_rows(task(tmp_path, revision="a" * 40, config="plain"), "train")
    assert source.digest() == f"hub:nobody/nothing:plain:train:{'a' * 40}"


def test_a_folder_with_the_datasets_name_is_not_read_instead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nobody/nothing").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    source = open_rows(task(tmp_path), "train")
    with pytest.raises(SourceError, match=r"'nobody/nothing' is also here, in .* --mirror"):
        list(source.rows())
