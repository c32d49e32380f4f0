"""Run files: defaults from the schema, changes on the command line, and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from muppet_zoo.errors import SpecError, UsageError
from muppet_zoo.model_folder import Freeze, Lora
from muppet_zoo.run import Run, parse_run, read_run, with_defaults
from muppet_zoo.samples import Sample
from muppet_zoo.validation import load_schema

MINIMAL = """\
run_version: 1
data: built
mixture: quickstart
model: {encoder: org/encoder}
schedule: {steps: 10}
"""


@pytest.fixture
def run_file(tmp_path: Path) -> Path:
    return write(tmp_path, MINIMAL)


def write(folder: Path, text: str) -> Path:
    path = folder / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def at(run: Run, key: str) -> Any:
    value: Any = run.raw
    for part in key.split("."):
        value = value[part]
    return value


# --- defaults --------------------------------------------------------------------------------


def schema_defaults(schema: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Every leaf of the run schema that states a default, by its dotted key."""
    found = {}
    for key, inner in schema["properties"].items():
        is_there = key in schema.get("required", []) or inner.get("default") is not None
        if "properties" in inner and is_there:
            found |= schema_defaults(inner, f"{prefix}{key}.")
        elif "default" in inner:
            found[prefix + key] = inner["default"]
    return found


def test_every_default_is_the_schemas(run_file: Path) -> None:
    run = read_run(run_file)
    defaults = schema_defaults(load_schema("run"))
    assert len(defaults) > 20
    assert {key: at(run, key) for key in defaults} == defaults
    assert run.model.lora is None
    assert run.model.pooling is None
    assert run.optimizer.betas == tuple(defaults["optimizer.betas"])
    assert run.optimizer.head_learning_rate is None
    assert run.evaluation.every_steps is None
    assert run.batching.tokens_per_micro_batch == defaults["batching.tokens_per_micro_batch"]
    assert run.log_every_steps == defaults["logging.every_steps"]
    assert (run.schedule.steps, run.schedule.epochs) == (10, None)
    assert (run.mixture, run.task) == ("quickstart", None)


def test_defaults_fill_a_group_that_is_given_in_part(tmp_path: Path) -> None:
    run = read_run(write(tmp_path, MINIMAL + "optimizer: {learning_rate: 3.0e-4}\n"))
    assert run.optimizer.learning_rate == 3e-4
    assert run.optimizer.weight_decay == 0.01


def test_filling_in_defaults_leaves_its_input_and_the_schema_alone(run_file: Path) -> None:
    before = json.dumps(load_schema("run"))
    read_run(run_file, ["optimizer.learning_rate=1", "optimizer.betas=[0.5, 0.5]"])
    assert json.dumps(load_schema("run")) == before
    data: dict[str, Any] = {"model": {"encoder": "x"}}
    with_defaults(data)
    assert data == {"model": {"encoder": "x"}}


def test_a_run_comes_back_from_its_own_data(run_file: Path) -> None:
    run = read_run(run_file, ["schedule.epochs=2.5", "evaluation.max_examples=3"])
    assert parse_run(json.loads(json.dumps(run.raw))) == run


# --- paths -----------------------------------------------------------------------------------


def test_paths_in_the_file_are_relative_to_it(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "runs"
    (folder / "encoder").mkdir(parents=True)
    text = MINIMAL.replace("org/encoder", "encoder").replace("built", "../../data")
    run = read_run(write(folder, text))
    assert run.data == tmp_path / "data"
    assert run.model.encoder == str(folder / "encoder")


@pytest.mark.parametrize("name", ["org/encoder", "bert-base-uncased"])
def test_what_is_no_folder_is_a_name_on_the_hub(tmp_path: Path, name: str) -> None:
    assert read_run(write(tmp_path, MINIMAL.replace("org/encoder", name))).model.encoder == name


@pytest.mark.parametrize("name", ["./absent", "../absent", "/absent/encoder"])
def test_what_looks_like_a_path_is_one(tmp_path: Path, name: str) -> None:
    run = read_run(write(tmp_path, MINIMAL.replace("org/encoder", name)))
    assert run.model.encoder == str((tmp_path / name).resolve())


def test_paths_in_a_change_are_relative_to_the_working_directory(
    run_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    (here / "encoder").mkdir(parents=True)
    monkeypatch.chdir(here)
    run = read_run(run_file, ["data=built", "model.encoder=encoder"])
    assert run.data == here / "built"
    assert run.model.encoder == str(here / "encoder")
    assert read_run(run_file, ["model.dropout=0.5"]).data == tmp_path / "built"


# --- changes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "value"),
    [
        ("seed=3", 3),
        ("optimizer.learning_rate=1e-4", 1e-4),
        ("optimizer.learning_rate=1", 1),
        ("optimizer.gradient_clipping=.5", 0.5),
        ("optimizer.betas=[0.9, 0.999]", [0.9, 0.999]),
        ("optimizer.head_learning_rate=0.5", 0.5),
        ("optimizer.name=sgd", "sgd"),
        ("loss_scaling=none", "none"),
        ("precision=bf16", "bf16"),
        ("model.random_init=true", True),
        ("evaluation.at_start=false", False),
        ("evaluation.max_examples=7", 7),
        ("deepspeed.zero_stage=3", 3),
        ("trainer=torch", "torch"),
        ("evaluation.split=123", "123"),  # text stays text
        ("evaluation.split=a=b", "a=b"),
        ("model.encoder=org/other", "org/other"),
    ],
)
def test_a_change_of_every_type(run_file: Path, change: str, value: Any) -> None:
    found = at(read_run(run_file, [change]), change.partition("=")[0])
    assert found == value
    assert type(found) is type(value)


def test_the_last_of_equal_changes_counts(run_file: Path) -> None:
    assert read_run(run_file, ["seed=1", "seed=2"]).seed == 2


@pytest.mark.parametrize(
    ("text", "change", "kept"),
    [
        ("mixture: quickstart", "task=cola", (None, "cola")),
        ("task: cola", "mixture=quickstart", ("quickstart", None)),
        ("task: cola", "task=rte", (None, "rte")),
    ],
)
def test_mixture_and_task_replace_each_other(
    tmp_path: Path, text: str, change: str, kept: tuple[str | None, str | None]
) -> None:
    run = read_run(write(tmp_path, MINIMAL.replace("mixture: quickstart", text)), [change])
    assert (run.mixture, run.task) == kept


@pytest.mark.parametrize(
    ("text", "change", "kept"),
    [("steps: 10", "schedule.epochs=2", (None, 2)), ("epochs: 2", "schedule.steps=10", (10, None))],
)
def test_steps_and_epochs_replace_each_other(
    tmp_path: Path, text: str, change: str, kept: tuple[int | None, float | None]
) -> None:
    run = read_run(write(tmp_path, MINIMAL.replace("steps: 10", text)), [change])
    assert (run.schedule.steps, run.schedule.epochs) == kept


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("schedule.steps=3", "schedule.epochs=1"),
        ("schedule.warmup=0.5", "schedule.warmup_steps=1"),
        ("mixture=quickstart", "task=cola"),
    ],
)
def test_changes_that_exclude_each_other(run_file: Path, one: str, other: str) -> None:
    keys = [change.partition("=")[0] for change in (one, other)]
    for changes in ([one, other], [other, one]):
        with pytest.raises(UsageError) as caught:
            read_run(run_file, changes)
        told = f"--set: {keys[0]} and {keys[1]} exclude each other; set one of them"
        assert str(caught.value) == told
    read_run(run_file, [one, "seed=2"])
    read_run(run_file, [other, other])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("optimiser.name=sgd", "a run has no 'optimiser'; did you mean 'optimizer'?"),
        ("optimizer.lr=1", "optimizer has no 'lr'"),
        (
            "optimizer.learning_rat=1",
            "optimizer has no 'learning_rat'; did you mean 'learning_rate'",
        ),
        ("schedule.step=1", "schedule has no 'step'; did you mean 'steps'?"),
        ("seed.deep=1", "seed has no 'deep'"),
        ("seed", "--set takes KEY=VALUE"),
        ("=3", "--set takes KEY=VALUE"),
        ("optimizer=adamw", "optimizer is a group; set one of optimizer.name, optimizer.learning"),
        ("optimizer={}", "optimizer is a group"),
        ("optimizer.learning_rate=.inf", "optimizer.learning_rate cannot be '.inf'"),
        ("optimizer.weight_decay=.nan", "give a finite number"),
        (f"optimizer.learning_rate={'9' * 400}", "give a finite number"),
    ],
)
def test_changes_that_name_nothing(run_file: Path, change: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_run(run_file, [change])
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("optimizer.name=adam", 'optimizer.name: found "adam"; allowed: adamw, sgd; did you mean'),
        ("optimizer.learning_rate=fast", 'optimizer.learning_rate: found "fast", a number is'),
        ("optimizer.learning_rate=0", "optimizer.learning_rate: found 0, more than 0 is expected"),
        ("optimizer.betas=0.9", "optimizer.betas: found 0.9, a list is expected"),
        ("optimizer.betas=[0.9]", "optimizer.betas"),
        ("seed=1.5", "seed: found 1.5, a whole number is expected"),
        ("seed=true", "seed: found true, a whole number is expected"),
        ("seed=", "seed: found nothing (null)"),
        ("model.random_init=yes", "model.random_init: found"),
        ("deepspeed.zero_stage=4", "deepspeed.zero_stage: found 4; allowed: 0, 1, 2, 3"),
        ("data=", "data: found"),
        ("model.encoder=", "model.encoder: found"),
        ("schedule.warmup=2", "schedule.warmup: found 2, at most 1"),
        (f"schedule.steps={10**22}", f"schedule.steps: found {10**22}, at most 2147483647"),
        (f"sample.held_out={10**22}", "sample.held_out: found 10000000000000000000000, at most"),
        (f"deepspeed.timeout_minutes={10**22}", "deepspeed.timeout_minutes: found 1"),
        ("schedule.epochs=1e9", "schedule.epochs: found 1000000000.0, at most 10000"),
    ],
)
def test_changes_to_a_wrong_value(run_file: Path, change: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_run(run_file, [change])
    assert str(caught.value).startswith(f"--set: {message[:4]}")
    assert message in str(caught.value)


def test_all_wrong_changes_are_told_at_once(run_file: Path) -> None:
    with pytest.raises(UsageError) as caught:
        read_run(run_file, ["seed=x", "precision=fp8"])
    lines = str(caught.value).splitlines()
    assert [line.partition(": found")[0] for line in lines] == ["--set: precision", "--set: seed"]


# --- the file --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("mixture: quickstart\n", "", "one of these keys is needed: mixture, task"),
        ("mixture: quickstart", "mixture: a\ntask: b", "only one of these keys may be given"),
        ("steps: 10", "steps: 10, epochs: 1", "only one of these keys may be given"),
        ("{steps: 10}", "{}", "one of these keys is needed: steps, epochs"),
        ("data: built\n", "", "'data' is missing"),
        ("schedule:", "shedule:", "did you mean 'schedule'?"),
        ("encoder: org", "encodr: org", "did you mean 'encoder'?"),
        ("run_version: 1", "run_version: 2", "1 is expected"),
        ("steps: 10", "steps: 0", "at least 1"),
        ("steps: 10", "steps: .inf", ""),
    ],
)
def test_findings_name_the_line(tmp_path: Path, before: str, after: str, message: str) -> None:
    path = write(tmp_path, MINIMAL.replace(before, after))
    with pytest.raises(SpecError) as caught:
        read_run(path, ["seed=1"])
    assert str(caught.value).startswith(f"{path}:")
    assert message in str(caught.value)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no such run file: .*absent\.yaml$"):
        read_run(tmp_path / "absent.yaml")
    with pytest.raises(UsageError, match=r"no such run file: .* \(a folder\)$"):
        read_run(tmp_path)


def test_a_group_can_be_switched_on_and_off_as_a_whole(run_file: Path) -> None:
    assert read_run(run_file, ["r3f={}"]).r3f is not None
    text = MINIMAL + "r3f: {weight: 2}\n"
    assert read_run(write(run_file.parent, text), ["r3f=null"]).r3f is None
    with pytest.raises(UsageError, match="optimizer is a group; set one of"):
        read_run(run_file, ["optimizer={}"])


def test_a_group_that_is_off_is_switched_on_by_one_of_its_keys(run_file: Path) -> None:
    run = read_run(run_file, ["model.lora.rank=4", "model.freeze.layers=2"])
    assert run.model.lora == Lora(rank=4, alpha=16.0, dropout=0.0, target_modules=None)
    assert run.model.freeze == Freeze(embeddings=False, layers=2)
    adapted = MINIMAL.replace("org/encoder", "org/encoder, lora: {target_modules: [q_proj]}")
    named = read_run(write(run_file.parent, adapted)).model.lora
    assert named == Lora(rank=8, alpha=16.0, dropout=0.0, target_modules=("q_proj",))


# --- warm-up, decay, trackers ----------------------------------------------------------------


def test_warm_up_is_a_share_or_a_number_of_steps(tmp_path: Path) -> None:
    run = read_run(write(tmp_path, MINIMAL))
    assert (run.schedule.warmup, run.schedule.warmup_steps) == (0.06, None)
    path = write(tmp_path, MINIMAL.replace("{steps: 10}", "{steps: 10, warmup_steps: 3}"))
    run = read_run(path)
    assert (run.schedule.warmup, run.schedule.warmup_steps) == (None, 3)
    run = read_run(path, ["schedule.warmup=0.5"])
    assert (run.schedule.warmup, run.schedule.warmup_steps) == (0.5, None)
    both = MINIMAL.replace("{steps: 10}", "{steps: 10, warmup: 0.1, warmup_steps: 3}")
    with pytest.raises(SpecError, match="only one of these keys may be given: warmup, warmup_step"):
        read_run(write(tmp_path, both))


def test_decay_has_a_power(run_file: Path) -> None:
    run = read_run(run_file, ["schedule.decay=polynomial", "schedule.power=2"])
    assert (run.schedule.decay, run.schedule.power) == ("polynomial", 2)


def test_trackers_are_a_list_of_known_names(run_file: Path) -> None:
    assert read_run(run_file).trackers == ()
    run = read_run(run_file, ["logging.trackers=[wandb, trackio]"])
    assert run.trackers == ("wandb", "trackio")
    with pytest.raises(UsageError, match="did you mean 'tensorboard'"):
        read_run(run_file, ["logging.trackers=[tensorbord]"])


# --- samples ---------------------------------------------------------------------------------


def test_a_sample_is_of_one_task(tmp_path: Path) -> None:
    run_file = write(tmp_path, MINIMAL.replace("mixture: quickstart", "task: qs_topic"))
    assert read_run(run_file).sample is None
    assert read_run(run_file, ["sample.held_out=8"]).sample == Sample(examples=None, held_out=8)
    run = read_run(run_file, ["sample.examples=16"])
    assert run.sample == Sample(examples=16, held_out=0)
    assert parse_run(json.loads(json.dumps(run.raw))) == run
    with pytest.raises(UsageError, match="--set: sample: 'sample' needs 'task', which is missing"):
        read_run(run_file, ["mixture=quickstart", "sample.examples=16"])
