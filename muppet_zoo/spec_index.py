"""Specs that were checked once, remembered, so that light commands stay light as the zoo grows.

Reading and checking some hundred YAML files takes most of a second; `list` should not. What a zoo's
files said is kept as JSON in the user's cache folder, under a stamp of every file's path, size and
time, and of this package's own code and schemas. Anything that differs means: read them again.
`validate` never looks here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from muppet_zoo.file_tools import write_atomically


def recall(files: Sequence[Path]) -> dict[Path, Any] | None:
    """Each file's data as it was when all of them were found right; None when that is not known."""
    try:
        saved = json.loads(_index_file(files).read_bytes())
        if saved["stamp"] != _stamp(files):
            return None
        return {file: saved["data"][str(file)] for file in files}
    except (OSError, ValueError, KeyError, TypeError):
        return None  # never written, cut off, or of another version: the files say it again


def remember(files: Sequence[Path], data: Mapping[Path, Any]) -> None:
    """Keep what `files` said; they have no findings."""
    saved = {"stamp": _stamp(files), "data": {str(path): value for path, value in data.items()}}
    index = _index_file(files)
    try:
        index.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(index, json.dumps(saved).encode())
    except OSError:
        return  # a home that cannot be written costs time, nothing else


def _index_file(files: Iterable[Path]) -> Path:
    from platformdirs import user_cache_path

    folders = sorted({str(file.parent.resolve()) for file in files})
    name = hashlib.sha256("\n".join(folders).encode()).hexdigest()[:16]
    return user_cache_path("muppet-zoo") / f"specs-{name}.json"


def _stamp(files: Iterable[Path]) -> str:
    package = Path(str(resources.files("muppet_zoo")))
    own = [*package.glob("*.py"), *package.glob("schemas/*.json")]
    digest = hashlib.sha256()
    for file in [*sorted(own), *files]:
        found = file.stat()
        digest.update(f"{file}\0{found.st_size}\0{found.st_mtime_ns}\n".encode())
    return digest.hexdigest()
