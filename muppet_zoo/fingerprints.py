"""What a built split depends on, and which of those things changed.

A split is named by the digest of everything that can change its bytes, and of nothing else: a new
description, metric or licence rebuilds nothing. The parts are kept in the manifest one by one, so
that a rebuild can say why. Source: the idea is that of every content-addressed store; see
Dolstra 2006, "The Purely Functional Software Deployment Model", chapter 5.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from muppet_zoo.manifests import Manifest
from muppet_zoo.sources import Carving
from muppet_zoo.spec import TaskSpec

BUILDER_VERSION = 4
"""Raise it with any change after which equal specs and rows give other shards; a test on fixed
rows fails when that was forgotten."""

_NAMES = {"builder": "builder version", "overlap": "overlap policy or evaluation rows"}


def components_of(
    spec: TaskSpec, role: str, *, source: str, tokenizer: str, options: dict[str, int | None]
) -> dict[str, str]:
    """The parts that a split is made from; `source` and `tokenizer` are digests."""
    return {
        "spec": spec_digest(spec, role),
        "source": source,
        "tokenizer": tokenizer,
        "builder": str(BUILDER_VERSION),
        "options": _canonical(options),
    }


def spec_digest(spec: TaskSpec, role: str) -> str:
    """Hex SHA-256 of what in a spec decides the shards of a role; its description does not."""
    return _sha256(_spec_parts(spec, role))


def inputs_digest(spec: str, source: str) -> str:
    """Hex SHA-256 of a split's inputs, from its components `spec` and `source`."""
    return _sha256({"spec": spec, "source": source})


def fingerprint_of(role: str, components: dict[str, str]) -> str:
    """Hex SHA-256 of a role and its components."""
    return _sha256({"role": role, **components})


def what_changed(built: Manifest, components: dict[str, str]) -> str:
    """Why `built` is not what `components` ask for, in words."""
    names = dict.fromkeys([*components, *built.components])
    changed = [name for name in names if built.components.get(name) != components.get(name)]
    reasons = []
    for name in changed:
        if name == "options":
            details = _options_changed(built.components.get(name, ""), components[name])
            reasons.append(f"options changed: {details}")
        else:
            reasons.append(f"{_NAMES.get(name, name)} changed")
    return ", ".join(reasons)


def _spec_parts(spec: TaskSpec, role: str) -> dict[str, Any]:
    split, carving = spec.source.splits[role], Carving.of(spec.source, role)
    shares = [carving.share, *carving.taken]
    return {
        "columns": dict(spec.source.columns),
        "split": split.split,
        "labels": split.labels,
        "carving": [share and [share.seed, share.low, share.high] for share in shares],
        "rows": spec.raw.get("rows", []),
        "inputs": spec.raw["inputs"],
        "head": {key: value for key, value in spec.raw["head"].items() if key != "shared_head"},
        "on_bad_row": spec.on_bad_row,
    }


def _options_changed(before: str, after: str) -> str:
    try:
        old = dict(json.loads(before))
    except (ValueError, TypeError):
        return "unknown before"
    new = json.loads(after)
    return ", ".join(
        f"{name} {_shown(old.get(name))} -> {_shown(new.get(name))}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    )


def _shown(value: Any) -> str:
    return "none" if value is None else str(value)


def _canonical(data: Any) -> str:
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _sha256(data: Any) -> str:
    return hashlib.sha256(_canonical(data).encode("utf-8")).hexdigest()
