"""What a run leaves beside its log: the versions it ran with, and the mixture as it really was.

A mixture says at what rates tasks are drawn; how many examples and tokens of each were trained on
follows from lengths and from where the run stopped. The counts are kept up with the log: what a
resumed run begins with is the sum of the log's lines, so nothing has to be saved for it.
"""

from __future__ import annotations

import json
import platform
from collections import Counter
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from muppet_zoo.file_tools import write_atomically
from muppet_zoo.manifests import Manifest
from muppet_zoo.overlap.record import overlap_of
from muppet_zoo_torch.plan import Plan

MIX_FILE = "mix.json"
VERSIONS_FILE = "versions.json"
_PACKAGES = (
    *("muppet-zoo", "torch", "transformers", "deepspeed", "tokenizers", "numpy", "pyarrow"),
    *("peft", "safetensors"),
)


def versions(*, trainer: str, num_processes: int) -> dict[str, Any]:
    """The packages that are installed, Python, the device, and how the run was started."""
    installed = {}
    for package in _PACKAGES:
        try:
            installed[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    cuda = torch.cuda.is_available()
    return {
        "python": platform.python_version(),
        **installed,
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "cuda": torch.version.cuda if cuda else None,
        "trainer": trainer,
        "num_processes": num_processes,
    }


def write_versions(out: Path, found: Mapping[str, Any]) -> None:
    """Write versions.json; a run that is resumed writes those it goes on with."""
    write_atomically(out / VERSIONS_FILE, json.dumps(dict(found), indent=1).encode())


class RealisedMix:
    """Examples and tokens of each task so far; on the first process alone."""

    def __init__(self, plan: Plan, lines: Iterable[Mapping[str, Any]]) -> None:
        self._plan = plan
        self.examples, self.tokens = counted(lines)

    def add(self, line: Mapping[str, Any]) -> None:
        """Count a line of the log."""
        examples, tokens = counted([line])
        self.examples.update(examples)
        self.tokens.update(tokens)

    def write(self) -> None:
        """Write mix.json: by task what was planned, what there is, and what was trained on."""
        rates = self._plan.batcher.order.quotas
        total_rate, total = sum(rates), sum(self.examples.values())
        tasks = {
            spec.name: {
                "family": spec.family,
                "planned_share": rate / total_rate,
                "share": self.examples[spec.name] / max(1, total),
                "num_examples": self.examples[spec.name],
                "num_tokens": self.tokens[spec.name],
                "num_built_examples": split.num_examples,
                "overlap": _overlap(split.manifest),
            }
            for spec, rate, split in zip(self._plan.specs, rates, self._plan.train, strict=True)
        }
        data = {"tasks": tasks, "num_examples": total, "num_tokens": sum(self.tokens.values())}
        write_atomically(self._plan.out / MIX_FILE, json.dumps(data, indent=1).encode())


def counted(lines: Iterable[Mapping[str, Any]]) -> tuple[Counter[str], Counter[str]]:
    """Examples and tokens by task in these lines of the log."""
    examples: Counter[str] = Counter()
    tokens: Counter[str] = Counter()
    for line in lines:
        examples.update(line["task_examples"])
        tokens.update(line["task_tokens"])
    return examples, tokens


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl, without a last one that a crash cut short."""
    if not path.is_file():
        return []
    whole, _, _ = path.read_bytes().rpartition(b"\n")
    return [json.loads(line) for line in whole.splitlines()]


def _overlap(manifest: Manifest) -> dict[str, Any] | None:
    """What the build found of evaluation rows among these; None where it did not compare."""
    compared = overlap_of(manifest)
    if compared is None:
        return None
    return {
        "num_rows": manifest.num_overlapping_rows,
        "found_in": dict(manifest.overlap_histogram),
        "policy": compared["policy"],
    }
