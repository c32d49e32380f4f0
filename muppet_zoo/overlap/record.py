"""What a model's training data says of the rows that the model is scored on.

The build compares training rows with evaluation rows where the mixture asks for it, and the
manifests say what came out. A model keeps that of all its tasks in heads.json, and every score it
gets has it beside it. "Nothing was found" and "nobody looked" are different answers: the second is
None here, also where the scored rows are no longer those that were compared.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from muppet_zoo.fingerprints import inputs_digest
from muppet_zoo.manifests import Manifest


@dataclass(frozen=True, kw_only=True)
class ComparedSplit:
    """An evaluation split that all training rows were compared with.

    digest: of its inputs (`fingerprints.inputs_digest`). num_train_rows: those that overlap with it
    and were trained on all the same; 0 where they were dropped.
    """

    digest: str
    num_train_rows: int


def overlap_of(manifest: Manifest) -> dict[str, Any] | None:
    """What the rows of a built split were compared with, and how; None where they were not.

    `policy`, `level`, and `against`: evaluation task and role -> digest, null where it had no rows.
    """
    component = manifest.components.get("overlap")
    return None if component is None else dict(json.loads(component))


def compared_splits(train: Sequence[Manifest]) -> dict[str, ComparedSplit]:
    """The evaluation splits, as `task role`, that every training split was compared with."""
    records = [overlap_of(manifest) for manifest in train]
    if None in records or not records:
        return {}
    digests = [dict(record["against"]) for record in records if record is not None]
    same = set.intersection(*(set(against.items()) for against in digests))
    found = {name: ComparedSplit(digest=d, num_train_rows=0) for name, d in sorted(same) if d}
    for manifest, record in zip(train, records, strict=True):
        if record is None or record["policy"] == "drop":
            continue
        for key, count in manifest.overlap_histogram.items():
            name = key.rpartition(" ")[0]
            if name in found:
                total = found[name].num_train_rows + count
                found[name] = ComparedSplit(digest=found[name].digest, num_train_rows=total)
    return found


def joined(
    first: Mapping[str, ComparedSplit], second: Mapping[str, ComparedSplit]
) -> dict[str, ComparedSplit]:
    """Of two trainings, one after the other: what the rows of both were compared with."""
    return {
        name: replace(split, num_train_rows=split.num_train_rows + second[name].num_train_rows)
        for name, split in first.items()
        if name in second and second[name].digest == split.digest
    }


def rows_seen(compared: Mapping[str, ComparedSplit], scored: Manifest) -> int | None:
    """Training rows that overlap with a scored split; None where that was not checked."""
    entry = compared.get(f"{scored.task} {scored.split}")
    digest = inputs_digest(scored.components["spec"], scored.components["source"])
    return entry.num_train_rows if entry is not None and entry.digest == digest else None
