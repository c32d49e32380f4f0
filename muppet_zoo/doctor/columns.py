"""Columns: never used, constant, empty, or not there."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from muppet_zoo.doctor.records import Diagnosis, listed
from muppet_zoo.doctor.sample import SplitSample, TaskSample
from muppet_zoo.doctor.thresholds import Thresholds


def check_columns(sample: TaskSample, limits: Thresholds) -> Iterator[Diagnosis]:
    """`unused_columns`, `constant_column`, `empty_column`."""
    unused = [column for column in columns_of(sample) if not sample.lineage.uses(column)]
    if unused:
        yield Diagnosis(
            task=sample.spec.name,
            check="unused_columns",
            severity="note",
            message=f"the spec never uses: {', '.join(unused)}",
            numbers={"columns": len(unused)},
        )
    yield from _poor_columns(sample, limits)


@dataclass(frozen=True, kw_only=True)
class ColumnValues:
    """One column in one split: `values` are those that are there, as JSON."""

    split: SplitSample
    values: frozenset[str]
    num_empty: int

    @property
    def num_rows(self) -> int:
        return len(self.split.rows)


def columns_of(sample: TaskSample) -> list[str]:
    """Declared columns, then those that rows have besides; fields inside a declared one belong."""
    declared = list(sample.spec.source.columns)
    found = dict.fromkeys(declared)
    for split in sample.splits:
        for sampled in split.rows:
            for name, value in sampled.row.items():
                found.update(dict.fromkeys(_paths(name, value, found)))
    return list(found)


def _paths(path: str, value: Any, declared: Mapping[str, Any]) -> Iterator[str]:
    inside = any(column.startswith(f"{path}.") for column in declared)
    if path in declared or not (isinstance(value, Mapping) and inside):
        yield path
        return
    for name, field in value.items():
        yield from _paths(f"{path}.{name}", field, declared)


def value_at(row: Mapping[str, Any], path: str) -> Any:
    """The value of a column path; None where a part of it is missing."""
    value: Any = row
    for part in path.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(part)
    return value


def text_at(row: Mapping[str, Any], path: str) -> str | None:
    """The text of a column, joined where it is a list of texts; None for anything else."""
    value = value_at(row, path)
    if isinstance(value, str):
        return value
    if isinstance(value, Sequence) and value and all(isinstance(part, str) for part in value):
        return " ".join(value)
    return None


def median_words(texts: Sequence[str]) -> float:
    """Median number of words, split at white space."""
    return statistics.median(len(text.split()) for text in texts) if texts else 0.0


def _poor_columns(sample: TaskSample, limits: Thresholds) -> Iterator[Diagnosis]:
    """One diagnosis for each such column that the inputs read; the others in one note."""
    others: dict[str, list[str]] = {"empty": [], "constant": []}
    for column in columns_of(sample):
        found = [
            _values(split, column)
            for split in sample.splits
            if len(split.rows) >= limits.min_rows and _is_asked(sample, column)
        ]
        empty = [f for f in found if f.num_empty >= limits.mostly_empty * f.num_rows]
        constant = [f for f in found if not f.num_empty and len(f.values) == 1]
        for kind, splits in (("empty", empty), ("constant", constant)):
            if splits and sample.lineage.feeds_inputs(column):
                yield _poor_input(sample, column, kind, splits)
            elif splits and len(splits) == len(found):
                others[kind].append(column)
    for kind, columns in others.items():
        if columns:
            yield Diagnosis(
                task=sample.spec.name,
                check=f"{kind}_column",
                severity="note",
                message=f"{kind} (or nearly), and not read by the inputs: {', '.join(columns)}"
                if kind == "empty"
                else f"the same in all rows, and not read by the inputs: {', '.join(columns)}",
                numbers={"columns": len(columns)},
            )


def _poor_input(
    sample: TaskSample, column: str, kind: str, splits: Sequence[ColumnValues]
) -> Diagnosis:
    rows = sum(found.num_rows for found in splits)
    num_empty = sum(found.num_empty for found in splits)
    what = (
        f"is empty in {num_empty:,} of {rows:,} rows"
        if kind == "empty"
        else f"holds {_shown(next(iter(splits[0].values)))} in all of {rows:,} rows"
    )
    return Diagnosis(
        task=sample.spec.name,
        check=f"{kind}_column",
        severity="warning",
        subject=column,
        message=f"column '{column}', which the inputs read, {what} of "
        f"{', '.join(found.split.role for found in splits)}",
        numbers={"rows": rows, "empty": num_empty},
        **listed(
            found.split.ref(sampled.number)
            for found in splits
            for sampled in found.split.rows
            if kind == "constant" or _is_empty(value_at(sampled.row, column))
        ),
    )


def _is_asked(sample: TaskSample, column: str) -> bool:
    """Not of the target: `labels.py` and `misfits.py` know more of it."""
    lineage = sample.lineage
    return lineage.feeds_inputs(column) or not lineage.feeds_target(column)


def _values(split: SplitSample, column: str) -> ColumnValues:
    values = [value_at(sampled.row, column) for sampled in split.rows]
    return ColumnValues(
        split=split,
        values=frozenset(json.dumps(v, sort_keys=True, default=str) for v in values),
        num_empty=sum(1 for v in values if _is_empty(v)),
    )


def _is_empty(value: Any) -> bool:
    if isinstance(value, str):
        return not value.strip()
    return value is None or (isinstance(value, Sequence | Mapping) and not value)


def _shown(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."
