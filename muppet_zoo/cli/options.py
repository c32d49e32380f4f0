"""Options that several commands share, so that they read the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from muppet_zoo.mixture import Mixture
    from muppet_zoo.spec import TaskSpec

# Nobody means more than these, and libraries that are given more end in a traceback. The schemas of
# run files and plans have the same bounds.
MOST = 2**31 - 1
MOST_TOKENS = 1_000_000
MOST_PROCESSES = 1024

COUNT = click.IntRange(min=1, max=MOST)
TOKENS = click.IntRange(min=4, max=MOST_TOKENS)
PROCESSES = click.IntRange(min=1, max=MOST_PROCESSES)

specs_option = click.option(
    "--specs",
    "spec_dirs",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="DIR",
    help="Also read the specs under DIR; may be given more than once.",
)

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")

data_option = click.option(
    "--data",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Folder that `build` wrote, with the model's tokenizer.",
)

mirror_option = click.option(
    "--mirror",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Read DIR/<task>/<split>.{jsonl,csv,tsv}[.gz] or .parquet instead of the hub. The split "
    "is named as in the source, or by its role; tasks of one dataset may share DIR/<dataset>.",
)

lock_option = click.option(
    "--lock",
    "lock_file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The lock of all tasks; without it, zoo.lock in the folder of the zoo that has the spec.",
)


def check_max_tokens(tokenizer_name: str | None) -> None:
    """Refuse --max-tokens where nothing counts tokens: it would be ignored without a word.

    Raises:
        UsageError: it is given, and --tokenizer is not.
    """
    from click.core import ParameterSource

    from muppet_zoo.errors import UsageError

    source = click.get_current_context().get_parameter_source("max_tokens")
    if tokenizer_name is None and source is not ParameterSource.DEFAULT:
        raise UsageError(
            "--max-tokens needs --tokenizer NAME_OR_DIR, whose tokens are counted; give both, or "
            "leave --max-tokens out"
        )


def chosen_specs(
    tasks: tuple[str, ...], mixture: str | None, spec_dirs: tuple[Path, ...]
) -> tuple[list[TaskSpec], Mixture | None]:
    """The tasks that a command names one by one or by a mixture, and the mixture.

    Raises:
        UsageError: nothing is named, or nothing has that name.
    """
    from muppet_zoo.errors import UsageError
    from muppet_zoo.zoo import load_zoo

    if not tasks and mixture is None:
        raise UsageError("no task is named: name tasks or a --mixture; `muppet-zoo list` has both")
    zoo = load_zoo(spec_dirs)
    chosen = zoo.mixture(mixture) if mixture is not None else None
    names = (*tasks, *(chosen.tasks if chosen is not None else ()))
    return [zoo.task(name) for name in dict.fromkeys(names)], chosen
