"""A source row → examples: what the model reads and what it is to predict, before any tokenizer.

The build encodes examples; `preview` shows them and `doctor` examines them. All three get them
here, so that what is shown and checked is what is trained on.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from muppet_zoo.formats import Segments
from muppet_zoo.heads import Classification
from muppet_zoo.row_operations import apply_operations
from muppet_zoo.rows import Row
from muppet_zoo.spec import TaskSpec


class Example(NamedTuple):
    """One example. `row` is the number of the source row; `target` is None where unlabelled.

    `group` is a text that is the same in all examples to be scored together; else None.
    """

    row: int
    segments: Segments
    target: Any
    group: str | None = None


def examples_of(spec: TaskSpec, number: int, row: Row, *, labelled: bool) -> list[Example]:
    """The examples of source row `number`: none when filtered, several when exploded.

    Raises:
        RowProblem: the row does not fit the spec. It then adds no example at all.
    """
    examples = []
    for result in apply_operations(spec.rows, row):
        segments = spec.inputs.render(result)
        target = spec.head.read_target(result, segments) if labelled else None
        group = spec.head.read_group(result) if isinstance(spec.head, Classification) else None
        examples.append(Example(row=number, segments=segments, target=target, group=group))
    return examples
