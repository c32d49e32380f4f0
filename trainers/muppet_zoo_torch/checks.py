"""Whether built data and an encoder belong together, found before the first step is lost.

Ids of another tokenizer train without any error, and to no avail; ids beyond the vocabulary and
sequences beyond the positions crash somewhere inside the encoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from muppet_zoo.encode import open_tokenizer
from muppet_zoo.errors import NotTrainableError, UsageError
from muppet_zoo.model_folder import HeadLayout
from muppet_zoo.shards import BuiltSplit
from muppet_zoo.targets import VOCABULARY
from muppet_zoo_torch.pretrained import (
    ENCODER_DECODERS,
    first_position,
    is_encoder_decoder,
    read_config,
)


def check_can_generate(name: str, layout: HeadLayout) -> None:
    """Refuse tasks whose answers are generated where the model has no decoder.

    Raises:
        NotTrainableError: naming every such task.
        UsageError: the model's configuration cannot be read.
    """
    if not layout.generates:
        return
    config = read_config(name)
    if not is_encoder_decoder(config):
        listed = ", ".join(
            f"{slot.task} ({slot.head})" for slot in layout.slots if slot.level == VOCABULARY
        )
        raise NotTrainableError(
            f"model.encoder '{name}' ({config.model_type}) is an encoder alone and cannot generate "
            f"the answers of {listed}; that needs an encoder-decoder ({', '.join(ENCODER_DECODERS)}"
            f"). Leave these tasks out of the mixture, or choose another model.encoder"
        )


def check_data_fits(encoder: nn.Module, name: str, splits: Sequence[BuiltSplit]) -> None:
    """Refuse data that was not built for this encoder; `name` is its folder or hub name.

    Raises:
        UsageError: the data has another tokenizer, more token ids or longer sequences; or the
            encoder has no tokenizer.
    """
    tokenizer = splits[0].manifest.tokenizer
    if open_tokenizer(name).digest != tokenizer.digest:
        raise UsageError(
            f"the data was built with another tokenizer than that of the encoder '{name}'; build "
            f"it with --tokenizer {name}"
        )
    vocab_size = int(encoder.config.vocab_size)  # type: ignore[union-attr, arg-type]
    if tokenizer.vocab_size > vocab_size:
        raise UsageError(
            f"the data has token ids up to {tokenizer.vocab_size - 1}, the encoder '{name}' knows "
            f"{vocab_size}; build the data with the encoder's own tokenizer"
        )
    longest = max(int(split.lengths.max()) for split in splits)
    room = max_tokens(encoder)
    if room is not None and longest > room:
        raise UsageError(
            f"the data has sequences of {longest} tokens, the encoder '{name}' reads at most "
            f"{room}; build it with --max-tokens {room}"
        )


def check_answers_fit(encoder: nn.Module, name: str, layout: HeadLayout) -> None:
    """Refuse answers that the decoder has no positions for.

    Raises:
        UsageError: naming the first such task.
    """
    room = max_tokens(encoder)
    for slot in layout.slots:
        if room is not None and (slot.max_target_tokens or 0) > room:
            raise UsageError(
                f"task {slot.task}: max_target_tokens is {slot.max_target_tokens}, '{name}' writes "
                f"at most {room}; lower it in the task's spec"
            )


def max_tokens(encoder: nn.Module) -> int | None:
    """Longest sequence the encoder has positions for; None when it has no such limit."""
    config: Any = encoder.config
    positions = getattr(config, "max_position_embeddings", None)
    if not isinstance(positions, int) or positions <= 0:
        return None
    return positions - first_position(config)
