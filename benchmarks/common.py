"""What every measurement shares: running public commands, and saying where a figure is from."""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from muppet_zoo.console import note
from muppet_zoo.provenance import commit, versions

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"


def run_cli(*arguments: str | Path, environment: Mapping[str, str] | None = None) -> None:
    """Show a `muppet-zoo` command and run it in the repository's root, as a user would.

    Paths are shown as seen from there. Stops the script with the command's code when it fails.
    """
    typed = [str(from_root(a)) if isinstance(a, Path) else a for a in arguments]
    note(f"\n$ {shlex.join(['muppet-zoo', *typed])}")
    command = [sys.executable, "-m", "muppet_zoo", *typed]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **(environment or {})}, check=False)
    if done.returncode:
        note(f"the command above ended with exit code {done.returncode}; run the same to go on")
        raise SystemExit(done.returncode)


def from_root(path: Path) -> Path:
    """`path` as seen from the repository's root; links are not followed."""
    absolute = path.absolute()
    return absolute.relative_to(ROOT) if absolute.is_relative_to(ROOT) else absolute


def environment() -> dict[str, Any]:
    """Commit, versions and the class of machine; nothing that names the machine itself."""
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "commit": commit(),
        "python": platform.python_version(),
        "machine": f"{os.cpu_count()} cores {platform.machine()}, {memory_gib:.0f} GiB, "
        f"{platform.system()}",
        "versions": versions(),
    }


def write_result(name: str, data: dict[str, Any], folder: Path = RESULTS) -> Path:
    """Write `name.json`, with the environment, among the results or elsewhere."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"environment": environment(), **data}, indent=1) + "\n", "utf-8")
    return path
