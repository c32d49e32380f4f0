"""`muppet-zoo finetune`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from muppet_zoo.cli.options import json_option, specs_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from muppet_zoo.finetune.results import CellResult


@click.command("finetune")
@click.argument("plan_file", metavar="PLAN.yaml", type=click.Path(path_type=Path))
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Where results, predictions and cells go.",
)
@specs_option
@json_option
def command(plan_file: Path, out: Path, spec_dirs: tuple[Path, ...], as_json: bool) -> int:
    """Fine-tune encoders on targets, each with several seeds and numbers of examples, and score.

    PLAN.yaml names targets, arms (the encoders that are compared), seeds, shots, a grid of settings
    and what all runs have in common. Settings are chosen on held-out train examples; the evaluation
    split is read with the chosen ones alone. The same command goes on where it was stopped.

    DIR/results.jsonl receives one line per scored cell, DIR/predictions/ what each answered. Models
    are deleted when they are scored, unless the plan says keep_models: true. Exits with 1 when a
    cell failed; the others are finished, and the failed ones tried again by the next call.
    """
    return run_plan(plan_file, out, spec_dirs, as_json=as_json)


def run_plan(plan_file: Path, out: Path, spec_dirs: tuple[Path, ...], *, as_json: bool) -> int:
    """Run what is missing of a plan and print the scores; returns the exit code."""
    from muppet_zoo.console import note, plural, print_json, print_table
    from muppet_zoo.finetune.plan import read_plan
    from muppet_zoo.finetune.run_cells import finetune
    from muppet_zoo.zoo import load_zoo

    zoo = load_zoo(spec_dirs)
    outcome = finetune(read_plan(plan_file, zoo), zoo, out, spec_dirs)
    if as_json:
        print_json(
            {
                "results": [asdict(result) for result in outcome.results],
                "failed": [{"cell": cell, "error": error} for cell, error in outcome.failed],
            }
        )
    elif outcome.results:
        print_table(f"scores in {out / 'results.jsonl'}", _rows(outcome.results))
    for cell, error in outcome.failed:
        note(f"{cell}: {error}")
    if outcome.failed:
        note(f"{plural(len(outcome.failed), 'cell')} failed; the same command tries again")
    return 1 if outcome.failed else 0


def _rows(results: Sequence[CellResult]) -> list[dict[str, Any]]:
    """One row per target, number of examples and arm: the mean over seeds."""
    from muppet_zoo.report.score_statistics import mean_and_interval

    groups: dict[tuple[Any, ...], list[CellResult]] = {}
    for result in results:
        groups.setdefault((result.target, result.shots, result.arm), []).append(result)
    rows = []
    for (target, shots, arm), group in groups.items():
        interval = mean_and_interval([result.scores[result.headline] for result in group])
        settings = [f"{key} {value}" for key, value in group[0].settings.items()]
        rows.append(
            {
                "target": target,
                "shots": shots,
                "arm": arm,
                "metric": group[0].headline,
                "mean": interval.mean,
                "low": interval.low,
                "high": interval.high,
                "seeds": interval.num_values,
                "settings": ", ".join(settings) or "-",
            }
        )
    return rows
