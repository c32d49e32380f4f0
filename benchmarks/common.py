"""What every measurement shares: running public commands, and saying where a figure is from."""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
_VERSIONS_OF = "muppet-zoo torch deepspeed transformers tokenizers pyarrow numpy datasets".split()


def run_cli(*arguments: str | Path, capture: bool = False) -> str:
    """Show a `muppet-zoo` command and run it as a user would; stops the script if it fails."""
    shown = shlex.join(["muppet-zoo", *map(str, arguments)])
    print(f"\n$ {shown}", flush=True)
    command = [sys.executable, "-m", "muppet_zoo", *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE if capture else None, check=False)
    if done.returncode:
        raise SystemExit(done.returncode)
    return done.stdout.decode() if capture else ""


def environment() -> dict[str, Any]:
    """Commit, versions and the class of machine; nothing that names the machine itself."""
    versions: dict[str, str | None] = {}
    for name in _VERSIONS_OF:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "commit": _git("rev-parse", "--short", "HEAD")
        + ("+changes" if _git("diff", "--stat", "HEAD") else ""),
        "python": platform.python_version(),
        "machine": f"{os.cpu_count()} cores {platform.machine()}, {memory_gib:.0f} GiB, "
        f"{platform.system()}",
        "versions": versions,
    }


def write_result(name: str, data: dict[str, Any]) -> Path:
    """Write `benchmarks/results/name.json`, with the environment."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"environment": environment(), **data}, indent=1) + "\n", "utf-8")
    return path


def _git(*arguments: str) -> str:
    root = Path(__file__).parent.parent
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, check=False)
    except FileNotFoundError:
        return "unknown"
    return done.stdout.decode().strip()
