"""Plain PyTorch loops: the least that a step must do, and what is written first."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from muppet_zoo_torch.plan import Plan
from torch import Tensor, nn

from benchmarks.speed.training.inputs import LEARNING_RATE, ROWS_PER_STEP, Example, Inputs
from muppet_zoo.collate import MicroBatch, collate

Batch = tuple[Tensor, Tensor | None, Tensor, Tensor]  # ids, mask, tasks, labels


class MultiHead(nn.Module):
    """An encoder of transformers, mean pooling, and a linear head a task."""

    def __init__(self, inputs: Inputs, num_labels: Sequence[int]) -> None:
        from transformers import AutoModel

        super().__init__()
        self.encoder = AutoModel.from_pretrained(inputs.encoder, add_pooling_layer=False)
        hidden = self.encoder.config.hidden_size
        self.dropout = nn.Dropout(0.1)
        self.heads = nn.ModuleList(nn.Linear(hidden, labels) for labels in num_labels)

    def loss(self, ids: Tensor, mask: Tensor | None, tasks: Tensor, labels: Tensor) -> Tensor:
        """The mean over the batch of losses divided by the log of the number of labels."""
        states = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        if mask is None:
            pooled = states.mean(1)
        else:
            pooled = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        pooled = self.dropout(pooled)
        total: Tensor = pooled.new_zeros(())
        for task in sorted(set(tasks.tolist())):
            mine = tasks == task
            logits = self.heads[task](pooled[mine])
            losses = nn.functional.cross_entropy(logits, labels[mine], reduction="sum")
            total = total + losses / np.log(logits.shape[-1])
        return total / len(labels)


def padded(rows: Sequence[Example], pad_id: int = 0) -> Batch:
    """Rows as tensors, filled up to the longest."""
    longest = max(len(row.ids) for row in rows)
    ids = torch.full((len(rows), longest), pad_id)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, : len(row.ids)] = torch.tensor(row.ids)
        mask[i, : len(row.ids)] = 1
    return (
        ids,
        mask,
        torch.tensor([row.task for row in rows]),
        torch.tensor([row.label for row in rows]),
    )


def limit(inputs: Inputs) -> Callable[[int], int]:
    """One task, rows of equal length without a mask, made beforehand; AdamW in one kernel.

    As many tokens a step as ours on average. Returns what takes steps and says how many tokens.
    """
    torch.manual_seed(0)
    model, length = MultiHead(inputs, [2]), round(inputs.mean_length)
    ids = torch.randint(1000, 20_000, (ROWS_PER_STEP, length))
    labels, tasks = torch.randint(0, 2, (ROWS_PER_STEP,)), torch.zeros(ROWS_PER_STEP).long()
    return _stepper(model, ((ids, None, tasks, labels) for _ in iter(int, 1)), fused=True)


def same_micro_batches(inputs: Inputs, plan: Plan, number: int = 64) -> Callable[[int], int]:
    """The first micro-batches of a run of ours, made beforehand, again and again; AdamW fused.

    What is between this and the limit is the price of unequal lengths and of padding; what is
    between ours and this, the price of our own code.
    """
    torch.manual_seed(0)
    steps = itertools.islice(plan.batcher.steps(), number)
    batches = [bare_batch(collate(step.micro_batches[0], plan.pool, 0)) for step in steps]
    model = MultiHead(inputs, inputs.num_labels)
    return _stepper(model, itertools.cycle(batches), fused=True)


def bare_batch(batch: MicroBatch) -> Batch:
    """All examples are of one sequence and one head type."""
    [rows] = batch.groups.values()
    order = rows.sequences[:, 0]
    return (
        torch.from_numpy(batch.input_ids[order]),
        torch.from_numpy(batch.attention_mask[order]).long(),
        torch.from_numpy(rows.tasks).long(),
        torch.from_numpy(rows.target).long(),
    )


def naive_mixed(inputs: Inputs) -> Callable[[int], int]:
    """Rows of all tasks at random, filled up to the longest of the step; torch's AdamW as it is."""
    torch.manual_seed(0)
    return _stepper(MultiHead(inputs, inputs.num_labels), _random(inputs.examples()), fused=None)


def _random(examples: Sequence[Example]) -> Iterator[Batch]:
    random = np.random.default_rng(0)
    while True:
        order = random.permutation(len(examples))
        for at in range(0, len(order) - ROWS_PER_STEP + 1, ROWS_PER_STEP):
            yield padded([examples[i] for i in order[at : at + ROWS_PER_STEP]])


def _stepper(
    model: MultiHead, batches: Iterator[Batch], *, fused: bool | None
) -> Callable[[int], int]:
    optimizer: Any = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, fused=fused)
    model.train()

    def steps(count: int) -> int:
        num_tokens = 0
        for _ in range(count):
            ids, mask, tasks, labels = next(batches)
            loss: Any = model.loss(ids, mask, tasks, labels)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            num_tokens += ids.numel() if mask is None else int(mask.sum())
        return num_tokens

    return steps
