"""Specs that were checked once, remembered, so that light commands stay light as the zoo grows.

Reading and checking some hundred YAML files takes most of a second; `list` should not. What a zoo's
files said is kept as JSON in the user's cache folder, under a stamp of every file's path and bytes,
and of this package's own code and schemas. Anything that differs means: read them again.
`validate` never looks here.
"""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from muppet_zoo.file_tools import write_atomically
from muppet_zoo.yaml_reader import MAX_FILE_BYTES


def recall(files: Sequence[Path], stamp: str | None) -> dict[Path, Any] | None:
    """Each file's data as it was when all of them were found right; None when that is not known."""
    try:
        saved = json.loads(_index_file(files).read_bytes())
        if stamp is None or saved["stamp"] != stamp:
            return None
        return {file: saved["data"][str(file)] for file in files}
    except (OSError, ValueError, KeyError, TypeError):
        return None  # never written, cut off, or of another version: the files say it again


def remember(files: Sequence[Path], stamp: str | None, data: Mapping[Path, Any]) -> None:
    """Keep what `files` said; they have no findings. `stamp` was taken before they were read."""
    if stamp is None:
        return
    saved = {"stamp": stamp, "data": {str(path): value for path, value in data.items()}}
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


def stamp_of(files: Mapping[Path, str]) -> str | None:
    """Which bytes these files hold now, in which namespaces, and which code reads them.

    None when a file is unreadable.
    """
    package = Path(str(resources.files("muppet_zoo")))
    own = sorted([*package.rglob("*.py"), *package.glob("schemas/*.json")])
    digest = hashlib.sha256()
    try:
        for file in own:
            found = file.stat()
            times = f"{found.st_mtime_ns}\0{found.st_ctime_ns}"
            digest.update(f"{file}\0{found.st_size}\0{times}\n".encode())
        for file, namespace in files.items():
            found = file.stat()
            if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_FILE_BYTES:
                return None
            content = hashlib.sha256(file.read_bytes()).hexdigest()
            digest.update(f"{file}\0{namespace}\0{content}\n".encode())
    except (OSError, UnicodeEncodeError):
        return None
    return digest.hexdigest()
