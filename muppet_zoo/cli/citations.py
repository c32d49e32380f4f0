"""`muppet-zoo citations`."""

from __future__ import annotations

from pathlib import Path

import click

from muppet_zoo.cli.options import chosen_specs, json_option, specs_option


@click.command("citations")
@click.argument("tasks", nargs=-1, metavar="[TASK]...")
@click.option("--mixture", metavar="NAME", help="The tasks of this mixture.")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
    help="Write DIR/citations.bib and DIR/NOTICE instead of printing the BibTeX.",
)  # fmt: skip
@specs_option
@json_option
def command(
    tasks: tuple[str, ...],
    mixture: str | None,
    out: Path | None,
    spec_dirs: tuple[Path, ...],
    as_json: bool,
) -> None:
    """What to cite and to name when using TASKs: BibTeX, and a NOTICE with every licence."""
    from muppet_zoo.citations import bibliography, dataset_of, entries_of, notice
    from muppet_zoo.console import note, print_json, say

    specs, _ = chosen_specs(tasks, mixture, spec_dirs)
    entries = entries_of(specs)
    if out is not None:
        _write(out, {"citations.bib": bibliography(entries), "NOTICE": notice(specs, entries)})
        note(f"{out}: citations.bib with {len(entries)} entries, NOTICE with {len(specs)} tasks")
    if as_json:
        rows = [
            {
                "task": spec.name,
                "dataset": dataset_of(spec),
                "license": spec.license,
                "homepage": spec.homepage,
                "cites": [entry.key for entry in entries if spec.name in entry.tasks],
            }
            for spec in specs
        ]
        bib = [{"key": entry.key, "bibtex": entry.text} for entry in entries]
        print_json({"tasks": rows, "entries": bib})
    elif out is None:
        say(bibliography(entries).rstrip("\n"))


def _write(out: Path, files: dict[str, str]) -> None:
    from muppet_zoo.errors import UsageError
    from muppet_zoo.file_tools import write_atomically

    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            write_atomically(out / name, text.encode("utf-8"))
    except OSError as error:
        raise UsageError(f"--out {out}: cannot be written: {error.strerror or error}") from None
