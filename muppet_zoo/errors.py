"""Every error that muppet-zoo raises on purpose.

    MuppetZooError                 exit code 1
    ├── SpecError                  findings in spec, mixture or run files, all at once
    ├── SourceError                rows cannot be read: no such file or split, a malformed line
    ├── RowError                   one row cannot be encoded: task, split, row number, reason
    ├── ShardError                 built data is missing, damaged, or was made for something else
    ├── CheckpointError            a checkpoint is missing, damaged, or belongs to another run
    ├── TrainingError              the training cannot go on: a loss is not finite, a process died
    │   └── DivergedError          its settings let the gradient grow beyond all numbers
    ├── NotTrainableError          the task is valid, but this model cannot learn it
    ├── licenses.LicenseError      licences do not permit what a policy asks
    ├── metric_inputs.ScoreError   predictions and references that cannot be scored
    ├── results.ReportError        reports that cannot be read or compared
    ├── report.score_statistics.StatisticsError   values that have no mean or interval
    └── UsageError                 exit code 2: the request itself cannot be carried out
        ├── UnknownNameError       no such task, mixture, trainer, split …; carries near matches
        └── MissingExtraError      an optional dependency is not installed

These are shown without a traceback, since their message says what was found, what is allowed and
what to do next. Anything else that escapes is a bug and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar


class MuppetZooError(Exception):
    """Base of all expected errors; `exit_code` is what the command line returns."""

    exit_code: ClassVar[int] = 1


@dataclass(frozen=True, kw_only=True, order=True)
class Finding:
    """One problem in one file. `line` and `column` count from 1; `field` is a dotted path."""

    path: Path
    line: int
    column: int
    field: str
    message: str

    def __str__(self) -> str:
        where = f"{self.path}:{self.line}:{self.column}: "
        return where + (f"{self.field}: {self.message}" if self.field else self.message)


class SpecError(MuppetZooError):
    """One or more findings, sorted by file and line."""

    def __init__(self, findings: Iterable[Finding]) -> None:
        self.findings: tuple[Finding, ...] = tuple(sorted(set(findings)))
        super().__init__("\n".join(str(finding) for finding in self.findings))


class SourceError(MuppetZooError):
    """Rows cannot be read."""


class RowError(MuppetZooError):
    """One row cannot be encoded. `row` counts source rows of the split from 0."""

    def __init__(self, *, task: str, split: str, row: int, reason: str) -> None:
        self.task, self.split, self.row, self.reason = task, split, row, reason
        super().__init__(
            f"task {task}, split {split}, row {row}: {reason}. Mend the row, or set "
            f"`on_bad_row: skip` in the spec to have such rows counted and left out"
        )


class ShardError(MuppetZooError):
    """Built data is missing, damaged, or was made for something else."""


class CheckpointError(MuppetZooError):
    """A checkpoint is missing, damaged, or belongs to another run."""


class TrainingError(MuppetZooError):
    """The training cannot go on."""


class DivergedError(TrainingError):
    """The gradient is no longer finite; the same settings would end there again."""


class NotTrainableError(MuppetZooError):
    """The task is valid, but this model cannot learn it."""


class UsageError(MuppetZooError):
    """The request itself cannot be carried out."""

    exit_code: ClassVar[int] = 2


class UnknownNameError(UsageError):
    """A name that nothing has; the message lists near matches, or all names when they are few."""

    def __init__(self, kind: str, name: str, known: Sequence[str], hint: str = "") -> None:
        self.kind, self.name = kind, name
        super().__init__(f"no {kind} is named '{name}'{suggest(name, known) or hint}")


class MissingExtraError(UsageError):
    """An optional dependency is not installed."""

    def __init__(self, module: str, extra: str) -> None:
        super().__init__(
            f"this needs the package '{module}', which is not installed; "
            f"install it with: pip install 'muppet-zoo[{extra}]'"
        )


def near_matches(name: str, known: Iterable[str]) -> list[str]:
    """Up to three known names that look like `name`, nearest first; case does not count."""
    names: dict[str, list[str]] = {}
    for option in sorted(set(known)):
        names.setdefault(option.casefold(), []).append(option)
    near = difflib.get_close_matches(name.casefold(), names, n=3, cutoff=0.6)
    return [option for folded in near for option in names[folded]][:3]


def suggest(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for near matches, else `; known: …` when that list is short."""
    names = sorted(set(known))
    near = near_matches(name, names)
    if near:
        return "; did you mean " + " or ".join(f"'{match}'" for match in near) + "?"
    if names and len(names) <= 12:
        return "; known: " + ", ".join(names)
    return ""


def allowed(name: str, options: Iterable[str]) -> str:
    """`; allowed: a, b, c`, and after it the nearest match if there is one.

    A list too long to read is left out where a near match says enough.
    """
    names = list(dict.fromkeys(options))
    near = near_matches(name, names)
    listed = "; allowed: " + ", ".join(names) if len(names) <= 12 or not near else ""
    meant = "; did you mean " + " or ".join(f"'{match}'" for match in near) + "?" if near else ""
    return listed + meant
