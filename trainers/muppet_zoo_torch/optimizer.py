"""Parameter groups, the optimizer and the learning rate's course."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from muppet_zoo.run import OptimizerSettings, Schedule
from muppet_zoo_torch.model import MultiTaskModel


def parameter_groups(model: MultiTaskModel, settings: OptimizerSettings) -> list[dict[str, Any]]:
    """Encoder matrices, the encoder's other parameters, heads; each with its learning rate.

    Biases and norms are not decayed, as BERT's recipe has it. Heads are not decayed either: with
    AdamW a head would shrink in every step, also in those in which its task is absent. Momentum
    moves it then too, unless `head_momentum` is false: a first beta of 0 makes AdamW's update a
    multiple of the gradient, so a gradient of 0 moves nothing, on any process at any ZeRO stage.
    """
    encoder = [p for p in model.encoder.parameters() if p.requires_grad]
    heads = [p for name, p in model.named_parameters() if not name.startswith("encoder.")]
    rate = settings.learning_rate
    head_rate = settings.head_learning_rate or rate
    groups = [
        {"params": [p for p in encoder if _is_matrix(p)], "lr": rate,
         "weight_decay": settings.weight_decay},
        {"params": [p for p in encoder if not _is_matrix(p)], "lr": rate, "weight_decay": 0.0},
        {"params": heads, "lr": head_rate, "weight_decay": 0.0},
    ]  # fmt: skip
    if not settings.head_momentum:
        groups[-1]["betas"] = (0.0, settings.betas[1])
    # Adapters have no biases, and of a frozen encoder nothing is left.
    return [group for group in groups if group["params"]]


def _is_matrix(parameter: nn.Parameter) -> bool:
    # At ZeRO 3 a parameter is empty; DeepSpeed keeps its shape beside it.
    return len(getattr(parameter, "ds_shape", parameter.shape)) > 1


def base_rates(model: MultiTaskModel, settings: OptimizerSettings) -> list[float]:
    """The peak learning rate of each of `parameter_groups`, in their order."""
    return [group["lr"] for group in parameter_groups(model, settings)]


def make_optimizer(model: MultiTaskModel, settings: OptimizerSettings) -> torch.optim.Optimizer:
    """AdamW, or plain SGD for exact comparisons."""
    groups = parameter_groups(model, settings)
    if settings.name == "sgd":
        return torch.optim.SGD(groups, lr=settings.learning_rate)
    # Fused, one pass over each parameter and its moments; the loop over single operations, which
    # torch takes on a CPU, is several times as slow (benchmarks/results/speed.md).
    return torch.optim.AdamW(
        groups, lr=settings.learning_rate, betas=settings.betas, eps=settings.eps, fused=True
    )


def learning_rate_factor(step: int, num_steps: int, schedule: Schedule) -> float:
    """Share of the peak learning rate that step `step` (from 0) of `num_steps` uses.

    Linear warm-up, never zero, then linear to zero, that to a power, half a cosine, or constant.
    Source of the shapes: Devlin et al. 2019 (linear), fairseq's polynomial_decay, with which
    RoBERTa was trained (polynomial, to zero), Loshchilov & Hutter 2017 (cosine).
    """
    warmup_steps = num_warmup_steps(num_steps, schedule)
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, num_steps - warmup_steps)
    if schedule.decay == "linear":
        return 1.0 - progress
    if schedule.decay == "polynomial":
        return float((1.0 - progress) ** schedule.power)
    if schedule.decay == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * progress))
    return 1.0


def num_warmup_steps(num_steps: int, schedule: Schedule) -> int:
    """How many steps the learning rate rises in."""
    if schedule.warmup_steps is not None:
        return schedule.warmup_steps
    # Rounded first: 0.07 * 100 is a little over 7 in floating point.
    return math.ceil(round((schedule.warmup or 0.0) * num_steps, 6))
