"""What a run opens is what was built."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from muppet_zoo_torch.plan import open_splits

from muppet_zoo.errors import ShardError
from muppet_zoo.zoo import Zoo


def test_a_shard_whose_bytes_changed_is_refused(
    zoo: Zoo, quickstart_data: Path, quickstart_tasks: tuple[str, ...], tmp_path: Path
) -> None:
    spec = zoo.task(quickstart_tasks[0])
    shutil.copytree(quickstart_data / spec.name, tmp_path / spec.name)
    (split,) = open_splits(tmp_path, [spec], "train")
    shard = split.folder / split.manifest.shards[0].file
    raw = bytearray(shard.read_bytes())
    raw[len(raw) // 2] ^= 1
    shard.write_bytes(raw)
    with pytest.raises(ShardError, match=rf"run muppet-zoo build {spec.name} --verify"):
        open_splits(tmp_path, [spec], "train")
