"""The wheel: what is in it, and that it works by itself in an empty environment."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)],
        cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip
    return next(out.glob("*.whl"))


def test_the_wheel_holds_packages_specs_and_schemas(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for wanted in (
        "muppet_zoo/schemas/task_spec.schema.json",
        "muppet_zoo/task_specs/classification/cola.yaml",
        "muppet_zoo/task_specs/mixtures/quickstart.yaml",
        "muppet_zoo/task_specs/quickstart/tiny_encoder/tokenizer.json",
        "muppet_zoo/report/page.html",
        "muppet_zoo/report/published.yaml",
        "muppet_zoo_torch/trainer.py",
        "muppet_zoo_deepspeed/trainer.py",
    ):
        assert wanted in names
    shipped = {path.name for path in (ROOT / "task_specs").rglob("*.yaml")}
    specs = [name for name in names if name.startswith("muppet_zoo/task_specs/")]
    assert shipped == {Path(name).name for name in specs if name.endswith(".yaml")}
    assert not [name for name in names if name.startswith(("tests", "benchmarks", "task_specs"))]


def test_it_runs_where_nothing_else_of_the_checkout_is(wheel: Path, tmp_path: Path) -> None:
    """A new environment with the wheel; third-party packages are lent by this one, offline.

    The lent folder's .pth files are not read, so this checkout's editable install is not seen.
    """
    home = tmp_path / "venv"
    venv.create(home, with_pip=False)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(home), "platbase": str(home)}))
    (site / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(home / "bin" / "python"), "install",
         "--quiet", "--no-deps", "--no-index", str(wheel)],
        check=True, capture_output=True,
    )  # fmt: skip
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    listed = subprocess.run(
        [str(home / "bin" / "muppet-zoo"), "list"],
        cwd=tmp_path, env=environment, check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert "cola" in listed.stdout
    where = subprocess.run(
        [str(home / "bin" / "python"), "-c",
         "import muppet_zoo.zoo as z; print(z.shipped_specs())"],
        cwd=tmp_path, env=environment, check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert Path(where.stdout.strip()).is_relative_to(home)
