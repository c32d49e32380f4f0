"""`muppet-zoo lock`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from muppet_zoo.cli.options import json_option, lock_option, specs_option

if TYPE_CHECKING:
    from muppet_zoo.hub.locking import LockOutcome
    from muppet_zoo.spec import TaskSpec
    from muppet_zoo.zoo import Zoo


@click.command("lock")
@click.argument("tasks", nargs=-1, metavar="[TASK]...")
@click.option("--mixture", metavar="NAME", help="Lock the tasks of this mixture.")
@click.option(
    "--update", is_flag=True,
    help="Ask anew for what is locked already, and show what changed since.",
)  # fmt: skip
@lock_option
@specs_option
@json_option
def command(
    tasks: tuple[str, ...],
    mixture: str | None,
    update: bool,
    lock_file: Path | None,
    spec_dirs: tuple[Path, ...],
    as_json: bool,
) -> int:
    """Record what TASKs are built from: the commit behind their revision, and its files' digests.

    Without TASKs, all of the zoo that come from the hub, or with --specs all under DIR. `build`
    then reads these commits and refuses other files. An entry stays as it is without --update.
    Nothing is downloaded but listings and dataset cards. Exits with 1 when an entry failed; the
    others are written.
    """
    from muppet_zoo.console import print_error, progress
    from muppet_zoo.hub.lock import lock_path, read_lock
    from muppet_zoo.hub.locking import lock_specs
    from muppet_zoo.zoo import load_zoo, spec_folders

    zoo, folders = load_zoo(spec_dirs), [folder.path for folder in spec_folders(spec_dirs)]
    paths = {spec.name: lock_file or lock_path(spec, folders) for spec in zoo.tasks.values()}
    chosen = _chosen(zoo, tasks, mixture, spec_dirs)
    locks = [read_lock(path) for path in sorted({paths[spec.name] for spec in chosen})]
    outcomes: list[LockOutcome] = []
    with progress(quiet=as_json) as display:
        line = display.start("lock", total=_num_entries(chosen), unit="datasets")

        def show(outcome: LockOutcome) -> None:
            outcomes.append(outcome)
            line.update(len(outcomes))

        for lock in locks:
            everything = [s for s in zoo.tasks.values() if paths[s.name] == lock.path]
            here = [spec for spec in chosen if paths[spec.name] == lock.path]
            found = lock_specs(here, lock, everything=everything, update=update, on_outcome=show)
            outcomes += [outcome for outcome in found if outcome.status == "removed"]
        line.finish()
    _show(outcomes, [lock.path for lock in locks], as_json=as_json)
    errors = {str(outcome.error): outcome.error for outcome in outcomes if outcome.error}
    for error in errors.values():
        print_error(error)
    return 1 if errors else 0


def _chosen(
    zoo: Zoo, tasks: tuple[str, ...], mixture: str | None, spec_dirs: tuple[Path, ...]
) -> list[TaskSpec]:
    from muppet_zoo.errors import UsageError
    from muppet_zoo.zoo import shipped_specs

    for name in tasks:
        if not zoo.task(name).source.hub:
            raise UsageError(f"task {name} reads files beside its spec; there is nothing to lock")
    names = [*tasks, *(zoo.mixture(mixture).tasks if mixture is not None else ())]
    if names:
        specs = [zoo.task(name) for name in dict.fromkeys(names)]
    else:
        folders = [folder.resolve() for folder in spec_dirs or (shipped_specs(),)]
        specs = [
            spec
            for spec in zoo.tasks.values()
            if any(spec.path.resolve().is_relative_to(folder) for folder in folders)
        ]
    from_hub = [spec for spec in specs if spec.source.hub]
    if not from_hub:
        raise UsageError("nothing to lock: none of these tasks comes from the hub")
    return from_hub


def _num_entries(specs: list[TaskSpec]) -> int:
    from muppet_zoo.hub.lock import key_of

    return len({key_of(spec.source) for spec in specs})


def _show(outcomes: list[LockOutcome], paths: list[Path], *, as_json: bool) -> None:
    from muppet_zoo.console import plural, print_json, print_table

    where = ", ".join(map(str, paths))
    if as_json:
        print_json(
            {
                "locks": [str(path) for path in paths],
                "entries": [outcome.to_json() for outcome in outcomes],
            }
        )
        return
    counts: dict[str, int] = {}
    for outcome in outcomes:
        counts[outcome.status] = counts.get(outcome.status, 0) + 1
    summary = ", ".join(f"{count} {status}" for status, count in counts.items())
    changes = [f"{_name(outcome)}: {change}" for outcome in outcomes for change in outcome.changes]
    title = f"{plural(len(outcomes), 'dataset')}: {summary}, in {where}"
    print_table(title, [_row(outcome) for outcome in outcomes], notes=changes)


def _name(outcome: LockOutcome) -> str:
    hub, config, _ = outcome.key
    return f"{hub} ({config})" if config else hub


def _row(outcome: LockOutcome) -> dict[str, Any]:
    entry = outcome.entry
    files = list(entry.files.values()) if entry else []
    return {
        "dataset": _name(outcome),
        "revision": outcome.key[2],
        "status": outcome.status,
        "commit": entry and entry.commit[:10],
        "files": len(files) if entry else None,
        "megabytes": sum(file.size for file in files) / 1e6 if entry else None,
        "tasks": list(outcome.tasks),
    }
