"""The light commands load nothing heavy, and run where the heavy packages are not installed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT, child_env

from muppet_zoo.heads import HEADS

HEAVY = (
    *("torch", "transformers", "deepspeed", "datasets", "sklearn", "scipy", "torchmetrics"),
    *("pyarrow", "numpy", "pandas", "tokenizers", "huggingface_hub", "seqeval", "rouge_score"),
    *("matplotlib", "statsmodels", "jinja2"),
    "ftfy",
)
COMMANDS = (
    *("--help", "--version", "list", "list --json", "show squad", "validate"),
    *("list --help", "show --help", "validate --help", "build --help", "train --help"),
    *("export --help", "predict --help"),
    *("citations cola", "citations --help"),
    *("lock --help", "overlap --help", "report --help"),
    *("doctor --help", "finetune --help"),
    *("add-task --help", "preview --help", "stats --help"),
)

_RUN = """
import sys
from muppet_zoo.cli import main
for command in {commands!r}:
    sys.argv = ["muppet-zoo", *command.split()]
    try:
        main()
    except SystemExit as error:
        assert error.code == 0, (command, error.code)
    loaded = {names!r} & {{name.partition(".")[0] for name in sys.modules}}
    assert not loaded, (command, loaded)
"""
_LOADED = """
loaded = {names!r} & {{name.partition(".")[0] for name in sys.modules}}
assert not loaded, loaded
"""
_IMPOSSIBLE = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names!r}:
            raise ImportError(f"{{name}} is not installed")
sys.meta_path.insert(0, Refuse())
"""


def python(code: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=child_env(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_package_alone_loads_nothing_heavy() -> None:
    python("import sys, muppet_zoo\n" + _LOADED.format(names=set(HEAVY)))


def test_the_light_commands_load_nothing_heavy() -> None:
    python(_RUN.format(commands=COMMANDS, names=set(HEAVY)))


def test_the_light_commands_run_where_nothing_heavy_is_installed() -> None:
    names = set(HEAVY)
    python(_IMPOSSIBLE.format(names=names) + _RUN.format(commands=COMMANDS, names=names))


@pytest.mark.parametrize(
    "module",
    [
        *("build", "shards", "sources", "encode", "order", "batches", "metrics", "results"),
        *("trainer_api", "run", "overlap.compare", "add_task.samples", "add_task.hub_info"),
        *("add_task.proposals", "add_task.files", "previews", "task_stats"),
        *("samples", "finetune.results", "finetune.plan", "finetune.run_cells"),
        *("report.compare", "report.page"),
    ],
)
def test_a_module_of_the_data_package_loads_no_framework(module: str) -> None:
    names = {"torch", "transformers", "deepspeed", "datasets", "sklearn", "scipy", "torchmetrics"}
    python(f"import sys\nimport muppet_zoo.{module}\n" + _LOADED.format(names=names))


def test_a_build_loads_no_pandas(tmp_path: Path) -> None:
    """Of every kind of head; pyarrow would load it, a quarter of a second, to make an array."""
    folder, out = ROOT / "task_specs" / "quickstart", tmp_path / "out"
    tasks = " ".join(path.stem for path in folder.glob("*.yaml"))
    build = f"build {tasks} --tokenizer {folder / 'tiny_encoder'} --limit 4 --out {out}"
    python(_RUN.format(commands=[build], names={"pandas", "datasets", "torch", "transformers"}))
    heads = {json.loads(path.read_bytes())["head"] for path in out.glob("*/train/manifest.json")}
    assert heads == HEADS.keys()


def test_public_names_resolve_and_unknown_ones_do_not() -> None:
    python(
        "import muppet_zoo\n"
        "for name in muppet_zoo.__all__:\n"
        "    getattr(muppet_zoo, name)\n"
        "try:\n"
        "    muppet_zoo.nothing\n"
        "except AttributeError as error:\n"
        "    assert str(error) == \"module 'muppet_zoo' has no attribute 'nothing'\"\n"
    )
