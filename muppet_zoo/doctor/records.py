"""What the doctor finds, as records; `errors.Finding` is a problem at a line of a file instead."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")

MAX_LISTED_ROWS = 10  # in a diagnosis, and so in JSON
MAX_SHOWN_ROWS = 4  # in a line


@dataclass(frozen=True, kw_only=True)
class RowRef:
    """A source row: the role that reads it, and its number from 0 in the source split."""

    role: str
    row: int

    def __str__(self) -> str:
        return f"{self.role}:{self.row}"


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """One thing that is, or may be, wrong with a task.

    check: the name of what was checked, such as `missing_text`. severity: `error` where training or
    scores would be wrong, `warning` where a person has to look, `note` where it is good to know.
    subject: the column, label or role it is about, if any. numbers: the figures behind the message.
    rows: the first of the rows concerned; `num_rows` counts all of them.
    """

    task: str
    check: str
    severity: Severity
    message: str
    subject: str = ""
    numbers: Mapping[str, float | int] = field(default_factory=dict)
    rows: tuple[RowRef, ...] = ()
    num_rows: int = 0

    def __str__(self) -> str:
        """One line as linters write it, then the rows."""
        line = f"{self.task}: {self.severity}: {self.check}: {self.message}"
        if not self.rows:
            return line
        more = self.num_rows - MAX_SHOWN_ROWS
        shown = ", ".join(map(str, self.rows[:MAX_SHOWN_ROWS]))
        return f"{line}\n    rows {shown}" + (f" and {more:,} more" if more > 0 else "")

    def to_json(self) -> dict[str, Any]:
        """Plain data for `--json`."""
        return {
            "task": self.task,
            "check": self.check,
            "severity": self.severity,
            "subject": self.subject,
            "message": self.message,
            "numbers": dict(self.numbers),
            "num_rows": self.num_rows,
            "rows": [{"split": ref.role, "row": ref.row} for ref in self.rows],
        }


def at_least(severity: str, least: str) -> bool:
    """Whether a severity is `least` or graver."""
    order: tuple[str, ...] = SEVERITIES
    return order.index(severity) <= order.index(least)


def listed(refs: Iterable[RowRef]) -> dict[str, Any]:
    """The fields `rows` and `num_rows` of a diagnosis about these rows; each counts once."""
    unique = list(dict.fromkeys(refs))
    return {"rows": tuple(unique[:MAX_LISTED_ROWS]), "num_rows": len(unique)}


def graded(share: float, *, warning: float, error: float | None = None) -> Severity:
    """`error` or `warning` from these shares on, else `note`."""
    if error is not None and share >= error:
        return "error"
    return "warning" if share >= warning else "note"
