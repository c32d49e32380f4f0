"""`muppet-zoo stats`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from muppet_zoo.cli.options import COUNT, json_option, mirror_option, specs_option

if TYPE_CHECKING:
    from muppet_zoo.console import ProgressDisplay
    from muppet_zoo.encode import TokenizerSource
    from muppet_zoo.spec import TaskSpec
    from muppet_zoo.task_stats import SplitStats

_MOST_LABELS = 6


@click.command("stats")
@click.argument("tasks", nargs=-1, metavar="[TASK]...")
@click.option("--mixture", metavar="NAME", help="The tasks of this mixture, too.")
@click.option("--split", metavar="ROLE", help="Only the split of this role.")
@click.option("--limit", type=COUNT, help="Read only the first N rows of each.")
@click.option(
    "--tokenizer", "tokenizer_name", metavar="NAME_OR_DIR",
    help="Count its tokens; without it, words are counted.",
)  # fmt: skip
@click.option(
    "--plot", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help="Draw lengths and labels, as .svg or .png.",
)  # fmt: skip
@mirror_option
@specs_option
@json_option
def command(  # one parameter per option of the command line
    tasks: tuple[str, ...],
    mixture: str | None,
    split: str | None,
    limit: int | None,
    tokenizer_name: str | None,
    plot: Path | None,
    mirror: Path | None,
    spec_dirs: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Show lengths, truncation, labels and duplicates of TASKs' rows.

    cut_64 is the share of examples that are longer than 64 tokens, and so on. A contradiction is
    a text that occurs with different targets. Splits without rows in the mirror are named.
    """
    from muppet_zoo.console import print_json, print_table, progress, say
    from muppet_zoo.encode import open_tokenizer
    from muppet_zoo.errors import SourceError, UsageError
    from muppet_zoo.task_stats import write_plot
    from muppet_zoo.zoo import load_zoo

    if not tasks and mixture is None:
        raise UsageError("no task is named: name tasks or a --mixture; `muppet-zoo list` has both")
    if plot is not None and plot.suffix not in (".svg", ".png"):
        raise UsageError(f"--plot {plot}: a file that ends in .svg or .png is expected")
    zoo = load_zoo(spec_dirs)
    names = dict.fromkeys((*tasks, *(zoo.mixture(mixture).tasks if mixture is not None else ())))
    specs = [zoo.task(name) for name in names]
    tokenizer = None if tokenizer_name is None else open_tokenizer(tokenizer_name)
    with progress(quiet=as_json) as display:
        found, absent = _measured(specs, split, mirror, limit, tokenizer, display)
    if not found:
        raise SourceError(f"no rows for: {', '.join(absent)}")
    if plot is not None:
        write_plot(plot, found)
    if as_json:
        print_json({"splits": [stats.to_json() for stats in found], "absent": absent})
        return
    unit = "words; give --tokenizer for tokens" if tokenizer is None else "tokens"
    print_table(f"lengths in {unit}", [_row(stats) for stats in found])
    if absent:
        say(f"no rows for: {', '.join(absent)}")
    if plot is not None:
        say(f"written: {plot}")


def _measured(
    specs: list[TaskSpec],
    split: str | None,
    mirror: Path | None,
    limit: int | None,
    tokenizer: TokenizerSource | None,
    display: ProgressDisplay,
) -> tuple[list[SplitStats], list[str]]:
    """The figures of every split that has rows, and the names of the others."""
    from muppet_zoo.errors import UnknownNameError
    from muppet_zoo.sources import MissingSplitError, open_rows
    from muppet_zoo.task_stats import split_stats

    found, absent = [], []
    for spec in specs:
        roles = [role for role in spec.source.splits if split in (None, role)]
        if not roles:
            raise UnknownNameError("split", str(split), list(spec.source.splits))
        for role in roles:
            name = f"{spec.name} {role}"
            try:
                source = open_rows(spec, role, mirror=mirror, limit=limit)
            except MissingSplitError:
                absent.append(name)
                continue
            line = display.start(name)
            found.append(
                split_stats(
                    spec, role, source.rows(), tokenizer=tokenizer,
                    on_rows=lambda rows, line=line, of=source: line.update(  # type: ignore[misc]
                        rows, total=of.estimated_rows(rows)
                    ),
                )
            )  # fmt: skip
            line.finish()
    return found, absent


def _row(stats: SplitStats) -> dict[str, Any]:
    data = stats.to_json()
    labels = [f"{name} {count}" for name, count in list(stats.labels.items())[:_MOST_LABELS]]
    more = len(stats.labels) - len(labels)
    return {
        "task": stats.task,
        "split": stats.split,
        "examples": data["examples"],
        **data["length"],
        **{f"cut_{budget}": share for budget, share in data["truncated"].items()},
        "bad": stats.num_bad_rows,
        "double_rows": stats.duplicate_rows,
        "double_inputs": stats.duplicate_inputs,
        "contradictions": stats.contradictions,
        "labels": ", ".join(labels) + (f", and {more} more" if more else ""),
    }
