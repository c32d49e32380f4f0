"""A task whose examples are in memory: what `task_data.TaskData` asks for, without shards."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from muppet_zoo.task_data import Lists, Part, Ranges

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


@dataclass
class FakeTask:
    """Examples in memory; `examples[row]` is the list of an example's sequences.

    part_sizes: rows of each part; one part where None.
    """

    head_type: str
    examples: list[list[list[int]]]
    target: list[Any]
    second: list[list[int]] | None = None
    part_sizes: Sequence[int] | None = None
    lengths: NDArray[np.uint32] = field(init=False)
    num_sequences: NDArray[np.uint16] = field(init=False)
    parts: list[Part] = field(init=False)

    def __post_init__(self) -> None:
        longest = [max(map(len, sequences)) for sequences in self.examples]
        if self.head_type == "generation":
            longest = [max(n, len(t)) for n, t in zip(longest, self.target, strict=True)]
        self.lengths = np.array(longest, dtype=np.uint32)
        self.num_sequences = np.array([len(example) for example in self.examples], dtype=np.uint16)
        ends = np.cumsum(self.part_sizes or [len(self.examples)]).tolist()
        self.parts = [self._part(a, b) for a, b in zip([0, *ends], ends, strict=False)]

    def _part(self, start: int, end: int) -> Part:
        examples, target = self.examples[start:end], self.target[start:end]
        sequences = list(chain.from_iterable(examples))
        seconds = self.second[start:end] if self.second else []
        starts = list(chain.from_iterable(seconds)) or list(map(len, sequences))
        number = np.float32 if self.head_type == "regression" else np.int32
        lists = isinstance(target[0], list)
        return Part(
            sequences=_lists(sequences, np.uint16),
            second_starts=np.array(starts, dtype=np.int32),
            options=_ranges(examples) if self.head_type == "multiple_choice" else None,
            target=_lists(target, np.int32) if lists else np.array(target, number),
        )


def _lists(lists: Sequence[Sequence[int]], dtype: type) -> Lists:
    return Lists(np.array(list(chain.from_iterable(lists)), dtype=dtype), _ranges(lists))


def _ranges(lists: Sequence[Sequence[Any]]) -> Ranges:
    sizes = [len(numbers) for numbers in lists]
    return Ranges.of_offsets(np.cumsum([0, *sizes], dtype=np.int32))
