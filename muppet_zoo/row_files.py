"""Files of rows → plain Python rows, streamed: JSON lines, CSV, TSV (each also gzipped), Parquet.

Data sets are edited by hand, cut by broken downloads and written by many programs. A reader that
guesses (pads a short line, keeps the last of two equal columns, drops a byte that is no UTF-8)
changes examples without a word, so this one refuses, with file and line. Lines are read one at a
time and Parquet in small batches: memory does not grow with the file.

TSV is read as IANA's text/tab-separated-values says: a tab ends a field, and quotes are ordinary
characters, as the GLUE files need it. CSV follows RFC 4180. Row numbers count rows, not lines, from
0: the header and blank lines have none.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from muppet_zoo.errors import SourceError
from muppet_zoo.rows import describe

NumberedRows = Iterator[tuple[int, dict[str, Any]]]

SUFFIXES = (".jsonl", ".jsonl.gz", ".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet")
MAX_LINE_BYTES = 64 << 20  # a gzip bomb must not fill the memory; a novel has about 1 MiB
_PARQUET_BATCH_ROWS = 1024
_METER_EVERY_LINES = 256
_JSON_SPACE = " \t\r\n"


@dataclass
class Meter:
    """How far a reader has come, from 0 to 1; for progress displays."""

    fraction: float = 0.0


def kind_of(path: Path) -> str:
    """`jsonl`, `csv`, `tsv` or `parquet`, by the name.

    Raises:
        SourceError: when the name ends in none of `SUFFIXES`.
    """
    for suffix in SUFFIXES:
        if path.name.endswith(suffix):
            return suffix.split(".")[1]
    raise SourceError(f"{path}: rows are read from {', '.join(SUFFIXES)} files only")


def read_rows(
    path: Path, columns: Mapping[str, str], *, start: int = 0, meter: Meter | None = None
) -> NumberedRows:
    """Rows `start`, `start + 1`, … of a file, each with its number.

    `columns` are the declared columns with their types: they say how the text cells of CSV and TSV
    are read, and which columns of CSV, TSV and Parquet are read at all.

    Raises:
        SourceError: `path:line: …` for anything that is not plainly a row.
    """
    reader = {"jsonl": _jsonl, "csv": _csv, "tsv": _tsv, "parquet": _parquet}[kind_of(path)]
    return reader(path, columns, start, meter or Meter())


def read_json_lines(stream: BinaryIO, name: str) -> NumberedRows:
    """Rows of a stream that has no name of its own, such as standard input, as they come.

    Raises:
        SourceError: `name:line: …` for anything that is not plainly a row.
    """
    path = Path(name)
    return _json_rows(path, _decoded(path, _bounded(path, stream)), 0)


def column_names(path: Path) -> tuple[str, ...] | None:
    """The columns that a table names in its header or schema; None for JSON lines, which has none.

    Raises:
        SourceError: the file cannot be read, or names a column twice.
    """
    kind = kind_of(path)
    if kind == "jsonl":
        return None
    if kind == "parquet":
        names = _parquet_names(path)
    else:
        lines = (line for _, line in _lines(path, Meter()))
        reader = _csv_reader(lines) if kind == "csv" else _tsv_reader(lines)
        names = _header(path, _cells(path, reader))
    if repeated := _first_repeated(names):
        raise SourceError(f"{path}: the column '{repeated}' is there twice; rename one")
    return tuple(names)


# --- lines -----------------------------------------------------------------------------------


def _lines(path: Path, meter: Meter) -> Iterator[tuple[int, str]]:
    """(line number from 1, decoded line with its end)."""
    return _decoded(path, _raw_lines(path, meter))


def _decoded(path: Path, lines: Iterator[tuple[int, bytes]]) -> Iterator[tuple[int, str]]:
    for number, line in lines:
        try:
            yield number, line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise SourceError(
                f"{path}:{number}: not UTF-8: byte 0x{line[error.start]:02x} at byte "
                f"{error.start + 1} of the line; convert the file to UTF-8"
            ) from None


def _raw_lines(path: Path, meter: Meter) -> Iterator[tuple[int, bytes]]:
    try:
        size = max(path.stat().st_size, 1)
        with path.open("rb") as file, _unpacked(file, path) as stream:
            for number, line in _bounded(path, stream):
                if number % _METER_EVERY_LINES == 0:
                    meter.fraction = file.tell() / size
                yield number, line
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise SourceError(f"{path}: damaged gzip file: {error}; fetch it again") from None
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror or error}") from None


def _bounded(path: Path, stream: BinaryIO | io.BufferedReader) -> Iterator[tuple[int, bytes]]:
    number = 0
    while line := stream.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(line) > MAX_LINE_BYTES:
            limit = MAX_LINE_BYTES >> 20
            raise SourceError(f"{path}:{number}: the line is longer than {limit} MiB")
        yield number, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line


def _unpacked(file: BinaryIO, path: Path) -> BinaryIO | io.BufferedReader:
    # Buffered once more, since a GzipFile hands out lines by a call of Python's.
    return io.BufferedReader(gzip.GzipFile(fileobj=file)) if path.name.endswith(".gz") else file


# --- JSON lines ------------------------------------------------------------------------------


def _jsonl(path: Path, columns: Mapping[str, str], start: int, meter: Meter) -> NumberedRows:
    return _json_rows(path, _lines(path, meter), start)


def _json_rows(path: Path, lines: Iterator[tuple[int, str]], start: int) -> NumberedRows:
    decoder = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_refuse_constant)
    row = 0
    for number, line in lines:
        text = line.strip(_JSON_SPACE)
        if not text:
            continue
        if row >= start:
            yield row, _json_row(decoder, text, f"{path}:{number}")
        row += 1


def _json_row(decoder: json.JSONDecoder, text: str, where: str) -> dict[str, Any]:
    try:
        value, end = decoder.raw_decode(text)
        if end != len(text):
            more = text[end:].lstrip(_JSON_SPACE)
            raise json.JSONDecodeError("Extra data", text, len(text) - len(more))
    except json.JSONDecodeError as error:
        raise SourceError(f"{where}: not JSON: {error.msg} at column {error.colno}") from None
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{where}: not usable JSON: {error}") from None
    if not isinstance(value, dict):
        raise SourceError(f"{where}: a row is a JSON object, found {describe(value)}")
    # \ud83d without its other half is JSON but no text: neither Arrow nor a tokenizer takes it.
    if ("\\ud" in text or "\\uD" in text) and _is_not_text(value):
        raise SourceError(f"{where}: holds half of a surrogate pair, which is not a character")
    return value


def _is_not_text(value: dict[str, Any]) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key '{_first_repeated(names)}' is there twice")
    return result


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON; write null")


# --- CSV and TSV -----------------------------------------------------------------------------


def _csv(path: Path, columns: Mapping[str, str], start: int, meter: Meter) -> NumberedRows:
    lines = (line for _, line in _lines(path, meter))
    return _table(path, columns, start, _csv_reader(lines))


def _tsv(path: Path, columns: Mapping[str, str], start: int, meter: Meter) -> NumberedRows:
    lines = (line for _, line in _lines(path, meter))
    return _table(path, columns, start, _tsv_reader(lines))


def _csv_reader(lines: Iterator[str]) -> Any:
    # The module's own limit, 128 KiB a field, is global; lines are bounded here already.
    csv.field_size_limit(MAX_LINE_BYTES)
    return csv.reader(lines, strict=True)


def _tsv_reader(lines: Iterator[str]) -> Any:
    csv.field_size_limit(MAX_LINE_BYTES)
    return csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)


def _table(path: Path, columns: Mapping[str, str], start: int, reader: Any) -> NumberedRows:
    cells = _cells(path, reader)
    header = _header(path, cells)
    readers = _cell_readers(path, header, columns)
    for row, fields in enumerate(cells):
        where = f"{path}:{reader.line_num}"
        if len(fields) != len(header):
            raise SourceError(
                f"{where}: {len(fields)} fields, but the header names {len(header)} columns"
            )
        if row >= start:
            yield row, {name: read(fields[at], where) for at, name, read in readers}


def _header(path: Path, cells: Iterator[list[str]]) -> list[str]:
    header = next(cells, None)
    if header is None:
        raise SourceError(f"{path}: empty; the first line must name the columns")
    return header


def _cells(path: Path, reader: Any) -> Iterator[list[str]]:
    try:
        for fields in reader:
            if fields:
                yield fields
    except csv.Error as error:
        raise SourceError(f"{path}:{reader.line_num}: not a readable table: {error}") from None


CellReader = Callable[[str, str], Any]  # (text, where) -> value


def _cell_readers(
    path: Path, header: list[str], columns: Mapping[str, str]
) -> list[tuple[int, str, CellReader]]:
    if repeated := _first_repeated(header):
        raise SourceError(f"{path}:1: the column '{repeated}' is there twice; rename one")
    readers = []
    for at, name in enumerate(header):
        kind = columns.get(name)
        if kind in ("strings", "integers", "numbers", "labels"):
            raise SourceError(
                f"{path}:1: the column '{name}' holds lists ({kind}), which a table cannot; "
                f"use .jsonl or .parquet"
            )
        if kind is not None:
            readers.append((at, name, _cell_reader(name, kind)))
    if not readers:
        raise _no_columns(path, header, columns)
    return readers


def _cell_reader(name: str, kind: str) -> CellReader:
    convert = _CELLS.get(kind)
    if convert is None:
        return lambda text, where: text

    def read(text: str, where: str) -> Any:
        if text == "":
            return None  # a table has no other way to leave a number out
        try:
            return convert(text)
        except ValueError as error:
            raise SourceError(f"{where}: column '{name}': {describe(text)} is {error}") from None

    return read


def _integer(text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]{1,19}", text):
        raise ValueError("not a whole number")
    return int(text)


def _label(text: str) -> int | str:
    # A label is the number or the name; which names there are, the head knows.
    return int(text) if re.fullmatch(r"-?[0-9]{1,19}", text) else text


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError("not a number") from None
    if not math.isfinite(value):
        raise ValueError("not a finite number")
    return value


def _boolean(text: str) -> bool:
    known = {"true": True, "1": True, "false": False, "0": False}
    if text.lower() not in known:
        raise ValueError("not a boolean; allowed: true, false, 1, 0")
    return known[text.lower()]


_CELLS: dict[str, Callable[[str], Any]] = {
    "integer": _integer,
    "label": _label,
    "number": _number,
    "boolean": _boolean,
}


# --- Parquet ---------------------------------------------------------------------------------


def _parquet(path: Path, columns: Mapping[str, str], start: int, meter: Meter) -> NumberedRows:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # A buffered stream reads pages as they are asked for, not whole row groups.
        with pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as file:
            wanted = _wanted(path, file.schema_arrow.names, columns)
            groups, row = _groups_from(file, start)
            total = max(file.metadata.num_rows, 1)
            for batch in file.iter_batches(_PARQUET_BATCH_ROWS, row_groups=groups, columns=wanted):
                skipped = min(max(start - row, 0), batch.num_rows)
                yield from enumerate(batch.slice(skipped).to_pylist(), start=row + skipped)
                row += batch.num_rows
                meter.fraction = row / total
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise SourceError(f"{path}: not a readable Parquet file: {error}") from None
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror or error}") from None


def _parquet_names(path: Path) -> list[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return list(pq.read_schema(path).names)
    except pa.ArrowException as error:
        raise SourceError(f"{path}: not a readable Parquet file: {error}") from None
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror or error}") from None


def _groups_from(file: Any, start: int) -> tuple[list[int], int]:
    """The row groups that hold row `start` and later ones, and the first one's first row."""
    row = 0
    for group in range(file.num_row_groups):
        num_rows = file.metadata.row_group(group).num_rows
        if start < row + num_rows:
            return list(range(group, file.num_row_groups)), row
        row += num_rows
    return [], row


def _wanted(path: Path, names: list[str], columns: Mapping[str, str]) -> list[str]:
    if repeated := _first_repeated(names):
        raise SourceError(f"{path}: the column '{repeated}' is there twice; rename one")
    declared = {name.partition(".")[0] for name in columns}
    wanted = [name for name in names if name in declared]
    if not wanted:
        raise _no_columns(path, names, columns)
    return wanted


# --- shared ----------------------------------------------------------------------------------


def _first_repeated(names: list[str]) -> str | None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def _no_columns(path: Path, names: list[str], columns: Mapping[str, str]) -> SourceError:
    return SourceError(
        f"{path}: has none of the spec's columns ({', '.join(columns)}); it has: "
        f"{', '.join(names) or 'none'}"
    )
