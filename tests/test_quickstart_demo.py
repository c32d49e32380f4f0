"""The demo's verdict and what it skips; `make demo` itself is the test of the rest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.quickstart import demo
from muppet_zoo.results import TaskReport
from muppet_zoo.run import read_run


def report(task: str, score: float, *, step: int, seed: int) -> TaskReport:
    return TaskReport(
        task=task, split="validation", num_examples=500, scores={"accuracy": score},
        headline="accuracy", step=step, seed=seed,
    )  # fmt: skip


def result(scratch: list[float], prefinetuned: list[float]) -> demo.Result:
    arms = {"scratch": scratch, "prefinetuned": prefinetuned}
    return demo.Result(
        target={
            arm: [report(demo.TARGET, score, step=60, seed=i) for i, score in enumerate(scores)]
            for arm, scores in arms.items()
        },
        mixture_before=[report("qs_topic", 0.2, step=0, seed=0)],
        mixture_after=[report("qs_topic", 0.9, step=1800, seed=0)],
    )


@pytest.mark.parametrize(
    ("scratch", "prefinetuned", "clear"),
    [
        ([0.60, 0.62, 0.61], [0.90, 0.93, 0.91], True),
        ([0.60, 0.70, 0.65], [0.66, 0.62, 0.75], False),
        ([0.90, 0.91, 0.92], [0.60, 0.62, 0.61], False),
    ],
)
def test_only_a_gain_clear_of_chance_counts(
    scratch: list[float],
    prefinetuned: list[float],
    clear: bool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("statsmodels")
    assert demo._report(tmp_path, result(scratch, prefinetuned), 1.0) is clear
    assert ("NOT clear of zero" in capsys.readouterr().out) is not clear
    saved = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert saved["scores"] == {"scratch": scratch, "prefinetuned": prefinetuned}
    compared = {row["target"] for row in saved["comparison"]["comparisons"]}
    assert compared == {demo.TARGET, "qs_topic"}
    assert "qs_reviews" in (tmp_path / "report.html").read_text("utf-8")


def test_what_is_complete_is_skipped_and_what_was_begun_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[tuple[str, ...]] = []
    monkeypatch.setattr(demo, "_command", lambda *arguments: commands.append(arguments))
    (tmp_path / "prefinetuned" / "model").mkdir(parents=True)
    (tmp_path / "finetuned" / "scratch-seed1").mkdir(parents=True)
    demo._run_commands(tmp_path, num_seeds=2)
    assert [command[0] for command in commands] == ["build", "eval", *["train"] * 4]
    resumed = [command[3] for command in commands if "--resume" in command]
    assert resumed == [str(tmp_path / "finetuned" / "scratch-seed1")]


def test_a_failed_command_ends_the_demo_with_its_code(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        demo._command("show", "qs_nonsense")
    assert stop.value.code == 2
    assert "$ muppet-zoo show qs_nonsense" in capfd.readouterr().err


@pytest.mark.parametrize("name", ["prefinetune.yaml", "finetune.yaml"])
def test_run_files_are_valid_and_lead_to_the_demo_folder(name: str) -> None:
    run = read_run(demo.ROOT / demo.RUNS / name)
    assert run.data == demo.ROOT / "runs" / "demo" / "data"
    assert (run.task or run.mixture) in (demo.TARGET, "quickstart")
