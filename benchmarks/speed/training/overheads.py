"""What many heads cost, what a checkpoint costs, and how fast evaluation is.

python -m benchmarks.speed.training.overheads --mirror DIR [--rounds N]
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np
import torch
from muppet_zoo_torch.batch import to_tensors
from muppet_zoo_torch.checkpoints import CheckpointRecord, save_checkpoint
from muppet_zoo_torch.dropout import fast_masks
from muppet_zoo_torch.engine import TorchEngine
from muppet_zoo_torch.evaluate import Scoring, evaluate_tasks
from muppet_zoo_torch.model import MultiTaskModel
from muppet_zoo_torch.optimizer import base_rates
from muppet_zoo_torch.plan import Plan
from muppet_zoo_torch.pretrained import load_encoder

from benchmarks.invented import invented, micro_batches
from benchmarks.speed.record import (
    Goal,
    Row,
    interleave,
    medians,
    ratio,
    rounds_option,
    seconds,
    write_row,
)
from benchmarks.speed.training.bare_loops import MultiHead, padded
from benchmarks.speed.training.inputs import (
    CPU,
    LEARNING_RATE,
    Example,
    Inputs,
    engine_of,
    make_inputs,
    run_settings,
)
from muppet_zoo.batches import Position, sample_examples
from muppet_zoo.collate import MicroBatch
from muppet_zoo.console import progress
from muppet_zoo.model_folder import HeadLayout, HeadSlot
from muppet_zoo.run import parse_run, with_defaults
from muppet_zoo.shards import open_task
from muppet_zoo.zoo import load_zoo

COMMAND = "python -m benchmarks.speed.training.overheads --mirror DIR"
NUM_HEADS, NUM_LABELS = 50, 3
STEPS = 10  # of a round
SCORED = (
    "ag_news",
    "cola",
    "rte",
    "scicite",
    "sst2",
    "tweet_eval_hate",
)  # that have labelled validation rows
SCORED_AT_MOST = 250
TOKENS = 2048


@click.command()
@click.option("--mirror", required=True, type=click.Path(path_type=Path, exists=True))
@rounds_option(5)
def main(mirror: Path, rounds: int) -> None:
    """Measure, and store three rows."""
    inputs = make_inputs(mirror)
    with TemporaryDirectory() as folder:
        _heads(inputs, 2 * rounds)  # two percent are to be told from nothing
        engine, plan = engine_of(run_settings(inputs), Path(folder) / "out")
        _checkpoint(engine, plan, rounds)
        _evaluation(engine, inputs, rounds)


def _heads(inputs: Inputs, rounds: int) -> None:
    batches = micro_batches(invented(4096, 128, 30_000), 1024, STEPS)
    rates = interleave(
        {
            "1 head": seconds(head_steps(inputs.encoder, batches, 1)),
            "50 heads": seconds(head_steps(inputs.encoder, batches, NUM_HEADS)),
        },
        rounds=rounds,
    )
    write_row(
        Row(
            name="heads_50",
            topic="heads",
            what="training step with 50 classification heads, each micro-batch of all of them",
            against="the same micro-batches with 1 head",
            goal=Goal(at_most=1.02, unit="x"),
            figure=ratio(rates, over="50 heads", under="1 head"),
            command=COMMAND,
            measured=medians(rates, f"s for {STEPS} steps"),
        )
    )


def head_steps(
    encoder_folder: Path, batches: Sequence[MicroBatch], num_heads: int
) -> Callable[[], None]:
    """What takes a step over each batch, whose rows are dealt out to the heads in turn."""
    slots = tuple(
        HeadSlot(
            task=f"task{i}",
            head="classification",
            level="sentence",
            start=i * NUM_LABELS,
            size=NUM_LABELS,
        )
        for i in range(num_heads)
    )
    layout = HeadLayout(
        slots=slots, num_sentence_columns=num_heads * NUM_LABELS, num_token_columns=0
    )
    torch.manual_seed(0)
    encoder = load_encoder(str(encoder_folder), random_init=False)
    model = MultiTaskModel(encoder, layout, pooling="mean", dropout=0.1)
    settings = with_defaults(
        {
            "data": "",
            "model": {"encoder": str(encoder_folder)},
            "optimizer": {"learning_rate": LEARNING_RATE, "gradient_clipping": 1.0},
            "schedule": {"steps": 1},
        }
    )
    run = parse_run(settings)
    engine = TorchEngine(model.train(), run, CPU)
    dealt = [to_tensors(_dealt(batch, num_heads), CPU) for batch in batches]
    learning_rates = base_rates(model, run.optimizer)

    def steps() -> None:
        for batch in dealt:
            with fast_masks():
                losses, _ = engine.forward(batch)
                engine.backward(losses.mean(), last=True)
            engine.step(learning_rates)

    return steps


def _dealt(batch: MicroBatch, num_heads: int) -> MicroBatch:
    [(head, rows)] = batch.groups.items()
    tasks = np.arange(len(rows.tasks), dtype=np.int32) % num_heads
    return replace(batch, groups={head: replace(rows, tasks=tasks)})


def _checkpoint(engine: TorchEngine, plan: Plan, rounds: int) -> None:
    """Training waits while a checkpoint is written, so its time is the stall."""
    losses, _ = engine.forward(to_tensors(micro_batch_of(plan), CPU))
    engine.backward(losses.mean(), last=True)
    engine.step(base_rates(engine.model, plan.run.optimizer))  # from here on there are moments
    bare = plan.out / "bare.pt"
    record = CheckpointRecord(
        step=1, num_updates=1, position=Position(), trainer="torch", world_size=1, zero_stage=0,
        data=plan.data_digest,
    )  # fmt: skip

    def torch_save() -> None:
        state = {
            "model": engine.full_state_dict(),
            "exp_avg": engine.full_moments("exp_avg"),
            "exp_avg_sq": engine.full_moments("exp_avg_sq"),
        }
        torch.save(state, bare)
        with bare.open("rb") as file:
            os.fsync(file.fileno())

    times = interleave(
        {
            "muppet-zoo": seconds(lambda: save_checkpoint(engine, plan, record)),
            "torch.save": seconds(torch_save),
        },
        rounds=rounds,
    )
    write_row(
        Row(
            name="checkpoint_stall",
            topic="checkpoint",
            what="training waits for a checkpoint: weights, moments, checksums, renamed when safe",
            against="torch.save of the same tensors, flushed to the disk",
            goal=Goal(at_most=1.3, unit="x"),
            figure=ratio(times, over="muppet-zoo", under="torch.save"),
            command=COMMAND,
            measured={
                **medians(times, "s"),
                "size [MB]": bare.stat().st_size / 1e6,
            },
            tried=(
                "Done: checksums are XXH3's in place of SHA-256's, for which training waited. How "
                "long a flush takes differs from one write to the next by more than the goal "
                "allows, as the middle half shows; an earlier run of the same code was within it."
            ),
        )
    )


def micro_batch_of(plan: Plan) -> MicroBatch:
    """The first micro-batch of a run."""
    from muppet_zoo.collate import collate

    return collate(next(plan.batcher.steps()).micro_batches[0], plan.pool, 0)


def _evaluation(engine: TorchEngine, inputs: Inputs, rounds: int) -> None:
    zoo = load_zoo()
    specs = [zoo.task(name) for name in SCORED]
    splits = {name: open_task(inputs.data, name, "validation") for name in SCORED}
    scoring = Scoring(
        split="validation",
        splits=splits,
        max_examples=SCORED_AT_MOST,
        tokens_per_micro_batch=TOKENS,
        step=0,
        seed=0,
        checkpoint="none",
    )
    examples = [
        [
            Example(task=0, ids=ids.tolist(), label=0)
            for row in sample_examples(split.num_examples, SCORED_AT_MOST).tolist()
            for ids in split.record(row).sequences
        ]
        for split in splits.values()
    ]
    total = sum(map(len, examples))

    def score() -> None:
        with progress() as display:
            evaluate_tasks(engine, specs, scoring, display)

    bare = seconds(_bare_forward(MultiHead(inputs, [2]).eval(), examples))
    ours = seconds(score)
    rates = interleave(
        {"muppet-zoo": lambda: total / ours(), "bare loop": lambda: total / bare()}, rounds=rounds
    )
    write_row(
        Row(
            name="evaluation",
            topic="evaluation",
            what="evaluation of six tasks: read, predict, decode, metrics",
            against="a bare forward loop over the same rows, read beforehand, sorted by length",
            goal=Goal(at_least=0.9, unit="x"),
            figure=ratio(rates, over="muppet-zoo", under="bare loop"),
            command=COMMAND,
            measured=medians(rates, "examples/s"),
            notes=f"{SCORED_AT_MOST} rows a task at most.",
        )
    )


def _bare_forward(model: MultiHead, examples: list[list[Example]]) -> Callable[[], Any]:
    """Batches of `TOKENS` cells with padding, as of ours, of one task after another."""

    def forward() -> list[Any]:
        answers = []
        with torch.no_grad():
            for rows in examples:
                ordered = sorted(rows, key=lambda row: len(row.ids))
                batch: list[Example] = []
                for row in ordered:
                    if batch and (len(batch) + 1) * len(row.ids) > TOKENS:
                        answers.append(_predicted(model, batch))
                        batch = []
                    batch.append(row)
                answers.append(_predicted(model, batch))
        return answers

    return forward


def _predicted(model: MultiHead, rows: list[Example]) -> list[int]:
    ids, mask, _, _ = padded(rows)
    assert mask is not None
    states = model.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
    pooled = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    answers: list[int] = model.heads[0](pooled).argmax(-1).tolist()
    return answers


if __name__ == "__main__":
    main()
