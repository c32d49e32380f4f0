"""Padding of the twelve real tasks, mixed, against batches of transformers, as a row of the table.

    python -m benchmarks.speed.padding --mirror DIR

All batch the same training examples and are judged by lengths alone: padding as a share of all
positions, over one epoch. Batches of transformers hold 32
examples; a micro-batch of ours fills a token budget.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from torch import Generator
from transformers.trainer_pt_utils import get_length_grouped_indices

from benchmarks.speed.inputs import MAX_TOKENS, TASKS, WORK, check_mirror, encoder_folder
from benchmarks.speed.record import Goal, Row, Spread, write_row
from muppet_zoo.batches import Batcher, Batching
from muppet_zoo.build import BuildOptions, build
from muppet_zoo.encode import open_tokenizer
from muppet_zoo.mixture import Rates
from muppet_zoo.order import Order, quotas
from muppet_zoo.shards import BuiltSplit, open_task
from muppet_zoo.zoo import load_zoo

EXAMPLES = 32
Arrays = tuple[NDArray[np.int64], NDArray[np.int64]]


@click.command()
@click.option("--mirror", required=True, type=click.Path(path_type=Path, exists=True))
def main(mirror: Path) -> None:
    """Count, and store the row."""
    check_mirror(mirror)
    zoo, out = load_zoo(), WORK / "padding"
    report = build(
        [zoo.task(name) for name in TASKS],
        tokenizer=open_tokenizer(str(encoder_folder())),
        out=out,
        options=BuildOptions(mirror=mirror, max_tokens=MAX_TOKENS),
    )
    if report.errors:
        raise click.ClickException(str(report.errors[0]))
    datas = [open_task(out, name, "train") for name in TASKS]
    lengths = np.concatenate([data.lengths for data in datas]).astype(np.int64)
    counts = np.concatenate([data.num_sequences for data in datas]).astype(np.int64)
    grouped = get_length_grouped_indices(
        lengths.tolist(), EXAMPLES, generator=Generator().manual_seed(1)
    )
    random = np.random.default_rng(1).permutation(len(lengths))
    ours = _ours(datas)
    write_row(
        Row(
            name="padding",
            topic="padding",
            what="padding, twelve real tasks mixed in a micro-batch",
            against="",
            goal=Goal(at_most=5.0, unit="%"),
            figure=Spread.once(ours),
            command="python -m benchmarks.speed.padding --mirror DIR",
            measured={
                "transformers, random [%]": _padding(lengths, counts, np.array(random)),
                "transformers, grouped by length [%]": _padding(lengths, counts, np.array(grouped)),
                "tasknet [%]": _tasknet(datas),
            },
            notes=(
                "Grouping by length of transformers, over all tasks together, pads least. tasknet "
                "takes random rows of one task. Options of an example are taken to be as long as "
                "its longest, for all alike."
            ),
        )
    )


def _ours(datas: list[BuiltSplit]) -> float:
    sizes = [len(data.lengths) for data in datas]
    order = Order(seed=1, task_sizes=tuple(sizes), quotas=quotas(sizes, Rates()))
    batcher = Batcher(order=order, datas=datas, batching=Batching())
    batches: list[Arrays] = []
    for step in batcher.steps(stop_after_examples=batcher.num_examples(1)):
        for plan in step.micro_batches:
            counts = [
                datas[task].num_sequences[row]
                for task, row in zip(plan.tasks.tolist(), plan.rows.tolist(), strict=True)
            ]
            batches.append((plan.lengths.astype(np.int64), np.array(counts, dtype=np.int64)))
    return _percent(batches)


def _tasknet(datas: list[BuiltSplit]) -> float:
    """Random rows of one task, fewer where they have options, cut to the longest of the batch.

    Source: `get_single_train_dataloader`, `task_batch_size` and `batch_unpad` of tasknet 1.60.
    """
    random = np.random.default_rng(1)
    batches: list[Arrays] = []
    for data in datas:
        counts = data.num_sequences.astype(np.int64)
        each = max(1, EXAMPLES // int(counts.max()))
        order = random.permutation(len(counts))
        parts = (order[at : at + each] for at in range(0, len(order), each))
        batches += [(data.lengths[part].astype(np.int64), counts[part]) for part in parts]
    return _percent(batches)


def _padding(
    lengths: NDArray[np.int64], counts: NDArray[np.int64], order: NDArray[np.int64]
) -> float:
    """Padding of batches of `EXAMPLES` examples in this order, in percent."""
    parts = [order[at : at + EXAMPLES] for at in range(0, len(order), EXAMPLES)]
    return _percent((lengths[part], counts[part]) for part in parts)


def _percent(batches: Iterable[Arrays]) -> float:
    tokens = positions = 0
    for lengths, counts in batches:
        tokens += int((lengths * counts).sum())
        positions += int(lengths.max() * counts.sum())
    return 100 * (positions - tokens) / positions


if __name__ == "__main__":
    main()
