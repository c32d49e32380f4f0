"""Head types: what is predicted, how a row's target is read, and how it is stored in a shard.

A head type is a frozen record of spec fields. It says what it reads of the model (`level`) and how
many outputs it needs (`num_columns`), reads the target of one row (`read_target`), turns a chunk of
targets, together with the tokenizer's encodings, into Arrow columns (`target_columns`), and says
what array a micro-batch of them is (`target_form`). What the model does with them lives with the
trainer; nothing here knows torch.

Stored targets, `-1` (NaN for regression) where the publisher keeps the labels:
    classification        target  int32            label index
                          group   string           with `group`: equal where scored together
    multiple_choice       target  int32            option index
    regression            target  float32          value on the spec's scale
    multi_label           target  list<int32>      label indices, ascending; [-1] = unlabelled
    token_classification  target  list<int32>      per token; -100 where not scored
    span (spans.py)       target  list<int32>      [first, last] token, inclusive; [-1, -1] where
                                                   unknown, [0, 0] where there is no answer
                          window  int32            number of the window in its example, from 0
                          context, answers, offsets: what scoring needs to compare texts
    generation (generation.py)
                          target  list<uint>       token ids of the answer
                          answer  string           its text, whole, to score against
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

from muppet_zoo.formats import Segments
from muppet_zoo.generation import Generation
from muppet_zoo.rows import (
    Row,
    RowProblem,
    describe,
    get_list,
    get_path,
    spelled,
)
from muppet_zoo.spans import Span
from muppet_zoo.targets import (
    IGNORED,
    NO_TOKEN,
    SENTENCE,
    TOKEN,
    UNLABELLED,
    Encoding,
    TargetColumns,
    TargetForm,
)

if TYPE_CHECKING:
    import pyarrow as pa


class _LabelReader:
    """Reads one value of a closed label set: its number, its name, or a boolean for two labels."""

    def __init__(self, labels: tuple[str, ...]) -> None:
        self._labels = labels
        self._index = {label: i for i, label in enumerate(labels)}

    def __call__(self, value: Any, column: str) -> int:
        if isinstance(value, bool):
            value = int(value)
        if isinstance(value, int) and 0 <= value < len(self._labels):
            return value
        if isinstance(value, str) and value in self._index:
            return self._index[value]
        shown = ", ".join(self._labels[:8]) + (", …" if len(self._labels) > 8 else "")
        hint = "; drop such rows with `drop_where`" if value == -1 else ""
        raise RowProblem(
            f"column '{column}' holds {describe(value)}, which is no label: a number from 0 to "
            f"{len(self._labels) - 1} or one of {shown} is expected{hint}"
        )


@lru_cache(maxsize=64)  # made anew for each row, its table of labels costs more than reading
def _label_reader(labels: tuple[str, ...]) -> _LabelReader:
    return _LabelReader(labels)


@dataclass(frozen=True, kw_only=True)
class Classification:
    """One of K labels for the whole input; every dataset has a head of its own (MUPPET §3.1)."""

    type: ClassVar[str] = "classification"
    level: ClassVar[str] = SENTENCE
    target_form: ClassVar[TargetForm] = TargetForm()
    formats: ClassVar[frozenset[str]] = frozenset({"single", "pair"})
    target_kinds: ClassVar[frozenset[str]] = frozenset({"label", "integer", "string", "boolean"})
    target: str
    labels: tuple[str, ...]
    group: tuple[str, ...] = ()
    shared_head: str | None = None

    @property
    def num_columns(self) -> int:
        return len(self.labels)

    def columns(self) -> tuple[str, ...]:
        return (self.target, *self.group)

    def read_group(self, row: Row) -> str | None:
        """What rows that are scored together have in common, such as their question."""
        if not self.group:
            return None
        return json.dumps([get_path(row, column) for column in self.group], default=str)

    def read_target(self, row: Row, segments: Segments) -> int:
        return _label_reader(self.labels)(get_path(row, self.target), self.target)

    def histogram_keys(self, target: int) -> tuple[str, ...]:
        return (self.labels[target],)

    def target_columns(
        self, targets: Sequence[int | None], encodings: Sequence[Encoding], token_type: pa.DataType
    ) -> TargetColumns:
        return _int_column(targets)


@dataclass(frozen=True, kw_only=True)
class MultiLabel:
    """Any subset of K labels."""

    type: ClassVar[str] = "multi_label"
    level: ClassVar[str] = SENTENCE
    target_form: ClassVar[TargetForm] = TargetForm(padding=UNLABELLED)
    formats: ClassVar[frozenset[str]] = frozenset({"single", "pair"})
    target_kinds: ClassVar[frozenset[str]] = frozenset({"labels", "integers", "strings"})
    target: str
    labels: tuple[str, ...]
    shared_head: str | None = None

    @property
    def num_columns(self) -> int:
        return len(self.labels)

    def columns(self) -> tuple[str, ...]:
        return (self.target,)

    def read_target(self, row: Row, segments: Segments) -> tuple[int, ...]:
        read = _label_reader(self.labels)
        return tuple(sorted({read(v, self.target) for v in get_list(row, self.target)}))

    def histogram_keys(self, target: tuple[int, ...]) -> tuple[str, ...]:
        return tuple(self.labels[i] for i in target)

    def target_columns(
        self,
        targets: Sequence[tuple[int, ...] | None],
        encodings: Sequence[Encoding],
        token_type: pa.DataType,
    ) -> TargetColumns:
        rows = [[UNLABELLED] if target is None else list(target) for target in targets]
        return TargetColumns(columns={"target": _int_lists(rows)})


@dataclass(frozen=True, kw_only=True)
class Regression:
    """One number on a bounded scale, such as similarity from 0 to 5."""

    type: ClassVar[str] = "regression"
    level: ClassVar[str] = SENTENCE
    target_form: ClassVar[TargetForm] = TargetForm(dtype="float32")
    formats: ClassVar[frozenset[str]] = frozenset({"single", "pair"})
    target_kinds: ClassVar[frozenset[str]] = frozenset({"number", "integer"})
    target: str
    range: tuple[float, float]
    shared_head: str | None = None

    @property
    def num_columns(self) -> int:
        return 1

    def columns(self) -> tuple[str, ...]:
        return (self.target,)

    def read_target(self, row: Row, segments: Segments) -> float:
        value = get_path(row, self.target)
        if isinstance(value, bool) or not isinstance(value, int | float):
            found = describe(value)
            raise RowProblem(f"column '{self.target}' holds {found}, a number is expected")
        low, high = self.range
        if not low <= value <= high:  # also catches NaN
            raise RowProblem(f"column '{self.target}' holds {value}, outside {low} to {high}")
        return float(value)

    def histogram_keys(self, target: float) -> tuple[str, ...]:
        return (str(round(target)),)

    def target_columns(
        self,
        targets: Sequence[float | None],
        encodings: Sequence[Encoding],
        token_type: pa.DataType,
    ) -> TargetColumns:
        import pyarrow as pa

        from muppet_zoo.arrow_columns import numbers

        values = [math.nan if target is None else target for target in targets]
        return TargetColumns(columns={"target": numbers(values, pa.float32())})


@dataclass(frozen=True, kw_only=True)
class TokenClassification:
    """One label per word; the word's first token carries it."""

    type: ClassVar[str] = "token_classification"
    level: ClassVar[str] = TOKEN
    target_form: ClassVar[TargetForm] = TargetForm(padding=IGNORED, per_token=True)
    formats: ClassVar[frozenset[str]] = frozenset({"tokens"})
    target_kinds: ClassVar[frozenset[str]] = frozenset({"labels", "integers", "strings"})
    target: str
    labels: tuple[str, ...]
    shared_head: str | None = None

    @property
    def num_columns(self) -> int:
        return len(self.labels)

    def columns(self) -> tuple[str, ...]:
        return (self.target,)

    def read_target(self, row: Row, segments: Segments) -> tuple[int, ...]:
        read = _label_reader(self.labels)
        target = tuple(read(value, self.target) for value in get_list(row, self.target))
        num_words = len(segments.words or ())
        if len(target) != num_words:
            raise RowProblem(f"{num_words} words but {len(target)} labels in '{self.target}'")
        return target

    def histogram_keys(self, target: tuple[int, ...]) -> tuple[str, ...]:
        return tuple(self.labels[i] for i in target)

    def target_columns(
        self,
        targets: Sequence[tuple[int, ...] | None],
        encodings: Sequence[Encoding],
        token_type: pa.DataType,
    ) -> TargetColumns:
        rows, firsts, num_cut = [], [], 0
        for target, encoding in zip(targets, encodings, strict=True):
            first: dict[int, int] = {}
            for token, word in enumerate(encoding.word_ids):
                if word is not None:
                    first.setdefault(word, token)
            row = [IGNORED] * len(encoding.word_ids)
            for word, token in first.items() if target is not None else ():
                row[token] = target[word]  # type: ignore[index]
            rows.append(row)
            num_words = max(first, default=-1) + 1 if target is None else len(target)
            firsts.append([first.get(word, NO_TOKEN) for word in range(num_words)])
            num_cut += target is not None and len(first) < num_words
        return TargetColumns(
            columns={
                "target": _int_lists(rows),
                # For scoring: words that were cut off are wrong, not forgotten.
                "tags": _int_lists([list(target or ()) for target in targets]),
                "first_token": _int_lists(firsts),
            },
            num_cut=num_cut,
        )


@dataclass(frozen=True, kw_only=True)
class MultipleChoice:
    """The right one of an example's options; one scoring head is shared by all such tasks."""

    type: ClassVar[str] = "multiple_choice"
    level: ClassVar[str] = SENTENCE
    target_form: ClassVar[TargetForm] = TargetForm()
    formats: ClassVar[frozenset[str]] = frozenset({"multiple_choice"})
    target_kinds: ClassVar[frozenset[str]] = frozenset({"label", "integer", "string", "boolean"})
    list_fields: ClassVar[frozenset[str]] = frozenset({"keys"})
    target: str
    keys: str | tuple[str, ...] | None = None
    shared_head: str | None = "multiple_choice"

    @property
    def num_columns(self) -> int:
        return 1

    def columns(self) -> tuple[str, ...]:
        return (self.target, self.keys) if isinstance(self.keys, str) else (self.target,)

    def read_target(self, row: Row, segments: Segments) -> int:
        value, num_options = get_path(row, self.target), len(segments.sequences)
        if self.keys is None:
            return self._number(value, num_options)
        listed = get_list(row, self.keys) if isinstance(self.keys, str) else self.keys
        keys, key = [spelled(k) for k in listed], spelled(value)
        if len(keys) != num_options:
            raise RowProblem(f"{num_options} options but {len(keys)} keys")
        if keys.count(key) != 1:
            found = "more than one of" if key in keys else "not one of"
            shown = f"{describe(value)}, {found}: {', '.join(keys)}"
            raise RowProblem(f"column '{self.target}' holds {shown}")
        return keys.index(key)

    def _number(self, value: Any, num_options: int) -> int:
        if isinstance(value, str) and value.isdecimal():  # HellaSwag writes "0" to "3"
            value = int(value)
        if isinstance(value, int) and 0 <= value < num_options:
            return int(value)
        raise RowProblem(
            f"column '{self.target}' holds {describe(value)}, an option's number from 0 to "
            f"{num_options - 1} is expected (name the options' keys with `keys` if it is a name)"
        )

    def histogram_keys(self, target: int) -> tuple[str, ...]:
        return (str(target),)

    def target_columns(
        self, targets: Sequence[int | None], encodings: Sequence[Encoding], token_type: pa.DataType
    ) -> TargetColumns:
        return _int_column(targets)


def _int_column(targets: Sequence[int | None]) -> TargetColumns:
    import pyarrow as pa

    from muppet_zoo.arrow_columns import numbers

    values = [UNLABELLED if target is None else target for target in targets]
    return TargetColumns(columns={"target": numbers(values, pa.int32())})


def _int_lists(rows: Sequence[Sequence[int]]) -> pa.Array:
    import pyarrow as pa

    from muppet_zoo.arrow_columns import number_lists

    return number_lists(rows, pa.int32())


Head = (
    Classification
    | MultiLabel
    | Regression
    | TokenClassification
    | MultipleChoice
    | Span
    | Generation
)

HEADS: dict[str, type[Head]] = {
    head.type: head
    for head in (
        Classification,
        MultiLabel,
        Regression,
        TokenClassification,
        MultipleChoice,
        Span,
        Generation,
    )
}
