"""transformers.Trainer with a head a task: one task a batch, as its users write it.

grouped: rows of a batch are of one task and of like length (transformers' own grouping); else they
are of one task in random order. Either way the order of batches is random over tasks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Sampler
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_pt_utils import get_length_grouped_indices

from benchmarks.speed.training.bare_loops import MultiHead, padded
from benchmarks.speed.training.inputs import LEARNING_RATE, ROWS_PER_STEP, Example, Inputs

SKIPPED = 2  # steps that only warm up: Trainer prepares itself in every call


class _Model(MultiHead):
    """What Trainer calls: keywords in, a dict with the loss out."""

    def forward(self, ids: Any, mask: Any, tasks: Any, labels: Any) -> dict[str, Any]:
        return {"loss": self.loss(ids, mask, tasks, labels)}


class _OneTaskBatches(Sampler[list[int]]):
    """Batches of row numbers, each of one task, in random order."""

    def __init__(self, examples: list[Example], seed: int, *, grouped: bool) -> None:
        self.batches: list[list[int]] = []
        random = np.random.default_rng(seed)
        for task in sorted({row.task for row in examples}):
            rows = np.array([i for i, row in enumerate(examples) if row.task == task])
            if grouped:
                order = get_length_grouped_indices(
                    [len(examples[i].ids) for i in rows],
                    ROWS_PER_STEP,
                    generator=torch.Generator().manual_seed(seed),
                )
            else:
                order = random.permutation(len(rows)).tolist()
            rows = rows[order]
            for at in range(0, len(rows), ROWS_PER_STEP):
                self.batches.append(rows[at : at + ROWS_PER_STEP].tolist())
        random.shuffle(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class _Clock(TrainerCallback):
    """When the steps that count began and ended."""

    started = ended = 0.0

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        if state.global_step == SKIPPED:
            self.started = time.perf_counter()
        self.ended = time.perf_counter()


class _MultiTaskTrainer(Trainer):
    """Trainer whose loader takes whole batches from a sampler."""

    batches: _OneTaskBatches
    num_tokens: list[int]

    def get_train_dataloader(self) -> Any:
        return torch.utils.data.DataLoader(
            self.train_dataset, batch_sampler=self.batches, collate_fn=_collated
        )

    def compute_loss(self, model: Any, inputs: Any, *others: Any, **named: Any) -> Any:
        self.num_tokens.append(int(inputs["mask"].sum()))
        return super().compute_loss(model, inputs, *others, **named)


def _collated(rows: list[Example]) -> dict[str, Any]:
    return dict(zip(("ids", "mask", "tasks", "labels"), padded(rows), strict=True))


def hf_trainer(inputs: Inputs, out: Path, *, grouped: bool) -> Callable[[int], float]:
    """What takes steps and returns tokens per second of those that count."""
    torch.manual_seed(0)
    model, examples = _Model(inputs, inputs.num_labels), inputs.examples()
    seeds = iter(range(10_000))

    def rate(count: int) -> float:
        clock = _Clock()
        trainer = _MultiTaskTrainer(
            model=model,
            args=TrainingArguments(
                output_dir=str(out),
                max_steps=count + SKIPPED,
                learning_rate=LEARNING_RATE,
                per_device_train_batch_size=ROWS_PER_STEP,
                save_strategy="no",
                report_to=[],
                disable_tqdm=True,
                use_cpu=True,
                remove_unused_columns=False,
                logging_strategy="no",
            ),
            train_dataset=examples,
            callbacks=[clock],
        )
        trainer.batches = _OneTaskBatches(examples, next(seeds), grouped=grouped)
        trainer.num_tokens = []
        trainer.train()
        return sum(trainer.num_tokens[SKIPPED:]) / (clock.ended - clock.started)

    return rate
