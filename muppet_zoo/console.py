"""Everything a person sees: tables, progress, errors. The only module that prints.

Results go to stdout, progress and errors to stderr, so that `--json` output can be piped. Where
stderr is no terminal, progress becomes a plain line now and then, which reads well in a log.
"""

from __future__ import annotations

import json
import os
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from muppet_zoo.errors import Finding, MuppetZooError, SpecError

if TYPE_CHECKING:
    from rich.console import Console

PLAIN_LINE_EVERY_S = 10.0
NARROWEST_CUT = 16  # columns of text that are cut shorter than this say nothing


@cache
def _terminal() -> Console | None:
    """Stdout where it is a terminal; rich, which takes a while to load, is not asked elsewhere."""
    if not (sys.stdout.isatty() or os.environ.get("FORCE_COLOR")):
        return None
    from rich.console import Console

    console = Console(highlight=False, emoji=False)
    return console if console.is_terminal else None


@cache
def _stderr() -> Console:
    from rich.console import Console

    return Console(stderr=True, highlight=False, emoji=False)


def say(text: str) -> None:
    """One line of result on stdout."""
    print(text)


def note(text: str) -> None:
    """One line about the work on stderr."""
    _stderr().print(text, markup=False, soft_wrap=True)


def print_json(data: Any) -> None:
    """One JSON document on stdout."""
    print(json.dumps(data, indent=2, ensure_ascii=False))


def print_yaml(text: str) -> None:
    """YAML on stdout, in colour on a terminal."""
    terminal = _terminal()
    if terminal is None:
        print(text, end="")
        return
    from rich.syntax import Syntax

    terminal.print(
        Syntax(text, "yaml", theme="ansi_dark", word_wrap=True, background_color="default")
    )


def print_table(
    title: str, rows: Sequence[Mapping[str, Any]], *, notes: Iterable[str] = ()
) -> None:
    """A table with one column per key of the first row; numbers are aligned to the right.

    A terminal too narrow for all columns shows those that fit, from the left, the last one cut if
    need be, and names the others; the first is always whole. A pipe or a file gets everything.
    """
    columns = [_column(key, [row.get(key) for row in rows]) for key in (rows[0] if rows else ())]
    shown: list[_Column] = columns
    hidden: list[_Column] = []
    if terminal := _terminal():
        shown, hidden = _fitted(columns, terminal.width)
    _print_line(title, "bold")
    for number, cells in enumerate(zip(*(column.cells for column in shown), strict=True)):
        _print_line("  ".join(cells).rstrip(), "" if number else "bold")
    if hidden:
        names = ", ".join(column.name for column in hidden)
        _print_line(f"no room for: {names}; widen the terminal or use --json", "dim")
    for line in notes:
        print(line)


@dataclass(frozen=True, kw_only=True)
class _Column:
    """Cells padded to one width, the header first."""

    name: str
    width: int
    cells: list[str]


def _column(key: str, values: Sequence[Any]) -> _Column:
    from rich.cells import cell_len

    name = key.replace("_", " ")
    cells = [name, *map(_cell, values)]
    width = max(map(cell_len, cells))
    padding = [" " * (width - cell_len(cell)) for cell in cells]
    right = all(isinstance(value, int | float | None) for value in values)
    padded = [
        space + cell if right else cell + space for cell, space in zip(cells, padding, strict=True)
    ]
    return _Column(name=name, width=width, cells=padded)


def _fitted(columns: Sequence[_Column], room: int) -> tuple[list[_Column], list[_Column]]:
    """Columns from the left that fit with two spaces between them, and those that do not."""
    for count, column in enumerate(columns):
        if count and column.width > room:
            shown, hidden = list(columns[:count]), list(columns[count:])
            if room >= NARROWEST_CUT and not column.cells[-1].startswith(" "):
                shown.append(_cut(hidden.pop(0), room))
            return shown, hidden
        room -= column.width + 2
    return list(columns), []


def _cut(column: _Column, width: int) -> _Column:
    from rich.cells import cell_len, set_cell_size

    cells = [
        cell if cell_len(cell.rstrip()) <= width else set_cell_size(cell, width - 1) + "…"
        for cell in column.cells
    ]
    return _Column(name=column.name, width=width, cells=cells)


def _print_line(text: str, style: str) -> None:
    terminal = _terminal()
    if style and terminal is not None:
        terminal.print(text, style=style, markup=False, soft_wrap=True)
    else:
        print(text)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and 0 < abs(value) < 0.001:
        return f"{value:.1e}"  # a small p-value or learning rate is not 0.000
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) >= 1000 or value == 0 else f"{value:.3f}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return " ".join(str(value).split())


def _visible(text: str) -> str:
    """Rows of strangers may hold what a terminal would obey, or what turns a line around."""
    return "".join(c if c.isprintable() or c.isspace() else ascii(c)[1:-1] for c in text)


def print_fields(fields: Iterable[tuple[str, str, str]], *, indent: str = "") -> None:
    """Lines of (name, text, remark): texts are wrapped beside their names on a terminal.

    A pipe or a file gets each on one line.
    """
    listed = list(fields)
    width = max((len(name) for name, _, _ in listed), default=0)
    terminal = _terminal()
    for name, text, remark in listed:
        whole = " ".join(_visible(text).split()) + (f"  ({remark})" if remark else "")
        start = f"{indent}{name:{width}}  "
        if terminal is None:
            print(f"{start}{whole}".rstrip())
            continue
        if terminal.width < len(start) + NARROWEST_CUT:  # beside the name there is no room
            start = f"{indent}{name}: "
        rest = " " * min(len(start), terminal.width // 4)
        lines = textwrap.wrap(whole, terminal.width, initial_indent=start, subsequent_indent=rest)
        print("\n".join(lines) or start.rstrip())


Answer = TypeVar("Answer")


def ask(question: str, check: Callable[[str], Answer], *, default: str | None = None) -> Answer:
    """Ask until `check` takes the answer; the message of its MuppetZooError is shown before.

    Ctrl-C and the end of input raise click.Abort.
    """
    import click

    def checked(text: str) -> Answer:
        try:
            return check(text)
        except SpecError as error:
            raise click.UsageError("; ".join(found.message for found in error.findings)) from None
        except MuppetZooError as error:
            raise click.UsageError(str(error)) from None

    answer: Answer = click.prompt(
        question, default=default, show_default=bool(default), value_proc=checked
    )
    return answer


def confirm(question: str) -> bool:
    """Yes or no; Enter is yes."""
    import click

    return click.confirm(question, default=True)


def print_findings(findings: Sequence[Finding]) -> None:
    """One line per finding on stdout, in the form editors and CI systems understand."""
    for finding in findings:
        print(finding)
    if findings:
        files = {finding.path for finding in findings}
        note(f"{plural(len(findings), 'finding')} in {plural(len(files), 'file')}")


def plural(count: int, noun: str) -> str:
    """`1 task`, `2 tasks`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def print_error(error: MuppetZooError) -> None:
    """An expected error on stderr; a SpecError one finding per line."""
    console = _stderr()
    if isinstance(error, SpecError):
        for finding in error.findings:
            console.print(str(finding), markup=False, soft_wrap=True)
        return
    from rich.text import Text

    console.print(Text.assemble(("error: ", "bold red"), str(error)), soft_wrap=True)


class ProgressLine(Protocol):
    """One piece of long work that tells how far it is."""

    def update(
        self, done: float, *, total: float | None = None, text: str = "", details: str = ""
    ) -> None:
        """`done` of `total` units; `text` is shown behind the bar, `details` in plain logs alone.

        Those are what `ProgressDisplay.show` shows on a terminal.
        """
        ...

    def finish(self, text: str = "") -> None:
        """The work is over."""
        ...


class ProgressDisplay(Protocol):
    """Several pieces of work at once."""

    def start(self, name: str, *, total: float | None = None, unit: str = "rows") -> ProgressLine:
        """A new line."""
        ...

    def show(self, sections: Mapping[str, Mapping[str, str]]) -> None:
        """Named values under titles, below the lines: losses, shares. Nothing in a plain log."""
        ...


_open_displays: list[ProgressDisplay] = []


@contextmanager
def progress(*, quiet: bool = False) -> Iterator[ProgressDisplay]:
    """Bars with rate and estimated time left on a terminal, plain lines elsewhere.

    Inside another one its lines join those of the other: a terminal has one live display.
    """
    if _open_displays and not quiet:
        yield _open_displays[-1]
        return
    with _new_display(quiet) as display:
        _open_displays.append(display)
        try:
            yield display
        finally:
            _open_displays.pop()


@contextmanager
def _new_display(quiet: bool) -> Iterator[ProgressDisplay]:
    if quiet or not _stderr().is_terminal:
        yield _PlainDisplay(quiet)
        return
    from rich.live import Live
    from rich.progress import (
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[text]}", markup=False),
        TextColumn("after", style="dim"),
        TimeElapsedColumn(),
        TextColumn("left", style="dim"),
        TimeRemainingColumn(),
    )
    # Steps come seconds apart, so the rate is taken over minutes.
    bars = Progress(*columns, console=_stderr(), speed_estimate_period=600)
    with Live(bars, console=_stderr(), refresh_per_second=4) as live:
        yield _RichDisplay(bars, live)


class _RichDisplay:
    def __init__(self, bars: Any, live: Any) -> None:
        self._bars, self._live = bars, live

    def show(self, sections: Mapping[str, Mapping[str, str]]) -> None:
        from rich.columns import Columns
        from rich.console import Group
        from rich.text import Text

        parts: list[Any] = [self._bars]
        for title, values in sections.items():
            cells = [Text.assemble((f"{value:>6} ", "bold"), k) for k, value in values.items()]
            parts += [Text(title, style="dim"), Columns(cells)]
        self._live.update(Group(*parts), refresh=True)

    def start(self, name: str, *, total: float | None = None, unit: str = "rows") -> ProgressLine:
        return _RichLine(self._bars, name, total, unit)


class _RichLine:
    def __init__(self, bars: Any, name: str, total: float | None, unit: str) -> None:
        self._bars, self._unit, self._start = bars, unit, time.monotonic()
        self._total = total
        self._id = bars.add_task(name, total=total, text="")

    def update(
        self, done: float, *, total: float | None = None, text: str = "", details: str = ""
    ) -> None:
        self._total = total if total is not None else self._total
        if details and self._total:
            text = f"{int(done):,} of {self._total:,.0f} {self._unit}"
        text = text or _rate(done, self._unit, time.monotonic() - self._start)
        extra = {} if total is None else {"total": total}
        self._bars.update(self._id, completed=done, text=text, **extra)

    def finish(self, text: str = "") -> None:
        self._bars.remove_task(self._id)
        if text:
            self._bars.console.print(text, markup=False)


class _PlainDisplay:
    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet

    def show(self, sections: Mapping[str, Mapping[str, str]]) -> None:
        pass  # a line per task would bury the log; metrics.jsonl has every value

    def start(self, name: str, *, total: float | None = None, unit: str = "rows") -> ProgressLine:
        return _PlainLine(name, total, unit, self._quiet)


class _PlainLine:
    def __init__(self, name: str, total: float | None, unit: str, quiet: bool) -> None:
        self._name, self._total, self._unit, self._quiet = name, total, unit, quiet
        self._start = self._printed = time.monotonic()

    def update(
        self, done: float, *, total: float | None = None, text: str = "", details: str = ""
    ) -> None:
        self._total = total if total is not None else self._total
        now = time.monotonic()
        if self._quiet or now - self._printed < PLAIN_LINE_EVERY_S:
            return
        self._printed = now
        elapsed = now - self._start
        share, left = "", ""
        if self._total:
            share = f" of {self._total:,.0f} ({done / self._total:.0%})"
            left = f", {_duration(elapsed / done * (self._total - done))} left" if done else ""
        text = text or details or _rate(done, self._unit, elapsed)
        note(f"{self._name}: {int(done):,}{share} {self._unit}, {text}{left}")

    def finish(self, text: str = "") -> None:
        if text and not self._quiet:
            note(text)


def _rate(done: float, unit: str, elapsed_s: float) -> str:
    return f"{done / elapsed_s:,.0f} {unit}/s" if elapsed_s > 0 else ""


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
