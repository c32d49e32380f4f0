"""Which training rows have inputs in common with evaluation rows, task by task.

The evaluation rows are read first and indexed (`index.py`); the training rows stream past
the index. Targets are never compared: a question that was trained on is known, whatever its answer.

A row counts once for each split it is compared with, at the strongest kind of overlap found there.
Both sides are counted, since they say different things: how much of the evaluation was seen in
training, and how much of the training would have to go. Beside what the texts show stands what the
specs know: the corpora that two tasks were both made from (`lineage`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from muppet_zoo.errors import UnknownNameError
from muppet_zoo.examples import examples_of
from muppet_zoo.fingerprints import inputs_digest, spec_digest
from muppet_zoo.formats import Segments
from muppet_zoo.hub.lock import Lock
from muppet_zoo.overlap.hashes import HashedExamples, Indices, hash_examples
from muppet_zoo.overlap.index import KINDS, NONE, EvaluationIndex, minhash
from muppet_zoo.rows import RowProblem
from muppet_zoo.sources import DigestCache, MissingSplitError, RowSource, open_rows
from muppet_zoo.spec import TaskSpec

DEFAULT_SPLITS = ("validation", "test")
MAX_EXAMPLES = 5
"""Pairs of rows that a report names for each two splits and kind."""
_CHUNK_ROWS = 1000
_NOT_THERE = "not in the mirror"

TaskRole = tuple[TaskSpec, str]


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where rows are read: from `mirror`, or the hub at what `locks` say of a task, if anything."""

    mirror: Path | None = None
    locks: Mapping[str, Lock] = field(default_factory=dict)
    digests: DigestCache = field(default_factory=lambda: DigestCache(None))

    def open(self, spec: TaskSpec, role: str) -> RowSource:
        """The rows of a role; see `sources.open_rows`."""
        lock = self.locks.get(spec.name)
        return open_rows(spec, role, mirror=self.mirror, digests=self.digests, lock=lock)


NumberedRow = tuple[int, dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class ReadSplit:
    """One split as it was read.

    num_rows: rows with inputs; num_unused_rows: rows that do not fit the spec, or that it drops.
    absent: why there are no rows; digest: of where the rows come from and how inputs are made.
    num_cut: training rows with too many near candidates to look at all of them.
    """

    task: str
    role: str
    num_rows: int = 0
    num_unused_rows: int = 0
    num_cut: int = 0
    digest: str | None = None
    absent: str | None = None

    @property
    def name(self) -> str:
        return f"{self.task} {self.role}"


@dataclass(frozen=True, kw_only=True)
class RowPair:
    """A training row and the first evaluation row it was found with, by their source numbers."""

    kind: str
    train_row: int
    evaluation_row: int


@dataclass(frozen=True, kw_only=True)
class SplitPair:
    """What one training split and one evaluation split have in common.

    train_rows, evaluation_rows: kind -> rows of which it is the strongest kind of overlap.
    lineage: the corpora that both specs name.
    """

    train: ReadSplit
    evaluation: ReadSplit
    train_rows: dict[str, int]
    evaluation_rows: dict[str, int]
    lineage: tuple[str, ...]
    examples: tuple[RowPair, ...]

    @property
    def share(self) -> float:
        """Evaluation rows that training has seen in some way, of all: 0 to 1."""
        return sum(self.evaluation_rows.values()) / max(self.evaluation.num_rows, 1)


@dataclass(frozen=True, kw_only=True)
class Kinship:
    """Two tasks whose specs name the same corpora, whether or not there are rows to compare."""

    train: str
    evaluation: str
    corpora: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class OverlapReport:
    """Every pair of a training and an evaluation split that both have rows, in their order."""

    train: tuple[ReadSplit, ...]
    evaluation: tuple[ReadSplit, ...]
    pairs: tuple[SplitPair, ...]
    kinships: tuple[Kinship, ...]

    @property
    def missing(self) -> tuple[ReadSplit, ...]:
        """Splits that were asked for and have no rows here."""
        return tuple(split for split in (*self.train, *self.evaluation) if split.absent)


OnRows = Callable[[str, int, float | None], None]
"""Called with what is read, how many rows so far, and about how many there are, if known."""


def find_overlap(
    train: Sequence[TaskRole],
    evaluation: Sequence[TaskRole],
    *,
    places: Places,
    on_rows: OnRows | None = None,
) -> OverlapReport:
    """Compare the inputs of every training row with those of every evaluation row.

    Splits that are not in the mirror, or whose rows give no example, are in the report by name.

    Raises:
        SourceError: rows cannot be read.
        MissingExtraError: the library for near duplicates is not installed.
    """
    tell = on_rows or (lambda name, done, total: None)
    rows = read_evaluation(evaluation, places=places, on_rows=tell)
    specs = {spec.name: spec for spec, _ in (*train, *evaluation)}
    read: list[ReadSplit] = []
    pairs: list[SplitPair] = []
    for spec, role in train:
        tally = _Tally(rows)
        split = _scan(spec, role, tally, places=places, on_rows=tell)
        read.append(split)
        if split.absent is None:
            pairs += tally.pairs(split, specs)
    return OverlapReport(
        train=tuple(read),
        evaluation=rows.splits,
        pairs=tuple(pairs),
        kinships=tuple(_kinships(train, evaluation)),
    )


def _kinships(train: Sequence[TaskRole], evaluation: Sequence[TaskRole]) -> Iterator[Kinship]:
    learned = {spec.name: spec for spec, _ in train}
    scored = {spec.name: spec for spec, _ in evaluation}
    for one, other in itertools.product(learned.values(), scored.values()):
        if corpora := _shared_corpora(one, other):
            yield Kinship(train=one.name, evaluation=other.name, corpora=corpora)


def _shared_corpora(one: TaskSpec, other: TaskSpec) -> tuple[str, ...]:
    """None for a task and itself, of which it says nothing."""
    if one.name == other.name:
        return ()
    return tuple(sorted(set(one.lineage) & set(other.lineage)))


def train_splits(specs: Iterable[TaskSpec]) -> list[TaskRole]:
    """The roles to train on of each task."""
    return [(spec, role) for spec in specs for role in spec.source.splits if _is(role, ("train",))]


def evaluation_splits(
    specs: Iterable[TaskSpec], names: Sequence[str] = DEFAULT_SPLITS
) -> list[TaskRole]:
    """The roles of these names of each task; `validation` includes `validation_mismatched`.

    Raises:
        UnknownNameError: no task has a split of one of the names.
    """
    specs = list(specs)
    roles = sorted({role for spec in specs for role in spec.source.splits})
    for name in names:
        if name not in DEFAULT_SPLITS and not any(_is(role, (name,)) for role in roles):
            raise UnknownNameError("split of the evaluation tasks", name, roles)
    return [(spec, role) for spec in specs for role in spec.source.splits if _is(role, names)]


def _is(role: str, names: Sequence[str]) -> bool:
    return any(role == name or role.startswith(f"{name}_") for name in names)


# --- the evaluation side ---------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class EvaluationRows:
    """The evaluation rows as an index. `splits` includes absent ones, `present` does not.

    numbers: (rows of the index,) each row's number at its source.
    """

    splits: tuple[ReadSplit, ...]
    index: EvaluationIndex
    split_of: Indices
    numbers: Indices

    @property
    def present(self) -> tuple[ReadSplit, ...]:
        return tuple(split for split in self.splits if split.absent is None)


def read_evaluation(
    splits: Sequence[TaskRole], *, places: Places, on_rows: OnRows
) -> EvaluationRows:
    """Read and index the rows of these splits.

    Raises:
        SourceError: rows are there and cannot be read.
        MissingExtraError: the library for near duplicates is not installed.
    """
    minhash()  # should it be missing, that is told before the work
    read: list[ReadSplit] = []
    parts: list[HashedExamples] = []
    owners: list[Indices] = []
    numbers: list[int] = []
    sizes: list[int] = []
    for spec, role in splits:
        before, num_unused = len(numbers), 0
        try:
            source = places.open(spec, role)
            digest = inputs_digest(spec_digest(spec, role), source.digest())
        except MissingSplitError:
            read.append(ReadSplit(task=spec.name, role=role, absent=_NOT_THERE))
            continue
        for chunk in _chunks(source.rows()):
            hashed, rows, usable = hash_rows(spec, chunk)
            parts.append(hashed)
            owners.append(rows + len(numbers))
            numbers += [chunk[at][0] for at in usable]
            num_unused += len(chunk) - len(usable)
            on_rows(f"{spec.name} {role}", len(numbers) - before, None)
        source.check_unchanged()
        found = ReadSplit(
            task=spec.name, role=role, num_rows=len(numbers) - before, num_unused_rows=num_unused,
            digest=digest, absent=_no_rows(len(numbers) - before, num_unused),
        )  # fmt: skip
        read.append(found)
        if found.absent is None:
            sizes.append(found.num_rows)
    split_of = np.repeat(np.arange(len(sizes)), sizes)
    index = EvaluationIndex(
        parts, np.concatenate([np.empty(0, np.int64), *owners]), split_of.astype(np.int32)
    )
    return EvaluationRows(
        splits=tuple(read), index=index, split_of=split_of, numbers=np.array(numbers, np.int64)
    )


def hash_rows(
    spec: TaskSpec, chunk: Sequence[NumberedRow]
) -> tuple[HashedExamples, Indices, list[int]]:
    """The hashed examples of some rows.

    Returns the N examples, (N,) the place of each one's row among the usable rows, and the places
    in `chunk` of those. Rows that do not fit the spec, or that it drops, are not usable.
    """
    segments: list[Segments] = []
    places: list[int] = []
    usable: list[int] = []
    for at, (number, row) in enumerate(chunk):
        try:
            examples = examples_of(spec, number, row, labelled=False)
        except RowProblem:
            continue
        segments += [example.segments for example in examples]
        places += [len(usable)] * len(examples)
        if examples:
            usable.append(at)
    return hash_examples(segments), np.array(places, np.int64), usable


def _no_rows(num_rows: int, num_unused: int) -> str | None:
    if num_rows:
        return None
    return f"none of its {num_unused} rows gives an example" if num_unused else "no rows"


def _chunks(rows: Iterator[NumberedRow]) -> Iterator[list[NumberedRow]]:
    while chunk := list(itertools.islice(rows, _CHUNK_ROWS)):
        yield chunk


# --- the training side -----------------------------------------------------------------------


@dataclass
class _Tally:
    """What one training split was found to have in common with each evaluation split."""

    rows: EvaluationRows
    counts: Any = field(init=False)  # (splits, kinds) training rows
    best: Any = field(init=False)  # (evaluation rows,) strongest kind
    examples: dict[tuple[int, int], list[RowPair]] = field(default_factory=dict)
    num_cut: int = 0

    def __post_init__(self) -> None:
        self.counts = np.zeros((len(self.rows.present), len(KINDS)), np.int64)
        self.best = np.full(len(self.rows.numbers), NONE, np.uint8)

    def add(self, hashed: HashedExamples, places: Indices, numbers: Sequence[int]) -> None:
        """Count a chunk whose usable rows have these source numbers."""
        found = self.rows.index.find(hashed, places, len(numbers))
        self.num_cut += found.num_cut
        for kind, touched in enumerate(found.touched):
            self.best[touched] = np.minimum(self.best[touched], kind)
        rows, splits = np.nonzero(found.kinds < NONE)
        kinds = found.kinds[rows, splits]
        np.add.at(self.counts, (splits, kinds), 1)
        for split, kind in np.unique(np.stack([splits, kinds], axis=1), axis=0).tolist():
            named = self.examples.setdefault((split, kind), [])
            for row in rows[(splits == split) & (kinds == kind)][: MAX_EXAMPLES - len(named)]:
                partner = int(self.rows.numbers[found.partners[row, split]])
                pair = RowPair(kind=KINDS[kind], train_row=numbers[row], evaluation_row=partner)
                named.append(pair)

    def pairs(self, train: ReadSplit, specs: dict[str, TaskSpec]) -> Iterator[SplitPair]:
        """One pair for each evaluation split."""
        for number, evaluation in enumerate(self.rows.present):
            best = self.best[self.rows.split_of == number]
            yield SplitPair(
                train=train,
                evaluation=evaluation,
                train_rows=dict(zip(KINDS, self.counts[number].tolist(), strict=True)),
                evaluation_rows={k: int((best == i).sum()) for i, k in enumerate(KINDS)},
                lineage=_shared_corpora(specs[train.task], specs[evaluation.task]),
                examples=tuple(
                    pair
                    for kind in range(len(KINDS))
                    for pair in self.examples.get((number, kind), [])
                ),
            )


def _scan(
    spec: TaskSpec,
    role: str,
    tally: _Tally,
    *,
    places: Places,
    on_rows: OnRows,
) -> ReadSplit:
    num_rows = num_unused = 0
    try:
        source = places.open(spec, role)
        digest = inputs_digest(spec_digest(spec, role), source.digest())
    except MissingSplitError:
        return ReadSplit(task=spec.name, role=role, absent=_NOT_THERE)
    for chunk in _chunks(source.rows()):
        hashed, rows, usable = hash_rows(spec, chunk)
        tally.add(hashed, rows, [chunk[at][0] for at in usable])
        num_rows += len(usable)
        num_unused += len(chunk) - len(usable)
        on_rows(f"{spec.name} {role}", num_rows, source.estimated_rows(chunk[-1][0] + 1))
    source.check_unchanged()
    return ReadSplit(
        task=spec.name, role=role, num_rows=num_rows, num_unused_rows=num_unused,
        num_cut=tally.num_cut, digest=digest, absent=_no_rows(num_rows, num_unused),
    )  # fmt: skip
