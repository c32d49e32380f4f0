"""One encoder or encoder-decoder, all heads: a single pass over a micro-batch that mixes tasks.

Every forward pass touches the same parameters in the same order, whatever tasks are in the batch:
the fused maps are always applied, and what has no use for them is multiplied by zero. Without
that, ZeRO's gradient buckets of two processes would hold different heads' gradients, and the sums
would be silently wrong.

Shapes: B sequences, T tokens, D tokens of the decoder (T of an encoder), H hidden, N examples of
one head type, K options, G sentence heads.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from muppet_zoo.generation import Generation
from muppet_zoo.heads import HEADS
from muppet_zoo.model_folder import BeamSearch, HeadLayout
from muppet_zoo.run import R3F
from muppet_zoo.targets import SENTENCE, TOKEN, VOCABULARY
from muppet_zoo_torch import backbone, r3f
from muppet_zoo_torch.batch import TensorBatch, TensorRows
from muppet_zoo_torch.fused import FusedLinear
from muppet_zoo_torch.heads import HEAD_MATH, HeadInput, SlotTable, slot_table

# RoBERTa's initializer_range; the encoder's configuration wins where it states one.
INITIALIZER_RANGE = 0.02


class MultiTaskModel(nn.Module):
    """An encoder or encoder-decoder and the fused heads of `layout`.

    head_dense: a layer with tanh before the sentence heads, as RoBERTa's and BART's classifiers
    have: `none`, one that is `shared`, or one `per_task`. Spans and tags have none, as there.
    """

    def __init__(
        self,
        encoder: nn.Module,
        layout: HeadLayout,
        *,
        pooling: str,
        dropout: float,
        head_dense: str = "none",
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.layout = layout
        self.pooling = pooling
        self.head_dense = head_dense
        self.scale_losses = True
        self.label_smoothing = 0.0  # of generation alone
        self.r3f: R3F | None = None  # set by `regularise`
        self.beam_search = BeamSearch()
        # Of matrix products alone: parameters stay single precision. With fp16 the engine scales
        # the loss.
        self.precision = "fp32"
        self.tokenizer_files: dict[str, bytes] = {}  # what goes beside the encoder when saved
        backbone.freeze_unused(encoder, generates=layout.generates)
        hidden = int(encoder.config.hidden_size)  # type: ignore[union-attr, arg-type]
        self.dropout = nn.Dropout(dropout)
        # The dense layers of all sentence heads are one map too, (G * H, H).
        num_dense = {"none": 0, "shared": 1}.get(head_dense, max(1, len(layout.sentence_starts)))
        self.dense = nn.Linear(hidden, num_dense * hidden) if num_dense else None
        # A level without tasks still has one column, so that all models have the same modules.
        self.sentence = _fused(hidden, layout, SENTENCE, layout.num_sentence_columns)
        self.token = _fused(hidden, layout, TOKEN, layout.num_token_columns)
        std = float(getattr(encoder.config, "initializer_range", INITIALIZER_RANGE))
        for linear in filter(None, (self.dense, self.sentence, self.token)):
            nn.init.normal_(linear.weight, std=std)
            nn.init.zeros_(linear.bias)
        self._slots: SlotTable | None = None

    def regularise(self, settings: R3F | None) -> None:
        """Train with R3F, or R4F where `settings` ask for it; None for neither."""
        self.r3f = settings
        for linear in (self.sentence, self.token):
            linear.spectral_norm = settings is not None and settings.spectral_norm

    def forward(self, batch: TensorBatch, *, predict: bool = False) -> Any:
        """Per-example losses, or predictions by head type.

        Returns:
            predict=False: (losses, tasks), each (examples,): groups in their order.
            predict=True: a dict from head type to that head's prediction tensor.
        """
        # Here and not around the module: DeepSpeed switches an autocast around its engine off.
        with self._autocast(batch):
            if predict:
                return self._predictions(batch)
            read = batch if batch.noise_keys is None else r3f.with_noised(batch)
            logits = self._logits(read)
        inputs = self._head_inputs(read, logits)
        # Else logits of one row that are not finite would spoil the losses of all others.
        touch = sum(torch.nan_to_num(0.0 * x.sum()) for x in logits.values())
        losses = torch.cat([self._loss(name, x, batch) for name, x in inputs.items()]) + touch
        tasks = torch.cat([rows.tasks for rows in batch.groups.values()])
        return losses, tasks

    def head_inputs(self, batch: TensorBatch) -> dict[str, HeadInput]:
        """What each head type reads and answers with, for those who want scores as well."""
        with self._autocast(batch):
            return self._head_inputs(batch, self._logits(batch))

    def _autocast(self, batch: TensorBatch) -> torch.autocast:
        dtype = torch.float16 if self.precision == "fp16" else torch.bfloat16
        device = batch.input_ids.device.type
        return torch.autocast(device, dtype, enabled=self.precision != "fp32")

    def _loss(self, name: str, x: HeadInput, batch: TensorBatch) -> Tensor:
        if batch.noise_keys is None or self.r3f is None:
            return HEAD_MATH[name].loss(x)
        return r3f.loss(name, x, self.r3f)

    def _noise(self, batch: TensorBatch) -> backbone.Noise | None:
        keys, settings = batch.noise_keys, self.r3f
        if keys is None or settings is None:
            return None
        return lambda num_tokens, size: r3f.noise(keys, num_tokens, size, settings)

    def _predictions(self, batch: TensorBatch) -> dict[str, Tensor]:
        found = {}
        if Generation.type in batch.groups:
            found[Generation.type] = self._generate(batch)
        if batch.groups.keys() - found.keys():
            for name, x in self._head_inputs(batch, self._logits(batch)).items():
                predict = HEAD_MATH[name].predict
                if predict is not None:
                    found[name] = predict(x)
        return found

    def _logits(self, batch: TensorBatch) -> dict[str, Tensor]:
        """By level: (B, S), (N, T, C) and, where anything is generated, (N, L, V)."""
        states = backbone.states(self.encoder, batch, self._noise(batch))
        pooled = self._dense(self.dropout(self._pool(states, batch)), batch)
        tokens = states[_token_sequences(batch)][:, : batch.input_ids.shape[1]]
        logits = {SENTENCE: self.sentence(pooled), TOKEN: self.token(self.dropout(tokens))}
        if self.layout.generates:
            answers = _answer_states(states, batch)
            logits[VOCABULARY] = backbone.vocabulary_logits(self.encoder, answers)
        return {level: x if self.precision == "fp32" else x.float() for level, x in logits.items()}

    def _pool(self, states: Tensor, batch: TensorBatch) -> Tensor:
        """(B, H): the first token's state, the mean over tokens, or the last token's.

        The last is the last end-of-sequence token, as in BartForSequenceClassification, which
        tokenizers put at the end; of a sequence without one it is the last token.
        """
        if self.pooling == "first":
            return states[:, 0]
        width = min(states.shape[1], batch.input_ids.shape[1])
        states, mask = states[:, :width], batch.attention_mask[:, :width]
        if self.pooling == "mean":
            weights = mask[..., None].to(states.dtype)
            return (states * weights).sum(1) / weights.sum(1)
        position = torch.arange(width, device=states.device)
        is_end = mask & (batch.input_ids[:, :width] == self._end_id())
        ends = is_end | ~is_end.any(-1, keepdim=True) & mask
        rows = torch.arange(len(states), device=states.device)
        return states[rows, (position * ends).argmax(-1)]

    def _end_id(self) -> int:
        found = getattr(self.encoder.config, "eos_token_id", None)
        return int(found) if isinstance(found, int) else -1

    def _dense(self, pooled: Tensor, batch: TensorBatch) -> Tensor:
        """(B, H) through the dense layer of each sequence's own head."""
        if self.dense is None:
            return pooled
        size, hidden = pooled.shape
        wide = torch.tanh(self.dense(pooled)).view(size, -1, hidden)  # (B, G, H)
        own = torch.zeros(size, dtype=torch.long, device=pooled.device)
        if self.head_dense == "per_task":
            dense = self._table(pooled.device).dense
            for name, rows in batch.groups.items():
                if HEADS[name].level == SENTENCE:
                    used = rows.sequences >= 0
                    own[rows.sequences[used]] = dense[rows.tasks][:, None].expand_as(used)[used]
        chosen: Tensor = wide[torch.arange(size, device=pooled.device), own]
        return self.dropout(chosen)  # type: ignore[no-any-return]

    def _head_inputs(self, batch: TensorBatch, logits: dict[str, Tensor]) -> dict[str, HeadInput]:
        slots = self._table(batch.input_ids.device)
        inputs, used = {}, 0
        for name, rows in batch.groups.items():
            level = HEADS[name].level
            own = logits[level]
            if level == SENTENCE:
                own, mask = own[rows.sequences.clamp(min=0)], rows.sequences >= 0
            elif level == TOKEN:
                own = own[used : used + len(rows.tasks)]
                mask = batch.attention_mask[rows.sequences[:, 0]]
                used += len(rows.tasks)
            else:
                mask = rows.target >= 0
            inputs[name] = HeadInput(
                logits=own,
                mask=mask,
                rows=rows,
                start=slots.start[rows.tasks],
                size=slots.size[rows.tasks],
                low=slots.low[rows.tasks],
                high=slots.high[rows.tasks],
                scale=self.scale_losses,
                label_smoothing=self.label_smoothing,
            )
        return inputs

    def _generate(self, batch: TensorBatch) -> Tensor:
        """(N, L) token ids of the answers; the longest that any of the tasks allows bounds L."""
        rows = batch.groups[Generation.type]
        limits = [self.layout.slots[task].max_target_tokens or 1 for task in rows.tasks.tolist()]
        return backbone.generate(
            self.encoder, batch, rows.sequences[:, 0], max(limits), self.beam_search
        )

    def _table(self, device: torch.device) -> SlotTable:
        if self._slots is None or self._slots.start.device != device:
            self._slots = slot_table(self.layout, device)
        return self._slots


def _fused(hidden: int, layout: HeadLayout, level: str, num_columns: int) -> FusedLinear:
    heads = [(slot.start, slot.size) for slot in layout.slots if slot.level == level]
    return FusedLinear(hidden, max(1, num_columns), heads)


def _token_sequences(batch: TensorBatch) -> Tensor:
    """Index in B of the sequences that token heads read, by group; the first one if none does."""
    groups: list[TensorRows] = [
        rows for name, rows in batch.groups.items() if HEADS[name].level == TOKEN
    ]
    if not groups:
        return torch.zeros(1, dtype=torch.long, device=batch.input_ids.device)
    return torch.cat([rows.sequences[:, 0] for rows in groups])


def _answer_states(states: Tensor, batch: TensorBatch) -> Tensor:
    """(N, L, H) states of the answers; one state of any sequence if none is generated."""
    rows = batch.groups.get(Generation.type)
    if rows is None:
        return states[:1, :1]
    return states[rows.sequences[:, 0], : rows.target.shape[1]]
