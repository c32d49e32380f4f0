"""Model folders of any family without training: random encoder, random heads, a real tokenizer."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from muppet_zoo_torch.model import MultiTaskModel
from muppet_zoo_torch.pretrained import load_encoder
from safetensors.torch import save_file
from tiny_zoo import write_tokenizer
from transformers import AutoConfig

from muppet_zoo.model_folder import (
    BeamSearch,
    Freeze,
    ModelFolder,
    lay_out,
    write_layout,
)
from muppet_zoo.spec import TaskSpec

SIZE = {
    "vocab_size": 120,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 80,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 3,
}
SEQ2SEQ = {
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "decoder_start_token_id": 3,
    "forced_eos_token_id": None,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "albert": {"embedding_size": 32},
    "bart": SEQ2SEQ,
    "bert": {},
    "camembert": {"type_vocab_size": 1},
    "deberta": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "type_vocab_size": 0},
    "deberta-v2": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 48},
    "electra": {"embedding_size": 32},
    "modernbert": {"cls_token_id": 2, "sep_token_id": 3},
    "mpnet": {},
    "roberta": {"type_vocab_size": 1},
    "t5": {
        "d_model": 32, "d_kv": 16, "d_ff": 48, "num_layers": 1, "num_heads": 2,
        "decoder_start_token_id": 0,
    },
    "xlm-roberta": {"type_vocab_size": 1},
}  # fmt: skip


def write_model_folder(
    folder: Path,
    family: str,
    specs: Sequence[TaskSpec],
    *,
    head_dense: str = "none",
    pooling: str | None = None,
    **settings: Any,
) -> ModelFolder:
    """A complete model folder; weights are large enough that no two answers are alike."""
    torch.manual_seed(0)
    source = folder.with_name(f"{folder.name}-config")
    config = AutoConfig.for_model(family, **{**SIZE, **FAMILIES[family], **settings})
    config.save_pretrained(source)
    encoder: Any = load_encoder(str(source), random_init=True)
    layout = lay_out(specs)
    model = MultiTaskModel(
        encoder,
        layout,
        pooling=pooling or ("end" if config.is_encoder_decoder else "first"),
        dropout=0.1,
        head_dense=head_dense,
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    encoder.save_pretrained(folder / "encoder")
    tokenizer = write_tokenizer(folder / "encoder").load()
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
    tokenizer.save(str(folder / "encoder" / "tokenizer.json"))
    tokens = {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
    }
    described = {"tokenizer_class": "PreTrainedTokenizerFast", **tokens}
    (folder / "encoder" / "tokenizer_config.json").write_text(json.dumps(described))
    heads = {k: v for k, v in model.state_dict().items() if not k.startswith("encoder.")}
    save_file(heads, folder / "heads.safetensors")
    made = ModelFolder(
        path=folder,
        layout=layout,
        pooling=model.pooling,
        dropout=0.1,
        head_dense=head_dense,
        beam_search=BeamSearch(),
        lora=None,
        freeze=Freeze(),
        step=4,
        seed=7,
    )
    write_layout(made)
    shutil.rmtree(source)
    return made
