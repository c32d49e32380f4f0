"""Writing files so that a crash leaves the old one or the new one, and hashing big ones.

Everything the build leaves behind goes through `write_atomically` or the same steps: a neighbour
`.tmp`, flushed to the disk, renamed over the name, and the folder flushed too. Without the flush a
power cut may keep the rename and lose the bytes.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import xxhash

from muppet_zoo.errors import UsageError

_BLOCK_BYTES = 1 << 20
LOCK_FILE = ".lock"
_UNFINISHED = ".tmp"


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` to `path`; readers see the old file or all of the new one, never a part."""
    with replacing(path) as file:
        file.write(data)


@contextmanager
def replacing(path: Path, part: Path | None = None) -> Iterator[BinaryIO]:
    """A file to write to, which takes the place of `path` at the end; after an error nothing has.

    For what is too long to hold in memory. What is no regular file, such as a pipe, is written to
    as it is; a link stays, and the file it points to is replaced.

    part: a name in the same folder that the unfinished file has, and keeps after an error.
    """
    if path.exists() and not path.is_file():
        with path.open("wb") as file:
            yield file
        return
    path = Path(os.path.realpath(path)) if path.is_symlink() else path
    # The process id keeps two processes that share a folder without a lock off each other's file.
    temporary = part or path.with_name(f"{path.name}.{os.getpid()}{_UNFINISHED}")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        if part is None:
            temporary.unlink(missing_ok=True)
        raise
    flush_folder(path.parent)


def append_line(path: Path, line: bytes) -> None:
    """Add `line` and a line end to `path`, creating it, and flush it to the disk.

    One unbuffered write, so that a crash cuts at most the last line. Raises OSError when the disk
    takes only a part of it.
    """
    with path.open("ab", buffering=0) as file:
        if file.write(line + b"\n") != len(line) + 1:
            raise OSError(errno.ENOSPC, "only a part of a line was written", str(path))
        os.fsync(file.fileno())


def end_last_line(path: Path, is_whole: Callable[[bytes], bool]) -> None:
    """Remove a last line that a crash cut, or end one that is whole and lacks only its line end."""
    *lines, last = path.read_bytes().split(b"\n")
    if not last:
        return
    if is_whole(last):
        with path.open("ab") as file:
            file.write(b"\n")
    else:
        os.truncate(path, sum(len(line) + 1 for line in lines))


def link_or_copy(source: Path, path: Path) -> None:
    """Give a file a second name, in place of what has it; a copy where the disk has no links."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}{_UNFINISHED}")
    try:
        os.link(source, temporary)
    except OSError:  # another disk, or one such as exFAT
        with source.open("rb") as whole, replacing(path) as copy:
            shutil.copyfileobj(whole, copy)
    else:
        temporary.replace(path)
        temporary.unlink(missing_ok=True)  # POSIX renames nothing where both are one file already


def flush_folder(folder: Path) -> None:
    """Make renames inside `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of the file's bytes, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def checksum_of(path: Path) -> str:
    """Hex XXH3 of the file's bytes, 128 bits: it finds damage, and is no guard against forgery.

    About ten times as fast as SHA-256, which training would wait for at each checkpoint.
    """
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def write_output(path: Path, data: bytes) -> None:
    """Write a file that the user asked for by name.

    Raises:
        UsageError: it cannot be written there.
    """
    try:
        write_atomically(path, data)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror or error}") from None


@contextmanager
def own_folder(out: Path, what: str, known: Collection[str]) -> Iterator[None]:
    """Keep a second process out of a folder that `what`, a training say, writes into.

    The lock is the operating system's, so it ends with the process, however that ends. `known` are
    names by which a folder that is not empty is recognised as one of this kind. What `replacing`
    had not finished when a process was killed is nobody's, and removed.

    Raises:
        UsageError: the folder cannot be made, holds something else, or is in use.
    """
    from filelock import FileLock, Timeout

    paths = list(out.iterdir()) if out.is_dir() else []
    unfinished = [path for path in paths if _is_unfinished(path, known)]
    names = {path.name for path in paths} - {LOCK_FILE} - {path.name for path in unfinished}
    if names and not names & set(known):
        raise UsageError(f"{out} is not empty and holds no {what}; choose another --out")
    lock = FileLock(out / LOCK_FILE, timeout=0)
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise UsageError(f"another {what} is at work in {out}; wait for it or stop it") from None
    except OSError as error:
        raise UsageError(f"--out {out} cannot be written: {error.strerror}") from error
    try:
        for path in unfinished:
            path.unlink(missing_ok=True)
        yield
    finally:
        lock.release()


def _is_unfinished(path: Path, known: Collection[str]) -> bool:
    """Whether `replacing` left it, on the way to one of these names."""
    name, _, process = path.name.removesuffix(_UNFINISHED).rpartition(".")
    is_named_so = path.name.endswith(_UNFINISHED) and process.isdigit() and name in known
    return is_named_so and path.is_file()
