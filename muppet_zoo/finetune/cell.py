"""One cell of a finetune plan: trained, remembered, scored. `finetune.py` says which and when.

    DIR/cells/<cell>/cell.json    the training is done: what it was, and its held-out score

The rest of a cell's folder is the trainer's. Its model and checkpoints are deleted as soon as
nothing needs them.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from muppet_zoo.errors import CheckpointError, DivergedError
from muppet_zoo.file_tools import flush_folder, write_atomically
from muppet_zoo.finetune.plan import Cell, FinetunePlan
from muppet_zoo.finetune.results import PREDICTIONS_FOLDER, CellResult
from muppet_zoo.model_folder import CHECKPOINTS_FOLDER, MODEL_FOLDER
from muppet_zoo.provenance import commit, versions
from muppet_zoo.trainer_api import EvalRequest, Trainer, TrainRequest, tasks_of
from muppet_zoo.zoo import Zoo

CELLS_FOLDER = "cells"
RECORD_FILE = "cell.json"
_DIGITS = 16


@dataclass(frozen=True, kw_only=True)
class Study:
    """What a cell needs. weights: digests by arm; data: fingerprints of splits by target."""

    plan: FinetunePlan
    zoo: Zoo
    out: Path
    spec_dirs: tuple[Path, ...]
    trainer: Trainer
    weights: Mapping[str, str]
    data: Mapping[str, Mapping[str, str]]

    def folder(self, cell: Cell) -> Path:
        """The cell's own folder."""
        return self.out / CELLS_FOLDER / cell.name


@dataclass(frozen=True, kw_only=True)
class CellRecord:
    """A training that came to its end.

    identity: what it was, see `identity_of`. held_out_score: the headline on the held-out examples,
    None where nothing had to be chosen. diverged: why it has no score at all, or None.
    """

    identity: Mapping[str, Any]
    held_out_score: float | None
    diverged: str | None
    seconds: float


def identity_of(study: Study, cell: Cell) -> dict[str, Any]:
    """What a cell is: its run, but for where things lie, and digests of what lies there."""
    raw = dict(study.plan.run_of(cell).raw)
    model = {key: value for key, value in raw["model"].items() if key != "encoder"}
    run = {key: value for key, value in raw.items() if key != "data"} | {"model": model}
    identity = {
        "run": run,
        "weights": study.weights[cell.group.arm.name],
        "data": study.data[cell.group.target],
    }
    plain: dict[str, Any] = json.loads(json.dumps(identity))
    return plain


def training_digest(study: Study, cell: Cell) -> str:
    """Of the cell's identity; it stays with the result when the cell's folder is gone."""
    text = json.dumps(identity_of(study, cell), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def differences(before: Mapping[str, Any], now: Mapping[str, Any], at: str = "") -> Iterator[str]:
    """Each leaf in which two identities differ, by its dotted key."""
    for key in sorted({*before, *now}):
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from differences(old, new, f"{at}{key}.")
        elif old != new:
            yield f"{at}{key} {old}, now {new}".removeprefix("run.")


def read_record(study: Study, cell: Cell) -> CellRecord | None:
    """The record of a training that is done, else None.

    Raises:
        CheckpointError: it is damaged.
    """
    path = study.folder(cell) / RECORD_FILE
    try:
        return CellRecord(**json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(
            f"{path} is damaged: {error}; remove {path.parent} to train this cell again"
        ) from error


def train_cell(study: Study, cell: Cell) -> CellRecord:
    """Train a cell to its end, from its newest checkpoint if it has one.

    A training that diverges has come to its end too: it would diverge again.
    """
    run, folder = study.plan.run_of(cell), study.folder(cell)
    tasks, rates = tasks_of(run, study.zoo)
    request = TrainRequest(
        run=run,
        tasks=tasks,
        rates=rates,
        out=folder,
        resume=folder.is_dir(),
        spec_dirs=study.spec_dirs,
    )
    start = time.monotonic()
    score = diverged = None
    try:
        for report in study.trainer.train(request) or ():
            score = report.scores[report.headline]
    except DivergedError as error:
        diverged = str(error)
    record = CellRecord(
        identity=identity_of(study, cell),
        held_out_score=score,
        diverged=diverged,
        seconds=time.monotonic() - start,
    )
    write_atomically(folder / RECORD_FILE, json.dumps(asdict(record), indent=1).encode())
    drop_models(study, cell, CHECKPOINTS_FOLDER)
    return record


def score_cell(study: Study, cell: Cell, record: CellRecord) -> CellResult:
    """Score a trained cell on the plan's split, and leave its predictions in their place."""
    run, target = study.plan.run_of(cell), cell.group.target
    answers = study.folder(cell) / PREDICTIONS_FOLDER
    start = time.monotonic()
    [report] = study.trainer.evaluate(
        EvalRequest(
            checkpoint=study.folder(cell) / MODEL_FOLDER,
            data=run.data,
            tasks=(study.zoo.task(target),),
            split=study.plan.split,
            max_examples=run.evaluation.max_examples,
            tokens_per_micro_batch=run.batching.tokens_per_micro_batch,
            precision=run.precision,
            predictions=answers,
        )
    )
    predictions = Path(PREDICTIONS_FOLDER) / f"{cell.scored_name}.jsonl"
    (study.out / predictions).parent.mkdir(exist_ok=True)
    (answers / f"{target}.jsonl").replace(study.out / predictions)
    flush_folder((study.out / predictions).parent)
    shutil.rmtree(answers)
    return CellResult(
        arm=cell.group.arm.name,
        target=target,
        split=study.plan.split,
        shots=cell.group.shots,
        seed=cell.seed,
        settings=study.plan.points[cell.point],
        scores=report.scores,
        headline=report.headline,
        num_examples=report.num_examples,
        steps=report.step or 0,
        data_fingerprint=report.fingerprint or "",
        checkpoint_fingerprint=study.weights[cell.group.arm.name],
        versions=versions(),
        commit=commit(),
        seconds=round(record.seconds + time.monotonic() - start, 3),
        predictions=predictions.as_posix(),
        overlap=report.overlap,
        training=training_digest(study, cell),
    )


def drop_models(study: Study, cell: Cell, *names: str) -> None:
    """Delete a cell's folders of these names, which hold models, unless the plan keeps models."""
    if not study.plan.keep_models:
        for name in names:
            shutil.rmtree(study.folder(cell) / name, ignore_errors=True)
