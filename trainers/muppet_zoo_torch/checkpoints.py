"""Checkpoints of a run: written aside, renamed when whole, newest good one found again.

    OUT/checkpoints/step-00000500/
    ├── state/             the engine's own files
    ├── model/             the model as `eval` and `from_pretrained` read it
    └── checkpoint.json    position and what must be equal to go on; written last

A folder without checkpoint.json was cut off by a crash and is passed over with a message.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from muppet_zoo.batches import Position
from muppet_zoo.console import note
from muppet_zoo.errors import CheckpointError, TrainingError
from muppet_zoo.file_tools import flush_folder, write_atomically
from muppet_zoo.manifests import decode
from muppet_zoo.model_folder import CHECKPOINTS_FOLDER, MODEL_FOLDER
from muppet_zoo_torch.engine import Engine
from muppet_zoo_torch.export import write_model, writing
from muppet_zoo_torch.plan import Plan

STATE_FOLDER = "state"
RECORD_FILE = "checkpoint.json"


@dataclass(frozen=True, kw_only=True)
class CheckpointRecord:
    """Where a run stands: `step` optimizer steps are done, `position` is where the data goes on.

    data: digest of the train splits in their order; a position means nothing in other data.
    """

    step: int
    position: Position
    trainer: str
    world_size: int
    zero_stage: int
    data: str


def checkpoint_folder(out: Path, step: int) -> Path:
    """The folder of the checkpoint after `step` steps."""
    return out / CHECKPOINTS_FOLDER / f"step-{step:08d}"


def save_checkpoint(engine: Engine, plan: Plan, record: CheckpointRecord, keep: int) -> None:
    """Write a checkpoint on every process, then drop all but the newest `keep`."""
    final = checkpoint_folder(plan.out, record.step)
    temporary = final.with_name(f".{final.name}.tmp")
    try:
        with writing(final):
            _write(engine, plan, record, temporary)
            if engine.rank == 0:
                shutil.rmtree(final, ignore_errors=True)
                temporary.rename(final)
                flush_folder(final.parent)
                for old in sorted(final.parent.glob("step-*"))[:-keep]:
                    shutil.rmtree(old)
    except TrainingError:
        shutil.rmtree(temporary, ignore_errors=True)  # it takes the room that is missing
        raise
    engine.gather(None)  # nobody goes on before it is whole


def _write(engine: Engine, plan: Plan, record: CheckpointRecord, folder: Path) -> None:
    if engine.rank == 0:
        shutil.rmtree(folder, ignore_errors=True)
        (folder / STATE_FOLDER).mkdir(parents=True)
    engine.gather(None)  # everybody waits for the folder
    engine.save(folder / STATE_FOLDER)
    write_model(engine, plan, folder / MODEL_FOLDER, record.step)
    if engine.rank == 0:
        write_atomically(folder / RECORD_FILE, json.dumps(asdict(record), indent=1).encode())


def find_checkpoint(out: Path) -> tuple[Path, CheckpointRecord] | None:
    """The newest whole checkpoint under `out`, None when there is none."""
    for folder in sorted((out / CHECKPOINTS_FOLDER).glob("step-*"), reverse=True):
        if (folder / RECORD_FILE).is_file():
            return folder, _read_record(folder / RECORD_FILE)
        note(f"{folder} is not whole and is passed over")
    return None


def _read_record(path: Path) -> CheckpointRecord:
    try:
        record: CheckpointRecord = decode(CheckpointRecord, json.loads(path.read_text("utf-8")))
        return record
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} is damaged: {error}; remove {path.parent} to go on from the one before"
        ) from error


def check_same(record: CheckpointRecord, now: CheckpointRecord, folder: Path) -> None:
    """Refuse to load a checkpoint whose files another set-up wrote.

    Raises:
        CheckpointError: naming what differs and how to go on.
    """
    for field in ("trainer", "world_size", "zero_stage"):
        before, wanted = getattr(record, field), getattr(now, field)
        if before != wanted:
            raise CheckpointError(
                f"{folder} was written with {field} {before}, this run has {wanted}; resume with "
                f"{field} {before}, or start another run from its encoder ({folder / MODEL_FOLDER})"
            )
    if record.data != now.data:
        raise CheckpointError(
            f"{folder} was trained on other data: since then a task was built anew or the mixture "
            f"changed; start another run from its encoder ({folder / MODEL_FOLDER})"
        )
