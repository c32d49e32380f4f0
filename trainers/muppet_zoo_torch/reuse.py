"""Heads that start from those of the model folder an encoder lies in, instead of at random."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from muppet_zoo.console import note
from muppet_zoo.errors import CheckpointError, UnknownNameError, UsageError
from muppet_zoo.model_folder import (
    WEIGHTS_FILE,
    HeadLayout,
    HeadSlot,
    ModelFolder,
    model_of_encoder,
    with_slots_for,
)
from muppet_zoo.spec import TaskSpec
from muppet_zoo.targets import SENTENCE, VOCABULARY
from muppet_zoo_torch.model import MultiTaskModel


def reuse_heads(model: MultiTaskModel, encoder: str, specs: Sequence[TaskSpec]) -> None:
    """Copy the head of each task that the encoder's model folder has one for; others stay fresh.

    Raises:
        CheckpointError: the heads cannot be read, or a spec means other things by a head.
        UsageError: the heads there read the encoder in another way than this run's do.
    """
    folder = model_of_encoder(encoder)
    if folder is None:
        note(f"{encoder} lies in no model folder, so all heads are fresh")
        return
    try:
        state = load_file(folder.path / WEIGHTS_FILE)
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"{folder.path / WEIGHTS_FILE} cannot be read: {error}") from error
    for spec in specs:
        try:
            layout = with_slots_for(folder, [spec])
        except UnknownNameError:
            note(f"{folder.path} has no head for {spec.name}: it starts fresh")
            continue
        [before] = [slot for slot in layout.slots if slot.task == spec.name]
        [now] = [slot for slot in model.layout.slots if slot.task == spec.name]
        if before.level != VOCABULARY:  # the output layer comes with the model itself
            _copy(model, now, state, before, folder)


def _copy(
    model: MultiTaskModel,
    now: HeadSlot,
    state: dict[str, Tensor],
    before: HeadSlot,
    folder: ModelFolder,
) -> None:
    own = model.state_dict()  # its tensors are the parameters' own memory
    level = "sentence" if now.level == SENTENCE else "token"
    with torch.no_grad():
        for name in (f"{level}.weight", f"{level}.bias"):
            columns = state[name][before.start : before.start + before.size]
            own[name][now.start : now.start + now.size] = columns
        if now.level == SENTENCE:
            _check_reads_alike(model, folder)
            for name in ("dense.weight", "dense.bias") if model.dense is not None else ():
                own[name][_dense_rows(model, model.layout, now)] = state[name][
                    _dense_rows(model, folder.layout, before)
                ]


def _dense_rows(model: MultiTaskModel, layout: HeadLayout, slot: HeadSlot) -> slice:
    """The rows of the fused dense layer that this head reads through."""
    if model.head_dense == "shared":
        return slice(None)
    hidden = int(model.encoder.config.hidden_size)  # type: ignore[union-attr, arg-type]
    group = layout.sentence_starts.index(slot.start)
    return slice(group * hidden, (group + 1) * hidden)


def _check_reads_alike(model: MultiTaskModel, folder: ModelFolder) -> None:
    for key in ("pooling", "head_dense"):
        now, before = getattr(model, key), getattr(folder, key)
        if now != before:
            raise UsageError(
                f"model.heads is reuse, and the heads of {folder.path} were trained with model."
                f"{key} {before}, this run has {now}; set model.{key}: {before}, or model.heads: "
                f"fresh"
            )
