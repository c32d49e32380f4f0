"""Where a figure comes from: the versions of what computed it, its commit, the weights' digest."""

from __future__ import annotations

import hashlib
import subprocess
from importlib import metadata
from pathlib import Path

from muppet_zoo.errors import UsageError
from muppet_zoo.file_tools import sha256_of

_ROOT = Path(__file__).resolve().parent.parent
_VERSIONS_OF = (
    *("muppet-zoo", "torch", "deepspeed", "transformers"),
    *("tokenizers", "pyarrow", "numpy", "datasets", "scikit-learn", "scipy"),
)


def versions() -> dict[str, str]:
    """Versions of muppet-zoo and of the libraries that results depend on, where installed."""
    found = {}
    for name in _VERSIONS_OF:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str | None:
    """Commit of the checkout that this package is in, `+changes` if it has any; else None."""
    if not (_ROOT / ".git").exists():
        return None
    head = _git("rev-parse", "--short", "HEAD")
    if head is None:
        return None
    return head + ("+changes" if _git("status", "--porcelain", "--untracked-files=no") else "")


def weights_digest(encoder: str, *, random_init: bool, heads: Path | None = None) -> str:
    """Hex SHA-256 of the weights in a folder or hub name, and of a file of heads if one is given.

    Of weights that a seed draws, it is that of the configuration which says what is drawn.

    Raises:
        UsageError: there are none, or the hub does not give them.
    """
    pattern = "config.json" if random_init else "*.safetensors"
    folder = Path(encoder) if Path(encoder).is_dir() else _from_hub(encoder, pattern)
    files = sorted(folder.glob(pattern))
    if not files:
        raise UsageError(
            f"no {pattern} in {encoder}; an arm with random_init: true starts from random weights, "
            f"another needs weights as save_pretrained writes them"
        )
    digest = hashlib.sha256(b"random" if random_init else b"")
    for file in [*files, *([heads] if heads is not None else [])]:
        digest.update(f"{file.name} {sha256_of(file)}\n".encode())
    return digest.hexdigest()


def _from_hub(name: str, pattern: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=[pattern]))
    except Exception as error:  # the library raises dozens of types, down to the HTTP client's
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UsageError(
            f"the encoder '{name}' is no folder, and cannot be had from the hub: {reason}"
        ) from error


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=_ROOT, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
