"""A mirror of real rows in which splits that are missing locally have stand-ins.

    python -m benchmarks.findings.mirror --source DIR --out DIR

What stands in for what is in stand_ins.yaml; every result names it. Other folders are linked.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from muppet_zoo.yaml_reader import read_yaml

STAND_INS = Path(__file__).with_name("stand_ins.yaml")
# Names in the mirror of datasets that several specs read.
_FOLDERS = {"anli_r1": "anli", "anli_r2": "anli", "anli_r3": "anli"}


@click.command()
@click.option("--source", required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--out", required=True, type=click.Path(path_type=Path))
def main(source: Path, out: Path) -> None:
    """Make the mirror; the same rows give the same bytes."""
    make_mirror(source, out)


def make_mirror(source: Path, out: Path) -> Path:
    """Links to the folders of `source`, and files for the splits that have a stand-in."""
    out.mkdir(parents=True, exist_ok=True)
    plans = read_yaml(STAND_INS).data
    for folder in sorted(path for path in source.iterdir() if path.is_dir()):
        if folder.name not in plans and not (out / folder.name).exists():
            (out / folder.name).symlink_to(folder.resolve())
    for task, roles in plans.items():
        _make_task(source / _FOLDERS.get(task, task), out / task, roles)
    return out


def _make_task(source: Path, target: Path, roles: Mapping[str, Mapping[str, Any]]) -> None:
    if not source.is_dir():
        raise click.ClickException(f"{source} is missing; --source needs a folder for each task")
    target.mkdir(exist_ok=True)
    # A file that another split was made of is not a split of its own any more.
    used = {name for plan in roles.values() for name in plan["from"]}
    for path in sorted(source.glob("*.jsonl.gz")):
        name = path.name.removesuffix(".jsonl.gz")
        if name not in used | set(roles) and not (target / path.name).exists():
            (target / path.name).symlink_to(path.resolve())
    for role, plan in roles.items():
        text = "".join(_lines(source, role, plan))
        path = target / f"{role}.jsonl"
        if not path.is_file() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")


def _lines(source: Path, role: str, plan: Mapping[str, Any]) -> Iterator[str]:
    seen: dict[str, int] = {}
    for name in plan["from"]:
        with gzip.open(source / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
            for number, line in enumerate(file):
                if plan.get("by"):
                    number = seen.setdefault(json.loads(line)[plan["by"]], len(seen))
                if not plan.get("carve") or (number % 10 == 0) == (role == "validation"):
                    yield line


if __name__ == "__main__":
    main()
