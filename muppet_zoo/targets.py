"""What every head type shares: what it reads of the model, the encoding that targets are aligned
with, and the forms that targets take in a shard and in a micro-batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import pyarrow as pa

UNLABELLED = -1
IGNORED = -100  # PyTorch's default ignore_index of cross_entropy
NO_TOKEN = -1  # of a word that was cut off, or is nothing to the tokenizer

# What a head reads: the pooled state of a sequence, the state of every token, or the states of the
# decoder through the model's own output layer.
SENTENCE, TOKEN, VOCABULARY = "sentence", "token", "vocabulary"


@dataclass(frozen=True, kw_only=True)
class TargetForm:
    """How the targets of N examples become one array.

    dtype: numpy's name. padding: what fills short lists; None where all have one shape.
    per_token: lists are as long as the micro-batch's longest sequence, not as the longest of them.
    """

    dtype: str = "int64"
    padding: int | None = None
    per_token: bool = False


class Encoding(Protocol):
    """The part of `tokenizers.Encoding` that targets are aligned with."""

    @property
    def ids(self) -> list[int]: ...
    @property
    def offsets(self) -> list[tuple[int, int]]: ...
    @property
    def word_ids(self) -> list[int | None]: ...
    @property
    def sequence_ids(self) -> list[int | None]: ...
    @property
    def overflowing(self) -> list[Any]: ...


@dataclass(frozen=True, kw_only=True)
class TargetColumns:
    """Arrow columns of a chunk; `num_cut` counts targets that truncation removed."""

    columns: dict[str, pa.Array]
    num_cut: int = 0
