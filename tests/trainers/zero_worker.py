"""One rank that trains several requests in turn; a program for the tests of several processes.

An argument is the path of a request, or `FOLDER>PATH`: the first rank first copies that run's
folder, without what followed its first checkpoint, to the request's.
"""

from __future__ import annotations

import os
import shutil
import sys
import warnings
from pathlib import Path

import torch

warnings.simplefilter("ignore")  # DeepSpeed's own deprecations

from muppet_zoo_deepspeed.trainer import train_rank  # noqa: E402
from muppet_zoo_deepspeed.worker import read_request  # noqa: E402


def copy_first_checkpoint(source: Path, out: Path) -> None:
    """Make `out` the folder of a run that was killed after its first checkpoint."""
    first = min((source / "checkpoints").glob("step-*"))
    shutil.copytree(first, out / "checkpoints" / first.name)
    shutil.copy(source / "metrics.jsonl", out)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for argument in sys.argv[1:]:
        source, _, path = argument.rpartition(">")
        request = read_request(Path(path))
        if source and os.environ["RANK"] == "0":
            copy_first_checkpoint(Path(source), request.out)
        train_rank(request)
