"""The DeepSpeed trainer: checks in this process, then one process per rank.

A single rank runs in this very process; several are children that read the request from a file.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from muppet_zoo_torch.evaluate import evaluate_folder
from muppet_zoo_torch.loop import final_reports, train
from muppet_zoo_torch.plan import Plan, make_plan
from muppet_zoo_torch.trainer import make_model, prepare_out, run_lock
from torch.nn import functional

from muppet_zoo.console import note, progress
from muppet_zoo.errors import MuppetZooError, UsageError
from muppet_zoo.file_tools import write_atomically
from muppet_zoo.results import TaskReport
from muppet_zoo.trainer_api import EvalRequest, TrainRequest
from muppet_zoo_deepspeed.launch import free_port, rank_environment, report_error, run_ranks
from muppet_zoo_deepspeed.launched import launched_rank
from muppet_zoo_deepspeed.settings import prepare_environment

if TYPE_CHECKING:
    from muppet_zoo_deepspeed.engine import DeepSpeedEngine

REQUEST_FILE = "request.json"


class DeepSpeedTrainer:
    """DeepSpeed with ZeRO stage 0 to 3, on CUDA devices or on the CPU."""

    name = "deepspeed"

    def train(self, request: TrainRequest) -> Sequence[TaskReport] | None:
        """Train to the end; see `trainer_api.Trainer`."""
        if request.launched:
            with _variables(launched_rank(os.environ)):
                return _train_launched(request)
        plan = make_plan(request)
        with run_lock(plan.out):
            if (finished := prepare_out(plan, resume=request.resume)) is not None:
                return finished
            prepare_environment(request.run, cuda=torch.cuda.is_available())
            if request.num_processes == 1:
                with _variables(rank_environment(0, 1, free_port())):
                    _train_plan(plan)
            else:
                path = write_request(request)
                run_ranks("muppet_zoo_deepspeed.worker", [str(path)], request.num_processes)
            return final_reports(plan)

    def evaluate(self, request: EvalRequest) -> Sequence[TaskReport]:
        """Score a model folder; needs no DeepSpeed."""
        with progress() as display:
            return evaluate_folder(request, display)


def write_request(request: TrainRequest) -> Path:
    """The request as a file for `worker.py`."""
    path = request.out / REQUEST_FILE
    data = {
        "run": dict(request.run.raw),
        "out": str(request.out.resolve()),
        "num_processes": request.num_processes,
        "spec_dirs": [str(folder.resolve()) for folder in request.spec_dirs],
    }
    write_atomically(path, json.dumps(data, indent=1).encode())
    return path


def train_rank(request: TrainRequest) -> None:
    """The work of the rank that the environment names."""
    prepare_environment(request.run, cuda=torch.cuda.is_available())
    _train_plan(make_plan(request))


def _train_launched(request: TrainRequest) -> Sequence[TaskReport] | None:
    """The same where somebody else started the ranks, of which this process is one.

    Returns the scores in rank 0, None in the others. An error ends the process at once: the
    launcher then stops the others, which wait for this one.
    """
    try:
        prepare_environment(request.run, cuda=torch.cuda.is_available())
        plan = make_plan(request)
        if os.environ["RANK"] != "0":
            _train_plan(plan, resume=request.resume)
            return None
        with run_lock(plan.out):
            _train_plan(plan, resume=request.resume)
            return final_reports(plan)
    except BaseException as error:
        rank, world_size = os.environ["RANK"], os.environ["WORLD_SIZE"]
        note(f"process {rank} of {world_size} on {socket.gethostname()}:")
        code = report_error(error)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _is_complete(engine: DeepSpeedEngine, plan: Plan, *, resume: bool) -> bool:
    """What rank 0 finds in the run's folder, told to all ranks.

    Raises:
        UsageError: on every rank, what `prepare_out` raised on the first.
    """
    found: tuple[bool, str] = (False, "")
    if engine.rank == 0:
        try:
            found = (prepare_out(plan, resume=resume) is not None, "")
        except MuppetZooError as error:
            found = (False, str(error))
    complete, problem = engine.gather(found)[0]
    if problem:
        raise UsageError(problem)
    return bool(complete)


def _train_plan(plan: Plan, *, resume: bool | None = None) -> None:
    """Train as one rank. resume: look at the run's folder first; None where that is done."""
    with _torchs_own_linear(), warnings.catch_warnings():
        # DeepSpeed's own deprecations are nothing a user of a run can act on.
        warnings.simplefilter("ignore")
        from muppet_zoo_deepspeed.engine import DeepSpeedEngine

        engine = DeepSpeedEngine(make_model(plan), plan.run, _device())
        if resume is not None and _is_complete(engine, plan, resume=resume):
            return
        with progress(quiet=engine.rank != 0) as display:
            train(engine, plan, display, trainer=DeepSpeedTrainer.name)
        # Without it a rank may tear down the connection that another still reads from.
        torch.distributed.barrier()


def _device() -> torch.device:
    if not torch.cuda.is_available():
        return torch.device("cpu")
    # SLURM may show each rank a single device.
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    torch.cuda.set_device(device)
    return device


@contextmanager
def _torchs_own_linear() -> Iterator[None]:
    """Put back the function that ZeRO 3 replaces for the whole process, and leaves replaced.

    Its own rounds otherwise: whatever this process trained afterwards would have other last bits.
    """
    linear = functional.linear
    try:
        yield
    finally:
        functional.linear = linear


@contextmanager
def _variables(values: dict[str, str]) -> Iterator[None]:
    """Set environment variables and put the old ones back."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value
