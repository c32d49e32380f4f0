"""What was found right is remembered, and anything that changed is read again."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from muppet_zoo import zoo
from muppet_zoo.errors import SpecError
from muppet_zoo.spec_index import recall, remember, stamp_of
from muppet_zoo.yaml_reader import Document
from muppet_zoo.zoo import find_files, load_zoo, shipped_specs


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def specs(tmp_path: Path) -> Path:
    folder = tmp_path / "specs"
    (folder / "mixtures").mkdir(parents=True)
    text = (shipped_specs() / "classification" / "cola.yaml").read_text("utf-8")
    (folder / "my_cola.yaml").write_text(text.replace("name: cola", "name: my_cola"), "utf-8")
    (folder / "mixtures" / "mine.yaml").write_text(
        "mixture_version: 1\nname: mine\ndescription: Two tasks.\ntasks: [my_cola, rte]\n"
        "rates: {scheme: explicit, weights: {rte: 1, my_cola: 2}}\n"
    )
    return folder


def read_count(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are read as YAML from now on."""
    seen: list[Path] = []
    real = zoo.read_yaml
    monkeypatch.setattr(zoo, "read_yaml", lambda path: (seen.append(path), real(path))[1])
    return seen


def test_the_second_time_nothing_is_read(specs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = read_count(monkeypatch)
    first = load_zoo([specs])
    assert len(seen) == len(find_files([shipped_specs(), specs]))
    seen.clear()
    assert load_zoo([specs]) == first
    assert first.mixture("mine").rates.weights == (2.0, 1.0)
    assert seen == []


@pytest.mark.parametrize("change", ["edit", "add", "remove"])
def test_any_change_is_seen(specs: Path, change: str) -> None:
    load_zoo([specs])
    mixture = specs / "mixtures" / "mine.yaml"
    if change == "edit":
        mixture.write_text(mixture.read_text().replace("rte]", "rtee]").replace("{rte", "{rtee"))
        with pytest.raises(SpecError, match="no task is named 'rtee'"):
            load_zoo([specs])
    elif change == "add":
        (specs / "broken.yaml").write_text("- a list")
        with pytest.raises(SpecError, match="a list"):
            load_zoo([specs])
    else:
        mixture.unlink()
        assert "mine" not in load_zoo([specs]).mixtures


def test_a_change_that_keeps_size_and_time_is_seen(specs: Path) -> None:
    load_zoo([specs])
    mixture, before = specs / "mixtures/mine.yaml", (specs / "mixtures/mine.yaml").stat()
    mixture.write_text(mixture.read_text().replace("Two tasks", "Too tasks"))
    os.utime(mixture, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert load_zoo([specs]).mixture("mine").description == "Too tasks."


def test_a_change_while_files_are_read_is_seen(
    specs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixture = specs / "mixtures/mine.yaml"
    real = zoo.read_yaml

    def read_then_change(path: Path) -> Document:
        document = real(path)
        if path == mixture:
            mixture.write_text(mixture.read_text().replace("Two tasks", "Too tasks"))
        return document

    monkeypatch.setattr(zoo, "read_yaml", read_then_change)
    assert load_zoo([specs]).mixture("mine").description == "Two tasks."
    assert load_zoo([specs]).mixture("mine").description == "Too tasks."


def test_a_file_that_is_gone_meanwhile_is_no_traceback(specs: Path) -> None:
    assert stamp_of({specs / "gone.yaml": ""}) is None
    (specs / "gone.yaml").symlink_to("nothing")
    with pytest.raises(SpecError, match="No such file"):
        load_zoo([specs])


def test_findings_are_never_remembered(specs: Path) -> None:
    (specs / "broken.yaml").write_text("- a list")
    for _ in range(2):
        with pytest.raises(SpecError):
            load_zoo([specs])


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"stamp": 1}', b"\xff"])
def test_a_damaged_index_is_no_obstacle(specs: Path, cache: Path, damage: bytes) -> None:
    load_zoo([specs])
    (index,) = cache.rglob("specs-*.json")
    index.write_bytes(damage)
    assert "my_cola" in load_zoo([specs]).tasks
    assert json.loads(index.read_bytes())["data"]


def test_a_home_that_cannot_be_written(specs: Path, cache: Path) -> None:
    cache.write_text("a file where the folder should be")
    files = find_files([specs])
    stamp = stamp_of(dict.fromkeys(files, ""))
    remember(files, stamp, {})
    assert recall(files, stamp) is None
    assert "my_cola" in load_zoo([specs]).tasks
