"""One row of the speed table: what was measured, against what, and whether it meets its goal.

A figure is a ratio of two contenders in one run, wherever there is something to compare with:
`interleave` runs them in turn, so that what else the machine does falls on all alike, and the ratio
is taken within each round. What is given is the median of the rounds and its interquartile range.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import click
import numpy as np

from benchmarks.common import RESULTS, environment

ROWS = RESULTS / "speed"
MIN_ROUNDS = 5

Topic = Literal[
    "build", "feed", "order", "padding", "startup",
    "step", "r3f", "heads", "deepspeed", "processes", "checkpoint", "evaluation", "gpu",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Median and quartiles of a figure over the rounds of one run."""

    median: float
    low: float
    high: float
    rounds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """That of the values of all rounds; ValueError when there are fewer than `MIN_ROUNDS`."""
        if len(values) < MIN_ROUNDS:
            raise ValueError(f"{len(values)} rounds; a spread needs at least {MIN_ROUNDS}")
        low, median, high = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
        return cls(median=median, low=low, high=high, rounds=len(values))

    @classmethod
    def once(cls, value: float) -> Spread:
        """A figure that does not vary: a count, or a share of tokens that follows from the seed."""
        return cls(median=value, low=value, high=value, rounds=1)


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What a figure should be: `at_least` or `at_most` a number, in a unit such as `x` or `ms`.

    None of both: nothing was promised, the figure is for orientation.
    """

    at_least: float | None = None
    at_most: float | None = None
    unit: str

    def is_met(self, figure: float) -> bool | None:
        """Whether the figure is what it should be; None where nothing was promised."""
        if self.at_least is not None:
            return figure >= self.at_least
        return figure <= self.at_most if self.at_most is not None else None


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row, as it is stored.

    name:     names the file, and never changes.
    what:     what was measured, in the words of the table.
    against:  what the figure is relative to; "" where it is absolute.
    tried:    where the goal is not met: what was tried, and where the time goes.
    notes:    what a reader must know to judge the comparison, such as stubs in a peer.
    measured: the medians that the figure is made of, with units in their names.
    command:  what measures it again.
    peers:    versions of what was compared with, in environments of their own.
    """

    name: str
    topic: Topic
    what: str
    against: str
    goal: Goal
    figure: Spread
    command: str
    measured: Mapping[str, float] = field(default_factory=dict)
    peers: Mapping[str, str] = field(default_factory=dict)
    tried: str = ""
    notes: str = ""

    @property
    def meets(self) -> bool | None:
        """Whether the median meets the goal; None where there is none."""
        return self.goal.is_met(self.figure.median)


def write_row(row: Row, folder: Path = ROWS) -> Path:
    """Store a row with the commit, the versions and the class of machine; its file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{row.name}.json"
    data = {**_rounded(asdict(row)), "meets": row.meets, "environment": environment()}
    path.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return path


def rounds_option(default: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The option `--rounds` of a script; too few for a spread are refused before it measures."""
    return click.option(
        "--rounds", type=click.IntRange(min=MIN_ROUNDS), default=default, show_default=True
    )


def interleave(
    contenders: Mapping[str, Callable[[], float]], *, rounds: int, warm_up: int = 1
) -> dict[str, list[float]]:
    """What each contender returns in each round: A B C, A B C, …; warm-up rounds do not count.

    A contender does its work once and returns a figure of it: seconds (`seconds`), or tokens per
    second.
    """
    values: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(warm_up + rounds):
        for name, contender in contenders.items():
            value = contender()
            if number >= warm_up:
                values[name].append(value)
    return values


def seconds(action: Callable[[], object]) -> Callable[[], float]:
    """A contender that returns the wall-clock seconds of an action."""

    def timed() -> float:
        start = time.perf_counter()
        action()
        return time.perf_counter() - start

    return timed


def ratio(values: Mapping[str, Sequence[float]], over: str, under: str) -> Spread:
    """The spread of `over` / `under`, taken within each round."""
    return Spread.of([a / b for a, b in zip(values[over], values[under], strict=True)])


def medians(values: Mapping[str, Sequence[float]], unit: str) -> dict[str, float]:
    """The median of each contender, named `<contender> [unit]`."""
    return {f"{name} [{unit}]": float(np.median(each)) for name, each in values.items()}


def _rounded(value: Any) -> Any:
    """Figures to four significant digits: more would be noise in every diff."""
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value
