"""The card of an exported model: valid for the hub, and true to what the run left."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from huggingface_hub import ModelCard

from muppet_zoo.cli.export import command
from muppet_zoo.results import read_reports


def export(checkpoint: Path, out: Path, *arguments: str) -> str:
    given = [str(checkpoint), "--out", str(out), *arguments]
    CliRunner().invoke(command, given, catch_exceptions=False)
    return (out / "README.md").read_text("utf-8")


def test_the_encoder_alone_has_a_card_of_all_tasks(trained: Path, tmp_path: Path) -> None:
    text = export(trained, tmp_path / "enc")
    card = ModelCard.load(tmp_path / "enc" / "README.md")
    data: Any = card.data
    assert (data.library_name, data.license, data.pipeline_tag) == (
        "transformers", "other", "feature-extraction"
    )  # fmt: skip
    assert data.language == ["en"]
    reports = [r for r in read_reports(trained / "reports.jsonl").reports if r.step == 4]
    scored = {(r.task, metric): score for r in reports for metric, score in r.scores.items()}
    found = {(r.dataset_name, r.metric_type): r.metric_value for r in data.eval_results}
    assert found == pytest.approx(scored, abs=1e-6)
    mix = json.loads((trained / "mix.json").read_text())["tasks"]
    for name, task in mix.items():
        row = f"| {name} | {task['family']} | {task['num_built_examples']:,} |"
        assert row + f" {task['num_examples']:,} | {task['num_tokens']:,} |" in text
    assert "Not checked: the training rows were not compared" in text
    assert "AutoModel.from_pretrained" in text
    assert "| seed | 7 |" in text
    assert "Apache-2.0" in text
    assert json.loads((trained / "versions.json").read_text())["torch"] in text
    from transformers import AutoModel, AutoTokenizer

    AutoModel.from_pretrained(tmp_path / "enc")
    AutoTokenizer.from_pretrained(tmp_path / "enc")


def test_what_the_encoder_was_trained_on_before_is_named(trained: Path, tmp_path: Path) -> None:
    """Its licence is a matter of that data too."""
    shutil.copytree(trained / "model", tmp_path / "model")
    layout = tmp_path / "model" / "heads.json"
    described = json.loads(layout.read_text()) | {"earlier_tasks": ["boolq", "gone"]}
    layout.write_text(json.dumps(described))
    text = export(tmp_path / "model", tmp_path / "enc")
    assert "Before this, the encoder was trained on boolq, gone." in text
    assert "| tasks the encoder was trained on before | 2 |" in text
    assert "| boolq | aps/super_glue |" in text
    assert "| gone | not recorded |" in text
    assert "aps/super_glue" in ModelCard.load(tmp_path / "enc" / "README.md").data.datasets


def test_an_earlier_checkpoint_counts_what_it_was_trained_on(trained: Path, tmp_path: Path) -> None:
    text = export(trained / "checkpoints" / "step-00000002", tmp_path / "enc")
    lines = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    total = sum(sum(line["task_examples"].values()) for line in lines[:2])
    assert total < sum(sum(line["task_examples"].values()) for line in lines)
    for name, task in json.loads((trained / "mix.json").read_text())["tasks"].items():
        examples, tokens = (
            sum(line[key].get(name, 0) for line in lines[:2])
            for key in ("task_examples", "task_tokens")
        )
        row = f"| {name} | {task['family']} | {task['num_built_examples']:,} |"
        assert f"{row} {examples:,} | {tokens:,} | {examples / total:.1%} |" in text


def test_what_the_run_did_not_leave_is_said_to_be_missing(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "model", tmp_path / "moved")
    text = export(tmp_path / "moved", tmp_path / "enc")
    assert "| mixture or task | not recorded |" in text
    assert "No scores were recorded for this step." in text
    assert ModelCard.load(tmp_path / "enc" / "README.md").data.eval_results is None


def test_overlap_that_was_found_is_a_warning(trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained / "model", run / "model")
    shutil.copy(trained / "run.json", run)
    mix = json.loads((trained / "mix.json").read_text())
    found = {"num_rows": 3, "found_in": {"rte validation near": 3}}
    mix["tasks"]["qs_topic"]["overlap"] = {**found, "policy": "warn"}
    mix["tasks"]["qs_mood"]["overlap"] = {**found, "policy": "drop"}
    mix["tasks"]["qs_nli"]["overlap"] = {"num_rows": 0, "found_in": {}, "policy": "warn"}
    (run / "mix.json").write_text(json.dumps(mix))
    text = export(run, tmp_path / "enc")
    assert "| not recorded | not recorded | not recorded |" in text  # there is no log
    assert "Warning: 3 training rows of qs_topic overlap (rte validation near: 3)." in text
    assert "Left out of the training: 3 training rows of qs_mood, which overlap" in text
    [unchecked] = [line for line in text.splitlines() if line.startswith("Not checked: ")]
    assert "qs_reviews" in unchecked
    assert "qs_nli" not in unchecked


def test_a_task_has_a_card_of_its_own_scores(trained: Path, tmp_path: Path) -> None:
    text = export(trained, tmp_path / "tags", "--task", "qs_word_tags")
    data: Any = ModelCard.load(tmp_path / "tags" / "README.md").data
    assert data.pipeline_tag == "token-classification"
    assert {result.dataset_name for result in data.eval_results} == {"qs_word_tags"}
    assert "AutoModelForTokenClassification.from_pretrained" in text
