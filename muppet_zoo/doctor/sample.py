"""A fixed sample of each split, with what the spec makes of every row.

The sample is drawn from the whole split, by a hash of the row number: many datasets are sorted by
label, and their first rows would show one label only. It is the same every time and everywhere.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from muppet_zoo.doctor.lineage import Lineage, lineage_of
from muppet_zoo.doctor.records import RowRef
from muppet_zoo.errors import SourceError
from muppet_zoo.examples import Example, examples_of
from muppet_zoo.hub.rows import HubRows
from muppet_zoo.row_files import column_names
from muppet_zoo.row_operations import apply_operations
from muppet_zoo.rows import Row, RowProblem
from muppet_zoo.sources import FileRows, MissingSplitError, RowSource, open_rows
from muppet_zoo.spec import TaskSpec

_REPORT_EVERY_ROWS = 2000

OnStep = Callable[[str, int, float | None], None]
"""Called with what is going on, how far it is, and the total where it is known."""


@dataclass(frozen=True, kw_only=True)
class Misfit:
    """Why a row gives no example. stage: the row operation's name, `inputs` or `target`."""

    stage: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class SampledRow:
    """A source row and its examples: none where it does not fit, or where a filter drops it."""

    number: int
    row: Row
    examples: tuple[Example, ...]
    misfit: Misfit | None


@dataclass(frozen=True, kw_only=True)
class SplitSample:
    """The sampled rows of one role, in their order; `num_rows` counts the whole split."""

    role: str
    labelled: bool
    num_rows: int
    rows: tuple[SampledRow, ...]
    source: RowSource

    @property
    def is_whole(self) -> bool:
        return len(self.rows) == self.num_rows

    @cached_property
    def examples(self) -> list[Example]:
        return [example for row in self.rows for example in row.examples]

    def ref(self, number: int) -> RowRef:
        """The source row of this number, for a diagnosis."""
        return RowRef(role=self.role, row=number)


@dataclass(frozen=True, kw_only=True)
class TaskSample:
    """What the checks look at. absent: roles without rows in the mirror."""

    spec: TaskSpec
    splits: tuple[SplitSample, ...]
    lineage: Lineage
    absent: tuple[str, ...] = ()

    @cached_property
    def labelled(self) -> tuple[SplitSample, ...]:
        return tuple(split for split in self.splits if split.labelled)

    @cached_property
    def main(self) -> SplitSample | None:
        """The labelled split with the most examples, training's where equal; for statistics."""
        found = sorted(
            (split for split in self.labelled if split.examples),
            key=lambda split: (-len(split.examples), split.role != "train"),
        )
        return found[0] if found else None


def sample_task(
    spec: TaskSpec, *, mirror: Path | None, limit: int, on_step: OnStep | None = None
) -> TaskSample:
    """Up to `limit` rows of every role that has any.

    Raises:
        SourceError: rows cannot be read, or there are none for any role.
    """
    splits, absent = [], []
    for role in spec.source.splits:
        try:
            source = open_rows(spec, role, mirror=mirror)
            _read_all_columns(source)
            splits.append(_sample_split(spec, role, source, limit, on_step))
        except MissingSplitError as error:
            absent.append((role, error))
    if not any(split.rows for split in splits):
        if absent:
            raise absent[0][1]
        raise SourceError(f"task {spec.name}: there is not one row in any split")
    return TaskSample(
        spec=spec,
        splits=tuple(splits),
        absent=tuple(role for role, _ in absent),
        lineage=lineage_of(spec),
    )


def _read_all_columns(source: RowSource) -> None:
    """Have columns read that the spec does not declare: what it forgot is what we look for."""
    place = source.place
    if isinstance(place, FileRows):
        place.columns = _with_undeclared(place.columns, list(column_names(place.path) or ()))
    elif isinstance(place, HubRows):
        columns = _with_undeclared(place.source.columns, place.named_columns())
        place.source = replace(place.source, columns=columns)


def _with_undeclared(declared: Mapping[str, str], named: Sequence[str]) -> dict[str, str]:
    known = {path.partition(".")[0] for path in declared}
    if known.isdisjoint(named):  # other rows altogether, which reading them says best
        return dict(declared)
    return {**declared, **{name: "any" for name in named if name not in known}}


def _sample_split(
    spec: TaskSpec, role: str, source: RowSource, limit: int, on_step: OnStep | None
) -> SplitSample:
    count = 0

    def counted() -> Iterator[tuple[int, dict[str, Any]]]:
        nonlocal count
        for number, row in source.rows():
            count += 1
            if on_step is not None and count % _REPORT_EVERY_ROWS == 0:
                on_step(f"reading {role}", count, source.estimated_rows(number))
            yield number, row

    chosen = heapq.nsmallest(limit, counted(), key=lambda item: _draw(item[0]))
    labelled = spec.source.splits[role].labels
    return SplitSample(
        role=role,
        labelled=labelled,
        num_rows=count,
        rows=tuple(
            _sampled(spec, number, row, labelled) for number, row in sorted(chosen, key=_number)
        ),
        source=source,
    )


def _number(item: tuple[int, Row]) -> int:
    return item[0]


def _draw(row: int) -> bytes:
    return hashlib.blake2b(str(row).encode(), digest_size=8).digest()


def _sampled(spec: TaskSpec, number: int, row: Row, labelled: bool) -> SampledRow:
    examples: tuple[Example, ...] = ()
    misfit = None
    try:
        examples = tuple(examples_of(spec, number, row, labelled=labelled))
    except RowProblem as problem:
        misfit = Misfit(stage=_failed_stage(spec, row), reason=str(problem))
    return SampledRow(number=number, row=row, examples=examples, misfit=misfit)


def _failed_stage(spec: TaskSpec, row: Row) -> str:
    """Where a row that does not fit fails first."""
    for count, operation in enumerate(spec.rows, start=1):
        try:
            list(apply_operations(spec.rows[:count], row))
        except RowProblem:
            return operation.op
    try:
        for result in apply_operations(spec.rows, row):
            spec.inputs.render(result)
    except RowProblem:
        return "inputs"
    return "target"
