"""Row files: what is read, and the exact place of what is refused."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muppet_zoo import row_files
from muppet_zoo.errors import SourceError
from muppet_zoo.row_files import Meter, kind_of, read_rows

COLUMNS = {"text": "string", "label": "label"}


def written(folder: Path, name: str, data: str | bytes) -> Path:
    data = data.encode() if isinstance(data, str) else data
    path = folder / name
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


def rows_of(path: Path, columns: dict[str, str] | None = None, start: int = 0) -> list[Any]:
    return list(read_rows(path, columns or COLUMNS, start=start))


def problem(path: Path, columns: dict[str, str] | None = None) -> str:
    with pytest.raises(SourceError) as caught:
        rows_of(path, columns)
    return str(caught.value)


# --- JSON lines ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_json_lines_with_bom_blank_lines_and_crlf(tmp_path: Path, name: str) -> None:
    data = b'\xef\xbb\xbf{"text": "a\xc3\xa4", "x": [1]}\r\n\r\n   \n{"text": "b"}'
    rows = [(0, {"text": "aä", "x": [1]}), (1, {"text": "b"})]
    path = written(tmp_path, name, data)
    assert rows_of(path) == rows
    assert rows_of(path, start=1) == rows[1:]
    assert rows_of(path, start=2) == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"text": "a"', "not JSON: Expecting ',' delimiter at column 13"),
        (b'{"text": "a"} {"text": "b"}', "not JSON: Extra data at column 15"),
        (b"[1, 2]", "a row is a JSON object, found [1, 2]"),
        (b"null", "a row is a JSON object, found None"),
        (b'{"a": 1, "b": 2, "a": 3}', "the key 'a' is there twice"),
        (b'{"a": NaN}', "NaN is not JSON; write null"),
        (b'{"text": "\xff"}', "not UTF-8: byte 0xff at byte 11 of the line"),
        (b'{"text": "\\ud83d"}', "holds half of a surrogate pair"),
        (b'{"a": ' + b"[" * 100_000 + b"}", "not usable JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not usable JSON"),
        ('{"text": "a"}'.encode("utf-16"), "not UTF-8"),
    ],
)
def test_malformed_json_lines_name_their_line(tmp_path: Path, line: bytes, message: str) -> None:
    path = written(tmp_path, "a.jsonl", b'{"text": "good"}\n\n' + line + b"\n")
    found = problem(path)
    assert found.startswith(f"{path}:3: ")
    assert message in found


def test_a_whole_surrogate_pair_is_a_character(tmp_path: Path) -> None:
    path = written(tmp_path, "a.jsonl", b'{"text": "\\ud83d\\ude00"}\n')
    assert rows_of(path) == [(0, {"text": "\N{GRINNING FACE}"})]


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.tsv"])
def test_a_line_beyond_the_bound_is_refused(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_files, "MAX_LINE_BYTES", 1 << 20)
    path = written(tmp_path, name, b"text,label\ttext\n" + b"x" * (1 << 21) + b"\n")
    if name == "a.jsonl":
        path = written(tmp_path, name, b"\n" + b'{"text": "' + b"x" * (1 << 21) + b'"}\n')
    elif name == "a.tsv":
        path = written(tmp_path, name, b"text\n" + b"x" * (1 << 21) + b"\n")
    assert problem(path).startswith(f"{path}:2: the line is longer than 1 MiB")


def test_a_long_line_within_the_bound_is_read(tmp_path: Path) -> None:
    text = "x" * 3_000_000
    assert rows_of(written(tmp_path, "a.csv", f"text\n{text}\n")) == [(0, {"text": text})]


# --- tables ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_csv_quotes_line_breaks_and_types(tmp_path: Path, name: str) -> None:
    data = (
        "\ufeffid,text,label,score,flag,other\r\n"
        '7,"one, ""two""\r\nthree",1,0.5,True,x\r\n'
        "\r\n"
        "8,,good,,0,y\r\n"
    )
    columns = {
        "id": "integer", "text": "string", "label": "label", "score": "number", "flag": "boolean"
    }  # fmt: skip
    assert rows_of(written(tmp_path, name, data), columns) == [
        (0, {"id": 7, "text": 'one, "two"\r\nthree', "label": 1, "score": 0.5, "flag": True}),
        (1, {"id": 8, "text": "", "label": "good", "score": None, "flag": False}),
    ]


def test_tsv_takes_quotes_as_they_are(tmp_path: Path) -> None:
    path = written(tmp_path, "a.tsv", 'text\tlabel\n"one\t0\nsay "two"\t1\n')
    assert [row for _, row in rows_of(path)] == [
        {"text": '"one', "label": 0},
        {"text": 'say "two"', "label": 1},
    ]


@pytest.mark.parametrize(
    ("data", "line", "message"),
    [
        ("text,label\na,1\nb\n", 3, "1 fields, but the header names 2 columns"),
        ("text,label\n\na,1,2\n", 3, "3 fields, but the header names 2 columns"),
        ("text,label,text\na,1,b\n", 1, "the column 'text' is there twice"),
        ('text,label\n"a,1\n', 2, "not a readable table"),
        ('text,label\na,1\n"a"b,1\n', 3, "not a readable table"),
        ("text,n\na,1.5\n", 2, "column 'n': '1.5' is not a whole number"),
        ("text,n\na,1_000\n", 2, "column 'n': '1_000' is not a whole number"),
        ("text,x\na,one\n", 2, "column 'x': 'one' is not a number"),
        ("text,x\na,nan\n", 2, "column 'x': 'nan' is not a finite number"),
        ("text,flag\na,yes\n", 2, "column 'flag': 'yes' is not a boolean"),
        ("text,list\na,b\n", 1, "holds lists (strings), which a table cannot"),
    ],
)
def test_malformed_tables_name_their_line(
    tmp_path: Path, data: str, line: int, message: str
) -> None:
    columns = {
        **COLUMNS, "n": "integer", "x": "number", "flag": "boolean", "list": "strings"
    }  # fmt: skip
    path = written(tmp_path, "a.csv", data)
    found = problem(path, columns)
    assert found.startswith(f"{path}:{line}: ")
    assert message in found


def test_a_byte_that_is_not_utf8_names_its_line(tmp_path: Path) -> None:
    path = written(tmp_path, "a.csv", b"text,label\nfine,1\ncaf\xe9,1\n")
    assert problem(path).startswith(f"{path}:3: not UTF-8: byte 0xe9 at byte 4")


def test_tables_without_header_or_known_columns(tmp_path: Path) -> None:
    assert "the first line must name the columns" in problem(written(tmp_path, "a.csv", ""))
    found = problem(written(tmp_path, "b.csv", "one,two\n1,2\n"))
    assert "none of the spec's columns (text, label); it has: one, two" in found


@settings(max_examples=50, deadline=None)
@given(
    table=st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\r\n\0")),
            st.integers(-(10**18), 10**18),
        )
    )
)
def test_csv_reads_back_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, table: list[tuple[str, int]]
) -> None:
    import csv

    path = tmp_path_factory.mktemp("csv") / "a.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows(table)
    assert [(row["text"], row["label"]) for _, row in rows_of(path)] == table


# --- Parquet ---------------------------------------------------------------------------------


def test_parquet_reads_declared_columns_from_any_row(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "a.parquet"
    rows = [{"text": f"t{i}", "choices": {"text": ["x", str(i)]}} for i in range(2500)]
    table = pa.Table.from_pylist([{**row, "image": b"big"} for row in rows])
    pq.write_table(table, path, row_group_size=700)
    columns = {"text": "string", "choices.text": "strings"}
    for start in (0, 1, 699, 700, 1401, 2499, 2500, 9999):
        assert rows_of(path, columns, start) == list(enumerate(rows))[start:]


def test_parquet_that_is_none(tmp_path: Path) -> None:
    path = written(tmp_path, "a.parquet", b"PAR1 not really PAR1")
    assert problem(path).startswith(f"{path}: not a readable Parquet file")


# --- files -----------------------------------------------------------------------------------


def test_damaged_gzip_says_so(tmp_path: Path) -> None:
    path = written(tmp_path, "a.jsonl.gz", json.dumps({"text": "x" * 1000}) + "\n")
    whole = path.read_bytes()
    path.write_bytes(whole[:-12])
    assert "damaged gzip file" in problem(path)
    path.write_bytes(b"no gzip at all")
    assert "damaged gzip file" in problem(path)


def test_missing_files_and_unknown_kinds(tmp_path: Path) -> None:
    assert "cannot be read: No such file" in problem(tmp_path / "a.jsonl")
    with pytest.raises(SourceError, match=r"rows are read from \.jsonl"):
        kind_of(tmp_path / "a.json")


def test_the_meter_goes_from_nothing_to_all(tmp_path: Path) -> None:
    path = written(tmp_path, "a.jsonl", '{"text": "abc"}\n' * 20_000)
    meter = Meter()
    rows = read_rows(path, COLUMNS, meter=meter)
    next(rows)
    assert meter.fraction < 0.1
    assert sum(1 for _ in rows) == 19_999
    assert 0.95 < meter.fraction <= 1
