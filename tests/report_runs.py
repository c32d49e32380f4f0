"""Folders of invented results, as `finetune` writes them; shared by the tests of reports."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ARMS = {"original": 0.0, "few_tasks": -0.05, "many_tasks": 0.15}
NUM_TASKS = {"original": 0, "few_tasks": 5, "many_tasks": 30}


def line(**changes: Any) -> dict[str, Any]:
    """One scored cell; `changes` replace its fields."""
    return {
        "arm": "original", "target": "subj", "split": "validation", "shots": "all", "seed": 0,
        "settings": {"optimizer.learning_rate": 5e-5}, "scores": {"accuracy": 0.5},
        "headline": "accuracy", "num_examples": 4, "steps": 60, "data_fingerprint": "ab12",
        "checkpoint_fingerprint": "cd34", "versions": {"muppet-zoo": "0.1.0"}, "commit": None,
        "seconds": 1.5, "predictions": None, **changes,
    }  # fmt: skip


def write_lines(folder: Path, lines: Sequence[dict[str, Any]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(each) + "\n" for each in lines)
    (folder / "results.jsonl").write_text(text, encoding="utf-8")
    return folder


def write_predictions(folder: Path, name: str, predictions: Sequence[Any], targets: Any) -> str:
    """The path to put into a line."""
    (folder / "predictions").mkdir(parents=True, exist_ok=True)
    path = f"predictions/{name}.jsonl"
    pairs = zip(predictions, targets, strict=True)
    rows = [{"row": i, "prediction": p, "target": t} for i, (p, t) in enumerate(pairs)]
    (folder / path).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_study(
    folder: Path,
    *,
    targets: Sequence[str] = ("subj", "cr", "rte"),
    shots: Sequence[int | str] = (16, 64, "all"),
    seeds: Sequence[int] = (0, 1, 2),
    num_examples: int = 40,
) -> Path:
    """Three arms of known strength on every target, with predictions and facts of the arms."""
    lines = []
    for t, target in enumerate(targets):
        gold = [i % 2 for i in range(num_examples)]
        for s, few in enumerate(shots):
            for arm, gain in ARMS.items():
                for seed in seeds:
                    rng = random.Random(f"{target} {few} {arm} {seed}")
                    sure = 0.55 + 0.05 * t + 0.06 * s + gain
                    answers = [g if rng.random() < sure else 1 - g for g in gold]
                    right = sum(a == g for a, g in zip(answers, gold, strict=True))
                    name = f"{target}-{few}-{arm}-{seed}"
                    lines.append(line(
                        arm=arm, target=target, shots=few, seed=seed, num_examples=num_examples,
                        data_fingerprint=f"data of {target}",
                        scores={"accuracy": right / num_examples},
                        predictions=write_predictions(folder, name, answers, gold),
                        overlap=3 if target == "cr" else None,
                    ))  # fmt: skip
    facts = "".join(f"  {arm}: {{num_tasks: {count}}}\n" for arm, count in NUM_TASKS.items())
    write_lines(folder, lines)
    (folder / "arms.yaml").write_text(f"arms:\n{facts}", encoding="utf-8")
    return folder
