"""A place to build in: specs, a mirror, and an output folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tiny_zoo import random_rows, spec_data, write_jsonl, write_spec

from muppet_zoo.build import BuildOptions, BuildReport, build
from muppet_zoo.encode import TokenizerSource
from muppet_zoo.manifests import Manifest
from muppet_zoo.shards import open_task
from muppet_zoo.spec import TaskSpec


class Bench:
    """A folder with one spec a task, a mirror, and an output folder."""

    def __init__(self, folder: Path, tokenizer: TokenizerSource) -> None:
        self.folder, self.tokenizer = folder, tokenizer
        self.mirror, self.out = folder / "mirror", folder / "out"
        self.data: dict[str, dict[str, Any]] = {}

    def add(self, name: str, kind: str = "single", count: int = 100, **changes: Any) -> TaskSpec:
        self.data[name] = spec_data(name, kind, **changes)
        for split, number in (("train", count), ("validation", count // 4)):
            self.write(name, split, random_rows(kind, number, seed=number))
        return self.spec(name)

    def spec(self, name: str) -> TaskSpec:
        return write_spec(self.folder / "specs", self.data[name])

    def write(self, name: str, split: str, rows: list[dict[str, Any]]) -> None:
        write_jsonl(self.mirror / name / f"{split}.jsonl", rows)

    def build(self, **changes: Any) -> BuildReport:
        options = BuildOptions(**{"mirror": self.mirror, "max_tokens": 16, **changes})
        specs = [self.spec(name) for name in self.data]
        return build(specs, tokenizer=self.tokenizer, out=self.out, options=options)

    def manifest(self, name: str, role: str = "train") -> Manifest:
        return open_task(self.out, name, role).manifest


def told(report: BuildReport) -> dict[str, str]:
    return {f"{o.task}/{o.role}": f"{o.status}: {o.why}" for o in report.outcomes}
