"""The folder a trained model lives in, and how its heads are laid out; readable without torch.

    model/
    ├── encoder/            Hugging Face format: AutoModel and AutoTokenizer load it
    ├── heads.safetensors   the fused parameters of all heads
    └── heads.json          which columns belong to which task, labels and pooling; written last

All heads of one level share one linear map. Its columns are dealt out here: a classification task
owns one column per label, tasks that name the same shared head own the same columns.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from muppet_zoo.errors import CheckpointError, NotTrainableError
from muppet_zoo.file_tools import write_atomically
from muppet_zoo.heads import (
    Classification,
    Head,
    MultiLabel,
    MultipleChoice,
    Regression,
    TokenClassification,
)
from muppet_zoo.manifests import decode
from muppet_zoo.overlap_record import ComparedSplit
from muppet_zoo.spans import Span
from muppet_zoo.spec import TaskSpec

LAYOUT_FILE = "heads.json"
ENCODER_FOLDER = "encoder"
WEIGHTS_FILE = "heads.safetensors"
MODEL_FOLDER = "model"
CHECKPOINTS_FOLDER = "checkpoints"

SENTENCE_HEADS = (Classification, MultiLabel, Regression, MultipleChoice)
TOKEN_HEADS = (TokenClassification, Span)
POOLINGS = ("first", "mean")


@dataclass(frozen=True, kw_only=True)
class HeadSlot:
    """The columns [start, start + size) of a level's linear map that answer one task.

    level: `sentence`, read from the pooled state, or `token`, read from every token's state.
    no_answer: the first token may be the answer, meaning that there is none.
    """

    task: str
    head: str
    level: str
    start: int
    size: int
    labels: tuple[str, ...] = ()
    range: tuple[float, float] | None = None
    no_answer: bool = False


@dataclass(frozen=True, kw_only=True)
class HeadLayout:
    """One slot per task, in the run's order of tasks, and how wide each level's map is."""

    slots: tuple[HeadSlot, ...]
    num_sentence_columns: int
    num_token_columns: int


@dataclass(frozen=True, kw_only=True)
class _Description:
    layout: HeadLayout
    pooling: str
    dropout: float
    step: int
    seed: int
    overlap: dict[str, ComparedSplit] | None = None


@dataclass(frozen=True, kw_only=True)
class ModelFolder(_Description):
    """What heads.json says, and where it lies.

    overlap: the evaluation splits that the training rows were compared with; see `overlap_record`.
    """

    path: Path

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks the model has a head for."""
        return tuple(slot.task for slot in self.layout.slots)


def lay_out(specs: Sequence[TaskSpec]) -> HeadLayout:
    """Deal out columns in the order of `specs`.

    Raises:
        NotTrainableError: naming every task whose head cannot be trained yet.
    """
    unfit = [s for s in specs if not isinstance(s.head, SENTENCE_HEADS + TOKEN_HEADS)]
    if unfit:
        listed = ", ".join(f"{spec.name} ({spec.head.type})" for spec in unfit)
        raise NotTrainableError(
            f"not trainable yet: {listed}. The specs are valid and can be built; leave these tasks "
            f"out of the mixture to train the others"
        )
    widths = {"sentence": 0, "token": 0}
    shared: dict[tuple[str, str], int] = {}
    slots = []
    for spec in specs:
        level = "sentence" if isinstance(spec.head, SENTENCE_HEADS) else "token"
        size, start = _num_columns(spec.head), widths[level]
        if spec.head.shared_head is not None:
            start = shared.setdefault((spec.head.type, spec.head.shared_head), start)
        widths[level] = max(widths[level], start + size)
        slots.append(
            HeadSlot(
                task=spec.name,
                head=spec.head.type,
                level=level,
                start=start,
                size=size,
                labels=getattr(spec.head, "labels", ()),
                range=getattr(spec.head, "range", None),
                no_answer=getattr(spec.head, "no_answer", False),
            )
        )
    return HeadLayout(
        slots=tuple(slots),
        num_sentence_columns=widths["sentence"],
        num_token_columns=widths["token"],
    )


def _num_columns(head: Head) -> int:
    if isinstance(head, Classification | MultiLabel | TokenClassification):
        return len(head.labels)
    return 2 if isinstance(head, Span) else 1  # a span has a start and an end


def write_layout(model: ModelFolder) -> None:
    """Write heads.json; done last, it marks the folder as complete."""
    data = {key: value for key, value in asdict(model).items() if key != "path"}
    write_atomically(model.path / LAYOUT_FILE, json.dumps(data, indent=1).encode())


def find_model(path: Path) -> ModelFolder:
    """The model in `path`: a model folder, a checkpoint, or what `train --out` wrote.

    Raises:
        CheckpointError: when there is none, or heads.json is damaged.
    """
    checkpoints = sorted((path / CHECKPOINTS_FOLDER).glob(f"step-*/{MODEL_FOLDER}"))
    for folder in (path, path / MODEL_FOLDER, *reversed(checkpoints)):
        if (folder / LAYOUT_FILE).is_file():
            return _read(folder)
    raise CheckpointError(
        f"no trained model in {path}: neither {LAYOUT_FILE} nor {MODEL_FOLDER}/{LAYOUT_FILE} is "
        f"there; give the folder that `muppet-zoo train --out` wrote"
    )


def _read(folder: Path) -> ModelFolder:
    try:
        data = json.loads((folder / LAYOUT_FILE).read_text("utf-8"))
        described: _Description = decode(_Description, data)
        _check(described)
    except OSError as error:
        raise CheckpointError(f"{folder / LAYOUT_FILE} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{folder / LAYOUT_FILE} is damaged: {error}") from error
    return ModelFolder(path=folder, **vars(described))


def _check(described: _Description) -> None:
    if described.pooling not in POOLINGS:
        raise ValueError(f"pooling: '{described.pooling}' is none of {', '.join(POOLINGS)}")
    levels = {head.type: "sentence" for head in SENTENCE_HEADS}
    levels |= {head.type: "token" for head in TOKEN_HEADS}
    layout = described.layout
    widths = {"sentence": layout.num_sentence_columns, "token": layout.num_token_columns}
    for slot in layout.slots:
        if slot.level != levels.get(slot.head):
            raise ValueError(f"{slot.task}: no '{slot.head}' head reads the level '{slot.level}'")
        if not 1 <= slot.size <= widths[slot.level] - slot.start:
            raise ValueError(
                f"{slot.task}: {slot.size} columns from {slot.start} of {widths[slot.level]}"
            )
