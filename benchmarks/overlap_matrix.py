"""What the mixture `muppet` has in common with the suites `glue` and `unseen`, on real rows.

Run: python -m benchmarks.overlap_matrix --mirror DIR. Writes counts and row numbers, never texts:
benchmarks/results/overlap_matrix.json, .md and .svg.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from benchmarks.common import RESULTS, write_result
from muppet_zoo.console import note
from muppet_zoo.overlap.compare import (
    OverlapReport,
    Places,
    evaluation_splits,
    find_overlap,
    train_splits,
)
from muppet_zoo.overlap.index import KINDS
from muppet_zoo.overlap.report import report_json, write_heat_map
from muppet_zoo.zoo import load_zoo

TRAIN = "muppet"
SUITES = ("glue", "unseen")


def markdown(report: OverlapReport) -> str:
    """A table of the pairs that share texts, and the names of all that could not be compared."""
    shared = [pair for pair in report.pairs if pair.share]
    found = {(pair.train.task, pair.evaluation.task) for pair in shared}
    related = [k for k in report.kinships if (k.train, k.evaluation) not in found]
    lines = [
        f"# {TRAIN} against {' and '.join(SUITES)}",
        "",
        f"{len(report.pairs):,} pairs of a training and an evaluation split, of the rows at hand: "
        f"some train splits are samples (`rows`), so the figures are lower bounds. Each evaluation "
        f"row counts once in a line, at the strongest kind; see `muppet-zoo overlap --help`.",
        "",
        "![The same as a heat map](overlap_matrix.svg)",
        "",
        "| train | rows | evaluation | rows | exact | near | segment | ngram | seen | train rows |"
        " same corpus in the specs |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for pair in shared:
        counts = " | ".join(f"{pair.evaluation_rows[kind]:,}" for kind in KINDS)
        lines.append(
            f"| {pair.train.name} | {pair.train.num_rows:,} | {pair.evaluation.name} | "
            f"{pair.evaluation.num_rows:,} | {counts} | {pair.share:.2%} | "
            f"{sum(pair.train_rows.values()):,} | {', '.join(pair.lineage)} |"
        )
    lines += ["", "One corpus in the specs, and no text in common in the rows at hand, if any:", ""]
    lines += [f"- {k.train} and {k.evaluation}: {', '.join(k.corpora)}" for k in related]
    for reason in dict.fromkeys(str(split.absent) for split in report.missing):
        names = ", ".join(split.name for split in report.missing if split.absent == reason)
        lines += ["", f"Not compared, {reason}: {names}."]
    return "\n".join([*lines, ""])


def small(report: OverlapReport) -> dict[str, Any]:
    """The report without the pairs that have nothing in common."""
    data = report_json(report)
    told = [pair for pair in data["pairs"] if pair["share"] or pair["lineage"]]
    return {**data, "pairs": told, "pairs_with_nothing_in_common": len(data["pairs"]) - len(told)}


@click.command()
@click.option("--mirror", required=True, type=click.Path(path_type=Path, exists=True))
def main(mirror: Path) -> None:
    """Compare and write the results."""
    zoo = load_zoo()
    report = find_overlap(
        train_splits(zoo.named([TRAIN])),
        evaluation_splits(zoo.named(SUITES)),
        places=Places(mirror=mirror),
    )
    path = write_result("overlap_matrix", small(report))
    path.with_suffix(".md").write_text(markdown(report), "utf-8")
    write_heat_map(RESULTS / "overlap_matrix.svg", report, title=f"{TRAIN} / {', '.join(SUITES)}")
    note(f"{path} and .md and .svg beside it")


if __name__ == "__main__":
    main()
