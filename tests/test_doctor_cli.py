"""`muppet-zoo doctor` as a process: what it prints, its exit codes, and wrong requests."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import doctor_shapes as shapes
import pytest
from doctor_shapes import write_all
from helpers import child_env, muppet_zoo

from muppet_zoo.doctor.records import SEVERITIES

WITHOUT_PASSAGE = {"format": "single", "text": "{question}"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One sound task, one with an error, one with a warning."""
    folder = tmp_path_factory.mktemp("doctor")
    broken = shapes.boolq().changed(name="without_passage", inputs=WITHOUT_PASSAGE)
    head = {"type": "classification", "target": "label", "labels": ["negative", "positive", "odd"]}
    write_all(folder, shapes.sst(), broken, shapes.sst().changed(name="never_odd", head=head))
    return folder


def doctor(folder: Path, *arguments: str) -> tuple[int, str, str]:
    done = muppet_zoo(
        "doctor", *arguments, "--specs", str(folder / "specs"), "--mirror", str(folder / "mirror")
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["like_sst"], 0),
        (["never_odd"], 0),
        (["never_odd", "--fail-on", "warning"], 1),
        (["like_sst", "--fail-on", "warning"], 0),
        (["like_sst", "--fail-on", "note"], 1),
        (["like_sst", "without_passage"], 1),
    ],
)
def test_exit_codes(folder: Path, arguments: list[str], code: int) -> None:
    assert doctor(folder, *arguments)[0] == code


def test_a_finding_is_a_line_with_its_rows(folder: Path) -> None:
    _, out, err = doctor(folder, "without_passage")
    first, second = out.splitlines()
    assert first.startswith(
        "without_passage: error: missing_text: the inputs lack a text: column 'passage' is never"
    )
    assert second == "    rows train:0, train:1, train:2, train:3 and 296 more"
    assert "1 task: 1 error, 0 warnings, " in err
    assert "--severity note shows notes" in err


def test_severity_chooses_what_is_shown_and_not_the_exit_code(folder: Path) -> None:
    code, out, err = doctor(folder, "never_odd", "--severity", "error", "--fail-on", "warning")
    assert (code, out) == (1, "")
    assert "--severity note shows warnings and notes" in err
    assert "unused_columns" in doctor(folder, "like_sst", "--severity", "note")[1]


def test_json_has_every_field_of_every_finding(folder: Path) -> None:
    code, out, err = doctor(folder, "like_sst", "without_passage", "--json", "--severity", "note")
    assert (code, err) == (1, "")
    data = json.loads(out)
    assert data.keys() == {"tasks", "errors"}
    assert [task["task"] for task in data["tasks"]] == ["like_sst", "without_passage"]
    for task in data["tasks"]:
        assert task.keys() == {"task", "splits", "counts", "findings"}
        assert task["splits"]["train"] == {"rows": 300, "sampled": 300, "examples": 300}
        assert tuple(task["counts"]) == SEVERITIES
        assert sum(task["counts"].values()) == len(task["findings"])
        for finding in task["findings"]:
            assert finding.keys() == {
                "task", "check", "severity", "subject", "message", "numbers", "num_rows", "rows",
            }  # fmt: skip
            assert finding["severity"] in SEVERITIES
            assert all(isinstance(value, int | float) for value in finding["numbers"].values())
            assert all(row.keys() == {"split", "row"} for row in finding["rows"])
    (missing,) = [f for f in data["tasks"][1]["findings"] if f["check"] == "missing_text"]
    assert missing["numbers"]["skill_of_inputs"] < 0.2 < missing["numbers"]["skill_of_both"]


def test_unreadable_rows_do_not_stop_the_other_tasks(folder: Path, tmp_path: Path) -> None:
    (folder / "mirror" / "torn").mkdir(exist_ok=True)
    (folder / "mirror" / "torn" / "train.jsonl").write_text('{"text": "a"', encoding="utf-8")
    write_all(tmp_path, shapes.sst().changed(name="torn"))
    code, out, err = doctor(folder, "torn", "like_sst", "--specs", str(tmp_path / "specs"))
    assert (code, out) == (1, "")
    assert "train.jsonl:1:" in err
    assert "1 task: 0 errors" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to examine: name tasks or a --mixture"),
        (["like_sts"], "no task is named 'like_sts'; did you mean 'like_sst'"),
        (["--mixture", "none"], "no mixture is named 'none'"),
        (["like_sst", "--limit", "0"], "Invalid value for '--limit'"),
        (["like_sst", "--severity", "bad"], "Invalid value for '--severity'"),
        (["like_sst", "--tokenizer", "./nowhere"], "no tokenizer.json in './nowhere'"),
    ],
)
def test_wrong_requests_are_refused_in_words(
    folder: Path, arguments: list[str], message: str
) -> None:
    code, out, err = doctor(folder, *arguments)
    assert (code, out) == (2, "")
    assert message in " ".join(err.split())


def test_a_mirror_that_is_no_folder_is_refused(folder: Path) -> None:
    done = muppet_zoo(
        "doctor", "like_sst", "--specs", str(folder / "specs"), "--mirror", str(folder / "absent")
    )
    assert done.returncode == 2
    assert "is no folder" in done.stderr


def test_a_tokenizer_brings_the_check_of_cut_answers(folder: Path) -> None:
    from muppet_zoo.zoo import shipped_specs

    tokenizer = str(shipped_specs() / "quickstart" / "tiny_encoder")
    for max_tokens, cut in (("8", True), ("256", False)):
        out = doctor(folder, "like_sst", "--tokenizer", tokenizer, "--max-tokens", max_tokens)[1]
        assert ("input_cut" in out) is cut


def test_without_the_extra_it_says_how_to_install_it(folder: Path) -> None:
    import subprocess

    code = (
        "import sys; sys.modules['ftfy'] = None\n"
        "from muppet_zoo.cli import main\n"
        f"sys.argv = ['muppet-zoo', 'doctor', 'like_sst', '--specs', {str(folder / 'specs')!r}, "
        f"'--mirror', {str(folder / 'mirror')!r}]\n"
        "main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=child_env(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "pip install 'muppet-zoo[check]'" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
