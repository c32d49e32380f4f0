"""One rank that trains several requests in turn; a program for `test_zero.py`."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import torch

warnings.simplefilter("ignore")  # DeepSpeed's own deprecations

from muppet_zoo_deepspeed.trainer import train_rank  # noqa: E402
from muppet_zoo_deepspeed.worker import read_request  # noqa: E402

if __name__ == "__main__":
    torch.set_num_threads(1)
    for request in sys.argv[1:]:
        train_rank(read_request(Path(request)))
