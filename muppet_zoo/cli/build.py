"""`muppet-zoo build`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from muppet_zoo.cli.options import (
    COUNT,
    PROCESSES,
    TOKENS,
    chosen_specs,
    json_option,
    lock_option,
    mirror_option,
    specs_option,
)

if TYPE_CHECKING:
    from muppet_zoo.build import BuildProgress, BuildReport, SplitOutcome
    from muppet_zoo.console import ProgressDisplay, ProgressLine
    from muppet_zoo.mixture import Mixture
    from muppet_zoo.overlap.guard import Protection

_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command("build")
@click.argument("tasks", nargs=-1, metavar="[TASK]...")
@click.option("--mixture", metavar="NAME", help="Build the tasks of this mixture.")
@click.option(
    "--tokenizer", "tokenizer_name", required=True, metavar="NAME_OR_DIR",
    help="A folder with a tokenizer.json, or a model on the hub.",
)  # fmt: skip
@click.option("--out", required=True, type=_FOLDER, metavar="DIR", help="Where the shards go.")
@mirror_option
@click.option(
    "--max-tokens", type=TOKENS, default=128, show_default=True,
    help="Longer sequences are cut; the manifest counts them.",
)  # fmt: skip
@click.option("--limit", type=COUNT, help="Read only the first N rows of each split.")
@click.option(
    "--jobs", type=PROCESSES, default=3, show_default=True,
    help="Splits built at a time; the shards do not depend on it.",
)  # fmt: skip
@click.option(
    "--verify", is_flag=True, help="Read what is built already, and make anew what is damaged."
)
@click.option(
    "--license-policy", type=click.Choice(["any", "redistributable", "commercial"]),
    help="What the licences of all tasks must permit; in place of the mixture's policy.",
)  # fmt: skip
@lock_option
@specs_option
@json_option
def command(
    tasks: tuple[str, ...],
    mixture: str | None,
    tokenizer_name: str,
    out: Path,
    mirror: Path | None,
    max_tokens: int,
    limit: int | None,
    jobs: int,
    verify: bool,
    license_policy: str | None,
    lock_file: Path | None,
    spec_dirs: tuple[Path, ...],
    as_json: bool,
) -> int:
    """Turn the rows of TASKs into Arrow shards of token ids, under DIR/<task>/<split>/.

    What is built already and unchanged is left alone; what was interrupted goes on. Rows come from
    the hub, from the spec's own files, or from a mirror. On the hub, a task that `muppet-zoo lock`
    has recorded is read at the commit it recorded, and its files are compared; others are read as
    their revision is now. Where the mixture has the key `overlap`, training rows are compared with
    the evaluation rows it names.
    """
    from muppet_zoo.build import BuildOptions, build
    from muppet_zoo.console import print_error, progress
    from muppet_zoo.encode import open_tokenizer
    from muppet_zoo.hub.lock import locks_of
    from muppet_zoo.zoo import spec_folders

    specs, chosen = chosen_specs(tasks, mixture, spec_dirs)
    protection = _protection(chosen, spec_dirs)
    read = [*specs, *(spec for spec, _ in (protection.evaluation if protection else ()))]
    folders = [folder.path for folder in spec_folders(spec_dirs)]
    options = BuildOptions(
        mirror=mirror,
        max_tokens=max_tokens,
        limit=limit,
        jobs=jobs,
        verify=verify,
        license_policy=license_policy or (chosen.license_policy if chosen else "any"),
        overlap=protection,
        locks={} if mirror else locks_of(read, folders, lock_file),
    )
    start = time.monotonic()
    with ExitStack() as stack:
        lines = _Lines(stack.enter_context(progress(quiet=as_json)))
        report = build(
            specs, tokenizer=open_tokenizer(tokenizer_name), out=out, options=options,
            on_progress=lines.show,
        )  # fmt: skip
    _show(report, out, time.monotonic() - start, as_json=as_json)
    for error in report.errors:
        print_error(error)
    return 1 if report.errors else 0


def _protection(mixture: Mixture | None, spec_dirs: tuple[Path, ...]) -> Protection | None:
    """The evaluation rows that the mixture protects, if any."""
    from muppet_zoo.overlap.compare import evaluation_splits
    from muppet_zoo.overlap.guard import Protection
    from muppet_zoo.zoo import load_zoo

    if mixture is None or mixture.overlap is None:
        return None
    policy = mixture.overlap
    evaluation = evaluation_splits(load_zoo(spec_dirs).named(policy.against), policy.splits)
    return Protection(policy=policy.policy, level=policy.level, evaluation=tuple(evaluation))


class _Lines:
    """One progress line per split that is being built."""

    def __init__(self, display: ProgressDisplay) -> None:
        self._display = display
        self._lines: dict[tuple[str, str], tuple[ProgressLine, float]] = {}

    def show(self, progress: BuildProgress) -> None:
        key = (progress.task, progress.role)
        if progress.outcome is not None:
            if key in self._lines:
                self._lines.pop(key)[0].finish(_finished(progress.outcome))
            return
        if key not in self._lines:
            line = self._display.start(f"{progress.task} {progress.role}")
            self._lines[key] = line, time.monotonic()
        line, start = self._lines[key]
        if progress.phase == "waiting":
            line.update(0, text="another build is at work on it; waiting")
            return
        if progress.phase == "comparing":
            line.update(0, text="waits for the evaluation rows it is compared with")
            return
        elapsed_s = max(time.monotonic() - start, 1e-3)
        line.update(
            progress.row,
            total=progress.total_rows,
            text=f"{progress.num_rows / elapsed_s:,.0f} rows/s",
        )


def _finished(outcome: SplitOutcome) -> str:
    examples = f", {outcome.manifest.num_examples:,} examples" if outcome.manifest else ""
    return f"{outcome.task} {outcome.role}: {outcome.status}{examples} in {outcome.seconds:.1f} s"


def _show(report: BuildReport, out: Path, seconds: float, *, as_json: bool) -> None:
    from muppet_zoo.console import print_json, print_table

    if as_json:
        print_json(
            {
                "out": str(out),
                "seconds": round(seconds, 3),
                "splits": [outcome.to_json() for outcome in report.outcomes],
                "errors": [str(error) for error in report.errors],
            }
        )
        return
    summary = (
        f"{report.count('built', 'resumed')} splits built, {report.count('reused')} unchanged"
        + "".join(
            f", {n} {status}" for status in ("absent", "failed") if (n := report.count(status))
        )
        + f" in {seconds:.1f} s, under {out}"
    )
    rows = [_row(outcome) for outcome in report.outcomes]
    if all(row["overlap"] is None for row in rows):
        for row in rows:
            del row["overlap"]  # the mixture does not ask for a comparison
    print_table(summary, rows, notes=_overlap_notes(report))


def _overlap_notes(report: BuildReport) -> Iterator[str]:
    """One line for each split that has training rows in common with evaluation rows."""
    from muppet_zoo.overlap.record import overlap_of

    for outcome in report.outcomes:
        manifest = outcome.manifest
        compared = overlap_of(manifest) if manifest else None
        if manifest is None or compared is None or not manifest.num_overlapping_rows:
            continue
        where = ", ".join(f"{name} {n:,}" for name, n in manifest.overlap_histogram.items())
        what = "left out" if compared["policy"] == "drop" else "kept"
        yield (
            f"{outcome.task} {outcome.role}: {manifest.num_overlapping_rows:,} rows overlap with "
            f"evaluation rows and were {what}: {where}"
        )


def _row(outcome: SplitOutcome) -> dict[str, Any]:
    manifest = outcome.manifest
    cut = 0.0
    if manifest is not None:
        cut = 100 * manifest.num_truncated / max(manifest.num_sequences, 1)
    return {
        "task": outcome.task,
        "split": outcome.role,
        "status": outcome.status,
        "examples": manifest and manifest.num_examples,
        "tokens": manifest and manifest.num_tokens,
        "cut_%": round(cut, 2) if manifest else None,
        "bad": manifest and manifest.num_bad_rows,
        "overlap": outcome.num_overlapping_rows,
        "why": outcome.why if outcome.status != "failed" else "see below",
    }
