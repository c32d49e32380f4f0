"""`muppet-zoo train` on wrong requests: a message that says what to do, and never a traceback."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from muppet_zoo_torch import loop, plan
from muppet_zoo_torch.trainer import run_lock

from muppet_zoo import cli
from muppet_zoo.build import BuildOptions, build
from muppet_zoo.encode import open_tokenizer
from muppet_zoo.metric_inputs import ScoreError
from muppet_zoo.results import TaskReport
from muppet_zoo.run import Run
from muppet_zoo.spec import TaskSpec, parse_task_spec
from muppet_zoo.yaml_reader import read_yaml
from muppet_zoo.zoo import Zoo, shipped_specs

TINY_ENCODER = shipped_specs() / "quickstart" / "tiny_encoder"


@dataclass(frozen=True, kw_only=True)
class Done:
    code: int
    stdout: str
    stderr: str


@pytest.fixture
def train(
    make_run: Callable[..., Run],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., Done]:
    """Run the command line on a one-step run of qs_topic; `changes` are `--set` values."""
    run = make_run(mixture=None, task="qs_topic", trainer="torch", schedule={"steps": 1})
    data = {key: value for key, value in run.raw.items() if value is not None}
    run_file = tmp_path / "run.yaml"
    run_file.write_text(json.dumps(data))

    def call(*arguments: str, out: Path | None = None, **changes: Any) -> Done:
        sets = [f"--set={key.replace('__', '.')}={value}" for key, value in changes.items()]
        where = str(out or tmp_path / "out")
        argv = ["muppet-zoo", "train", str(run_file), "--out", where, *sets, *arguments]
        monkeypatch.setattr(sys, "argv", argv)
        with pytest.raises(SystemExit) as caught:
            cli.main()
        printed = capsys.readouterr()
        return Done(code=int(caught.value.code or 0), stdout=printed.out, stderr=printed.err)

    return call


def refused(done: Done, code: int, *parts: str) -> None:
    assert done.code == code, done.stderr
    for part in parts:
        assert part in done.stderr
    assert "Traceback" not in done.stderr


def build_topic(
    spec: TaskSpec, out: Path, *, tokenizer: Path = TINY_ENCODER, limit: int = 20
) -> None:
    options = BuildOptions(limit=limit, max_tokens=64)
    build([spec], tokenizer=open_tokenizer(str(tokenizer)), out=out, options=options)


def other_tokenizer(folder: Path) -> Path:
    """The same tokenizer, but for its digest."""
    shutil.copytree(TINY_ENCODER, folder)
    path = folder / "tokenizer.json"
    path.write_text(path.read_text() + "\n")
    return folder


def encoder_with(folder: Path, **changes: Any) -> Path:
    """The tiny encoder's configuration, changed, and its tokenizer."""
    folder.mkdir()
    shutil.copy(TINY_ENCODER / "tokenizer.json", folder)
    config = json.loads((TINY_ENCODER / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))
    return folder


# --- data ------------------------------------------------------------------------------------


def test_no_data_folder(train: Callable[..., Done], tmp_path: Path) -> None:
    done = train(data=tmp_path / "absent")
    refused(done, 2, "no such data folder", "muppet-zoo build --out")
    assert not (tmp_path / "out").exists()


def test_data_that_is_not_built(train: Callable[..., Done], quickstart_data: Path) -> None:
    refused(
        train(task="boolq"), 1, f"task boolq, split train: not built in {quickstart_data}",
        "run muppet-zoo build boolq",
    )  # fmt: skip


def test_data_of_another_tokenizer_than_the_encoders(
    train: Callable[..., Done], zoo: Zoo, tmp_path: Path
) -> None:
    build_topic(zoo.task("qs_topic"), tmp_path / "data", tokenizer=other_tokenizer(tmp_path / "t"))
    refused(
        train(data=tmp_path / "data"), 2, "another tokenizer than that of the encoder",
        f"--tokenizer {TINY_ENCODER}",
    )  # fmt: skip


def test_tasks_of_different_tokenizers(
    train: Callable[..., Done], zoo: Zoo, quickstart_data: Path, mixed_specs: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(quickstart_data, data)
    shutil.rmtree(data / "qs_topic")
    build_topic(zoo.task("qs_topic"), data, tokenizer=other_tokenizer(tmp_path / "t"))
    done = train("--specs", str(mixed_specs), data=data, mixture="everything")
    refused(done, 1, "qs_topic/train was built with another tokenizer than", "one tokenizer")


def test_a_validation_split_of_another_tokenizer(
    train: Callable[..., Done], zoo: Zoo, tmp_path: Path
) -> None:
    data, spec = tmp_path / "data", zoo.task("qs_topic")
    build_topic(spec, tmp_path / "other", tokenizer=other_tokenizer(tmp_path / "t"))
    build_topic(spec, data)
    shutil.rmtree(data / "qs_topic" / "validation")
    shutil.copytree(tmp_path / "other/qs_topic/validation", data / "qs_topic/validation")
    refused(train(data=data), 1, "qs_topic/validation was built with another tokenizer than")


def my_spec(folder: Path, **changes: Any) -> TaskSpec:
    """A spec file of our own, beside its rows."""
    rows = [{"text": "a question", "label": ("yes", "no")[i % 2]} for i in range(12)]
    for role in ("train", "validation"):
        path = folder / f"{role}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {
        "spec_version": 1,
        "name": "mine",
        "family": "synthetic",
        "description": "Rows for a test, without any meaning.",
        "source": {
            "files": {"train": "train.jsonl", "validation": "validation.jsonl"},
            "columns": {"text": "string", "label": "string"},
            "splits": {"train": "train", "validation": "validation"},
        },
        "inputs": {"format": "single", "text": "{text}"},
        "head": {"type": "classification", "target": "label", "labels": ["no", "yes"]},
        "metrics": ["accuracy"],
        "license": "CC0-1.0",
        "citation": "Nobody, nowhere.",
        "homepage": "https://example.org",
        "languages": ["en"],
        **changes,
    }
    path = folder / "mine.yaml"
    path.write_text(json.dumps(data))
    return parse_task_spec(read_yaml(path))


@pytest.mark.parametrize(
    "change",
    [
        {"head": {"type": "classification", "target": "label", "labels": ["yes", "no"]}},
        {"inputs": {"format": "single", "text": "say: {text}"}},
    ],
    ids=["labels", "inputs"],
)
def test_a_spec_that_changed_after_the_build(
    train: Callable[..., Done], tmp_path: Path, change: dict[str, Any]
) -> None:
    specs, data = tmp_path / "specs", tmp_path / "data"
    build_topic(my_spec(specs), data)
    arguments = ("--specs", str(specs))
    assert train(*arguments, task="mine", data=data).code == 0
    my_spec(specs, **change)
    done = train(*arguments, task="mine", data=data, out=tmp_path / "second")
    refused(
        done, 1, "task mine, split train: ", "was built from another version of mine.yaml",
        "run muppet-zoo build mine again",
    )  # fmt: skip


def test_a_task_that_an_encoder_cannot_learn(train: Callable[..., Done]) -> None:
    done = train(task="xsum")
    refused(
        done, 1, "(roberta) is an encoder alone and cannot generate the answers of xsum ",
        "that needs an encoder-decoder (bart, mbart, t5, mt5, umt5)",
    )  # fmt: skip


@pytest.mark.parametrize("split", ["vaildation", "test"])
def test_a_split_to_score_that_no_task_has(train: Callable[..., Done], split: str) -> None:
    done = train(evaluation__split=split)
    refused(done, 2, f"no split of the run's tasks is named '{split}'")
    assert "validation" in done.stderr


def test_a_split_to_score_that_is_not_built_is_told(
    train: Callable[..., Done], zoo: Zoo, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    build_topic(zoo.task("qs_topic"), data)
    shutil.rmtree(data / "qs_topic" / "validation")
    done = train(data=data)
    assert done.code == 0
    assert "no validation split is built for qs_topic: trained, but not scored" in done.stderr
    assert f"{tmp_path / 'out' / 'model'} is not scored, since no validation split" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_training_that_is_not_scored_says_how_to_score_it(
    train: Callable[..., Done], tmp_path: Path, quickstart_data: Path, options: tuple[str, ...]
) -> None:
    done = train(*options, evaluation__at_end="false")
    assert (done.code, done.stdout) == (0, "[]\n" if options else "")
    told = done.stderr.splitlines()[-1]
    assert "is not scored, since evaluation.at_end is false; score it with: muppet-zoo" in told
    out = tmp_path / "out"
    assert told.endswith(f" eval {out} --data {quickstart_data} --split validation")


# --- the encoder -----------------------------------------------------------------------------


def test_a_vocabulary_that_is_too_small(train: Callable[..., Done], tmp_path: Path) -> None:
    done = train(model__encoder=encoder_with(tmp_path / "e", vocab_size=100))
    refused(done, 2, "the data has token ids up to 228, the encoder", "knows 100")


@pytest.mark.parametrize(
    ("family", "room"), [({}, 8), ({"model_type": "bert"}, 10)], ids=["roberta", "bert"]
)
def test_sequences_beyond_the_positions(
    train: Callable[..., Done], tmp_path: Path, family: dict[str, str], room: int
) -> None:
    encoder = encoder_with(tmp_path / "e", max_position_embeddings=10, **family)
    done = train(model__encoder=encoder)
    refused(done, 2, "the data has sequences of ", f"reads at most {room}", f"--max-tokens {room}")


def test_an_encoder_without_weights(train: Callable[..., Done]) -> None:
    done = train(model__random_init="false")
    refused(done, 2, f"no .safetensors weights in {TINY_ENCODER}", "model.random_init: true")


def test_an_encoder_whose_weights_are_another_models(
    train: Callable[..., Done], trained: Path, tmp_path: Path
) -> None:
    encoder = encoder_with(tmp_path / "e", num_hidden_layers=3)
    shutil.copy(trained / "model/encoder/model.safetensors", encoder)
    done = train(model__encoder=encoder, model__random_init="false")
    refused(done, 2, "lack 16 parameters: encoder.layer.2.")


@pytest.mark.parametrize("content", [None, "{", '{"model_type": "no_such_family"}', "{}"])
def test_an_encoder_that_cannot_be_read(
    train: Callable[..., Done], tmp_path: Path, content: str | None
) -> None:
    folder = tmp_path / "e"
    if content is not None:
        folder.mkdir()
        (folder / "config.json").write_text(content)
    refused(train(model__encoder=folder), 2, f"model.encoder '{folder}' cannot be read: ")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 65}, "cannot be read: "),
        ({"vocab_size": "x"}, "cannot be read: "),
        ({"hidden_act": "nothing"}, "cannot be read: "),
        ({"pad_token_id": None}, "pad_token_id None"),
        ({"model_type": "gpt2"}, "(gpt2) is no bidirectional text encoder"),
        ({"model_type": "vit"}, "(vit) is no bidirectional text encoder"),
        ({"model_type": "clip"}, "(clip) is no bidirectional text encoder"),
        ({"is_decoder": True}, "(roberta) is no bidirectional text encoder"),
    ],
)
def test_an_encoder_with_odd_values(
    train: Callable[..., Done], tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    refused(train(model__encoder=encoder_with(tmp_path / "e", **changes)), 2, message)


def test_an_encoder_folder_that_is_not_there(
    train: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    import transformers

    def refuse(*arguments: Any, **options: Any) -> None:
        raise OSError("no connection")

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", refuse)
    refused(train(model__encoder="enc_missing"), 2, "there is no such folder, and as a name on")


def test_the_tokenizer_is_read_once(
    train: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The encoder's folder may go away while the training runs."""
    encoder = tmp_path / "e"
    shutil.copytree(TINY_ENCODER, encoder)
    steps = loop._run_steps

    def without(*arguments: Any) -> None:
        shutil.rmtree(encoder)
        steps(*arguments)

    monkeypatch.setattr(loop, "_run_steps", without)
    assert train(model__encoder=encoder).code == 0
    saved = tmp_path / "out" / "model" / "encoder" / "tokenizer.json"
    assert saved.read_bytes() == (TINY_ENCODER / "tokenizer.json").read_bytes()


def test_an_encoder_decoder_that_does_not_say_how_it_begins(
    train: Callable[..., Done], tmp_path: Path
) -> None:
    folder = tmp_path / "e"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "t5", "d_model": 8}')
    refused(train(model__encoder=folder), 2, "states no number for decoder_start_token_id")


# --- the output folder -----------------------------------------------------------------------


def test_a_wrong_setting_leaves_the_folder_free(train: Callable[..., Done], tmp_path: Path) -> None:
    assert train(model__random_init="false").code == 2
    assert train().code == 0
    assert (tmp_path / "out" / "model").is_dir()


def test_a_folder_that_holds_a_run(train: Callable[..., Done], tmp_path: Path) -> None:
    first = train()
    assert first.code == 0
    refused(train(), 2, "already holds a run; add --resume to go on with it")
    log = (tmp_path / "out" / "metrics.jsonl").read_bytes()

    done = train("--resume")
    assert done.code == 0
    assert "is complete; nothing to do" in done.stderr
    assert done.stdout == first.stdout
    assert (tmp_path / "out" / "metrics.jsonl").read_bytes() == log

    done = train("--resume", seed=8, model__dropout=0.3)
    refused(done, 2, "holds another run (model: ", "'dropout': 0.3", "seed: 7 → 8")


def test_an_unfinished_run_goes_on_only_as_it_began(
    train: Callable[..., Done], zoo: Zoo, tmp_path: Path
) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    build_topic(zoo.task("qs_topic"), data)
    settings = {"data": data, "schedule__steps": 2, "checkpointing__every_steps": 1}
    assert train(**settings).code == 0
    shutil.rmtree(out / "model")
    shutil.rmtree(out / "checkpoints" / "step-00000002")
    refused(train(**settings), 2, "already holds a run")
    refused(train("--resume", **settings, seed=9), 2, "seed: 7 → 9")

    build_topic(zoo.task("qs_topic"), data, limit=24)
    done = train("--resume", **settings)
    refused(done, 1, "step-00000001 was trained on other data", "start another run")

    build_topic(zoo.task("qs_topic"), data)
    done = train("--resume", **settings)
    assert done.code == 0
    assert "resuming after step 1 of 2" in done.stderr


@pytest.mark.parametrize("content", ["{", "[1]", "3", ""])
def test_a_damaged_run_file(train: Callable[..., Done], tmp_path: Path, content: str) -> None:
    assert train().code == 0
    run_file = tmp_path / "out" / "run.json"
    run_file.write_text(content)
    refused(train("--resume"), 1, "run.json is damaged", "remove it to go on")
    run_file.unlink()
    done = train("--resume")
    assert done.code == 0
    assert "run.json is missing; going on with the settings given now" in done.stderr
    assert "is complete" in done.stderr


def test_a_complete_run_without_reports_is_complete(
    train: Callable[..., Done], tmp_path: Path
) -> None:
    assert train().code == 0
    out = tmp_path / "out"
    (out / "reports.jsonl").unlink()
    shutil.rmtree(out / "checkpoints")
    log = (out / "metrics.jsonl").read_bytes()
    done = train("--resume")
    assert done.code == 0
    assert "is complete; nothing to do" in done.stderr
    assert (out / "metrics.jsonl").read_bytes() == log


def test_resuming_where_nothing_is(train: Callable[..., Done]) -> None:
    done = train("--resume")
    assert done.code == 0
    assert "holds no checkpoint; starting from the first step" in done.stderr


def test_resuming_with_data_that_was_moved(
    train: Callable[..., Done], quickstart_data: Path, tmp_path: Path
) -> None:
    assert train().code == 0
    shutil.rmtree(tmp_path / "out" / "model")
    shutil.copytree(quickstart_data, tmp_path / "moved")
    done = train("--resume", data=tmp_path / "moved")
    assert done.code == 0, done.stderr
    assert "resuming after step 1 of 1" in done.stderr


def test_odd_lines_of_the_log_are_dropped(train: Callable[..., Done], tmp_path: Path) -> None:
    assert train().code == 0
    shutil.rmtree(tmp_path / "out" / "model")
    log = tmp_path / "out" / "metrics.jsonl"
    good = log.read_bytes()
    log.write_bytes(b'5\n{"step": null}\n{}\n' + good + b"{cut")
    assert train("--resume").code == 0
    assert log.read_bytes() == good


def test_scoring_that_fails_loses_no_step(
    train: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"schedule__steps": 4, "evaluation__every_steps": 2, "checkpointing__every_steps": 2}
    assert train(out=tmp_path / "whole", **settings).code == 0
    append = loop.append_report

    def fail(path: Path, report: TaskReport) -> None:
        append(path, report)  # a part of the step's reports is there already
        if report.step == 4:
            raise ScoreError("these labels cannot be scored")

    with monkeypatch.context() as patch:
        patch.setattr(loop, "append_report", fail)
        refused(train(**settings), 1, "cannot be scored")
    out = tmp_path / "out"
    assert (out / "checkpoints/step-00000004/checkpoint.json").is_file()
    done = train("--resume", **settings)
    assert done.code == 0
    assert "resuming after step 4 of 4" in done.stderr
    whole = (tmp_path / "whole" / "reports.jsonl").read_text()
    assert (out / "reports.jsonl").read_text() == whole.replace(f"{tmp_path}/whole", str(out))


def test_a_folder_that_cannot_be_written(
    train: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(lock: FileLock) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(FileLock, "acquire", refuse)
    refused(train(), 2, "cannot be written: Permission denied")


def test_time_spent_on_scoring_is_not_in_the_log(
    train: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    score = loop.evaluate_tasks
    scoring: list[float] = []

    def slow(*arguments: Any) -> list[TaskReport]:
        start = time.monotonic()
        time.sleep(0.5)
        reports = score(*arguments)
        scoring.append(time.monotonic() - start)
        return reports

    monkeypatch.setattr(loop, "evaluate_tasks", slow)
    start = time.monotonic()
    done = train(schedule__steps=2, evaluation__every_steps=1, logging__every_steps=2)
    whole = time.monotonic() - start
    assert done.code == 0
    [entry] = map(json.loads, (tmp_path / "out" / "metrics.jsonl").read_text().splitlines())
    assert len(scoring) == 2
    assert entry["seconds"] <= whole - sum(scoring)
    assert entry["tokens_per_s"] == pytest.approx(entry["num_tokens"] / entry["seconds"])


def test_a_folder_of_something_else(train: Callable[..., Done], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").touch()
    refused(train(), 2, "is not empty and holds no run; choose another --out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.tex"]


def test_killed_while_the_first_file_was_written(
    train: Callable[..., Done], tmp_path: Path
) -> None:
    """What is left then is an unfinished run.json and nothing else."""
    (tmp_path / "out").mkdir()
    left = tmp_path / "out" / "run.json.4711.tmp"
    left.write_text("{")
    assert train().code == 0
    assert not left.exists()


@pytest.mark.parametrize("name", ["thesis.json.4711.tmp", "run.json.tmp", "run.json.mine.tmp"])
def test_an_unfinished_file_of_something_else(
    train: Callable[..., Done], tmp_path: Path, name: str
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).touch()
    refused(train(), 2, "is not empty and holds no run; choose another --out")
    assert (tmp_path / "out" / name).exists()


def test_a_folder_with_the_name_of_an_unfinished_file(
    train: Callable[..., Done], tmp_path: Path
) -> None:
    (tmp_path / "out" / "run.json.4711.tmp").mkdir(parents=True)
    refused(train(), 2, "is not empty and holds no run; choose another --out")


def test_the_working_directory_as_the_output_folder(
    train: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert train(out=Path()).code == 0
    assert (tmp_path / "here" / "model").is_dir()


def test_a_second_training_in_the_same_folder(train: Callable[..., Done], tmp_path: Path) -> None:
    with run_lock(tmp_path / "out"):
        refused(train(), 2, f"another run is at work in {tmp_path / 'out'}; wait for it")
    assert train().code == 0


def test_a_long_count_of_steps_is_told(
    train: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "_MANY_EXAMPLES", 10)
    done = train(schedule__epochs=0.5)
    assert done.code == 0
    assert "counting the steps of 24 examples" in done.stderr


# --- the training itself ---------------------------------------------------------------------


def test_the_torch_trainer_runs_one_process(train: Callable[..., Done], tmp_path: Path) -> None:
    done = train("--num-processes", "2")
    refused(done, 2, "one process, --num-processes 2 was asked for; use --trainer deepspeed")
    assert not (tmp_path / "out").exists()


def test_a_training_that_diverges(
    train: Callable[..., Done], mixed_specs: Path, tmp_path: Path
) -> None:
    done = train(
        "--specs", str(mixed_specs), mixture="everything", optimizer__learning_rate=1e30,
        schedule__steps=9, checkpointing__every_steps=1, checkpointing__keep=9,
    )  # fmt: skip
    refused(done, 1, " not finite", "task", "qs_", "start another run with a lower")
    step = int(done.stderr.partition("step ")[2].partition(":")[0])
    assert 2 <= step <= 9
    last = json.loads((tmp_path / "out" / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["step"] == step - 1
    assert not (tmp_path / "out" / f"checkpoints/step-{step:08d}").exists()
    assert not (tmp_path / "out" / "model").exists()
