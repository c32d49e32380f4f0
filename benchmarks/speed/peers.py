"""Peers in environments of their own: made from requirement files, asked by running scripts.

python -m benchmarks.speed.peers

One folder each under runs/peers, made by `venv` and pip from `requirements/NAME.txt`; what is there
already, from the same requirements, is kept.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import click

from benchmarks.common import ROOT
from muppet_zoo.console import note

REQUIREMENTS = ROOT / "benchmarks" / "speed" / "requirements"
PEERS = ROOT / "runs" / "peers"
NAMES = tuple(sorted(path.stem for path in REQUIREMENTS.glob("*.txt")))


@click.command()
def main() -> None:
    """Make every environment."""
    for name in NAMES:
        make_environment(name)


def make_environment(name: str) -> None:
    """Make the environment of one peer, unless it is that of the requirements already."""
    if is_installed(name):
        return
    folder, wanted = PEERS / name, (REQUIREMENTS / f"{name}.txt").read_text("utf-8")
    note(f"making {folder.relative_to(ROOT)}")
    venv.create(folder, with_pip=True)
    install = [str(python_of(name)), "-m", "pip", "install", "-qq", "-r"]
    subprocess.run([*install, str(REQUIREMENTS / f"{name}.txt")], check=True)
    (folder / "installed.txt").write_text(wanted, "utf-8")


def is_installed(name: str) -> bool:
    """Whether the environment is there, from the requirements as they are now."""
    stamp = PEERS / name / "installed.txt"
    wanted = (REQUIREMENTS / f"{name}.txt").read_text("utf-8")
    return stamp.is_file() and stamp.read_text("utf-8") == wanted


def python_of(name: str) -> Path:
    """The interpreter of a peer."""
    return PEERS / name / "bin" / "python"


def versions_of(name: str) -> dict[str, str]:
    """The versions that a peer's requirements pin.

    Raises:
        click.ClickException: the environment is not there.
    """
    if not is_installed(name):
        raise click.ClickException(f"the peer {name} is not installed; run make bench-peers")
    lines = (REQUIREMENTS / f"{name}.txt").read_text("utf-8").split()
    return dict(line.split("==") for line in lines)


def run_contender(python: Path | str, script: str, *arguments: object) -> dict[str, Any]:
    """The line of JSON that a contender's script prints last; offline."""
    command = [str(python), "-m", f"benchmarks.speed.contenders.{script}", *map(str, arguments)]
    return json.loads(_run(command).splitlines()[-1])  # type: ignore[no-any-return]


def prepare(python: Path, script: str, *arguments: object) -> None:
    """A contender's `prepare`, which prints nothing that matters."""
    module = f"benchmarks.speed.contenders.{script}"
    _run([str(python), "-m", module, "prepare", *map(str, arguments)])


@contextmanager
def asked(python: Path, script: str, *arguments: object) -> Iterator[Callable[[object], Any]]:
    """A contender that stays and answers a line with a line of JSON; it ends with the block.

    Raises:
        click.ClickException: it ended before it answered.
    """
    command = [str(python), "-m", f"benchmarks.speed.contenders.{script}", *map(str, arguments)]
    with (
        TemporaryFile("w+") as errors,
        subprocess.Popen(
            command, cwd=ROOT, env=_environment(), text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
        ) as process,
    ):  # fmt: skip
        questions, answers = process.stdin, process.stdout
        assert questions is not None
        assert answers is not None

        def answer() -> Any:
            for line in answers:
                if line.startswith('{"'):  # what libraries print is no JSON
                    return json.loads(line)
            errors.seek(0)
            raise click.ClickException(f"{shlex.join(command)}\n{errors.read()[-3000:]}")

        def ask(question: object) -> Any:
            questions.write(f"{question}\n")
            questions.flush()
            return answer()

        answer()  # that it is ready
        yield ask


def _run(command: Sequence[str]) -> str:
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise click.ClickException(f"{' '.join(command)}\n{done.stderr[-3000:]}")
    return done.stdout


def _environment() -> dict[str, str]:
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true"}
    return {**os.environ, **offline}


OURS = sys.executable

if __name__ == "__main__":
    main()
