"""Files are replaced whole or not at all, lines added whole, and given a second name or copied."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import BinaryIO

import pytest

from muppet_zoo.file_tools import (
    append_line,
    end_last_line,
    link_or_copy,
    replacing,
    write_atomically,
)


def write_and_fail(file: BinaryIO, data: bytes) -> None:
    file.write(data)
    raise RuntimeError


def test_an_error_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_atomically(path, b"old")
    with pytest.raises(RuntimeError), replacing(path) as file:
        write_and_fail(file, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_part_keeps_what_was_written_until_an_error(tmp_path: Path) -> None:
    path, part = tmp_path / "a.txt", tmp_path / "a.part"
    with pytest.raises(RuntimeError), replacing(path, part) as file:
        write_and_fail(file, b"half")
    assert part.read_bytes() == b"half"
    assert not path.exists()


def test_a_link_stays_and_its_file_is_replaced(tmp_path: Path) -> None:
    path, link = tmp_path / "a.txt", tmp_path / "link"
    path.write_bytes(b"old")
    link.symlink_to(path)
    write_atomically(link, b"new")
    assert link.is_symlink()
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize(
    ("before", "after"), [(b"1\n2\n", b"1\n2\n"), (b"1\n2", b"1\n2\n"), (b"1\n2x", b"1\n")]
)
def test_a_last_line_that_a_crash_cut(tmp_path: Path, before: bytes, after: bytes) -> None:
    path = tmp_path / "lines"
    path.write_bytes(before)
    end_last_line(path, bytes.isdigit)
    assert path.read_bytes() == after
    append_line(path, b"3")
    assert path.read_bytes() == after + b"3\n"


@pytest.mark.parametrize("links", [True, False])
def test_a_second_name_or_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    source, path = tmp_path / "a.txt", tmp_path / "b.txt"
    source.write_bytes(b"new")
    path.write_bytes(b"old")

    def refuse(*_: Path) -> None:
        raise OSError(errno.EXDEV, "another disk")

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    link_or_copy(source, path)
    assert path.read_bytes() == b"new"
    assert path.samefile(source) is links
    link_or_copy(source, path)
    assert path.read_bytes() == source.read_bytes() == b"new"
    assert set(tmp_path.iterdir()) == {source, path}


def test_a_file_that_takes_its_own_place_is_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"kept")
    link_or_copy(path, path)
    assert path.read_bytes() == b"kept"
    assert list(tmp_path.iterdir()) == [path]
