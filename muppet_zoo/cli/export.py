"""`muppet-zoo export`."""

from __future__ import annotations

from pathlib import Path

import click

from muppet_zoo.cli.options import json_option, specs_option


@click.command("export")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder to write; it must not be there yet, or be empty.",
)
@click.option(
    "--task",
    "name",
    metavar="NAME",
    help="Write a complete model for this task. The encoder alone without it.",
)
@specs_option
@json_option
def command(
    checkpoint: Path, out: Path, name: str | None, spec_dirs: tuple[Path, ...], as_json: bool
) -> None:
    """Write a trained model for transformers, with its tokenizer and a model card.

    CHECKPOINT is what `train --out` wrote, its model folder, or one of its checkpoints. With --task
    the model gives the predictions of this one to 1e-5, which is checked before it is kept; where
    the family's class cannot, it is refused with the setting of a run that would.
    """
    from muppet_zoo.console import print_json, say
    from muppet_zoo.model_folder import find_model
    from muppet_zoo.trainer_api import ExportRequest, load_model_user
    from muppet_zoo.zoo import load_zoo

    zoo = load_zoo(spec_dirs)
    model = find_model(checkpoint)
    task = zoo.task(name) if name is not None else None
    trained = (*model.tasks, *model.earlier_tasks)
    known = {each: zoo.task(each) for each in trained if each in zoo.tasks}
    request = ExportRequest(checkpoint=model.path, out=out, task=task, specs=known)
    written = str(load_model_user().export(request))
    if as_json:
        print_json({"checkpoint": str(model.path), "task": name, "out": written})
    else:
        say(written)
