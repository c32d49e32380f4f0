"""A mixture's overlap policy, as the build applies it to each chunk of training rows.

Whether a row overlaps depends on that row and the evaluation rows alone. So the build asks chunk by
chunk, and a build that was stopped goes on without remembering anything; what the evaluation rows
are is part of the fingerprint. They are read when the first chunk needs them: a build that finds
everything done reads none.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from muppet_zoo.errors import MuppetZooError, SourceError
from muppet_zoo.fingerprints import inputs_digest, spec_digest
from muppet_zoo.manifests import MAX_LISTED_ROWS, OverlappingRow, Statistics
from muppet_zoo.overlap.compare import (
    EvaluationRows,
    NumberedRow,
    Places,
    TaskRole,
    hash_rows,
    read_evaluation,
)
from muppet_zoo.overlap.index import KINDS, minhash
from muppet_zoo.sources import MissingSplitError
from muppet_zoo.spec import TaskSpec

OVERLAP_VERSION = 1
"""Raise it with any change after which other rows are found."""


class OverlapError(MuppetZooError):
    """Training rows overlap with evaluation rows, and the mixture's policy is `fail`."""


@dataclass(frozen=True, kw_only=True)
class Protection:
    """A policy of a mixture with its names resolved to splits; see `mixture.Overlap`."""

    policy: str
    level: str
    evaluation: tuple[TaskRole, ...]


@dataclass(frozen=True, kw_only=True)
class Checked:
    """A chunk after the check. `kept` are the rows to build.

    listed, counts: as in `Statistics`, what was found.
    """

    kept: list[NumberedRow]
    num_found: int = 0
    listed: tuple[OverlappingRow, ...] = ()
    counts: dict[str, int] = field(default_factory=dict)


class Guard:
    """Checks training rows; shared by the threads of a build."""

    def __init__(self, protection: Protection, places: Places) -> None:
        """Raises MissingExtraError without the library for near duplicates."""
        self._protection = protection
        self._places = places
        self._lock = threading.Lock()
        self._rows: EvaluationRows | None = None
        self._num_counted = KINDS.index(protection.level) + 1
        self._minhash = f"rensa {minhash().RMinHash.ALGORITHM_VERSION}"

    def component(self) -> str:
        """What rows are compared with and how, as JSON: the part of a fingerprint.

        A split that is not in the mirror has no digest.
        """
        with self._lock:
            digests = self._digests
        data = {
            "version": OVERLAP_VERSION, "minhash": self._minhash, "level": self._protection.level,
            "policy": self._protection.policy, "against": digests,
        }  # fmt: skip
        return json.dumps(data, sort_keys=True, separators=(",", ":"))

    @property
    def is_ready(self) -> bool:
        """Whether the evaluation rows are read."""
        return self._rows is not None

    def check(self, spec: TaskSpec, chunk: list[NumberedRow]) -> Checked:
        """What of a chunk overlaps, and what the policy leaves of it."""
        rows = self._evaluation_rows()
        hashed, owners, usable = hash_rows(spec, chunk)
        found = rows.index.find(hashed, owners, len(usable))
        counted = found.kinds < self._num_counted
        hit = np.flatnonzero(counted.any(axis=1))
        names = [split.name for split in rows.present]
        counts: Counter[str] = Counter()
        splits = np.nonzero(counted)[1].tolist()
        for strongest, split in zip(found.kinds[counted].tolist(), splits, strict=True):
            counts[f"{names[split]} {KINDS[strongest]}"] += 1
        listed = []
        for at in hit[:MAX_LISTED_ROWS].tolist():
            split = int(np.argmin(found.kinds[at]))
            partner = int(rows.numbers[found.partners[at, split]])
            kind = KINDS[found.kinds[at, split]]
            number = chunk[usable[at]][0]
            listed.append(
                OverlappingRow(row=number, kind=kind, found=names[split], found_row=partner)
            )
        dropped = {usable[at] for at in hit.tolist()} if self._protection.policy == "drop" else ()
        return Checked(
            kept=[row for at, row in enumerate(chunk) if at not in dropped],
            num_found=len(hit),
            listed=tuple(listed),
            counts=dict(sorted(counts.items())),
        )

    def refuse(self, task: str, role: str, statistics: Statistics) -> None:
        """Raise OverlapError where the policy says so and rows were found."""
        if self._protection.policy != "fail" or not statistics.num_overlapping_rows:
            return
        pairs = ", ".join(f"{name} ({n:,})" for name, n in statistics.overlap_histogram.items())
        first = statistics.overlapping_rows[0]
        raise OverlapError(
            f"task {task}, split {role}: {statistics.num_overlapping_rows:,} training rows overlap "
            f"with evaluation rows: {pairs}; the first is row {first.row}, with row "
            f"{first.found_row} of {first.found}. Set the mixture's overlap policy to drop to "
            f"leave them out, or to warn to keep and count them"
        )

    @cached_property
    def _digests(self) -> dict[str, str | None]:
        evaluation = self._protection.evaluation
        return {f"{spec.name} {role}": self._digest(spec, role) for spec, role in evaluation}

    def _digest(self, spec: TaskSpec, role: str) -> str | None:
        try:
            source = self._places.open(spec, role)
            return inputs_digest(spec_digest(spec, role), source.digest())
        except MissingSplitError:
            return None

    def _evaluation_rows(self) -> EvaluationRows:
        with self._lock:
            if self._rows is None:
                rows = read_evaluation(
                    self._protection.evaluation,
                    places=self._places,
                    on_rows=lambda name, done, total: None,
                )
                for split in rows.splits:
                    if split.digest != self._digests[split.name]:
                        raise SourceError(f"{split.name}: was changed meanwhile; build again")
                self._rows = rows
            return self._rows
