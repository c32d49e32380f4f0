"""muppet-zoo's micro-batches: order, token budget, length buckets, padding.

python -m benchmarks.speed.contenders.our_feed BUILT TOKENS_PER_BATCH NUM_TOKENS [PROCESSES]

With PROCESSES it is the share of the first of so many, in steps of at least a micro-batch for each.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.speed.contenders.feeding import PADDING_ID, Batch, say
from muppet_zoo.batches import Batcher, Batching
from muppet_zoo.collate import collate
from muppet_zoo.mixture import Rates
from muppet_zoo.order import Order, quotas
from muppet_zoo.row_pool import RowPool
from muppet_zoo.shards import open_task


def feed(built: Path, tokens_per_batch: int, num_processes: int = 1) -> Iterator[Batch]:
    """The first process's share of one epoch of all tasks in a build folder."""
    names = sorted(manifest.parent.parent.name for manifest in built.glob("*/train/manifest.json"))
    datas = [open_task(built, name, "train") for name in names]
    pool = RowPool(datas)
    sizes = [len(data.lengths) for data in datas]
    batcher = Batcher(
        order=Order(seed=1, task_sizes=tuple(sizes), quotas=quotas(sizes, Rates())),
        datas=datas,
        batching=Batching(
            tokens_per_micro_batch=tokens_per_batch, micro_batches_per_step=max(4, num_processes)
        ),
    )
    for step in batcher.steps(stop_after_examples=batcher.num_examples(1)):
        for plan in filter(None, step.for_rank(0, num_processes)):
            batch = collate(plan, pool, PADDING_ID)
            yield batch.input_ids, batch.attention_mask, plan.tasks.astype(np.int64)


if __name__ == "__main__":
    built, (tokens_per_batch, num_tokens, *processes) = Path(sys.argv[1]), map(int, sys.argv[2:])
    say(lambda: feed(built, tokens_per_batch, *processes), num_tokens)
