"""`muppet-zoo list`."""

from __future__ import annotations

from pathlib import Path

import click

from muppet_zoo.cli.options import json_option, specs_option


@click.command("list")
@click.option("--family", metavar="NAME", help="Only tasks of this family.")
@click.option("--mixture", metavar="NAME", help="Only the tasks of this mixture.")
@specs_option
@json_option
def command(
    family: str | None, mixture: str | None, spec_dirs: tuple[Path, ...], as_json: bool
) -> None:
    """List the tasks of the zoo, or of one mixture."""
    from muppet_zoo.console import plural, print_json, print_table
    from muppet_zoo.errors import UnknownNameError
    from muppet_zoo.zoo import load_zoo

    zoo = load_zoo(spec_dirs)
    names = zoo.mixture(mixture).tasks if mixture else tuple(sorted(zoo.tasks))
    specs = [zoo.tasks[name] for name in names]
    families = sorted({spec.family for spec in zoo.tasks.values()})
    if family is not None:
        if family not in families:
            raise UnknownNameError("family", family, families)
        specs = [spec for spec in specs if spec.family == family]
    rows = [
        {
            "task": spec.name,
            "family": spec.family,
            "format": spec.inputs.format,
            "head": spec.head.type,
            "labels": spec.num_labels,
            "metrics": list(spec.metrics),
            "source": spec.source.hub or "files",
            "license": spec.license,
        }
        for spec in specs
    ]
    if as_json:
        print_json(rows)
        return
    title = plural(len(rows), "task") + (f" of mixture {mixture}" if mixture else "")
    print_table(title, rows)
    if not mixture and zoo.mixtures:
        mixtures = [
            {"mixture": m.name, "tasks": len(m.tasks), "description": m.description}
            for m in zoo.mixtures.values()
        ]
        print_table("\n" + plural(len(mixtures), "mixture"), mixtures)
