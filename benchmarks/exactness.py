"""Whether a step's gradient depends on how it is cut, and whether heads move without their task.

Run in the repository's root: python -m benchmarks.exactness. It takes minutes.

Gradients: steps of the quickstart tasks, all head types mixed, are cut into 1, 2 and 4
micro-batches and run on 1, 2 and 3 processes at every ZeRO stage, once with one large bucket and
once with overlapped communication and buckets of 3000 numbers. SGD, fp32, no dropout. Each whole
gradient, and the parameters after the last step, are compared with those of the plain trainer that
runs the step as one micro-batch; the same in double precision shows how much of it is rounding.

Absent heads: AdamW trains all tasks, then 100 steps without two of them, whose columns are compared
before and after, with and without momentum.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np
import torch
from muppet_zoo_deepspeed.launch import run_ranks
from muppet_zoo_deepspeed.trainer import write_request
from muppet_zoo_deepspeed.worker import read_request
from muppet_zoo_torch import loop
from muppet_zoo_torch.engine import Engine, TorchEngine
from muppet_zoo_torch.plan import Plan, make_plan
from muppet_zoo_torch.trainer import make_model
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks.common import RESULTS, write_result
from muppet_zoo.batches import MicroBatchPlan, StepPlan
from muppet_zoo.build import BuildOptions, build
from muppet_zoo.console import note
from muppet_zoo.encode import open_tokenizer
from muppet_zoo.generation import Generation
from muppet_zoo.run import parse_run, with_defaults
from muppet_zoo.trainer_api import TrainRequest, tasks_of
from muppet_zoo.zoo import load_zoo, shipped_specs

NUM_STEPS = 3
MICRO_BATCHES = (1, 2, 4)
NUM_RANKS = (1, 2, 3)
STAGES = (0, 1, 2, 3)
COMMUNICATION = {
    "plain": {},
    "overlapped": {"overlap_comm": True, "bucket_elements": 3000},
}
BOUND = 1e-6
ABSENT = ("qs_topic", "qs_word_tags")
STEPS_WITH, STEPS_WITHOUT = 20, 100
RATE = 1e-3
_ENCODER = shipped_specs() / "quickstart" / "tiny_encoder"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One way to run the steps. trainer: `torch`, `double` or `deepspeed`."""

    trainer: str
    num_ranks: int = 1
    num_micro_batches: int = 1
    stage: int = 0
    communication: str = "plain"

    @property
    def name(self) -> str:
        """A file's name that says everything."""
        return "-".join(str(value) for value in asdict(self).values())


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Relative differences: Euclidean norms over all parameters together, worst step."""

    case: Case
    gradient: float
    parameters: float


# --- data and runs ---------------------------------------------------------------------------


def prepare(folder: Path) -> None:
    """Shards, a mixture of all quickstart tasks of an encoder, and the encoder without dropout."""
    own = [task for name, task in sorted(load_zoo().tasks.items()) if name.startswith("qs_")]
    tasks = [task for task in own if not isinstance(task.head, Generation)]
    options = BuildOptions(limit=64, max_tokens=64)
    build(tasks, tokenizer=open_tokenizer(str(_ENCODER)), out=folder / "data", options=options)
    names = ", ".join(task.name for task in tasks)
    (folder / "specs" / "mixtures").mkdir(parents=True)
    (folder / "specs/mixtures/everything.yaml").write_text(
        f"mixture_version: 1\nname: everything\ndescription: For a benchmark.\ntasks: [{names}]\n"
    )
    (folder / "encoder").mkdir()
    for path in _ENCODER.iterdir():
        (folder / "encoder" / path.name).write_bytes(path.read_bytes())
    config = json.loads((_ENCODER / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "encoder" / "config.json").write_text(json.dumps(config))


def request(folder: Path, out: Path, case: Case, **changes: Any) -> TrainRequest:
    """A run on `prepare`'s data as the case has it."""
    data = {
        "run_version": 1,
        "data": str(folder / "data"),
        "mixture": "everything",
        "model": {"encoder": str(folder / "encoder"), "random_init": True, "dropout": 0.0},
        "batching": {
            "tokens_per_micro_batch": 1024,
            "micro_batches_per_step": case.num_micro_batches,
            "window_examples": 256,
        },
        "optimizer": {"name": "sgd", "learning_rate": 0.1, "gradient_clipping": 0.0},
        "schedule": {"steps": NUM_STEPS, "decay": "constant", "warmup": 0},
        "deepspeed": {"zero_stage": case.stage, **COMMUNICATION[case.communication]},
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
    found |= {name: value.double() for name, value in engine.full_state_dict().items()}
    return found


def plain_case(folder: Path, case: Case) -> dict[str, Tensor]:
    """The same by the plain trainer, in this process."""
    plan = make_plan(request(folder, folder / "out", case))
    model = make_model(plan)
    engine = TorchEngine(model.double() if case.trainer == "double" else model, plan.run, _CPU)
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
        engine = DeepSpeedEngine(make_model(plan), plan.run, _CPU)
        if plan.run.optimizer.name == "adamw":
            found = movements(engine, plan)
        else:
            found = run_case(engine, plan, safe_get_full_grad)
        if engine.rank == 0:
            save_file(found, plan.out / "found.safetensors")


_CPU = torch.device("cpu")


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


def measure_movements(folder: Path) -> dict[str, dict[str, float]]:
    """By trainer, stage and momentum: how far absent heads moved, in units of the learning rate."""
    found: dict[str, dict[str, Tensor]] = {}
    requests = {}
    for momentum in (True, False):
        suffix = "" if momentum else ", head_momentum: false"
        changes = {
            "optimizer": {"learning_rate": RATE, "head_momentum": momentum},
            "schedule": {"steps": STEPS_WITH + STEPS_WITHOUT, "decay": "constant", "warmup": 0},
        }
        plan = make_plan(request(folder, folder / "out", Case(trainer="torch"), **changes))
        found[f"torch{suffix}"] = movements(TorchEngine(make_model(plan), plan.run, _CPU), plan)
        for stage in STAGES:
            out = folder / f"movement-{stage}-{momentum}"
            out.mkdir()
            case = Case(trainer="deepspeed", stage=stage, communication="overlapped")
            path = write_request(request(folder, out, case, **changes))
            requests[f"ZeRO {stage}{suffix}"] = path
    note(f"{len(requests)} runs of {STEPS_WITH + STEPS_WITHOUT} steps")
    run_ranks("benchmarks.exactness", ["--rank", *map(str, requests.values())], 1)
    for name, path in requests.items():
        found[name] = load_file(path.parent / "found.safetensors")
    return {
        name: {task: float(value) / RATE for task, value in values.items()}
        for name, values in found.items()
    }


# --- comparison ------------------------------------------------------------------------------


def differences(folder: Path, cases: Sequence[Case]) -> Iterator[Difference]:
    """Run the cases, all of one number of ranks together, and compare with the plain trainer."""
    reference = plain_case(folder, Case(trainer="torch"))
    for case in (case for case in cases if case.trainer != "deepspeed"):
        yield compared(case, plain_case(folder, case), reference)
    for num_ranks in sorted({case.num_ranks for case in cases}):
        own = [c for c in cases if c.trainer == "deepspeed" and c.num_ranks == num_ranks]
        requests = []
        for case in own:
            out = folder / case.name
            out.mkdir()
            requests.append(str(write_request(request(folder, out, case))))
        note(f"{len(own)} cases on {num_ranks} process(es)")
        run_ranks("benchmarks.exactness", ["--rank", *requests], num_ranks)
        for case in own:
            yield compared(case, load_file(folder / case.name / "found.safetensors"), reference)


def compared(case: Case, found: dict[str, Tensor], reference: dict[str, Tensor]) -> Difference:
    """Norm of the difference through the norm of the reference."""
    if found.keys() != reference.keys():
        raise ValueError(f"{case.name}: other parameters than the reference's")
    steps = {key.rpartition("@")[2] for key in reference if "@" in key}
    return Difference(
        case=case,
        gradient=max(
            _relative(found, reference, [k for k in reference if k.endswith(f"@{step}")])
            for step in steps
        ),
        parameters=_relative(found, reference, [k for k in reference if "@" not in k]),
    )


def _relative(found: dict[str, Tensor], reference: dict[str, Tensor], keys: Sequence[str]) -> float:
    ours, theirs = (
        torch.cat([x[key].double().flatten() for key in keys]) for x in (found, reference)
    )
    return float((ours - theirs).norm() / theirs.norm())


def table(found: Sequence[Difference], movements: dict[str, dict[str, float]]) -> str:
    """The results as Markdown."""
    lines = [
        "# A step's gradient, however it is cut",
        "",
        "Made by `python -m benchmarks.exactness`, whose docstring says how. Relative difference",
        "of the gradient (worst step, worst of plain and overlapped communication) to that of the",
        f"plain trainer with one micro-batch; the bound is {BOUND:.0e}.",
        "",
        "| processes | micro-batches | " + " | ".join(f"ZeRO {stage}" for stage in STAGES) + " |",
        "|" + "---|" * (2 + len(STAGES)),
    ]
    own = [d for d in found if d.case.trainer == "deepspeed"]
    for ranks, parts in sorted({(d.case.num_ranks, d.case.num_micro_batches) for d in own}):
        cells = [
            max(
                (d.gradient for d in own
                 if (d.case.num_ranks, d.case.num_micro_batches, d.case.stage)
                 == (ranks, parts, stage)),
                default=float("nan"),
            )
            for stage in STAGES
        ]  # fmt: skip
        lines.append(f"| {ranks} | {parts} | " + " | ".join(f"{cell:.1e}" for cell in cells) + " |")
    lines += [""] + [
        f"* {d.case.trainer}, {d.case.num_micro_batches} micro-batch(es): {d.gradient:.1e}"
        for d in found
        if d.case.trainer != "deepspeed"
    ]
    worst = max(d.parameters for d in own)
    lines += [f"* parameters after {NUM_STEPS} steps, worst of all cases: {worst:.1e}"]
    if movements:
        lines += [
            "",
            "# Heads whose task is absent",
            "",
            f"AdamW, {STEPS_WITH} steps of all tasks, then {STEPS_WITHOUT} without these: the",
            "largest change of a weight of theirs, in units of the learning rate.",
            "",
            "| trainer | " + " | ".join(ABSENT) + " |",
            "|" + "---|" * (1 + len(ABSENT)),
        ]
        lines += [
            f"| {name} | " + " | ".join(f"{values[task]:.2f}" for task in ABSENT) + " |"
            for name, values in movements.items()
        ]
    return "\n".join(lines) + "\n"


def all_cases(
    num_ranks: Sequence[int], micro_batches: Sequence[int], stages: Sequence[int]
) -> list[Case]:
    """Every combination, the plain trainer's cuts, and double precision."""
    return [
        Case(trainer="double"),
        *(Case(trainer="torch", num_micro_batches=parts) for parts in micro_batches if parts > 1),
        *(
            Case(
                trainer="deepspeed",
                num_ranks=ranks,
                num_micro_batches=parts,
                stage=stage,
                communication=communication,
            )
            for ranks in num_ranks
            for parts in micro_batches
            for stage in stages
            for communication in COMMUNICATION
        ),
    ]


@click.command()
@click.option("--ranks", type=int, multiple=True, default=NUM_RANKS, show_default=True)
@click.option("--micro-batches", type=int, multiple=True, default=MICRO_BATCHES, show_default=True)
@click.option("--stages", type=int, multiple=True, default=STAGES, show_default=True)
@click.option("--absent/--no-absent", default=True, help="Measure heads of absent tasks too.")
@click.option("--out", type=click.Path(path_type=Path), default=RESULTS, help="Folder of results.")
def main(
    ranks: tuple[int, ...],
    micro_batches: tuple[int, ...],
    stages: tuple[int, ...],
    absent: bool,
    out: Path,
) -> None:
    """Compare gradients however a step is cut; ends with 1 where one is beyond the bound."""
    torch.set_num_threads(1)
    with TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        found = list(differences(folder, all_cases(ranks, micro_batches, stages)))
        moved = measure_movements(folder) if absent else {}
    text = table(found, moved)
    click.echo(text)
    out.mkdir(parents=True, exist_ok=True)
    (out / "exactness.md").write_text(text, "utf-8")
    data = {"bound": BOUND, "differences": [asdict(d) for d in found], "absent": moved}
    write_result("exactness", data, out)
    if max(d.gradient for d in found if d.case.trainer != "double") > BOUND:
        raise SystemExit(1)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--rank"]:
        rank_main(sys.argv[2:])
        sys.stdout.flush()
        os._exit(0)
    main()
