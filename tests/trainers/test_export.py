"""The model folder: read by Hugging Face without us, by `eval`, and by the next training."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from muppet_zoo_torch.evaluate import evaluate_folder
from muppet_zoo_torch.export import load_model
from muppet_zoo_torch.model import MultiTaskModel
from muppet_zoo_torch.pretrained import load_encoder
from muppet_zoo_torch.trainer import TorchTrainer
from safetensors.torch import load_file, save_file

from muppet_zoo.cli.evaluate import command
from muppet_zoo.console import progress
from muppet_zoo.errors import CheckpointError
from muppet_zoo.model_folder import find_model
from muppet_zoo.results import read_reports
from muppet_zoo.run import Run
from muppet_zoo.trainer_api import EvalRequest, TrainRequest, tasks_of
from muppet_zoo.zoo import Zoo

CPU = torch.device("cpu")
TEXTS = ["the story is long", "a question"]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Any look at the network fails at once."""
    import socket

    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return


@pytest.fixture
def model(trained: Path) -> MultiTaskModel:
    return load_model(find_model(trained), CPU)


@pytest.fixture
def copy(trained: Path, tmp_path: Path) -> Path:
    """A model folder that a test may damage."""
    return Path(shutil.copytree(trained / "model", tmp_path / "model"))


def test_auto_model_and_auto_tokenizer_load_it(trained: Path, model: MultiTaskModel) -> None:
    from transformers import AutoModel, AutoTokenizer

    folder = trained / "model" / "encoder"
    encoder = AutoModel.from_pretrained(folder, add_pooling_layer=False).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(TEXTS, padding=True, return_tensors="pt")
    assert batch["input_ids"].shape[0] == 2
    inputs = {key: batch[key] for key in ("input_ids", "attention_mask")}
    with torch.no_grad():
        theirs = encoder(**inputs).last_hidden_state
        ours = model.encoder(**inputs).last_hidden_state
    assert torch.equal(theirs, ours)


def test_what_is_exported_is_what_was_trained(trained: Path) -> None:
    """The weights of the engine's own state, and not those the run began with."""
    state = load_file(
        trained / "checkpoints" / "step-00000004" / "state" / "parameters.safetensors"
    )
    encoder = load_file(trained / "model" / "encoder" / "model.safetensors")
    heads = load_file(trained / "model" / "heads.safetensors")
    assert sorted(heads) == ["sentence.bias", "sentence.weight", "token.bias", "token.weight"]
    exported = {**{f"encoder.{name}": value for name, value in encoder.items()}, **heads}
    assert exported.keys() == {name for name in state if "position_ids" not in name}
    assert all(torch.equal(exported[name], state[name]) for name in exported)
    before = load_file(
        trained / "checkpoints" / "step-00000002" / "model" / "encoder" / "model.safetensors"
    )
    assert any(not torch.equal(before[name], encoder[name]) for name in encoder)


def test_the_tokenizer_comes_along_byte_for_byte(trained: Path) -> None:
    source = Path(json.loads((trained / "run.json").read_text())["model"]["encoder"])
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (trained / "model" / "encoder" / name).read_bytes() == (source / name).read_bytes()


def test_eval_on_the_folder_equals_the_final_reports(
    trained: Path, quickstart_data: Path, zoo: Zoo
) -> None:
    final = [r for r in read_reports(trained / "reports.jsonl").reports if r.step == 4]
    arguments = [str(trained), "--data", str(quickstart_data), "--json"]
    done = CliRunner().invoke(command, arguments, catch_exceptions=False)
    rows = json.loads(done.stdout)
    found = {(row["task"], row["metric"]): row for row in rows}
    assert {row["task"] for row in rows} == {report.task for report in final}
    for report in final:
        for metric, score in report.scores.items():
            row = found[report.task, metric]
            assert row["score"] == pytest.approx(score, abs=2e-4), (report.task, metric)
            assert (row["step"], row["seed"]) == (4, 7)
            assert row["num_examples"] == report.num_examples


@pytest.mark.parametrize("place", ["", "model", "checkpoints/step-00000002"])
def test_eval_takes_a_run_a_model_or_a_checkpoint(
    trained: Path, quickstart_data: Path, zoo: Zoo, place: str
) -> None:
    request = EvalRequest(
        checkpoint=trained / place, data=quickstart_data, tasks=(zoo.task("qs_topic"),)
    )
    with progress(quiet=True) as display:
        [report] = evaluate_folder(request, display)
    assert report.step == (2 if "checkpoints" in place else 4)


# --- damage ----------------------------------------------------------------------------------


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def no_safetensors(path: Path) -> None:
    path.write_bytes(b"not a safetensors file at all")


def lose(name: str) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        tensors = load_file(path)
        del tensors[name]
        save_file(tensors, path)

    return damage


def grow(name: str) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        tensors = load_file(path)
        save_file({**tensors, name: torch.cat([tensors[name], tensors[name]])}, path)

    return damage


def add(path: Path) -> None:
    save_file({**load_file(path), "surprise": torch.zeros(1)}, path)


@pytest.mark.parametrize(
    ("file", "damage", "message"),
    [
        ("heads.safetensors", Path.unlink, r"heads\.safetensors cannot be read"),
        ("heads.safetensors", truncate, r"heads\.safetensors cannot be read"),
        ("heads.safetensors", no_safetensors, r"heads\.safetensors cannot be read"),
        ("heads.safetensors", lose("token.bias"), r"missing \['token\.bias'\]"),
        ("heads.safetensors", add, r"unexpected \['surprise'\]"),
        ("heads.safetensors", grow("sentence.bias"), r"size mismatch for sentence\.bias"),
        ("encoder/model.safetensors", Path.unlink, r"no \.safetensors weights in"),
        ("encoder/model.safetensors", truncate, "cannot be read"),
        ("encoder/model.safetensors", no_safetensors, "cannot be read"),
        (
            "encoder/model.safetensors",
            lose("encoder.layer.0.attention.self.query.bias"),
            r"lack 1 parameters: encoder\.layer\.0\.attention\.self\.query\.bias",
        ),
        (
            "encoder/model.safetensors",
            grow("embeddings.LayerNorm.bias"),
            r"1 parameters have another shape: embeddings\.LayerNorm\.bias",
        ),
        ("encoder", shutil.rmtree, "encoder is missing"),
        ("encoder/config.json", Path.unlink, "cannot be read"),
        ("encoder/config.json", truncate, "cannot be read"),
        ("heads.json", truncate, r"heads\.json is damaged"),
    ],
)
def test_a_damaged_folder_is_an_error_of_the_checkpoint(
    copy: Path, file: str, damage: Callable[[Path], None], message: str
) -> None:
    damage(copy / file)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_model(find_model(copy), CPU)
    assert str(copy) in str(caught.value)


def test_a_task_that_is_named_twice_is_scored_once(trained: Path, quickstart_data: Path) -> None:
    twice = ("--task", "qs_topic", "--task", "qs_topic")
    arguments = [str(trained), "--data", str(quickstart_data), *twice, "--json"]
    rows = json.loads(CliRunner().invoke(command, arguments, catch_exceptions=False).stdout)
    assert len({row["metric"] for row in rows}) == len(rows)


# --- the next training -----------------------------------------------------------------------


def test_fine_tuning_starts_from_the_exported_encoder(
    trained: Path, make_run: Callable[..., Run], zoo: Zoo, tmp_path: Path
) -> None:
    """The same run with another `model.encoder`; and what comes out can be trained again."""
    encoder = trained / "model" / "encoder"
    for i in range(2):
        run = make_run(
            mixture=None,
            task="qs_reviews",
            model={"encoder": str(encoder), "random_init": False},
            # So small that nothing moves: what comes out shows what went in.
            optimizer={"learning_rate": 1e-30},
            schedule={"steps": 1},
        )
        tasks, rates = tasks_of(run, zoo)
        out = tmp_path / f"out-{i}"
        [report] = TorchTrainer().train(TrainRequest(run=run, tasks=tasks, rates=rates, out=out))
        assert report.task == "qs_reviews"
        assert (out / "model" / "encoder" / "tokenizer.json").is_file()
        before = load_encoder(str(encoder), random_init=False).state_dict()
        after = load_model(find_model(out), CPU).encoder.state_dict()
        assert before.keys() == after.keys()
        assert all(torch.equal(before[name], after[name]) for name in before)
        encoder = out / "model" / "encoder"
