"""Ten real classification tasks as shards, and the same examples as lists for everybody else.

All contenders start from the packaged MiniLM and see the same token ids: those of our shards.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from muppet_zoo_torch.engine import TorchEngine
from muppet_zoo_torch.plan import Plan, make_plan
from muppet_zoo_torch.trainer import make_model

from benchmarks.speed.inputs import MAX_TOKENS, WORK, check_mirror, encoder_folder
from muppet_zoo.build import BuildOptions, build
from muppet_zoo.encode import open_tokenizer
from muppet_zoo.run import parse_run, with_defaults
from muppet_zoo.shards import BuiltSplit, open_task
from muppet_zoo.trainer_api import TrainRequest, tasks_of
from muppet_zoo.zoo import load_zoo

SPECS = Path(__file__).parents[1] / "specs"
MIXTURE = "speed_training"
ROWS_PER_STEP = 32
LEARNING_RATE = 2e-5
CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class Example:
    """One text or pair: token ids with the special ones, and its label."""

    task: int
    ids: list[int]
    label: int


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """The built tasks. num_labels: by task. sizes: examples of each that take part."""

    data: Path
    encoder: Path
    splits: tuple[BuiltSplit, ...]
    num_labels: tuple[int, ...]
    sizes: tuple[int, ...]

    @property
    def mean_length(self) -> float:
        """Tokens of an example, over the mix."""
        sums = [float(s.lengths.mean()) * n for s, n in zip(self.splits, self.sizes, strict=True)]
        return sum(sums) / sum(self.sizes)

    def examples(self) -> list[Example]:
        """A fixed random part of each task, in the order of tasks."""
        found = []
        for task, (split, size) in enumerate(zip(self.splits, self.sizes, strict=True)):
            rows = np.sort(np.random.default_rng(0).permutation(len(split.lengths))[:size])
            found += [
                Example(task=task, ids=record.sequences[0].tolist(), label=record.target)
                for record in map(split.record, rows.tolist())
            ]
        return found


def make_inputs(mirror: Path) -> Inputs:
    """Build the tasks; nothing is done again that is there."""
    zoo, data, encoder = load_zoo((SPECS,)), WORK / "training", encoder_folder()
    mixture = zoo.mixture(MIXTURE)
    check_mirror(mirror, mixture.tasks)
    specs = [zoo.task(name) for name in mixture.tasks]
    report = build(
        specs,
        tokenizer=open_tokenizer(str(encoder)),
        out=data,
        options=BuildOptions(mirror=mirror, max_tokens=MAX_TOKENS),
    )
    if report.errors:
        raise SystemExit("\n".join(map(str, report.errors)))
    splits = tuple(open_task(data, spec.name, "train") for spec in specs)
    return Inputs(
        data=data,
        encoder=encoder,
        splits=splits,
        num_labels=tuple(spec.num_labels or 0 for spec in specs),
        sizes=tuple(min(len(split.lengths), mixture.rates.cap or 0) for split in splits),
    )


def run_settings(inputs: Inputs, **changed: Any) -> dict[str, Any]:
    """A run file on the tasks: as many tokens a step as `ROWS_PER_STEP` rows have on average."""
    raw: dict[str, Any] = {
        "run_version": 1,
        "data": str(inputs.data),
        "mixture": MIXTURE,
        "model": {"encoder": str(inputs.encoder), "pooling": "mean"},
        "optimizer": {"learning_rate": LEARNING_RATE, "gradient_clipping": 1.0},
        "batching": {
            "tokens_per_micro_batch": round(ROWS_PER_STEP * inputs.mean_length),
            "micro_batches_per_step": 1,
        },
        "schedule": {"steps": 100_000},
        "evaluation": {"at_end": False},
    }
    return {**raw, **changed}


def engine_of(settings: Mapping[str, Any], out: Path) -> tuple[TorchEngine, Plan]:
    """The engine and plan with which `muppet-zoo train` would start, in this process."""
    run = parse_run(with_defaults(dict(settings)))
    tasks, rates = tasks_of(run, load_zoo((SPECS,)))
    plan = make_plan(TrainRequest(run=run, tasks=tasks, rates=rates, out=out))
    model = make_model(plan)
    model.train()
    return TorchEngine(model, run, CPU), plan
