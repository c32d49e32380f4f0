"""`muppet-zoo doctor`."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from muppet_zoo.cli.options import (
    COUNT,
    TOKENS,
    check_max_tokens,
    json_option,
    mirror_option,
    specs_option,
)

if TYPE_CHECKING:
    from muppet_zoo.console import ProgressDisplay, ProgressLine
    from muppet_zoo.doctor.examine import Examination, Report
    from muppet_zoo.errors import MuppetZooError
    from muppet_zoo.spec import TaskSpec

_SEVERITY = click.Choice(["error", "warning", "note"])


@click.command("doctor")
@click.argument("tasks", nargs=-1, metavar="[TASK]...")
@click.option("--mixture", metavar="NAME", help="Examine the tasks of this mixture.")
@mirror_option
@click.option(
    "--limit", type=COUNT, default=5000, show_default=True,
    help="Rows of each split: a sample of the whole split, the same every time.",
)  # fmt: skip
@click.option(
    "--tokenizer", "tokenizer_name", metavar="NAME_OR_DIR",
    help="Also look for answers that are cut off, with this tokenizer.",
)  # fmt: skip
@click.option(
    "--max-tokens", type=TOKENS, default=128, show_default=True,
    help="Longest sequence, as for `build`; needs --tokenizer.",
)  # fmt: skip
@click.option(
    "--severity", type=_SEVERITY, default="warning", show_default=True,
    help="Show findings of this severity and above; --json has the same ones.",
)  # fmt: skip
@click.option(
    "--fail-on", type=_SEVERITY, default="error", show_default=True,
    help="Exit with 1 when there are findings of this severity or above.",
)  # fmt: skip
@specs_option
@json_option
def command(  # one parameter per option of the command line
    tasks: tuple[str, ...],
    mixture: str | None,
    mirror: Path | None,
    limit: int,
    tokenizer_name: str | None,
    max_tokens: int,
    severity: str,
    fail_on: str,
    spec_dirs: tuple[Path, ...],
    as_json: bool,
) -> int:
    """Look at rows of TASKs for what a well-formed spec can still get wrong.

    \b
    columns     never used, constant, empty; texts that the inputs lack
    rows        labels outside the set, answers not in the context, rows dropped
    labels      never seen, one label only, names in another order than the data's
    options     dropped, changed, twice
    signal      words tell the label: from one field alone, entirely, not at all
    duplicates  one input with two labels; inputs of training in evaluation
    encodings   mojibake, lost and control characters, HTML entities
    truncation  answers and options that a build would cut (with --tokenizer)

    An error is something wrong, a warning something to look at, a note good to know. Every finding
    has its figures and the first rows it is about, as split:row. Thresholds, with reasons, are in
    muppet_zoo/doctor/thresholds.py. Exits with 1 when there are errors; see --fail-on.
    """
    from muppet_zoo.console import print_error, print_json, progress
    from muppet_zoo.doctor.examine import Examination
    from muppet_zoo.doctor.records import at_least

    check_max_tokens(tokenizer_name)
    specs = _chosen_specs(tasks, mixture, spec_dirs)
    how = Examination(mirror=mirror, limit=limit, budget=_budget(tokenizer_name, max_tokens))
    start = time.monotonic()
    with ExitStack() as stack:
        display = stack.enter_context(progress(quiet=as_json))
        reports, errors = _examine_all(specs, how, display)
    if as_json:
        print_json(
            {
                "tasks": [report.to_json(severity) for report in reports],
                "errors": [str(error) for error in errors],
            }
        )
    else:
        _show(reports, severity, time.monotonic() - start)
    for error in errors:
        print_error(error)
    grave = any(at_least(d.severity, fail_on) for report in reports for d in report.diagnoses)
    return 1 if errors or grave else 0


def _chosen_specs(
    tasks: tuple[str, ...], mixture: str | None, spec_dirs: tuple[Path, ...]
) -> list[TaskSpec]:
    from muppet_zoo.errors import UsageError
    from muppet_zoo.zoo import load_zoo

    if not tasks and mixture is None:
        raise UsageError("nothing to examine: name tasks or a --mixture; see `muppet-zoo list`")
    zoo = load_zoo(spec_dirs)
    names = (*tasks, *(zoo.mixture(mixture).tasks if mixture is not None else ()))
    return [zoo.task(name) for name in dict.fromkeys(names)]


def _budget(tokenizer_name: str | None, max_tokens: int) -> Any:
    if tokenizer_name is None:
        return None
    from muppet_zoo.doctor.truncation import TokenBudget
    from muppet_zoo.encode import open_tokenizer

    return TokenBudget(tokenizer=open_tokenizer(tokenizer_name), max_tokens=max_tokens)


def _examine_all(
    specs: list[TaskSpec], how: Examination, display: ProgressDisplay
) -> tuple[list[Report], list[MuppetZooError]]:
    """Reports of the tasks whose rows can be read, and errors of the others."""
    from muppet_zoo.console import plural
    from muppet_zoo.doctor.examine import examine
    from muppet_zoo.errors import SourceError

    reports: list[Report] = []
    errors: list[MuppetZooError] = []
    total = display.start("tasks", total=len(specs), unit="tasks")
    for done, spec in enumerate(specs):
        total.update(done)
        line = display.start(spec.name, unit="done")
        try:
            reports.append(examine(spec, how, on_step=_step(line)))
        except SourceError as error:
            errors.append(error)
        line.finish()
    total.finish(f"{plural(len(reports), 'task')} examined" if len(specs) > 1 else "")
    return reports, errors


def _step(line: ProgressLine) -> Any:
    def step(what: str, row: int, num_rows: float | None) -> None:
        line.update(row, total=num_rows, text=what)

    return step


def _show(reports: list[Report], severity: str, seconds: float) -> None:
    from muppet_zoo.console import note, plural, say
    from muppet_zoo.doctor.records import SEVERITIES, at_least

    for report in reports:
        for diagnosis in report.diagnoses:
            if at_least(diagnosis.severity, severity):
                say(str(diagnosis))
    counts = {
        level: sum(d.severity == level for report in reports for d in report.diagnoses)
        for level in SEVERITIES
    }
    shown = [plural(count, level) for level, count in counts.items()]
    hidden = [level for level in SEVERITIES if counts[level] and not at_least(level, severity)]
    names = " and ".join(f"{level}s" for level in hidden)
    tail = f"; --severity {hidden[-1]} shows {names}" if hidden else ""
    note(f"{plural(len(reports), 'task')}: {', '.join(shown)} in {seconds:.1f} s{tail}")
