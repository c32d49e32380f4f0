"""muppet-zoo: massive multi-task pre-finetuning (MUPPET, arXiv:2101.11038).

Public names are resolved when first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from muppet_zoo.build import build as build
    from muppet_zoo.shards import open_task as open_task
    from muppet_zoo.trainer_api import load_trainer as load_trainer
    from muppet_zoo.zoo import load_zoo as load_zoo

_PUBLIC = {
    "build": "muppet_zoo.build",
    "load_trainer": "muppet_zoo.trainer_api",
    "load_zoo": "muppet_zoo.zoo",
    "open_task": "muppet_zoo.shards",
}

__all__ = ["__version__", "build", "load_trainer", "load_zoo", "open_task"]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        from importlib import import_module

        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'muppet_zoo' has no attribute '{name}'")
