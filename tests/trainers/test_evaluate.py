"""Scores belong to rows: equal however rows are batched, and to a naive row-by-row evaluation."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from muppet_zoo_torch import evaluate
from muppet_zoo_torch import plan as plan_module
from muppet_zoo_torch.decode import Decoder, ScoredTask
from muppet_zoo_torch.export import load_model
from muppet_zoo_torch.heads import HEAD_MATH
from muppet_zoo_torch.plan import make_plan
from muppet_zoo_torch.trainer import TorchTrainer

from muppet_zoo.batches import sample_examples
from muppet_zoo.build import BuildOptions, build
from muppet_zoo.cli.evaluate import command
from muppet_zoo.encode import open_tokenizer
from muppet_zoo.errors import CheckpointError, ShardError, UnknownNameError, UsageError
from muppet_zoo.manifests import MANIFEST_NAME
from muppet_zoo.metrics import score_all
from muppet_zoo.mixture import Rates
from muppet_zoo.model_folder import LAYOUT_FILE, HeadSlot, find_model
from muppet_zoo.results import TaskReport
from muppet_zoo.run import Run
from muppet_zoo.shards import BuiltSplit, open_task
from muppet_zoo.spec import TaskSpec
from muppet_zoo.trainer_api import EvalRequest, TrainRequest
from muppet_zoo.zoo import Zoo, shipped_specs

ENCODER = shipped_specs() / "quickstart" / "tiny_encoder"

ONE_OF_EACH_HEAD = (
    "qs_topic",
    "qs_mentions",
    "qs_similarity",
    "qs_fitting_thing",
    "qs_word_tags",
    "qs_find_thing",
)


@pytest.fixture
def specs(zoo: Zoo) -> tuple[TaskSpec, ...]:
    return tuple(zoo.task(name) for name in ONE_OF_EACH_HEAD)


@pytest.fixture
def request_for(trained: Path, quickstart_data: Path) -> Callable[..., EvalRequest]:
    def make(specs: Sequence[TaskSpec], **changes: Any) -> EvalRequest:
        request = EvalRequest(checkpoint=trained, data=quickstart_data, tasks=tuple(specs))
        return replace(request, **changes)

    return make


def spy(monkeypatch: pytest.MonkeyPatch) -> list[list[Any]]:
    """The predictions that are scored, task by task."""
    seen: list[list[Any]] = []

    def watched(metrics: Any, predictions: Any, targets: Any, **others: Any) -> Any:
        seen.append(predictions)
        return score_all(metrics, predictions, targets, **others)

    monkeypatch.setattr(evaluate, "score_all", watched)
    return seen


def naive_predictions(trained: Path, split: BuiltSplit, slot: HeadSlot) -> list[Any]:
    """One row at a time, unpadded, without the model's fused pass."""
    model = load_model(find_model(trained), torch.device("cpu"))
    level = model.sentence if slot.level == "sentence" else model.token
    predictions = []
    for row in range(split.num_records):
        logits = []
        for ids in split.record(row).sequences:
            with torch.no_grad():
                states = model.encoder(torch.from_numpy(ids.astype(np.int64))[None])[0][0]
                read = states[0] if slot.level == "sentence" else states
                logits.append(level(read)[..., slot.start : slot.start + slot.size])
        predictions.append(naive_prediction(slot, logits, split, row))
    return predictions


def naive_prediction(slot: HeadSlot, logits: Any, split: BuiltSplit, row: int) -> Any:
    own = logits[0]
    match slot.head:
        case "classification":
            return int(own.argmax())
        case "multi_label":
            return [i for i, value in enumerate(own.tolist()) if value > 0]
        case "regression":
            low, high = slot.range or (0.0, 1.0)
            return low + float(own[0]) * (high - low)
        case "multiple_choice":
            return int(torch.cat(logits).argmax())
        case "token_classification":
            target = np.asarray(split.record(row).target)
            return [slot.labels[int(own[t].argmax())] for t in np.flatnonzero(target >= 0)]
    [flat], [context] = (split.column(name, np.array([row])) for name in ("offsets", "context"))
    offsets = list(zip(flat[::2], flat[1::2], strict=True))
    inside = [t for t, (first, last) in enumerate(offsets) if last > first]
    pairs = [(i, j) for i in inside for j in inside if 0 <= j - i < 30]
    score, first, last = max((float(own[i, 0] + own[j, 1]), -i, -j) for i, j in pairs)
    return score, context[offsets[-first][0] : offsets[-last][1]]


def test_predictions_equal_a_naive_evaluation_row_by_row(
    specs: tuple[TaskSpec, ...],
    request_for: Callable[..., EvalRequest],
    trained: Path,
    quickstart_data: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = spy(monkeypatch)
    reports = TorchTrainer().evaluate(request_for(specs, tokens_per_micro_batch=300))
    slots = {slot.task: slot for slot in find_model(trained).layout.slots}
    for spec, report, predictions in zip(specs, reports, seen, strict=True):
        split, slot = open_task(quickstart_data, spec.name, "validation"), slots[spec.name]
        naive = naive_predictions(trained, split, slot)
        if slot.head == "span":
            naive = [text for _, text in naive]
        assert len(predictions) == split.num_examples
        if slot.head == "regression":
            assert predictions == pytest.approx(naive, abs=1e-4)
            continue
        assert predictions == naive, spec.name
        task = ScoredTask(split=split, slot=slot, tokenizer=open_tokenizer(str(ENCODER)).load())
        targets = HEAD_MATH[slot.head].decoder.references(split.example_starts[:-1], task)
        num_labels = len(slot.labels) or int(split.num_sequences.max())
        assert report.scores == score_all(spec.metrics, naive, targets, num_labels=num_labels)


@pytest.mark.parametrize("max_examples", [None, 10])
def test_windows_of_an_example_give_one_answer(
    specs: tuple[TaskSpec, ...],
    request_for: Callable[..., EvalRequest],
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    max_examples: int | None,
) -> None:
    spec = specs[-1]
    options = BuildOptions(limit=20, max_tokens=20)
    build([spec], tokenizer=open_tokenizer(str(ENCODER)), out=tmp_path, options=options)
    split = open_task(tmp_path, spec.name, "validation")
    assert split.num_records > split.num_examples == 20
    seen = spy(monkeypatch)
    [report] = TorchTrainer().evaluate(
        request_for([spec], data=tmp_path, max_examples=max_examples, tokens_per_micro_batch=90)
    )
    slot = {slot.task: slot for slot in find_model(trained).layout.slots}[spec.name]
    of_row: dict[int, list[Any]] = {}
    naive = naive_predictions(trained, split, slot)
    for row, answer in zip(split.column("row", np.arange(len(naive))), naive, strict=True):
        of_row.setdefault(row, []).append(answer)
    answers = list(of_row.values())
    expected = [max(answers[i])[1] for i in sample_examples(20, max_examples)]
    assert seen == [expected]
    assert report.num_examples == len(expected)


@pytest.mark.parametrize("tokens_per_micro_batch", [8, 100, 100_000])
def test_predictions_do_not_depend_on_the_batching(
    specs: tuple[TaskSpec, ...],
    request_for: Callable[..., EvalRequest],
    monkeypatch: pytest.MonkeyPatch,
    tokens_per_micro_batch: int,
) -> None:
    seen = spy(monkeypatch)
    for tokens in (777, tokens_per_micro_batch):
        TorchTrainer().evaluate(request_for(specs, tokens_per_micro_batch=tokens))
    for spec, wanted, found in zip(specs, seen[: len(specs)], seen[len(specs) :], strict=True):
        if spec.head.type == "regression":
            # Single precision keeps seven digits of a score, whatever its size.
            assert found == pytest.approx(wanted, rel=1e-6, abs=1e-5)
        else:
            assert found == wanted, spec.name


def test_precision_is_of_the_matrix_products(
    zoo: Zoo, request_for: Callable[..., EvalRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, similarity = spy(monkeypatch), (zoo.task("qs_similarity"),)
    for precision in ("fp32", "bf16", "fp16"):
        TorchTrainer().evaluate(request_for(similarity, precision=precision))
    single, *halves = seen
    # bfloat16 has eight bits of mantissa, half precision eleven; layers add up to a few units.
    for half, tolerance in zip(halves, (0.05, 0.005), strict=True):
        assert half != single
        assert half == pytest.approx(single, rel=tolerance, abs=tolerance)


def test_each_row_is_predicted_once(
    specs: tuple[TaskSpec, ...],
    request_for: Callable[..., EvalRequest],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows: list[int] = []
    original = evaluate.collate

    def watched(plan: Any, datas: Any, pad: int) -> Any:
        rows.extend(plan.rows.tolist())
        return original(plan, datas, pad)

    monkeypatch.setattr(evaluate, "collate", watched)
    [report] = TorchTrainer().evaluate(request_for(specs[:1], tokens_per_micro_batch=64))
    assert sorted(rows) == list(range(report.num_examples))


class _Rank:
    """Two engines that pretend to be two processes; the second one's part is there first."""

    def __init__(self, model: Any, rank: int, parts: list[Any]) -> None:
        self.model, self.rank, self.world_size, self.parts = model, rank, 2, parts
        self.device = torch.device("cpu")

    def forward(self, batch: Any, *, predict: bool = False) -> Any:
        return self.model(batch, predict=predict)

    def gather(self, value: Any) -> list[Any]:
        self.parts.append(value)
        return self.parts[::-1]


def test_two_processes_share_the_rows(
    specs: tuple[TaskSpec, ...],
    request_for: Callable[..., EvalRequest],
    trained: Path,
    quickstart_data: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spec = specs[0]
    split = open_task(quickstart_data, spec.name, "validation")
    scoring = evaluate.Scoring(
        split="validation", splits={spec.name: split}, max_examples=21,
        tokens_per_micro_batch=64, step=4, seed=7, checkpoint="none",
    )  # fmt: skip
    parts: list[dict[int, Any]] = []
    model = load_model(find_model(trained), torch.device("cpu"))
    seen = spy(monkeypatch)
    assert evaluate._evaluate_task(_Rank(model, 1, parts), spec, scoring) is None
    assert evaluate._evaluate_task(_Rank(model, 0, parts), spec, scoring) is not None
    assert not parts[0].keys() & parts[1].keys()
    assert {*parts[0], *parts[1]} == set(sample_examples(split.num_examples, 21).tolist())
    TorchTrainer().evaluate(request_for([spec], max_examples=21))
    assert seen[0] == seen[1]


def test_max_examples_takes_a_fixed_sample(
    specs: tuple[TaskSpec, ...],
    request_for: Callable[..., EvalRequest],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = spy(monkeypatch)
    reports: list[TaskReport] = []
    for max_examples in (5, 10_000, None):
        reports += TorchTrainer().evaluate(request_for(specs[:1], max_examples=max_examples))
    assert [report.num_examples for report in reports] == [5, 48, 48]
    assert seen[0] == [seen[1][i] for i in sample_examples(48, 5)]
    assert seen[1] == seen[2]


def test_reports_say_what_was_scored(
    specs: tuple[TaskSpec, ...],
    request_for: Callable[..., EvalRequest],
    trained: Path,
    quickstart_data: Path,
) -> None:
    reports = TorchTrainer().evaluate(request_for([specs[3], specs[0]], split="train"))
    assert [report.task for report in reports] == [specs[3].name, specs[0].name]
    for report in reports:
        fingerprint = open_task(quickstart_data, report.task, "train").manifest.fingerprint
        assert (report.split, report.step, report.seed) == ("train", 4, 7)
        assert report.checkpoint == str(trained / "model")
        assert report.fingerprint == fingerprint
        assert report.headline in report.scores


# --- tasks the model was not trained on --------------------------------------------------------


def test_a_task_of_a_shared_head_is_scored_without_training(
    zoo: Zoo, quickstart_data: Path, request_for: Callable[..., EvalRequest], tmp_path: Path
) -> None:
    """Under another name, the rows of a trained task get the very scores of that task."""
    names = ("qs_fitting_thing", "qs_find_thing")  # the shared heads of options and of spans
    for name in names:
        folder = tmp_path / f"new_{name}"
        shutil.copytree(quickstart_data / name, folder)
        manifest = folder / "validation" / MANIFEST_NAME
        text = manifest.read_text().replace(f'"task": "{name}"', f'"task": "new_{name}"')
        manifest.write_text(text)
    known = [zoo.task(name) for name in names]
    new = [replace(spec, name=f"new_{spec.name}") for spec in known]
    before = TorchTrainer().evaluate(request_for(known))
    after = TorchTrainer().evaluate(request_for(new, data=tmp_path))
    assert [report.task for report in after] == [spec.name for spec in new]
    assert [report.scores for report in after] == [report.scores for report in before]


def test_a_head_of_its_own_answers_no_other_task(
    zoo: Zoo, request_for: Callable[..., EvalRequest]
) -> None:
    spec = zoo.task("qs_topic")
    head = replace(spec.head, shared_head="topics")
    with pytest.raises(UnknownNameError, match=r"no task with a head in .* is named 'another'"):
        TorchTrainer().evaluate(request_for([replace(spec, name="another", head=head)]))


# --- what is refused -------------------------------------------------------------------------


def test_a_task_without_a_head_is_told_with_near_matches(
    zoo: Zoo, request_for: Callable[..., EvalRequest]
) -> None:
    spec = replace(zoo.task("qs_topic"), name="qs_topics")
    with pytest.raises(
        UnknownNameError, match=r"no task with a head in .* is named 'qs_topics'; did you mean"
    ):
        TorchTrainer().evaluate(request_for([spec]))


def test_a_split_that_is_not_built(
    specs: tuple[TaskSpec, ...], request_for: Callable[..., EvalRequest]
) -> None:
    with pytest.raises(ShardError, match=r"split test: not built in .*built: train, validation"):
        TorchTrainer().evaluate(request_for(specs[:1], split="test"))


@pytest.mark.parametrize(
    ("split", "told"),
    [
        ("test", "no split of task qs_topic is named 'test'; known: train, validation"),
        ("validaton", "no split of task qs_topic is named 'validaton'; did you mean 'validation'?"),
        ("", "no split of task qs_topic is named ''; known: train, validation"),
    ],
)
def test_a_split_that_the_task_does_not_have(
    trained: Path, quickstart_data: Path, split: str, told: str
) -> None:
    given = [str(trained), "--data", str(quickstart_data), "--task", "qs_topic", "--split", split]
    done = CliRunner().invoke(command, given)
    assert isinstance(done.exception, UnknownNameError)
    assert str(done.exception) == told


def unlabelled(spec: TaskSpec, role: str) -> TaskSpec:
    splits = {**spec.source.splits, role: replace(spec.source.splits[role], labels=False)}
    return replace(spec, source=replace(spec.source, splits=splits))


def built_as(monkeypatch: pytest.MonkeyPatch, data: Path) -> None:
    """Take every split as built from the spec at hand."""
    monkeypatch.setattr(
        plan_module,
        "spec_digest",
        lambda spec, role: open_task(data, spec.name, role).manifest.components["spec"],
    )


def test_a_split_without_labels_cannot_be_scored(
    specs: tuple[TaskSpec, ...],
    request_for: Callable[..., EvalRequest],
    quickstart_data: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    built_as(monkeypatch, quickstart_data)
    with pytest.raises(ShardError, match=r"qs_topic, split validation: its publisher keeps the la"):
        TorchTrainer().evaluate(request_for([unlabelled(specs[0], "validation")]))


@pytest.mark.parametrize("role", ["train", "validation"])
def test_a_run_on_splits_without_labels_ends_before_it_starts(
    zoo: Zoo,
    make_run: Callable[..., Run],
    quickstart_data: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    role: str,
) -> None:
    built_as(monkeypatch, quickstart_data)
    tasks = (zoo.task("qs_nli"), unlabelled(zoo.task("qs_topic"), role))
    run = make_run()
    with pytest.raises(ShardError, match=f"qs_topic, split {role}: its publisher keeps"):
        make_plan(TrainRequest(run=run, tasks=tasks, rates=Rates(), out=tmp_path))


def test_labels_that_turn_out_to_be_missing_are_no_score(
    specs: tuple[TaskSpec, ...],
    request_for: Callable[..., EvalRequest],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    unknown = Decoder(references=lambda rows, task: [-1] * len(rows))
    math = replace(HEAD_MATH["classification"], decoder=unknown)
    monkeypatch.setitem(HEAD_MATH, "classification", math)
    with pytest.raises(ShardError, match="cannot be scored"):
        TorchTrainer().evaluate(request_for(specs[:1]))


def test_labels_that_changed_since_the_training(
    specs: tuple[TaskSpec, ...],
    request_for: Callable[..., EvalRequest],
    trained: Path,
    tmp_path: Path,
) -> None:
    copy = tmp_path / "model"
    shutil.copytree(trained / "model", copy)
    layout = copy / LAYOUT_FILE
    label = specs[0].head.labels[0]  # type: ignore[union-attr]
    layout.write_text(layout.read_text().replace(f'"{label}"', '"something_else"'))
    with pytest.raises(CheckpointError, match=r"qs_topic: .* was trained with labels"):
        TorchTrainer().evaluate(request_for(specs[:1], checkpoint=copy))


def test_data_of_another_tokenizer(
    specs: tuple[TaskSpec, ...],
    request_for: Callable[..., EvalRequest],
    trained: Path,
    tmp_path: Path,
) -> None:
    copy = tmp_path / "model"
    shutil.copytree(trained / "model", copy)
    with (copy / "encoder" / "tokenizer.json").open("a") as file:
        file.write("\n")
    with pytest.raises(UsageError, match="built with another tokenizer than that of the encoder"):
        TorchTrainer().evaluate(request_for(specs[:1], checkpoint=copy))


def test_no_data_folder(
    specs: tuple[TaskSpec, ...], request_for: Callable[..., EvalRequest], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="no such data folder"):
        TorchTrainer().evaluate(request_for(specs, data=tmp_path / "absent"))


def test_groups_of_the_data_reach_the_metric(
    zoo: Zoo, request_for: Callable[..., EvalRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = replace(zoo.task("qs_topic"), metrics=("accuracy", "group_exact_match"))
    monkeypatch.setattr(BuiltSplit, "groups", lambda self, rows: [str(row) for row in rows])
    (alone,) = TorchTrainer().evaluate(request_for([spec]))
    assert 0 < alone.scores["group_exact_match"] == alone.scores["accuracy"] < 1
    monkeypatch.setattr(BuiltSplit, "groups", lambda self, rows: ["all"] * len(rows))
    (together,) = TorchTrainer().evaluate(request_for([spec]))
    assert together.scores == {**alone.scores, "group_exact_match": 0.0}
