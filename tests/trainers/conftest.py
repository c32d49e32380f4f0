"""Data and runs for the trainer tests: the quickstart zoo, built once with its own tiny encoder."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from muppet_zoo_torch.trainer import TorchTrainer

from muppet_zoo.build import BuildOptions, build
from muppet_zoo.encode import open_tokenizer
from muppet_zoo.run import Run, parse_run
from muppet_zoo.trainer_api import TrainRequest, tasks_of
from muppet_zoo.zoo import Zoo, load_zoo, shipped_specs

ENCODER = shipped_specs() / "quickstart" / "tiny_encoder"
ENCODER_DECODER = shipped_specs() / "quickstart" / "tiny_encoder_decoder"
GENERATED = "qs_summary"
ALL_HEADS = (
    "qs_find_thing",
    "qs_fitting_thing",
    "qs_mentions",
    "qs_similarity",
    GENERATED,
    "qs_topic",
    "qs_word_tags",
)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Equal sums whatever the machine, in what is made once too; and room for other processes."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def zoo() -> Zoo:
    return load_zoo()


@pytest.fixture(scope="session")
def quickstart_tasks(zoo: Zoo) -> tuple[str, ...]:
    """Every quickstart task that an encoder can learn, the ones outside of the mixture too."""
    return tuple(sorted(n for n in zoo.tasks if n.startswith("qs_") and n != GENERATED))


@pytest.fixture(scope="session")
def quickstart_data(
    zoo: Zoo, quickstart_tasks: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Train and validation shards of every quickstart task, 48 rows each."""
    out = tmp_path_factory.mktemp("quickstart") / "data"
    tasks = [zoo.task(name) for name in (*quickstart_tasks, GENERATED)]
    build(
        tasks,
        tokenizer=open_tokenizer(str(ENCODER)),
        out=out,
        options=BuildOptions(limit=48, max_tokens=64),
    )
    return out


@pytest.fixture(scope="session")
def mixed_specs(
    quickstart_tasks: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A spec folder with a mixture `everything` of all quickstart tasks for encoders, and one
    `all_heads` for encoder-decoders."""
    folder = tmp_path_factory.mktemp("specs") / "mixtures"
    folder.mkdir()
    (folder / "everything.yaml").write_text(
        "mixture_version: 1\nname: everything\ndescription: Every quickstart task, for tests.\n"
        f"tasks: [{', '.join(quickstart_tasks)}]\n"
    )
    (folder / "all_heads.yaml").write_text(
        "mixture_version: 1\nname: all_heads\ndescription: A task of each head, for tests.\n"
        f"tasks: [{', '.join(ALL_HEADS)}]\n"
    )
    return folder.parent


@pytest.fixture(scope="session")
def seq2seq_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The configuration of a tiny encoder-decoder of a family, with the quickstart's tokenizer."""

    def make(family: str, **changes: Any) -> Path:
        from transformers import AutoConfig

        t5 = {"d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}
        bart = {
            "encoder_layers": 2,
            "decoder_layers": 2,
            "encoder_attention_heads": 2,
            "decoder_attention_heads": 2,
            "encoder_ffn_dim": 32,
            "decoder_ffn_dim": 32,
            "max_position_embeddings": 64,
        }
        size = {"vocab_size": 229, "d_model": 16, "bos_token_id": 0, "pad_token_id": 1,
                "eos_token_id": 2, "decoder_start_token_id": 2}  # fmt: skip
        size |= (t5 if "t5" in family else bart) | changes
        folder = tmp_path_factory.mktemp(family)
        AutoConfig.for_model(family, **size).save_pretrained(folder)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(ENCODER / name, folder)
        return folder

    return make


@pytest.fixture(scope="session")
def make_run(quickstart_data: Path) -> Callable[..., Run]:
    """A run record: SGD without clipping, dropout on, everything else small; change by keyword."""

    def make(**changes: dict[str, Any] | Any) -> Run:
        from muppet_zoo.run import with_defaults

        data: dict[str, Any] = {
            "run_version": 1,
            "data": str(quickstart_data),
            "mixture": "everything",
            "seed": 7,
            "model": {"encoder": str(ENCODER), "random_init": True, "dropout": 0.1},
            "batching": {
                "tokens_per_micro_batch": 256,
                "micro_batches_per_step": 3,
                "window_examples": 64,
            },
            "optimizer": {"name": "sgd", "learning_rate": 0.1, "gradient_clipping": 0.0},
            "schedule": {"steps": 4, "decay": "constant", "warmup": 0},
            "evaluation": {"max_examples": 8},
            "logging": {"every_steps": 1},
        }
        for key, value in changes.items():
            if isinstance(value, dict):
                data[key] = {**data.get(key, {}), **value}
            else:
                data[key] = value
        return parse_run(with_defaults(data))

    return make


@pytest.fixture(scope="session")
def trained(
    make_run: Callable[..., Run], mixed_specs: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The output folder of a short run on all tasks by the torch trainer; not to be changed."""
    out = tmp_path_factory.mktemp("trained") / "out"
    run = make_run(checkpointing={"every_steps": 2}, evaluation={"max_examples": None})
    tasks, rates = tasks_of(run, load_zoo([mixed_specs]))
    TorchTrainer().train(TrainRequest(run=run, tasks=tasks, rates=rates, out=out))
    return out
