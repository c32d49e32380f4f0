"""`muppet-zoo build`: what it prints and imports."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from build_bench import Bench
from click.testing import CliRunner

from muppet_zoo.cli.build import command
from muppet_zoo.errors import UsageError


def run(bench: Bench, *arguments: str, code: int = 0) -> str:
    for name in bench.data:
        bench.spec(name)
    result = CliRunner().invoke(command, [*arguments, *_common(bench)], standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    assert result.return_value == code
    return result.stdout


def test_the_command_prints_a_table(bench: Bench) -> None:
    bench.add("toy_a")
    bench.add("toy_b")
    output = run(bench, "toy_a", "toy_b", "toy_a")
    assert "4 splits built, 0 unchanged" in output
    assert output.count("toy_a") == 2
    assert "0 splits built, 4 unchanged" in run(bench, "toy_a", "toy_b")
    (bench.mirror / "toy_b/validation.jsonl").unlink()
    (bench.mirror / "toy_b/train.jsonl").write_text("{")
    output = run(bench, "toy_a", "toy_b", code=1)
    assert "0 splits built, 2 unchanged, 1 absent, 1 failed" in output


def test_the_command_prints_one_json_document(bench: Bench) -> None:
    bench.add("toy")
    (bench.mirror / "toy/validation.jsonl").unlink()
    report = json.loads(run(bench, "toy", "--json"))
    assert report["errors"] == []
    train, validation = report["splits"]
    assert (train["task"], train["split"], train["status"]) == ("toy", "train", "built")
    assert train["num_examples"] == 100
    assert train["fingerprint"] == bench.manifest("toy").fingerprint
    assert (validation["status"], validation["num_examples"]) == ("absent", None)


def test_a_command_without_tasks_says_so(bench: Bench) -> None:
    bench.add("toy")
    with pytest.raises(UsageError, match="no task is named"):
        run(bench)


def test_a_build_with_nothing_to_do_imports_nothing_heavy(bench: Bench) -> None:
    bench.add("toy")
    run(bench, "toy")
    # pyarrow comes with the encoder's module; the libraries that read and tokenize do not.
    code = (
        "import sys\n"
        "from muppet_zoo.cli import cli\n"
        f"cli.main({['build', 'toy', '--json', *_common(bench)]!r}, standalone_mode=False)\n"
        "heavy = {'torch', 'transformers', 'datasets', 'sklearn', 'tokenizers', 'pandas'}\n"
        "sys.exit(f'imported: {heavy & set(sys.modules)}' if heavy & set(sys.modules) else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert '"status": "reused"' in done.stdout


def _common(bench: Bench) -> list[str]:
    return [
        "--tokenizer", str(bench.tokenizer.path.parent), "--out", str(bench.out),
        "--mirror", str(bench.mirror), "--specs", str(bench.folder / "specs"),
    ]  # fmt: skip
