"""What a trainer is: two methods, found by name in the entry-point group `muppet_zoo.trainers`.

The data package never imports a trainer. A distribution that brings one declares, for example,

    [project.entry-points."muppet_zoo.trainers"]
    mine = "my_package:MyTrainer"

and `muppet-zoo train --trainer mine` uses it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from muppet_zoo.affinity import Affinity, AffinityRequest
from muppet_zoo.errors import MissingExtraError, UnknownNameError, UsageError
from muppet_zoo.mixture import Rates
from muppet_zoo.results import TaskReport
from muppet_zoo.rows import Row
from muppet_zoo.run import Run
from muppet_zoo.spec import TaskSpec
from muppet_zoo.zoo import Zoo

GROUP = "muppet_zoo.trainers"


@dataclass(frozen=True, kw_only=True)
class TrainRequest:
    """Train `run` on `tasks`, mixed at `rates`, and write everything under `out`.

    spec_dirs are the extra spec folders the tasks came from, for trainers that start processes.
    launched: this process is one of several that a launcher started with the same request.
    """

    run: Run
    tasks: tuple[TaskSpec, ...]
    rates: Rates
    out: Path
    resume: bool = False
    num_processes: int = 1
    launched: bool = False
    spec_dirs: tuple[Path, ...] = ()


@dataclass(frozen=True, kw_only=True)
class EvalRequest:
    """Score the model in `checkpoint` on `split` of the tasks built under `data`.

    predictions: a folder that receives TASK.jsonl for each task; see `finetune.results`.
    precision: of the matrix products, as a run's.
    """

    checkpoint: Path
    data: Path
    tasks: tuple[TaskSpec, ...]
    split: str = "validation"
    precision: str = "fp32"
    max_examples: int | None = None
    tokens_per_micro_batch: int = 8192
    predictions: Path | None = None


@dataclass(frozen=True, kw_only=True)
class ExportRequest:
    """Write the model in `checkpoint` to `out` in Hugging Face format.

    task: as a whole model for this task; without it the encoder alone.
    specs: what is known of the model's tasks, by name, for the model card.
    """

    checkpoint: Path
    out: Path
    task: TaskSpec | None
    specs: Mapping[str, TaskSpec]


@dataclass(frozen=True, kw_only=True)
class PredictRequest:
    """Answer numbered rows with the model in `checkpoint`, as they come.

    max_tokens: longer inputs are cut, long contexts of questions read in windows; None is the
    encoder's own limit, at most 512. skip_bad_rows: say what is wrong with a row in its place,
    rather than stop. rows_at_a_time: read before any of them is answered; memory grows with it.
    """

    checkpoint: Path
    task: TaskSpec
    rows: Iterable[tuple[int, Row]]
    max_tokens: int | None = None
    tokens_per_micro_batch: int = 8192
    skip_bad_rows: bool = False
    rows_at_a_time: int = 256


@runtime_checkable
class Trainer(Protocol):
    """Anything that can train and evaluate; its class is called without arguments."""

    def train(self, request: TrainRequest) -> Sequence[TaskReport] | None:
        """Train to the end and return the final scores; `request.out/model` holds the model.

        Of the processes of a launcher only the first returns them; the others return None.
        """
        ...

    def evaluate(self, request: EvalRequest) -> Sequence[TaskReport]:
        """Scores of each task, in the request's order."""
        ...


@runtime_checkable
class ModelUser(Protocol):
    """A trainer that can also put a model folder to use; the folder is the same for all trainers.

    `muppet-zoo export`, `predict` and `affinity` use `torch`.
    """

    def export(self, request: ExportRequest) -> Path:
        """Write the exported folder and return it."""
        ...

    def predict(self, request: PredictRequest) -> Iterator[dict[str, Any]]:
        """A record for each example of each row, in order; each has the `row` it answers."""
        ...

    def affinity(self, request: AffinityRequest) -> Affinity:
        """Cosines between the gradients of tasks."""
        ...


def load_model_user() -> ModelUser:
    """What puts model folders to use.

    Raises:
        MissingExtraError: torch or transformers is not installed.
    """
    trainer = load_trainer("torch")
    assert isinstance(trainer, ModelUser)
    return trainer


def load_trainer(name: str) -> Trainer:
    """The trainer of this name.

    Raises:
        UnknownNameError: no installed distribution offers one.
        MissingExtraError: it is there, but what it imports is not installed.
    """
    points = {point.name: point for point in metadata.entry_points(group=GROUP)}
    if name not in points:
        raise UnknownNameError("trainer", name, list(points))
    try:
        trainer = points[name].load()()
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or name, "train") from error
    if not isinstance(trainer, Trainer):
        raise UsageError(
            f"trainer '{name}' ({points[name].value}) lacks the methods `train` and `evaluate`"
        )
    return trainer


def tasks_of(run: Run, zoo: Zoo) -> tuple[tuple[TaskSpec, ...], Rates]:
    """The tasks that a run trains on, and their rates.

    Raises:
        UnknownNameError: a task, mixture or target that the zoo has not.
        UsageError: the run would train on its targets.
    """
    names: tuple[str, ...]
    if run.task is not None:
        names, rates = (run.task,), Rates()
    else:
        mixture = zoo.mixture(run.mixture or "")
        names, rates = mixture.tasks, mixture.rates
    tasks = tuple(zoo.task(name) for name in names)
    _check_targets(run, tasks, zoo)
    return tasks, rates


def _check_targets(run: Run, tasks: Sequence[TaskSpec], zoo: Zoo) -> None:
    """Refuse to train on what the model will be judged on."""
    targets: dict[str, TaskSpec] = {}
    for name in run.targets:
        inner = zoo.mixture(name).tasks if name in zoo.mixtures else (name,)
        targets |= {task: zoo.task(task) for task in inner}
    if run.allow_trained_targets:
        return
    by_data = {_dataset(spec): spec.name for spec in targets.values() if spec.source.hub}
    seen = []
    for spec in tasks:
        if spec.name in targets:
            seen.append(spec.name)
        elif spec.source.hub and (other := by_data.get(_dataset(spec))):
            seen.append(f"{spec.name} (the dataset of {other})")
    if seen:
        what = f"mixture '{run.mixture}'" if run.mixture else "task"
        raise UsageError(
            f"the {what} trains on targets of this run: {', '.join(seen)}. Leave them out (key "
            f"`exclude` of a mixture), or set allow_trained_targets: true to train on them anyway"
        )


def _dataset(spec: TaskSpec) -> tuple[str | None, str | None]:
    return spec.source.hub, spec.source.config
