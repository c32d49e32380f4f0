"""DeepSpeed behind the loop's Engine protocol."""

from __future__ import annotations

import atexit
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from muppet_zoo_torch.batch import TensorBatch
from muppet_zoo_torch.model import MultiTaskModel
from muppet_zoo_torch.optimizer import make_optimizer
from torch import Tensor

from muppet_zoo.errors import CheckpointError
from muppet_zoo.run import Run
from muppet_zoo_deepspeed.settings import accumulation_steps, deepspeed_config, skip_compiled_ops

_TAG = "deepspeed"


class DeepSpeedEngine:
    """One rank. RANK, WORLD_SIZE and the others must be set before it is made."""

    def __init__(self, model: MultiTaskModel, run: Run, device: torch.device) -> None:
        import deepspeed

        deepspeed.utils.logger.setLevel(logging.ERROR)
        model.bf16 = run.precision == "bf16"
        skip_compiled_ops()
        self.rank = int(os.environ["RANK"])
        self.world_size = int(os.environ["WORLD_SIZE"])
        self.device = device
        self._stage = run.deepspeed.zero_stage
        self._optimizer = make_optimizer(model, run.optimizer)
        _join_ranks(device)
        self._engine, *_ = deepspeed.initialize(
            model=model,
            optimizer=self._optimizer,
            config=deepspeed_config(run, self.world_size),
        )
        # DeepSpeed divides by the accumulation steps and averages over processes; the loop has
        # already divided by the global count and wants sums.
        self._undo_averaging = float(accumulation_steps(run, self.world_size) * self.world_size)

    @property
    def model(self) -> MultiTaskModel:
        """The bare model; empty parameters at stage 3 outside of a gathering."""
        model: MultiTaskModel = self._engine.module
        return model

    def forward(self, batch: TensorBatch, *, predict: bool = False) -> Any:
        return self._engine(batch, predict=predict)

    def backward(self, loss: Tensor, *, last: bool) -> None:
        self._engine.backward(loss * self._undo_averaging)
        if not last:
            self._engine.step()  # counts the micro-batch; updates nothing yet

    def step(self, learning_rates: Sequence[float]) -> float:
        groups = self._engine.optimizer.param_groups
        for group, rate in zip(groups, learning_rates, strict=True):
            group["lr"] = rate
        norm = self._stage_0_norm() if self._stage == 0 else None
        self._engine.step()
        return norm if norm is not None else float(self._engine.get_global_grad_norm())

    def _stage_0_norm(self) -> float:
        # At stage 0 the gradients are whole and already summed; DeepSpeed keeps no norm of them.
        # `inf` as the limit means: only measure.
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), float("inf"))
        return float(norm)

    def save(self, folder: Path) -> None:
        self._engine.save_checkpoint(str(folder), tag=_TAG, save_latest=False)

    def load(self, folder: Path) -> None:
        path, _ = self._engine.load_checkpoint(str(folder), tag=_TAG)
        if path is None:
            raise CheckpointError(f"{folder} holds no DeepSpeed state")

    def full_state_dict(self) -> dict[str, Tensor]:
        from deepspeed.utils import safe_get_full_fp32_param

        state = {name: value.detach().cpu() for name, value in self.model.named_buffers()}
        for name, parameter in self.model.named_parameters():
            whole = self._whole(parameter, safe_get_full_fp32_param)
            state[name] = whole.detach().float().cpu().clone()
        persistent = set(self.model.state_dict())
        return {name: value for name, value in state.items() if name in persistent}

    def _whole(self, parameter: Any, full_fp32: Any) -> Tensor:
        from deepspeed.runtime.zero import GatheredParameters

        if self._stage == 0:
            return parameter.detach()  # type: ignore[no-any-return]
        if parameter.requires_grad:
            return full_fp32(parameter)  # type: ignore[no-any-return]
        with GatheredParameters([parameter], enabled=self._stage == 3):  # not the optimizer's
            return parameter.detach().clone()  # type: ignore[no-any-return]

    def sum(self, values: Tensor) -> Tensor:
        total = values.to(self.device, copy=True)
        torch.distributed.all_reduce(total)
        return total.to(values.device)

    def gather(self, value: Any) -> list[Any]:
        gathered: list[Any] = [None] * self.world_size
        torch.distributed.all_gather_object(gathered, value)
        return gathered


def _join_ranks(device: torch.device) -> None:
    """Connect the ranks, once per process: DeepSpeed cannot follow a group that is made anew."""
    import deepspeed

    if not torch.distributed.is_initialized():
        atexit.register(_leave)
    deepspeed.init_distributed(
        dist_backend="nccl" if device.type == "cuda" else "gloo", auto_mpi_discovery=False
    )


def _leave() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
