"""One rank that trains several requests on data with one bad row; a program for a test.

Arguments: the task's number, the row, and paths of requests.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

warnings.simplefilter("ignore")  # DeepSpeed's own deprecations

from muppet_zoo_deepspeed.launch import report_error  # noqa: E402
from muppet_zoo_deepspeed.trainer import train_rank  # noqa: E402
from muppet_zoo_deepspeed.worker import read_request  # noqa: E402
from muppet_zoo_torch import loop  # noqa: E402


def with_bad_row(task: int, row: int) -> Callable[..., Any]:
    """A `collate` that finds an infinite number in this row of a regression task."""
    collate = loop.collate

    def spoiled(*arguments: Any) -> Any:
        batch = collate(*arguments)
        if (rows := batch.groups.get("regression")) is not None:
            rows.target[(rows.tasks == task) & (rows.rows == row)] = np.inf
        return batch

    return spoiled


if __name__ == "__main__":
    torch.set_num_threads(1)
    loop.collate = with_bad_row(int(sys.argv[1]), int(sys.argv[2]))
    try:
        for request in sys.argv[3:]:
            train_rank(read_request(Path(request)))
    except BaseException as error:
        os._exit(report_error(error))
