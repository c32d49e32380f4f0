"""`muppet-zoo train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from muppet_zoo.cli.options import PROCESSES, json_option, specs_option

if TYPE_CHECKING:
    from muppet_zoo.run import Run


@click.command("train")
@click.argument("run_file", metavar="RUN.yaml", type=click.Path(path_type=Path))
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Where the model, checkpoints and logs go.",
)
@click.option("--trainer", metavar="NAME", help="Override the run's trainer: deepspeed or torch.")
@click.option(
    "--num-processes",
    default=1,
    show_default=True,
    type=PROCESSES,
    help="Processes on this machine that share the work.",
)
@click.option(
    "--launched",
    is_flag=True,
    help="This is one of several processes, on one machine or more, that torchrun, DeepSpeed's "
    "launcher or srun started with this command. --out must be seen by all.",
)
@click.option("--resume", is_flag=True, help="Go on from the newest good checkpoint in --out.")
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change one setting of the run, such as optimizer.learning_rate=1e-4.",
)
@specs_option
@json_option
def command(  # one parameter per option of the command line
    run_file: Path,
    out: Path,
    trainer: str | None,
    num_processes: int,
    launched: bool,
    resume: bool,
    changes: tuple[str, ...],
    spec_dirs: tuple[Path, ...],
    as_json: bool,
) -> int:
    """Pre-finetune on a mixture, or fine-tune on one task or a suite of them.

    RUN.yaml names the data (what `build` wrote), the encoder, the mixture or task and the settings.
    DIR/model receives the encoder in Hugging Face format and every head; DIR/metrics.jsonl the log.
    A finetune plan (several targets, seeds, settings) is run as by `muppet-zoo finetune`.
    """
    from muppet_zoo.cli.finetune import run_plan
    from muppet_zoo.console import note, print_json, print_table
    from muppet_zoo.errors import UsageError
    from muppet_zoo.results import overlap_note, report_rows
    from muppet_zoo.run import is_plan, read_run
    from muppet_zoo.trainer_api import TrainRequest, load_trainer, tasks_of
    from muppet_zoo.zoo import load_zoo

    if is_plan(run_file):
        if trainer is not None or num_processes > 1 or launched or resume or changes:
            raise UsageError(
                f"{run_file} is a finetune plan, which goes on by itself and holds all settings: "
                f"leave --trainer, --num-processes, --launched, --resume and --set out"
            )
        return run_plan(run_file, out, spec_dirs, as_json=as_json)
    if launched and num_processes > 1:
        raise UsageError("--launched: the launcher starts the processes; leave --num-processes out")
    if trainer is not None:
        changes = (*changes, f"trainer={trainer}")
    run = read_run(run_file, changes)
    tasks, rates = tasks_of(run, load_zoo(spec_dirs))
    reports = load_trainer(run.trainer).train(
        TrainRequest(
            run=run,
            tasks=tasks,
            rates=rates,
            out=out,
            resume=resume,
            num_processes=num_processes,
            launched=launched,
            spec_dirs=spec_dirs,
        )
    )
    if reports is None:
        return 0  # the first process prints the scores
    rows = report_rows(reports)
    if not rows:
        note(_not_scored(run, out, spec_dirs))
    if as_json:
        print_json(rows)
    elif rows:
        print_table(f"scores of {out / 'model'}", rows, notes=overlap_note(reports))
    return 0


def _not_scored(run: Run, out: Path, spec_dirs: tuple[Path, ...]) -> str:
    """Why there are no scores after the last step, and the command that makes them."""
    import shlex

    from muppet_zoo.samples import HELD_OUT

    split = run.evaluation.split
    role = [] if split == HELD_OUT else ["--split", split]  # which `eval` cannot draw again
    specs = [part for folder in spec_dirs for part in ("--specs", str(folder))]
    command = shlex.join(["muppet-zoo", "eval", str(out), "--data", str(run.data), *role, *specs])
    if not run.evaluation.at_end:
        return (
            f"{out / 'model'} is not scored, since evaluation.at_end is false; score it with: "
            f"{command}"
        )
    return (
        f"{out / 'model'} is not scored, since no {split} split of its tasks is built; build it, "
        f"then score with: {command}"
    )
