"""A task pack of another package: built and installed by pip, then used by the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import child_env, word_piece, write_spec

PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "acme-tasks-{package}"
version = "1.0"

[project.entry-points."muppet_zoo.task_packs"]
{namespace} = "{package}:SPECS"

[tool.hatch.build.targets.wheel]
packages = ["{package}"]
"""
MIXTURE = "mixture_version: 1\nname: all\ndescription: The pack's and one of the zoo's.\n"
ROWS = [
    {"first": "the cat sat", "second": "a cat sat", "label": 1},
    {"first": "the dog ran", "second": "the cat sat", "label": 0},
]


def write_pack(root: Path, package: str, namespace: str) -> Path:
    """The source of a package with one task, whose rows lie beside its spec, and a mixture."""
    specs = root / package / "specs"
    (specs / "mixtures").mkdir(parents=True)
    (root / "pyproject.toml").write_text(PROJECT.format(package=package, namespace=namespace))
    init = "from pathlib import Path\n\nSPECS = Path(__file__).parent / 'specs'\n"
    (root / package / "__init__.py").write_text(init)
    write_spec(
        specs, "toy", ("hub: example/pairs\n  revision: main", "files: {train: rows.jsonl}"),
        splits="{train: train}",
    )  # fmt: skip
    (specs / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (specs / "mixtures" / "all.yaml").write_text(MIXTURE + "tasks: [toy, cola]\n")
    return root


def pip_install(source: Path, site: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
         "--no-index", "--no-deps", "--no-build-isolation", "--target", str(site), str(source)],
        check=True, capture_output=True, text=True,
    )  # fmt: skip


def cli(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = child_env()
    env["PYTHONPATH"] = os.pathsep.join([str(site), env["PYTHONPATH"]])
    command = [sys.executable, "-m", "muppet_zoo", *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that pip installed the pack `acme` into."""
    root = tmp_path_factory.mktemp("pack")
    pip_install(write_pack(root / "source", "acme_tasks", "acme"), root / "site")
    return root / "site"


def test_an_installed_pack_is_listed_under_its_namespace(site: Path) -> None:
    listed = json.loads(cli(site, "list", "--json").stdout)
    assert "acme.toy" in {row["task"] for row in listed["tasks"]}
    assert {"mixture": "acme.all", "tasks": ["acme.toy", "cola"]}.items() <= next(
        row for row in listed["mixtures"] if row["mixture"] == "acme.all"
    ).items()
    shown = json.loads(cli(site, "show", "acme.toy", "--json").stdout)
    assert shown["source"]["files"] == {"train": "rows.jsonl"}


def test_a_task_of_a_pack_is_built_from_the_rows_it_brings(site: Path, tmp_path: Path) -> None:
    tokenizer = word_piece(tmp_path)
    done = cli(
        site, "build", "acme.toy", "--tokenizer", str(tokenizer.path),
        "--out", str(tmp_path / "out"), "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (split,) = json.loads(done.stdout)["splits"]
    assert (split["task"], split["num_examples"]) == ("acme.toy", 2)
    assert (tmp_path / "out" / "acme.toy" / "train" / "manifest.json").is_file()


def test_two_packs_of_one_name_are_an_error(site: Path, tmp_path: Path) -> None:
    pip_install(write_pack(tmp_path / "source", "other_tasks", "acme"), tmp_path / "site")
    done = cli(Path(f"{site}{os.pathsep}{tmp_path / 'site'}"), "list")
    assert done.returncode == 1
    assert "two installed task packs are named 'acme'" in done.stderr
    assert "Traceback" not in done.stderr
