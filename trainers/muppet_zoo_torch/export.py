"""Model folder ⇄ model: the encoder in Hugging Face format, heads as safetensors beside it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from muppet_zoo.errors import CheckpointError, TrainingError, UsageError
from muppet_zoo.file_tools import flush_folder
from muppet_zoo.model_folder import ENCODER_FOLDER, WEIGHTS_FILE, ModelFolder, write_layout
from muppet_zoo_torch.adaptation import merged
from muppet_zoo_torch.engine import Engine
from muppet_zoo_torch.model import MultiTaskModel
from muppet_zoo_torch.plan import Plan
from muppet_zoo_torch.pretrained import (
    first_line,
    load_encoder,
    quiet_transformers,
    read_tokenizer,
)

_ENCODER_PREFIX = "encoder."


def write_model(engine: Engine, plan: Plan, folder: Path, step: int) -> None:
    """Write the model folder; called on every process, written by the first."""
    state = engine.full_state_dict()
    if engine.rank != 0:
        return
    model = engine.model
    # Of tied parameters only the first name is written; loading ties them again.
    names = {name for name, _ in (*model.named_parameters(), *model.named_buffers())}
    encoder_state = {
        name.removeprefix(_ENCODER_PREFIX): value.contiguous()
        for name, value in merged(
            {name: value for name, value in state.items() if name in names}, plan.run.model.lora
        ).items()
        if name.startswith(_ENCODER_PREFIX)
    }
    heads = {
        name: value.contiguous()
        for name, value in state.items()
        if not name.startswith(_ENCODER_PREFIX)
    }
    for name in ("sentence", "token"):  # what is loaded again is not trained on, so it stays so
        key = f"{name}.weight"
        heads[key] = getattr(model, name).effective(heads[key]).contiguous()
    folder.mkdir(parents=True, exist_ok=True)
    with quiet_transformers():
        model.encoder.save_pretrained(  # type: ignore[operator]
            folder / ENCODER_FOLDER, state_dict=encoder_state
        )
    for name, content in model.tokenizer_files.items():
        (folder / ENCODER_FOLDER / name).write_bytes(content)
    save_file(heads, folder / WEIGHTS_FILE)
    write_layout(
        ModelFolder(
            path=folder,
            layout=plan.layout,
            pooling=model.pooling,
            dropout=plan.run.model.dropout,
            head_dense=model.head_dense,
            beam_search=model.beam_search,
            lora=plan.run.model.lora,
            freeze=plan.run.model.freeze,
            step=step,
            seed=plan.run.seed,
            overlap=plan.compared or None,
            earlier_tasks=plan.earlier_tasks,
        )
    )


def publish_model(engine: Engine, plan: Plan, step: int, name: str) -> None:
    """Write OUT/`name` aside and rename it, so that it is never half a model."""
    final = plan.out / name
    temporary = plan.out / f".{name}.tmp"
    if engine.rank == 0:
        shutil.rmtree(temporary, ignore_errors=True)
    with writing(final):
        write_model(engine, plan, temporary, step)
        if engine.rank == 0:
            shutil.rmtree(final, ignore_errors=True)
            temporary.rename(final)
            flush_folder(plan.out)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Around writing to a run's folder: say it when the disk does not take it.

    Raises:
        TrainingError: torch and safetensors report a full disk with errors of their own.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        raise TrainingError(
            f"{path} cannot be written: {first_line(error)}; earlier checkpoints are whole: make "
            f"room, then go on with --resume"
        ) from error


def load_model(folder: ModelFolder, device: torch.device) -> MultiTaskModel:
    """The model of a model folder, ready to predict.

    Raises:
        CheckpointError: when its files are missing or do not fit each other.
    """
    # Without it the name would be looked up on the hub.
    if not (folder.path / ENCODER_FOLDER).is_dir():
        raise CheckpointError(f"{folder.path / ENCODER_FOLDER} is missing")
    try:
        encoder = load_encoder(str(folder.path / ENCODER_FOLDER), random_init=False)
        tokenizer_files = read_tokenizer(str(folder.path / ENCODER_FOLDER))
    except UsageError as error:  # the folder is ours, not named by the user
        raise CheckpointError(f"{folder.path}: {error}") from error
    model = MultiTaskModel(
        encoder,
        folder.layout,
        pooling=folder.pooling,
        dropout=folder.dropout,
        head_dense=folder.head_dense,
    ).to(device)
    model.beam_search = folder.beam_search
    model.tokenizer_files = tokenizer_files
    try:
        state = load_file(folder.path / WEIGHTS_FILE)
        missing, unexpected = model.load_state_dict(state, strict=False)
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"{folder.path / WEIGHTS_FILE} cannot be read: {error}") from error
    lost = [name for name in missing if not name.startswith(_ENCODER_PREFIX)]
    if lost or unexpected:
        raise CheckpointError(f"{folder.path}: missing {lost}, unexpected {unexpected}")
    model.eval()
    return model
