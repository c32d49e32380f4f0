"""Plain data with places, and a message for everything that specs may not be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muppet_zoo.errors import SpecError
from muppet_zoo.yaml_reader import MAX_DEPTH, MAX_FILE_BYTES, dotted, parse_scalar, read_yaml

TAB = "a tab where YAML wants spaces; indent with spaces"
COLON = "a ':' is not expected here; quote text that holds ': ', or mend the indentation"
KEY = "a key is one word, not a list or a mapping"
ALIAS = "; anchors and aliases are not allowed, write it out"

# text -> findings as line:column: field: message
BROKEN = {
    "a: 1\n\tb: 2\n": f"2:1: {TAB}",
    "a:\n  - x\n\t- y\n": f"3:1: {TAB}",
    "a: b: c\n": f"1:5: {COLON}",
    "a: 1\n b: 2\n": f"2:3: {COLON}",
    "a: @b\n": "1:4: a value cannot start with '@'; put it in quotes",
    "a: %b\n": "1:4: a value cannot start with '%'; put it in quotes",
    "a: [1, 2\nb: 3\n": "2:2: ',' or ']' is expected here, in the list that starts on line 1",
    "a: {b: 1\nc: 2\n": "2:2: ',' or '}' is expected here, in the mapping that starts on line 1",
    "a: [1, {]\n": "1:9: a value is expected here",
    'a: "b\nc: 2\n': "1:4: text in quotes starts here and is never closed",
    "a: 1\nword\nb: 2\n": "2:1: a key is expected here, with ':' and a value",
    'a: "\\q"\n': "1:5: found unknown escape character; single quotes keep a backslash as it is",
    "a: 1\n---\nb: 2\n": "2:1: a second document starts here (`---`); one file holds one spec",
    "%YAML 3.0\n---\na: 1\n": "1:1: not YAML: found incompatible YAML document",
    "a:\n  b: 1\n c: 2\n": "3:2: a key is expected here, indented as in the mapping of line 1",
    "a:\n  - b\n  c: 1\n": "3:3: '- ' is expected here, indented as in the list of line 2",
    "a: 1\nb: 2\na: 3\n": "3:1: a: the key 'a' stands twice; it is first on line 1",
    "a:\n  0: x\n  0: y\n": "3:3: a.0: the key '0' stands twice; it is first on line 2",
    "a: &x 1\nb: *x\n": f"2:4: b: the alias *x{ALIAS}",
    "a: &x [*x]\n": f"1:8: a[0]: the alias *x{ALIAS}",
    "a: *x\nb: [*x, *x]\n": f"1:4: a: the alias *x (and 2 more below){ALIAS}",
    "a: {<<: *x}\n": f"1:9: a.<<: the alias *x{ALIAS}",
    "&x a: 1\n*x : 2\n": f"2:1: the alias *x{ALIAS}",
    "a: !!str 1\n": "1:4: a: the tag !!str is not allowed; a spec is plain data",
    "a: !run [b, {c: d}]\n": "1:4: a: the tag !run is not allowed; a spec is plain data",
    "{a: 1}: 2\n": f"1:1: {KEY}",
    "a:\n  ? [b]\n  : 1\n": f"2:5: a: {KEY}",
    "a: .nan\n": "1:4: a: .nan is not a finite number; quote it if it is text",
    "a: [-.inf]\n": "1:5: a[0]: -.inf is not a finite number; quote it if it is text",
    f"a: {'9' * 400}\n": "1:4: a: a number that cannot be represented",
    f"a: {'9' * 5000}\n": "1:4: a: a number that cannot be represented",
    "- a\n": "1:1: the file holds a list; a mapping of `key: value` is expected",
    "\nno\n": '2:1: the file holds the single value "no"; a mapping of `key: value` is expected',
    "~": "1:1: the file holds the single value null; a mapping of `key: value` is expected",
    "": "1:1: the file is empty; a mapping of `key: value` is expected",
    " \n\n": "1:1: the file is empty; a mapping of `key: value` is expected",
    "# a: 1\n": "1:1: the file holds only comments; a mapping is expected",
    "a: 1\nbc: x\x07y\n": "2:6: the character U+0007 is not allowed in YAML",
    "a: x\0y\n": "1:5: the character U+0000 is not allowed in YAML",
}


def findings_of(path: Path) -> list[str]:
    with pytest.raises(SpecError) as caught:
        read_yaml(path)
    return [str(finding).removeprefix(f"{path}:") for finding in caught.value.findings]


@pytest.mark.parametrize("text", BROKEN)
def test_a_fault_has_its_place_and_message(text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text, encoding="utf-8")
    assert findings_of(path) == [BROKEN[text]]


def test_faults_before_a_syntax_error_are_reported_with_it(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("a: 1\na: 2\nb: !x 3\nc: [\n")
    assert [line.split(":")[0] for line in findings_of(path)] == ["2", "3", "5"]


@pytest.mark.parametrize(
    ("raw", "finding"),
    [
        (b"a: caf\xe9\n", "1:7: byte 0xe9 is not UTF-8; save the file as UTF-8"),
        (
            "\u00e9: 1\nb: ".encode() + b"\xff\n",
            "2:4: byte 0xff is not UTF-8; save the file as UTF-8",
        ),
        ("a: 1".encode("utf-16"), "1:1: byte 0xff is not UTF-8; save the file as UTF-8"),
    ],
)
def test_other_encodings(raw: bytes, finding: str, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(raw)
    assert findings_of(path) == [finding]


def test_size_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("a: 1 #" + " " * (MAX_FILE_BYTES - 6))
    assert read_yaml(path).data == {"a": 1}
    path.write_text("a: 1 #" + " " * (MAX_FILE_BYTES - 5))
    assert findings_of(path) == ["1:1: is larger than 256 KiB; a spec is a page of YAML, not data"]


def test_depth_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("a: " + "[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1))
    read_yaml(path)
    path.write_text("a: " + "[" * MAX_DEPTH + "]" * MAX_DEPTH)
    assert findings_of(path) == ["1:23: a[0][0]: nested deeper than 20 levels"]


def test_a_missing_file_is_a_finding(tmp_path: Path) -> None:
    assert findings_of(tmp_path / "x.yaml") == ["1:1: cannot be read: No such file or directory"]


def test_scalars_follow_yaml_1_2(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(
        "\ufefflist: [no, yes, off, on, y, NO, true, False, ~, null, 012, 0o14, 0x1F, 1e3, 1_000,\n"
        "  2020-01-01, 1:30, .5, '1', \"no\", =, '']\n",
        encoding="utf-8",
    )
    assert read_yaml(path).data["list"] == [
        *(
            "no",
            "yes",
            "off",
            "on",
            "y",
            "NO",
            True,
            False,
            None,
            None,
            12,
            12,
            31,
            1000.0,
            "1_000",
        ),
        *("2020-01-01", "1:30", 0.5, "1", "no", "=", ""),
    ]


def test_places_count_from_one_and_keys_have_their_own(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("# first\na:\n  é: {b: [x, y]}\n", encoding="utf-8")
    document = read_yaml(path)
    assert document.values[()] == (2, 1)
    assert document.keys[("a", "é")] == (3, 3)
    assert document.values[("a", "é", "b", 1)] == (3, 14)
    finding = document.finding(("a", "é", "c", "d"), "is missing")
    assert str(finding) == f"{path}:3:6: a.é.c.d: is missing"
    assert document.finding(("a", "é"), "is odd", at_key=True).column == 3


def test_dotted() -> None:
    assert dotted(("rows", 0, "columns", "a")) == "rows[0].columns.a"
    assert dotted((1, "a")) == "[1].a"
    assert dotted(()) == ""


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("true", True),
        ("no", "no"),
        ("[1, a]", [1, "a"]),
        ("", None),
        ("a: [", "a: ["),
        ("!!bool maybe", "!!bool maybe"),
    ],
)
def test_parse_scalar(text: str, value: object) -> None:
    assert parse_scalar(text) == value


# Without line separators, which YAML folds, and unassigned code points, which it may not hold.
UNUSUAL = ["Cc", "Cn", "Cs", "Zl", "Zp"]
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=UNUSUAL), max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@given(data=st.dictionaries(TEXT, JSON, max_size=4))
def test_json_is_read_as_json_reads_it(
    data: dict[str, object], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "json.yaml"
    path.write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")
    assert read_yaml(path).data == data


@given(raw=st.binary(max_size=60) | TEXT.map(str.encode))
def test_any_bytes_are_read_or_explained(
    raw: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(raw)
    try:
        document, findings = read_yaml(path), ()
    except SpecError as error:
        document, findings = None, error.findings
    assert findings or (document is not None and isinstance(document.data, dict))
    assert all(finding.line >= 1 and finding.column >= 1 for finding in findings)
