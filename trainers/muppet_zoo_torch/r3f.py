"""R3F: predictions should not change when a little noise is put on the embeddings.

    loss + weight * KL_S(g(f(x)) ‖ g(f(x + z))),    KL_S(P, Q) = KL(P‖Q) + KL(Q‖P)

Clean and noised rows go through the model in one pass of twice the size; rows of regression, which
has no divergence, go through once. Noise is a formula of (seed, step, example), not a stream of
random numbers, so an example gets the same noise whatever micro-batch and process it is in, and
however wide that is padded. Padding gets none, and no divergence is taken there. The divergence is
not divided by the log of the number of outcomes: near equality it does not grow with it.

Noise is added in single precision. In half precision the first matrix product rounds it away again:
what is left of a divergence by 1e-5 is that of the rounding, which `is_lost` foretells.

Source: Aghajanyan et al. 2020, "Better Fine-Tuning by Reducing Representational Collapse",
arXiv:2008.03156, sections 2 and 3; epsilon 1e-5, weight 1 and uniform noise are its public
defaults. Both passes carry gradient, as there.

Shapes: B sequences, T tokens, H hidden, N examples of one head type, P distributions of an example
(one; start and end; one a token; one a label), K outcomes.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from muppet_zoo.collate import MicroBatch
from muppet_zoo.order import R3F_NOISE, key
from muppet_zoo.run import R3F
from muppet_zoo_torch.batch import TensorBatch, TensorRows
from muppet_zoo_torch.heads import HEAD_MATH, HeadInput
from muppet_zoo_torch.random_words import PARTS, sixteen_bits


def is_lost(settings: R3F, precision: str) -> bool:
    """Whether the noise is smaller than what the precision tells apart around 1."""
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)
    return 0 < settings.epsilon < torch.finfo(dtype).eps


def noise_keys(batch: MicroBatch, seed: int, step: int) -> Tensor:
    """(B,) int64: a key for each sequence, from the seed, the step and the example it is of."""
    keys = np.zeros(len(batch.input_ids), dtype=np.uint64)
    for rows in batch.groups.values():
        used = rows.sequences >= 0
        option = np.broadcast_to(np.arange(rows.sequences.shape[1]), rows.sequences.shape)
        keys[rows.sequences[used]] = key(
            seed,
            R3F_NOISE,
            np.array([[step]], dtype=np.uint64),
            rows.tasks.astype(np.uint64)[:, None],
            rows.rows.astype(np.uint64)[:, None],
            option.astype(np.uint64),
        )[used]
    return torch.from_numpy(keys.view(np.int64))


def noise(keys: Tensor, num_tokens: int, size: int, settings: R3F) -> Tensor:
    """(B, T, size) float32, on the device of `keys`; of each row only its own key matters."""
    if settings.noise == "uniform":
        return (2 * _fractions(keys, num_tokens, size) - 1) * settings.epsilon
    # Box and Muller 1958, "A note on the generation of random normal deviates".
    first, second = _fractions(keys, num_tokens, 2 * size).chunk(2, -1)
    return (-2 * first.log()).sqrt() * torch.cos(2 * math.pi * second) * settings.epsilon


def _fractions(keys: Tensor, num_tokens: int, size: int) -> Tensor:
    """(B, T, size) float32: the middles of equal parts of (0, 1), never 0, never 1."""
    width = -(-size // PARTS) * PARTS  # each token begins a random word
    bits = sixteen_bits(keys, num_tokens * width).view(len(keys), num_tokens, width)[..., :size]
    return (bits.float() + 0.5) * 2.0**-16 + 0.5


def with_noised(batch: TensorBatch) -> TensorBatch:
    """The batch, and behind it all over again whatever a divergence is taken of.

    Sequences and examples come a second time at the end, examples at the end of their group. The
    noise keys that remain are those of the second time.
    """
    regularised = {name for name in batch.groups if HEAD_MATH[name].distributions is not None}
    device = batch.input_ids.device
    chosen = torch.zeros(len(batch.input_ids), dtype=torch.bool, device=device)
    for name in regularised:
        sequences = batch.groups[name].sequences
        chosen[sequences[sequences >= 0]] = True
    again = chosen.nonzero()[:, 0]
    moved = len(chosen) + chosen.cumsum(0) - 1  # where a chosen sequence comes again
    keys = batch.noise_keys
    return replace(
        batch,
        input_ids=torch.cat([batch.input_ids, batch.input_ids[again]]),
        attention_mask=torch.cat([batch.attention_mask, batch.attention_mask[again]]),
        segments=torch.cat([batch.segments, batch.segments[again]]),
        decoder_text=torch.cat([batch.decoder_text, batch.decoder_text[again]]),
        groups={
            name: _twice(rows, moved) if name in regularised else rows
            for name, rows in batch.groups.items()
        },
        noise_keys=None if keys is None else keys[again],
    )


def _twice(rows: TensorRows, moved: Tensor) -> TensorRows:
    again = torch.where(rows.sequences >= 0, moved[rows.sequences], rows.sequences)
    return TensorRows(
        tasks=rows.tasks.repeat(2),
        sequences=torch.cat([rows.sequences, again]),
        target=torch.cat([rows.target, rows.target]),
    )


def loss(name: str, x: HeadInput, settings: R3F) -> Tensor:
    """(N,) losses of a head type from its 2N clean and noised examples; from N of regression."""
    if HEAD_MATH[name].distributions is None:
        return HEAD_MATH[name].loss(x)
    clean, noised = x.halves()
    weight = settings.weight_by_head.get(name, settings.weight)
    return HEAD_MATH[name].loss(clean) + weight * divergence(name, clean, noised)


def divergence(name: str, clean: HeadInput, noised: HeadInput) -> Tensor:
    """(N,) symmetrised Kullback-Leibler divergence in nats, of any head but regression.

    Where an example has several distributions it is their mean, as its loss is.
    """
    distributions = HEAD_MATH[name].distributions
    assert distributions is not None
    first, weights = distributions(clean)
    second, _ = distributions(noised)
    possible = first.isfinite() & second.isfinite()
    p = torch.log_softmax(first, -1).masked_fill(~possible, 0.0)
    q = torch.log_softmax(second, -1).masked_fill(~possible, 0.0)
    # KL(P‖Q) + KL(Q‖P) = sum of (P - Q)(log P - log Q)
    symmetric = ((p.exp() - q.exp()) * (p - q)).sum(-1)
    return (symmetric * weights).sum(-1)
