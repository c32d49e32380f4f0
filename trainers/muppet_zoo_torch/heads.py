"""What each head type computes from the fused logits: per-example losses and predictions.

Shapes: B sequences, T tokens, N examples of one head type, K options or labels, S columns of the
sentence map, C columns of the token map, L tokens of the longest answer, V tokens of the
vocabulary.

Every loss is per example and already divided by the log of its number of outcomes, so that with
uniform predictions it is 1 whatever the task (MUPPET, arXiv:2101.11038, section 3.2). Nothing here
averages over examples: one place, the loop, divides by the number of examples of the whole step.
Where the paper is silent we chose: a choice has as many outcomes as that example has options; a
span as many as it has tokens, mean of start and end; a tag sequence is the mean over its scored
tokens; of multi-label each label is a two-way outcome and the mean is taken; an answer is the mean
over its tokens, each of which has as many outcomes as the vocabulary has tokens; regression is not
scaled, its target is moved to [0, 1] (as fairseq's GLUE recipe does for STS-B).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from muppet_zoo.model_folder import HeadLayout
from muppet_zoo.targets import IGNORED, SENTENCE
from muppet_zoo_torch.batch import TensorRows
from muppet_zoo_torch.decode import ANSWER, CHOICE, LABEL_SET, NUMBER, PLAIN, TAGS, TEXT, Decoder

Distributions = tuple[Tensor, Tensor]


@dataclass(frozen=True, kw_only=True)
class SlotTable:
    """The layout as tensors, one entry per task.

    start, size: columns (long). dense: which of the per-task dense layers is the task's. low, high:
    the scale.
    """

    start: Tensor
    size: Tensor
    dense: Tensor
    low: Tensor
    high: Tensor


@dataclass(frozen=True, kw_only=True)
class HeadInput:
    """What a head function reads.

    logits: sentence heads (N, K, S), rows of padding sequences are arbitrary;
            token heads (N, T, C); generation (N, L, V), what the decoder says at each place.
    mask: (N, K) real options, or (N, T) real tokens, or (N, L) real tokens of the answer.
    start, size, low, high: (N,) of each example's task.
    """

    logits: Tensor
    mask: Tensor
    rows: TensorRows
    start: Tensor
    size: Tensor
    low: Tensor
    high: Tensor
    scale: bool
    label_smoothing: float = 0.0

    def halves(self) -> tuple[HeadInput, HeadInput]:
        """The first and the second half of the examples."""
        first, second = (
            {
                field.name: _half(getattr(self, field.name), number)
                for field in fields(self)
                if field.name not in ("scale", "label_smoothing")
            }
            for number in (0, 1)
        )
        return replace(self, **first), replace(self, **second)


def _half(value: Any, number: int) -> Any:
    if isinstance(value, TensorRows):
        return TensorRows(
            **{field.name: _half(getattr(value, field.name), number) for field in fields(value)}
        )
    return value.chunk(2)[number]


def slot_table(layout: HeadLayout, device: torch.device) -> SlotTable:
    """The layout's slots as tensors on `device`."""
    ranges = [slot.range or (0.0, 1.0) for slot in layout.slots]
    starts = layout.sentence_starts
    dense = [starts.index(s.start) if s.level == SENTENCE else 0 for s in layout.slots]
    return SlotTable(
        start=torch.tensor([slot.start for slot in layout.slots], device=device),
        size=torch.tensor([slot.size for slot in layout.slots], device=device),
        dense=torch.tensor(dense, device=device),
        low=torch.tensor([low for low, _ in ranges], device=device),
        high=torch.tensor([high for _, high in ranges], device=device),
    )


def _own_columns(x: HeadInput) -> Tensor:
    """(N, S or C) true for the columns of each example's task."""
    column = torch.arange(x.logits.shape[-1], device=x.logits.device)
    return (column >= x.start[:, None]) & (column < (x.start + x.size)[:, None])


def _per_outcomes(loss: Tensor, num_outcomes: Tensor, scale: bool) -> Tensor:
    return loss / num_outcomes.to(loss.dtype).log() if scale else loss


# --- sentence level --------------------------------------------------------------------------


def _classification_logits(x: HeadInput) -> Tensor:
    return x.logits[:, 0].masked_fill(~_own_columns(x), -math.inf)


def _classification_loss(x: HeadInput) -> Tensor:
    target = x.rows.target
    index = x.start + target.clamp(min=0)
    loss = F.cross_entropy(_classification_logits(x), index, reduction="none")
    return _per_outcomes(loss, x.size, x.scale).where(target >= 0, 0.0)


def _classification_prediction(x: HeadInput) -> Tensor:
    return _classification_logits(x).argmax(-1) - x.start


def _multi_label_loss(x: HeadInput) -> Tensor:
    own, target = _own_columns(x), x.rows.target
    hot = torch.zeros_like(x.logits[:, 0])
    index = x.start[:, None] + target.clamp(min=0)
    hot = hot.scatter_add(1, index, (target >= 0).to(hot.dtype))
    loss = F.binary_cross_entropy_with_logits(x.logits[:, 0], hot, reduction="none")
    mean = (loss * own).sum(-1) / x.size
    return _per_outcomes(mean, torch.full_like(x.size, 2), x.scale)


def _multi_label_prediction(x: HeadInput) -> Tensor:
    """(N, S) true for predicted columns, shifted so that a task's first label is column 0."""
    hot = (x.logits[:, 0] > 0) & _own_columns(x)
    column = torch.arange(hot.shape[1], device=hot.device)
    shifted = (column + x.start[:, None]).clamp(max=hot.shape[1] - 1)
    return hot.gather(1, shifted) & (column < x.size[:, None])


def _regression_loss(x: HeadInput) -> Tensor:
    target = (x.rows.target - x.low) / (x.high - x.low)
    known = ~target.isnan()
    score = x.logits[:, 0].gather(1, x.start[:, None])[:, 0]
    return (score - target.nan_to_num()).square().where(known, 0.0)


def _regression_prediction(x: HeadInput) -> Tensor:
    score = x.logits[:, 0].gather(1, x.start[:, None])[:, 0]
    return x.low + score * (x.high - x.low)


def _choice_scores(x: HeadInput) -> Tensor:
    index = x.start[:, None, None].expand(-1, x.logits.shape[1], 1)
    return x.logits.gather(2, index)[..., 0].masked_fill(~x.mask, -math.inf)


def _choice_loss(x: HeadInput) -> Tensor:
    target = x.rows.target
    loss = F.cross_entropy(_choice_scores(x), target.clamp(min=0), reduction="none")
    return _per_outcomes(loss, x.mask.sum(-1), x.scale).where(target >= 0, 0.0)


def _choice_prediction(x: HeadInput) -> Tensor:
    return _choice_scores(x).argmax(-1)


def _over_labels(x: HeadInput) -> Distributions:
    return _classification_logits(x)[:, None], torch.ones_like(x.low)[:, None]


def _each_label(x: HeadInput) -> Distributions:
    """(N, S, 2): each label holds or does not."""
    logits = x.logits[:, 0]
    own = _own_columns(x)
    return torch.stack([logits, torch.zeros_like(logits)], -1), own / x.size[:, None]


def _over_options(x: HeadInput) -> Distributions:
    return _choice_scores(x)[:, None], torch.ones_like(x.low)[:, None]


# --- token level -----------------------------------------------------------------------------


def _tag_logits(x: HeadInput) -> Tensor:
    return x.logits.masked_fill(~_own_columns(x)[:, None], -math.inf)


def _tag_loss(x: HeadInput) -> Tensor:
    target = x.rows.target
    scored = target != IGNORED
    index = x.start[:, None] + target.where(scored, 0)
    loss = F.cross_entropy(_tag_logits(x).transpose(1, 2), index, reduction="none")
    mean = (loss * scored).sum(-1) / scored.sum(-1).clamp(min=1)
    return _per_outcomes(mean, x.size, x.scale)


def _tag_prediction(x: HeadInput) -> Tensor:
    return _tag_logits(x).argmax(-1) - x.start[:, None]


def _edge_logits(x: HeadInput) -> Tensor:
    """(N, T, 2) start and end scores, -inf on padding."""
    index = torch.stack([x.start, x.start + 1], dim=-1)[:, None].expand(-1, x.logits.shape[1], 2)
    return x.logits.gather(2, index).masked_fill(~x.mask[..., None], -math.inf)


def _span_loss(x: HeadInput) -> Tensor:
    target = x.rows.target
    known = (target >= 0).all(-1)
    loss = F.cross_entropy(_edge_logits(x), target.clamp(min=0), reduction="none").mean(-1)
    return _per_outcomes(loss, x.mask.sum(-1), x.scale).where(known, 0.0)


def _span_prediction(x: HeadInput) -> Tensor:
    return _edge_logits(x).float()


def _each_tag(x: HeadInput) -> Distributions:
    scored = x.rows.target != IGNORED
    return _tag_logits(x), scored / scored.sum(-1, keepdim=True).clamp(min=1)


def _start_and_end(x: HeadInput) -> Distributions:
    return _edge_logits(x).transpose(1, 2), torch.full_like(x.low, 0.5)[:, None].expand(-1, 2)


# --- vocabulary level ------------------------------------------------------------------------


def _generation_loss(x: HeadInput) -> Tensor:
    target = x.rows.target
    loss = F.cross_entropy(
        x.logits.transpose(1, 2),
        target,
        reduction="none",
        ignore_index=IGNORED,
        label_smoothing=x.label_smoothing,
    )
    mean = loss.sum(-1) / x.mask.sum(-1).clamp(min=1)
    return _per_outcomes(mean, torch.full_like(x.size, x.logits.shape[-1]), x.scale)


def _each_token(x: HeadInput) -> Distributions:
    return x.logits, x.mask / x.mask.sum(-1, keepdim=True).clamp(min=1)


@dataclass(frozen=True, kw_only=True)
class HeadMath:
    """loss: (N,) per example. predict: what `decoder` turns into the metric's form.

    Generation has no `predict`: logits of the right answer are not enough, the model searches.
    distributions: logits (N, P, K) of what an example's loss is about, -inf where impossible, and
    the weight (N, P) of each; None for a head that predicts no distribution.
    """

    loss: Callable[[HeadInput], Tensor]
    predict: Callable[[HeadInput], Tensor] | None = None
    decoder: Decoder = PLAIN
    distributions: Callable[[HeadInput], Distributions] | None = None


HEAD_MATH: dict[str, HeadMath] = {
    "classification": HeadMath(
        loss=_classification_loss,
        predict=_classification_prediction,
        distributions=_over_labels,
    ),
    "generation": HeadMath(loss=_generation_loss, decoder=TEXT, distributions=_each_token),
    "multi_label": HeadMath(
        loss=_multi_label_loss,
        predict=_multi_label_prediction,
        decoder=LABEL_SET,
        distributions=_each_label,
    ),
    "multiple_choice": HeadMath(
        loss=_choice_loss, predict=_choice_prediction, decoder=CHOICE, distributions=_over_options
    ),
    "regression": HeadMath(loss=_regression_loss, predict=_regression_prediction, decoder=NUMBER),
    "span": HeadMath(
        loss=_span_loss, predict=_span_prediction, decoder=ANSWER, distributions=_start_and_end
    ),
    "token_classification": HeadMath(
        loss=_tag_loss, predict=_tag_prediction, decoder=TAGS, distributions=_each_tag
    ),
}
