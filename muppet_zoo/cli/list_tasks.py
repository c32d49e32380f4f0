"""`muppet-zoo list`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from muppet_zoo.cli.options import json_option, specs_option

if TYPE_CHECKING:
    from muppet_zoo.hub.facts import Facts
    from muppet_zoo.spec import TaskSpec

# The four kinds of task that the paper counts, and tagging; by head type.
_KINDS = {
    "classification": "classification",
    "multi_label": "classification",
    "regression": "classification",
    "multiple_choice": "commonsense",
    "span": "reading comprehension",
    "token_classification": "tagging",
    "generation": "summarization",
}


@click.command("list")
@click.option("--family", metavar="NAME", help="Only tasks of this family.")
@click.option("--mixture", metavar="NAME", help="Only the tasks of this mixture.")
@specs_option
@json_option
def command(
    family: str | None, mixture: str | None, spec_dirs: tuple[Path, ...], as_json: bool
) -> None:
    """List the tasks of the zoo, or of one mixture, and the mixtures.

    Train rows are those that the hub states for the dataset; row operations may make more or fewer
    examples of them.
    """
    from muppet_zoo.console import plural, print_json, print_table
    from muppet_zoo.errors import UnknownNameError
    from muppet_zoo.hub.facts import read_facts
    from muppet_zoo.zoo import load_zoo

    zoo = load_zoo(spec_dirs)
    names = zoo.mixture(mixture).tasks if mixture else tuple(sorted(zoo.tasks))
    specs = [zoo.tasks[name] for name in names]
    families = sorted({spec.family for spec in zoo.tasks.values()})
    if family is not None:
        if family not in families:
            raise UnknownNameError("family", family, families)
        specs = [spec for spec in specs if spec.family == family]
    facts = read_facts()
    tasks = [_task_row(spec, facts) for spec in specs]
    kinds = _kind_rows(tasks)
    mixtures = [] if mixture else list(zoo.mixtures.values())
    if as_json:
        members = [{"mixture": m.name, "tasks": list(m.tasks), "description": m.description}
                   for m in mixtures]  # fmt: skip
        print_json({"tasks": tasks, "kinds": kinds, "mixtures": members})
        return
    title = plural(len(tasks), "task") + (f" of mixture {mixture}" if mixture else "")
    print_table(title, [{k: v for k, v in row.items() if k != "citation"} for row in tasks])
    print_table("\nby kind", [{**row, "uncounted": len(row["uncounted"])} for row in kinds])
    if mixtures:
        rows = [
            {"mixture": m.name, "tasks": len(m.tasks), "description": m.description.split(". ")[0]}
            for m in mixtures
        ]
        print_table("\n" + plural(len(mixtures), "mixture"), rows)


def _task_row(spec: TaskSpec, facts: dict[str, Facts | None]) -> dict[str, Any]:
    from muppet_zoo.hub.facts import stated_rows

    return {
        "task": spec.name,
        "family": spec.family,
        "format": spec.inputs.format,
        "head": spec.head.type,
        "labels": spec.num_labels,
        "train_rows": stated_rows(spec, "train", facts),
        "metrics": list(spec.metrics),
        "source": spec.source.hub or "files",
        "license": spec.license,
        "citation": spec.citation,
    }


def _kind_rows(tasks: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Tasks and train rows of each kind; tasks without a train split, or unknown, add no rows."""
    rows = []
    for kind in dict.fromkeys(_KINDS.values()):
        mine = [task for task in tasks if _KINDS[task["head"]] == kind]
        if mine:
            unknown = [task["task"] for task in mine if task["train_rows"] is None]
            total = sum(task["train_rows"] or 0 for task in mine)
            rows.append(
                {"kind": kind, "tasks": len(mine), "train_rows": total, "uncounted": unknown}
            )
    return rows
