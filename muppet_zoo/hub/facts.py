"""What the hub states of every shipped spec's dataset: columns, label names, rows of each split.

`task_specs/hub_facts.json` is data about the zoo, kept beside it: tests hold the specs against it,
and the command line tells sizes from it without a download. `tests/facts/collect.py` makes it.
"""

from __future__ import annotations

import json
from typing import Any

from muppet_zoo.spec import TaskSpec
from muppet_zoo.zoo import shipped_specs

FILE_NAME = "hub_facts.json"

Facts = dict[str, Any]  # {"columns": {path: type}, "labels": {path: names}, "rows": {split: count}}


def read_facts() -> dict[str, Facts | None]:
    """The facts by `key_of`; null where the hub's statement was not at hand."""
    return dict(json.loads((shipped_specs() / FILE_NAME).read_text(encoding="utf-8")))


def key_of(spec: TaskSpec) -> str:
    """Dataset and configuration, which is what facts are stated of."""
    source = spec.source
    return f"{source.hub}:{source.config}" if source.config is not None else str(source.hub)


def stated_rows(spec: TaskSpec, role: str, facts: dict[str, Facts | None]) -> int | None:
    """About how many source rows a role has, by the hub's own count; None where that is not known.

    Of a split that several roles share, each is given its percentage; which rows go where is
    decided by `sources.Carving`, row by row.
    """
    split = spec.source.splits.get(role)
    known = facts.get(key_of(spec))
    if split is None or known is None or split.split not in known["rows"]:
        return None
    others = [s for s in spec.source.splits.values() if s.split == split.split and s != split]
    percent = split.carve_percent or 100 - sum(other.carve_percent for other in others)
    return round(int(known["rows"][split.split]) * percent / 100)
