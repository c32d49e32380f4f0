"""One encoder, all heads: a single pass over a micro-batch that mixes tasks.

Every forward pass touches the same parameters in the same order, whatever tasks are in the batch:
the two fused maps are always applied, and what has no use for them is multiplied by zero. Without
that, ZeRO's gradient buckets of two processes would hold different heads' gradients, and the sums
would be silently wrong.

Shapes: B sequences, T tokens, H hidden, N examples of one head type, K options.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from muppet_zoo.errors import UsageError
from muppet_zoo.model_folder import HeadLayout
from muppet_zoo_torch.batch import TensorBatch, TensorRows
from muppet_zoo_torch.heads import HEAD_MATH, HeadInput, SlotTable, slot_table

# RoBERTa's initializer_range; the encoder's configuration wins where it states one.
INITIALIZER_RANGE = 0.02
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
)


class MultiTaskModel(nn.Module):
    """An encoder and the fused heads of `layout`."""

    def __init__(
        self, encoder: nn.Module, layout: HeadLayout, *, pooling: str, dropout: float
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.layout = layout
        self.pooling = pooling
        self.scale_losses = True
        self.bf16 = False  # matrix products alone; parameters stay single precision
        self.tokenizer_files: dict[str, bytes] = {}  # what goes beside the encoder when saved
        hidden = int(encoder.config.hidden_size)  # type: ignore[union-attr, arg-type]
        self.dropout = nn.Dropout(dropout)
        # A level without tasks still has one column, so that all models have the same modules.
        self.sentence = nn.Linear(hidden, max(1, layout.num_sentence_columns))
        self.token = nn.Linear(hidden, max(1, layout.num_token_columns))
        std = float(getattr(encoder.config, "initializer_range", INITIALIZER_RANGE))
        for linear in (self.sentence, self.token):
            nn.init.normal_(linear.weight, std=std)
            nn.init.zeros_(linear.bias)
        self._slots: SlotTable | None = None

    def forward(self, batch: TensorBatch, *, predict: bool = False) -> Any:
        """Per-example losses, or predictions by head type.

        Returns:
            predict=False: (losses, tasks), each (examples,): groups in their order.
            predict=True: a dict from head type to that head's prediction tensor.
        """
        # Here and not around the module: DeepSpeed switches an autocast around its engine off.
        with torch.autocast(batch.input_ids.device.type, torch.bfloat16, enabled=self.bf16):
            hidden = self._encode(batch)
            sentence_logits = self.sentence(self.dropout(self._pool(hidden, batch.attention_mask)))
            token_logits = self.token(self.dropout(hidden[_token_sequences(batch)]))
        inputs = self._head_inputs(batch, sentence_logits.float(), token_logits.float())
        if predict:
            return {name: HEAD_MATH[name].predict(x) for name, x in inputs.items()}
        touch = 0.0 * (sentence_logits.float().sum() + token_logits.float().sum())
        losses = torch.cat([HEAD_MATH[name].loss(x) for name, x in inputs.items()]) + touch
        tasks = torch.cat([rows.tasks for rows in batch.groups.values()])
        return losses, tasks

    def _encode(self, batch: TensorBatch) -> Tensor:
        """(B, T, H) states of the last layer."""
        arguments: dict[str, Tensor] = {
            "input_ids": batch.input_ids,
            "attention_mask": batch.attention_mask.long(),
        }
        if getattr(self.encoder.config, "type_vocab_size", 0) > 1:
            arguments["token_type_ids"] = batch.segments
        states: Tensor = self.encoder(**arguments).last_hidden_state
        return states

    def _pool(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """(B, H): the first token's state, or the mean over tokens."""
        if self.pooling == "first":
            return hidden[:, 0]
        weights = mask[..., None].to(hidden.dtype)
        return (hidden * weights).sum(1) / weights.sum(1)

    def _head_inputs(
        self, batch: TensorBatch, sentence_logits: Tensor, token_logits: Tensor
    ) -> dict[str, HeadInput]:
        slots = self._table(sentence_logits.device)
        inputs, used = {}, 0
        for name, rows in batch.groups.items():
            if HEAD_MATH[name].level == "sentence":
                logits = sentence_logits[rows.sequences.clamp(min=0)]
                mask = rows.sequences >= 0
            else:
                logits = token_logits[used : used + len(rows.tasks)]
                mask = batch.attention_mask[rows.sequences[:, 0]]
                used += len(rows.tasks)
            inputs[name] = HeadInput(
                logits=logits,
                mask=mask,
                rows=rows,
                start=slots.start[rows.tasks],
                size=slots.size[rows.tasks],
                low=slots.low[rows.tasks],
                high=slots.high[rows.tasks],
                scale=self.scale_losses,
            )
        return inputs

    def _table(self, device: torch.device) -> SlotTable:
        if self._slots is None or self._slots.start.device != device:
            self._slots = slot_table(self.layout, device)
        return self._slots


def _token_sequences(batch: TensorBatch) -> Tensor:
    """Index in B of the sequences that token heads read, by group; the first one if none does."""
    groups: list[TensorRows] = [
        rows for name, rows in batch.groups.items() if HEAD_MATH[name].level == "token"
    ]
    if not groups:
        return torch.zeros(1, dtype=torch.long, device=batch.input_ids.device)
    return torch.cat([rows.sequences[:, 0] for rows in groups])


def load_encoder(name: str, *, random_init: bool) -> nn.Module:
    """A Hugging Face encoder without its pooling layer, which no head reads.

    Weights are read from safetensors alone and no remote code is run.

    Raises:
        UsageError: when the folder or name holds no usable encoder.
    """
    from transformers import AutoConfig, AutoModel

    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
    except Exception as error:  # odd values make the library raise whatever it runs into
        raise _unreadable(name, error) from error
    _check_kind(name, config)
    extra = {"add_pooling_layer": False} if _has_pooler(config) else {}
    if random_init:
        try:
            encoder = AutoModel.from_config(config, trust_remote_code=False, **extra)
        except Exception as error:  # as above
            raise _unreadable(name, error) from error
        return encoder.float()  # type: ignore[no-any-return]
    if Path(name).is_dir() and not list(Path(name).glob("*.safetensors")):
        raise UsageError(
            f"no .safetensors weights in {name}; set model.random_init: true to start from random "
            f"weights, or save the model again with save_pretrained"
        )
    with quiet_transformers():
        try:
            encoder, info = AutoModel.from_pretrained(
                name,
                use_safetensors=True,
                trust_remote_code=False,
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # told below, by name
                **extra,
            )
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # as above
            raise _unreadable(name, error) from error
    # Surplus weights (a pooler, a pre-training head) are of no use here; missing ones would be
    # left random, and nobody would notice.
    if missing := sorted(info["missing_keys"]):
        raise UsageError(f"the weights of '{name}' lack {len(missing)} parameters: {_few(missing)}")
    if misfits := sorted(key for key, *_ in info["mismatched_keys"]):
        raise UsageError(
            f"the weights of '{name}' do not fit its config.json; {len(misfits)} parameters have "
            f"another shape: {_few(misfits)}"
        )
    return encoder  # type: ignore[no-any-return]


def _check_kind(name: str, config: Any) -> None:
    """Refuse what is no encoder of text: those have masked-language models."""
    from transformers import AutoModelForMaskedLM

    if getattr(config, "is_encoder_decoder", False):
        raise UsageError(
            f"model.encoder '{name}' is an encoder-decoder; those cannot be trained yet"
        )
    text = type(config) in AutoModelForMaskedLM._model_mapping
    if not text or getattr(config, "is_decoder", False):
        raise UsageError(
            f"model.encoder '{name}' ({config.model_type}) is no bidirectional text encoder, such "
            f"as BERT, RoBERTa or DeBERTa; no other model can be trained"
        )


def read_tokenizer(encoder: str) -> dict[str, bytes]:
    """The tokenizer files of an encoder by name: a folder's as they are, or the hub's.

    Raises:
        UsageError: they cannot be read.
    """
    try:
        if Path(encoder).is_dir():
            return _tokenizer_files(Path(encoder))
        from transformers import AutoTokenizer

        with TemporaryDirectory() as folder:
            AutoTokenizer.from_pretrained(encoder, trust_remote_code=False).save_pretrained(folder)
            return _tokenizer_files(Path(folder))
    except (OSError, ValueError) as error:
        raise UsageError(f"the tokenizer of '{encoder}' cannot be read: {first_line(error)}") from (
            error
        )


def _tokenizer_files(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in _TOKENIZER_FILES
            if (folder / name).is_file()}  # fmt: skip


def _unreadable(name: str, error: Exception) -> UsageError:
    where = "" if Path(name).is_dir() else "there is no such folder, and as a name on the hub: "
    return UsageError(f"model.encoder '{name}' cannot be read: {where}{first_line(error)}")


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """No bars and load reports of the library; the loop has a display of its own."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        logging.enable_progress_bar()


def _has_pooler(config: Any) -> bool:
    from transformers import AutoModel

    model_class = AutoModel._model_mapping[type(config)]
    return "add_pooling_layer" in inspect.signature(model_class.__init__).parameters


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def first_line(error: Exception) -> str:
    """The first line of a library's message; its kind when it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
