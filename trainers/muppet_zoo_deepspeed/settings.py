"""A run in DeepSpeed's words. The one module that knows DeepSpeed's keys and variables."""

from __future__ import annotations

import os
from typing import Any

from muppet_zoo.run import Run

# Everything torch.distributed and DeepSpeed ask for; without all five DeepSpeed looks for MPI.
RANK_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


def accumulation_steps(run: Run, world_size: int) -> int:
    """Micro-batches of one process in one optimizer step, idle ones included."""
    return -(-run.batching.micro_batches_per_step // world_size)


def deepspeed_config(run: Run, world_size: int) -> dict[str, Any]:
    """The configuration that `deepspeed.initialize` takes."""
    accumulation = accumulation_steps(run, world_size)
    bucket = run.deepspeed.bucket_elements
    return {
        # Rows in a micro-batch vary; DeepSpeed only checks that these three agree.
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": accumulation,
        "train_batch_size": accumulation * world_size,
        # Always written: since 2026 DeepSpeed clips to 1.0 where the key is absent.
        "gradient_clipping": run.optimizer.gradient_clipping,
        # bfloat16 is the model's own affair (`MultiTaskModel.precision`): DeepSpeed's would round
        # the parameters too, and at stage 0 give out the rounded ones.
        "bf16": {"enabled": False},
        "zero_optimization": {
            "stage": run.deepspeed.zero_stage,
            "overlap_comm": run.deepspeed.overlap_comm,
            "contiguous_gradients": True,
            "reduce_bucket_size": bucket,
            "allgather_bucket_size": bucket,
            "stage3_prefetch_bucket_size": min(50_000_000, bucket),
            # Smaller parameters than these stay whole on every process.
            "stage3_param_persistence_threshold": min(100_000, bucket),
        },
        # SGD is for comparisons with the reference; DeepSpeed has to be told that it is meant.
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 1_000_000_000,
        "wall_clock_breakdown": False,
    }


def prepare_environment(run: Run, *, cuda: bool) -> None:
    """Variables that DeepSpeed reads while it is imported or initialised."""
    if not cuda:
        os.environ["DS_ACCELERATOR"] = "cpu"
    os.environ.setdefault("DEEPSPEED_TIMEOUT", str(run.deepspeed.timeout_minutes))


def skip_compiled_ops() -> None:
    """Keep DeepSpeed from compiling its shared-memory collective with g++ at the first start.

    It takes a minute, fails where there is no compiler, and serves inference alone. The switch is
    an internal table of DeepSpeed's, so its absence in another version is no error.
    """
    import deepspeed.ops

    table = getattr(deepspeed.ops, "__compatible_ops__", None)
    if isinstance(table, dict):
        table["deepspeed_shm_comm"] = False
