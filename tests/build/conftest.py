"""What tests of the build share: small shards, a bench."""

from __future__ import annotations

from pathlib import Path

import pytest
from build_bench import Bench

from muppet_zoo import build_split
from muppet_zoo.encode import TokenizerSource


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_split, "CHUNK_ROWS", 10)
    monkeypatch.setattr(build_split, "SHARD_EXAMPLES", 30)


@pytest.fixture
def bench(tmp_path: Path, tokenizer: TokenizerSource) -> Bench:
    return Bench(tmp_path, tokenizer)
