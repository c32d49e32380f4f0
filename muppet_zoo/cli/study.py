"""`muppet-zoo study`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from muppet_zoo.cli.options import PROCESSES, json_option, mirror_option, specs_option


@click.command("study")
@click.argument("name", metavar="NAME")
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Where everything goes; studies that share it share what is equal in them.",
)
@click.option(
    "--setting",
    "setting_name",
    metavar="NAME",
    help="Encoders, tasks, targets and budgets: a shipped setting, or a file.",
)
@click.option("--quick", is_flag=True, help="The setting quick: the invented zoo, some minutes.")
@click.option(
    "--encoder", "encoders", multiple=True, metavar="NAME", help="Only this one of the setting's."
)
@click.option(
    "--workers",
    type=PROCESSES,
    help="Trainings at a time, each with its share of the cores; one a core without it.",
)
@click.option(
    "--html",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write tables and figures as a page; of several encoders, one page each.",
)
@click.option(
    "--figures",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Write the figures as SVG and PNG, in a folder for each encoder.",
)
@mirror_option
@specs_option
@json_option
def command(  # one parameter per option of the command line
    name: str,
    out: Path,
    setting_name: str | None,
    quick: bool,
    encoders: tuple[str, ...],
    workers: int | None,
    html: Path | None,
    figures: Path | None,
    mirror: Path | None,
    spec_dirs: tuple[Path, ...],
    as_json: bool,
) -> int:
    """Run a study and compare its arms: scale, sample_efficiency, batching, loss_scaling, r3f,
    rivals, affinity, or a file of your own.

    A study states what is compared; the setting, on what. Each arm is pre-finetuned and fine-tuned
    on each target, with equal budgets. The same command goes on where it was stopped. Exits with 1
    when a part failed; the others are finished.
    """
    from muppet_zoo.cli.report import report_data, show_report, write_report
    from muppet_zoo.console import note, print_json
    from muppet_zoo.errors import UsageError
    from muppet_zoo.report.cells import read_runs
    from muppet_zoo.report.compare import build_report
    from muppet_zoo.study.design import QUICK, read_design, read_setting
    from muppet_zoo.study.run_study import StudyOptions, run_study, warn_of_missing

    if quick == (setting_name is not None):
        raise UsageError("say where the study is run: --quick, or --setting NAME or FILE")
    design, setting = read_design(name), read_setting(setting_name or QUICK)
    options = StudyOptions(
        out=out, mirror=mirror, workers=workers or os.cpu_count() or 1, spec_dirs=spec_dirs
    )
    outcome = run_study(design, setting, options, encoders)
    shown = {}
    for encoder, folder in outcome.folders.items():
        runs = read_runs([str(folder)])
        if not runs.cells:
            continue
        report = build_report(runs, baseline=design.baseline)
        several = len(outcome.folders) > 1
        page = html.with_stem(f"{html.stem}_{encoder}") if html is not None and several else html
        drawn = None if figures is None else figures / encoder
        write_report(report, f"{design.question} ({encoder})", html=page, figures=drawn)
        shown[encoder] = report_data(report)
        if not as_json:
            note(f"\n{design.question} Encoder: {encoder}. Results: {folder}")
            show_report(report)
    if as_json:
        print_json(shown)
    warn_of_missing(outcome)
    return 1 if outcome.failed or outcome.num_missing else 0
