"""Published scores, to be shown beside ours with their source; never compared by a test.

They were measured on other machines, with other settings, and some are known from memory alone:
those are marked, and shown so.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from muppet_zoo.errors import SpecError
from muppet_zoo.validation import check_schema
from muppet_zoo.yaml_reader import read_yaml


@dataclass(frozen=True, kw_only=True)
class Published:
    """One published score, 0 to 1; `metric` is None where our source does not say which it is."""

    model: str
    task: str
    split: str
    metric: str | None
    score: float
    source: str
    recalled: bool


def shipped_published() -> Path:
    """The file that comes with muppet-zoo, in a wheel or in a checkout."""
    installed = Path(str(resources.files("muppet_zoo.report"))) / "published.yaml"
    return installed if installed.is_file() else installed.parents[2] / "benchmarks/published.yaml"


def read_published(path: Path) -> list[Published]:
    """The scores of a file. Raises SpecError with every problem found in it."""
    document = read_yaml(path)
    schema = check_schema(document, "published")
    if schema.findings:
        raise SpecError(schema.findings)
    return [
        Published(
            model=raw["model"],
            task=raw["task"],
            split=raw["split"],
            metric=raw.get("metric"),
            score=raw["percent"] / 100,
            source=raw["source"],
            recalled=raw.get("recalled", False),
        )
        for raw in document.data["published"]
    ]
