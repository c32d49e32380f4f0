"""How often does `add-task`, given only the files of a dataset, propose what the zoo's spec says?

Run: python -m benchmarks.add_task --data DIR, where DIR/<task>/<split>.jsonl.gz are real rows. The
20 tasks that count were drawn by `drawn` before there was anything to try them on; rules may be
general or not at all, so the tasks that were not drawn are shown beside them.

Two specs are equal here when three things are: `inputs.format`, `head.type`, and for each segment
(text, first, second, question, context, tokens, each option) the source columns whose text it
shows, in order. Literal words do not count, nor the marks that a row operation sets in a text. A
column that an operation wrote counts as the source columns whose text it was made of.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from muppet_zoo.rows import Template
from muppet_zoo.zoo import Zoo

SEED = 0
NUM_DRAWN = 20
# Its files are in the publisher's layout, not in the one that the zoo's spec reads.
OTHER_LAYOUT = frozenset({"natural_questions"})


def candidates(zoo: Zoo, data: Path) -> list[str]:
    """The folders of rows that a spec of the zoo describes."""
    folders = {path.name for path in data.iterdir() if path.is_dir()}
    return sorted(folders & zoo.tasks.keys() - OTHER_LAYOUT)


def drawn(names: Iterable[str]) -> frozenset[str]:
    """The tasks that count."""
    return frozenset(random.Random(SEED).sample(sorted(names), NUM_DRAWN))


def shown_columns(raw: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Segment → the source columns whose text it shows, of a spec as plain data."""
    made_of: dict[str, tuple[str, ...]] = {}
    for operation in raw.get("rows", []):
        made_of |= _written(operation, made_of)
    segments: dict[str, Any] = {k: v for k, v in raw["inputs"].items() if k != "format"}
    if isinstance(options := segments.get("choices"), list):
        del segments["choices"]
        segments |= {f"choices[{i}]": option for i, option in enumerate(options)}
    return {name: _sources(_columns(text), made_of) for name, text in segments.items()}


def _written(
    operation: Mapping[str, Any], made_of: Mapping[str, tuple[str, ...]]
) -> dict[str, tuple[str, ...]]:
    """What the columns that this operation writes are made of."""
    match operation["op"]:
        case "rename":
            return {new: _sources([old], made_of) for old, new in operation["columns"].items()}
        case "explode":
            return {new: _sources([old], made_of) for old, new in operation["columns"].items()}
        case "join":
            read = Template(operation["template"]).columns
        case "flags":
            read = tuple(operation["columns"])
        case "flatten":
            read = tuple(operation[key] for key in ("titles", "column") if key in operation)
        case "keep_words":
            read = (operation["words"],)
        case "split_at":
            source = _sources([operation["column"]], made_of)
            return {operation["left"]: source, operation["right"]: source}
        case "map_values" | "keep_where" | "drop_where" | "locate":
            return {}
        case _:
            read = (operation["column"],)
    return {operation["into"]: _sources(read, made_of)}


def _columns(text: str) -> tuple[str, ...]:
    """Of a template the columns that it names, else the column that this is."""
    return Template(text).columns if "{" in text else (text,)


def _sources(columns: Iterable[str], made_of: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    found: list[str] = []
    for column in columns:
        outer, dot, inner = column.partition(".")
        if column in made_of:
            found += made_of[column]
        else:
            found += [source + dot + inner for source in made_of.get(outer, (outer,))]
    return tuple(found)
