"""Random numbers by a formula: the same on every device and with any number of threads.

SplitMix64, as in muppet_zoo.order, whose constants these are: Steele, Lea and Flood 2014, "Fast
splittable pseudorandom number generators". torch has no unsigned 64 bits; products wrap around
alike, and a shift to the right has to leave the sign behind.
"""

from __future__ import annotations

import torch
from torch import Tensor

_STEP = 0x9E3779B97F4A7C15 - (1 << 64)
_FIRST = 0xBF58476D1CE4E5B9 - (1 << 64)
_SECOND = 0x94D049BB133111EB - (1 << 64)
# Of a word: 65,536 values are plenty for noise and masks, and a word costs 11 passes.
PARTS = 4


def sixteen_bits(keys: Tensor, number: int) -> Tensor:
    """(…) int64 → (…, number) int16, uniform; the first of a key are the same for any `number`."""
    places = torch.arange(1, -(-number // PARTS) + 1, device=keys.device)
    return _mixed(keys[..., None] + places * _STEP).view(torch.int16)[..., :number]


def _mixed(words: Tensor) -> Tensor:
    words = (words ^ _shifted(words, 30)) * _FIRST
    words = (words ^ _shifted(words, 27)) * _SECOND
    return words ^ _shifted(words, 31)


def _shifted(words: Tensor, bits: int) -> Tensor:
    return (words >> bits) & ((1 << (64 - bits)) - 1)
