"""The light commands as processes: results, exit codes, pipes, terminals, interrupts."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import click
import pexpect
import pytest
from helpers import ROOT, child_env, muppet_zoo, terminal_env, write_spec

from muppet_zoo import __version__
from muppet_zoo.cli import _COMMANDS, cli
from muppet_zoo.zoo import load_zoo

COMMAND = [sys.executable, "-m", "muppet_zoo"]


def test_help_names_every_command() -> None:
    done = muppet_zoo("--help")
    assert (done.returncode, done.stderr) == (0, "")
    for name in _COMMANDS:
        assert re.search(rf"^  {name} ", done.stdout, flags=re.MULTILINE)
    assert muppet_zoo("-h").stdout == done.stdout
    assert muppet_zoo("--version").stdout == f"muppet-zoo, version {__version__}\n"


@pytest.mark.parametrize("name", _COMMANDS)
def test_every_command_has_help(name: str) -> None:
    done = muppet_zoo(name, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"Usage: python -m muppet_zoo {name} ")
    assert "--json" in done.stdout


@pytest.mark.parametrize("name", ["doctor", "preview"])
def test_max_tokens_needs_something_that_counts_them(name: str) -> None:
    done = muppet_zoo(name, "qs_topic", "--max-tokens", "64")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--max-tokens needs --tokenizer NAME_OR_DIR" in done.stderr


@pytest.mark.parametrize("name", _COMMANDS)
def test_every_number_has_a_bound(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    for option in command.params:
        assert not isinstance(option.type, click.IntRange) or option.type.max is not None, option


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (
            ["stats", "qs_topic", "--limit"],
            "'--limit': 99999999999999999999999 is not in",
        ),
        (["preview", "qs_topic", "--rows"], "'--rows': 9999"),
        (["build", "qs_topic", "--tokenizer", "x", "--out", "y", "--max-tokens"], "<=x<=1000000"),
        (["train", "run.yaml", "--out", "x", "--num-processes"], "1<=x<=1024"),
    ],
)
def test_numbers_that_nobody_means(arguments: list[str], found: str) -> None:
    done = muppet_zoo(*arguments, "9" * 23)
    assert done.returncode == 2
    assert found in done.stderr
    assert "Traceback" not in done.stderr


def test_list_shows_every_task_on_one_line() -> None:
    done = muppet_zoo("list")
    zoo = load_zoo()
    lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, "")
    assert lines[0] == f"{len(zoo.tasks)} tasks"
    assert lines[1].split()[:3] == ["task", "family", "format"]
    assert [line.split()[0] for line in lines[2 : 2 + len(zoo.tasks)]] == sorted(zoo.tasks)
    assert not [line for line in lines if line != line.rstrip()]
    assert "\x1b" not in done.stdout


def test_list_of_a_mixture_and_of_a_family() -> None:
    tasks = load_zoo().mixture("real_mini").tasks
    done = muppet_zoo("list", "--mixture", "real_mini", "--json")
    assert [row["task"] for row in json.loads(done.stdout)["tasks"]] == list(tasks)
    done = muppet_zoo("list", "--mixture", "real_mini", "--family", "similarity")
    assert done.stdout.splitlines()[0] == "1 task of mixture real_mini"


def test_list_as_json() -> None:
    rows = {row["task"]: row for row in json.loads(muppet_zoo("list", "--json").stdout)["tasks"]}
    assert rows["sst2"] == {
        "task": "sst2",
        "family": "sentiment",
        "format": "single",
        "head": "classification",
        "labels": 2,
        "train_rows": 67349,
        "metrics": ["accuracy"],
        "source": "nyu-mll/glue",
        "license": rows["sst2"]["license"],
        "citation": rows["sst2"]["citation"],
    }
    assert all(row["license"] and row["citation"] for row in rows.values())


def test_list_adds_up_the_kinds_of_a_mixture() -> None:
    listed = json.loads(muppet_zoo("list", "--mixture", "muppet", "--json").stdout)
    kinds = {row["kind"]: (row["tasks"], row["train_rows"]) for row in listed["kinds"]}
    assert [tasks for tasks, _ in kinds.values()] == [25, 14, 6, 5]
    assert kinds["reading comprehension"][1] == sum(
        row["train_rows"] for row in listed["tasks"] if row["head"] == "span"
    )
    assert all(row["uncounted"] == [] for row in listed["kinds"])
    # Tasks whose size nobody stated are named, not counted as empty without a word.
    listed = json.loads(muppet_zoo("list", "--mixture", "quickstart", "--json").stdout)
    assert sum(len(row["uncounted"]) for row in listed["kinds"]) == 14


def test_list_with_a_folder_of_the_users(tmp_path: Path) -> None:
    write_spec(tmp_path, "mine")
    done = muppet_zoo("list", "--specs", str(tmp_path), "--family", "paraphrase", "--json")
    assert "mine" in [row["task"] for row in json.loads(done.stdout)["tasks"]]
    done = muppet_zoo("show", "mine", "--specs", str(tmp_path), "--json")
    assert json.loads(done.stdout)["source"]["hub"] == "example/pairs"


def test_show_prints_the_file() -> None:
    done = muppet_zoo("show", "squad")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == load_zoo().task("squad").path.read_text("utf-8")
    assert json.loads(muppet_zoo("show", "squad", "--json").stdout)["name"] == "squad"


def test_validate_without_findings() -> None:
    done = muppet_zoo("validate")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"\d+ files, no findings\n", done.stdout)
    report = json.loads(muppet_zoo("validate", "task_specs", "--json").stdout)
    assert report["findings"] == []
    assert f"{report['files']} files, no findings\n" == done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["lst"], 2, "no command is named 'lst'; did you mean 'list'?"),
        (["list", "--famly", "nli"], 2, "--family"),
        (["list", "--family", "NLI"], 2, "error: no family is named 'NLI'; did you mean 'nli'?"),
        (["list", "--mixture", "reel_mini"], 2, "did you mean 'real_mini'"),
        (["list", "--specs", "nowhere"], 2, "Directory 'nowhere' does not exist."),
        (["show"], 2, "Missing argument 'TASK'."),
        (["show", "sqad"], 2, "error: no task is named 'sqad'; did you mean 'squad'"),
        (["show", "SQuAD"], 2, "error: no task is named 'SQuAD'; did you mean 'squad'"),
        (["show", "real_mini"], 2, "error: 'real_mini' is a mixture, not a task; name it with"),
        (["validate", "nowhere"], 2, "error: no such file or folder: nowhere"),
        (["validate", "muppet_zoo/cli"], 2, "error: no .yaml file in muppet_zoo/cli"),
        (["list", "--specs", "tests/broken_specs"], 1, "five_faults.yaml:4:9: family: found"),
    ],
)
def test_a_wrong_request(arguments: list[str], code: int, message: str) -> None:
    done = muppet_zoo(*arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_no_command_is_help_and_a_wrong_request() -> None:
    done = muppet_zoo()
    assert done.returncode == 2
    assert "Commands:" in done.stdout + done.stderr


@pytest.mark.parametrize(
    "arguments",
    [["list"], ["list", "--json"], ["show", "squad"], ["validate", "tests/broken_specs"]],
)
def test_a_closed_pipe_is_no_error(arguments: list[str]) -> None:
    with subprocess.Popen(
        [*COMMAND, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env=child_env(),
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.close()  # as `head` does when it has seen enough
        errors = child.stderr.read().decode()
        child.wait(timeout=60)
    assert not re.search("Traceback|BrokenPipe|Exception", errors), errors
    assert child.returncode in (1, 141)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_behind_stdout_is_no_traceback() -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "muppet_zoo", "list"],
            stdout=full, stderr=subprocess.PIPE, env=child_env(), text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "error: the output cannot be written: no space left on device\n"


def test_an_interrupt_exits_with_130() -> None:
    code = (
        "import os, signal, sys\n"
        "from muppet_zoo import cli, zoo\n"
        "zoo.validate_paths = lambda paths: os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.argv = ['muppet-zoo', 'validate']\n"
        "cli.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=child_env(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 130
    assert done.stderr.strip() == "interrupted"


ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def on_terminal(
    *arguments: str, columns: int, env: dict[str, str] | None = None
) -> tuple[str, int]:
    """Raw output and exit code of the command in a real terminal."""
    child = pexpect.spawn(
        sys.executable,
        ["-m", "muppet_zoo", *arguments],
        cwd=ROOT,
        env=terminal_env(env),
        dimensions=(24, columns),
        encoding="utf-8",
        timeout=60,
    )
    output = child.read()
    child.close()
    return output, child.exitstatus


@pytest.mark.parametrize("columns", [60, 100, 400])
def test_the_names_are_readable_on_any_terminal(columns: int) -> None:
    output, code = on_terminal("list", columns=columns)
    lines = [ESCAPES.sub("", line) for line in output.splitlines()]
    names = sorted(load_zoo().tasks)
    assert code == 0
    assert [line.split()[0] for line in lines[2 : 2 + len(names)]] == names
    assert all(len(line) <= columns for line in lines[1 : 2 + len(names)])
    assert ("no room for: " in output) == (columns < 400)


@pytest.mark.parametrize("arguments", [["list"], ["show", "squad"], ["--help"], ["validate"]])
def test_no_color_means_none(arguments: list[str]) -> None:
    output, code = on_terminal(*arguments, columns=60, env={"NO_COLOR": "1"})
    assert code == 0
    colours = re.findall(r"\x1b\[(?:[0-9;]*;)?(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])[0-9;]*m", output)
    assert not colours


def test_show_has_colours_on_a_terminal() -> None:
    output, code = on_terminal("show", "squad", columns=80, env={"NO_COLOR": ""})
    assert code == 0
    assert "\x1b[" in output
    assert "rajpurkar/squad" in ESCAPES.sub("", output)


def test_errors_read_the_same_on_a_narrow_terminal() -> None:
    output, code = on_terminal("show", "sqad", columns=30)
    assert code == 2
    shown = ESCAPES.sub("", output).replace("\r\n", "")
    assert shown == "error: no task is named 'sqad'; did you mean 'squad' or 'squad_v2'?"
