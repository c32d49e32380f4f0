"""Checkpoints of a run: written aside, renamed when whole, newest good one found again.

    OUT/checkpoints/step-00000500/
    ├── state/             what was learned, see `training_state`
    ├── model/             the model as `eval` and `from_pretrained` read it
    └── checkpoint.json    position, what must be equal to go on, the files' checksums; written last

A folder without checkpoint.json, or with a file that its digest does not fit, is passed over with a
message. No random states: they are a function of (seed, step, micro-batch).
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from safetensors import SafetensorError

from muppet_zoo.batches import Position
from muppet_zoo.console import note
from muppet_zoo.errors import CheckpointError, TrainingError
from muppet_zoo.file_tools import checksum_of, flush_folder, write_atomically
from muppet_zoo.manifests import decode
from muppet_zoo.metrics import METRICS
from muppet_zoo.model_folder import CHECKPOINT_FILE, CHECKPOINTS_FOLDER, MODEL_FOLDER
from muppet_zoo.results import TaskReport
from muppet_zoo.run import CheckpointSettings
from muppet_zoo_torch.engine import Engine
from muppet_zoo_torch.export import write_model, writing
from muppet_zoo_torch.plan import Plan
from muppet_zoo_torch.pretrained import first_line
from muppet_zoo_torch.training_state import SavedState, write_state

STATE_FOLDER = "state"


@dataclass(frozen=True, kw_only=True)
class CheckpointRecord:
    """Where a run stands: `step` optimizer steps are done, `position` is where the data goes on.

    num_updates: the steps that were not skipped for a loss that was not finite.
    trainer, world_size, zero_stage: who wrote it; another may read it.
    data: digest of the train splits in their order; a position means nothing in other data.
    files: checksum of every other file of the folder, by path.
    """

    step: int
    num_updates: int
    position: Position
    trainer: str
    world_size: int
    zero_stage: int
    data: str
    files: dict[str, str] = field(default_factory=dict)


def checkpoint_folder(out: Path, step: int) -> Path:
    """The folder of the checkpoint after `step` steps."""
    return out / CHECKPOINTS_FOLDER / f"step-{step:08d}"


def save_checkpoint(engine: Engine, plan: Plan, record: CheckpointRecord) -> None:
    """Write a checkpoint; called on every process.

    Raises:
        TrainingError: the disk does not take it; the checkpoints before are whole.
    """
    final = checkpoint_folder(plan.out, record.step)
    temporary = final.with_name(f".{final.name}.tmp")
    try:
        with writing(final):
            _write(engine, plan, record, temporary)
            if engine.rank == 0:
                shutil.rmtree(final, ignore_errors=True)
                temporary.rename(final)
                flush_folder(final.parent)
    except TrainingError:
        shutil.rmtree(temporary, ignore_errors=True)  # it takes the room that is missing
        raise
    engine.gather(None)  # nobody goes on before it is whole


def _write(engine: Engine, plan: Plan, record: CheckpointRecord, folder: Path) -> None:
    if engine.rank == 0:
        shutil.rmtree(folder, ignore_errors=True)
        (folder / STATE_FOLDER).mkdir(parents=True)
    write_state(engine, folder / STATE_FOLDER)
    write_model(engine, plan, folder / MODEL_FOLDER, record.step)
    if engine.rank == 0:
        record = replace(record, files=_flushed_checksums(folder))
        write_atomically(folder / CHECKPOINT_FILE, json.dumps(asdict(record), indent=1).encode())


def _flushed_checksums(folder: Path) -> dict[str, str]:
    """Checksum by path of every file below `folder`, all of them safe on the disk."""
    checksums = {}
    for path in sorted(folder.rglob("*")):
        if path.is_dir():
            flush_folder(path)
            continue
        with path.open("rb") as file:
            os.fsync(file.fileno())
        checksums[path.relative_to(folder).as_posix()] = checksum_of(path)
    return checksums


def drop_checkpoints(
    out: Path, settings: CheckpointSettings, reports: Sequence[TaskReport]
) -> None:
    """Remove all but the newest `keep` and, if it is to be kept, the best by its scores."""
    folders = sorted((out / CHECKPOINTS_FOLDER).glob("step-*"))
    kept = set(folders[-settings.keep :])
    if settings.keep_best and (best := best_checkpoint(out, reports)) is not None:
        kept.add(best)
    # Renamed first: what a crash leaves of one is not taken for a damaged checkpoint.
    for folder in folders:
        if folder not in kept:
            folder.rename(folder.with_name(f".{folder.name}.old"))
    for gone in (out / CHECKPOINTS_FOLDER).glob(".step-*.old"):
        shutil.rmtree(gone)


def best_checkpoint(out: Path, reports: Sequence[TaskReport]) -> Path | None:
    """The checkpoint whose scores have the best mean of headlines; None when none was scored.

    Of equal ones the newest. Metrics of which less is better count negative.
    """
    scores: dict[int, dict[str, float]] = {}
    for report in reports:
        sign = 1 if METRICS[report.headline].higher_is_better else -1
        scores.setdefault(report.step or 0, {})[report.task] = sign * report.scores[report.headline]
    scored = [step for step in scores if checkpoint_folder(out, step).is_dir()]
    if not scored:
        return None
    best = max(scored, key=lambda step: (statistics.fmean(scores[step].values()), step))
    return checkpoint_folder(out, best)


def holds_checkpoint(out: Path) -> bool:
    """Whether a checkpoint, good or not, lies under `out`."""
    return any((out / CHECKPOINTS_FOLDER).glob("step-*"))


def find_checkpoint(out: Path) -> tuple[Path, CheckpointRecord] | None:
    """The newest whole checkpoint under `out`, None when there is none at all.

    Reads every file of it. Those that are not whole are named in a message and passed over.

    Raises:
        CheckpointError: there are some, but none is whole.
    """
    folders = sorted((out / CHECKPOINTS_FOLDER).glob("step-*"), reverse=True)
    for folder in folders:
        try:
            return folder, _verified_record(folder)
        except CheckpointError as error:
            note(f"{error}; it is passed over")
    if folders:
        raise CheckpointError(
            f"no checkpoint in {out / CHECKPOINTS_FOLDER} is whole; put one back from a copy, or "
            f"remove that folder to start from the first step"
        )
    return None


def _verified_record(folder: Path) -> CheckpointRecord:
    path = folder / CHECKPOINT_FILE
    if not path.is_file():
        raise CheckpointError(f"{folder} is only half written: it has no {CHECKPOINT_FILE}")
    try:
        record: CheckpointRecord = decode(CheckpointRecord, json.loads(path.read_text("utf-8")))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    for name, checksum in record.files.items():
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder} is damaged: {name} is missing")
        if checksum_of(folder / name) != checksum:
            raise CheckpointError(
                f"{folder} is damaged: {name} does not hold the bytes that were written"
            )
    return record


def load_checkpoint(
    engine: Engine, folder: Path, record: CheckpointRecord, now: CheckpointRecord
) -> None:
    """Put a checkpoint into the engine; called on every process.

    Raises:
        CheckpointError: it was trained on other data, or does not fit the model.
    """
    if record.data != now.data:
        raise CheckpointError(
            f"{folder} was trained on other data: since then a task was built anew or the mixture "
            f"changed; start another run from its encoder ({folder / MODEL_FOLDER})"
        )
    try:
        engine.load(SavedState(folder / STATE_FOLDER, record.num_updates))
    except (OSError, KeyError, RuntimeError, ValueError, SafetensorError) as error:
        raise CheckpointError(
            f"{folder} does not fit this run's model: {first_line(error)}; start another run from "
            f"its encoder ({folder / MODEL_FOLDER})"
        ) from error
    before, after = _writer(record), _writer(now)
    if engine.rank == 0 and before != after:
        note(
            f"{folder.name} was written by {before}; going on with {after}: the same examples, "
            f"losses equal but for rounding"
        )


def _writer(record: CheckpointRecord) -> str:
    stage = f" at ZeRO stage {record.zero_stage}" if record.trainer == "deepspeed" else ""
    ranks = f"{record.world_size} process{'es' * (record.world_size > 1)}"
    return f"{record.trainer} on {ranks}{stage}"
