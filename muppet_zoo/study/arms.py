"""The arms of a study on a pool of tasks: those it names, nested subsets, families left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from muppet_zoo.errors import UnknownNameError, UsageError
from muppet_zoo.spec import TaskSpec
from muppet_zoo.study.design import ArmDesign, Design, Encoder

_ORDER_SEED = 20210126  # any fixed number: the day of the paper's first version


@dataclass(frozen=True, kw_only=True)
class StudyArm:
    """An arm with its tasks by name; none of them means the encoder as it is."""

    name: str
    description: str
    tasks: tuple[str, ...]
    prefinetune: Mapping[str, Any]
    finetune: Mapping[str, Any]
    finetune_budget: int = 1
    micro_batches_per_step: int | None = None


def arms_of(design: Design, pool: Sequence[TaskSpec], encoder: Encoder) -> list[StudyArm]:
    """All arms of a study for one encoder.

    Raises:
        UnknownNameError: an arm names a task that is not in the pool, or the baseline is no arm.
    """
    names = [spec.name for spec in pool]
    arms = [_named(arm, names) for arm in design.arms]
    arms += _subsets(design, names, encoder)
    if design.leave_out_families:
        arms += _without_families(pool)
    if design.baseline not in [arm.name for arm in arms]:
        raise UnknownNameError("arm", design.baseline, [arm.name for arm in arms])
    return [replace(arm, micro_batches_per_step=design.micro_batches_per_step) for arm in arms]


def _named(arm: ArmDesign, pool: Sequence[str]) -> StudyArm:
    if arm.tasks == "none":
        tasks: tuple[str, ...] = ()
    elif arm.tasks == "all":
        tasks = tuple(pool)
    elif arm.tasks is None:
        tasks = tuple(name for name in arm.first_of if name in pool)[:1]
        if not tasks:
            raise UsageError(f"arm {arm.name}: the pool has none of {', '.join(arm.first_of)}")
    else:
        tasks = tuple(arm.tasks)
        for name in tasks:
            if name not in pool:
                raise UnknownNameError("task of the pool", name, pool)
    return StudyArm(
        name=arm.name,
        description=arm.description,
        tasks=tasks,
        prefinetune=arm.prefinetune,
        finetune=arm.finetune,
        finetune_budget=arm.finetune_budget,
    )


def _subsets(design: Design, pool: Sequence[str], encoder: Encoder) -> Iterator[StudyArm]:
    """The sizes below the pool's; of one order each subset holds the smaller ones."""
    import numpy as np

    wanted = [s for s in design.sizes if encoder.sizes is None or s in encoder.sizes]
    for order in range(min(design.orders, encoder.orders or design.orders)):
        shuffled = np.random.default_rng([_ORDER_SEED, order]).permutation(sorted(pool)).tolist()
        for size in (size for size in wanted if size < len(pool)):
            yield _plain_arm(
                f"tasks_{size:02d}_order{order}", f"{size} tasks, order {order}", shuffled[:size]
            )


def _without_families(pool: Sequence[TaskSpec]) -> Iterator[StudyArm]:
    for family in sorted({spec.family for spec in pool}):
        left = [spec.name for spec in pool if spec.family != family]
        yield _plain_arm(f"without_{family}", f"all tasks but those of the family {family}", left)


def _plain_arm(name: str, description: str, tasks: Sequence[str]) -> StudyArm:
    return StudyArm(
        name=name, description=description, tasks=tuple(tasks), prefinetune={}, finetune={}
    )
