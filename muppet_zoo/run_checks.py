"""What cannot go together in a run, found from its settings alone, before any data is opened.

A schema looks at one key at a time; these rules look at several, and at what is installed.
`finetune` asks before its first cell: what no cell can have is no cell's failure.
"""

from __future__ import annotations

import math
from importlib.util import find_spec

from muppet_zoo.errors import MissingExtraError, UsageError
from muppet_zoo.run import Run


def check_settings(run: Run) -> None:
    """Refuse a run that no data could mend.

    Raises:
        UsageError: settings that do not go together, or a tracker that is not installed.
    """
    check_precision(run.precision, run.trainer)
    check_trackers(run)
    check_schedule(run, run.schedule.steps)


def check_precision(precision: str, trainer: str) -> None:
    """Refuse half precision where it cannot be had.

    Raises:
        UsageError: fp16 with the trainer deepspeed.
    """
    if precision == "fp16" and trainer == "deepspeed":
        raise UsageError(
            "precision: fp16 runs with trainer: torch alone, since DeepSpeed's would round the "
            "parameters too; set precision: bf16, or trainer: torch"
        )


def check_trackers(run: Run) -> None:
    """Say at once what is not installed, not after the model was loaded.

    Raises:
        MissingExtraError: the library of a tracker that the run asks for.
    """
    for name in run.trackers:
        if find_spec(name) is None:
            raise MissingExtraError(name, name)


def check_schedule(run: Run, num_steps: int | None) -> None:
    """Refuse a course of the run that its length or its other settings make impossible.

    num_steps: None where only the data says how many they are.

    Raises:
        UsageError: saying which keys do not go together.
    """
    if num_steps is not None and (run.schedule.warmup_steps or 0) > num_steps:
        raise UsageError(
            f"schedule.warmup_steps: {run.schedule.warmup_steps}, but the run has {num_steps} steps"
        )
    if run.schedule.power != 1.0 and run.schedule.decay != "polynomial":
        raise UsageError(
            f"schedule.power: {run.schedule.power:g} has no effect with decay: "
            f"{run.schedule.decay}; set schedule.decay: polynomial, or leave power out"
        )
    if not run.checkpointing.keep_best:
        return
    if run.evaluation.every_steps is None:
        raise UsageError(
            "checkpointing.keep_best needs scores of several checkpoints; set "
            "evaluation.every_steps, best to checkpointing.every_steps"
        )
    met = math.lcm(run.evaluation.every_steps, run.checkpointing.every_steps)
    if num_steps is not None and met > num_steps:
        raise UsageError(
            f"checkpointing.keep_best: no checkpoint of every {run.checkpointing.every_steps} "
            f"steps is scored with evaluation.every_steps: {run.evaluation.every_steps} before "
            f"step {met}, and the run has {num_steps}; make one a multiple of the other"
        )
