"""YAML text → plain data, with the place of every key and value.

Specs are written by many hands, so the reader is stricter than YAML: one document, keys only once,
no aliases (they can unfold into gigabytes), no tags beyond JSON's types, a bounded size. It follows
the YAML 1.2 core schema, in which `no` is a word and not a boolean; PyYAML's libyaml parser does
the reading and `yamlcore` supplies the 1.2 rules, since PyYAML by itself stops at YAML 1.1.
All problems that can be seen in one pass are reported together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from muppet_zoo.errors import Finding, SpecError

if TYPE_CHECKING:
    import yaml

MAX_FILE_BYTES = 256 * 1024
MAX_DEPTH = 20

Place = tuple[int, int]  # line and column, from 1
DataPath = tuple[str | int, ...]

_PLAIN_TAGS = frozenset(
    f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "map", "seq")
)


@dataclass(frozen=True, kw_only=True)
class Document:
    """One YAML file as plain data.

    `values` and `keys` give the place of each value, and of the key that introduces it, by the path
    of dictionary keys and list indices that leads there.
    """

    path: Path
    data: Any
    values: dict[DataPath, Place]
    keys: dict[DataPath, Place]

    def finding(self, data_path: DataPath, message: str, *, at_key: bool = False) -> Finding:
        """A finding at the deepest known place of `data_path`."""
        places = self.keys if at_key else self.values
        known = data_path
        while known and known not in places:
            known = known[:-1]
        line, column = places.get(known) or self.values.get(known, (1, 1))
        return Finding(
            path=self.path, line=line, column=column, field=dotted(data_path), message=message
        )


def dotted(data_path: DataPath) -> str:
    """`("rows", 0, "op")` → `rows[0].op`."""
    text = ""
    for part in data_path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def read_yaml(path: Path) -> Document:
    """Read one file whose top level is a mapping.

    Raises:
        SpecError: with every problem found; the file cannot be used.
    """
    text = _read_text(path)
    loader = None
    try:
        loader = _loader_class()(text)
        root = _compose(loader, path)
        reader = _NodeReader(path, loader)
        data = reader.read(root, ())
    except _yaml().reader.ReaderError as error:
        character = _character(error.character)
        line = text[: text.find(character)].count("\n") + 1
        message = f"the character U+{ord(character):04X} is not allowed in YAML"
        raise _finding(path, line, 1, message) from error
    except _yaml().MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise _finding(path, line, column, _explain(error, text)) from error
    finally:
        if loader is not None:
            loader.dispose()
    if not reader.findings and not isinstance(data, dict):
        kind = "a list" if isinstance(data, list) else f"the single value {data!r}"
        reader.report(root, (), f"the file holds {kind}; a mapping of `key: value` is expected")
    if reader.findings:
        raise SpecError(reader.findings)
    return Document(path=path, data=data, values=reader.values, keys=reader.keys)


@cache
def _loader_class() -> Any:
    from yamlcore import CCoreLoader  # untyped package

    return CCoreLoader


def _finding(path: Path, line: int, column: int, message: str) -> SpecError:
    return SpecError([Finding(path=path, line=line, column=column, field="", message=message)])


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise _finding(path, 1, 1, f"cannot be read: {error.strerror}") from error
    if len(raw) > MAX_FILE_BYTES:
        limit = MAX_FILE_BYTES // 1024
        raise _finding(path, 1, 1, f"is larger than {limit} KiB; a spec is a page of YAML, not data")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start]
        line = before.count(b"\n") + 1
        column = error.start - (before.rfind(b"\n") + 1) + 1
        message = f"byte 0x{raw[error.start]:02x} is not UTF-8; save the file as UTF-8"
        raise _finding(path, line, column, message) from error
    if not text.strip():
        raise _finding(path, 1, 1, "the file is empty; a mapping of `key: value` is expected")
    return text


def _compose(loader: Any, path: Path) -> yaml.Node:
    root = loader.get_single_node()
    if root is None:
        raise _finding(path, 1, 1, "the file holds only comments; a mapping is expected")
    return root  # type: ignore[no-any-return]


def _yaml() -> Any:
    import yaml

    return yaml


def _character(character: int | str | bytes) -> str:
    """ReaderError carries a code point, a character or a byte, by the way it was found."""
    if isinstance(character, int):
        return chr(character)
    return character.decode("latin-1") if isinstance(character, bytes) else character


def _explain(error: yaml.MarkedYAMLError, text: str) -> str:
    problem = error.problem or "not readable as YAML"
    mark = error.problem_mark
    if "cannot start any token" in problem and mark is not None:
        found = text.splitlines()[mark.line][mark.column : mark.column + 1]
        if found == "\t":
            return "a tab where YAML wants spaces; indent with spaces"
        return f"a value cannot start with {found!r}; put it in quotes"
    if "but found another document" in problem:
        return "a second document starts here (`---`); one file holds one spec"
    return f"not YAML: {error.context + ': ' if error.context else ''}{problem}"


class _NodeReader:
    """Walks the node tree once, keeping places and collecting problems."""

    def __init__(self, path: Path, loader: Any) -> None:
        self.path = path
        self.loader = loader
        self.values: dict[DataPath, Place] = {}
        self.keys: dict[DataPath, Place] = {}
        self.findings: list[Finding] = []
        self._seen: set[int] = set()

    def report(self, node: yaml.Node, data_path: DataPath, message: str) -> None:
        line, column = _place(node)
        self.findings.append(
            Finding(
                path=self.path, line=line, column=column, field=dotted(data_path), message=message
            )
        )

    def read(self, node: yaml.Node, data_path: DataPath) -> Any:
        """The plain value of `node`; None where a problem was reported."""
        self.values[data_path] = _place(node)
        if id(node) in self._seen:
            self.report(node, data_path, "anchors and aliases (& and *) are not allowed; write it out")
            return None
        self._seen.add(id(node))
        if len(data_path) > MAX_DEPTH:
            self.report(node, data_path[:3], f"nested deeper than {MAX_DEPTH} levels")
            return None
        if node.tag not in _PLAIN_TAGS:
            self.report(node, data_path, f"the tag {node.tag} is not allowed; specs are plain data")
            return None
        if node.id == "mapping":
            return self._read_mapping(node, data_path)
        if node.id == "sequence":
            return [self.read(item, (*data_path, i)) for i, item in enumerate(node.value)]
        return self._read_scalar(node, data_path)

    def _read_mapping(self, node: yaml.Node, data_path: DataPath) -> dict[str, Any]:
        result: dict[str, Any] = {}
        first_line: dict[str, int] = {}
        for key_node, value_node in node.value:
            if key_node.id != "scalar":
                self.report(key_node, data_path, "a key must be text, not a list or mapping")
                continue
            # A key counts as written: `0:` is the text "0", which is how JSON Schema sees it.
            key = str(key_node.value)
            if key in first_line:
                message = f"the key '{key}' stands twice; it is first on line {first_line[key]}"
                self.report(key_node, (*data_path, key), message)
                continue
            first_line[key] = key_node.start_mark.line + 1
            self.keys[(*data_path, key)] = _place(key_node)
            result[key] = self.read(value_node, (*data_path, key))
        return result

    def _read_scalar(self, node: yaml.Node, data_path: DataPath) -> Any:
        try:
            value = self.loader.construct_object(node)
        except (ValueError, OverflowError):  # e.g. an integer of ten thousand digits
            self.report(node, data_path, "a number that cannot be represented")
            return None
        if isinstance(value, float) and not math.isfinite(value):
            self.report(node, data_path, f"{node.value} is not a finite number; quote it if it is text")
            return None
        return value


def _place(node: yaml.Node) -> Place:
    return node.start_mark.line + 1, node.start_mark.column + 1
