"""MicroBatch (numpy) → TensorBatch (torch), nothing else."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from muppet_zoo.collate import HeadRows, MicroBatch, decoder_text


@dataclass(frozen=True, kw_only=True)
class TensorRows:
    """The examples of one head type. N examples, K sequences each at most.

    tasks (N,), sequences (N, K) with -1 as padding, target as `collate_target` lays it out.
    """

    tasks: Tensor
    sequences: Tensor
    target: Tensor


@dataclass(frozen=True, kw_only=True)
class TensorBatch:
    """One micro-batch: `groups` by head type, in a fixed order.

    input_ids, attention_mask and segments are (B, T). decoder_text is (B, D), -100 as padding: what
    a decoder is to say of each sequence; encoders have no use for it. noise_keys is (B,), or None
    where the step has no noise (`r3f.py`).
    """

    input_ids: Tensor
    attention_mask: Tensor
    segments: Tensor
    decoder_text: Tensor
    groups: dict[str, TensorRows]
    noise_keys: Tensor | None = None


def to_tensors(batch: MicroBatch, device: torch.device) -> TensorBatch:
    """The micro-batch on `device`. Segments are 1 from the second segment's first token on."""
    length = batch.input_ids.shape[1]
    position = torch.arange(length, device=device)
    mask = torch.from_numpy(batch.attention_mask).to(device)
    second_start = torch.from_numpy(batch.second_start).to(device)
    return TensorBatch(
        input_ids=torch.from_numpy(batch.input_ids).to(device),
        attention_mask=mask,
        segments=((position >= second_start[:, None]) & mask).long(),
        decoder_text=torch.from_numpy(decoder_text(batch)).to(device),
        groups={name: _rows(rows, device) for name, rows in batch.groups.items()},
    )


def _rows(rows: HeadRows, device: torch.device) -> TensorRows:
    return TensorRows(
        tasks=torch.from_numpy(rows.tasks).long().to(device),
        sequences=torch.from_numpy(rows.sequences).to(device),
        target=torch.from_numpy(rows.target).to(device),
    )
