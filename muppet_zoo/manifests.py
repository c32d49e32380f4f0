"""What a built split says about itself: the records behind manifest.json and the shards' sidecars.

    OUT/<task>/<role>/<fingerprint16>-00000.arrow   a shard
    OUT/<task>/<role>/<fingerprint16>-00000.json    its sidecar: what is in it, where to go on
    OUT/<task>/<role>/manifest.json                 the sidecars merged; written last = complete

A sidecar is written after its shard, so a build that was killed goes on behind the last sidecar.
Both hold only what follows from the data: equal inputs give equal bytes. They are read strictly,
since a damaged number would otherwise surface as a strange loss hours later.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import types
import typing
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from muppet_zoo.errors import ShardError

MANIFEST_NAME = "manifest.json"
MAX_LISTED_ROWS = 1000
SHARD_NAME = re.compile(r"[0-9a-f]{16}-[0-9]{5}\.arrow")


@dataclass(frozen=True, kw_only=True)
class BadRow:
    """A source row that was left out, and why."""

    row: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class OverlappingRow:
    """A training row whose inputs are those of an evaluation row.

    kind: one of `overlap.index.KINDS`. found: the task and role it was found in; found_row: the
    first row there. Of several splits it is the one with the strongest kind.
    """

    row: int
    kind: str
    found: str
    found_row: int


@dataclass(frozen=True, kw_only=True)
class TokenizerInfo:
    """The tokenizer that made the ids: sha256 of its tokenizer.json, and how many ids it has."""

    digest: str
    vocab_size: int


@dataclass(frozen=True, kw_only=True)
class ShardInfo:
    """One shard file. It holds the examples of source rows [first_row, next_row)."""

    file: str
    rows: int
    tokens: int
    num_bytes: int
    sha256: str
    first_row: int
    next_row: int


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """Counts over examples.

    num_source_rows: rows read; filters, bad rows and `explode` make the difference to num_examples.
    num_records: entries of the shards; an example whose context is long has one for each window.
    num_sequences: token sequences; several a record in multiple choice.
    num_truncated, num_targets_cut: sequences that lost tokens, targets that were lost with them.
    bad_rows: the first 1000; num_bad_rows is exact.
    length_histogram: tokens of a record's longest sequence -> records.
    label_histogram: label name (or rounded number) -> how often it occurs.
    num_overlapping_rows: training rows that overlap with evaluation rows, counted where the
        components say what was compared. With the policy drop they are in no shard.
    overlapping_rows: the first 1000.
    overlap_histogram: evaluation task, role and kind -> rows found there.
    """

    num_source_rows: int = 0
    num_examples: int = 0
    num_records: int = 0
    num_sequences: int = 0
    num_tokens: int = 0
    num_truncated: int = 0
    num_targets_cut: int = 0
    num_bad_rows: int = 0
    bad_rows: tuple[BadRow, ...] = ()
    length_histogram: dict[int, int] = dataclasses.field(default_factory=dict)
    label_histogram: dict[str, int] = dataclasses.field(default_factory=dict)
    num_overlapping_rows: int = 0
    overlapping_rows: tuple[OverlappingRow, ...] = ()
    overlap_histogram: dict[str, int] = dataclasses.field(default_factory=dict)

    @classmethod
    def merged(cls, parts: Iterable[Statistics]) -> Statistics:
        """The statistics of all parts together; listed rows in the parts' order."""
        total: dict[str, Any] = {
            field.name: field.default for field in dataclasses.fields(Statistics)
        }
        histograms = [name for name in total if name.endswith("_histogram")]
        total |= {name: {} for name in histograms}
        for part in parts:
            for name in total:
                if name in histograms:
                    for key, count in getattr(part, name).items():
                        total[name][key] = total[name].get(key, 0) + count
                else:
                    total[name] += getattr(part, name)
        for name in ("bad_rows", "overlapping_rows"):
            total[name] = total[name][:MAX_LISTED_ROWS]
        for name in histograms:
            total[name] = dict(sorted(total[name].items()))
        return Statistics(**total)


class _Record:
    """JSON with sorted keys, and the strict way back."""

    def to_json(self) -> str:
        """The record as one JSON document; equal records give equal text."""
        data = dataclasses.asdict(self)  # type: ignore[call-overload]
        return json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str) -> Self:
        """The record that `to_json` wrote.

        Raises:
            ShardError: when anything is missing, unknown, or of another type.
        """
        try:
            record = decode(cls, json.loads(text))
        except (ValueError, RecursionError) as error:
            raise ShardError(f"{where}: damaged: {error}; build it again") from None
        return typing.cast("Self", record)


@dataclass(frozen=True, kw_only=True)
class ShardRecord(_Record):
    """The sidecar of one shard."""

    shard: ShardInfo
    statistics: Statistics


@dataclass(frozen=True, kw_only=True)
class Manifest(_Record, Statistics):
    """One built split of one task; `split` is the role it plays, such as `train`.

    fingerprint: sha256 over `components`, which say what the shards were made from: the digests of
    spec, source and tokenizer, the builder's version, and the options as JSON text; `overlap`, also
    JSON, says which evaluation rows the training rows were compared with, where they were.
    """

    task: str
    split: str
    head: str
    fingerprint: str
    components: dict[str, str]
    tokenizer: TokenizerInfo
    max_tokens: int
    shards: tuple[ShardInfo, ...]

    def __post_init__(self) -> None:
        for shard in self.shards:
            if not SHARD_NAME.fullmatch(shard.file):
                raise ValueError(f"shards: '{shard.file}' is no name of a shard")
        if sum(shard.rows for shard in self.shards) != self.num_records:
            raise ValueError("num_records is not the sum of the shards' rows")


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a split's folder; None when it is not complete.

    Raises:
        ShardError: when the file is there and damaged.
    """
    path = folder / MANIFEST_NAME
    try:
        return Manifest.from_json(path.read_text("utf-8"), str(path))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ShardError(f"{path}: cannot be read: {error}; build it again") from None


# --- strict decoding -------------------------------------------------------------------------


def decode(hint: Any, value: Any, where: str = "") -> Any:
    """Plain data as a record of the dataclass `hint`; whole numbers are never negative.

    Raises:
        ValueError: anything is missing, unknown, or of another type, and at which place.
    """
    if dataclasses.is_dataclass(hint):
        return _decode_record(hint, value, where)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple:
        items = _expect(list, value, where)
        if arguments[-1] is not ... and len(items) != len(arguments):
            raise ValueError(f"{where}: {len(arguments)} values expected, found {items!r:.60}")
        return tuple(decode(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(items))
    if origin is dict:
        return {
            _decode_key(arguments[0], key, where): decode(arguments[1], item, f"{where}.{key}")
            for key, item in _expect(dict, value, where).items()
        }
    if origin is types.UnionType:
        return None if value is None else decode(arguments[0], value, where)
    if hint is float and type(value) is int:
        return float(value)
    found = _expect(hint, value, where)
    if hint is int and found < 0:
        raise ValueError(f"{where}: {found} is negative")
    return found


def _decode_record(hint: Any, value: Any, where: str) -> Any:
    data = _expect(dict, value, where)
    hints, optional = _fields_of(hint)
    names = hints.keys()
    if data.keys() | optional != names:
        odd = ", ".join(sorted((data.keys() | optional) ^ names))
        raise ValueError(f"{where or 'the file'}: missing or unknown: {odd}")
    prefix = f"{where}." if where else ""
    return hint(**{name: decode(hints[name], data[name], prefix + name) for name in data})


@functools.cache
def _fields_of(record: Any) -> tuple[dict[str, Any], frozenset[str]]:
    """The type of each field, and which fields may be missing.

    What may be None may also be missing: files stay readable when such a field is added.
    """
    hints, fields = typing.get_type_hints(record), dataclasses.fields(record)
    optional = frozenset(field.name for field in fields if field.default is None)
    return {field.name: hints[field.name] for field in fields}, optional


def _decode_key(hint: Any, key: str, where: str) -> Any:
    if hint is int:
        if not key.isascii() or not key.isdigit():
            raise ValueError(f"{where}: the key '{key}' is no whole number")
        return int(key)
    return key


def _expect(kind: type, value: Any, where: str) -> Any:
    # type(...) is, not isinstance: true would pass for the number 1.
    if type(value) is not kind:
        raise ValueError(f"{where or 'the file'}: {kind.__name__} expected, found {value!r:.60}")
    return value
