"""Digests of weights, versions, commits: what a result says of where it comes from."""

from __future__ import annotations

import subprocess
from importlib import metadata
from pathlib import Path

import pytest

from muppet_zoo import provenance
from muppet_zoo.errors import UsageError
from muppet_zoo.provenance import commit, versions, weights_digest


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    folder = tmp_path / "encoder"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "heads.safetensors").write_bytes(b"heads")
    return folder


def test_other_weights_have_another_digest(encoder: Path) -> None:
    heads = encoder.parent / "heads.safetensors"
    digests = [
        weights_digest(str(encoder), random_init=False),
        weights_digest(str(encoder), random_init=False, heads=heads),
        weights_digest(str(encoder), random_init=True),
    ]
    (encoder / "config.json").write_text('{"hidden_size": 8}')
    assert weights_digest(str(encoder), random_init=False) == digests[0]
    digests.append(weights_digest(str(encoder), random_init=True))
    (encoder / "model.safetensors").write_bytes(b"others")
    digests.append(weights_digest(str(encoder), random_init=False))
    assert len(set(digests)) == 5


def test_an_encoder_without_weights_is_refused(encoder: Path) -> None:
    (encoder / "model.safetensors").unlink()
    with pytest.raises(UsageError, match=r"no \*.safetensors in .*; an arm with random_init: true"):
        weights_digest(str(encoder), random_init=False)


def test_a_hub_name_that_cannot_be_had_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise OSError("no network\nand much more")

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    with pytest.raises(UsageError, match=r"'org/encoder' is no folder, .* the hub: no network$"):
        weights_digest("org/encoder", random_init=False)


def test_weights_from_the_hub_are_those_of_its_files(
    encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def download(name: str, *, allow_patterns: list[str]) -> str:
        asked.append((name, allow_patterns))
        return str(encoder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    there = weights_digest("org/encoder", random_init=False)
    assert there == weights_digest(str(encoder), random_init=False)
    assert asked == [("org/encoder", ["*.safetensors"])]


def test_versions_are_those_installed() -> None:
    found = versions()
    assert found["numpy"] == metadata.version("numpy")
    assert None not in found.values()


def test_the_commit_is_that_of_the_checkout(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(provenance, "_ROOT", tmp_path)
    assert commit() is None  # as where a wheel is installed
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org", "-C", str(tmp_path)]
    for command in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run([*git, *command], check=True, capture_output=True)
    head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    assert commit() == head.stdout.strip()
    (tmp_path / "file").write_text("x")
    subprocess.run([*git, "add", "file"], check=True)
    assert commit() == f"{head.stdout.strip()}+changes"
