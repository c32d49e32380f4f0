"""The runs behind `benchmarks/exactness.py`: steps cut in many ways, heads without their task.

As a program it is one rank: `python -m benchmarks.exactness_runs REQUEST.json…` runs every request
in turn, and the first rank leaves what it found in the request's folder.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from muppet_zoo_deepspeed.worker import read_request
from muppet_zoo_torch import loop
from muppet_zoo_torch.engine import Engine, TorchEngine
from muppet_zoo_torch.plan import Plan, make_plan
from muppet_zoo_torch.trainer import make_model
from safetensors.torch import save_file
from torch import Tensor

from muppet_zoo.batches import MicroBatchPlan, StepPlan
from muppet_zoo.build import BuildOptions, build
from muppet_zoo.encode import open_tokenizer
from muppet_zoo.generation import Generation
from muppet_zoo.run import parse_run, with_defaults
from muppet_zoo.trainer_api import TrainRequest, tasks_of
from muppet_zoo.zoo import load_zoo, shipped_specs

NUM_STEPS = 3
COMMUNICATION = {
    "plain": {},
    "overlapped": {"overlap_comm": True, "bucket_elements": 3000},
}
# A thousand times the usual, so that noise that came from elsewhere would be found out.
NOISE = {"epsilon": 1e-2, "weight": 2.0}
ABSENT = ("qs_topic", "qs_word_tags")
STEPS_WITH, STEPS_WITHOUT = 20, 100
MODELS = {"encoder": "tiny_encoder", "encoder_decoder": "tiny_encoder_decoder"}
CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One way to run the steps.

    trainer: `torch`, `double` or `deepspeed`. model: a key of MODELS; the second one generates too.
    """

    trainer: str
    model: str = "encoder"
    noise: bool = False
    packed: bool = False
    num_ranks: int = 1
    num_micro_batches: int = 1
    stage: int = 0
    communication: str = "plain"

    @property
    def name(self) -> str:
        """A file's name that says everything."""
        return "-".join(str(value) for value in asdict(self).values())

    @property
    def reference(self) -> Case:
        """The plain trainer, whole and with padding."""
        return Case(trainer="torch", model=self.model, noise=self.noise)


# --- data and runs ---------------------------------------------------------------------------


def prepare(folder: Path) -> None:
    """Shards of all quickstart tasks, and for each of MODELS a mixture of what it can learn."""
    tasks = [task for name, task in sorted(load_zoo().tasks.items()) if name.startswith("qs_")]
    quickstart = shipped_specs() / "quickstart"
    options = BuildOptions(limit=64, max_tokens=64)
    tokenizer = open_tokenizer(str(quickstart / "tiny_encoder"))  # that of the other model too
    build(tasks, tokenizer=tokenizer, out=folder / "data", options=options)
    (folder / "specs" / "mixtures").mkdir(parents=True)
    for model in MODELS:
        names = ", ".join(
            task.name
            for task in tasks
            if model == "encoder_decoder" or not isinstance(task.head, Generation)
        )
        (folder / f"specs/mixtures/{model}.yaml").write_text(
            f"mixture_version: 1\nname: {model}\ndescription: For a benchmark.\ntasks: [{names}]\n"
        )


def request(folder: Path, out: Path, case: Case, **changes: Any) -> TrainRequest:
    """A run on `prepare`'s data as the case has it; neither model has any dropout."""
    data = {
        "run_version": 1,
        "data": str(folder / "data"),
        "mixture": case.model,
        "model": {
            "encoder": str(shipped_specs() / "quickstart" / MODELS[case.model]),
            "random_init": True,
            "dropout": 0.0,
            "packing": "on" if case.packed else "off",
        },
        "batching": {
            "tokens_per_micro_batch": 1024,
            "micro_batches_per_step": case.num_micro_batches,
            "window_examples": 256,
        },
        "optimizer": {"name": "sgd", "learning_rate": 0.1, "gradient_clipping": 0.0},
        "schedule": {"steps": NUM_STEPS, "decay": "constant", "warmup": 0},
        "deepspeed": {"zero_stage": case.stage, **COMMUNICATION[case.communication]},
        **({"r3f": NOISE} if case.noise else {}),
        **changes,
    }
    run = parse_run(with_defaults(data))
    specs = (folder / "specs",)
    tasks, rates = tasks_of(run, load_zoo(specs))
    return TrainRequest(
        run=run, tasks=tasks, rates=rates, out=out, num_processes=case.num_ranks, spec_dirs=specs
    )


def recut(steps: Iterator[StepPlan], num_micro_batches: int) -> Iterator[StepPlan]:
    """Steps of the same examples, each of `num_micro_batches`, whatever there were."""
    for step in steps:
        whole = _joined(step.micro_batches)
        parts = np.array_split(np.arange(len(whole.rows)), num_micro_batches)
        yield replace(step, micro_batches=tuple(_chosen(whole, part) for part in parts))


def _joined(parts: Sequence[MicroBatchPlan]) -> MicroBatchPlan:
    return MicroBatchPlan(
        tasks=np.concatenate([part.tasks for part in parts]),
        rows=np.concatenate([part.rows for part in parts]),
        lengths=np.concatenate([part.lengths for part in parts]),
    )


def _chosen(whole: MicroBatchPlan, rows: Any) -> MicroBatchPlan:
    return MicroBatchPlan(
        tasks=whole.tasks[rows], rows=whole.rows[rows], lengths=whole.lengths[rows]
    )


# --- one rank --------------------------------------------------------------------------------


def run_case(engine: Engine, plan: Plan, gradient: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """The steps of a case; whole gradients of every step, and the parameters after the last."""
    found: dict[str, Tensor] = {}
    take = engine.step

    def observed(learning_rates: Sequence[float]) -> float:
        for name, parameter in engine.model.named_parameters():
            if parameter.requires_grad:
                number = sum(key.startswith(name + "@") for key in found)
                found[f"{name}@{number}"] = gradient(parameter).detach().double().cpu().clone()
        return take(learning_rates)

    engine.step = observed  # type: ignore[method-assign]
    engine.model.train()
    # The steps are those of a run with one micro-batch, however many this one has.
    single = replace(
        plan.batcher, batching=replace(plan.batcher.batching, micro_batches_per_step=1)
    )
    cut = recut(single.steps(), plan.run.batching.micro_batches_per_step)
    for number, step in enumerate(islice(cut, NUM_STEPS)):
        loop._train_step(engine, plan, number, step, loop._new_tally(engine, plan))
    state = engine.full_state_dict()  # of tied parameters it may hold every name
    names = [name for name, _ in engine.model.named_parameters() if name in state]
    return found | {name: state[name].double() for name in names}


def plain_case(folder: Path, case: Case) -> dict[str, Tensor]:
    """The same by the plain trainer, in this process."""
    plan = make_plan(request(folder, folder / "out", case))
    model = make_model(plan)
    engine = TorchEngine(model.double() if case.trainer == "double" else model, plan.run, CPU)
    return run_case(engine, plan, _own_gradient)


def _own_gradient(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def rank_main(requests: Sequence[str]) -> None:
    """One rank: every request in turn; the first rank writes what it found to the run's folder."""
    warnings.simplefilter("ignore")  # DeepSpeed's own deprecations
    from deepspeed.utils import safe_get_full_grad
    from muppet_zoo_deepspeed.engine import DeepSpeedEngine

    torch.set_num_threads(1)
    for path in requests:
        plan = make_plan(read_request(Path(path)))
        engine = DeepSpeedEngine(make_model(plan), plan.run, CPU)
        if plan.run.optimizer.name == "adamw":
            found = movements(engine, plan)
        else:
            found = run_case(engine, plan, safe_get_full_grad)
        if engine.rank == 0:
            save_file(found, plan.out / "found.safetensors")


# --- heads whose task is absent --------------------------------------------------------------


def movements(engine: Engine, plan: Plan) -> dict[str, Tensor]:
    """The largest change of each absent task's columns in the steps without it, by task."""
    absent = [i for i, spec in enumerate(plan.specs) if spec.name in ABSENT]
    engine.model.train()
    before: dict[int, list[Tensor]] = {}
    steps = plan.batcher.steps()
    for number, step in enumerate(islice(steps, STEPS_WITH + STEPS_WITHOUT)):
        if number == STEPS_WITH:
            before = _columns(engine, plan, absent)
        used = without(step, absent) if before or number >= STEPS_WITH else step
        loop._train_step(engine, plan, number, used, loop._new_tally(engine, plan))
    after = _columns(engine, plan, absent)
    return {
        plan.specs[task].name: torch.stack(
            [(a - b).abs().max() for a, b in zip(after[task], before[task], strict=True)]
        ).max()
        for task in after
    }


def without(step: StepPlan, tasks: Sequence[int]) -> StepPlan:
    """The step without the examples of these tasks."""
    parts = [_chosen(part, ~np.isin(part.tasks, tasks)) for part in step.micro_batches]
    full = tuple(part for part in parts if len(part.rows))
    return replace(step, micro_batches=full, num_examples=sum(len(part.rows) for part in full))


def _columns(engine: Engine, plan: Plan, tasks: Sequence[int]) -> dict[int, list[Tensor]]:
    """Weights and biases of each task's columns; empty but on the first rank."""
    state = engine.full_state_dict()
    slots = {task: plan.layout.slots[task] for task in tasks} if state else {}
    return {
        task: [
            state[f"{slot.level}.{kind}"][slot.start : slot.start + slot.size].clone()
            for kind in ("weight", "bias")
        ]
        for task, slot in slots.items()
    }


if __name__ == "__main__":
    rank_main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(0)
