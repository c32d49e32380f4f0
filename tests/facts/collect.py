"""Collects what the hub states of every spec's dataset, so that tests need no snapshot of the hub.

    python tests/facts/collect.py FOLDER

FOLDER holds a snapshot of the hub's dataset metadata, one `<dataset>.json` per dataset: a mapping
from the name of a configuration to `features` and `num_examples`, as `datasets` writes them. Only
the configuration that a spec reads is kept, in the terms of a spec: the type of every column, the
names of its labels, the rows of every split. A dataset that FOLDER does not hold keeps the facts
that were there; without any it is listed with null, which a reader of the file can see.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from muppet_zoo.hub.facts import FILE_NAME, Facts, key_of, read_facts
from muppet_zoo.spec import TaskSpec
from muppet_zoo.zoo import load_zoo, shipped_specs

FACTS = shipped_specs() / FILE_NAME

KINDS = {"string": "string", "int": "integer", "float": "number", "bool": "boolean"}
# Datasets whose name changed when the hub moved them under their owners.
FORMER_NAMES = {"PubMedQA": "pubmed_qa"}


def facts_in(folder: Path, spec: TaskSpec) -> Facts | None:
    """What the snapshot states of the spec's configuration; None where it has no such dataset.

    Raises:
        ValueError: when the dataset is there without the configuration, or has several and the
            spec names none.
    """
    name = str(spec.source.hub).rpartition("/")[2]
    file = folder / f"{FORMER_NAMES.get(name, name)}.json"
    if not file.is_file():
        return None
    configs = json.loads(file.read_text(encoding="utf-8"))
    config = spec.source.config
    if config is None and len(configs) == 1:
        config = next(iter(configs))
    if config not in configs:
        raise ValueError(f"{spec.name}: config is {config}, the hub has {', '.join(configs)}")
    columns, labels = {}, {}
    for path, kind, names in columns_of(configs[config]["features"]):
        columns[path] = kind
        if names:
            labels[path] = names
    return {"columns": columns, "labels": labels, "rows": configs[config]["num_examples"]}


def columns_of(
    features: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, str, list[str]]]:
    """Path, type in a spec's terms, and label names of every column."""
    for name, feature in features.items():
        inner = feature.get("Sequence") if isinstance(feature, dict) else None
        if isinstance(inner, dict) and "ClassLabel" not in inner:
            for path, kind, names in columns_of(inner, f"{prefix}{name}."):
                yield path, kind + "s", names
        elif inner is not None:
            kind, names = _kind_of(inner)
            yield prefix + name, kind + "s", names
        else:
            yield prefix + name, *_kind_of(feature)


def _kind_of(feature: Any) -> tuple[str, list[str]]:
    if isinstance(feature, dict) and "ClassLabel" in feature:
        return "label", [str(name) for name in feature["ClassLabel"]]
    return KINDS.get(str(feature).rstrip("0123456789"), "any"), []  # int32 and int64 are both int


def collect(folder: Path) -> dict[str, Facts | None]:
    """The facts of every hub dataset that a shipped spec reads, sorted by key."""
    known = read_facts()
    specs = [spec for spec in load_zoo().tasks.values() if spec.source.hub]
    found = {key_of(spec): facts_in(folder, spec) or known.get(key_of(spec)) for spec in specs}
    return dict(sorted(found.items()))


def main(arguments: list[str]) -> None:
    if len(arguments) != 1 or not Path(arguments[0]).is_dir():
        raise SystemExit("usage: python tests/facts/collect.py FOLDER")
    facts = collect(Path(arguments[0]))
    # One line per dataset: a change of one shows as one line.
    lines = [f"{json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in facts.items()]
    FACTS.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    missing = [key for key, value in facts.items() if value is None]
    sys.stdout.write(f"{len(facts)} configurations, {len(missing)} without facts: {missing}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
