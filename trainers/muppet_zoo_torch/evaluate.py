"""Scores of a model on built splits: each row predicted once, kept in row order, then scored.

Every process predicts its part; under ZeRO 3 a forward pass needs all of them, so a process that
has no rows left repeats one of them and throws the result away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from muppet_zoo.batches import MicroBatch, MicroBatchPlan, collate, eval_plans, sample_examples
from muppet_zoo.console import ProgressDisplay
from muppet_zoo.errors import CheckpointError, ShardError, UnknownNameError
from muppet_zoo.metrics import score_all
from muppet_zoo.model_folder import ENCODER_FOLDER, HeadSlot, ModelFolder, find_model, lay_out
from muppet_zoo.overlap_record import ComparedSplit, rows_seen
from muppet_zoo.results import TaskReport
from muppet_zoo.shards import BuiltSplit
from muppet_zoo.spec import TaskSpec
from muppet_zoo.trainer_api import EvalRequest
from muppet_zoo_torch.batch import to_tensors
from muppet_zoo_torch.checks import check_data_fits
from muppet_zoo_torch.decode import check_labelled, decode, num_labels, of_example, references
from muppet_zoo_torch.engine import Engine
from muppet_zoo_torch.export import load_model
from muppet_zoo_torch.model import MultiTaskModel
from muppet_zoo_torch.plan import open_splits


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """What to score on, and what the reports say of the model and its training rows."""

    split: str
    splits: Mapping[str, BuiltSplit]
    max_examples: int | None
    tokens_per_micro_batch: int
    step: int
    seed: int
    checkpoint: str
    compared: Mapping[str, ComparedSplit] = field(default_factory=dict)


def evaluate_tasks(
    engine: Engine, specs: Sequence[TaskSpec], scoring: Scoring, display: ProgressDisplay
) -> list[TaskReport]:
    """One report per task that has the split, in the order of `specs`; called on every process."""
    reports = []
    engine.model.eval()
    line = display.start("evaluate", total=len(specs), unit="tasks")
    with torch.no_grad():
        for i, spec in enumerate(specs):
            if spec.name in scoring.splits:
                reports.append(_evaluate_task(engine, spec, scoring))
            line.update(i + 1, text=spec.name)
    line.finish()
    engine.model.train()
    return reports


def _evaluate_task(engine: Engine, spec: TaskSpec, scoring: Scoring) -> TaskReport:
    split = scoring.splits[spec.name]
    index = [slot.task for slot in engine.model.layout.slots].index(spec.name)
    slot = engine.model.layout.slots[index]
    examples = sample_examples(split.num_examples, scoring.max_examples)
    records = [np.arange(*split.example_starts[i : i + 2]) for i in examples]
    targets = references(split, slot, examples)
    if not (slot.no_answer or check_labelled(targets, slot.head)):
        raise ShardError(
            f"task {spec.name}, split {scoring.split}: its publisher keeps the labels, so it "
            f"cannot be scored here; use a split with labels"
        )
    # The plan numbers tasks as the model does; the other entries are never read.
    datas = [split] * len(engine.model.layout.slots)
    rows = np.concatenate(records)
    plans = list(eval_plans(split, scoring.tokens_per_micro_batch, task=index, rows=rows))
    mine: dict[int, Any] = {}
    for first in range(0, len(plans), engine.world_size):
        at = first + engine.rank
        plan = plans[min(at, len(plans) - 1)]
        predicted = _predict(engine, plan, datas, slot)
        if at < len(plans):
            mine.update(predicted)
    merged = {row: value for part in engine.gather(mine) for row, value in part.items()}
    predictions = [of_example([merged[row] for row in rows], slot) for rows in records]
    return TaskReport(
        task=spec.name,
        split=scoring.split,
        num_examples=len(examples),
        scores=score_all(
            spec.metrics, predictions, targets, num_labels=num_labels(split, slot, examples)
        ),
        headline=spec.metrics[0],
        step=scoring.step,
        seed=scoring.seed,
        checkpoint=scoring.checkpoint,
        fingerprint=split.manifest.fingerprint,
        overlap=rows_seen(scoring.compared, split.manifest),
    )


def _predict(
    engine: Engine, plan: MicroBatchPlan, datas: Sequence[BuiltSplit], slot: HeadSlot
) -> dict[int, Any]:
    batch: MicroBatch = collate(plan, datas, pad_id(engine.model))
    output: dict[str, Tensor] = engine.forward(to_tensors(batch, engine.device), predict=True)
    rows = batch.groups[slot.head].rows
    split = datas[0]
    return dict(
        zip(rows.tolist(), decode(slot.head, output[slot.head], rows, split, slot), strict=True)
    )


def pad_id(model: MultiTaskModel) -> int:
    """The id that fills short rows; RoBERTa's positions depend on it."""
    found = getattr(model.encoder.config, "pad_token_id", None)
    return int(found) if isinstance(found, int) else 0


class _InferenceEngine:
    """The part of an engine that evaluation uses, without an optimizer."""

    rank = 0
    world_size = 1

    def __init__(self, model: MultiTaskModel, device: torch.device) -> None:
        self.model = model
        self.device = device

    def forward(self, batch: Any, *, predict: bool = False) -> Any:
        return self.model(batch, predict=predict)

    def gather(self, value: Any) -> list[Any]:
        return [value]


def evaluate_folder(request: EvalRequest, display: ProgressDisplay) -> list[TaskReport]:
    """Score the model folder of a request.

    Raises:
        UnknownNameError: the model has no head for a task.
        ShardError: a split is not built, or has no labels.
        CheckpointError: the model is damaged, or a spec is no longer the one it was trained with.
        UsageError: the data was not built for the model's encoder.
    """
    folder = find_model(request.checkpoint)
    for spec in request.tasks:
        if spec.name not in folder.tasks:
            raise UnknownNameError(f"head of {folder.path}", spec.name, folder.tasks)
    splits = open_splits(request.data, request.tasks, request.split)
    _check_heads(folder, request.tasks)
    device = default_device()
    model = load_model(folder, device)
    check_data_fits(model.encoder, str(folder.path / ENCODER_FOLDER), splits)
    engine: Any = _InferenceEngine(model, device)
    scoring = Scoring(
        split=request.split,
        splits={spec.name: split for spec, split in zip(request.tasks, splits, strict=True)},
        max_examples=request.max_examples,
        tokens_per_micro_batch=request.tokens_per_micro_batch,
        step=folder.step,
        seed=folder.seed,
        checkpoint=str(folder.path),
        compared=folder.overlap or {},
    )
    return evaluate_tasks(engine, request.tasks, scoring, display)


def _check_heads(folder: ModelFolder, specs: Sequence[TaskSpec]) -> None:
    """Refuse specs that changed what a head's columns mean since the model was trained."""
    trained = {slot.task: slot for slot in folder.layout.slots}
    for spec, now in zip(specs, lay_out(specs).slots, strict=True):
        before = trained[spec.name]
        for what in ("head", "labels", "range"):
            if getattr(before, what) != getattr(now, what):
                raise CheckpointError(
                    f"task {spec.name}: {folder.path} was trained with {what} "
                    f"{getattr(before, what)}, its spec now has {getattr(now, what)}"
                )


def default_device() -> torch.device:
    """The first CUDA device when there is one, else the CPU."""
    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
