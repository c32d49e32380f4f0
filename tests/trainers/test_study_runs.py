"""Studies that really run: killed and resumed, sharing what is equal, telling what failed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from muppet_zoo.zoo import shipped_specs

ENCODER = str(shipped_specs() / "quickstart" / "tiny_encoder")
SMALL: dict[str, Any] = {
    "batching": {"tokens_per_micro_batch": 256, "micro_batches_per_step": 1},
    "schedule": {"steps": 2},
}


def write_files(folder: Path, **setting: Any) -> tuple[Path, Path]:
    """A study of three arms, and where it is run."""
    description = "One of three."
    design = {
        "study_version": 1, "name": "own", "question": "Which?", "paper": "-",
        "baseline": "original",
        "arms": {
            "original": {"tasks": "none", "description": description},
            "all": {"tasks": "all", "description": description},
            "unscaled": {
                "tasks": ["qs_mood", "qs_nli"], "description": description,
                "prefinetune": {"loss_scaling": "none"},
            },
        },
    }  # fmt: skip
    where = {
        "setting_version": 1, "name": "here", "pool": "quickstart", "targets": ["qs_reviews"],
        "max_tokens": 64, "encoders": {"tiny": {"encoder": ENCODER, "random_init": True}},
        "seeds": [0, 1], "shots": [16], "prefinetune": SMALL,
        "finetune": {"run": {**SMALL, "evaluation": {"max_examples": 16}}},
    } | setting  # fmt: skip
    for name, data in (("design", design), ("setting", where)):
        (folder / f"{name}.yaml").write_text(json.dumps(data))  # YAML too, without aliases
    return folder / "design.yaml", folder / "setting.yaml"


def started(files: tuple[Path, Path], out: Path, *options: str) -> subprocess.Popen[str]:
    design, setting = files
    return subprocess.Popen(
        [sys.executable, "-m", "muppet_zoo", "study", str(design), "--setting", str(setting),
         "--out", str(out), "--json", *options],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def run_to_end(files: tuple[Path, Path], out: Path) -> str:
    """What it printed."""
    study = started(files, out)
    said, told = study.communicate(timeout=200)
    assert study.returncode == 0, told
    return said


def results(out: Path) -> list[dict[str, Any]]:
    """What was scored, without what the moment decides."""
    text = (out / "results" / "own" / "tiny" / "results.jsonl").read_text()
    return [
        {k: v for k, v in json.loads(line).items() if k not in ("seconds", "commit")}
        for line in text.splitlines()
    ]


ARMS = {(arm, seed) for arm in ("original", "all", "unscaled") for seed in (0, 1)}


def test_each_arm_is_trained_scored_and_compared(tmp_path: Path) -> None:
    compared = json.loads(run_to_end(write_files(tmp_path), tmp_path / "out"))["tiny"]
    assert {row["arm"] for row in compared["comparisons"]} == {"all", "unscaled"}
    scored = results(tmp_path / "out")
    assert {(line["arm"], line["seed"]) for line in scored} == ARMS
    # The predictions lie beside the results, where `muppet-zoo report` looks for them.
    for line in scored:
        assert (tmp_path / "out" / "results" / "own" / "tiny" / line["predictions"]).is_file()


@pytest.mark.slow
def test_killed_in_the_middle_it_ends_with_the_same_results(tmp_path: Path) -> None:
    files = write_files(tmp_path)
    run_to_end(files, tmp_path / "whole")
    draw = random.Random(3)
    for _ in range(3):
        cut = started(files, tmp_path / "cut")
        time.sleep(draw.uniform(3, 8))
        cut.send_signal(signal.SIGKILL)
        cut.communicate()
        time.sleep(1)  # its children see that it is gone
    run_to_end(files, tmp_path / "cut")
    assert results(tmp_path / "cut") == results(tmp_path / "whole")


@pytest.mark.slow
def test_a_second_study_trains_only_what_the_first_did_not(tmp_path: Path) -> None:
    files = write_files(tmp_path)
    out = tmp_path / "out"
    run_to_end(files, out)
    trained = {path: path.stat().st_mtime_ns for path in out.glob("prefinetuned/tiny/*/run.json")}
    raw = yaml.safe_load(files[0].read_text())
    raw["arms"] = {"original": raw["arms"]["original"], "everything": raw["arms"]["all"]}
    files[0].write_text(json.dumps(raw | {"name": "again"}))
    run_to_end(files, out)
    now = {path: path.stat().st_mtime_ns for path in out.glob("prefinetuned/tiny/*/run.json")}
    assert now == trained
    assert (out / "results" / "again" / "tiny" / "results.jsonl").is_file()


@pytest.mark.slow
def test_what_fails_is_told_and_the_rest_is_finished(tmp_path: Path) -> None:
    files = write_files(tmp_path)
    raw = yaml.safe_load(files[0].read_text())
    raw["arms"]["unscaled"]["prefinetune"] |= {
        "optimizer.learning_rate": 1e30, "schedule.steps": 9
    }  # fmt: skip
    files[0].write_text(json.dumps(raw))
    study = started(files, tmp_path / "out")
    _, said = study.communicate(timeout=200)
    assert study.returncode == 1
    assert "unscaled failed with exit code 1" in said
    assert "not finite" in said
    assert "Traceback" not in said
    arms = {(line["arm"], line["seed"]) for line in results(tmp_path / "out")}
    assert arms == {(arm, seed) for arm in ("original", "all") for seed in (0, 1)}


def test_an_encoder_without_weights_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    files = write_files(tmp_path, encoders={"tiny": {"encoder": ENCODER}})
    study = started(files, tmp_path / "out")
    _, said = study.communicate(timeout=200)
    assert study.returncode == 2
    assert "no *.safetensors in" in said
    assert "Traceback" not in said
    assert not (tmp_path / "out" / "prefinetuned").exists()
