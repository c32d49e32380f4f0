"""Tokens per second of a training step: ours, the limit, and what people would write instead.

    python -m benchmarks.speed.training.step --mirror DIR [--rounds N] [--steps N]

MiniLM, ten real classification tasks, fp32, dropout on, AdamW with clipping, about as many tokens
in every step. Tokens are those of texts, padding is not counted. tasknet takes part where its
environment is (make bench-peers).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import click
from muppet_zoo_torch import loop
from muppet_zoo_torch.engine import Engine
from muppet_zoo_torch.plan import Plan

from benchmarks.speed.peers import asked, is_installed, python_of, versions_of
from benchmarks.speed.record import Goal, Row, interleave, medians, ratio, rounds_option, write_row
from benchmarks.speed.training.bare_loops import limit, naive_mixed, same_micro_batches
from benchmarks.speed.training.hf_trainer import hf_trainer
from benchmarks.speed.training.inputs import (
    ROWS_PER_STEP,
    Inputs,
    engine_of,
    make_inputs,
    run_settings,
)
from muppet_zoo.console import note

COMMAND = "python -m benchmarks.speed.training.step --mirror DIR"
RIVALS = {
    "limit": (
        "a bare loop on one task of equal lengths, all made beforehand",
        Goal(at_least=0.95, unit="x"),
    ),
    "same micro-batches": (
        "a bare loop over the same micro-batches, made beforehand",
        Goal(unit="x"),
    ),
    "Trainer, grouped by length": (
        "transformers.Trainer, one head a task, one task and like lengths in a batch",
        Goal(at_least=1.15, unit="x"),
    ),
    "Trainer": (
        "transformers.Trainer, one head a task, one task in a batch",
        Goal(unit="x"),
    ),
    "tasknet": (
        "tasknet's Trainer, one task in a batch",
        Goal(at_least=1.8, unit="x"),
    ),
    "naive mixed": (
        "a plain loop over random rows of all tasks, padded to the longest",
        Goal(at_least=3.0, unit="x"),
    ),
}

NOTES = (
    "On a CPU that is not Intel's, as this one, torch draws dropout's masks one number at a time, "
    "which is an eighth of a step of the loop on one task; ours come four from a word and on all "
    "threads (trainers/muppet_zoo_torch/dropout.py), those of all others are torch's. AdamW is in "
    "one kernel in all but the naive loop."
)

# Why a goal is missed; `times` is how many times as fast as it the limit is, in the same run.
TRIED = {
    "limit": (
        "A bare loop over the very same micro-batches, made beforehand, is {same:.3f} times as "
        "fast as ours. Lengths that differ cost a few percent: long rows take more than their "
        "share in attention, and 1 % of the cells is padding."
    ),
    "Trainer, grouped by length": (
        "The limit itself is {times:.2f} times this peer, which takes the fused AdamW too and, "
        "sorted by length, pads as little. Its batches have one task, ours mix ten."
    ),
    "tasknet": (
        "The limit itself is {times:.2f} times this peer, whose Trainer has taken the fused AdamW "
        "since transformers 5; its batches are of one task, padded to their longest row."
    ),
}


@click.command()
@click.option("--mirror", required=True, type=click.Path(path_type=Path, exists=True))
@rounds_option(5)
@click.option("--steps", default=6, show_default=True, help="Optimizer steps in a round.")
def main(mirror: Path, rounds: int, steps: int) -> None:
    """Measure, and store a row for each rival."""
    inputs = make_inputs(mirror)
    with TemporaryDirectory() as folder:
        out = Path(folder)
        engine, plan = engine_of(run_settings(inputs), out)
        grouped = hf_trainer(inputs, out / "grouped", grouped=True)
        random = hf_trainer(inputs, out / "random", grouped=False)
        contenders: dict[str, Callable[[], float]] = {
            "muppet-zoo": _timed(ours(engine, plan), steps),
            "limit": _timed(limit(inputs), steps),
            "same micro-batches": _timed(same_micro_batches(inputs, plan), steps),
            "Trainer, grouped by length": lambda: grouped(steps),
            "Trainer": lambda: random(steps),
            "naive mixed": _timed(naive_mixed(inputs), steps),
        }
        with ExitStack() as stack:
            if is_installed("tasknet"):
                contenders["tasknet"] = stack.enter_context(tasknet(inputs, out, steps))
            else:
                note("without tasknet, whose environment is not there; make bench-peers makes it")
            rates = interleave(contenders, rounds=rounds)
    for name in contenders.keys() & RIVALS.keys():
        against, goal = RIVALS[name]
        same = ratio(rates, over="same micro-batches", under="muppet-zoo").median
        times = ratio(rates, over="limit", under=name).median
        write_row(
            Row(
                name=f"step_{name.lower().replace(', ', '_').replace(' ', '_')}",
                topic="step",
                what="training step, ten real tasks mixed in a micro-batch",
                against=against,
                goal=goal,
                figure=ratio(rates, over="muppet-zoo", under=name),
                command=COMMAND,
                measured=medians(
                    {key: rates[key] for key in ("muppet-zoo", name)}, "tokens/s without padding"
                ),
                tried=TRIED.get(name, "").format(same=same, times=times),
                peers=versions_of(name) if name == "tasknet" else {},
                notes=NOTES,
            )
        )


def ours(engine: Engine, plan: Plan) -> Callable[[int], int]:
    """Whole steps of the training loop: batching, reading shards, collating, logging sums."""
    numbered = zip(count(), plan.batcher.steps(), strict=False)

    def steps(number: int) -> int:
        tally = loop._new_tally(engine, plan)
        for _ in range(number):
            at, step = next(numbered)
            loop._train_step(engine, plan, at, step, tally)
        return int(tally.cells[0])

    return steps


@contextmanager
def tasknet(inputs: Inputs, out: Path, steps: int) -> Iterator[Callable[[], float]]:
    """The peer in a process of its own, which does nothing between its turns."""
    examples = out / "examples.jsonl"
    with examples.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(asdict(row)) + "\n" for row in inputs.examples())
    arguments = (python_of("tasknet"), "tasknet_step", examples, inputs.encoder, ROWS_PER_STEP)
    with asked(*arguments) as ask:
        yield lambda: float(ask(steps)["tokens_per_s"])


def _timed(steps: Callable[[int], int], number: int) -> Callable[[], float]:
    def rate() -> float:
        start = time.perf_counter()
        num_tokens = steps(number)
        return num_tokens / (time.perf_counter() - start)

    return rate


if __name__ == "__main__":
    main()
