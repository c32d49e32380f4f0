"""What the batcher asks of one built split of one task: lengths to plan by, records to fill from.

Planning and reading are kept apart on purpose. A plan needs two small numbers per example, which
stay in memory for millions of examples; token ids are only touched for the rows of the micro-batch
at hand. The contract lives in its own module, below both sides, so that the shard reader fulfils
it without importing the batcher, and a test fulfils it with ten lines of numpy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray


class Record(NamedTuple):
    """One example as it is stored; its K options are K sequences.

    sequences:      K arrays of token ids, of any unsigned type, each (T_k,) with T_k >= 1.
    second_starts:  K indices of the second segment's first token; T_k where there is none.
    target:         as the shard column holds it, by head type:
                    classification, multiple_choice: int, -1 where unlabelled;
                    regression: float, NaN where unlabelled;
                    multi_label: int array (labels that hold,);
                    token_classification: int array (T,), -100 where not scored;
                    span: int array (2,), start and end inclusive;
                    generation: array of token ids.
    """

    sequences: Sequence[NDArray[np.unsignedinteger[Any]]]
    second_starts: Sequence[int]
    target: Any


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

    def record(self, row: int) -> Record:
        """One row. By row, since a micro-batch that mixes many tasks asks each for one or two."""
        ...
