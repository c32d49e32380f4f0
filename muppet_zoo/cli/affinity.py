"""`muppet-zoo affinity`."""

from __future__ import annotations

from pathlib import Path

import click

from muppet_zoo.cli.options import COUNT, data_option, json_option, specs_option


@click.command("affinity")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@data_option
@click.option(
    "--task",
    "names",
    multiple=True,
    metavar="NAME",
    help="Task to compare; give at least two. All of the model's without it.",
)
@click.option(
    "--examples",
    default=64,
    show_default=True,
    type=COUNT,
    help="Train examples in each half of a task: more of them, less noise.",
)
@click.option(
    "--figures",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Draw the matrix as DIR/affinity.svg and .png.",
)
@specs_option
@json_option
def command(  # one parameter per option of the command line
    checkpoint: Path,
    data: Path,
    names: tuple[str, ...],
    examples: int,
    figures: Path | None,
    spec_dirs: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Compare the gradients that tasks send into a trained encoder.

    CHECKPOINT is what `train --out` wrote, its model folder, or one of its checkpoints. The cosine
    of two tasks says whether a step for the one helps (above 0) or hurts (below 0) the other, to
    first order. Each is taken over different examples; the cosine of a task with itself, of its
    one half with its other half, is the most that can be expected, and near 0 where --examples are
    too few. The study `affinity` measures instead what leaving a family of tasks out costs.
    """
    from muppet_zoo.affinity import AffinityRequest
    from muppet_zoo.console import print_json, print_table
    from muppet_zoo.errors import UsageError
    from muppet_zoo.model_folder import find_model
    from muppet_zoo.report.figures import draw_affinity, write_figures
    from muppet_zoo.trainer_api import load_model_user
    from muppet_zoo.zoo import load_zoo

    zoo, model = load_zoo(spec_dirs), find_model(checkpoint)
    tasks = tuple(zoo.task(name) for name in dict.fromkeys(names or model.tasks))
    if len(tasks) < 2:
        raise UsageError(f"two tasks at least are compared; {model.path} has {len(model.tasks)}")
    found = load_model_user().affinity(
        AffinityRequest(checkpoint=model.path, data=data, tasks=tasks, num_examples=examples)
    )
    if figures is not None:
        write_figures([draw_affinity(found)], figures)
    if as_json:
        print_json(found.pairs())
    else:
        print_table(f"cosines of gradients into {model.path}", found.rows())
