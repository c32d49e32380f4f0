"""Scores of a model on built splits: each row predicted once, kept in row order, then scored.

Every process predicts its part; under ZeRO 3 a forward pass needs all of them, so a process that
has no rows left repeats one of them and throws the result away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from muppet_zoo.batches import MicroBatchPlan, eval_plans, sample_examples
from muppet_zoo.collate import collate
from muppet_zoo.console import ProgressDisplay
from muppet_zoo.encode import TOKENIZER_FILE
from muppet_zoo.errors import ShardError
from muppet_zoo.finetune.results import Prediction, row_ids, write_predictions
from muppet_zoo.metrics import score_all
from muppet_zoo.model_folder import ENCODER_FOLDER, find_model, with_slots_for
from muppet_zoo.overlap.record import ComparedSplit, rows_seen
from muppet_zoo.results import TaskReport
from muppet_zoo.row_pool import RowPool
from muppet_zoo.shards import BuiltSplit
from muppet_zoo.spec import TaskSpec
from muppet_zoo.trainer_api import EvalRequest
from muppet_zoo_torch.batch import to_tensors
from muppet_zoo_torch.checks import check_data_fits
from muppet_zoo_torch.decode import ScoredTask
from muppet_zoo_torch.engine import Engine
from muppet_zoo_torch.export import load_model
from muppet_zoo_torch.heads import HEAD_MATH
from muppet_zoo_torch.model import MultiTaskModel
from muppet_zoo_torch.plan import open_splits

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """What to score on, what the reports say of the model and its training rows, and where
    predictions are written."""

    split: str
    splits: Mapping[str, BuiltSplit]
    max_examples: int | None
    tokens_per_micro_batch: int
    step: int
    seed: int
    checkpoint: str
    predictions: Path | None = None
    compared: Mapping[str, ComparedSplit] = field(default_factory=dict)


def evaluate_tasks(
    engine: Engine, specs: Sequence[TaskSpec], scoring: Scoring, display: ProgressDisplay
) -> list[TaskReport]:
    """One report per task that has the split, in the order of `specs`; called on every process.

    The first process alone computes the scores and gets the reports.
    """
    reports = []
    engine.model.eval()
    line = display.start("evaluate", total=len(specs), unit="tasks")
    with torch.no_grad():
        for i, spec in enumerate(specs):
            if spec.name in scoring.splits:
                report = _evaluate_task(engine, spec, scoring)
                reports += [report] if report is not None else []
            line.update(i + 1, text=spec.name)
    line.finish()
    engine.model.train()
    return reports


def _evaluate_task(engine: Engine, spec: TaskSpec, scoring: Scoring) -> TaskReport | None:
    split = scoring.splits[spec.name]
    index = [slot.task for slot in engine.model.layout.slots].index(spec.name)
    slot = engine.model.layout.slots[index]
    task = ScoredTask(split=split, slot=slot, tokenizer=tokenizer_of(engine.model))
    decoder = HEAD_MATH[slot.head].decoder
    examples = sample_examples(split.num_examples, scoring.max_examples)
    records = [np.arange(*split.example_starts[i : i + 2]) for i in examples]
    firsts = split.example_starts[examples]
    targets = decoder.references(firsts, task)
    if not (slot.no_answer or decoder.is_labelled(targets)):
        raise ShardError(
            f"task {spec.name}, split {scoring.split}: its publisher keeps the labels, so it "
            f"cannot be scored here; use a split with labels"
        )
    pool = RowPool([split], tasks=[index])
    rows = np.concatenate(records)
    plans = list(eval_plans(split, scoring.tokens_per_micro_batch, task=index, rows=rows))
    mine: dict[int, Any] = {}
    for first in range(0, len(plans), engine.world_size):
        at = first + engine.rank
        plan = plans[min(at, len(plans) - 1)]
        predicted = _predict(engine, plan, pool, task)
        if at < len(plans):
            mine.update(predicted)
    gathered = engine.gather(mine)
    if engine.rank != 0:
        return None
    merged = {row: value for part in gathered for row, value in part.items()}
    predictions = [decoder.of_example([merged[row] for row in rows], slot) for rows in records]
    if scoring.predictions is not None:
        ids = row_ids(split.column("row", split.example_starts[:-1]))
        write_predictions(
            scoring.predictions / f"{spec.name}.jsonl",
            (
                Prediction(row=ids[example], prediction=predicted, target=target)
                for example, predicted, target in zip(examples, predictions, targets, strict=True)
            ),
        )
    return TaskReport(
        task=spec.name,
        split=scoring.split,
        num_examples=len(examples),
        scores=score_all(
            spec.metrics,
            predictions,
            targets,
            num_labels=decoder.num_labels(firsts, task),
            groups=split.groups(firsts),
        ),
        headline=spec.metrics[0],
        step=scoring.step,
        seed=scoring.seed,
        checkpoint=scoring.checkpoint,
        fingerprint=split.fingerprint,
        overlap=rows_seen(scoring.compared, split.manifest),
    )


def _predict(
    engine: Engine, plan: MicroBatchPlan, pool: RowPool, task: ScoredTask
) -> dict[int, Any]:
    batch = collate(plan, pool, pad_id(engine.model))
    output: dict[str, Tensor] = engine.forward(to_tensors(batch, engine.device), predict=True)
    head = task.slot.head
    rows = batch.groups[head].rows
    decoded = HEAD_MATH[head].decoder.predictions(output[head], rows, task)
    return dict(zip(rows.tolist(), decoded, strict=True))


def tokenizer_of(model: MultiTaskModel) -> Tokenizer:
    """The tokenizer that lies beside the model, as the data was built with."""
    from tokenizers import Tokenizer

    return Tokenizer.from_buffer(model.tokenizer_files[TOKENIZER_FILE])


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
    folder = replace(folder, layout=with_slots_for(folder, request.tasks))
    splits = open_splits(request.data, request.tasks, request.split)
    device = default_device()
    model = load_model(folder, device)
    model.precision = request.precision
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
        predictions=request.predictions,
    )
    return evaluate_tasks(engine, request.tasks, scoring, display)


def default_device() -> torch.device:
    """The first CUDA device when there is one, else the CPU."""
    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
