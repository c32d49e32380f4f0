"""Which tasks pull the encoder in the same direction: what is asked, and what comes out."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muppet_zoo.spec import TaskSpec


@dataclass(frozen=True, kw_only=True)
class AffinityRequest:
    """Compare the gradients that tasks send into the encoder of the model in `checkpoint`.

    num_examples: of each task's train split under `data`, in each of two halves, at most.
    """

    checkpoint: Path
    data: Path
    tasks: tuple[TaskSpec, ...]
    num_examples: int = 64
    tokens_per_micro_batch: int = 8192


@dataclass(frozen=True, kw_only=True)
class Affinity:
    """Cosines between tasks' gradients: cosines[i][j] of tasks i and j, symmetric.

    No gradient is compared with itself: each task's examples are halved, and a cosine is the mean
    over one's first half with the other's second. So the diagonal says how well a task agrees with
    itself on other examples, which is the most that the row can be expected to show.

    num_examples: of each task, in the smaller half.
    """

    tasks: tuple[str, ...]
    num_examples: tuple[int, ...]
    cosines: tuple[tuple[float, ...], ...]

    def rows(self, num_nearest: int = 3) -> list[dict[str, Any]]:
        """A row for each task: examples, agreement with itself, nearest tasks, and the farthest."""
        rows = []
        for task, own in enumerate(self.tasks):
            others = sorted(
                ((cosine, name) for name, cosine in zip(self.tasks, self.cosines[task], strict=True)
                 if name != own),
                reverse=True,
            )  # fmt: skip
            rows.append(
                {
                    "task": own,
                    "examples": f"2 x {self.num_examples[task]:,}",
                    "itself": self.cosines[task][task],
                    "nearest": ", ".join(f"{n} {c:.3f}" for c, n in others[:num_nearest]) or "-",
                    "farthest": ", ".join(f"{n} {c:.3f}" for c, n in others[-1:]) or "-",
                }
            )
        return rows

    def pairs(self) -> list[dict[str, Any]]:
        """Each two tasks once, and each with itself, as plain data."""
        numbered = enumerate(self.tasks)
        return [
            {
                "task": a,
                "other": b,
                "cosine": self.cosines[i][j],
                "examples": [self.num_examples[i], self.num_examples[j]],
            }
            for (i, a), (j, b) in itertools.combinations_with_replacement(numbered, 2)
        ]
