"""The training loop, the same for every trainer.

One optimizer step is a fixed set of micro-batches, whatever the number of processes. Each
contributes `sum of its per-example losses / number of examples of the whole step`; this is the one
place that divides, so the gradient does not depend on how the step is cut. A process that has no
micro-batch left runs one again with weight zero: all processes touch the same parameters equally
often. Random numbers (dropout) are drawn from (seed, step, micro-batch), so there is no random
state to save and a step is the same on one process and on two.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from muppet_zoo.batches import Position, StepPlan
from muppet_zoo.collate import MicroBatch, collate
from muppet_zoo.console import ProgressDisplay, note
from muppet_zoo.errors import DivergedError, TrainingError
from muppet_zoo.file_tools import write_atomically
from muppet_zoo.model_folder import MODEL_FOLDER
from muppet_zoo.results import TaskReport, append_report, read_reports
from muppet_zoo_torch.bad_losses import bad_examples, described
from muppet_zoo_torch.batch import to_tensors
from muppet_zoo_torch.checkpoints import (
    CheckpointRecord,
    best_checkpoint,
    drop_checkpoints,
    find_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from muppet_zoo_torch.dropout import fast_masks
from muppet_zoo_torch.engine import Engine
from muppet_zoo_torch.evaluate import Scoring, evaluate_tasks, pad_id
from muppet_zoo_torch.export import publish_model
from muppet_zoo_torch.optimizer import base_rates, learning_rate_factor
from muppet_zoo_torch.packing import is_packed
from muppet_zoo_torch.plan import Plan
from muppet_zoo_torch.r3f import is_lost, noise_keys
from muppet_zoo_torch.run_log import (
    METRICS_FILE,
    Progress,
    RunLog,
    open_log,
    tokens_by_task,
)

REPORTS_FILE = "reports.jsonl"


_AFTER_DIVERGENCE = (
    "Going on would end here again: start another run with a lower optimizer.learning_rate, or "
    "with optimizer.gradient_clipping where it has none, from the encoder of an earlier checkpoint "
    "if need be"
)

_AFTER_OVERFLOW = (
    "Most likely a number is too large for fp16, which ends at 65,504; start another run with "
    "precision: bf16 or fp32, from the encoder of an earlier checkpoint if need be"
)


@dataclass(kw_only=True)
class _Tally:
    """What happened since the last line of the log, summed on this process; no skipped steps."""

    losses: Tensor  # (tasks,) sums of scaled per-example losses
    counts: Tensor  # (tasks,) examples
    tokens: Tensor  # (tasks,) real tokens
    cells: Tensor  # (2,) real tokens; tokens with what padding the model read
    started: float
    steps: int = 0
    skipped: int = 0
    gradient_norm: float = 0.0

    def add(self, batch: MicroBatch, losses: Tensor, *, packed: bool) -> None:
        """A micro-batch and its losses, (examples,) in the order of its groups."""
        tasks = np.concatenate([rows.tasks for rows in batch.groups.values()])
        index = torch.from_numpy(tasks).long().to(losses.device)
        self.losses.index_add_(0, index, losses.to(self.losses.dtype))
        self.counts.index_add_(0, index, torch.ones_like(losses, dtype=self.counts.dtype))
        self.tokens += torch.from_numpy(tokens_by_task(batch, len(self.tokens)))
        num_cells = batch.num_tokens if packed else batch.input_ids.size
        self.cells += torch.tensor([batch.num_tokens, num_cells], dtype=torch.float64)


def train(
    engine: Engine, plan: Plan, display: ProgressDisplay, *, trainer: str
) -> list[TaskReport]:
    """Run to the end, from the newest checkpoint if there is one; returns the final scores."""
    record = CheckpointRecord(
        step=0,
        num_updates=0,
        position=Position(),
        trainer=trainer,
        world_size=engine.world_size,
        zero_stage=plan.run.deepspeed.zero_stage if trainer == "deepspeed" else 0,
        data=plan.data_digest,
    )
    record = _restore(engine, plan, record)
    if engine.rank == 0:
        _forget_after(plan.out / METRICS_FILE, record.step)
        # Scores come after the checkpoint of their step: a crash between may have cut them.
        _forget_after(plan.out / REPORTS_FILE, record.step - 1)
        if plan.run.r3f is not None and is_lost(plan.run.r3f, plan.run.precision):
            note(
                f"r3f.epsilon: {plan.run.r3f.epsilon:g} is less than {plan.run.precision} tells "
                f"apart, so the divergence is of its rounding and hardly of the noise; set "
                f"precision: fp32, or an epsilon of 0.01"
            )
    engine.model.scale_losses = plan.run.loss_scaling == "log_outcomes"
    engine.model.train()
    with open_log(engine, plan, display, trainer) as log:
        _run_steps(engine, plan, record, log, display)
    publish_model(engine, plan, plan.num_steps, MODEL_FOLDER)
    if engine.rank == 0 and plan.run.checkpointing.keep_best:
        best = best_checkpoint(plan.out, _reports(plan))
        note(f"the checkpoint with the best mean headline score is {best}")
    return final_reports(plan) if engine.rank == 0 else []


def final_reports(plan: Plan) -> list[TaskReport]:
    """The scores after the last step, from the file."""
    return [report for report in _reports(plan) if report.step == plan.num_steps]


def _reports(plan: Plan) -> tuple[TaskReport, ...]:
    path = plan.out / REPORTS_FILE
    return read_reports(path).reports if path.is_file() else ()


def _restore(engine: Engine, plan: Plan, fresh: CheckpointRecord) -> CheckpointRecord:
    # One process reads and judges the files; the others must not come to another conclusion.
    [found, *_] = engine.gather(find_checkpoint(plan.out) if engine.rank == 0 else None)
    if found is None:
        return fresh
    folder, record = found
    load_checkpoint(engine, folder, record, fresh)
    if engine.rank == 0:
        note(f"resuming after step {record.step} of {plan.num_steps} from {folder}")
    return replace(
        fresh, step=record.step, num_updates=record.num_updates, position=record.position
    )


def _run_steps(
    engine: Engine,
    plan: Plan,
    record: CheckpointRecord,
    log: RunLog,
    display: ProgressDisplay,
) -> None:
    run = plan.run
    if _scores_are_due(plan, record.step):
        _score(engine, plan, record.step, display, log)
    tally = _new_tally(engine, plan)
    for step, step_plan in _steps(plan, record):
        taken = _train_step(engine, plan, step, step_plan, tally)
        record = replace(
            record,
            step=step + 1,
            num_updates=record.num_updates + taken,
            position=step_plan.after,
        )
        # A checkpoint ends a line of the log, and a run that goes on from it scores its step again
        # if scores are due, so what it writes is what an uninterrupted one would have written.
        # The checkpoint comes first: whatever scoring runs into, the steps are not lost.
        last = record.step == plan.num_steps
        checkpoint = last or _due(record.step, run.checkpointing.every_steps)
        if checkpoint or _due(record.step, run.log_every_steps):
            _log(engine, plan, record, tally, log)
            tally = _new_tally(engine, plan)
        paused = time.monotonic()
        if checkpoint:
            save_checkpoint(engine, plan, record)
        if _scores_are_due(plan, record.step):
            _score(engine, plan, record.step, display, log)
        if checkpoint and engine.rank == 0:
            drop_checkpoints(plan.out, run.checkpointing, _reports(plan))
        tally.started += time.monotonic() - paused
    if record.step != plan.num_steps:
        raise TrainingError(f"the data ended after {record.step} of {plan.num_steps} steps")


def _scores_are_due(plan: Plan, step: int) -> bool:
    if step == 0:
        return plan.run.evaluation.at_start
    is_last = step == plan.num_steps and plan.run.evaluation.at_end
    return is_last or _due(step, plan.run.evaluation.every_steps)


def _due(step: int, every: int | None) -> bool:
    return every is not None and step % every == 0


def _steps(plan: Plan, record: CheckpointRecord) -> Iterator[tuple[int, StepPlan]]:
    steps = plan.batcher.steps(record.position, stop_after_examples=plan.stop_after_examples)
    numbers = range(record.step, plan.num_steps)
    return zip(numbers, steps, strict=False) if len(numbers) else iter(())


def _train_step(engine: Engine, plan: Plan, step: int, step_plan: StepPlan, tally: _Tally) -> bool:
    """One optimizer step; False when it was skipped, as the run wishes, for a bad loss."""
    mine = step_plan.for_rank(engine.rank, engine.world_size)
    slots = list(mine)
    if engine.counts_passes:  # the last step of a run, or of a task, may hold fewer micro-batches
        usual = -(-plan.run.batching.micro_batches_per_step // engine.world_size)
        slots += [None] * (usual - len(mine))
    seen: list[tuple[MicroBatch, Tensor]] = []
    for i, micro_batch in enumerate(slots):
        number = i * engine.world_size + engine.rank
        torch.manual_seed(_random_seed(plan.run.seed, step, number))
        used = micro_batch if micro_batch is not None else step_plan.micro_batches[0]
        batch = collate(used, plan.pool, pad_id(engine.model))
        tensors = to_tensors(batch, engine.device)
        if plan.run.r3f is not None:
            keys = noise_keys(batch, plan.run.seed, step).to(engine.device)
            tensors = replace(tensors, noise_keys=keys)
        weight = 0.0 if micro_batch is None else 1.0
        with fast_masks():
            losses, _ = engine.forward(tensors)
            loss = losses.sum() * (weight / step_plan.num_examples)
            engine.backward(loss, last=i == len(slots) - 1)
        if micro_batch is not None:
            seen.append((batch, losses.detach()))
    tally.steps += 1
    if bad := bad_examples(engine, plan, seen):
        _skip_or_stop(engine, plan, step, step_plan, bad)
        tally.skipped += 1
        return False
    factor = learning_rate_factor(step, plan.num_steps, plan.run.schedule)
    rates = base_rates(engine.model, plan.run.optimizer)
    tally.gradient_norm = engine.step([rate * factor for rate in rates])
    if not math.isfinite(tally.gradient_norm):
        half = plan.run.precision == "fp16"
        names = sorted({plan.specs[t].name for m in step_plan.micro_batches for t in m.tasks})
        raise DivergedError(
            f"step {step + 1}: the gradient is not finite ({tally.gradient_norm}); tasks in the "
            f"step: {', '.join(names)}. {_AFTER_OVERFLOW if half else _AFTER_DIVERGENCE}"
        )
    for batch, losses in seen:
        tally.add(batch, losses, packed=is_packed(engine.model.encoder))
    return True


def _skip_or_stop(
    engine: Engine, plan: Plan, step: int, step_plan: StepPlan, bad: dict[str, list[int]]
) -> None:
    """Raises TrainingError, on every process, unless the step is to be skipped."""
    found = f"step {step + 1}: {described(bad)}"
    if sum(map(len, bad.values())) == step_plan.num_examples:
        raise DivergedError(f"{found}. These are all examples of the step. {_AFTER_DIVERGENCE}")
    if plan.run.on_bad_loss == "stop":
        raise TrainingError(
            f"{found}. Checkpoints are kept; look at these rows and go on with --resume --set "
            f"on_bad_loss=skip to leave out their step, or build the task without them"
        )
    engine.skip_step()
    if engine.rank == 0:
        note(f"{found}; the step is skipped")


def _random_seed(seed: int, step: int, micro_batch: int) -> int:
    """64 random bits that depend on all three numbers."""
    return int(np.random.SeedSequence([seed, step, micro_batch]).generate_state(1, np.uint64)[0])


def _new_tally(engine: Engine, plan: Plan) -> _Tally:
    zeros = torch.zeros(len(plan.specs), device=engine.device)
    return _Tally(
        losses=zeros,
        counts=zeros.clone(),
        tokens=torch.zeros(len(plan.specs), dtype=torch.float64),
        cells=torch.zeros(2, dtype=torch.float64),
        started=time.monotonic(),
    )


def _log(engine: Engine, plan: Plan, record: CheckpointRecord, tally: _Tally, log: RunLog) -> None:
    """Sum the tally over processes, and let the first write a line."""
    own = [tally.losses.double().cpu(), tally.counts.double().cpu(), tally.tokens, tally.cells]
    sums = torch.split(engine.sum(torch.cat(own)), [len(part) for part in own])
    if engine.rank != 0:
        return
    losses, counts, tokens, cells = (part.tolist() for part in sums)
    factor = learning_rate_factor(record.step - 1, plan.num_steps, plan.run.schedule)
    log.line(
        Progress(
            step=record.step,
            losses=losses,
            counts=counts,
            tokens=tokens,
            num_cells=cells[1],
            learning_rate=plan.run.optimizer.learning_rate * factor,
            gradient_norm=tally.gradient_norm,
            skipped_steps=tally.skipped,
            seconds=time.monotonic() - tally.started,
        )
    )


def _score(engine: Engine, plan: Plan, step: int, display: ProgressDisplay, log: RunLog) -> None:
    """Score every task, write the reports, and put the model back into training."""
    scoring = Scoring(
        split=plan.run.evaluation.split,
        splits=plan.evaluation,
        max_examples=plan.run.evaluation.max_examples,
        tokens_per_micro_batch=plan.run.batching.tokens_per_micro_batch,
        step=step,
        seed=plan.run.seed,
        checkpoint=str(plan.out),
        compared=plan.compared,
    )
    reports = evaluate_tasks(engine, plan.specs, scoring, display)
    if engine.rank == 0:
        for report in reports:
            append_report(plan.out / REPORTS_FILE, report)
        log.scores(step, reports)


def _forget_after(path: Path, step: int) -> None:
    """Drop lines of steps that a resumed run will do again, and what a crash made of a line."""
    if not path.is_file():
        return
    kept = []
    for line in path.read_bytes().splitlines():
        try:
            done = json.loads(line)["step"] <= step
        except (ValueError, LookupError, TypeError):
            continue
        if done:
            kept.append(line)
    write_atomically(path, b"".join(line + b"\n" for line in kept))
