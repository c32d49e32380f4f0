"""What the hub says of a dataset before any row is read: features, splits, card.

`add-task` starts from this. A dataset that would need its own code to be run is refused, as the
build would refuse it. The libraries are imported here only, and only when a hub dataset is asked
for.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from muppet_zoo.add_task.samples import (
    MAX_READ_ROWS,
    OnProgress,
    Sample,
    report_progress,
    sample_rows,
    usable_columns,
)
from muppet_zoo.errors import SourceError, UsageError, suggest
from muppet_zoo.hub.rows import HubRows
from muppet_zoo.row_files import Meter
from muppet_zoo.rows import Columns
from muppet_zoo.spec import CONVERSION, Source

# The hub writes licences in small letters; these are the SPDX spellings of the most frequent ones.
# Source: https://huggingface.co/docs/hub/repositories-licenses and https://spdx.org/licenses/
_SPDX = {"mit": "MIT", "apache-2.0": "Apache-2.0", "odc-by": "ODC-By-1.0", "pddl": "PDDL-1.0"}
_STATES_NONE = ("", "unknown", "other")


@dataclass(frozen=True, kw_only=True)
class HubInfo:
    """A dataset at one commit, with what its features and card say."""

    hub: str
    config: str | None
    revision: str
    columns: Columns
    label_names: Mapping[str, tuple[str, ...]]
    splits: tuple[str, ...]
    facts: Mapping[str, str]


def ask_hub(hub: str, config: str | None, revision: str | None) -> HubInfo:
    """What the hub says of `hub`; the revision is pinned to the commit behind it.

    Raises:
        UsageError: the dataset has several configurations and none is named, or not that one.
        SourceError: the hub cannot be reached, or the dataset needs code of its own to be run.
    """
    try:
        from huggingface_hub import HfApi

        card = HfApi().dataset_info(hub, revision=revision)
        commit = str(card.sha)
        describe = _converted if revision == CONVERSION else _published
        described = describe(hub, config, commit)
    except (UsageError, SourceError):
        raise
    # The libraries raise dozens of types; those of a loading script name it in their message.
    except Exception as error:
        raise _unusable(hub, error) from error
    columns, names = _columns(described.features)
    return HubInfo(
        hub=hub,
        config=described.config,
        revision=CONVERSION if revision == CONVERSION else commit,
        columns=columns,
        label_names=names,
        splits=described.splits,
        facts=_facts(hub, described.info, getattr(card, "card_data", None)),
    )


@dataclass(frozen=True, kw_only=True)
class _Described:
    """One configuration. info: what the library knows of the dataset, None where nothing."""

    config: str | None
    splits: tuple[str, ...]
    features: Mapping[str, Any]
    info: Any


def _published(hub: str, config: str | None, commit: str) -> _Described:
    import datasets

    configs = datasets.get_dataset_config_names(hub, revision=commit)
    name = _chosen(hub, config, configs)
    info = datasets.load_dataset_builder(hub, name=name, revision=commit).info
    # A card need not state them; then the files do.
    splits = info.splits or datasets.get_dataset_split_names(hub, name, revision=commit)
    features = info.features
    if features is None:
        first = next(iter(splits))
        features = datasets.load_dataset(hub, name=name, split=first, revision=commit).features
    is_named = len(configs) > 1 or name not in (None, "default")
    return _Described(
        config=name if is_named else None, splits=tuple(splits), features=features, info=info
    )


def _converted(hub: str, config: str | None, commit: str) -> _Described:
    """Of the hub's own conversion, which keeps CONFIG/SPLIT/NNNN.parquet and no card."""
    import datasets
    from huggingface_hub import HfApi

    files = HfApi().list_repo_files(hub, repo_type="dataset", revision=commit)
    parts = [file.split("/") for file in files if file.endswith(".parquet")]
    name = _chosen(hub, config, list(dict.fromkeys(part[0] for part in parts)))
    splits = tuple(dict.fromkeys(part[1] for part in parts if part[0] == name))
    if not splits:
        raise SourceError(f"hub dataset {hub}: the hub has no Parquet copy of it; give its files")
    rows = datasets.load_dataset(
        hub,
        split=splits[0],
        revision=commit,
        data_files={splits[0]: f"{name}/{splits[0]}/*.parquet"},
    )
    config = None if name == "default" else name
    return _Described(config=config, splits=splits, features=rows.features, info=None)


def sample_hub(info: HubInfo, on_progress: OnProgress = lambda split, share: None) -> Sample:
    """The sample of a hub dataset, read as the build reads it.

    Raises:
        SourceError: the hub cannot be reached.
    """
    usable, unusable = usable_columns(info.columns)
    source = Source(
        hub=info.hub,
        config=info.config,
        revision=info.revision,
        files={},
        columns=usable,
        splits={},
        root=Path(),
    )
    splits = {}
    for split in info.splits:
        meter = Meter()
        numbered = HubRows(task=info.hub, source=source, split=split).rows(0, meter)
        rows = (row for _, row in itertools.islice(numbered, MAX_READ_ROWS + 1))
        splits[split] = sample_rows(
            rows,
            usable,
            partial(report_progress, on_progress, split, meter),
        )
    origin = {"hub": info.hub, "config": info.config, "revision": info.revision}
    return Sample(
        name=info.config or info.hub.rpartition("/")[2],
        columns=usable,
        unusable=unusable,
        splits=splits,
        origin={key: value for key, value in origin.items() if value},
        label_names=info.label_names,
        facts=info.facts,
    )


def _chosen(hub: str, config: str | None, configs: Sequence[str]) -> str | None:
    if config is None and len(configs) > 1:
        shown = ", ".join(configs[:12]) + (", …" if len(configs) > 12 else "")
        raise UsageError(f"{hub} has {len(configs)} configurations; name one: --config {shown}")
    if config is not None and configs and config not in configs:
        raise UsageError(f"{hub} has no configuration '{config}'{suggest(config, configs)}")
    return config or (configs[0] if configs else None)


def _unusable(hub: str, error: Exception) -> SourceError:
    reason = " ".join(str(error).split())[:300]
    if "script" in reason or "trust_remote_code" in reason:
        return SourceError(
            f"hub dataset {hub}: needs code of its own to be run, which is never done here "
            f"({reason}). Try the hub's own copy of its rows: --revision {CONVERSION}, or "
            f"give its files"
        )
    return SourceError(
        f"hub dataset {hub}: {type(error).__name__}: {reason}. Without the hub, give its files"
    )


# --- features --------------------------------------------------------------------------------


def _columns(features: Mapping[str, Any]) -> tuple[Columns, dict[str, tuple[str, ...]]]:
    """Columns with types, and the names of those that hold labels."""
    columns, names = {}, {}
    for column, feature in _flat("", features):
        columns[column] = _kind(feature)
        labels = getattr(getattr(feature, "feature", feature), "names", None)
        if labels:
            names[column] = tuple(labels)
    return columns, names


def _flat(prefix: str, features: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, feature in features.items():
        if isinstance(feature, Mapping):
            yield from _flat(f"{prefix}{name}.", feature)
        else:
            yield f"{prefix}{name}", feature


def _kind(feature: Any) -> str:
    inner = getattr(feature, "feature", None)
    if inner is not None and not isinstance(inner, Mapping):
        kind = _kind(inner)
        return f"{kind}s" if kind in ("string", "integer", "number", "label") else "any"
    if getattr(feature, "names", None):
        return "label"
    dtype = str(getattr(feature, "dtype", ""))
    if dtype in ("string", "large_string"):
        return "string"
    if dtype == "bool":
        return "boolean"
    if dtype.startswith(("int", "uint")):
        return "integer"
    return "number" if dtype.startswith("float") else "any"


# --- the card --------------------------------------------------------------------------------


def _facts(hub: str, info: Any, card: Any) -> dict[str, str]:
    """What the publisher states; nothing is made up."""
    stated_license = getattr(card, "license", None) or getattr(info, "license", None) or ""
    if isinstance(stated_license, list):
        stated_license = stated_license[0]
    languages = getattr(card, "language", None) or []
    languages = [languages] if isinstance(languages, str) else languages
    stated = {
        "license": "" if stated_license in _STATES_NONE else _spdx(stated_license),
        "citation": (getattr(info, "citation", "") or "").strip(),
        "homepage": getattr(info, "homepage", "") or f"https://huggingface.co/datasets/{hub}",
        "description": " ".join((getattr(info, "description", "") or "").split()),
        "languages": ", ".join(languages),
    }
    return {key: value for key, value in stated.items() if value}


def _spdx(license: str) -> str:
    return license.upper() if license.startswith("cc") else _SPDX.get(license, license)
