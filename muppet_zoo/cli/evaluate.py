"""`muppet-zoo eval`."""

from __future__ import annotations

from pathlib import Path

import click

from muppet_zoo.cli.options import COUNT, data_option, json_option, specs_option


@click.command("eval")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@data_option
@click.option(
    "--task",
    "names",
    multiple=True,
    metavar="NAME",
    help="Task to score; may be given more than once. All of the model's without it.",
)
@click.option("--mixture", metavar="NAME", help="Score the tasks of this mixture, such as glue.")
@click.option("--split", default="validation", show_default=True, help="Role of the split.")
@click.option("--max-examples", type=COUNT, help="Score a random sample, the same every time.")
@click.option(
    "--predictions",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Write each task's answers to DIR/TASK.jsonl: row, prediction and target of each example.",
)
@click.option(
    "--precision",
    type=click.Choice(["fp32", "bf16", "fp16"]),
    default="fp32",
    show_default=True,
    help="Of the matrix products. A processor is slow at fp16.",
)
@click.option("--trainer", default="torch", show_default=True, help="Trainer that evaluates.")
@specs_option
@json_option
def command(  # one parameter per option of the command line
    checkpoint: Path,
    data: Path,
    names: tuple[str, ...],
    mixture: str | None,
    split: str,
    max_examples: int | None,
    predictions: Path | None,
    precision: str,
    trainer: str,
    spec_dirs: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Score a trained model on built tasks.

    CHECKPOINT is what `train --out` wrote, its model folder, or one of its checkpoints. A task that
    it was not trained on can be scored where it shares a head with one that it was.
    """
    from muppet_zoo.console import note, print_json, print_table
    from muppet_zoo.errors import UsageError
    from muppet_zoo.model_folder import find_model, has_slot_for
    from muppet_zoo.results import overlap_note, report_rows
    from muppet_zoo.shards import check_role
    from muppet_zoo.trainer_api import EvalRequest, load_trainer
    from muppet_zoo.zoo import load_zoo

    zoo = load_zoo(spec_dirs)
    model = find_model(checkpoint)
    if mixture is not None:
        wanted = zoo.mixture(mixture).tasks
        answered = [name for name in wanted if has_slot_for(model, zoo.task(name))]
        if missing := [name for name in wanted if name not in answered]:
            note(f"not scored, since the model has no head for it: {', '.join(missing)}")
        if not answered and not names:
            raise UsageError(f"{model.path} has no head for any task of mixture {mixture}")
        names = (*names, *answered)
    tasks = tuple(zoo.task(name) for name in dict.fromkeys(names or model.tasks))
    for task in tasks:
        check_role(task, split)
    reports = load_trainer(trainer).evaluate(
        EvalRequest(
            checkpoint=model.path,
            data=data,
            tasks=tasks,
            split=split,
            max_examples=max_examples,
            precision=precision,
            predictions=predictions,
        )
    )
    rows = report_rows(reports)
    if as_json:
        print_json(rows)
    else:
        print_table(f"{model.path} on {split}", rows, notes=overlap_note(reports))
