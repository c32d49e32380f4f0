"""One rank of a run, as a program: `python -m muppet_zoo_deepspeed.worker REQUEST.json`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from muppet_zoo.parent_watch import stop_with_parent
from muppet_zoo.run import parse_run
from muppet_zoo.trainer_api import TrainRequest, tasks_of
from muppet_zoo.zoo import load_zoo
from muppet_zoo_deepspeed.launch import report_error
from muppet_zoo_deepspeed.trainer import train_rank


def read_request(path: Path) -> TrainRequest:
    """The request that `trainer.write_request` wrote."""
    data = json.loads(path.read_text("utf-8"))
    run = parse_run(data["run"])
    spec_dirs = tuple(Path(folder) for folder in data["spec_dirs"])
    tasks, rates = tasks_of(run, load_zoo(spec_dirs))
    return TrainRequest(
        run=run,
        tasks=tasks,
        rates=rates,
        out=Path(data["out"]),
        num_processes=data["num_processes"],
        spec_dirs=spec_dirs,
    )


def main() -> None:
    """Run the rank that the environment names."""
    stop_with_parent()
    try:
        train_rank(read_request(Path(sys.argv[1])))
    except BaseException as error:
        code = report_error(error)
        sys.stdout.flush()
        sys.stderr.flush()
        # An orderly end would wait for the other ranks, which wait for this one.
        os._exit(code)


if __name__ == "__main__":
    main()
