"""A client of the hub server: data to serve, specs of it, and the command in a process."""

from __future__ import annotations

import io
import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers import muppet_zoo
from hub_server import Dataset, Hub, hub_server
from tiny_zoo import random_rows, spec_data, write_jsonl, write_spec, write_tokenizer

from muppet_zoo.build import BuildOptions, build
from muppet_zoo.encode import open_tokenizer

ROWS = {"train": random_rows("single", 60), "validation": random_rows("single", 20, 1)}
OTHER = {"train": random_rows("single", 30, 2), "validation": random_rows("single", 10, 3)}
COMMIT = "c" * 40
CARD = """\
---
configs:
- config_name: plain
  data_files:
  - {split: train, path: plain/train-*.parquet}
  - {split: validation, path: plain/validation-*.parquet}
- config_name: other
  data_files:
  - {split: train, path: other/train-*.parquet}
  - {split: validation, path: other/validation-*.parquet}
---
"""

Splits = Mapping[str, Sequence[Mapping[str, Any]]]


def parquet(rows: Sequence[Mapping[str, Any]]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows)), sink)
    return sink.getvalue()


def published(plain: Splits = ROWS, other: Splits = OTHER) -> dict[str, bytes]:
    """A dataset of two configurations, as publishers lay it out."""
    files = {"README.md": CARD.encode()}
    for config, splits in {"plain": plain, "other": other}.items():
        for split, rows in splits.items():
            files[f"{config}/{split}-00000.parquet"] = parquet(rows)
    return files


def converted(splits: Splits = ROWS) -> dict[str, bytes]:
    """The hub's own conversion, its train split in two files."""
    half = len(splits["train"]) // 2
    return {
        ".gitattributes": b"*.parquet filter=lfs\n",
        "plain/train/0000.parquet": parquet(splits["train"][:half]),
        "plain/train/0001.parquet": parquet(splits["train"][half:]),
        "plain/validation/0000.parquet": parquet(splits["validation"]),
    }


@dataclass(frozen=True, kw_only=True)
class Client:
    """muppet-zoo in a process and with caches of its own, and specs of the server's data."""

    folder: Path
    hub: Hub
    dataset: Dataset

    def spec(self, name: str = "toy", **source: Any) -> None:
        """A spec of the dataset; `source` replaces parts of its source."""
        data = spec_data(name)
        data["source"] |= {"hub": "nobody/nothing", "config": "plain", "revision": "main"} | source
        data["source"] = {key: value for key, value in data["source"].items() if value is not None}
        write_spec(self.folder / "specs", data)

    def run(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        own = {
            "HF_ENDPOINT": self.hub.url,
            "HF_HOME": str(self.folder / "hf"),
            "NO_PROXY": "127.0.0.1,localhost",
            "HF_TOKEN": "",
            "HF_HUB_OFFLINE": "",
        }
        done = muppet_zoo(
            *arguments, "--specs", str(self.folder / "specs"), cwd=self.folder, env={**own, **env}
        )
        assert "Traceback" not in done.stderr
        return done

    def build(self, *tasks: str, **env: str) -> subprocess.CompletedProcess[str]:
        out, tokenizer = str(self.folder / "out"), str(self.folder / "tokenizer")
        command = ("build", *(tasks or ("toy",)), "--tokenizer", tokenizer, "--out", out)
        return self.run(*command, **env)

    def built(self, task: str = "toy") -> dict[str, list[bytes]]:
        """Role -> the bytes of its shards."""
        roles = sorted((self.folder / "out" / task).glob("*/manifest.json"))
        return {
            path.parent.name: [shard.read_bytes() for shard in sorted(path.parent.glob("*.arrow"))]
            for path in roles
        }

    def expected(self, splits: Splits) -> dict[str, list[bytes]]:
        """The shards of these rows, given as files."""
        for split, rows in splits.items():
            write_jsonl(self.folder / f"mirror/reference/{split}.jsonl", rows)
        reference = write_spec(self.folder / "other_specs", spec_data("reference"))
        tokenizer = open_tokenizer(str(self.folder / "tokenizer"))
        options = BuildOptions(mirror=self.folder / "mirror")
        report = build([reference], tokenizer=tokenizer, out=self.folder / "out", options=options)
        assert not report.errors
        return self.built("reference")

    def lock_data(self) -> list[dict[str, Any]]:
        entries = json.loads((self.folder / "specs/zoo.lock").read_text())["sources"]
        assert isinstance(entries, list)
        return entries


@contextmanager
def hub_client(folder: Path) -> Iterator[Client]:
    """A client of a new server, with everything that it writes under `folder`."""
    write_tokenizer(folder / "tokenizer")
    with hub_server() as hub:
        yield Client(folder=folder, hub=hub, dataset=hub.dataset("nobody/nothing"))


def expect_built(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stderr


def expect_error(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    assert done.returncode == 1, (done.stdout, done.stderr)
    for part in parts:
        assert part in done.stderr
