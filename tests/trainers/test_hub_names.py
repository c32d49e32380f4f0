"""An encoder by its name on the hub, from build to scores; the hub is a cache that is there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

NAME, REVISION = "acme/tiny", "0" * 40
RUN = """\
run_version: 1
data: data
task: qs_topic
trainer: torch
model: {encoder: acme/tiny}
schedule: {steps: 2}
evaluation: {at_end: false}
"""
PLAN = """\
finetune_version: 1
targets: [qs_topic]
arms: {hub: {encoder: acme/tiny}}
seeds: [0]
shots: [8]
run:
  data: data
  trainer: torch
  optimizer: {learning_rate: 1.0e-3}
  schedule: {steps: 2}
"""


def cached_on_the_hub(home: Path, encoder: Path) -> None:
    """The encoder, as a download of NAME would have left it."""
    model = home / "hub" / "models--acme--tiny"
    shutil.copytree(encoder, model / "snapshots" / REVISION)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(REVISION)


def muppet_zoo(cwd: Path, *arguments: str) -> str:
    environment = {
        **os.environ, "HF_HOME": str(cwd / "home"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "muppet_zoo", *arguments],
        cwd=cwd, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_what_was_built_for_a_name_is_scored_and_fine_tuned_on(
    trained: Path, tmp_path: Path
) -> None:
    """The model keeps the tokenizer's own bytes, by which the data knows it."""
    encoder = trained / "model" / "encoder"
    cached_on_the_hub(tmp_path / "home", encoder)
    (tmp_path / "run.yaml").write_text(RUN)
    (tmp_path / "plan.yaml").write_text(PLAN)
    muppet_zoo(tmp_path, "build", "qs_topic", "--tokenizer", NAME, "--limit", "40", "--out", "data")
    muppet_zoo(tmp_path, "train", "run.yaml", "--out", "out")
    saved = tmp_path / "out" / "model" / "encoder" / "tokenizer.json"
    assert saved.read_bytes() == (encoder / "tokenizer.json").read_bytes()
    scored = muppet_zoo(tmp_path, "eval", "out", "--data", "data", "--task", "qs_topic", "--json")
    assert json.loads(scored)
    assert "qs_topic" in muppet_zoo(tmp_path, "finetune", "plan.yaml", "--out", "finetuned")
