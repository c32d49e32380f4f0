"""Answers inside a context: the span head, and long contexts in windows.

A context that does not fit is cut into windows that overlap, each read with the question as a
record of its own, so that no answer is out of reach. Positions are worked out on the whole context
first; a window has an answer when it holds all of its tokens. Scoring takes the best answer of all
windows of an example. Source: the sliding windows (`doc_stride`) of BERT's run_squad.py; Devlin et
al. 2019, section 4.3, for [CLS] as the answer where there is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from muppet_zoo.formats import Segments
from muppet_zoo.rows import Row, RowProblem, as_text, describe, get_list
from muppet_zoo.targets import TOKEN, UNLABELLED, Encoding, TargetColumns, TargetForm

if TYPE_CHECKING:
    import pyarrow as pa

# Tokens that two windows in a row share. An answer of up to this many tokens is whole in one of
# them; scoring considers none of more than 30. BERT moves on by 128 tokens of about 350 instead,
# which reads every token almost three times.
WINDOW_OVERLAP_TOKENS = 32

Tokens = tuple[int, int]
NO_ANSWER: Tokens = (0, 0)  # the sequence's first token, which no context contains
UNKNOWN: Tokens = (UNLABELLED, UNLABELLED)


@dataclass(frozen=True, kw_only=True)
class SpanTarget:
    """Gold answers of one example: texts, and the character in the context where each begins."""

    context: str
    answers: tuple[str, ...]
    starts: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Window:
    """One record of an example: the question, and all or a stretch of the context.

    offsets: characters of each token in `context`, which is the stretch's text; (0, 0) outside.
    target: the answer's tokens. is_lost: the example has an answer and no window holds it; said by
    its first window. overflowing: not empty where the question lost tokens, as in an `Encoding`.
    """

    ids: list[int]
    sequence_ids: list[int | None]
    offsets: list[tuple[int, int]]
    context: str
    target: Tokens
    answers: tuple[str, ...]
    is_lost: bool
    overflowing: list[int]


@dataclass(frozen=True, kw_only=True)
class Span:
    """A stretch of the context; one head is shared by all reading-comprehension tasks.

    no_answer: a row without answers is one whose question the context does not answer, rather
    than a bad row; its target is the first token.
    """

    type: ClassVar[str] = "span"
    level: ClassVar[str] = TOKEN
    target_form: ClassVar[TargetForm] = TargetForm()
    formats: ClassVar[frozenset[str]] = frozenset({"extractive_qa"})
    target_kinds: ClassVar[frozenset[str]] = frozenset({"strings"})
    list_fields: ClassVar[frozenset[str]] = frozenset({"answer_starts"})
    answers: str
    answer_starts: str
    no_answer: bool = False
    shared_head: str | None = "span"

    @property
    def num_columns(self) -> int:
        return 2  # a start and an end

    @property
    def target(self) -> str:
        return self.answers

    def columns(self) -> tuple[str, ...]:
        return (self.answers, self.answer_starts)

    def read_target(self, row: Row, segments: Segments) -> SpanTarget:
        context = segments.sequences[0][1] or ""
        answers = tuple(as_text(a, self.answers) for a in get_list(row, self.answers))
        starts = get_list(row, self.answer_starts)
        if len(answers) != len(starts) or not (answers or self.no_answer):
            found = f"{len(answers)} answers with {len(starts)} offsets"
            raise RowProblem(f"{found}; at least one is needed, and as many of each")
        for answer, start in zip(answers, starts, strict=True):
            inside = isinstance(start, int) and start >= 0  # -1 would count from the end
            found = context[start : start + len(answer)] if inside else ""
            if found != answer or not answer.strip():
                raise RowProblem(
                    f"answer {describe(answer)} is not in the context at character {start} "
                    f"(found: {describe(found)})"
                )
        return SpanTarget(context=context, answers=answers, starts=tuple(starts))

    def histogram_keys(self, target: SpanTarget) -> tuple[str, ...]:
        return ()

    def windows(
        self,
        target: SpanTarget | None,
        context: str,
        encoding: Encoding,
        max_tokens: int,
        *,
        every_window: bool,
    ) -> list[Window]:
        """The records of one example, from its encoding without truncation.

        A window without the answer has no answer where the spec knows of that, else its target is
        unknown. Without `every_window` those of unknown target are left out, but for the first
        where no other is there: they cost time and teach nothing.
        """
        pieces = _Pieces(encoding, max_tokens)
        answers = target.answers if target is not None else ()
        spans = [] if target is None else _token_spans(target, pieces)
        placed = [pieces.first_inside(stretch, spans) for stretch in pieces.stretches]
        is_lost = bool(answers) and not any(placed)
        has_empty_answer = self.no_answer and target is not None and not is_lost
        windows = [
            Window(
                **pieces.cut(stretch, context),
                target=tokens or (NO_ANSWER if has_empty_answer else UNKNOWN),
                answers=answers,
                is_lost=is_lost and stretch is pieces.stretches[0],
            )
            for stretch, tokens in zip(pieces.stretches, placed, strict=True)
        ]
        if every_window:
            return windows
        return [window for window in windows if window.target != UNKNOWN] or windows[:1]

    def target_columns(
        self, targets: Sequence[int], encodings: Sequence[Window], token_type: pa.DataType
    ) -> TargetColumns:
        """Here a target is the number of a window in its example, and the window has the rest."""
        import pyarrow as pa

        from muppet_zoo.arrow_columns import lists, number_lists, numbers, texts

        answers = [answer for window in encodings for answer in window.answers]
        offsets = [[edge for pair in window.offsets for edge in pair] for window in encodings]
        return TargetColumns(
            columns={
                "target": number_lists([w.target for w in encodings], pa.int32()),
                "window": numbers(targets, pa.int32()),
                "context": texts([w.context for w in encodings], pa.large_string()),
                "answers": lists(
                    texts(answers, pa.large_string()), [len(w.answers) for w in encodings]
                ),
                "offsets": number_lists(offsets, pa.int32()),
            },
            num_cut=sum(window.is_lost for window in encodings),
        )


class _Pieces:
    """An encoding taken apart: question, context, and the special tokens around them."""

    def __init__(self, encoding: Encoding, max_tokens: int) -> None:
        self._ids, self._sequence_ids = encoding.ids, encoding.sequence_ids
        num_question, num_context = self._sequence_ids.count(0), self._sequence_ids.count(1)
        self._first = self._sequence_ids.index(1) if num_context else len(self._ids)
        self._end = self._first + num_context
        self.offsets = encoding.offsets[self._first : self._end]
        room = max_tokens - (len(self._ids) - num_question - num_context)
        # The question gives way only where it takes more than half of the room.
        kept = min(num_question, max(room // 2, room - num_context))
        self._num_lost = num_question - kept
        question = self._sequence_ids.index(0) if num_question else 0
        self._lost = question + kept, question + num_question
        size = room - kept
        step = max(1, size - min(WINDOW_OVERLAP_TOKENS, size // 2))
        last = max(0, num_context - size)  # the last window is as long as the others
        self.stretches = [(at, min(at + size, num_context)) for at in [*range(0, last, step), last]]

    def first_inside(self, stretch: Tokens, spans: Sequence[Tokens]) -> Tokens | None:
        """The first span of the context that the stretch holds, by the tokens of its window."""
        move = self._first - self._num_lost - stretch[0]
        for first, last in spans:
            if stretch[0] <= first and last < stretch[1]:
                return first + move, last + move
        return None

    def cut(self, stretch: Tokens, context: str) -> dict[str, Any]:
        """What a window of this stretch of tokens, [low, high), holds."""
        low, high = stretch
        start, end = 0, len(context)
        if high - low < len(self.offsets):
            start, end = self.offsets[low][0], self.offsets[high - 1][1]
        outside = [(0, 0)]
        return {
            "ids": self._cut(self._ids, low, high),
            "sequence_ids": self._cut(self._sequence_ids, low, high),
            "offsets": (
                outside * (self._first - self._num_lost)
                + [(a - start, b - start) for a, b in self.offsets[low:high]]
                + outside * (len(self._ids) - self._end)
            ),
            "context": context[start:end],
            "overflowing": [self._num_lost] if self._num_lost else [],
        }

    def _cut(self, values: list[Any], low: int, high: int) -> list[Any]:
        lost_from, lost_to = self._lost
        before = values[:lost_from] + values[lost_to : self._first]
        return before + values[self._first + low : self._first + high] + values[self._end :]


def _token_spans(target: SpanTarget, pieces: _Pieces) -> list[Tokens]:
    """First and last token, counted in the context, of each answer that has tokens."""
    import numpy as np  # here: commands that only list specs need none of it

    offsets = np.array(pieces.offsets, dtype=np.int64).reshape(-1, 2)
    spans = []
    for answer, start in zip(target.answers, target.starts, strict=True):
        overlap = (offsets[:, 0] < start + len(answer)) & (offsets[:, 1] > start)
        tokens = np.flatnonzero(overlap)
        if len(tokens):
            spans.append((int(tokens[0]), int(tokens[-1])))
    return spans
