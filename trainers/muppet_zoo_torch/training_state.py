"""What a run has learned, by parameter name: equal files from every trainer, rank count and stage.

    state/
    ├── parameters.safetensors   parameters and buffers
    ├── exp_avg.safetensors      AdamW's mean of gradients, of each trained parameter
    └── exp_avg_sq.safetensors   … and of their squares

ZeRO's own files hold slices that only the same number of processes at the same stage can read, and
its converter knows neither stage 0 nor the plain trainer. Whole tensors by name need no conversion:
reading them back gives the same bits, so a run goes on anywhere. They are gathered one parameter at
a time and written by the first process, and read one at a time by all.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

if TYPE_CHECKING:
    from muppet_zoo_torch.engine import Engine

PARAMETERS = "parameters"
MOMENTS = ("exp_avg", "exp_avg_sq")  # as torch.optim.AdamW names them


class SavedState:
    """The tensors of a `state` folder, read when asked for. `num_updates`: steps of the optimizer.

    Raises:
        OSError, SafetensorError: a file is missing or no safetensors file.
    """

    def __init__(self, folder: Path, num_updates: int) -> None:
        self.num_updates = num_updates
        kinds = [kind for kind in (PARAMETERS, *MOMENTS) if _path(folder, kind).is_file()]
        self._files: dict[str, Any] = {
            kind: safe_open(_path(folder, kind), framework="pt") for kind in kinds
        }

    def parameter(self, name: str) -> Tensor:
        """A parameter or buffer. Raises KeyError when it was not saved."""
        found = self._get(PARAMETERS, name)
        if found is None:
            raise KeyError(f"it holds no parameter {name}")
        return found

    def moments(self, name: str) -> dict[str, Tensor]:
        """AdamW's two moments of a parameter; none of one that was never updated."""
        found = {kind: self._get(kind, name) for kind in MOMENTS}
        return {kind: value for kind, value in found.items() if value is not None}

    @property
    def has_moments(self) -> bool:
        """Whether the optimizer kept any, which SGD does not."""
        return all(kind in self._files for kind in MOMENTS)

    def _get(self, kind: str, name: str) -> Tensor | None:
        file = self._files.get(kind)
        known = () if file is None else file.keys()
        return file.get_tensor(name) if file is not None and name in known else None


def write_state(engine: Engine, folder: Path) -> None:
    """Write the state; called on every process, written by the first."""
    names = {name for name, _ in tensors(engine.model)}
    for kind in (PARAMETERS, *MOMENTS):
        values = engine.full_state_dict() if kind == PARAMETERS else engine.full_moments(kind)
        if engine.rank == 0 and values:
            whole = {name: value.contiguous() for name, value in values.items() if name in names}
            save_file(whole, _path(folder, kind))


def tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters and the buffers that are saved; of tied ones only the first name."""
    yield from model.named_parameters()
    persistent = model.state_dict().keys()
    yield from ((name, value) for name, value in model.named_buffers() if name in persistent)


def load_whole(model: nn.Module, optimizer: torch.optim.Optimizer, state: SavedState) -> None:
    """Put a state into a model and an optimizer that nothing has partitioned."""
    with torch.no_grad():
        for name, tensor in tensors(model):
            tensor.copy_(state.parameter(name))
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and (moments := state.moments(name)):
            kept = {kind: value.to(parameter.device) for kind, value in moments.items()}
            optimizer.state[parameter] = {"step": update_count(state.num_updates), **kept}


def whole_moments(
    model: nn.Module, optimizer: torch.optim.Optimizer, kind: str
) -> dict[str, Tensor]:
    """The moments of a model that nothing has partitioned, by name, on the CPU."""
    return {
        name: optimizer.state[parameter][kind].detach().cpu()
        for name, parameter in model.named_parameters()
        if kind in optimizer.state.get(parameter, {})
    }


def update_count(num_updates: int) -> Tensor:
    """The form in which torch's AdamW counts its steps."""
    return torch.tensor(float(num_updates), dtype=torch.float32)


def _path(folder: Path, kind: str) -> Path:
    return folder / f"{kind}.safetensors"
