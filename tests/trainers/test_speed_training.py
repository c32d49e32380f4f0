"""The contenders of the training benchmark compute what they are said to."""

from __future__ import annotations

import importlib
import itertools
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from muppet_zoo_torch.batch import to_tensors

from benchmarks.common import ROOT
from benchmarks.speed.record import MIN_ROUNDS
from benchmarks.speed.training.bare_loops import (
    MultiHead,
    bare_batch,
    naive_mixed,
    padded,
    same_micro_batches,
)
from benchmarks.speed.training.inputs import CPU, Example, Inputs, engine_of, run_settings
from muppet_zoo.collate import collate
from muppet_zoo.shards import open_task
from muppet_zoo.zoo import Zoo

TASK = "qs_topic"
SCRIPTS = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in sorted((ROOT / "benchmarks").rglob("*.py"))
    if "@rounds_option(" in path.read_text("utf-8")
]


@pytest.fixture
def inputs(trained: Path, quickstart_data: Path, zoo: Zoo) -> Inputs:
    split = open_task(quickstart_data, TASK, "train")
    return Inputs(
        data=quickstart_data,
        encoder=trained / "model" / "encoder",
        splits=(split,),
        num_labels=(zoo.task(TASK).num_labels or 0,),
        sizes=(len(split.lengths),),
    )


def settings(inputs: Inputs) -> dict[str, object]:
    run = run_settings(inputs, task=TASK)
    del run["mixture"]
    return run


def test_the_bare_loop_has_our_loss(inputs: Inputs, tmp_path: Path) -> None:
    engine, plan = engine_of(settings(inputs), tmp_path)
    ours, bare = engine.model.eval(), MultiHead(inputs, inputs.num_labels).eval()
    columns = ours.state_dict()
    bare.heads[0].load_state_dict(
        {"weight": columns["sentence.weight"], "bias": columns["sentence.bias"]}
    )
    for step in itertools.islice(plan.batcher.steps(), 3):
        batch = collate(step.micro_batches[0], plan.pool, 0)
        losses, _ = ours(to_tensors(batch, CPU))
        torch.testing.assert_close(bare.loss(*bare_batch(batch)), losses.mean())


def test_tokens_are_counted_without_padding(inputs: Inputs, tmp_path: Path) -> None:
    _, plan = engine_of(settings(inputs), tmp_path)
    expected = 0
    for step in itertools.islice(plan.batcher.steps(), 2):
        expected += collate(step.micro_batches[0], plan.pool, 0).num_tokens
    assert same_micro_batches(inputs, plan, number=2)(2) == expected
    assert 0 < naive_mixed(inputs)(1) <= int(inputs.splits[0].lengths.max()) * 32


def test_short_rows_are_filled_up() -> None:
    rows = [Example(task=0, ids=[5, 6, 7], label=1), Example(task=3, ids=[8], label=0)]
    ids, mask, tasks, labels = padded(rows)
    assert ids.tolist() == [[5, 6, 7], [8, 0, 0]]
    assert mask is not None
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]
    assert (tasks.tolist(), labels.tolist()) == ([0, 3], [1, 0])


@pytest.mark.parametrize("name", SCRIPTS)
def test_each_script_measures_enough_rounds_for_a_spread(name: str) -> None:
    main = importlib.import_module(name).main
    [rounds] = [option for option in main.params if option.name == "rounds"]
    assert rounds.type.min == MIN_ROUNDS <= rounds.default
    refused = CliRunner().invoke(main, ["--rounds", str(MIN_ROUNDS - 1)])
    assert (refused.exit_code, f"x>={MIN_ROUNDS}" in refused.output) == (2, True)
