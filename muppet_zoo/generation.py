"""Answers that are written, token by token, by an encoder-decoder.

The model learns token ids, cut where they are too many; scores compare with the whole text, so a
shard holds both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from muppet_zoo.formats import Segments
from muppet_zoo.rows import Row, RowProblem, Template
from muppet_zoo.targets import IGNORED, VOCABULARY, Encoding, TargetColumns, TargetForm

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The text of one example's answer, and its encoding of at most `max_target_tokens`."""

    text: str
    encoding: Encoding


@dataclass(frozen=True, kw_only=True)
class Generation:
    """A text that answers the input, token by token."""

    type: ClassVar[str] = "generation"
    level: ClassVar[str] = VOCABULARY
    target_form: ClassVar[TargetForm] = TargetForm(padding=IGNORED)
    formats: ClassVar[frozenset[str]] = frozenset({"text_to_text"})
    target_kinds: ClassVar[frozenset[str]] = frozenset({"string"})
    target: Template
    max_target_tokens: int = 128
    shared_head: str | None = None

    @property
    def num_columns(self) -> int:
        return 0  # the output layer is the model's own

    def columns(self) -> tuple[str, ...]:
        return self.target.columns

    def read_target(self, row: Row, segments: Segments) -> str:
        text = self.target.render(row)
        if not text.strip():
            raise RowProblem(f"no text in the target '{self.target.text}'")
        return text

    def histogram_keys(self, target: str) -> tuple[str, ...]:
        return ()

    def target_columns(
        self,
        targets: Sequence[Answer | None],
        encodings: Sequence[Encoding],
        token_type: pa.DataType,
    ) -> TargetColumns:
        """Here a target went through the tokenizer first."""
        import pyarrow as pa

        from muppet_zoo.arrow_columns import number_lists, texts

        ids = [[] if target is None else target.encoding.ids for target in targets]
        answers = ["" if target is None else target.text for target in targets]
        return TargetColumns(
            columns={
                "target": number_lists(ids, token_type),
                "answer": texts(answers, pa.large_string()),
            },
            num_cut=sum(bool(target and target.encoding.overflowing) for target in targets),
        )
