"""Rows made up from a spec's schema: valid for the spec, and as odd as its column types allow.

Columns that no operation looks into get new texts with letters of several scripts, emoji, braces
and line breaks; targets are drawn from the labels that the hub states, or from the operation that
makes them. Columns that belong together (an answer and the context that holds it, a word and its
place) are taken from the spec's golden row with every word exchanged for another of equal length,
so that places stay true. Lists that belong together change their length together.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping
from typing import Any

from muppet_zoo.spec import TaskSpec

Row = dict[str, Any]

# Letters with a simple small and capital form, so that a search without regard to case still works.
LETTERS = "abcdefghijklmnopqrstuvwxyzàâçéèñöüøабвгдежзиклмнопαβγδεζηθλμπ"
PIECES = ("naïve", "日本語", "emoji 😀👍🏽", "{label}", "{}", '"quoted"', "a\tb", "line\nbreak",
          "<b>bold</b>", "100%", "–", "e\u0301", "  ", "[SEP]", "\\n", "ﬁ", "\u200b",
          "'s")  # fmt: skip
# Operations that read a place or a pattern out of a text.
READING = {"locate", "mark_span", "mark_words", "split_at", "split_options", "keep_words",
           "replace_text"}  # fmt: skip


def rows_of(
    spec: TaskSpec, golden: Mapping[str, Any], labels: Mapping[str, list[str]], count: int
) -> list[Row]:
    """`count` rows that fit the spec. `labels`: the hub's label names by column."""
    source = random.Random(spec.name)
    return [_Maker(spec, golden, labels, source).row() for _ in range(count)]


class _Maker:
    """One row."""

    def __init__(
        self,
        spec: TaskSpec,
        golden: Mapping[str, Any],
        labels: Mapping[str, list[str]],
        source: random.Random,
    ) -> None:
        self._spec, self._golden, self._labels, self._random = spec, golden, labels, source
        self._columns = dict(spec.source.columns)
        self._words: dict[str, str] = {}
        self._kept = {word.casefold() for word in _words_in(_literals(spec))}
        self._linked = linked_columns(spec)

    def row(self) -> Row:
        row: Row = self._reworded(self._golden)
        groups = self._groups()
        lengths = {group: self._length(group) for group in groups}
        for path, kind in self._columns.items():
            if path in self._linked:
                continue
            group = next((g for g in groups if path in g), None)
            if kind in ("strings", "labels", "integers", "numbers"):
                size = lengths[group] if group else self._random.randrange(4)
                _put(row, path, [self._value(path, kind[:-1]) for _ in range(size)])
            elif kind != "any":
                _put(row, path, self._value(path, kind))
        self._set_filters(row)
        self._set_target(row)
        self._set_answers(row)
        return row

    # --- values ---

    def _value(self, path: str, kind: str) -> Any:
        match kind:
            case "label":
                return self._random.randrange(len(self._labels.get(path, ("no", "yes"))))
            case "string":
                text = fresh_text(self._random)
                return text.split()[0] if path in self._words_columns() else text
            case "integer":
                return self._random.randrange(2) if self._is_flag(path) else self._integer()
            case "number":
                return round(self._random.random(), 3)
            case "boolean":
                return self._random.random() < 0.5
        raise AssertionError(kind)

    def _words_columns(self) -> tuple[str, ...]:
        inputs = self._spec.inputs
        return inputs.columns() if inputs.format == "tokens" else ()

    def _integer(self) -> int:
        return self._random.choice((0, 1, 7, 2**31, -5))

    def _is_flag(self, path: str) -> bool:
        used = [c for op in self._spec.rows if op.op in ("flags", "explode") for c in op.needs()]
        return path in used

    def _reworded(self, value: Any) -> Any:
        if isinstance(value, str):
            return re.sub(r"[^\W\d_]{2,}", lambda found: self._other(found[0]), value)
        if isinstance(value, list):
            return [self._reworded(item) for item in value]
        if isinstance(value, dict):
            return {key: self._reworded(item) for key, item in value.items()}
        return value

    def _other(self, word: str) -> str:
        key = word.casefold()
        if key in self._kept or len(key) != len(word):
            return word
        while key not in self._words:
            new = "".join(self._random.choices(LETTERS, k=len(word)))
            if new not in self._words.values() and new not in self._kept:
                self._words[key] = new
        pairs = zip(self._words[key], word, strict=True)
        return "".join(new.upper() if old.isupper() else new for new, old in pairs)

    # --- lists that belong together ---

    def _groups(self) -> list[tuple[str, ...]]:
        """Columns whose lists are walked together."""
        spec, head = self._spec, self._spec.head
        groups = [tuple(op.columns) for op in spec.rows if op.op == "explode"]
        for op in spec.rows:
            if op.op in ("flatten", "pick"):
                groups.append(op.needs())
        if head.type == "token_classification":
            groups.append((spec.inputs.columns()[0], head.target))
        if head.type == "multiple_choice" and isinstance(spec.inputs.choices, str):
            keys = (head.keys,) if isinstance(head.keys, str) else ()
            groups.append((spec.inputs.choices, *keys))
        return groups

    def _length(self, group: tuple[str, ...]) -> int:
        head = self._spec.head
        if head.type == "multiple_choice" and group[0] == self._spec.inputs.choices:
            return len(head.keys) if isinstance(head.keys, tuple) else self._random.randint(2, 6)
        return self._random.randint(1, 5)

    # --- what filters and the head look at ---

    def _set_filters(self, row: Row) -> None:
        for op in self._spec.rows:
            column = getattr(op, "column", None)
            if column not in self._columns:
                continue
            if op.op == "map_values":
                key = self._random.choice(list(op.values))
                _put(row, column, int(key) if self._columns[column] == "integer" else key)
            elif op.op in ("keep_where", "drop_where"):
                other = _get(self._golden, column)
                numbers = [*range(len(self._labels.get(column, ())))]
                _put(row, column, self._random.choice([*op.values, *numbers, other, other]))

    def _set_target(self, row: Row) -> None:
        head = self._spec.head
        column = self._renamed(getattr(head, "target", None))
        if column not in self._columns or column in self._linked:
            return
        if any(op.op == "map_values" and op.column == column for op in self._spec.rows):
            return
        kind = self._columns[column]
        match head.type:
            case "classification" if kind == "string":
                _put(row, column, self._random.choice(head.labels))
            case "classification" if kind == "integer":
                _put(row, column, self._random.randrange(len(head.labels)))
            case "token_classification" if kind == "strings":
                names = [self._random.choice(head.labels) for _ in _get(row, column)]
                _put(row, column, names)
            case "multi_label":
                _put(row, column, self._subset(range(len(head.labels)), kind))
            case "regression":
                low, high = head.range
                value = round(self._random.uniform(low, high), 2)
                _put(row, column, int(value) if kind == "integer" else value)
            case "multiple_choice":
                self._set_choice(row, column)

    def _subset(self, numbers: Iterable[int], kind: str) -> list[Any]:
        chosen = [number for number in numbers if self._random.random() < 0.3]
        names = self._spec.head.labels
        return [names[number] for number in chosen] if kind == "strings" else chosen

    def _set_choice(self, row: Row, column: str) -> None:
        spec, head, kind = self._spec, self._spec.head, self._columns[column]
        keys: Any = head.keys
        if isinstance(keys, str) and keys != spec.inputs.choices and keys in self._columns:
            first = self._random.choice("A1")
            _put(row, keys, [chr(ord(first) + i) for i in range(len(_get(row, keys)))])
        if isinstance(keys, str):
            keys = _get(row, keys)
        if keys is None:
            choices = spec.inputs.choices
            size = len(_get(row, choices) if isinstance(choices, str) else choices)
            keys = [str(i) if kind == "string" else i for i in range(size)]
        value = self._random.choice(keys)
        _put(row, column, int(value) if kind in ("label", "integer") else value)

    def _set_answers(self, row: Row) -> None:
        """Answers from a context of several windows, where the dataset states their places."""
        head = self._spec.head
        if head.type != "span" or not {*head.columns(), self._spec.inputs.context} <= set(
            self._columns
        ):
            return
        texts = [fresh_text(self._random) for _ in range(self._random.randint(1, 6))]
        few = 0 if head.no_answer and self._random.random() < 0.4 else 1
        answers = self._random.sample(texts, few) if few else []
        context = ". ".join(texts)
        if answers:
            answers.append(self._random.choice([w for w in answers[0].split() if len(w) > 2]))
        _put(row, self._spec.inputs.context, context)
        _put(row, head.answers, answers)
        _put(row, head.answer_starts, [context.index(answer) for answer in answers])

    def _renamed(self, column: str | None) -> str | None:
        """The source's name of a column that was only renamed."""
        for op in self._spec.rows:
            if op.op == "rename":
                column = {new: old for old, new in op.columns.items()}.get(str(column), column)
        return column


def linked_columns(spec: TaskSpec) -> set[str]:
    """Source columns that hold places or patterns of others, and those they are about."""
    linked: set[str] = set()
    if spec.head.type == "span":
        linked |= {*spec.head.columns(), spec.inputs.context}
    for op in reversed(spec.rows):
        filters = op.op in ("keep_where", "drop_where") and op.column not in spec.source.columns
        if filters or op.op in READING or linked & set(op.leaves({})):
            linked |= set(op.needs())
    return {path for path in spec.source.columns if _touches(path, linked)}


def _touches(path: str, linked: set[str]) -> bool:
    return any(path == other or path.startswith(f"{other}.") for other in linked)


def fresh_text(source: random.Random) -> str:
    """A few words that occur nowhere else."""
    words = ["".join(source.choices(LETTERS, k=source.randint(3, 9))) for _ in range(6)]
    words.insert(source.randrange(1, 5), source.choice(PIECES))
    return " ".join(words)


def _literals(spec: TaskSpec) -> str:
    """All texts of the spec that a row may have to match."""
    return repr(spec.raw.get("rows", ())) + repr(spec.raw["head"])


def _words_in(text: str) -> list[str]:
    return re.findall(r"[^\W\d_]{2,}", text)


def _get(row: Mapping[str, Any], path: str) -> Any:
    outer, dot, inner = path.partition(".")
    return row[path] if path in row or not dot else _get(row[outer], inner)


def _put(row: Row, path: str, value: Any) -> None:
    outer, dot, inner = path.partition(".")
    if path in row or not dot:
        row[path] = value
    else:
        _put(row.setdefault(outer, {}), inner, value)
