"""What a pre-trained model gives the heads: states of an encoder, or of a decoder behind it.

An encoder-decoder reads every sequence with its encoder. Its decoder then says the answer, where
one is generated, or the sequence itself again, whose states are what the other heads read: BART's
way with classification and spans. All sequences of a micro-batch go through both in one pass, so
the modules run once and in the same order whatever tasks are in it.

Shapes: B sequences, T tokens, D tokens of the decoder, H hidden, V vocabulary. Source: Lewis et al.
2019, "BART", sections 3.1 to 3.3; Raffel et al. 2020, "T5", for the scale of its output layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from muppet_zoo.model_folder import BeamSearch
from muppet_zoo_torch import packing
from muppet_zoo_torch.batch import TensorBatch
from muppet_zoo_torch.pretrained import is_encoder_decoder

Noise = Callable[[int, int], Tensor]


def states(backbone: Any, batch: TensorBatch, noise: Noise | None = None) -> Tensor:
    """States of the last layer: an encoder's (B, T, H), or a decoder's (B, D, H).

    Where any sequence is read by another head than generation, D >= T. `noise` is added to what the
    encoder looks up for the last sequences; it is given the number of tokens and the size of an
    embedding, and gives (sequences, T, size).
    """
    given = _encoder_input(backbone, batch, noise)
    if packing.is_packed(backbone):
        return _packed_states(backbone, batch.attention_mask, given)
    mask = batch.attention_mask.long()
    if not is_encoder_decoder(backbone.config):
        encoded: Tensor = backbone(**given, attention_mask=mask).last_hidden_state
        return encoded
    encoded = backbone.get_encoder()(**given, attention_mask=mask).last_hidden_state
    # Padding is behind the tokens, and no token looks ahead, so the decoder needs no mask.
    decoded: Tensor = backbone.get_decoder()(
        input_ids=backbone.prepare_decoder_input_ids_from_labels(batch.decoder_text),
        encoder_hidden_states=encoded,
        encoder_attention_mask=mask,
        use_cache=False,
    ).last_hidden_state
    return decoded


def _encoder_input(backbone: Any, batch: TensorBatch, noise: Noise | None) -> dict[str, Tensor]:
    """Tokens or their noised embeddings, and segments where the encoder has any: (B, T, …)."""
    given = (
        {"input_ids": batch.input_ids}
        if noise is None
        else {"inputs_embeds": _noised(backbone, batch, noise)}
    )
    has_segments = getattr(backbone.config, "type_vocab_size", 0) > 1
    if has_segments and not is_encoder_decoder(backbone.config):
        given["token_type_ids"] = batch.segments
    return given


def _packed_states(backbone: Any, mask: Tensor, given: dict[str, Tensor]) -> Tensor:
    layout = packing.layout_of(mask)
    row = {name: layout.pack(padded) for name, padded in given.items()}
    read = backbone(**row, **packing.arguments(backbone, layout)).last_hidden_state
    return layout.unpack(read, len(mask))


def _noised(backbone: Any, batch: TensorBatch, noise: Noise) -> Tensor:
    encoder = backbone.get_encoder() if is_encoder_decoder(backbone.config) else backbone
    looked_up: Tensor = encoder.get_input_embeddings()(batch.input_ids)
    added = noise(looked_up.shape[1], looked_up.shape[2])
    num_clean = len(looked_up) - len(added)
    mask = batch.attention_mask[num_clean:, :, None]
    # In single precision at least, as the noise is, whatever the embeddings are.
    return torch.cat([looked_up[:num_clean], looked_up[num_clean:] + added * mask])


def vocabulary_logits(backbone: Any, decoded: Tensor) -> Tensor:
    """(…, H) states of the decoder → (…, V), by the model's own output layer."""
    logits: Tensor = backbone.get_output_embeddings()(decoded * _output_scale(backbone.config))
    bias = getattr(backbone, "final_logits_bias", None)
    return logits if bias is None else logits + bias[0]


def _output_scale(config: Any) -> float:
    """T5's output layer, where it is tied to the embeddings, reads states over sqrt(H); mT5's,
    which is a layer of its own, does not."""
    if config.model_type not in ("t5", "umt5"):
        return 1.0
    # Before transformers 5 the second flag stood for both.
    scaled = getattr(config, "scale_decoder_outputs", config.tie_word_embeddings)
    return float(config.d_model**-0.5) if scaled else 1.0


def generate(
    backbone: Any, batch: TensorBatch, sequences: Tensor, max_tokens: int, search: BeamSearch
) -> Tensor:
    """(N, L) token ids of the likeliest answer by beam search to each of N sequences.

    The model's own generation settings are left aside (`pretrained.load_encoder`).
    """
    from transformers import GenerationConfig

    config = backbone.config
    mask = batch.attention_mask[sequences]
    length = int(mask.sum(-1).max())
    answers: Tensor = backbone.generate(
        input_ids=batch.input_ids[sequences, :length],
        attention_mask=mask[:, :length].long(),
        generation_config=GenerationConfig(
            num_beams=search.num_beams,
            length_penalty=search.length_penalty,
            max_new_tokens=max_tokens,
            do_sample=False,
            pad_token_id=config.pad_token_id,
            eos_token_id=config.eos_token_id,
            bos_token_id=config.bos_token_id,
            decoder_start_token_id=config.decoder_start_token_id,
        ),
        # At ZeRO 3 every step of one process needs all of them.
        synced_gpus=_num_processes() > 1,
    )
    return answers


def _num_processes() -> int:
    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return 1
    return torch.distributed.get_world_size()


def freeze_unused(backbone: Any, *, generates: bool) -> None:
    """Leave an output layer of its own alone where nothing is generated.

    It would get no gradient, and the optimizer would let it decay.
    """
    if generates or not is_encoder_decoder(backbone.config):
        return
    tied = backbone.get_output_embeddings().weight is backbone.get_input_embeddings().weight
    if not tied:
        backbone.get_output_embeddings().requires_grad_(False)


def layers_of(backbone: Any) -> Sequence[nn.Module]:
    """The layers of the encoder, the lowest first; an empty list where none can be found."""
    encoder = backbone.get_encoder() if is_encoder_decoder(backbone.config) else backbone
    stacks = [m for m in encoder.modules() if isinstance(m, nn.ModuleList)]
    num_layers = getattr(backbone.config, "num_hidden_layers", None)
    return next((list(stack) for stack in stacks if len(stack) == num_layers), [])
