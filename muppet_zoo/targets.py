"""What every head type shares: a tokenizer's encoding as targets see it, and what they become."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import pyarrow as pa

UNLABELLED = -1


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
