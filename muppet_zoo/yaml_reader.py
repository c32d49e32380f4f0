"""YAML text → plain data, with the place of every key and value.

Specs are written by many hands, so the reader is stricter than YAML: one document, keys only once,
no aliases (they can unfold into gigabytes), no tags, bounded size and depth. It follows the core
schema of YAML 1.2, in which `no` is a word and not a boolean; PyYAML's libyaml parser does the
reading and `yamlcore` supplies the 1.2 rules, since PyYAML by itself stops at YAML 1.1.

It works on libyaml's events, not on its node tree: building that tree recurses in C, where deeply
nested input ends the process, and the tree has lost where an alias stood. All problems that can be
seen in one pass are reported together.
"""

from __future__ import annotations

import json
import math
import re
import stat
from dataclasses import dataclass, field
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

# https://yaml.org/spec/1.2.2/#51-character-set
_NOT_YAML = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, kw_only=True)
class Document:
    """One YAML file as plain data.

    `values` and `keys` give the place of each value, and of the key that introduces it, by the path
    of dictionary keys and list indices that leads there.
    """

    path: Path
    data: Any
    values: dict[DataPath, Place] = field(default_factory=dict)
    keys: dict[DataPath, Place] = field(default_factory=dict)

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

    def part(self, key: str, *, data: Any) -> Document:
        """The value of a top-level key as if it were a file, with `data` in place of its own."""
        return Document(
            path=self.path,
            data=data,
            values={path[1:]: at for path, at in self.values.items() if path[:1] == (key,)},
            keys={path[1:]: at for path, at in self.keys.items() if path[:1] == (key,)},
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
    return parse_yaml(_read_text(path), path)


def parse_yaml(text: str, path: Path) -> Document:
    """The document that this text is, as if it were read from `path`.

    Raises:
        SpecError: with every problem found; the text cannot be used.
    """
    loader = _loader_class()(text)
    reader = _EventReader(path, loader)
    data = None
    try:
        data = reader.read_document()
    except _yaml().MarkedYAMLError as error:
        reader.report(*_explain(error, text))
    except _TooDeepError as error:
        reader.report(error.place, error.data_path, f"nested deeper than {MAX_DEPTH} levels")
    finally:
        loader.dispose()
    findings = reader.all_findings()
    if not findings and not isinstance(data, dict):
        kind = "a list" if isinstance(data, list) else f"the single value {json.dumps(data):.60}"
        reader.report(
            reader.values[()], (), f"the file holds {kind}; a mapping of `key: value` is expected"
        )
        findings = reader.all_findings()
    if findings:
        raise SpecError(findings)
    return Document(path=path, data=data, values=reader.values, keys=reader.keys)


def parse_scalar(text: str) -> Any:
    """One value as YAML reads it: `1e-4` a number, `true` a boolean, `no` a word."""
    loader = _loader_class()(text)
    try:
        node = loader.get_single_node()
        return loader.construct_object(node, deep=True) if node is not None else None
    except (_yaml().YAMLError, ValueError, KeyError):
        return text
    finally:
        loader.dispose()


@cache
def _loader_class() -> Any:
    from yamlcore import CCoreLoader  # untyped package

    return CCoreLoader


def _finding(path: Path, line: int, column: int, message: str) -> SpecError:
    return SpecError([Finding(path=path, line=line, column=column, field="", message=message)])


def _read_text(path: Path) -> str:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a named pipe would wait for ever
            raise _finding(path, 1, 1, "is not a regular file")
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise _finding(path, 1, 1, f"cannot be read: {error.strerror}") from error
    if len(raw) > MAX_FILE_BYTES:
        limit = MAX_FILE_BYTES // 1024
        raise _finding(
            path, 1, 1, f"is larger than {limit} KiB; a spec is a page of YAML, not data"
        )
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, column = _place_of_character(raw[: error.start].decode("utf-8"))
        message = f"byte 0x{raw[error.start]:02x} is not UTF-8; save the file as UTF-8"
        raise _finding(path, line, column, message) from error
    if not text.strip():
        raise _finding(path, 1, 1, "the file is empty; a mapping of `key: value` is expected")
    if found := _NOT_YAML.search(text):
        line, column = _place_of_character(text, found.start())
        message = f"the character U+{ord(found[0]):04X} is not allowed in YAML"
        raise _finding(path, line, column, message)
    return text


def _place_of_character(text: str, index: int | None = None) -> Place:
    before = text[:index]
    return before.count("\n") + 1, len(before) - before.rfind("\n")


def _yaml() -> Any:
    import yaml

    return yaml


def _place(mark: Any) -> Place:
    return mark.line + 1, mark.column + 1


def _explain(error: yaml.MarkedYAMLError, text: str) -> tuple[Place, DataPath, str]:
    """Place and message of a syntax error, in words for people who do not know the parser."""
    problem, context = error.problem or "not readable as YAML", error.context or ""
    mark: Any = error.problem_mark or error.context_mark
    start: Any = error.context_mark or mark
    if mark is None:
        return (1, 1), (), f"not YAML: {problem}"
    if "maximum nesting depth" in problem:  # newer parsers have a bound of their own
        return _place(mark), (), f"nested deeper than {MAX_DEPTH} levels"
    lines = text.splitlines()
    found = lines[mark.line][mark.column : mark.column + 1] if mark.line < len(lines) else ""
    if "tab character" in problem or (found == "\t" and "cannot start any token" in problem):
        return _place(mark), (), "a tab where YAML wants spaces; indent with spaces"
    if "cannot start any token" in problem:
        return _place(mark), (), f"a value cannot start with {found!r}; put it in quotes"
    if "mapping values are not allowed" in problem:
        message = "a ':' is not expected here; quote text that holds ': ', or mend the indentation"
        return _place(mark), (), message
    if "simple key" in context:
        return _place(start), (), "a key is expected here, with ':' and a value"
    if "unexpected end of stream" in problem and "quoted" in context:
        return _place(start), (), "text in quotes starts here and is never closed"
    if "did not find expected node content" in problem:
        return _place(mark), (), "a value is expected here"
    if "flow" in context and "did not find expected" in problem:
        kind = "list" if "sequence" in context else "mapping"
        wanted = "',' or ']'" if kind == "list" else "',' or '}'"
        message = f"{wanted} is expected here, in the {kind} that starts on line {start.line + 1}"
        return _place(mark), (), message
    if "block" in context and "did not find expected" in problem and "scalar" not in context:
        kind, wanted = ("mapping", "a key") if "mapping" in context else ("list", "'- '")
        message = f"{wanted} is expected here, indented as in the {kind} of line {start.line + 1}"
        return _place(mark), (), message
    if "escape" in problem:
        return _place(mark), (), f"{problem}; single quotes keep a backslash as it is"
    where = f" {context} from line {start.line + 1}:" if context else ""
    return _place(mark), (), f"not YAML:{where} {problem}"


class _TooDeepError(Exception):
    """Stops the reading: libyaml needs minutes for a hundred thousand open brackets."""

    def __init__(self, place: Place, data_path: DataPath) -> None:
        self.place, self.data_path = place, data_path


class _EventReader:
    """Walks the parser's events once, keeping places and collecting problems."""

    def __init__(self, path: Path, loader: Any) -> None:
        self.path = path
        self.values: dict[DataPath, Place] = {}
        self.keys: dict[DataPath, Place] = {}
        self._loader = loader
        self._yaml = _yaml()
        self._findings: list[Finding] = []
        self._aliases: list[tuple[Place, DataPath, str]] = []

    def report(self, place: Place, data_path: DataPath, message: str) -> None:
        line, column = place
        self._findings.append(
            Finding(
                path=self.path, line=line, column=column, field=dotted(data_path), message=message
            )
        )

    def all_findings(self) -> list[Finding]:
        """What was reported, with the aliases of the file as one finding."""
        if self._aliases:
            place, data_path, name = self._aliases[0]
            more = f" (and {len(self._aliases) - 1} more below)" if len(self._aliases) > 1 else ""
            message = f"the alias *{name}{more}; anchors and aliases are not allowed, write it out"
            self.report(place, data_path, message)
            self._aliases = []
        return self._findings

    def read_document(self) -> Any:
        """The plain data of the only document; None where a problem was reported."""
        self._loader.get_event()  # stream start
        if isinstance(self._loader.get_event(), self._yaml.StreamEndEvent):
            self.report((1, 1), (), "the file holds only comments; a mapping is expected")
            return None
        data = self._read(self._loader.get_event(), ())
        self._loader.get_event()  # document end
        after = self._loader.get_event()
        if not isinstance(after, self._yaml.StreamEndEvent):
            message = "a second document starts here (`---`); one file holds one spec"
            self.report(_place(after.start_mark), (), message)
        return data

    def _read(self, event: Any, data_path: DataPath) -> Any:
        place = self.values[data_path] = _place(event.start_mark)
        if isinstance(event, self._yaml.AliasEvent):
            self._aliases.append((place, data_path, event.anchor))
            return None
        if event.tag not in (None, "!"):
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            self.report(place, data_path, f"the tag {tag} is not allowed; a spec is plain data")
            self._skip(event)
            return None
        if isinstance(event, self._yaml.ScalarEvent):
            return self._read_scalar(event, data_path)
        if len(data_path) == MAX_DEPTH:
            raise _TooDeepError(place, data_path[:3])
        if isinstance(event, self._yaml.MappingStartEvent):
            return self._read_mapping(data_path)
        return self._read_sequence(data_path)

    def _read_mapping(self, data_path: DataPath) -> dict[str, Any]:
        result: dict[str, Any] = {}
        while not isinstance(event := self._loader.get_event(), self._yaml.MappingEndEvent):
            place = _place(event.start_mark)
            # A key counts as written: `0:` is the text "0", which is how JSON Schema sees it.
            key = event.value if isinstance(event, self._yaml.ScalarEvent) else None
            if key is not None and key not in result:
                self.keys[(*data_path, key)] = place
                result[key] = self._read(self._loader.get_event(), (*data_path, key))
                continue
            if key is not None:
                first_line, _ = self.keys[(*data_path, key)]
                message = f"the key '{key}' stands twice; it is first on line {first_line}"
                self.report(place, (*data_path, key), message)
            elif isinstance(event, self._yaml.AliasEvent):
                self._aliases.append((place, data_path, event.anchor))
            else:
                self.report(place, data_path, "a key is one word, not a list or a mapping")
            self._skip(event)
            self._skip(self._loader.get_event())
        return result

    def _read_sequence(self, data_path: DataPath) -> list[Any]:
        result: list[Any] = []
        while not isinstance(event := self._loader.get_event(), self._yaml.SequenceEndEvent):
            result.append(self._read(event, (*data_path, len(result))))
        return result

    def _read_scalar(self, event: Any, data_path: DataPath) -> Any:
        kind = self._yaml.ScalarNode
        tag = self._loader.resolve(kind, event.value, event.implicit)
        try:
            value = self._loader.construct_object(kind(tag, event.value))
            finite = not isinstance(value, int | float) or math.isfinite(value)
        except (ValueError, OverflowError):  # e.g. an integer of ten thousand digits, or of 400
            self.report(self.values[data_path], data_path, "a number that cannot be represented")
            return None
        if not finite:
            message = f"{event.value} is not a finite number; quote it if it is text"
            self.report(self.values[data_path], data_path, message)
            return None
        return value

    def _skip(self, event: Any) -> None:
        """Pass over what `event` opens."""
        depth = 0
        while True:
            depth += isinstance(event, self._yaml.CollectionStartEvent)
            depth -= isinstance(event, self._yaml.CollectionEndEvent)
            if depth == 0:
                return
            if depth > MAX_DEPTH:
                raise _TooDeepError(_place(event.start_mark), ())
            event = self._loader.get_event()
