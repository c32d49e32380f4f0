"""What a column of an unknown dataset may be: text, options, a label, an identifier.

Two things speak: the column's name, taken apart into words, and what its sample rows hold. Names
decide between columns that look alike; the data decides whether a column can be what its name says.
The word lists are the names that the datasets of the field use; nothing here looks at a dataset's
own name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from muppet_zoo.add_task.samples import Counts, Sample
from muppet_zoo.rows import Row, RowProblem, get_path

LONG_TEXT_WORDS = 60  # a passage of this length may be cut; a question set after it would be lost
SENTENCE_WORDS = 3
MAX_LABEL_WORDS = 4  # of a label's name, on average
SURE = 3
ALMOST_ALL = 0.95  # real rows have a few faults; the build lists them


def as_set(words: str) -> frozenset[str]:
    """A list of names, as prose has it, as a set."""
    return frozenset(words.split())


_FILLERS = as_set("text str string body stem sentence para full ctx")
_ASKS = as_set("question query claim prompt goal ask topic aspect title headline")
_PASSAGES = as_set(
    "context passage paragraph article story document plot content abstract background support "
    "dialogue dialog conversation evidence"
)
_ANSWERS = as_set(
    "answer hypothesis response reply conclusion continuation ending candidate statement"
)
_OPTIONS = as_set(
    "choice option answer ending sol solution alternative candidate opt op hypothesis hyp "
    "response continuation distractor"
)
_TARGETS = as_set("label class target gold correct answer key cop")
_RIGHT = as_set("correct gold right")
_KINDS = as_set(
    "sentiment emotion intent category topic stance polarity toxicity toxic relation act star "
    "rating decision judgment judgement verdict type quality"
)
_SCORES = as_set("score similarity rating relatedness grade mean strength intensity")
_SUMMARIES = as_set("summary highlight abstract tldr simplification translation")
_IDENTIFIERS = as_set(
    "id idx index uid uuid guid qid pid url uri link hash date time timestamp created published "
    "author user username worker annotator file filename path source src lang language version "
    "license domain count num number offset start end position parse tree binary"
)
_ASIDES = as_set(
    "rationale explanation reason exp formula annotated meta metadata comment heuristic template "
    "subcase raw tokenized masked concept type level name fact span pronoun quote property note"
)
_EMPTY = (None, "", -1)  # how publishers write a label that they keep
_FEW = 0.1  # of a split; where -1 is more frequent than this it is a label like others


_NOT_PLURAL = ("ss", "is", "us")


def words_of(name: str) -> tuple[str, ...]:
    """`answerKey` → (answer, key); `sentence_1s` → (sentence, 1, s); plurals lose their s."""
    parts = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+", name.rpartition(".")[2])
    return tuple(_singular(part.lower()) for part in parts)


def _singular(word: str) -> str:
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    return (
        word[:-1]
        if len(word) > 3 and word.endswith("s") and not word.endswith(_NOT_PLURAL)
        else word
    )


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column with what its sample rows hold.

    path: as a spec names it. values: one per sample row, None where a row lacks it. counts: of all
    rows that were read, None where there are too many different ones. titles: a list beside this
    list, with a title for each element. unlabelled: the values that stand for a label which the
    publisher keeps. partly_labelled: a split has rows with a label and rows without.
    """

    path: str
    kind: str
    values: tuple[Any, ...]
    counts: Counts | None
    label_names: tuple[str, ...] | None = None
    titles: str | None = None
    unlabelled: tuple[Any, ...] = _EMPTY
    partly_labelled: bool = False

    @cached_property
    def words(self) -> tuple[str, ...]:
        """The words of its name."""
        return words_of(self.path)

    @property
    def outer(self) -> str:
        """What stands before the last dot; empty for a column of the row itself."""
        return self.path.rpartition(".")[0]

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """Its values as texts: a list of texts, or of lists of texts, joined."""
        return tuple(" ".join(strings_of(value)) for value in self.values if value is not None)

    @cached_property
    def mean_words(self) -> float:
        """Words of a value, on average over those that are not empty."""
        lengths = [len(text.split()) for text in self.texts if text.strip()]
        return sum(lengths) / len(lengths) if lengths else 0.0

    @cached_property
    def outcomes(self) -> tuple[Any, ...] | None:
        """The different values, or elements, of all rows; None where there are too many."""
        if self.counts is None:
            return None
        return tuple(sorted((v for v in self.counts if v not in self.unlabelled), key=_order))

    @property
    def num_labelled(self) -> int:
        """Rows, or elements, that hold a value."""
        return sum(n for value, n in (self.counts or {}).items() if value not in self.unlabelled)

    @cached_property
    def is_scalar(self) -> bool:
        return self.kind in ("string", "integer", "number", "boolean", "label")

    @cached_property
    def is_flattened(self) -> bool:
        """A list of texts, or of lists of texts, that reads as one text when it is joined."""
        lists = [value for value in self.values if isinstance(value, list) and value]
        return self.kind in ("strings", "any") and bool(lists) and all(map(_is_texts, lists))

    def named(self, words: frozenset[str]) -> bool:
        """Whether its name is one of `words`, apart from numbers, letters and fillers."""
        own = [w for w in self.words if w not in _FILLERS and not w.isdigit() and len(w) > 1]
        return bool(own) and words.issuperset(own)

    def mentions(self, words: frozenset[str]) -> bool:
        """Whether one of `words` is in its name."""
        return not words.isdisjoint(self.words)

    @cached_property
    def is_identifier(self) -> bool:
        """A number, date, address or name of the row, which no model should read."""
        if self.mentions(_IDENTIFIERS) and not self.named(_ASKS | _PASSAGES):
            return True
        if not _IDENTIFIERS.isdisjoint(words_of(self.outer)):
            return True
        single = [t for t in self.texts if len(t.split()) == 1]
        if self.kind != "string" or len(single) < 0.9 * len(self.texts):
            return False
        is_code = sum(bool(re.search(r"[0-9/]", t)) for t in single) > 0.8 * len(self.texts)
        return is_code and len(set(single)) > len(single) / 2

    @cached_property
    def is_text(self) -> bool:
        """Whether a model could read it."""
        if self.kind != "string" and not self.is_flattened:
            return False
        if self.is_aside:
            return False
        if self.mean_words >= SENTENCE_WORDS:
            return True
        is_input = self.named(_ASKS | _PASSAGES | _ANSWERS) or self.words == ("text",)
        return is_input and self.mean_words > 0

    @property
    def is_aside(self) -> bool:
        """Whether its name says that it is about the row, or left over from making it."""
        return self.is_identifier or self.mentions(_ASIDES)

    @property
    def asks(self) -> bool:
        return self.named(_ASKS)

    @property
    def answers(self) -> bool:
        return self.named(_ANSWERS)

    @property
    def is_summary(self) -> bool:
        return self.kind == "string" and self.mentions(_SUMMARIES) and not self.is_identifier

    @cached_property
    def option_name(self) -> tuple[str, str] | None:
        """(stem, number or letter) of a column that holds one of several options."""
        found = re.fullmatch(r"(.*?)[_-]?([0-9]|[a-hA-H])", self.path)
        if self.kind != "string" or found is None or not found[1]:
            return None
        is_suffix = found[2].isdigit() or found[0][-2] in "_-" or found[2].isupper()
        return (found[1], found[2]) if is_suffix or found[1] in _OPTIONS else None

    @property
    def holds_options(self) -> bool:
        """Whether its name says that it holds options."""
        return self.mentions(_OPTIONS)

    def target_rank(self) -> int:
        """How much its name says that it is to be predicted: 0 not at all, `SURE` plainly."""
        if self.is_identifier and not self.mentions(_RIGHT):
            return 0
        if self.words in (("label",), ("class",), ("target",), ("gold", "label")):
            return SURE
        if self.mentions(_TARGETS) and "text" not in self.words:
            return 2
        return 1 if self.mentions(_KINDS | _SCORES) else 0

    @property
    def is_score(self) -> bool:
        """Numbers on a scale, not classes."""
        if self.kind not in ("number", "integer") or self.is_identifier:
            return False
        numbers = [value for value in self.values if value is not None]
        if self.kind == "number" and any(value % 1 for value in numbers):
            return self.mentions(_SCORES | _TARGETS) or not self.words[0].isdigit()
        return self.mentions(_SCORES) and len(self.outcomes or ()) > 20

    @property
    def is_category(self) -> bool:
        """Few values, each of which comes again."""
        if not self.is_scalar or self.outcomes is None or self.mean_words > MAX_LABEL_WORDS:
            return False
        if self.kind == "number" and any(value % 1 for value in self.outcomes):
            return False
        num = len(self.outcomes)
        least = 1 if self.target_rank() == SURE else 2  # a small sample may show one label only
        return num >= least and (
            self.label_names is not None or num <= max(10, self.num_labelled / 3)
        )


def columns_of(sample: Sample) -> list[Column]:
    """The columns of the sample, in their order."""
    rows = sample.rows()
    return [
        Column(
            path=path,
            kind=kind,
            values=tuple(value_at(row, path) for row in rows),
            counts=sample.counts(path),
            label_names=sample.label_names.get(path),
            titles=_titles(sample, path, rows),
            unlabelled=(unlabelled := _unlabelled(sample, path)),
            partly_labelled=any(
                _has_both(split.counts.get(path) or {}, unlabelled)
                for split in sample.splits.values()
            ),
        )
        for path, kind in sample.columns.items()
    ]


def value_at(row: Row, path: str) -> Any:
    """The value at `path`; None where this row has none."""
    try:
        return get_path(row, path)
    except RowProblem:
        return None


def share(rows: Sequence[Any], holds: Callable[[Any], bool]) -> float:
    """The share of rows for which this holds; 0 without rows."""
    return sum(map(holds, rows)) / len(rows) if rows else 0.0


def _titles(sample: Sample, path: str, rows: Sequence[Row]) -> str | None:
    outer = path.rpartition(".")[0]
    for other, kind in sample.columns.items():
        is_title = kind == "strings" and words_of(other) == ("title",) and other != path
        if outer and is_title and other.rpartition(".")[0] == outer:
            pairs = [(value_at(row, path), value_at(row, other)) for row in rows]
            if all(isinstance(a, list) and len(a) == len(b or ()) for a, b in pairs):
                return other
    return None


def _unlabelled(sample: Sample, path: str) -> tuple[Any, ...]:
    """Those of `_EMPTY` that mean "no label" here: -1 may be a label like others."""
    for split in sample.splits.values():
        counts = split.counts.get(path) or {}
        minus = counts.get(-1, 0)
        if minus > _FEW * sum(counts.values()) and minus < sum(counts.values()):
            return tuple(value for value in _EMPTY if value != -1)
    return _EMPTY


def _has_both(counts: Counts, unlabelled: tuple[Any, ...]) -> bool:
    num_without = sum(value in unlabelled for value in counts)
    return 0 < num_without < len(counts)


def _order(value: Any) -> tuple[bool, Any]:
    return (True, value) if isinstance(value, str) else (False, value)


def strings_of(value: Any) -> Iterator[str]:
    """The texts in a value: itself, or what its lists hold; nothing of a mapping or of null."""
    if isinstance(value, list):
        for element in value:
            yield from strings_of(element)
    elif isinstance(value, Mapping) or value is None:
        return
    else:
        yield str(value)


def _is_texts(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(map(_is_texts, value)))
