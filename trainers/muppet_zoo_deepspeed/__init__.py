"""The default trainer: the same model, losses and loop, with DeepSpeed's engine and ZeRO stages."""

from muppet_zoo_deepspeed.trainer import DeepSpeedTrainer

__all__ = ["DeepSpeedTrainer"]
