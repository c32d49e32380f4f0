"""Whether a step's gradient depends on how it is cut, and whether heads move without their task.

Run in the repository's root: python -m benchmarks.exactness. It takes about ten minutes, and goes
on where it was stopped, if the commit is the same and nothing is changed since.

Gradients: steps of the quickstart tasks, all head types mixed, are cut into 1, 2 and 4
micro-batches and run on 1, 2 and 3 processes at every ZeRO stage, once with one large bucket and
once with overlapped communication and buckets of 3000 numbers: an encoder with and without R3F's
noise and, with it, packed; an encoder-decoder, which generates as well, with and without. SGD,
fp32, no dropout. Each whole gradient, and the parameters after the last step, are compared with
those of the plain trainer that runs the step as one padded micro-batch; the same in double
precision shows how much of it is rounding.

Absent heads: AdamW trains all tasks, then 100 steps without two of them, whose columns are compared
before and after, with and without momentum.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import torch
from muppet_zoo_deepspeed.launch import run_ranks
from muppet_zoo_deepspeed.trainer import write_request
from muppet_zoo_torch.engine import TorchEngine
from muppet_zoo_torch.plan import make_plan
from muppet_zoo_torch.trainer import make_model
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.common import RESULTS, write_result
from benchmarks.exactness_runs import (
    ABSENT,
    COMMUNICATION,
    CPU,
    NUM_STEPS,
    STEPS_WITH,
    STEPS_WITHOUT,
    Case,
    movements,
    plain_case,
    prepare,
    request,
)
from muppet_zoo.console import note
from muppet_zoo.provenance import commit

MICRO_BATCHES = (1, 2, 4)
NUM_RANKS = (1, 2, 3)
STAGES = (0, 1, 2, 3)
BOUND = 1e-6
RATE = 1e-3
# What is run of every cut; the title of its table.
KINDS = {
    "An encoder": Case(trainer="deepspeed"),
    "An encoder with R3F": Case(trainer="deepspeed", noise=True),
    "An encoder with R3F, packed": Case(trainer="deepspeed", noise=True, packed=True),
    "An encoder-decoder, which generates too": Case(trainer="deepspeed", model="encoder_decoder"),
    "An encoder-decoder with R3F": Case(trainer="deepspeed", model="encoder_decoder", noise=True),
}
_PART_FILE = "exactness.partial.jsonl"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Relative differences: Euclidean norms over all parameters together, worst step."""

    case: Case
    gradient: float
    parameters: float


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
        found[f"torch{suffix}"] = movements(TorchEngine(make_model(plan), plan.run, CPU), plan)
        for stage in STAGES:
            out = folder / f"movement-{stage}-{momentum}"
            out.mkdir()
            case = Case(trainer="deepspeed", stage=stage, communication="overlapped")
            path = write_request(request(folder, out, case, **changes))
            requests[f"ZeRO {stage}{suffix}"] = path
    note(f"{len(requests)} runs of {STEPS_WITH + STEPS_WITHOUT} steps")
    run_ranks("benchmarks.exactness_runs", ["cpu", *map(str, requests.values())], 1)
    for name, path in requests.items():
        found[name] = load_file(path.parent / "found.safetensors")
    return {
        name: {task: float(value) / RATE for task, value in values.items()}
        for name, values in found.items()
    }


# --- comparison ------------------------------------------------------------------------------


def differences(folder: Path, cases: Sequence[Case]) -> Iterator[Difference]:
    """Run the cases, all of one kind and number of ranks together, and compare."""
    references = {case.reference for case in cases}
    expected = {reference: plain_case(folder, reference) for reference in references}
    for case in (case for case in cases if case.trainer != "deepspeed"):
        yield compared(case, plain_case(folder, case), expected[case.reference])
    for together in _launched_together([case for case in cases if case.trainer == "deepspeed"]):
        requests = []
        for case in together:
            out = folder / case.name
            out.mkdir()
            requests.append(str(write_request(request(folder, out, case))))
        note(f"{len(together)} cases like {together[0].name}")
        run_ranks("benchmarks.exactness_runs", ["cpu", *requests], together[0].num_ranks)
        for case in together:
            found = load_file(folder / case.name / "found.safetensors")
            yield compared(case, found, expected[case.reference])


def _launched_together(cases: Sequence[Case]) -> list[list[Case]]:
    groups: dict[tuple[Case, bool, int], list[Case]] = {}
    for case in cases:
        groups.setdefault((case.reference, case.packed, case.num_ranks), []).append(case)
    return list(groups.values())


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
        f"plain trainer with one padded micro-batch; the bound is {BOUND:.0e}.",
    ]
    for title, kind in KINDS.items():
        same = (kind.reference, kind.packed)
        if own := [d for d in found if (d.case.reference, d.case.packed) == same]:
            lines += ["", f"## {title}", "", *_kind_lines(own)]
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


def _kind_lines(found: Sequence[Difference]) -> list[str]:
    lines = [
        "| processes | micro-batches | " + " | ".join(f"ZeRO {stage}" for stage in STAGES) + " |",
        "|" + "---|" * (2 + len(STAGES)),
    ]
    worst: dict[tuple[int, int, int], float] = {}
    own = [d for d in found if d.case.trainer == "deepspeed"]
    for d in own:
        cell = (d.case.num_ranks, d.case.num_micro_batches, d.case.stage)
        worst[cell] = max(d.gradient, worst.get(cell, 0.0))
    for ranks, parts in sorted({cell[:2] for cell in worst}):
        cells = [worst.get((ranks, parts, stage), float("nan")) for stage in STAGES]
        lines.append(f"| {ranks} | {parts} | " + " | ".join(f"{cell:.1e}" for cell in cells) + " |")
    lines += [""] + [
        f"* {d.case.trainer}, {d.case.num_micro_batches} micro-batch(es): {d.gradient:.1e}"
        for d in found
        if d.case.trainer != "deepspeed"
    ]
    parameters = max((d.parameters for d in own), default=float("nan"))
    return [*lines, f"* parameters after {NUM_STEPS} steps, worst of all cases: {parameters:.1e}"]


def all_cases(
    num_ranks: Sequence[int], micro_batches: Sequence[int], stages: Sequence[int]
) -> list[Case]:
    """Of every kind all combinations, the plain trainer's cuts, and double precision."""
    return [
        case
        for kind in KINDS.values()
        for case in [
            replace(kind, trainer="double"),
            *(
                replace(kind, trainer="torch", num_micro_batches=parts)
                for parts in micro_batches
                if parts > 1 or kind.packed
            ),
            *(
                replace(
                    kind,
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
    ]


def _found_before(path: Path, now: str | None) -> list[Difference]:
    """What a run of the same commit that was stopped had found."""
    if not path.is_file() or now is None or now.endswith("+changes"):
        return []
    records = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return [
        Difference(**{**record["found"], "case": Case(**record["found"]["case"])})
        for record in records
        if record["commit"] == now
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
    out.mkdir(parents=True, exist_ok=True)
    part = out / _PART_FILE
    now = commit()
    found = _found_before(part, now)
    known = {d.case for d in found}
    with TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        cases = [case for case in all_cases(ranks, micro_batches, stages) if case not in known]
        with part.open("a", encoding="utf-8") as lines:
            for difference in differences(folder, cases):
                found.append(difference)
                lines.write(json.dumps({"commit": now, "found": asdict(difference)}) + "\n")
                lines.flush()
        moved = measure_movements(folder) if absent else {}
    text = table(found, moved)
    click.echo(text)
    (out / "exactness.md").write_text(text, "utf-8")
    data = {"bound": BOUND, "differences": [asdict(d) for d in found], "absent": moved}
    write_result("exactness", data, out)
    part.unlink()
    if max(d.gradient for d in found if d.case.trainer != "double") > BOUND:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
