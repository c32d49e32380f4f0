"""What a run opens is what was built."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from muppet_zoo_torch import plan as plan_module
from muppet_zoo_torch.plan import Plan, make_plan, open_splits

from muppet_zoo.errors import ShardError, UsageError
from muppet_zoo.run import Run
from muppet_zoo.trainer_api import TrainRequest, tasks_of
from muppet_zoo.zoo import Zoo, load_zoo


def test_a_shard_whose_bytes_changed_is_refused(
    zoo: Zoo, quickstart_data: Path, quickstart_tasks: tuple[str, ...], tmp_path: Path
) -> None:
    spec = zoo.task(quickstart_tasks[0])
    shutil.copytree(quickstart_data / spec.name, tmp_path / spec.name)
    (split,) = open_splits(tmp_path, [spec], "train")
    shard = split.folder / split.manifest.shards[0].file
    raw = bytearray(shard.read_bytes())
    raw[len(raw) // 2] ^= 1
    shard.write_bytes(raw)
    with pytest.raises(ShardError, match=rf"run muppet-zoo build {spec.name} --verify"):
        open_splits(tmp_path, [spec], "train")


def test_shards_of_another_builder_are_refused(
    zoo: Zoo,
    quickstart_data: Path,
    quickstart_tasks: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They lack columns, or have them mean something else."""
    monkeypatch.setattr(plan_module, "BUILDER_VERSION", 999)
    spec = zoo.task(quickstart_tasks[0])
    with pytest.raises(
        ShardError, match=rf"another version of muppet-zoo.* build {spec.name} again"
    ):
        open_splits(quickstart_data, [spec], "train")


def plan_of(run: Run, specs: Path, out: Path) -> Plan:
    tasks, rates = tasks_of(run, load_zoo([specs]))
    return make_plan(TrainRequest(run=run, tasks=tasks, rates=rates, out=out))


@pytest.mark.parametrize("steps", [17, 20, 25])
def test_a_run_of_one_task_after_another_comes_to_the_last(
    make_run: Callable[..., Run], mixed_specs: Path, tmp_path: Path, steps: int
) -> None:
    """However few its steps: of each task it takes a part."""
    run = make_run(batching={"scheme": "dataset_homogeneous"}, schedule={"steps": steps})
    plan = plan_of(run, mixed_specs, tmp_path)
    taken = itertools.islice(plan.batcher.steps(), plan.num_steps)
    tasks = [int(step.micro_batches[0].tasks[0]) for step in taken]
    in_turn = [task for task, _ in itertools.groupby(tasks)]
    num_tasks = len(plan.specs)
    assert in_turn[:num_tasks] == list(range(num_tasks))
    # Some steps may be left, since each task takes whole ones; they begin anew with the first.
    assert in_turn[num_tasks:] == list(range(len(in_turn) - num_tasks))
    assert 0 <= steps - plan.batcher.num_steps(1) < num_tasks


def test_a_long_run_of_one_task_after_another_takes_all_rows(
    make_run: Callable[..., Run], mixed_specs: Path, tmp_path: Path
) -> None:
    run = make_run(batching={"scheme": "dataset_homogeneous"}, schedule={"steps": 10_000})
    plan = plan_of(run, mixed_specs, tmp_path)
    assert plan.batcher.order.quotas == tuple(split.num_records for split in plan.train)


def test_one_task_after_another_needs_a_step_for_each(
    make_run: Callable[..., Run], mixed_specs: Path, tmp_path: Path
) -> None:
    run = make_run(batching={"scheme": "dataset_homogeneous"}, schedule={"steps": 3})
    with pytest.raises(UsageError, match=r"there are \d+ tasks, but schedule\.steps is 3"):
        plan_of(run, mixed_specs, tmp_path)
