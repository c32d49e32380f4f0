"""The plain single-process trainer: what every other trainer is compared with."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch

from muppet_zoo.affinity import Affinity, AffinityRequest
from muppet_zoo.console import note, progress
from muppet_zoo.errors import CheckpointError, UsageError
from muppet_zoo.file_tools import own_folder, write_atomically
from muppet_zoo.model_folder import CHECKPOINTS_FOLDER, MODEL_FOLDER
from muppet_zoo.results import TaskReport
from muppet_zoo.run import Run
from muppet_zoo.trainer_api import EvalRequest, ExportRequest, PredictRequest, TrainRequest
from muppet_zoo_torch.adaptation import adapt
from muppet_zoo_torch.affinity import affinity
from muppet_zoo_torch.checkpoints import holds_checkpoint
from muppet_zoo_torch.checks import check_answers_fit, check_data_fits
from muppet_zoo_torch.engine import TorchEngine
from muppet_zoo_torch.evaluate import default_device, evaluate_folder
from muppet_zoo_torch.export import writing
from muppet_zoo_torch.hf_export import export
from muppet_zoo_torch.loop import final_reports, train
from muppet_zoo_torch.model import MultiTaskModel
from muppet_zoo_torch.packing import use_packing
from muppet_zoo_torch.plan import Plan, make_plan
from muppet_zoo_torch.predict import predict
from muppet_zoo_torch.pretrained import is_encoder_decoder, load_encoder, read_tokenizer
from muppet_zoo_torch.reuse import reuse_heads

# What may differ when a run goes on. Checkpoints know the data's digest, so it may lie elsewhere.
_FREE_ON_RESUME = {"data", "trainer", "deepspeed", "checkpointing", "on_bad_loss", "logging"}
RUN_FILE = "run.json"


class TorchTrainer:
    """PyTorch, one process, no wrapper around the model."""

    name = "torch"

    def train(self, request: TrainRequest) -> Sequence[TaskReport]:
        """Train to the end; see `trainer_api.Trainer`."""
        if request.num_processes != 1 or request.launched:
            asked = "--launched" if request.launched else f"--num-processes {request.num_processes}"
            raise UsageError(
                f"the torch trainer runs one process, {asked} was asked for; use --trainer "
                f"deepspeed"
            )
        plan = make_plan(request)
        with run_lock(plan.out):
            if (finished := prepare_out(plan, resume=request.resume)) is not None:
                return finished
            engine = TorchEngine(make_model(plan), request.run, default_device())
            with progress() as display:
                return train(engine, plan, display, trainer=self.name)

    def evaluate(self, request: EvalRequest) -> Sequence[TaskReport]:
        """Score a model folder; see `trainer_api.Trainer`."""
        with progress() as display:
            return evaluate_folder(request, display)

    def export(self, request: ExportRequest) -> Path:
        """Write a model in Hugging Face format; see `trainer_api.ModelUser`."""
        return export(request)

    def predict(self, request: PredictRequest) -> Iterator[dict[str, Any]]:
        """Answer rows; see `trainer_api.ModelUser`."""
        return predict(request)

    def affinity(self, request: AffinityRequest) -> Affinity:
        """Compare the gradients of tasks; see `trainer_api.ModelUser`."""
        with progress() as display:
            return affinity(request, display)


def run_lock(out: Path) -> AbstractContextManager[None]:
    """Keep a second training out of the folder; UsageError where one is there, or other files."""
    return own_folder(out, "run", {RUN_FILE, CHECKPOINTS_FOLDER, MODEL_FOLDER})


def make_model(plan: Plan) -> MultiTaskModel:
    """The run's encoder with fresh heads; what is random depends on the seed alone."""
    torch.manual_seed(plan.run.seed)
    settings = plan.run.model
    encoder = load_encoder(settings.encoder, random_init=settings.random_init)
    check_data_fits(encoder, settings.encoder, [*plan.train, *plan.evaluation.values()])
    check_answers_fit(encoder, settings.encoder, plan.layout)
    torch.manual_seed(plan.run.seed)  # heads do not depend on how the encoder was made
    usual_pooling = "end" if is_encoder_decoder(encoder.config) else "first"
    model = MultiTaskModel(
        encoder,
        plan.layout,
        pooling=settings.pooling or usual_pooling,
        dropout=settings.dropout,
        head_dense=settings.head_dense,
    )
    if settings.heads == "reuse":
        reuse_heads(model, settings.encoder, plan.specs)
    adapt(
        encoder,
        freeze=settings.freeze,
        lora=settings.lora,
        checkpointing=settings.gradient_checkpointing,
    )
    use_packing(encoder, settings.encoder, settings.packing)
    model.label_smoothing = plan.run.generation.label_smoothing
    model.regularise(plan.run.r3f)
    model.beam_search = plan.run.generation.beam_search
    model.tokenizer_files = read_tokenizer(settings.encoder)
    return model


def prepare_out(plan: Plan, *, resume: bool) -> list[TaskReport] | None:
    """Start a run in its folder, or find that the same one is already there.

    Returns the final reports, which may be none, when the run is complete, else None.

    Raises:
        UsageError: the folder holds a run and `resume` was not asked for, or another run.
    """
    out, run_file = plan.out, plan.out / RUN_FILE
    # A run that ended before its first checkpoint, for a wrong setting say, has nothing to keep.
    if holds_checkpoint(out) or (out / MODEL_FOLDER).is_dir():
        if not resume:
            raise UsageError(
                f"{out} already holds a run; add --resume to go on with it, or choose another --out"
            )
        _check_same_run(run_file, plan.run)
        if (out / MODEL_FOLDER).is_dir():
            note(f"{out} is complete; nothing to do")
            return final_reports(plan)
    elif resume:
        note(f"{out} holds no checkpoint; starting from the first step")
    with writing(run_file):
        write_atomically(run_file, json.dumps(dict(plan.run.raw), indent=1).encode())
    missing = [spec.name for spec in plan.specs if spec.name not in plan.evaluation]
    if missing:
        note(
            f"no {plan.run.evaluation.split} split is built for {', '.join(missing)}: trained, "
            f"but not scored"
        )
    return None


def _check_same_run(run_file: Path, run: Run) -> None:
    """Refuse other settings, but for those that change nothing in what an example teaches."""
    if not run_file.is_file():
        note(f"{run_file} is missing; going on with the settings given now")
        return
    try:
        before = dict(json.loads(run_file.read_text("utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(
            f"{run_file} is damaged: {error}; remove it to go on with the settings given now"
        ) from error
    now = json.loads(json.dumps(dict(run.raw)))
    keys = {*before, *now} - _FREE_ON_RESUME
    different = sorted(key for key in keys if before.get(key) != now.get(key))
    if different:
        changes = "; ".join(f"{key}: {before.get(key)} → {now.get(key)}" for key in different)
        raise UsageError(
            f"{run_file.parent} holds another run ({changes}); resume with the same settings, or "
            f"choose another --out"
        )
