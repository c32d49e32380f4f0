"""`muppet-zoo show`."""

from __future__ import annotations

from pathlib import Path

import click

from muppet_zoo.cli.options import json_option, specs_option


@click.command("show")
@click.argument("task")
@specs_option
@json_option
def command(task: str, spec_dirs: tuple[Path, ...], as_json: bool) -> None:
    """Show one task: its source, inputs, head, metrics, licence and citation."""
    from muppet_zoo.console import print_json, print_yaml
    from muppet_zoo.zoo import load_zoo

    spec = load_zoo(spec_dirs).task(task)
    if as_json:
        print_json(dict(spec.raw))
    else:
        print_yaml(spec.path.read_text("utf-8"))
