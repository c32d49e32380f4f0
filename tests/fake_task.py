"""A task whose examples are in memory: what `task_data.TaskData` asks for, without shards."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from muppet_zoo.task_data import Record

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass
class FakeTask:
    """Examples in memory; `examples[row]` is the list of an example's sequences."""

    head_type: str
    examples: list[list[list[int]]]
    target: list[Any]
    second: list[list[int]] | None = None
    lengths: NDArray[np.uint32] = field(init=False)
    num_sequences: NDArray[np.uint16] = field(init=False)

    def __post_init__(self) -> None:
        longest = [max(map(len, sequences)) for sequences in self.examples]
        if self.head_type == "generation":
            longest = [max(n, len(t)) for n, t in zip(longest, self.target, strict=True)]
        self.lengths = np.array(longest, dtype=np.uint32)
        self.num_sequences = np.array([len(example) for example in self.examples], dtype=np.uint16)

    def record(self, row: int) -> Record:
        sequences = self.examples[row]
        starts = self.second[row] if self.second else [len(ids) for ids in sequences]
        ids = [np.array(ids, dtype=np.uint16) for ids in sequences]
        return Record(ids, starts, self.target[row])
