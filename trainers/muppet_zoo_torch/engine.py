"""Engine: the few things in which trainers differ. The loop knows nothing else of them.

`TorchEngine` is the plain single-process form and the reference: no wrapper touches the gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from muppet_zoo.run import Run
from muppet_zoo_torch.batch import TensorBatch
from muppet_zoo_torch.model import MultiTaskModel
from muppet_zoo_torch.optimizer import make_optimizer
from muppet_zoo_torch.training_state import SavedState, load_whole, whole_moments

# In half precision small gradients vanish, so the loss is made larger and they smaller again. The
# factor is constant: one that adapts would be a state to save, and skip steps without a word.
# Source: Micikevicius et al. 2018, "Mixed precision training", section 3.2.
FP16_LOSS_SCALE = 1024.0


class Engine(Protocol):
    """One process's view of the model in training.

    counts_passes: it steps after a number of passes that was fixed beforehand, so that a smaller
        optimizer step has to be filled up.
    """

    rank: int
    world_size: int
    counts_passes: bool
    device: torch.device

    @property
    def model(self) -> MultiTaskModel:
        """The bare model; its parameters may be partitioned between processes."""
        ...

    def forward(self, batch: TensorBatch, *, predict: bool = False) -> Any:
        """`MultiTaskModel.forward`, on every process alike."""
        ...

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """Add the gradient of `loss` to the step's; `last` marks the step's last micro-batch.

        `loss` is this micro-batch's share of the step's loss: already divided by the step's global
        number of examples, so that gradients are summed over micro-batches and processes.
        """
        ...

    def step(self, learning_rates: Sequence[float]) -> float:
        """Update the parameters, clear the gradients; returns the norm before clipping."""
        ...

    def skip_step(self) -> None:
        """Throw the step's gradients away instead; called on every process alike."""
        ...

    def full_state_dict(self) -> dict[str, Tensor]:
        """All parameters by name, whole, on the CPU; called on every process.

        Only the first process is given them; the others help to gather them and get nothing.
        """
        ...

    def full_moments(self, kind: str) -> dict[str, Tensor]:
        """The same for one of AdamW's moments; empty when the optimizer keeps none."""
        ...

    def load(self, state: SavedState) -> None:
        """Take over parameters and moments, whoever saved them; called on every process."""
        ...

    def sum(self, values: Tensor) -> Tensor:
        """The sum of `values` over processes."""
        ...

    def gather(self, value: Any) -> list[Any]:
        """`value` of every process, in the order of ranks, on every process."""
        ...


class TorchEngine:
    """Single process, no wrapper."""

    rank = 0
    world_size = 1
    counts_passes = False

    def __init__(self, model: MultiTaskModel, run: Run, device: torch.device) -> None:
        self.model = model.to(device)
        self.device = device
        self.model.precision = run.precision
        self._loss_scale = FP16_LOSS_SCALE if run.precision == "fp16" else 1.0
        self._clipping = run.optimizer.gradient_clipping
        self._optimizer = make_optimizer(model, run.optimizer)

    def forward(self, batch: TensorBatch, *, predict: bool = False) -> Any:
        return self.model(batch, predict=predict)

    def backward(self, loss: Tensor, *, last: bool) -> None:
        (loss * self._loss_scale).backward()  # type: ignore[no-untyped-call]

    def step(self, learning_rates: Sequence[float]) -> float:
        for group, rate in zip(self._optimizer.param_groups, learning_rates, strict=True):
            group["lr"] = rate
        if self.model.precision == "fp16":
            for parameter in self.model.parameters():
                if parameter.grad is not None:
                    parameter.grad.div_(self._loss_scale)
        limit = self._clipping or float("inf")
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), limit)
        self._optimizer.step()
        self._optimizer.zero_grad()
        return float(norm)

    def skip_step(self) -> None:
        self._optimizer.zero_grad()

    def load(self, state: SavedState) -> None:
        load_whole(self.model, self._optimizer, state)

    def full_moments(self, kind: str) -> dict[str, Tensor]:
        return whole_moments(self.model, self._optimizer, kind)

    def full_state_dict(self) -> dict[str, Tensor]:
        return {name: value.detach().cpu() for name, value in self.model.state_dict().items()}

    def sum(self, values: Tensor) -> Tensor:
        return values

    def gather(self, value: Any) -> list[Any]:
        return [value]
