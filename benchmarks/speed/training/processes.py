"""DeepSpeed on one process against the plain trainer, and two processes against one.

    python -m benchmarks.speed.training.processes --mirror DIR [--rounds N] [--steps N]

Whole runs of `muppet-zoo train`, as many micro-batches a step as a run file has by default; tokens
per second are those of the run's own log, after the first steps.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import yaml

from benchmarks.common import run_cli
from benchmarks.speed.record import Goal, Row, interleave, medians, ratio, rounds_option, write_row
from benchmarks.speed.training.inputs import SPECS, make_inputs, run_settings

COMMAND = "python -m benchmarks.speed.training.processes --mirror DIR"
STEPS = 6
TRIED = (
    "Two processes are {times:.2f} times as fast as DeepSpeed on one process with two threads, in "
    "the same run. With one micro-batch a process and step they were 0.84 times the plain trainer "
    "(middle half 0.83 to 0.88 of five rounds): summing the gradients of 23 million parameters "
    "takes 0.15 s a step, and each waits for the slower. Done: DeepSpeed on one process copies no "
    "gradients to and fro any more (3 % of a step of two micro-batches)."
)
RUNS = {  # trainer, processes, threads of each
    "torch": ("torch", 1, 2),
    "DeepSpeed": ("deepspeed", 1, 2),
    "DeepSpeed, 2 processes": ("deepspeed", 2, 1),
}


@click.command()
@click.option("--mirror", required=True, type=click.Path(path_type=Path, exists=True))
@rounds_option(5)
@click.option("--steps", default=STEPS, show_default=True, help="Half of them count.")
def main(mirror: Path, rounds: int, steps: int) -> None:
    """Measure, and store two rows."""
    rates = interleave(
        {name: partial(run_rate, mirror, *how, steps=steps) for name, how in RUNS.items()},
        rounds=rounds,
        warm_up=0,
    )
    for name, what, over, under, goal in (
        ("deepspeed_one_process", "training with DeepSpeed, ZeRO 0, one process, two threads",
         "DeepSpeed", "torch", Goal(at_least=1 / 1.05, unit="x")),
        ("processes_two", "training on two processes of one thread",
         "DeepSpeed, 2 processes", "torch", Goal(at_least=0.95, unit="x")),
    ):  # fmt: skip
        write_row(
            Row(
                name=name,
                topic="deepspeed" if over == "DeepSpeed" else "processes",
                what=what,
                against="the plain trainer, one process, two threads",
                goal=goal,
                figure=ratio(rates, over=over, under=under),
                command=COMMAND,
                measured=medians({key: rates[key] for key in (over, under)}, "tokens/s"),
                tried=TRIED.format(times=ratio(rates, over=over, under="DeepSpeed").median)
                if over == "DeepSpeed, 2 processes"
                else "",
            )
        )


def run_rate(mirror: Path, trainer: str, processes: int, threads: int, steps: int = STEPS) -> float:
    """Tokens per second over the second half of a run's steps."""
    settings = run_settings(make_inputs(mirror))
    del settings["batching"]["micro_batches_per_step"]
    settings |= {"schedule": {"steps": steps}, "logging": {"every_steps": steps // 2}}
    with TemporaryDirectory() as folder:
        run, out = Path(folder) / "run.yaml", Path(folder) / "out"
        run.write_text(yaml.safe_dump(settings, sort_keys=False), "utf-8")
        run_cli(
            "train", run, "--trainer", trainer, "--num-processes", str(processes),
            "--specs", SPECS, "--out", out,
            environment={"OMP_NUM_THREADS": str(threads)},
        )  # fmt: skip
        *_, last = (out / "metrics.jsonl").read_text("utf-8").splitlines()
    return float(json.loads(last)["tokens_per_s"])


if __name__ == "__main__":
    main()
