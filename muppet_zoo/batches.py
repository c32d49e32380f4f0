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

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from muppet_zoo.errors import CheckpointError, UsageError
from muppet_zoo.order import MICRO_BATCHES, SAMPLE, Order, key, permute

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from muppet_zoo.task_data import TaskData

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Batching:
    """How examples are gathered, as in the run file.

    tokens_per_micro_batch:  most sequences x longest, padding included; only a single example
                             that is larger by itself goes beyond.
    micro_batches_per_step:  of one optimizer step, over all processes.
    window_examples:         examples that are sorted by length together, at most; see `Batcher`.
    """

    tokens_per_micro_batch: int = 4096
    micro_batches_per_step: int = 4
    window_examples: int = 4096

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 1:
                raise UsageError(f"batching.{name} must be at least 1, not {value}")


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
                micro_batches.append(plans[index])
                if len(micro_batches) == self.batching.micro_batches_per_step:
                    yield _step(micro_batches, position.window, index, len(plans))
                    micro_batches = []
            position = Position(window=position.window + 1)
        if micro_batches:
            yield _step(micro_batches, position.window - 1, 0, 1)

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
        num_windows = -(-stop // self.window_examples)
        num_micro_batches = sum(len(self._cut(window, stop)[1]) for window in range(num_windows))
        return -(-num_micro_batches // self.batching.micro_batches_per_step)

    def _window(self, window: int, stop: int | None) -> list[MicroBatchPlan]:
        """The micro-batches of one window in the order of their use; none beyond the end."""
        examples, ends = self._cut(window, stop)
        if not ends:
            return []
        bounds = list(zip([0, *ends], ends, strict=False))
        shuffled = permute(
            np.arange(len(bounds), dtype=np.uint64),
            np.uint64(len(bounds)),
            key(self.order.seed, MICRO_BATCHES, np.array([window], dtype=np.uint64)),
        )
        return [_part(examples, *bounds[index]) for index in shuffled.tolist()]

    def _cut(self, window: int, stop: int | None) -> tuple[MicroBatchPlan, list[int]]:
        """A window's examples sorted by length, and where among them its micro-batches end."""
        start = window * self.window_examples
        end = start + self.window_examples
        if stop is not None:
            end = max(start, min(end, stop))
        draws = self.order.draws(start, end - start)
        lengths = np.empty(len(draws.row), dtype=np.uint32)
        counts = np.empty(len(draws.row), dtype=np.uint16)
        for task, where in by_task(draws.task):
            rows = draws.row[where]
            lengths[where] = self.datas[task].lengths[rows]
            counts[where] = self.datas[task].num_sequences[rows]
        by_length = np.argsort(lengths, kind="stable")
        examples = MicroBatchPlan(
            tasks=draws.task[by_length], rows=draws.row[by_length], lengths=lengths[by_length]
        )
        budget = self.batching.tokens_per_micro_batch
        return examples, _ends(examples.lengths, counts[by_length], budget)


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


def _step(
    micro_batches: list[MicroBatchPlan], window: int, index: int, num_in_window: int
) -> StepPlan:
    """A step whose last micro-batch is number `index` of a window's `num_in_window`."""
    last = index + 1 == num_in_window
    return StepPlan(
        micro_batches=tuple(micro_batches),
        num_examples=sum(len(plan.rows) for plan in micro_batches),
        after=Position(window=window + last, micro_batch=0 if last else index + 1),
    )


def _ends(
    lengths: NDArray[np.uint32], counts: NDArray[np.uint16], tokens_per_micro_batch: int
) -> list[int]:
    """Ends of the micro-batches of examples that are sorted by length, shortest first.

    Greedy: each takes examples while all sequences x the longest length fit.
    """
    ends: list[int] = []
    num_sequences = 0
    for index, (length, count) in enumerate(zip(lengths.tolist(), counts.tolist(), strict=True)):
        num_sequences += count
        if num_sequences * length > tokens_per_micro_batch and num_sequences > count:
            ends.append(index)
            num_sequences = count
    if len(lengths):
        ends.append(len(lengths))
    return ends


def by_task(tasks: I32) -> Iterator[tuple[int, I64]]:
    """(task, its places (n_t,) in ascending order) for each task that occurs."""
    places = np.argsort(tasks, kind="stable")
    present, first = np.unique(tasks[places], return_index=True)
    bounds = zip(first.tolist(), [*first[1:].tolist(), len(tasks)], strict=False)
    for task, (start, end) in zip(present.tolist(), bounds, strict=False):
        yield task, places[start:end]
