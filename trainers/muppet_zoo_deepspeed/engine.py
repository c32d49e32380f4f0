"""DeepSpeed behind the loop's Engine protocol."""

from __future__ import annotations

import atexit
import logging
import os
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import torch
from muppet_zoo_torch.batch import TensorBatch
from muppet_zoo_torch.model import MultiTaskModel
from muppet_zoo_torch.optimizer import make_optimizer
from muppet_zoo_torch.training_state import (
    MOMENTS,
    SavedState,
    load_whole,
    tensors,
    update_count,
    whole_moments,
)
from torch import Tensor

from muppet_zoo.run import Run
from muppet_zoo_deepspeed.settings import accumulation_steps, deepspeed_config, skip_compiled_ops


class DeepSpeedEngine:
    """One rank. RANK, WORLD_SIZE and the others must be set before it is made."""

    counts_passes = True  # gradient_accumulation_steps

    def __init__(self, model: MultiTaskModel, run: Run, device: torch.device) -> None:
        import deepspeed

        deepspeed.utils.logger.setLevel(logging.ERROR)
        model.precision = run.precision
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
        if self._stage == 0 and self.world_size == 1:
            # There is nothing to sum, and DeepSpeed would copy all gradients to and fro for it.
            self._engine.enable_backward_allreduce = False
        _limit_waiting(timedelta(minutes=run.deepspeed.timeout_minutes))
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

    def skip_step(self) -> None:
        # DeepSpeed has to go through its step to count it and to clear its buffers. An optimizer
        # that finds no gradients changes nothing.
        hook = self._optimizer.register_step_pre_hook(_drop_gradients)
        self._engine.step()
        hook.remove()

    def full_state_dict(self) -> dict[str, Tensor]:
        from deepspeed.utils import safe_get_full_fp32_param

        state = {}
        for name, tensor in tensors(self.model):
            whole = self._whole(tensor, safe_get_full_fp32_param)
            if self.rank == 0:
                state[name] = whole.detach().float().cpu().clone()
        return state

    def _whole(self, tensor: Tensor, full_fp32: Any) -> Tensor:
        from deepspeed.runtime.zero import GatheredParameters

        if self._stage == 0 or not isinstance(tensor, torch.nn.Parameter):
            return tensor.detach()
        if tensor.requires_grad:
            return full_fp32(tensor)  # type: ignore[no-any-return]
        with GatheredParameters([tensor], enabled=self._stage == 3):  # not the optimizer's
            return tensor.detach().clone()

    def full_moments(self, kind: str) -> dict[str, Tensor]:
        from deepspeed.utils import safe_get_full_optimizer_state

        if self._stage == 0:
            return whole_moments(self.model, self._optimizer, kind)
        if not any(kind in state for state in self._optimizer.state.values()):
            return {}
        self._link_moments()
        moments = {}
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad:
                whole = safe_get_full_optimizer_state(parameter, kind)
                if self.rank == 0:
                    moments[name] = whole.cpu().clone()
        return moments

    def load(self, state: SavedState) -> None:
        if self._stage == 0:
            load_whole(self.model, self._optimizer, state)
            return
        if state.has_moments:
            self._make_room_for_moments(state.num_updates)
        for name, tensor in tensors(self.model):
            self._load_tensor(tensor, state.parameter(name), state.moments(name))

    def _make_room_for_moments(self, num_updates: int) -> None:
        """Zeros where the first step would make them; DeepSpeed has no call that does."""
        zero = self._engine.optimizer
        slices = (
            zero.fp32_partitioned_groups_flat
            if self._stage == 3
            else zero.single_partition_of_fp32_groups
        )
        for own in slices:
            moments = {kind: torch.zeros_like(own) for kind in MOMENTS}
            self._optimizer.state[own] = {"step": update_count(num_updates), **moments}
        self._link_moments()

    def _link_moments(self) -> None:
        """Let the parameters find their moments; DeepSpeed does so for its first group alone."""
        from deepspeed.utils import lazy_init_hp_params_optimizer_state

        if self._stage != 3:
            zero = self._engine.optimizer
            for group, own in zip(
                zero.bit16_groups, zero.single_partition_of_fp32_groups, strict=True
            ):
                lazy_init_hp_params_optimizer_state(group, own, zero.optimizer.state)

    def _load_tensor(self, tensor: Tensor, value: Tensor, moments: dict[str, Tensor]) -> None:
        """What the model computes with, and beside it this rank's slice of what it learns with."""
        from deepspeed import utils
        from deepspeed.runtime.zero import GatheredParameters

        value = value.to(self.device)
        # A buffer is whole everywhere.
        partitioned = self._stage == 3 and isinstance(tensor, torch.nn.Parameter)
        with GatheredParameters([tensor], modifier_rank=0, enabled=partitioned):
            tensor.data.copy_(value)
        if not tensor.requires_grad:
            return
        kept = {kind: moment.to(self.device) for kind, moment in moments.items()}
        if self._stage == 3:
            # `safe_set_full_…` fails where a size is no multiple of the number of ranks.
            utils.safe_set_local_fp32_param(tensor, self._slice(tensor, value))
            for kind, moment in kept.items():
                utils.safe_set_local_optimizer_state(tensor, self._slice(tensor, moment), kind)
        else:
            utils.safe_set_full_fp32_param(tensor, value)
            for kind, moment in kept.items():
                utils.safe_set_full_optimizer_state(tensor, moment, kind)

    def _slice(self, parameter: Any, value: Tensor) -> Tensor:
        """This rank's part of a value at ZeRO 3; the last rank's is filled up with zeros."""
        size = parameter.ds_tensor.numel()
        filled = torch.zeros(size * self.world_size, device=self.device)
        filled[: value.numel()] = value.flatten()
        return filled[self.rank * size : (self.rank + 1) * size]

    def sum(self, values: Tensor) -> Tensor:
        total = values.to(self.device, copy=True)
        torch.distributed.all_reduce(total)
        return total.to(values.device)

    def gather(self, value: Any) -> list[Any]:
        gathered: list[Any] = [None] * self.world_size
        torch.distributed.all_gather_object(gathered, value)
        return gathered


def _limit_waiting(timeout: timedelta) -> None:
    """Make collectives of every group of ranks give up in time.

    DeepSpeed makes groups of its own, without the limit that it gives to the first one: gradients
    would be waited for half an hour. torch has no public way to change it afterwards.
    """
    from torch.distributed import distributed_c10d

    for group in distributed_c10d._world.pg_map:
        distributed_c10d._set_pg_timeout(timeout, group)


def _join_ranks(device: torch.device) -> None:
    """Connect the ranks, once per process: DeepSpeed cannot follow a group that is made anew."""
    import deepspeed

    if not torch.distributed.is_initialized():
        atexit.register(_leave)
    deepspeed.init_distributed(
        dist_backend="nccl" if device.type == "cuda" else "gloo", auto_mpi_discovery=False
    )


def _drop_gradients(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = None


def _leave() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
