"""What R3F and R4F cost: the same optimizer steps with and without, in turn, in one process.

    python -m benchmarks.r3f

The encoder has MiniLM's shape (6 layers, 384 hidden) and random weights, the rows are the
quickstart tasks. Each round runs every arm once on the same step, so that what else the machine
does falls on all arms alike. `times plain` is the median over rounds of the ratio within the round;
`all rounds` is the time of all of them through that of the plain ones, which rows of regression
pull down: they have no divergence, are not noised, and come in some steps and not in others. Both
passes carry gradient, so a step costs twice as much, less what is not done twice: the optimizer,
the gradient of the token table, the feed. How much that is depends on the vocabulary, so there are
two: that of the tokenizer, which a step reads, and MiniLM's, most of whose rows only the optimizer
touches.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import click
import torch
from muppet_zoo_torch.batch import to_tensors
from muppet_zoo_torch.dropout import fast_masks
from muppet_zoo_torch.engine import TorchEngine
from muppet_zoo_torch.evaluate import pad_id
from muppet_zoo_torch.optimizer import base_rates
from muppet_zoo_torch.plan import Plan, make_plan
from muppet_zoo_torch.r3f import noise_keys
from muppet_zoo_torch.trainer import make_model

from benchmarks.common import write_result
from benchmarks.speed.record import Goal, Row, medians, ratio, rounds_option, write_row
from muppet_zoo.batches import StepPlan
from muppet_zoo.build import BuildOptions, build
from muppet_zoo.collate import collate
from muppet_zoo.console import print_table, progress
from muppet_zoo.encode import open_tokenizer
from muppet_zoo.run import parse_run, with_defaults
from muppet_zoo.trainer_api import TrainRequest, tasks_of
from muppet_zoo.zoo import load_zoo, shipped_specs

TOKENIZER = shipped_specs() / "quickstart" / "tiny_encoder"
MINILM = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12,
          "intermediate_size": 1536}  # fmt: skip
VOCABULARIES = (229, 30522)  # of the tokenizer; of MiniLM
ARMS: dict[str, dict[str, Any] | None] = {
    "plain": None,
    "R3F, uniform": {},
    "R3F, normal": {"noise": "normal"},
    "R4F": {"spectral_norm": True},
}


@click.command()
@rounds_option(8)
def main(rounds: int) -> None:
    """Measure, print a table and write benchmarks/results/r3f.json."""
    rows = []
    for vocabulary in VOCABULARIES:
        with tempfile.TemporaryDirectory() as folder:
            arms = {name: _arm(Path(folder), each, vocabulary) for name, each in ARMS.items()}
            times = _measure(arms, rounds)
        rows += [_row(vocabulary, name, each, times["plain"]) for name, each in times.items()]
        if vocabulary == VOCABULARIES[-1]:
            _write_row(times)
    path = write_result("r3f", {"rounds": rounds, "encoder": MINILM, "arms": rows})
    print_table("one optimizer step", rows, notes=[f"written to {path.name}"])


def _arm(
    folder: Path, settings: dict[str, Any] | None, vocabulary: int
) -> tuple[TorchEngine, Plan]:
    encoder, data = folder / "encoder", folder / "data"
    if not encoder.is_dir():
        _make_inputs(encoder, data, vocabulary)
    raw: dict[str, Any] = {
        "run_version": 1,
        "data": str(data),
        "mixture": "quickstart",
        "model": {"encoder": str(encoder), "random_init": True},
        "schedule": {"steps": 1000},
        "batching": {"tokens_per_micro_batch": 2048, "micro_batches_per_step": 1},
    }
    run = parse_run(with_defaults(raw if settings is None else {**raw, "r3f": settings}))
    tasks, rates = tasks_of(run, load_zoo())
    plan = make_plan(TrainRequest(run=run, tasks=tasks, rates=rates, out=folder / "out"))
    model = make_model(plan)
    model.train()
    return TorchEngine(model, run, torch.device("cpu")), plan


def _make_inputs(encoder: Path, data: Path, vocabulary: int) -> None:
    """The quickstart tokenizer beside a larger configuration, and the shards."""
    encoder.mkdir()
    for file in TOKENIZER.iterdir():
        if file.suffix != ".safetensors":
            (encoder / file.name).write_bytes(file.read_bytes())
    config = encoder / "config.json"
    shape = {**MINILM, "vocab_size": vocabulary}
    config.write_text(json.dumps({**json.loads(config.read_text("utf-8")), **shape}))
    zoo = load_zoo()
    build(
        [zoo.task(name) for name in zoo.mixture("quickstart").tasks],
        tokenizer=open_tokenizer(str(TOKENIZER)),
        out=data,
        options=BuildOptions(max_tokens=64),
    )


def _measure(arms: dict[str, tuple[TorchEngine, Plan]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every arm in every round; the first two rounds warm up and do not count."""
    _, plan = arms["plain"]
    times: dict[str, list[float]] = {name: [] for name in arms}
    with progress() as display:
        line = display.start("measure", total=rounds + 2, unit="rounds")
        for step, step_plan in enumerate(islice(plan.batcher.steps(), rounds + 2)):
            for name, (engine, arm) in arms.items():
                start = time.perf_counter()
                _step(engine, arm, step, step_plan)
                times[name].append(time.perf_counter() - start)
            line.update(step + 1)
        line.finish()
    return {name: seconds[2:] for name, seconds in times.items()}


def _step(engine: TorchEngine, plan: Plan, step: int, step_plan: StepPlan) -> None:
    for i, micro_batch in enumerate(step_plan.micro_batches):
        batch = collate(micro_batch, plan.pool, pad_id(engine.model))
        tensors = to_tensors(batch, engine.device)
        if plan.run.r3f is not None:
            tensors = replace(tensors, noise_keys=noise_keys(batch, plan.run.seed, step))
        last = i + 1 == len(step_plan.micro_batches)
        with fast_masks():
            losses, _ = engine.forward(tensors)
            engine.backward(losses.sum() / step_plan.num_examples, last=last)
    engine.step(base_rates(engine.model, plan.run.optimizer))


def _row(vocabulary: int, name: str, seconds: list[float], plain: list[float]) -> dict[str, Any]:
    ratios = [a / b for a, b in zip(seconds, plain, strict=True)]
    return {
        "vocabulary": vocabulary,
        "arm": name,
        "median_s": round(statistics.median(seconds), 4),
        "times_plain": round(statistics.median(ratios), 3),
        "all_rounds": round(sum(seconds) / sum(plain), 3),
        "lowest": round(min(ratios), 3),
        "highest": round(max(ratios), 3),
    }


def _write_row(times: dict[str, list[float]]) -> None:
    arm = "R3F, uniform"
    shown = {name: times[name] for name in ("plain", arm)}
    write_row(
        Row(
            name="r3f",
            topic="r3f",
            what="training step with R3F, MiniLM's shape and vocabulary",
            against="the same step without",
            goal=Goal(at_most=1.95, unit="x"),
            figure=ratio(shown, over=arm, under="plain"),
            command="python -m benchmarks.r3f",
            measured=medians(shown, "s"),
            tried=(
                "One forward pass of twice the rows; AdamW, once a step, is a thirtieth of it, so "
                "there is little left to share. Four numbers of noise come from a 64-bit word, "
                "which made noise three times as fast (it was a twentieth of a plain step)."
            ),
        )
    )


if __name__ == "__main__":
    main()
