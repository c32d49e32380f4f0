"""DeepSpeed on one process against the plain trainer, and two processes against one.

    python -m benchmarks.speed.training.processes --mirror DIR [--rounds N] [--micro-batches N]

Whole runs of `muppet-zoo train`, as many micro-batches a step as a run file has by default; tokens
per second are those of the run's own log, after the first steps. With --micro-batches 2, one for
each of two processes, the smallest step there is: rows of their own.
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
DEFAULT_MICRO_BATCHES = 4  # muppet_zoo/schemas/run.schema.json
MICRO_BATCHES = 24  # of a run
TRIED = (
    "Two processes are {times:.2f} times as fast as DeepSpeed on one process with two threads, in "
    "the same run. Summing the gradients of 23 million parameters takes 0.15 s a step, and each "
    "process waits for the slower."
)
RUNS = {  # trainer, processes, threads of each
    "torch": ("torch", 1, 2),
    "DeepSpeed": ("deepspeed", 1, 2),
    "DeepSpeed, 2 processes": ("deepspeed", 2, 1),
}


@click.command()
@click.option("--mirror", required=True, type=click.Path(path_type=Path, exists=True))
@rounds_option(5)
@click.option("--micro-batches", default=DEFAULT_MICRO_BATCHES, show_default=True, help="A step.")
def main(mirror: Path, rounds: int, micro_batches: int) -> None:
    """Measure, and store two rows."""
    rates = interleave(
        {name: partial(run_rate, mirror, *how, micro_batches) for name, how in RUNS.items()},
        rounds=rounds,
        warm_up=0,
    )
    usual = micro_batches == DEFAULT_MICRO_BATCHES
    for name, what, over, least, tried in (
        ("deepspeed_one_process", "training with DeepSpeed, ZeRO 0, one process, two threads",
         "DeepSpeed", 1 / 1.05, ""),
        ("processes_two", "training on two processes of one thread",
         "DeepSpeed, 2 processes", 0.95, TRIED),
    ):  # fmt: skip
        write_row(
            Row(
                name=name if usual else f"{name}_{micro_batches}_micro_batches",
                topic="deepspeed" if over == "DeepSpeed" else "processes",
                what=what if usual else f"{what}, {micro_batches} micro-batches a step",
                against="the plain trainer, one process, two threads",
                goal=Goal(at_least=least, unit="x"),
                figure=ratio(rates, over=over, under="torch"),
                command=COMMAND if usual else f"{COMMAND} --micro-batches {micro_batches}",
                measured=medians({key: rates[key] for key in (over, "torch")}, "tokens/s"),
                tried=tried.format(times=ratio(rates, over=over, under="DeepSpeed").median),
            )
        )


def run_rate(
    mirror: Path,
    trainer: str,
    processes: int,
    threads: int,
    micro_batches: int = DEFAULT_MICRO_BATCHES,
) -> float:
    """Tokens per second over the second half of a run's steps."""
    steps = MICRO_BATCHES // micro_batches
    settings = run_settings(make_inputs(mirror))
    settings["batching"] |= {"micro_batches_per_step": micro_batches}
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
