"""Everything a run needs, opened and checked before the first parameter is touched."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from muppet_zoo.batches import Batcher
from muppet_zoo.console import note
from muppet_zoo.errors import ShardError, UnknownNameError, UsageError
from muppet_zoo.fingerprints import BUILDER_VERSION, spec_digest
from muppet_zoo.model_folder import HeadLayout, ModelFolder, lay_out, model_of_encoder
from muppet_zoo.order import Order, quotas
from muppet_zoo.overlap.record import ComparedSplit, compared_splits, joined
from muppet_zoo.row_pool import RowPool
from muppet_zoo.run import Run
from muppet_zoo.run_checks import check_schedule, check_settings
from muppet_zoo.samples import HELD_OUT, sampled
from muppet_zoo.shards import BuiltSplit, check_labelled, open_task, verify
from muppet_zoo.spec import TaskSpec
from muppet_zoo.trainer_api import TrainRequest
from muppet_zoo_torch.checks import check_can_generate

# Counting the steps of so many takes tens of seconds.
_MANY_EXAMPLES = 50_000_000
_HALVINGS = 10  # the share of a task's rows in a run is found to a thousandth


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A run with its data: `train` by task, `evaluation` for the tasks that have that split.

    earlier: the model whose encoder the run begins with, where it is one of ours.
    """

    run: Run
    out: Path
    specs: tuple[TaskSpec, ...]
    layout: HeadLayout
    train: tuple[BuiltSplit, ...]
    evaluation: dict[str, BuiltSplit]
    batcher: Batcher
    num_steps: int
    stop_after_examples: int | None
    earlier: ModelFolder | None

    @cached_property
    def pool(self) -> RowPool:
        """What the rows of its micro-batches are read from."""
        return RowPool(self.train)

    @property
    def compared(self) -> dict[str, ComparedSplit]:
        """The evaluation splits that all training rows were compared with, the earlier ones too."""
        own = compared_splits([split.manifest for split in self.train])
        return own if self.earlier is None else joined(own, self.earlier.overlap or {})

    @property
    def earlier_tasks(self) -> tuple[str, ...]:
        """What the encoder was trained on before this run, as far as its folder says."""
        if self.earlier is None:
            return ()
        return tuple(sorted({*self.earlier.earlier_tasks, *self.earlier.tasks}))

    @property
    def data_digest(self) -> str:
        """Hex SHA-256 of what the run trains on: tasks, rates and built splits, in order."""
        parts = [*(s.name for s in self.specs), *(t.fingerprint for t in self.train)]
        parts += map(str, self.batcher.order.quotas)
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def make_plan(request: TrainRequest) -> Plan:
    """Open the data of every task and lay out the heads.

    Raises:
        ShardError: a train split is not built, or was built from another spec or tokenizer.
        UnknownNameError: no task has the split to evaluate on.
        UsageError: settings that do not go together.
        NotTrainableError: a task's answers are generated and the encoder has no decoder.
    """
    run = request.run
    check_settings(run)
    layout = lay_out(request.tasks)
    check_can_generate(run.model.encoder, layout)
    train, held_out = _train_data(run, request.tasks)
    sizes = tuple(split.num_records for split in train)
    order = Order(
        seed=run.seed,
        task_sizes=sizes,
        quotas=quotas(sizes, request.rates),
        tasks_in_turn=run.batching.scheme == "dataset_homogeneous",
    )
    batcher = Batcher(order=order, datas=train, batching=run.batching)
    if run.schedule.steps is not None:
        num_steps, stop = run.schedule.steps, None
        if order.tasks_in_turn:
            batcher = _in_one_pass(batcher, num_steps)
    else:
        epochs = run.schedule.epochs or 1.0
        stop = batcher.num_examples(epochs)
        if stop > _MANY_EXAMPLES:
            note(f"counting the steps of {stop:,} examples; schedule.steps needs no counting")
        num_steps = batcher.num_steps(epochs)
    check_schedule(run, num_steps)
    evaluation = _evaluation(run, request.tasks, held_out)
    check_one_tokenizer([*train, *evaluation.values()])
    return Plan(
        run=run,
        out=request.out,
        specs=request.tasks,
        layout=layout,
        train=train,
        evaluation=evaluation,
        batcher=batcher,
        num_steps=num_steps,
        stop_after_examples=stop,
        earlier=None if run.model.random_init else model_of_encoder(run.model.encoder),
    )


def _in_one_pass(batcher: Batcher, num_steps: int) -> Batcher:
    """Of each task the same share, so that a run of few steps comes to the last one too.

    Raises:
        UsageError: there are more tasks than steps.
    """
    num_tasks = len(batcher.datas)
    if num_steps < num_tasks:
        raise UsageError(
            f"batching.scheme: dataset_homogeneous trains one task after another, and there are "
            f"{num_tasks} tasks, but schedule.steps is {num_steps}; give each at least one"
        )
    if batcher.num_steps(1) <= num_steps:
        return batcher
    low, high = 0.0, 1.0  # shares that are too small to fill the run, and too large for it
    for _ in range(_HALVINGS):
        share = (low + high) / 2
        if _with_share(batcher, share).num_steps(1) <= num_steps:
            low = share
        else:
            high = share
    return _with_share(batcher, low)


def _with_share(batcher: Batcher, share: float) -> Batcher:
    part = tuple(max(1, int(quota * share)) for quota in batcher.order.quotas)
    return replace(batcher, order=replace(batcher.order, quotas=part))


def _train_data(
    run: Run, specs: Sequence[TaskSpec]
) -> tuple[tuple[BuiltSplit, ...], dict[str, BuiltSplit]]:
    """What each task is trained on, and by task what of its train split the run holds out."""
    train = open_splits(run.data, specs, "train")
    if run.sample is None:
        return train, {}
    parts = [sampled(split, run.sample, run.seed) for split in train]
    held_out: dict[str, BuiltSplit] = {
        spec.name: rest for spec, (_, rest) in zip(specs, parts, strict=True)
    }
    return tuple(part for part, _ in parts), held_out


def _evaluation(
    run: Run, specs: Sequence[TaskSpec], held_out: dict[str, BuiltSplit]
) -> dict[str, BuiltSplit]:
    """What the run is scored on, by task; without the tasks whose split is not built."""
    role = run.evaluation.split
    if role == HELD_OUT:
        if run.sample is None or not run.sample.held_out:
            raise UsageError("evaluation.split is held_out, and nothing is: set sample.held_out")
        return held_out
    known = {name for spec in specs for name in spec.source.splits}
    if role not in known:
        raise UnknownNameError("split of the run's tasks", role, sorted(known))
    scored = [spec for spec in specs if has_split(run.data, spec.name, role)]
    splits = open_splits(run.data, scored, role)
    return {spec.name: split for spec, split in zip(scored, splits, strict=True)}


def has_split(data: Path, task: str, role: str) -> bool:
    """Whether this split was built to the end."""
    return (data / task / role / "manifest.json").is_file()


def open_splits(data: Path, specs: Sequence[TaskSpec], role: str) -> tuple[BuiltSplit, ...]:
    """The built `role` of each task, with labels, all with one tokenizer, from the present specs.

    Raises:
        UsageError: there is no such folder.
        ShardError: a split is not built, damaged, not labelled, or does not belong to the
            others.
    """
    if not data.is_dir():
        raise UsageError(f"no such data folder: {data}; make it with muppet-zoo build --out {data}")
    splits = tuple(open_task(data, spec.name, role) for spec in specs)
    for spec, split in zip(specs, splits, strict=True):
        described = spec.source.splits.get(role)
        if described is None or split.manifest.components["spec"] != spec_digest(spec, role):
            raise ShardError(
                f"task {spec.name}, split {role}: {split.folder} was built from another version of "
                f"{spec.path.name}; run muppet-zoo build {spec.name} again"
            )
        if split.manifest.components["builder"] != str(BUILDER_VERSION):
            raise ShardError(
                f"task {spec.name}, split {role}: {split.folder} was built by another version of "
                f"muppet-zoo, whose shards have other columns; run muppet-zoo build {spec.name} "
                f"again"
            )
        check_labelled(spec, role)
    for spec in specs:
        verify(data, spec.name, role)  # a damaged token id trains without a word
    check_one_tokenizer(splits)
    return splits


def check_one_tokenizer(splits: Sequence[BuiltSplit]) -> None:
    """Refuse splits whose token ids mean different things."""
    for split in splits:
        if split.manifest.tokenizer.digest != splits[0].manifest.tokenizer.digest:
            raise ShardError(
                f"{split.folder} was built with another tokenizer than {splits[0].folder}; build "
                f"all tasks of a run with one tokenizer"
            )
