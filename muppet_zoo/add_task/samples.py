"""A dataset nobody has described yet → its columns with types, its splits, and a sample of rows.

`add-task` proposes a spec from this. Columns of a hub dataset come from its features; those of
files are read off the rows, since JSON lines and CSV declare none. Files are therefore read twice:
once for the types, once with them, exactly as the build will read them. Rows are sampled over the
whole file, and values counted in all rows that are read, because files are often sorted by label.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from muppet_zoo.errors import SourceError, UsageError
from muppet_zoo.row_files import SUFFIXES, Meter, column_names, kind_of, read_rows
from muppet_zoo.rows import Columns, Row
from muppet_zoo.rows import kind_of as kind_of_value

MAX_READ_ROWS = 100_000  # per split: enough to see every label, seconds to read
NUM_SAMPLE_ROWS = 500  # per split
MAX_DISTINCT = 2000  # of values that are counted: as many as a head may have labels
MAX_LABEL_CHARS = 200
MAX_INNER_COLUMNS = 50  # a mapping with more keys than this is data, not a record

_NUM_NAMED_FILES = 3  # of a folder that was given instead

# What a template can name; a spec may declare more, but nothing here proposes to copy columns.
_COLUMN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
_LISTS = {"string": "strings", "integer": "integers", "number": "numbers"}

Counts = Mapping[Any, int]
OnProgress = Callable[[str, float], None]  # (split, share that is read)


@dataclass(frozen=True, kw_only=True)
class SplitSample:
    """What was seen of one split.

    num_rows: rows read; `complete` says whether that is all. rows: a random sample, in order;
    numbers: theirs at the source, from 0. counts: column → how often each value occurs, of a list
    column each element; None where there are more than `MAX_DISTINCT`, or long texts.
    """

    num_rows: int
    complete: bool
    rows: tuple[Row, ...]
    numbers: tuple[int, ...]
    counts: Mapping[str, Counts | None]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What is known of a dataset without a spec.

    origin: the keys of a spec's `source` that name it on the hub, empty for files. files: split →
    file. label_names: column → names in the order of its numbers, where the features say. facts:
    description, license, citation, homepage, as far as the publisher states them. unusable:
    columns that a spec cannot name.
    """

    name: str
    columns: Columns
    splits: Mapping[str, SplitSample]
    origin: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)
    label_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    unusable: tuple[str, ...] = ()

    def rows(self) -> tuple[Row, ...]:
        """Sample rows of all splits, the first split's first."""
        return tuple(row for split in self.splits.values() for row in split.rows)

    def counts(self, column: str) -> Counts | None:
        """How often each value of the column was seen, in all splits; None when too many."""
        total: Counter[Any] = Counter()
        for split in self.splits.values():
            counts = split.counts.get(column, {})
            if counts is None:
                return None
            total.update(counts)
        return total if len(total) <= MAX_DISTINCT else None


# --- files -----------------------------------------------------------------------------------


def named_files(arguments: Sequence[str]) -> dict[str, Path]:
    """Split → file, of `FILE` and `SPLIT=FILE` arguments; a file alone is the split of its name.

    Raises:
        UsageError: no such file, a folder, or two files for one split.
        SourceError: a file of a kind that is not read.
    """
    files: dict[str, Path] = {}
    for argument in arguments:
        split, equals, name = argument.partition("=")
        path = Path(name if equals and not Path(argument).is_file() else argument)
        if not (name if equals else argument):
            raise UsageError(f"'{argument}' names no file; name one, such as train=rows.csv")
        if path.is_dir():
            raise UsageError(f"{path} is a folder; {_instead_of(path)}")
        if not path.is_file():
            raise UsageError(f"no such file: {path}")
        kind_of(path)
        split = split if path != Path(argument) else stem_of(path)
        if split in files:
            raise UsageError(
                f"{files[split]} and {path} are both split '{split}'; name them: "
                f"train={files[split]} validation={path}"
            )
        files[split] = path
    return files


def _instead_of(folder: Path) -> str:
    """What to name in place of a folder: the files of rows in it, each with its split."""
    found = sorted(path for path in folder.glob("*") if path.name.endswith(SUFFIXES))
    if not found:
        return f"name a file of rows ({', '.join(SUFFIXES)})"
    named = " ".join(f"{stem_of(path)}={path}" for path in found[:_NUM_NAMED_FILES])
    return f"name files in it, each with its split: {named}"


def looks_like_hub_name(arguments: Sequence[str]) -> bool:
    """Whether this is one dataset of the hub and not files: owner/name that is no file here."""
    (first, *others) = arguments
    is_name = re.fullmatch(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", first)
    is_file = Path(first).exists() or first.endswith(SUFFIXES)
    return not others and is_name is not None and not is_file


def stem_of(path: Path) -> str:
    """The file's name without what says its kind."""
    suffix = next(suffix for suffix in SUFFIXES if path.name.endswith(suffix))
    return path.name.removesuffix(suffix)


def sample_files(
    files: Mapping[str, Path], *, on_progress: OnProgress = lambda split, share: None
) -> Sample:
    """The sample of a dataset in files.

    Raises:
        SourceError: a file cannot be read, or has no rows.
    """
    columns, unusable = _columns_of_files(files.values())
    if not columns:
        (first, *_) = files.values()
        raise SourceError(
            f"{first}: no spec can name its columns ({', '.join(unusable)}); a name has letters of "
            f"English, digits and _ only: rename them"
            if unusable
            else f"{first}: has no rows"
        )
    splits = {}
    for split, path in files.items():
        meter = Meter()
        rows = (row for _, row in read_rows(path, columns, meter=meter))
        splits[split] = sample_rows(
            rows, columns, partial(report_progress, on_progress, split, meter)
        )
        if not splits[split].num_rows:
            raise SourceError(f"{path}: has no rows")
    (first, *others) = files.values()
    name = first.absolute().parent.name if others else stem_of(first)
    return Sample(name=name, columns=columns, splits=splits, files=files, unusable=unusable)


def _columns_of_files(paths: Iterable[Path]) -> tuple[Columns, tuple[str, ...]]:
    """Columns with types that hold in all files, and the names that no spec can have."""
    kinds: dict[str, set[str]] = {}
    for path in paths:
        names = column_names(path)
        is_text = names is not None and kind_of(path) != "parquet"
        for row in _first(read_rows(path, dict.fromkeys(names or ("any",), "string"))):
            for column, value in flat(row).items():
                kind = _kind_of_cell(value) if is_text else _kind_of(value)
                kinds.setdefault(column, set()).update([kind] if kind else [])
    inner = Counter(column.partition(".")[0] for column in kinds if "." in column)
    for outer in (name for name, count in inner.items() if count > MAX_INNER_COLUMNS):
        kinds = {column: of for column, of in kinds.items() if column.partition(".")[0] != outer}
        kinds[outer] = {"any"}
    return usable_columns({column: _merged(of) for column, of in kinds.items()})


def usable_columns(columns: Columns) -> tuple[Columns, tuple[str, ...]]:
    """The columns that a template can name, and the names of the others."""
    usable = {name: kind for name, kind in columns.items() if _COLUMN.fullmatch(name)}
    return usable, tuple(name for name in columns if name not in usable)


def report_progress(on_progress: OnProgress, split: str, meter: Meter) -> None:
    on_progress(split, meter.fraction)


def _first(rows: Iterable[tuple[int, Row]]) -> Iterator[Row]:
    for number, row in rows:
        if number >= MAX_READ_ROWS:
            return
        yield row


def _kind_of_cell(text: str) -> str | None:
    """The type that a cell of a table could have; None when it is empty."""
    if text == "":
        return None
    if re.fullmatch(r"[+-]?[0-9]{1,18}", text):
        return "integer"
    if re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", text):
        return "number"
    return "boolean" if text.lower() in ("true", "false") else "string"


def _kind_of(value: Any) -> str | None:
    """The type of a value; None when it says nothing, as null and the empty list do."""
    if value is None or value == []:
        return None
    if isinstance(value, list):
        kind = _merged({_kind_of(element) or "any" for element in value if element is not None})
        return _LISTS.get(kind, "any")
    return kind_of_value(value)


def _merged(kinds: set[str]) -> str:
    """One type for all of these."""
    if len(kinds) == 1:
        return next(iter(kinds))
    if kinds == {"integer", "number"}:
        return "number"
    if kinds == {"integers", "numbers"}:
        return "numbers"
    scalars = {"string", "integer", "number", "boolean"}
    return "string" if kinds and kinds <= scalars else "any"


# --- rows ------------------------------------------------------------------------------------


def flat(row: Row) -> dict[str, Any]:
    """The row's values by path: `outer.inner` for the fields of nested columns."""
    values: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, Mapping):
            values |= {f"{name}.{inner}": inside for inner, inside in flat(value).items()}
        else:
            values[name] = value
    return values


def sample_rows(
    rows: Iterable[Row], columns: Columns, on_row: Callable[[], None] = lambda: None
) -> SplitSample:
    """Read up to `MAX_READ_ROWS` rows, keep a random sample and count values."""
    choose = random.Random(0)
    counts: dict[str, Counter[Any] | None] = {column: Counter() for column in columns}
    kept: dict[int, tuple[int, Row]] = {}
    num_rows = 0
    complete = True
    for row in rows:
        if num_rows == MAX_READ_ROWS:
            complete = False
            break
        slot = num_rows if num_rows < NUM_SAMPLE_ROWS else choose.randrange(num_rows + 1)
        if slot < NUM_SAMPLE_ROWS:
            kept[slot] = num_rows, row
        _count(flat(row), counts)
        num_rows += 1
        if num_rows % 256 == 0:
            on_row()
    in_order = sorted(kept.values(), key=lambda numbered: numbered[0])
    return SplitSample(
        num_rows=num_rows,
        complete=complete,
        rows=tuple(row for _, row in in_order),
        numbers=tuple(number for number, _ in in_order),
        counts=counts,
    )


def _count(values: Mapping[str, Any], counts: dict[str, Counter[Any] | None]) -> None:
    for column, seen in counts.items():
        if seen is None:
            continue
        value = values.get(column)
        for element in value if isinstance(value, list) else [value]:
            is_short = not isinstance(element, str) or len(element) <= MAX_LABEL_CHARS
            if is_short and isinstance(element, str | int | float | None):
                seen[element] += 1
            else:
                counts[column] = None
                break
        if len(seen) > MAX_DISTINCT:
            counts[column] = None
