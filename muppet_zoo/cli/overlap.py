"""`muppet-zoo overlap`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from muppet_zoo.cli.options import json_option, lock_option, mirror_option, specs_option

if TYPE_CHECKING:
    from muppet_zoo.overlap.compare import OverlapReport, SplitPair

_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command("overlap")
@click.option(
    "--train", "train_names", multiple=True, required=True, metavar="NAME",
    help="Mixture or task that is trained on; may be given more than once.",
)  # fmt: skip
@click.option(
    "--eval", "eval_names", multiple=True, required=True, metavar="NAME",
    help="Mixture or task that is scored on; may be given more than once.",
)  # fmt: skip
@click.option(
    "--eval-split", "eval_splits", multiple=True, metavar="ROLE",
    help="Split to score on; may be given more than once. Validation and test without it.",
)  # fmt: skip
@mirror_option
@click.option(
    "--plot", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE.svg",
    help="Also write the matrix as a picture.",
)  # fmt: skip
@lock_option
@specs_option
@json_option
def command(
    train_names: tuple[str, ...],
    eval_names: tuple[str, ...],
    eval_splits: tuple[str, ...],
    mirror: Path | None,
    plot: Path | None,
    lock_file: Path | None,
    spec_dirs: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Find training rows whose inputs are those of evaluation rows.

    \b
    exact    the whole inputs have the same letters and digits
    near     the whole inputs are nearly the same words in nearly the same order
    segment  a text of 8 words or more is the same, such as a passage under another question
    ngram    13 words in a row are the same

    Each row counts once for each split it is compared with, at the first of these that holds.
    Targets are not compared. A mixture may name what it protects, and `build --mixture` then warns
    of such rows, drops them or fails: see the key `overlap`.
    """
    from muppet_zoo.console import print_json, progress
    from muppet_zoo.errors import SourceError, UsageError
    from muppet_zoo.hub.lock import locks_of
    from muppet_zoo.overlap.compare import (
        DEFAULT_SPLITS,
        Places,
        evaluation_splits,
        find_overlap,
        train_splits,
    )
    from muppet_zoo.zoo import load_zoo, spec_folders

    if plot is not None and plot.suffix not in (".svg",):
        raise UsageError(f"--plot {plot}: a file that ends in .svg is expected")
    zoo = load_zoo(spec_dirs)
    train = train_splits(zoo.named(train_names))
    evaluation = evaluation_splits(zoo.named(eval_names), eval_splits or DEFAULT_SPLITS)
    specs = [spec for spec, _ in (*train, *evaluation)]
    folders = [folder.path for folder in spec_folders(spec_dirs)]
    places = Places(mirror=mirror, locks={} if mirror else locks_of(specs, folders, lock_file))
    with progress(quiet=as_json) as display:
        lines: dict[str, Any] = {}

        def show(name: str, done: int, total: float | None) -> None:
            if name not in lines:
                for line in lines.values():
                    line.finish()
                lines[name] = display.start(name)
            lines[name].update(done, total=total)

        report = find_overlap(train, evaluation, places=places, on_rows=show)
        for line in lines.values():
            line.finish()
    if not report.pairs:
        raise SourceError(
            "nothing was compared: no training split or no evaluation split has rows to read"
            + (f" in the mirror {mirror}" if mirror is not None else "")
        )
    if plot is not None:
        from muppet_zoo.overlap.report import write_heat_map

        write_heat_map(plot, report, title=f"{', '.join(train_names)} / {', '.join(eval_names)}")
    if as_json:
        from muppet_zoo.overlap.report import report_json

        print_json(report_json(report))
    else:
        _show(report)


def _show(report: OverlapReport) -> None:
    from muppet_zoo.console import note, plural, print_table
    from muppet_zoo.overlap.index import MAX_CANDIDATES

    told = [pair for pair in report.pairs if pair.share or pair.lineage]
    clean = len(report.pairs) - len(told)
    title = (
        f"{plural(len(report.pairs), 'pair')} of splits compared; evaluation rows that training "
        f"has seen{', by pair' if told else ': none'}"
    )
    notes = [f"{plural(clean, 'other pair')} share nothing and no corpus"] if clean and told else []
    compared = {(pair.train.task, pair.evaluation.task) for pair in report.pairs}
    notes += [
        f"same corpus, rows not compared: {k.train} and {k.evaluation} ({', '.join(k.corpora)})"
        for k in report.kinships
        if (k.train, k.evaluation) not in compared
    ]
    if num_cut := sum(split.num_cut for split in report.train):
        notes.append(
            f"{plural(num_cut, 'training row')} had so many near candidates that only the first "
            f"{MAX_CANDIDATES:,} were looked at"
        )
    print_table(title, [_row(pair) for pair in told], notes=notes)
    reasons = dict.fromkeys(str(split.absent) for split in report.missing)
    for reason in reasons:
        names = ", ".join(split.name for split in report.missing if split.absent == reason)
        note(f"not compared, {reason}: {names}")


def _row(pair: SplitPair) -> dict[str, Any]:
    return {
        "train": pair.train.name,
        "evaluation": pair.evaluation.name,
        **pair.evaluation_rows,
        "rows": pair.evaluation.num_rows,
        "%": round(100 * pair.share, 2),
        "train_rows": sum(pair.train_rows.values()),
        "same_corpus": list(pair.lineage) or None,
        "for_example": _example(pair),
    }


def _example(pair: SplitPair) -> str | None:
    if not pair.examples:
        return None
    first = pair.examples[0]
    return f"{first.train_row} = {first.evaluation_row} ({first.kind})"
