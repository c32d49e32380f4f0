"""What is told of a run while it goes on: a line of the log, the screen, trackers, the mix so far.

One record, `Progress`, becomes all of them, so that none says anything else. Losses are means over
examples, scaled as they are trained on. The processes' sums are the loop's affair; all here is done
by the first of them.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from muppet_zoo.collate import MicroBatch
from muppet_zoo.console import ProgressDisplay, ProgressLine
from muppet_zoo.file_tools import append_line
from muppet_zoo.results import TaskReport
from muppet_zoo_torch.engine import Engine
from muppet_zoo_torch.export import writing
from muppet_zoo_torch.plan import Plan
from muppet_zoo_torch.run_record import RealisedMix, read_log, versions, write_versions
from muppet_zoo_torch.trackers import Tracker, open_trackers

METRICS_FILE = "metrics.jsonl"


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What happened since the line before; `step` steps are done.

    losses, counts, tokens: by task, in the order of the run: sums of losses, examples, real tokens.
    num_cells: tokens with padding.
    skipped_steps: steps left out for a loss that was not finite; they are in no other number.
    """

    step: int
    losses: Sequence[float]
    counts: Sequence[float]
    tokens: Sequence[float]
    num_cells: float
    learning_rate: float
    gradient_norm: float
    skipped_steps: int
    seconds: float


def tokens_by_task(batch: MicroBatch, num_tasks: int) -> NDArray[np.float64]:
    """(num_tasks,) real tokens of each task's sequences, all options of a choice included."""
    lengths = batch.attention_mask.sum(1)
    total = np.zeros(num_tasks)
    for rows in batch.groups.values():
        own = np.where(rows.sequences >= 0, lengths[rows.sequences], 0).sum(1)
        np.add.at(total, rows.tasks, own)
    return total


class RunLog:
    """The log of one run on the first process; the others have one that is never written to."""

    def __init__(
        self,
        plan: Plan,
        mix: RealisedMix,
        screen: tuple[ProgressDisplay, ProgressLine],
        trackers: Sequence[Tracker],
    ) -> None:
        self._plan = plan
        self._display, self._line = screen
        self._trackers = trackers
        self._mix = mix

    def line(self, progress: Progress) -> None:
        """Write a line of metrics.jsonl and tell the screen and the trackers."""
        entry = _entry(self._plan, progress)
        with writing(self._plan.out / METRICS_FILE):
            append_line(self._plan.out / METRICS_FILE, json.dumps(entry).encode())
            self._mix.add(entry)
            self._mix.write()
        figures = ", ".join(f"{value} {name}" for name, value in _figures(entry).items())
        self._line.update(progress.step, details=figures)
        self._display.show(_sections(entry, self._mix))
        for tracker in self._trackers:
            tracker.log(_flat(entry), progress.step)

    def scores(self, step: int, reports: Sequence[TaskReport]) -> None:
        """Tell the trackers; reports.jsonl is written already."""
        values = {
            f"score/{report.task}/{metric}": score
            for report in reports
            for metric, score in report.scores.items()
        }
        for tracker in self._trackers:
            tracker.log(values, step)


@contextmanager
def open_log(
    engine: Engine, plan: Plan, display: ProgressDisplay, trainer: str
) -> Iterator[RunLog]:
    """The log of a run, with its trackers; they are closed however the run ends."""
    name = "fine-tune" if plan.run.task else "pre-finetune"
    with ExitStack() as stack:
        trackers: list[Tracker] = []
        before: list[dict[str, Any]] = []
        if engine.rank == 0:
            found = versions(trainer=trainer, num_processes=engine.world_size)
            write_versions(plan.out, found)
            before = read_log(plan.out / METRICS_FILE)
            after = before[-1]["step"] if before else 0
            trackers = open_trackers(plan.run, plan.out, after_step=after)
            for tracker in trackers:
                stack.callback(tracker.close)
        line = display.start(name, total=plan.num_steps, unit="steps")
        yield RunLog(plan, RealisedMix(plan, before), (display, line), trackers)
        line.finish()


def _entry(plan: Plan, progress: Progress) -> dict[str, Any]:
    names = [spec.name for spec in plan.specs]
    present = [i for i, count in enumerate(progress.counts) if count]
    families: dict[str, list[int]] = {}
    for i in present:
        families.setdefault(plan.specs[i].family, []).append(i)
    num_tokens = sum(progress.tokens)

    def mean(tasks: Sequence[int]) -> float:
        return sum(progress.losses[i] for i in tasks) / sum(progress.counts[i] for i in tasks)

    return {
        "step": progress.step,
        "loss": mean(present) if present else None,  # every step was skipped
        "family_losses": {family: mean(tasks) for family, tasks in sorted(families.items())},
        "task_losses": {names[i]: mean([i]) for i in present},
        "task_examples": {names[i]: int(progress.counts[i]) for i in present},
        "task_tokens": {names[i]: int(progress.tokens[i]) for i in present},
        "learning_rate": progress.learning_rate,
        "gradient_norm": progress.gradient_norm,
        "skipped_steps": progress.skipped_steps,
        "num_tokens": int(num_tokens),
        "padding_share": 1 - num_tokens / progress.num_cells if progress.num_cells else 0.0,
        "tokens_per_s": num_tokens / progress.seconds,
        "seconds": progress.seconds,
        "peak_memory_bytes": peak_memory_bytes(),
    }


def peak_memory_bytes() -> int:
    """Most memory used so far: of the CUDA device if there is one, else of this process."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _figures(entry: Mapping[str, Any]) -> dict[str, str]:
    return {
        "loss": "none" if entry["loss"] is None else f"{entry['loss']:.3f}",
        "learning rate": f"{entry['learning_rate']:.2g}",
        "tokens/s": f"{entry['tokens_per_s']:,.0f}",
        "padding": f"{entry['padding_share']:.1%}",
        "GiB at most": f"{entry['peak_memory_bytes'] / 2**30:.1f}",
    }


def _sections(entry: Mapping[str, Any], mix: RealisedMix) -> dict[str, dict[str, str]]:
    """What the screen shows below the bar."""
    total = max(1, sum(mix.examples.values()))
    return {
        "since the line before": _figures(entry),
        "scaled loss by family": {
            family: f"{loss:.3f}" for family, loss in entry["family_losses"].items()
        },
        "share of the examples so far": {
            task: f"{count / total:.1%}" for task, count in mix.examples.most_common()
        },
    }


def _flat(entry: Mapping[str, Any]) -> dict[str, float]:
    """Numbers under names with slashes, as trackers group them; the step goes beside them."""
    values: dict[str, float] = {}
    for key, value in entry.items():
        if isinstance(value, Mapping):
            values |= {f"{key}/{name}": float(number) for name, number in value.items()}
        elif key != "step" and value is not None:
            values[key] = float(value)
    return values
