"""The model, losses, loop and evaluation, and the plain single-process trainer: the reference.

The DeepSpeed trainer uses everything here but the engine.
"""

from muppet_zoo_torch.trainer import TorchTrainer

__all__ = ["TorchTrainer"]
