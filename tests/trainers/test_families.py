"""The encoder families that the README names, tiny and random: train, save, load, predict."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ENCODER
from muppet_zoo_torch.batch import to_tensors
from muppet_zoo_torch.engine import TorchEngine
from muppet_zoo_torch.evaluate import pad_id
from muppet_zoo_torch.export import load_model, write_model
from muppet_zoo_torch.plan import Plan, make_plan
from muppet_zoo_torch.pretrained import ENCODER_DECODERS, load_encoder
from muppet_zoo_torch.trainer import make_model
from transformers import AutoConfig, AutoModel

from muppet_zoo.collate import collate
from muppet_zoo.errors import UsageError
from muppet_zoo.model_folder import find_model
from muppet_zoo.run import Run
from muppet_zoo.trainer_api import TrainRequest, tasks_of
from muppet_zoo.zoo import load_zoo

SIZE = {
    "vocab_size": 1200,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 80,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "bert": {},
    "roberta": {"type_vocab_size": 1},
    "deberta-v2": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    "modernbert": {"cls_token_id": 0, "sep_token_id": 2},
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 48},
    "electra": {"embedding_size": 32},
}


def config_folder(family: str, tmp_path: Path, **changes: Any) -> Path:
    config = AutoConfig.for_model(family, **{**SIZE, **FAMILIES.get(family, {}), **changes})
    config.save_pretrained(tmp_path / "config")
    shutil.copy(ENCODER / "tokenizer.json", tmp_path / "config")
    return tmp_path / "config"


def plan_for(run: Run, specs: Path, out: Path) -> Plan:
    tasks, rates = tasks_of(run, load_zoo([specs]))
    return make_plan(TrainRequest(run=run, tasks=tasks, rates=rates, out=out))


@pytest.mark.parametrize("family", [*FAMILIES, *ENCODER_DECODERS])
def test_a_family_trains_and_comes_back(
    family: str,
    make_run: Callable[..., Run],
    seq2seq_folder: Callable[..., Path],
    mixed_specs: Path,
    tmp_path: Path,
) -> None:
    if family in FAMILIES:
        run = make_run(model={"encoder": str(config_folder(family, tmp_path)), "dropout": 0.0})
    else:
        model = {"encoder": str(seq2seq_folder(family)), "dropout": 0.0}
        run = make_run(model=model, mixture="all_heads")
    plan = plan_for(run, mixed_specs, tmp_path)
    assert pad_id(make_model(plan)) == 1, "RoBERTa counts positions from its padding id"
    engine = TorchEngine(make_model(plan), run, torch.device("cpu"))
    step = next(iter(plan.batcher.steps()))
    batch = to_tensors(collate(step.micro_batches[0], plan.pool, pad_id(engine.model)),
                       engine.device)  # fmt: skip
    losses, _ = engine.forward(batch)
    engine.backward(losses.sum() / len(losses), last=True)
    idle = [n for n, p in engine.model.named_parameters() if p.grad is None]
    assert idle == [], "ZeRO 3 repeats the last gradient of a parameter that gets none"
    engine.step([0.1, 0.1, 0.1])

    write_model(engine, plan, tmp_path / "model", step=1)
    loaded = load_model(find_model(tmp_path / "model"), engine.device)
    engine.model.eval()
    with torch.no_grad():
        ours = engine.forward(batch, predict=True)
        theirs = loaded(batch, predict=True)
    assert all(torch.allclose(ours[head].float(), theirs[head].float()) for head in ours)
    AutoModel.from_pretrained(tmp_path / "model" / "encoder")


@pytest.mark.parametrize(
    ("family", "message"),
    [("longt5", r"\(longt5\) is an encoder-decoder that cannot be trained; those that can: bart"),
     ("gpt2", r"\(gpt2\) is no bidirectional text encoder, .* and no encoder-decoder")],
)  # fmt: skip
def test_other_models_are_refused(family: str, message: str, tmp_path: Path) -> None:
    AutoConfig.for_model(family).save_pretrained(tmp_path)
    with pytest.raises(UsageError, match=message):
        load_encoder(str(tmp_path), random_init=True)


def test_missing_weights_are_not_left_random(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    config = AutoConfig.from_pretrained(config_folder("bert", tmp_path))
    AutoModel.from_config(config, add_pooling_layer=False).save_pretrained(tmp_path / "whole")
    state = load_file(tmp_path / "whole" / "model.safetensors")
    state.pop("embeddings.LayerNorm.weight")
    save_file(state, tmp_path / "whole" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UsageError, match=r"lack 1 parameters: embeddings\.LayerNorm\.weight"):
        load_encoder(str(tmp_path / "whole"), random_init=False)
