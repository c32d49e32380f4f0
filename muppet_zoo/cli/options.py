"""Options that several commands share, so that they read the same everywhere."""

from __future__ import annotations

from pathlib import Path

import click

specs_option = click.option(
    "--specs",
    "spec_dirs",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="DIR",
    help="Also read the specs under DIR; may be given more than once.",
)

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")

lock_option = click.option(
    "--lock",
    "lock_file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The lock of all tasks; without it, zoo.lock in the folder of the zoo that has the spec.",
)
