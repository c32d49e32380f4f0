"""What the batcher asks of one built split of one task: lengths to plan by, columns to fill from.

Planning and reading are kept apart on purpose. A plan needs two small numbers per example, which
stay in memory for millions of examples; token ids are only touched for the rows of the micro-batch
at hand. The contract lives in its own module, below both sides, so that the shard reader fulfils
it without importing the batcher, and a test fulfils it with ten lines of numpy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Columns:
    """n examples with S token sequences in all; an example's K options are K sequences in a row.

    sequences:      S arrays of token ids, of any unsigned type, each (T_s,) with T_s >= 1.
    num_sequences:  (n,) sequences of each example; they sum to S.
    second_start:   (S,) index of the second segment's first token; T_s when there is none.
    target:         n entries, as the shard column holds them, by head type:
                    classification, multiple_choice: (n,) int, -1 where unlabelled;
                    regression: (n,) float, NaN where unlabelled;
                    multi_label: n int arrays (labels that hold,);
                    token_classification: n int arrays (T_s,), -100 where not scored;
                    span: n int arrays (2,), start and end inclusive, or an array (n, 2);
                    generation: n arrays of token ids.
    """

    sequences: Sequence[NDArray[np.unsignedinteger[Any]]]
    num_sequences: NDArray[np.integer[Any]]
    second_start: NDArray[np.integer[Any]]
    target: Sequence[Any] | NDArray[Any]


class TaskData(Protocol):
    """One split of one task. Rows are numbered from 0 to len(lengths) - 1."""

    @property
    def head_type(self) -> str:
        """One of the head types of the task spec, such as `classification`."""
        ...

    @property
    def lengths(self) -> NDArray[np.uint32]:
        """(rows,) tokens of each example's longest sequence, special tokens included, >= 1.

        An answer that is generated counts as a sequence: the decoder reads it beside the others.
        """
        ...

    @property
    def num_sequences(self) -> NDArray[np.uint16]:
        """(rows,) token sequences of each example: its options in multiple choice, else 1."""
        ...

    def take(self, rows: NDArray[np.int64]) -> Columns:
        """The rows in the order asked for; they may be unsorted and may repeat."""
        ...
