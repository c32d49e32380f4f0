"""The sequences of a micro-batch as one row without padding, for encoders whose attention can.

Tokens stand one behind another, those of the shortest sequence first; positions begin anew with
each sequence, and attention stays inside of it. Everything before and behind the encoder keeps its
(B, T) form, so heads, losses and noise know nothing of this: states, losses and gradients are those
of the padded form, and which examples share a micro-batch does not depend on it.

On a CUDA device the attention is PyTorch's own for jagged tensors, which is FlashAttention's kernel
in half precision. It warns of a prototype on a CPU; there every run of equally long sequences is a
batch of its own.

Shapes: B sequences, T tokens of the longest, S tokens in all, A attention heads, d size of one.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from muppet_zoo.errors import UsageError
from muppet_zoo_torch.pretrained import first_position

# Absolute positions that are told to the model, and one kind of attention in all layers.
FAMILIES = ("bert", "camembert", "electra", "roberta", "xlm-roberta")
_ATTENTION = "muppet_zoo_packed"  # its name in the library's register


@dataclass(frozen=True, kw_only=True)
class Packed:
    """Where the tokens of a micro-batch went.

    places: (S,) index into the B * T places of the padded form. positions: (S,) of a token in its
    sequence. lengths: of the sequences, ascending. offsets: (B + 1,) where each begins in the row.
    """

    places: Tensor
    positions: Tensor
    lengths: tuple[int, ...]
    offsets: Tensor

    def pack(self, padded: Tensor) -> Tensor:
        """(B, T, …) → (1, S, …)"""
        return padded.flatten(0, 1)[None, self.places]

    def unpack(self, row: Tensor, num_sequences: int) -> Tensor:
        """(1, S, H) → (B, T, H), zeros as padding."""
        whole = row.new_zeros(num_sequences * self.lengths[-1], row.shape[-1])
        return whole.index_copy(0, self.places, row[0]).view(num_sequences, -1, row.shape[-1])


def layout_of(mask: Tensor) -> Packed:
    """Of a (B, T) mask whose padding is at the end and whose longest sequence fills T."""
    lengths = mask.sum(-1)
    order = lengths.argsort(stable=True)
    ordered = mask[order]
    row, positions = ordered.nonzero(as_tuple=True)
    sorted_lengths = lengths[order]
    return Packed(
        places=order[row] * mask.shape[1] + positions,
        positions=positions,
        lengths=tuple(sorted_lengths.tolist()),
        offsets=F.pad(sorted_lengths.cumsum(0), (1, 0)),
    )


def use_packing(encoder: Any, name: str, wanted: str) -> None:
    """Let the encoder read packed rows from now on; `wanted` is `on`, `off` or `auto`.

    `auto` is on where there is a CUDA device and the family can.

    Raises:
        UsageError: `on`, and the family cannot; `name` is the encoder's.
    """
    family = encoder.config.model_type
    if wanted == "on" and family not in FAMILIES:
        raise UsageError(
            f"model.packing is on, and '{name}' ({family}) cannot read packed rows; those that can "
            f"are {', '.join(FAMILIES)}. Set model.packing: off"
        )
    if wanted == "off" or family not in FAMILIES:
        return
    if wanted == "on" or torch.cuda.is_available():
        from transformers import AttentionInterface

        AttentionInterface.register(_ATTENTION, _attention)
        encoder.set_attn_implementation(_ATTENTION)


def is_packed(encoder: Any) -> bool:
    """Whether the encoder reads packed rows, and nothing else."""
    return bool(encoder.config._attn_implementation == _ATTENTION)


def arguments(encoder: Any, layout: Packed) -> dict[str, Any]:
    """What a call of the encoder needs beside the tokens."""
    return {
        "position_ids": (layout.positions + first_position(encoder.config))[None],
        "packed": layout,
    }


def _attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    dropout: float,
    packed: Packed,
    **_: Any,
) -> tuple[Tensor, None]:
    """(1, A, S, d) → (1, S, A, d), in the library's form; there is no mask."""
    attend = _jagged if query.device.type == "cuda" else _by_length
    return attend(query, key, value, packed, scale=scaling, dropout_p=dropout), None


def _jagged(query: Tensor, key: Tensor, value: Tensor, layout: Packed, **settings: Any) -> Tensor:
    def jagged(x: Tensor) -> Tensor:
        return torch.nested.nested_tensor_from_jagged(
            x[0].transpose(0, 1),
            layout.offsets,
            min_seqlen=layout.lengths[0],
            max_seqlen=layout.lengths[-1],
        ).transpose(1, 2)

    found = F.scaled_dot_product_attention(jagged(query), jagged(key), jagged(value), **settings)
    return found.transpose(1, 2).values()[None]


def _by_length(
    query: Tensor, key: Tensor, value: Tensor, layout: Packed, **settings: Any
) -> Tensor:
    counts = [(length, len(list(same))) for length, same in groupby(layout.lengths)]
    sizes = [length * count for length, count in counts]
    parts = (torch.split(x[0].transpose(0, 1), sizes) for x in (query, key, value))
    found = []
    for (length, count), *run in zip(counts, *parts, strict=True):
        # (count * length, A, d) → (count, A, length, d)
        q, k, v = (x.view(count, length, *x.shape[1:]).transpose(1, 2) for x in run)
        attended = F.scaled_dot_product_attention(q, k, v, **settings)
        found.append(attended.transpose(1, 2).flatten(0, 1))
    return torch.cat(found)[None]
