"""Examples → micro-batches that mix tasks, fill a token budget, and hold like lengths.

Three demands pull apart: tasks should mix, padding should be small, and a run must resume
exactly. So the order of examples is cut into windows of consecutive draws. Inside a window,
examples are sorted by length and cut where the token budget is full; the micro-batches of a window
are then shuffled, so that lengths do not rise within it. A window is a pure function of
(seed, its number): a run resumes by planning one window. An epoch has at least four windows, and
the order fills them anew each time, so no two examples share a micro-batch for ever.

Stages: `Order` draws → window → micro-batch plans → optimizer steps (`Batcher`) → the share of one
process (`for_rank`). Only lengths are read here; `collate` makes arrays of what was planned.

Shapes: n examples of a plan.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from muppet_zoo.errors import CheckpointError, UnknownNameError, UsageError
from muppet_zoo.order import MICRO_BATCHES, SAMPLE, Draws, Order, key, permute
from muppet_zoo.task_data import I32, I64

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from muppet_zoo.task_data import TaskData

SCHEMES = ("mixed", "heterogeneous", "batch_homogeneous", "dataset_homogeneous")


@dataclass(frozen=True, kw_only=True)
class Batching:
    """How examples are gathered, as in the run file.

    scheme:                    which tasks may meet, see below.
    tokens_per_micro_batch:    most sequences x longest, padding included; only a single example
                               that is larger by itself goes beyond.
    examples_per_micro_batch:  most examples, however short; None for no such bound.
    micro_batches_per_step:    of one optimizer step, over all processes.
    window_examples:           examples that are sorted by length together, at most; see `Batcher`.

    mixed:                tasks mix inside a micro-batch, so that mixing costs no padding.
    heterogeneous:        one task a micro-batch, several a step.
    batch_homogeneous:    one task a step; a step ends early where a task has no more in the window.
    dataset_homogeneous:  one task after another, in the order of the mixture, once an epoch; a run
                          of fewer steps takes a part of each.
    Source: the last three are those that MUPPET compares (arXiv:2101.11038, section 3.3).
    """

    scheme: str = "mixed"
    tokens_per_micro_batch: int = 4096
    examples_per_micro_batch: int | None = None
    micro_batches_per_step: int = 4
    window_examples: int = 4096

    def __post_init__(self) -> None:
        if self.scheme not in SCHEMES:
            raise UnknownNameError("batching scheme", self.scheme, SCHEMES)
        for name, value in vars(self).items():
            if isinstance(value, int) and value < 1:
                raise UsageError(f"batching.{name} must be at least 1, not {value}")

    @property
    def one_task_per_step(self) -> bool:
        """Whether a step ends where the task changes."""
        return self.scheme in ("batch_homogeneous", "dataset_homogeneous")


@dataclass(frozen=True, kw_only=True)
class Position:
    """The next micro-batch of a run: all that a checkpoint needs to go on with the same data."""

    window: int = 0
    micro_batch: int = 0


@dataclass(frozen=True, kw_only=True)
class MicroBatchPlan:
    """Which n examples go together: tasks (n,) int32, rows (n,) int64, lengths (n,) uint32.

    Sorted by length; `lengths` are those of each example's longest sequence.
    """

    tasks: I32
    rows: I64
    lengths: NDArray[np.uint32]


@dataclass(frozen=True, kw_only=True)
class StepPlan:
    """One optimizer step over all processes; `after` is where the next one begins."""

    micro_batches: tuple[MicroBatchPlan, ...]
    num_examples: int
    after: Position

    def for_rank(self, rank: int, world_size: int) -> tuple[MicroBatchPlan | None, ...]:
        """Micro-batches rank, rank + world_size, …; None where this process has none left.

        Equally many entries on every rank: all processes must run equally many passes.
        """
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} of {world_size} processes")
        num_passes = -(-len(self.micro_batches) // world_size)
        mine = self.micro_batches[rank::world_size]
        return mine + (None,) * (num_passes - len(mine))


@dataclass(frozen=True, kw_only=True)
class Batcher:
    """The optimizer steps of a run over `datas`, whose order is that of the order's tasks."""

    order: Order
    datas: Sequence[TaskData]
    batching: Batching

    def __post_init__(self) -> None:
        sizes = tuple(len(data.lengths) for data in self.datas)
        if sizes != self.order.task_sizes:
            raise ValueError(f"tasks have {sizes} rows, the order is of {self.order.task_sizes}")
        if self.order.tasks_in_turn != (self.batching.scheme == "dataset_homogeneous"):
            raise ValueError(f"the order does not suit the scheme {self.batching.scheme}")

    def steps(
        self, start: Position | None = None, *, stop_after_examples: int | None = None
    ) -> Iterator[StepPlan]:
        """Steps from `start` on: endless, or up to a number of draws counted from the run's begin.

        The last of a bounded run may hold fewer micro-batches. A resumed run must be given the
        same bound, since it also ends the last window. Raises CheckpointError for a position that
        does not exist.
        """
        position = start or Position()
        micro_batches: list[MicroBatchPlan] = []
        while plans := self._window(position.window, stop_after_examples):
            if position.micro_batch >= len(plans):
                raise CheckpointError(
                    f"there is no {position}: window {position.window} has {len(plans)} micro-"
                    f"batches. The data, the batching or the mixture is not that of the checkpoint"
                )
            for index in range(position.micro_batch, len(plans)):
                here = Position(window=position.window, micro_batch=index)
                if micro_batches and self._ends_before(plans[index], micro_batches):
                    yield _step(micro_batches, after=here)
                    micro_batches = []
                micro_batches.append(plans[index])
            position = Position(window=position.window + 1)
        if micro_batches:
            yield _step(micro_batches, after=position)

    def _ends_before(self, plan: MicroBatchPlan, micro_batches: Sequence[MicroBatchPlan]) -> bool:
        """Whether a step of these micro-batches ends before `plan`."""
        if len(micro_batches) == self.batching.micro_batches_per_step:
            return True
        other_task = plan.tasks[0] != micro_batches[0].tasks[0]
        return self.batching.one_task_per_step and bool(other_task)

    @property
    def window_examples(self) -> int:
        """Draws in a window: as set, but at most a quarter of an epoch.

        A window of a whole epoch would sort the same rows into the same micro-batches every time,
        and one of many epochs would fill micro-batches with copies of one row.
        Source: the length-grouped sampler of transformers, which sorts in at least four parts.
        """
        return max(1, min(self.batching.window_examples, self.order.epoch_size // 4))

    def num_examples(self, num_epochs: float) -> int:
        """Draws in a number of epochs, which may be a fraction; at least one."""
        return max(1, round(num_epochs * self.order.epoch_size))

    def num_steps(self, num_epochs: float) -> int:
        """How many steps `steps(stop_after_examples=num_examples(num_epochs))` yields.

        Plans the whole run, but from lengths only.
        """
        stop = self.num_examples(num_epochs)
        if self.batching.one_task_per_step:
            return sum(1 for _ in self.steps(stop_after_examples=stop))
        num_windows = -(-stop // self.window_examples)
        num_micro_batches = sum(len(self._cut(window, stop)[1]) for window in range(num_windows))
        return -(-num_micro_batches // self.batching.micro_batches_per_step)

    def _window(self, window: int, stop: int | None) -> list[MicroBatchPlan]:
        """The micro-batches of one window in the order of their use; none beyond the end."""
        examples, ends = self._cut(window, stop)
        if not ends:
            return []
        plans = [_part(examples, *bounds) for bounds in zip([0, *ends], ends, strict=False)]
        num_together = 1
        if self.batching.scheme == "batch_homogeneous":
            num_together = self.batching.micro_batches_per_step
        groups = _groups_of_a_task(plans, num_together)
        shuffled = permute(
            np.arange(len(groups), dtype=np.uint64),
            np.uint64(len(groups)),
            key(self.order.seed, MICRO_BATCHES, np.array([window], dtype=np.uint64)),
        )
        groups = [groups[index] for index in shuffled.tolist()]
        if self.order.tasks_in_turn:
            # A window may hold the end of one task and the beginning of the next.
            first = self.order.draws(window * self.window_examples, 1).task[0]
            groups.sort(key=lambda group: int(group[0].tasks[0] - first) % len(self.datas))
        return [plan for group in groups for plan in group]

    def _cut(self, window: int, stop: int | None) -> tuple[MicroBatchPlan, list[int]]:
        """A window's examples sorted by length, and where among them its micro-batches end.

        Where a micro-batch has one task, they are sorted by task first.
        """
        start = window * self.window_examples
        end = start + self.window_examples
        if stop is not None:
            end = max(start, min(end, stop))
        draws = self.order.draws(start, end - start)
        lengths, counts = self._sizes(draws)
        apart = self.batching.scheme != "mixed"
        sorted_ = np.lexsort((lengths, draws.task)) if apart else np.argsort(lengths, kind="stable")
        examples = MicroBatchPlan(
            tasks=draws.task[sorted_], rows=draws.row[sorted_], lengths=lengths[sorted_]
        )
        ends: list[int] = []
        parts = (np.flatnonzero(np.diff(examples.tasks)) + 1).tolist() if apart else []
        for start, end in zip([0, *parts], [*parts, len(lengths)], strict=True):
            part = _ends(
                examples.lengths[start:end],
                counts[sorted_[start:end]],
                self.batching.tokens_per_micro_batch,
                self.batching.examples_per_micro_batch,
            )
            ends += [start + place for place in part]
        return examples, ends

    def _sizes(self, draws: Draws) -> tuple[NDArray[np.uint32], NDArray[np.uint16]]:
        """(n,) tokens of each draw's longest sequence, and (n,) its number of sequences."""
        lengths = np.empty(len(draws.row), dtype=np.uint32)
        counts = np.empty(len(draws.row), dtype=np.uint16)
        if not len(draws.row):
            return lengths, counts
        places = np.argsort(draws.task, kind="stable")
        rows, tasks = draws.row[places], draws.task[places]
        starts = [0, *(np.flatnonzero(np.diff(tasks)) + 1).tolist()]
        datas = [self.datas[task] for task in tasks[starts].tolist()]
        rows_of = [rows[a:b] for a, b in zip(starts, [*starts[1:], None], strict=True)]
        read = list(zip(datas, rows_of, strict=True))
        lengths[places] = np.concatenate([data.lengths[rows] for data, rows in read])
        counts[places] = np.concatenate([data.num_sequences[rows] for data, rows in read])
        return lengths, counts


def sample_examples(num_examples: int, at_most: int | None) -> I64:
    """(n,) ascending numbers of the examples to score: all, or `at_most` drawn at random.

    The draw depends on the two numbers alone, so every evaluation scores the same examples. The
    first ones would not do: many datasets are sorted by label.
    """
    if at_most is None or at_most >= num_examples:
        return np.arange(num_examples, dtype=np.int64)
    places = np.arange(at_most, dtype=np.uint64)
    drawn = permute(places, np.uint64(num_examples), key(0, SAMPLE, np.zeros(1, np.uint64)))
    return np.sort(drawn).astype(np.int64)


def eval_plans(
    data: TaskData, tokens_per_micro_batch: int, *, task: int = 0, rows: I64 | None = None
) -> Iterator[MicroBatchPlan]:
    """Each of `rows`, or every row of a split, exactly once, sorted by length.

    `task` is what the plans name: the index of `data` in the list that `collate` is given.
    """
    rows = np.arange(len(data.lengths), dtype=np.int64) if rows is None else rows
    rows = rows[np.argsort(data.lengths[rows], kind="stable")]
    examples = MicroBatchPlan(
        tasks=np.full(len(rows), task, dtype=np.int32), rows=rows, lengths=data.lengths[rows]
    )
    ends = _ends(examples.lengths, data.num_sequences[rows], tokens_per_micro_batch)
    for bounds in zip([0, *ends], ends, strict=False):
        yield _part(examples, *bounds)


def _part(examples: MicroBatchPlan, start: int, end: int) -> MicroBatchPlan:
    return MicroBatchPlan(
        tasks=examples.tasks[start:end],
        rows=examples.rows[start:end],
        lengths=examples.lengths[start:end],
    )


def _step(micro_batches: list[MicroBatchPlan], *, after: Position) -> StepPlan:
    return StepPlan(
        micro_batches=tuple(micro_batches),
        num_examples=sum(len(plan.rows) for plan in micro_batches),
        after=after,
    )


def _groups_of_a_task(
    plans: Sequence[MicroBatchPlan], num_together: int
) -> list[list[MicroBatchPlan]]:
    """Up to `num_together` neighbours of one task each, in their order."""
    groups: list[list[MicroBatchPlan]] = []
    for plan in plans:
        last = groups[-1] if groups else []
        if last and len(last) < num_together and last[0].tasks[0] == plan.tasks[0]:
            last.append(plan)
        else:
            groups.append([plan])
    return groups


def _ends(
    lengths: NDArray[np.uint32],
    counts: NDArray[np.uint16],
    tokens_per_micro_batch: int,
    examples_per_micro_batch: int | None = None,
) -> list[int]:
    """Ends of the micro-batches of examples that are sorted by length, shortest first.

    Greedy: each takes examples while all sequences x the longest length fit, and no more examples
    than it may have.
    """
    # sequences[i]: of the examples before i. Both factors rise, so the end can be bisected.
    sequences = [0, *np.cumsum(counts, dtype=np.int64).tolist()]
    longest = lengths.tolist()
    most = examples_per_micro_batch or len(longest)
    ends: list[int] = []
    start = 0
    while start < len(longest):
        before = sequences[start]
        num_fitting = bisect_right(
            range(start + 1, min(start + most, len(longest)) + 1),
            tokens_per_micro_batch,
            key=lambda end: (sequences[end] - before) * longest[end - 1],
        )
        start += max(1, num_fitting)
        ends.append(start)
    return ends
