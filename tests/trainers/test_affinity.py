"""Gradients of tasks: sketched cosines are those of whole gradients, and what the command shows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from muppet_zoo_torch import affinity as by_torch
from muppet_zoo_torch.batch import to_tensors
from muppet_zoo_torch.evaluate import pad_id
from muppet_zoo_torch.export import load_model
from muppet_zoo_torch.trainer import TorchTrainer
from torch import Tensor

from muppet_zoo.affinity import Affinity, AffinityRequest
from muppet_zoo.batches import MicroBatchPlan, sample_examples
from muppet_zoo.build import BuildOptions, build
from muppet_zoo.cli.affinity import command
from muppet_zoo.collate import collate
from muppet_zoo.encode import open_tokenizer
from muppet_zoo.errors import UnknownNameError, UsageError
from muppet_zoo.model_folder import find_model
from muppet_zoo.row_pool import RowPool
from muppet_zoo.shards import open_task
from muppet_zoo.zoo import Zoo, shipped_specs

ENCODER = shipped_specs() / "quickstart/tiny_encoder"
TASKS = ("qs_topic", "qs_similarity", "qs_word_tags")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def found(trained: Path, quickstart_data: Path, zoo: Zoo) -> Affinity:
    return TorchTrainer().affinity(request(trained, quickstart_data, zoo, num_examples=4))


def request(checkpoint: Path, data: Path, zoo: Zoo, num_examples: int) -> AffinityRequest:
    tasks = tuple(zoo.task(name) for name in TASKS)
    return AffinityRequest(
        checkpoint=checkpoint, data=data, tasks=tasks, num_examples=num_examples,
        tokens_per_micro_batch=64,
    )  # fmt: skip


def whole_gradient(checkpoint: Path, data: Path, task: str, half: int, size: int) -> Tensor:
    """One example at a time, nothing folded."""
    model = load_model(find_model(checkpoint), CPU).eval()
    split = open_task(data, task, "train")
    number = [slot.task for slot in model.layout.slots].index(task)
    for row in sample_examples(len(split.lengths), 2 * size)[half::2]:
        rows = torch.tensor([int(row)]).numpy()
        plan = MicroBatchPlan(
            tasks=torch.tensor([number], dtype=torch.int32).numpy(), rows=rows,
            lengths=split.lengths[rows],
        )  # fmt: skip
        pool = RowPool([split], tasks=[number])
        losses, _ = model(to_tensors(collate(plan, pool, pad_id(model)), CPU))
        losses.sum().backward()
    parts = [p.grad.flatten() for p in model.encoder.parameters() if p.grad is not None]
    return torch.cat(parts)


def test_cosines_are_those_of_whole_gradients(
    found: Affinity, trained: Path, quickstart_data: Path
) -> None:
    halves = [
        torch.nn.functional.normalize(
            torch.stack([whole_gradient(trained, quickstart_data, t, half, 4) for t in TASKS])
        )
        for half in (0, 1)
    ]
    across = halves[0] @ halves[1].T
    expected = (across + across.T) / 2
    # Three times the error that a sketch of so many buckets makes on average.
    torch.testing.assert_close(
        torch.tensor(found.cosines), expected, rtol=0, atol=3 / by_torch.NUM_BUCKETS**0.5
    )
    assert expected.diagonal().min() > 0.05  # there is something to be found


def test_it_is_symmetric_and_the_same_again(
    found: Affinity, trained: Path, quickstart_data: Path, zoo: Zoo
) -> None:
    cosines = torch.tensor(found.cosines)
    assert found.tasks == TASKS
    assert torch.equal(cosines, cosines.T)
    assert TorchTrainer().affinity(request(trained, quickstart_data, zoo, 4)) == found


def test_a_sketch_keeps_inner_products() -> None:
    generator = torch.Generator().manual_seed(1)
    one, other = (torch.nn.Parameter(torch.zeros(300, 400)) for _ in range(2))
    one.grad = torch.randn(300, 400, generator=generator)
    other.grad = 0.6 * one.grad + 0.8 * torch.randn(300, 400, generator=generator)
    a, b = by_torch.sketch([one]), by_torch.sketch([other])
    assert torch.cosine_similarity(a, b, dim=0) == pytest.approx(0.6, abs=0.02)
    assert float(a @ a) == pytest.approx(float(one.grad.pow(2).sum()), rel=0.02)
    assert a.shape == (by_torch.NUM_BUCKETS,)


def test_tables_name_the_nearest_and_the_farthest() -> None:
    affinity = Affinity(
        tasks=("a", "b", "c"),
        num_examples=(8, 8, 3),
        cosines=((0.9, 0.2, -0.1), (0.2, 0.8, 0.5), (-0.1, 0.5, 0.7)),
    )
    assert affinity.rows(num_nearest=1) == [
        {
            "task": "a",
            "examples": "2 x 8",
            "itself": 0.9,
            "nearest": "b 0.200",
            "farthest": "c -0.100",
        },
        {
            "task": "b",
            "examples": "2 x 8",
            "itself": 0.8,
            "nearest": "c 0.500",
            "farthest": "a 0.200",
        },
        {
            "task": "c",
            "examples": "2 x 3",
            "itself": 0.7,
            "nearest": "b 0.500",
            "farthest": "a -0.100",
        },
    ]
    assert len(affinity.pairs()) == 6
    assert affinity.pairs()[2] == {"task": "a", "other": "c", "cosine": -0.1, "examples": [8, 3]}


def test_no_window_of_an_example_is_in_both_halves(zoo: Zoo, tmp_path: Path) -> None:
    options = BuildOptions(max_tokens=20, limit=30)
    tokenizer = open_tokenizer(str(ENCODER))
    build([zoo.task("qs_who_did_what")], tokenizer=tokenizer, out=tmp_path, options=options)
    windowed = open_task(tmp_path, "qs_who_did_what", "train")
    assert windowed.num_records > windowed.num_examples
    first, second = (
        set(part.column("row", np.arange(part.num_records)))
        for part in by_torch._halves(windowed, 5)
    )
    assert (len(first), len(second)) == (5, 5)
    assert not first & second


def test_fewer_examples_than_asked_are_counted(
    trained: Path, quickstart_data: Path, zoo: Zoo
) -> None:
    asked = request(trained, quickstart_data, zoo, num_examples=10_000)
    assert TorchTrainer().affinity(asked).num_examples == (24, 24, 24)


def test_the_command(trained: Path, quickstart_data: Path, tmp_path: Path, found: Affinity) -> None:
    arguments = [str(trained), "--data", str(quickstart_data), "--examples", "4"]
    named = [part for task in TASKS for part in ("--task", task)]
    figures = ["--figures", str(tmp_path)]
    done = CliRunner().invoke(command, [*arguments, *named, *figures], catch_exceptions=False)
    assert "cosines of gradients" in done.output
    assert all(task in done.output for task in TASKS)
    assert (tmp_path / "affinity.svg").read_bytes().startswith(b"<?xml")
    done = CliRunner().invoke(command, [*arguments, *named, "--json"], catch_exceptions=False)
    assert [pair["cosine"] for pair in json.loads(done.stdout)] == pytest.approx(
        [pair["cosine"] for pair in found.pairs()], abs=1e-6
    )
    with pytest.raises(UsageError, match="two tasks at least"):
        command.main([*arguments, "--task", "qs_topic"], standalone_mode=False)
    with pytest.raises(UnknownNameError, match="qs_topik"):
        command.main([*arguments, "--task", "qs_topik", "--task", "a"], standalone_mode=False)
