"""Whether the loss of every family goes down on forty-five real tasks.

    python -m benchmarks.real.families --mirror DIR --out runs/real_many

Builds the mixture `real_many` for MiniLM, trains it with benchmarks/real/many.yaml and compares the
scaled loss of each family over the first and the last fifth of the steps. Each part is skipped or
resumed when it is already there.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from benchmarks.common import run_cli, write_result
from benchmarks.real.run import find_encoder
from muppet_zoo.console import print_table
from muppet_zoo.zoo import load_zoo

MIXTURE = "real_many"


@click.command()
@click.option("--mirror", required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--out", required=True, type=click.Path(path_type=Path))
def main(mirror: Path, out: Path) -> None:
    """Build, train, and write benchmarks/results/real_families.json."""
    out.mkdir(parents=True, exist_ok=True)
    encoder, trained = find_encoder(out / "encoder"), out / "trained"
    run_cli("build", "--mixture", MIXTURE, "--tokenizer", encoder, "--mirror", mirror,
            "--out", out / "data")  # fmt: skip
    resume = ["--resume"] if trained.exists() else []
    run_cli("train", "benchmarks/real/many.yaml", "--out", trained, *resume)
    log = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    zoo = load_zoo()
    tasks = zoo.mixture(MIXTURE).tasks
    rows = family_rows(log, {name: zoo.task(name).family for name in tasks})
    risen = [row["family"] for row in rows if row["last"] >= row["first"]]
    figures = {
        "steps": log[-1]["step"],
        "tasks": len(tasks),
        "tokens": sum(entry["num_tokens"] for entry in log),
        "families": rows,
        "not_lower": risen,
    }
    write_result("real_families", figures)
    told = f"not lower: {', '.join(risen)}" if risen else "lower in every family"
    print_table("scaled loss, first and last fifth of the steps", rows, notes=[told])


def family_rows(log: list[dict[str, Any]], families: Mapping[str, str]) -> list[dict[str, Any]]:
    """Mean scaled loss of each family's examples at both ends of a run's log.

    families: of each task.
    """
    fifth = max(1, len(log) // 5)
    first, last = (_means(part, families) for part in (log[:fifth], log[-fifth:]))
    return [
        {"family": family, "first": round(first[family], 4), "last": round(last[family], 4)}
        for family in sorted(first.keys() & last.keys())
    ]


def _means(entries: list[dict[str, Any]], families: Mapping[str, str]) -> dict[str, float]:
    losses: dict[str, float] = defaultdict(float)
    examples: dict[str, int] = defaultdict(int)
    for entry in entries:
        for task, number in entry["task_examples"].items():
            losses[families[task]] += entry["task_losses"][task] * number
            examples[families[task]] += number
    return {family: losses[family] / examples[family] for family in losses}


if __name__ == "__main__":
    main()
