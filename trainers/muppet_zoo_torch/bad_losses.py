"""Losses that are NaN or infinite: found on every process alike, and named down to the source row.

One such example would spoil every parameter. Whether a step has one is decided by all processes
together, since a process that stopped or skipped alone would leave the others waiting for it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from muppet_zoo.collate import MicroBatch
from muppet_zoo.console import plural
from muppet_zoo_torch.engine import Engine
from muppet_zoo_torch.plan import Plan

_MOST_LISTED = 10  # rows of a task


def bad_examples(
    engine: Engine, plan: Plan, seen: Sequence[tuple[MicroBatch, Tensor]]
) -> dict[str, list[int]]:
    """Source rows by task of a step's examples whose loss is not finite; called on every process.

    `seen` is what this process ran: micro-batches and their losses, (examples,) each. Where all
    losses are finite, processes exchange one number and nothing else.
    """
    num_bad = torch.zeros((), dtype=torch.float64, device=engine.device)
    for _, losses in seen:
        num_bad += (~torch.isfinite(losses)).sum()
    if not engine.sum(num_bad).item():
        return {}
    mine = [pair for batch, losses in seen for pair in _bad_records(batch, losses)]
    rows = [(plan.specs[task].name, _source_row(plan, task, record)) for task, record in mine]
    found: dict[str, list[int]] = {}
    for name, row in sorted(pair for part in engine.gather(rows) for pair in part):
        found.setdefault(name, []).append(row)
    return found


def described(bad: dict[str, list[int]]) -> str:
    """`the loss of 3 examples is not finite: task qs_topic, rows 5, 17; task …`."""
    tasks = []
    for name, rows in bad.items():
        listed = ", ".join(map(str, rows[:_MOST_LISTED])) + ", …" * (len(rows) > _MOST_LISTED)
        tasks.append(f"task {name}, train row{'s' * (len(rows) > 1)} {listed}")
    count = sum(map(len, bad.values()))
    return f"the loss of {plural(count, 'example')} is not finite: {'; '.join(tasks)}"


def _bad_records(batch: MicroBatch, losses: Tensor) -> list[tuple[int, int]]:
    """(task, record) of each; losses are in the order of the groups."""
    tasks = np.concatenate([rows.tasks for rows in batch.groups.values()])
    records = np.concatenate([rows.rows for rows in batch.groups.values()])
    bad = ~torch.isfinite(losses).cpu().numpy()
    return list(zip(tasks[bad].tolist(), records[bad].tolist(), strict=True))


def _source_row(plan: Plan, task: int, record: int) -> int:
    [row] = plan.train[task].column("row", np.array([record]))
    return int(row)
