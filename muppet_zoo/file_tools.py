"""Writing files so that a crash leaves the old one or the new one, and hashing big ones.

Everything the build leaves behind goes through `write_atomically` or the same steps: a neighbour
`.tmp`, flushed to the disk, renamed over the name, and the folder flushed too. Without the flush a
power cut may keep the rename and lose the bytes.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

_BLOCK_BYTES = 1 << 20


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` to `path`; readers see the old file or all of the new one, never a part."""
    # The process id keeps two processes that share a folder without a lock off each other's file.
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    flush_folder(path.parent)


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
