"""The forms that predictions and references come in, checked before a library sees them.

A library given a text where a list is expected scores its letters, and an index of -1 as a label of
its own. So every value is looked at here, and a wrong one is named by its row.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any

from muppet_zoo.errors import MuppetZooError


class ScoreError(MuppetZooError):
    """Predictions and references that cannot be scored."""


def index(value: Any, *, what: str, row: int, num_labels: int) -> int:
    if isinstance(value, Integral) and 0 <= int(value) < num_labels:
        return int(value)
    unlabelled = "; -1 marks an unlabelled row, which has no score" if value == -1 else ""
    raise ScoreError(
        f"{what} of row {row} is {value!r}; allowed: a whole number from 0 to "
        f"{num_labels - 1}{unlabelled}"
    )


def indices(values: list[Any], what: str, num_labels: int) -> list[int]:
    return [
        index(value, what=what, row=row, num_labels=num_labels) for row, value in enumerate(values)
    ]


def texts(values: list[Any], what: str) -> list[str]:
    for row, value in enumerate(values):
        if not isinstance(value, str):
            raise ScoreError(f"{what} of row {row} is {value!r}; allowed: a text")
    return values


def numbers(values: list[Any], what: str) -> list[float]:
    for row, value in enumerate(values):
        if not isinstance(value, Real) or not math.isfinite(value):
            raise ScoreError(f"{what} of row {row} is {value!r}; allowed: a finite number")
    return [float(value) for value in values]


def is_list(value: Any) -> bool:
    """Whether a row has several elements. A text does not, though it can be iterated."""
    return isinstance(value, Iterable) and not isinstance(value, str)


def words(values: list[Any], what: str) -> list[list[str]]:
    """Label names per word, as lists: seqeval cannot join tuples."""
    rows = []
    for row, value in enumerate(values):
        if not is_list(value) or not all(isinstance(label, str) for label in value):
            raise ScoreError(
                f"{what} of row {row} is {value!r}; allowed: a list of label names, one per word"
            )
        rows.append(list(value))
    return rows


def paired_words(
    predictions: list[Any], references: list[Any]
) -> tuple[list[list[str]], list[list[str]]]:
    predicted, expected = words(predictions, "prediction"), words(references, "reference")
    for row, (left, right) in enumerate(zip(predicted, expected, strict=True)):
        if len(left) != len(right):
            raise ScoreError(
                f"row {row} has {len(left)} predicted labels for {len(right)} words; a word that "
                f"was cut off still needs a label"
            )
    if not any(expected):
        raise ScoreError("there are no words to score")
    return predicted, expected


def flat(
    predictions: list[Any], references: list[Any], num_labels: int
) -> tuple[list[Any], list[Any]]:
    """One outcome per example, or per word where rows are label names of words."""
    if not is_list(references[0]):
        return (
            indices(predictions, "prediction", num_labels),
            indices(references, "reference", num_labels),
        )
    predicted, expected = paired_words(predictions, references)
    return [label for row in predicted for label in row], [
        label for row in expected for label in row
    ]


def is_label_sets(references: list[Any]) -> bool:
    """Whether rows are lists of label indices. Rows that are all empty are label sets too."""
    return all(
        is_list(row) and all(not isinstance(label, str) for label in row) for row in references
    )


def indicator(values: list[Any], what: str, num_labels: int) -> Any:
    """(N, num_labels) int8, 1 where the label holds."""
    import numpy as np

    matrix = np.zeros((len(values), num_labels), dtype=np.int8)
    for row, labels in enumerate(values):
        if not is_list(labels):
            raise ScoreError(f"{what} of row {row} is {labels!r}; allowed: a list of label indices")
        for label in labels:
            matrix[row, index(label, what=what, row=row, num_labels=num_labels)] = 1
    return matrix
