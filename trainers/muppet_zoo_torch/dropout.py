"""Dropout's masks on a CPU, from four numbers to a random word.

torch draws them one by one on a single thread, save on Intel's CPUs (`bernoulli_scalar_kernel` in
aten/src/ATen/native/cpu/DistributionKernels.cpp): an eighth of a step of MiniLM on two cores. Here
a mask is made of one number of torch's generator and a formula, on all threads. It is the same on
any CPU, and whatever puts the generator back (gradient checkpointing) gets the same mask again.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.library import _scoped_library

from muppet_zoo_torch.random_words import sixteen_bits

_LEVELS = 1 << 16


@contextmanager
def fast_masks() -> Iterator[None]:
    """Within, `_bernoulli_` is what `Tensor.bernoulli_` does on a CPU.

    All kinds of dropout are made of it: modules, functions, and those inside of attention.
    """
    with _scoped_library("aten", "IMPL") as library:
        with warnings.catch_warnings():  # of its being replaced, which is what we want
            warnings.simplefilter("ignore")
            library.impl("bernoulli_.float", _bernoulli_, "CPU")
        yield


def _bernoulli_(
    self: Tensor, p: float = 0.5, *, generator: torch.Generator | None = None
) -> Tensor:
    """Ones with probability p, to within 2**-17, zeros elsewhere; of any shape and type.

    Raises:
        ValueError: p is no probability.
    """
    if not 0 <= p <= 1:
        raise ValueError(f"a probability is between 0 and 1, not {p}")
    ones = round(p * _LEVELS)
    if not 0 < ones < _LEVELS:  # all or nothing, or rarer than 16 bits tell apart
        draws = torch.rand(self.shape, dtype=torch.float64, device=self.device, generator=generator)
        return torch.lt(draws, p, out=self)
    key = torch.empty((), dtype=torch.int64, device=self.device).random_(generator=generator)
    bits = sixteen_bits(key, self.numel()).view(self.shape)
    return torch.lt(bits, ones - _LEVELS // 2, out=self)
