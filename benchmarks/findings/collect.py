"""What is committed of the studies: scores and arms, without the predictions.

    python -m benchmarks.findings.collect --runs runs/findings/real

Predictions are ten times as large as all else, so tests over single rows can be made where the
studies were run only.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import click

from benchmarks.findings.render import RAW
from muppet_zoo.finetune.results import RESULTS_FILE
from muppet_zoo.report.cells import ARMS_FILE


@click.command()
@click.option("--runs", required=True, type=click.Path(path_type=Path, exists=True))
def main(runs: Path) -> None:
    """Copy the results of every study and encoder under RUNS/results."""
    for path in sorted(runs.glob(f"results/*/*/{RESULTS_FILE}")):
        folder = RAW / path.parent.parent.name / path.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        cells = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        lines = [json.dumps(cell | {"predictions": None}, ensure_ascii=False) for cell in cells]
        (folder / RESULTS_FILE).write_text("\n".join(lines) + "\n", "utf-8")
        shutil.copyfile(path.parent / ARMS_FILE, folder / ARMS_FILE)


if __name__ == "__main__":
    main()
