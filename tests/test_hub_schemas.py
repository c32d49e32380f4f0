"""The shipped specs against the columns, splits and labels that the hub states for each dataset.

The statements are a snapshot of the hub's dataset metadata that lies beside the checkout, one file
per dataset. Without it these tests are skipped.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from muppet_zoo.zoo import load_zoo

if TYPE_CHECKING:
    from collections.abc import Iterator

    from muppet_zoo.spec import TaskSpec

SCHEMAS = Path(__file__).parents[1].parent / "shared" / "hub_schemas"

KINDS = {"string": "string", "int": "integer", "float": "number", "bool": "boolean"}
HUB_TASKS = {name: spec for name, spec in load_zoo().tasks.items() if spec.source.hub}

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(not SCHEMAS.is_dir(), reason=f"no hub metadata in {SCHEMAS}"),
    pytest.mark.parametrize("spec", HUB_TASKS.values(), ids=HUB_TASKS.keys()),
]


def stated(spec: TaskSpec) -> dict[str, Any]:
    """What the hub says of the spec's configuration: `features` and `num_examples`."""
    assert spec.source.hub is not None
    file = SCHEMAS / f"{spec.source.hub.rpartition('/')[2]}.json"
    if not file.is_file():
        pytest.skip(f"no metadata of {spec.source.hub}")
    configs = json.loads(file.read_text(encoding="utf-8"))
    if spec.source.config is not None:
        return dict(configs[spec.source.config])
    assert len(configs) == 1, f"name one of the configurations {', '.join(configs)}"
    return dict(next(iter(configs.values())))


def columns_of(features: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str, list[str]]]:
    """Path, type in the spec's terms, and class names of every column."""
    for name, feature in features.items():
        inner = feature.get("Sequence") if isinstance(feature, dict) else None
        if isinstance(inner, dict) and "ClassLabel" not in inner:
            for path, kind, labels in columns_of(inner, f"{prefix}{name}."):
                yield path, kind + "s", labels
        elif inner is not None:
            kind, labels = kind_of(inner)
            yield prefix + name, kind + "s", labels
        else:
            yield prefix + name, *kind_of(feature)


def kind_of(feature: Any) -> tuple[str, list[str]]:
    if isinstance(feature, dict) and "ClassLabel" in feature:
        return "label", feature["ClassLabel"]
    return KINDS.get(str(feature).rstrip("0123456789"), "any"), []  # int32 and int64 are both int


def test_columns_are_the_hubs(spec: TaskSpec) -> None:
    declared = dict(spec.source.columns)
    opaque = {path for path, kind in declared.items() if kind == "any"}
    hub = {}
    for path, kind, _ in columns_of(stated(spec)["features"]):
        outer = next((o for o in opaque if path == o or path.startswith(o + ".")), None)
        hub[outer or path] = "any" if outer else kind
    assert declared == hub


def test_splits_exist_on_the_hub(spec: TaskSpec) -> None:
    used = {split.split for split in spec.source.splits.values()}
    assert used <= set(stated(spec)["num_examples"])


def test_labels_are_as_many_and_in_the_hubs_order(spec: TaskSpec) -> None:
    labels: tuple[str, ...] = getattr(spec.head, "labels", ())
    hub = {path: names for path, _, names in columns_of(stated(spec)["features"])}
    stated_names = hub.get(spec.head.target, []) if isinstance(spec.head.target, str) else []
    if not labels or not stated_names:
        pytest.skip("the hub states no label names for this target")
    assert len(labels) == len(stated_names)
    places = {plain(name): i for i, name in enumerate(labels)}
    for i, name in enumerate(stated_names):
        # Ours are in plain words and may differ, but an equal name stands at an equal place.
        assert places.get(plain(name), i) == i


def plain(name: str) -> str:
    return name.casefold().replace("_", " ").strip()
