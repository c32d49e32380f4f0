"""The names that a dataset itself declares for the numbers of a label column.

`datasets` keeps them as the feature type ClassLabel: with the dataset on the hub, and in the schema
of the Parquet files that it writes. JSON lines, CSV and TSV say nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from muppet_zoo.hub.rows import HubRows
from muppet_zoo.sources import FileRows, SplitRows

_SCHEMA_KEY = b"huggingface"


def declared_names(place: SplitRows, column: str) -> Sequence[str]:
    """Names by number, empty where the source declares none for `column`."""
    if isinstance(place, HubRows):
        return place.label_names(column)
    if isinstance(place, FileRows) and place.path.suffix == ".parquet":
        return _names_in_parquet(place, column)
    return ()


def _names_in_parquet(place: FileRows, column: str) -> Sequence[str]:
    import pyarrow.parquet as pq

    metadata = pq.read_schema(place.path).metadata or {}
    try:
        feature: Any = json.loads(metadata[_SCHEMA_KEY])["info"]["features"]
        for part in column.split("."):
            feature = feature[part]
        names = feature["names"]
    except (KeyError, TypeError, ValueError):
        return ()  # written by another program, or no label column
    return names if isinstance(names, list) else ()
