"""`muppet-zoo report`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from muppet_zoo.cli.options import json_option

if TYPE_CHECKING:
    from muppet_zoo.report.compare import Report


@click.command("report")
@click.argument("runs", nargs=-1, required=True, metavar="RUNS...")
@click.option(
    "--baseline", metavar="ARM", help="Arm that others are compared with; else the first one."
)
@click.option(
    "--html",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write all tables and figures as one page that needs no network.",
)
@click.option(
    "--figures",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Write the figures as SVG and PNG.",
)
@click.option("--title", default="Scores", show_default=True, help="Title of the page.")
@click.option(
    "--arms",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="YAML with num_tasks and description of arms; a run may have its own arms.yaml.",
)
@click.option(
    "--published",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="YAML of published scores to show beside ours; else those of the MUPPET paper.",
)
@json_option
def command(  # one parameter per option of the command line
    runs: tuple[str, ...],
    baseline: str | None,
    html: Path | None,
    figures: Path | None,
    title: str,
    arms: Path | None,
    published: Path | None,
    as_json: bool,
) -> None:
    """Compare the scores of runs: intervals, paired tests, averages, ranks, figures.

    RUNS are folders that `finetune` wrote, or `train`; NAME=DIR names the arm of a training, and
    several folders of one name are its seeds. The first arm is the baseline of all comparisons.
    """
    from muppet_zoo.console import print_json, progress
    from muppet_zoo.report.cells import read_runs
    from muppet_zoo.report.compare import build_report
    from muppet_zoo.report.published import read_published, shipped_published

    read = read_runs(runs, arms)
    with progress(quiet=as_json) as display:
        line = display.start("compare", unit="pairs")
        report = build_report(
            read,
            baseline=baseline,
            published=read_published(published or shipped_published()),
            progress=lambda done, total: line.update(done, total=total),
        )
        line.finish()
    write_report(report, title, html=html, figures=figures)
    if as_json:
        print_json(report_data(report))
    else:
        show_report(report)


def write_report(report: Report, title: str, *, html: Path | None, figures: Path | None) -> None:
    """Write the page and the figures that were asked for."""
    from muppet_zoo.report.figures import draw, write_figures
    from muppet_zoo.report.page import write_page

    drawings = draw(report) if html is not None or figures is not None else []
    if figures is not None:
        write_figures(drawings, figures)
    if html is not None:
        write_page(html, title, report, drawings)


def show_report(report: Report) -> None:
    """Print all tables, and what to know before believing them."""
    from muppet_zoo.console import note, print_table
    from muppet_zoo.report.tables import notes_of, tables_of

    for table in tables_of(report):
        print_table(f"\n{table.title}", table.rows, notes=[table.caption])
    for text in notes_of(report):
        note(text)


def report_data(report: Report) -> dict[str, Any]:
    """The same as plain data."""
    from dataclasses import asdict

    from muppet_zoo.report.tables import notes_of

    return {**asdict(report), "notes": notes_of(report)}
