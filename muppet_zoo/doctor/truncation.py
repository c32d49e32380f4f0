"""Answers that are cut off with a build's tokenizer and length: asked of the build's encoder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from muppet_zoo.doctor.records import Diagnosis, graded, listed
from muppet_zoo.doctor.sample import SampledRow, SplitSample, TaskSample
from muppet_zoo.doctor.thresholds import Thresholds

if TYPE_CHECKING:
    from muppet_zoo.encode import EncodedChunk, ExampleEncoder, TokenizerSource

_CUT = {
    "span": "the answer is in no window of the context",
    "token_classification": "words with labels are cut off",
    "generation": "the answer to be written is cut off",
    "multiple_choice": "options that differ are the same after the cut",
}


@dataclass(frozen=True, kw_only=True)
class TokenBudget:
    """What a build would be asked for: a tokenizer and the longest sequence."""

    tokenizer: TokenizerSource
    max_tokens: int


def check_truncation(
    sample: TaskSample, limits: Thresholds, budget: TokenBudget
) -> Iterator[Diagnosis]:
    """`answer_cut`, and `input_cut` for the other heads."""
    from muppet_zoo.encode import ExampleEncoder

    encoder = ExampleEncoder(sample.spec, budget.tokenizer, budget.max_tokens)
    for split in sample.labelled:
        fitting = [sampled for sampled in split.rows if sampled.examples]
        if fitting:
            yield from _of_split(sample, split, fitting, encoder, limits, budget.max_tokens)


def _of_split(
    sample: TaskSample,
    split: SplitSample,
    rows: list[SampledRow],
    encoder: ExampleEncoder,
    limits: Thresholds,
    max_tokens: int,
) -> Iterator[Diagnosis]:
    head = sample.spec.head.type
    answers, inputs = [], []
    for sampled in rows:
        chunk = encoder.encode([(sampled.number, sampled.row)], labelled=True)
        if chunk.num_targets_cut or _are_options_lost(sampled, chunk, head):
            answers.append(split.ref(sampled.number))
        if chunk.num_truncated:
            inputs.append(split.ref(sampled.number))
    # A span's context is cut into windows, and a document's words are cut with their labels.
    found = [("answer_cut", answers, _CUT.get(head, ""))]
    if head not in ("span", "token_classification"):
        found.append(("input_cut", inputs, "the input is cut"))
    for check, refs, what in found:
        share = len(refs) / len(rows)
        if refs:
            yield Diagnosis(
                task=sample.spec.name,
                check=check,
                severity=graded(share, warning=limits.common_fault)
                if check == "answer_cut"
                else graded(share, warning=limits.often_cut),
                subject=split.role,
                message=f"{what} at {max_tokens} tokens in {len(refs):,} of {len(rows):,} rows of "
                f"{split.role}",
                numbers={"rows": len(rows), "share": round(share, 4), "max_tokens": max_tokens},
                **listed(refs),
            )


def _are_options_lost(sampled: SampledRow, chunk: EncodedChunk, head: str) -> bool:
    if head != "multiple_choice" or not chunk.num_truncated:
        return False
    for example, ids in zip(
        sampled.examples, chunk.batch.column("input_ids").to_pylist(), strict=True
    ):
        texts = set(example.segments.sequences)
        if len({tuple(option) for option in ids}) < len(texts):
            return True
    return False
