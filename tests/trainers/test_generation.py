"""Answers that are written: their loss is the library's, their beams do not depend on batches, and
a tiny encoder-decoder learns to write while it learns all the other heads."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from conftest import ENCODER_DECODER, GENERATED
from muppet_zoo_torch import backbone, evaluate
from muppet_zoo_torch.batch import to_tensors
from muppet_zoo_torch.evaluate import pad_id
from muppet_zoo_torch.export import load_model
from muppet_zoo_torch.model import MultiTaskModel
from muppet_zoo_torch.plan import Plan, make_plan
from muppet_zoo_torch.pretrained import ENCODER_DECODERS
from muppet_zoo_torch.trainer import TorchTrainer, make_model

from muppet_zoo.batches import MicroBatchPlan
from muppet_zoo.cli.evaluate import command
from muppet_zoo.collate import collate
from muppet_zoo.errors import NotTrainableError, UsageError
from muppet_zoo.heads import HEADS
from muppet_zoo.metrics import score_all
from muppet_zoo.model_folder import BeamSearch, find_model
from muppet_zoo.results import read_reports
from muppet_zoo.run import Run
from muppet_zoo.shards import open_task
from muppet_zoo.trainer_api import EvalRequest, TrainRequest, tasks_of
from muppet_zoo.zoo import Zoo, load_zoo

MakeRun = Callable[..., Run]
CPU = torch.device("cpu")


def plan_of(run: Run, specs: Path, out: Path) -> Plan:
    tasks, rates = tasks_of(run, load_zoo([specs]))
    return make_plan(TrainRequest(run=run, tasks=tasks, rates=rates, out=out))


def answers_of(plan: Plan, rows: Any) -> MicroBatchPlan:
    """A micro-batch of these rows of the task that writes."""
    task = [spec.name for spec in plan.specs].index(GENERATED)
    rows = np.asarray(rows, dtype=np.int64)
    lengths = plan.train[task].lengths[rows]
    return MicroBatchPlan(tasks=np.full(len(rows), task, np.int32), rows=rows, lengths=lengths)


@pytest.mark.parametrize("family", ENCODER_DECODERS)
def test_the_loss_is_the_librarys_over_the_log_of_the_vocabulary(
    make_run: MakeRun, seq2seq_folder: Callable[..., Path], mixed_specs: Path, tmp_path: Path,
    family: str,
) -> None:  # fmt: skip
    settings = {"encoder": str(seq2seq_folder(family))}
    run = make_run(mixture="all_heads", model=settings, generation={"label_smoothing": 0.0})
    plan = plan_of(run, mixed_specs, tmp_path)
    model = make_model(plan).eval()
    part = answers_of(plan, range(5))
    with torch.no_grad():
        losses, _ = model(to_tensors(collate(part, plan.pool, pad_id(model)), CPU))
        for row, loss in zip(part.rows, losses.tolist(), strict=True):
            record = plan.train[int(part.tasks[0])].record(int(row))
            ids, labels = (
                torch.from_numpy(np.asarray(values).astype(np.int64))[None]
                for values in (record.sequences[0], record.target)
            )
            expected = model.encoder(input_ids=ids, labels=labels).loss.item()
            assert loss == pytest.approx(expected / math.log(229), rel=1e-5)


@pytest.fixture(scope="module")
def learned(make_run: MakeRun, mixed_specs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run of a tiny BART on a task of each head, by the torch trainer."""
    out = tmp_path_factory.mktemp("learned") / "out"
    run = make_run(
        mixture="all_heads",
        model={"encoder": str(ENCODER_DECODER), "dropout": 0.0},
        generation={"num_beams": 2},
        batching={"tokens_per_micro_batch": 1024, "micro_batches_per_step": 1},
        optimizer={"name": "adamw", "learning_rate": 2e-3, "gradient_clipping": 1.0},
        schedule={"steps": 60},
        evaluation={"at_start": True, "max_examples": 16},
        logging={"every_steps": 5},
        checkpointing={"every_steps": 1000},
    )
    tasks, rates = tasks_of(run, load_zoo([mixed_specs]))
    torch.set_num_threads(1)
    TorchTrainer().train(TrainRequest(run=run, tasks=tasks, rates=rates, out=out))
    return out


def test_every_head_learns(learned: Path) -> None:
    lines = [json.loads(line) for line in (learned / "metrics.jsonl").read_text().splitlines()]
    heads = {slot.head for slot in find_model(learned).layout.slots}
    assert heads == set(HEADS)
    for task, first in lines[0]["task_losses"].items():
        assert lines[-1]["task_losses"][task] < 0.9 * first, task
    reports = read_reports(learned / "reports.jsonl").reports
    [before, after] = [r.scores["rouge1"] for r in reports if r.task == GENERATED]
    assert after > before + 0.2


def test_eval_writes_the_same_answers_again(learned: Path, quickstart_data: Path) -> None:
    final = [r for r in read_reports(learned / "reports.jsonl").reports if r.step == 60]
    arguments = [str(learned), "--data", str(quickstart_data), "--max-examples", "16", "--json"]
    done = CliRunner().invoke(command, arguments, catch_exceptions=False)
    found = {(row["task"], row["metric"]): row["score"] for row in json.loads(done.stdout)}
    for report in final:
        for metric, score in report.scores.items():
            assert found[report.task, metric] == pytest.approx(score, abs=2e-4)


def test_what_is_saved_loads_without_us(learned: Path) -> None:
    from transformers import AutoModel, AutoModelForSeq2SeqLM

    folder = learned / "model" / "encoder"
    model = load_model(find_model(learned), CPU)
    whole = AutoModelForSeq2SeqLM.from_pretrained(folder)
    assert all(torch.equal(p, q) for p, q in zip(whole.parameters(), model.encoder.parameters(),
                                                 strict=True))  # fmt: skip
    bare = AutoModel.from_pretrained(folder)
    assert torch.equal(bare.shared.weight, whole.lm_head.weight)


def texts_written(
    learned: Path, data: Path, zoo: Zoo, monkeypatch: pytest.MonkeyPatch, budget: int
) -> list[str]:
    seen: list[list[str]] = []

    def watched(metrics: Any, predictions: Any, targets: Any, **options: Any) -> Any:
        seen.append(predictions)
        return score_all(metrics, predictions, targets, **options)

    monkeypatch.setattr(evaluate, "score_all", watched)
    request = EvalRequest(
        checkpoint=learned, data=data, tasks=(zoo.task(GENERATED),), tokens_per_micro_batch=budget
    )
    TorchTrainer().evaluate(request)
    return seen[0]


def test_settings_of_the_models_own_play_no_part(
    learned: Path,
    quickstart_data: Path,
    zoo: Zoo,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the publisher of a summarizer set would come in by the library's back door."""
    model = tmp_path / "model"
    shutil.copytree(learned / "model", model)
    path = model / "encoder" / "generation_config.json"
    own = json.loads(path.read_text("utf-8"))
    hostile = {"min_length": 14, "no_repeat_ngram_size": 1, "forced_bos_token_id": 5}
    path.write_text(json.dumps({**own, **hostile}))
    plain = texts_written(learned, quickstart_data, zoo, monkeypatch, 512)
    assert texts_written(model, quickstart_data, zoo, monkeypatch, 512) == plain


def test_answers_do_not_depend_on_the_batch(
    learned: Path, quickstart_data: Path, zoo: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = texts_written(learned, quickstart_data, zoo, monkeypatch, budget=8)
    assert len(set(alone)) > 3, "one answer to all would be equal anyhow"
    for budget in (64, 300, 4096):
        assert texts_written(learned, quickstart_data, zoo, monkeypatch, budget=budget) == alone


def test_answers_are_the_librarys_of_each_row_alone(
    learned: Path, quickstart_data: Path, zoo: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(find_model(learned), CPU)
    assert model.beam_search == BeamSearch(num_beams=2, length_penalty=1.0)
    split = open_task(quickstart_data, GENERATED, "validation")
    ours = texts_written(learned, quickstart_data, zoo, monkeypatch, budget=4096)
    tokenizer = evaluate.tokenizer_of(model)
    for row in range(6):
        ids = torch.from_numpy(split.record(row).sequences[0].astype(np.int64))[None]
        mask = torch.ones_like(ids)
        with torch.no_grad():
            whole: Any = model.encoder
            found = whole.generate(
                ids, attention_mask=mask, num_beams=2, max_new_tokens=16, forced_eos_token_id=None
            )
        assert tokenizer.decode(found[0].tolist(), skip_special_tokens=True) == ours[row]


def test_beams_and_lengths_are_heeded(learned: Path, make_run: MakeRun, mixed_specs: Path,
                                      tmp_path: Path) -> None:  # fmt: skip
    model = load_model(find_model(learned), CPU)
    settings = {"encoder": str(ENCODER_DECODER)}
    plan = plan_of(make_run(mixture="all_heads", model=settings), mixed_specs, tmp_path)
    batch = to_tensors(collate(answers_of(plan, range(4)), plan.pool, pad_id(model)), CPU)
    sequences = batch.groups["generation"].sequences[:, 0]

    def written(max_tokens: int, **search: Any) -> torch.Tensor:
        with torch.no_grad():
            chosen = BeamSearch(**search)
            return backbone.generate(model.encoder, batch, sequences, max_tokens, chosen)

    assert written(3, num_beams=2).shape[1] <= 4  # the decoder's start token comes first
    short = written(30, num_beams=4, length_penalty=-4.0)
    long = written(30, num_beams=4, length_penalty=4.0)
    assert (long != model.encoder.config.pad_token_id).sum() > (short != 1).sum()  # type: ignore[union-attr]


def test_references_are_whole_though_targets_are_cut(
    quickstart_data: Path, zoo: Zoo, tmp_path: Path
) -> None:
    from muppet_zoo.build import BuildOptions, build
    from muppet_zoo.encode import open_tokenizer

    spec = zoo.task(GENERATED)
    short = replace(spec, head=replace(spec.head, max_target_tokens=4))
    build(
        [short],
        tokenizer=open_tokenizer(str(ENCODER_DECODER)),
        out=tmp_path,
        options=BuildOptions(limit=48, max_tokens=64),
    )
    cut, whole = (open_task(folder, GENERATED, "train") for folder in (tmp_path, quickstart_data))
    rows = np.arange(10)
    assert {len(cut.record(row).target) for row in rows.tolist()} == {4}
    assert cut.column("answer", rows) == whole.column("answer", rows)


def test_an_encoder_cannot_write(make_run: MakeRun, mixed_specs: Path, tmp_path: Path) -> None:
    with pytest.raises(
        NotTrainableError, match=r"answers of qs_summary \(generation\); that needs"
    ):
        plan_of(make_run(mixture="all_heads"), mixed_specs, tmp_path)


def test_the_mean_is_over_an_answers_own_tokens(
    make_run: MakeRun, mixed_specs: Path, tmp_path: Path
) -> None:
    """A long answer counts as much as a short one: losses are per example."""
    run = make_run(mixture="all_heads", model={"encoder": str(ENCODER_DECODER)})
    plan = plan_of(run, mixed_specs, tmp_path)
    model: MultiTaskModel = make_model(plan).eval()
    together, _ = model(to_tensors(collate(answers_of(plan, [0, 1, 2]), plan.pool, 1), CPU))
    for i in range(3):
        alone, _ = model(to_tensors(collate(answers_of(plan, [i]), plan.pool, 1), CPU))
        assert together[i].item() == pytest.approx(alone.item(), rel=1e-5)


def test_answers_that_are_longer_than_the_decoder_reaches(
    make_run: MakeRun, seq2seq_folder: Callable[..., Path], mixed_specs: Path, tmp_path: Path
) -> None:
    settings = {"encoder": str(seq2seq_folder("bart"))}
    plan = plan_of(make_run(mixture="all_heads", model=settings), mixed_specs, tmp_path)
    slots = tuple(replace(slot, max_target_tokens=65) for slot in plan.layout.slots)
    long = replace(plan, layout=replace(plan.layout, slots=slots))
    with pytest.raises(UsageError, match=r"max_target_tokens is 65, .* writes at most 64"):
        make_model(long)


def test_a_configuration_that_does_not_say_how_answers_begin(
    make_run: MakeRun, seq2seq_folder: Callable[..., Path], mixed_specs: Path, tmp_path: Path
) -> None:
    settings = {"encoder": str(seq2seq_folder("t5", decoder_start_token_id=None))}
    plan = plan_of(make_run(mixture="all_heads", model=settings), mixed_specs, tmp_path)
    with pytest.raises(UsageError, match="states no number for decoder_start_token_id"):
        make_model(plan)
