"""The folder a trained model lives in, and how its heads are laid out; readable without torch.

    model/
    ├── encoder/            Hugging Face format: AutoModel and AutoTokenizer load it; an encoder-
    │                       decoder is whole, for AutoModelForSeq2SeqLM
    ├── heads.safetensors   the fused parameters of all heads
    └── heads.json          which columns belong to which task, labels, how heads read; written last

All heads of one level share one linear map. Its columns are dealt out here: a classification task
owns one column per label, tasks that name the same shared head own the same columns. Generation has
no columns: it uses the output layer of the encoder-decoder.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from muppet_zoo.errors import CheckpointError, UnknownNameError
from muppet_zoo.file_tools import checksum_of, write_atomically
from muppet_zoo.heads import HEADS
from muppet_zoo.manifests import decode
from muppet_zoo.overlap.record import ComparedSplit
from muppet_zoo.spec import TaskSpec
from muppet_zoo.targets import SENTENCE, TOKEN, VOCABULARY

LAYOUT_FILE = "heads.json"
CHECKPOINT_FILE = "checkpoint.json"
ENCODER_FOLDER = "encoder"
WEIGHTS_FILE = "heads.safetensors"
MODEL_FOLDER = "model"
CHECKPOINTS_FOLDER = "checkpoints"

POOLINGS = ("first", "mean", "end")
DENSE_LAYERS = ("none", "shared", "per_task")


@dataclass(frozen=True, kw_only=True)
class BeamSearch:
    """How answers are generated when they are scored, as in the run file."""

    num_beams: int = 4
    length_penalty: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Lora:
    """Low-rank adapters instead of all weights (Hu et al. 2021); `target_modules` None: all linear.

    What is saved has them merged into the weights.
    """

    rank: int
    alpha: float
    dropout: float
    target_modules: tuple[str, ...] | None


@dataclass(frozen=True, kw_only=True)
class Freeze:
    """What is not trained: the embeddings, the lowest `layers` layers of the encoder."""

    embeddings: bool = False
    layers: int = 0


@dataclass(frozen=True, kw_only=True)
class HeadSlot:
    """The columns [start, start + size) of a level's linear map that answer one task.

    level: `sentence`, read from the pooled state, `token`, read from every token's state, or
        `vocabulary`, read by the output layer, which has no columns here.
    no_answer: the first token may be the answer, meaning that there is none.
    shared_head: tasks with this name of a head, and the same head type, have the same columns.
    max_target_tokens: longest answer that is generated.
    """

    task: str
    head: str
    level: str
    start: int
    size: int
    labels: tuple[str, ...] = ()
    range: tuple[float, float] | None = None
    no_answer: bool = False
    shared_head: str | None = None
    max_target_tokens: int | None = None


@dataclass(frozen=True, kw_only=True)
class HeadLayout:
    """One slot per task, in the run's order of tasks, and how wide each level's map is."""

    slots: tuple[HeadSlot, ...]
    num_sentence_columns: int
    num_token_columns: int

    @property
    def sentence_starts(self) -> tuple[int, ...]:
        """The first column of each sentence head, ascending; tasks that share a head count once."""
        return tuple(sorted({slot.start for slot in self.slots if slot.level == SENTENCE}))

    @property
    def generates(self) -> bool:
        """Whether any task's answers are generated."""
        return any(slot.level == VOCABULARY for slot in self.slots)


@dataclass(frozen=True, kw_only=True)
class _Description:
    layout: HeadLayout
    pooling: str
    dropout: float
    head_dense: str
    beam_search: BeamSearch
    lora: Lora | None
    freeze: Freeze
    step: int
    seed: int
    overlap: dict[str, ComparedSplit] | None = None
    earlier_tasks: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ModelFolder(_Description):
    """What heads.json says, and where it lies.

    overlap: the evaluation splits that the training rows were compared with; see `overlap.record`.
    earlier_tasks: what the encoder had been trained on when this training began, in order of names.
    Both speak of all trainings that led to this model, one after another.
    """

    path: Path

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks the model has a head for."""
        return tuple(slot.task for slot in self.layout.slots)


def lay_out(specs: Sequence[TaskSpec]) -> HeadLayout:
    """Deal out columns in the order of `specs`."""
    widths = {SENTENCE: 0, TOKEN: 0, VOCABULARY: 0}
    shared: dict[tuple[str, str], int] = {}
    slots = []
    for spec in specs:
        head = spec.head
        start = widths[head.level]
        if head.shared_head is not None:
            start = shared.setdefault((head.type, head.shared_head), start)
        widths[head.level] = max(widths[head.level], start + head.num_columns)
        slots.append(
            HeadSlot(
                task=spec.name,
                head=head.type,
                level=head.level,
                start=start,
                size=head.num_columns,
                labels=getattr(head, "labels", ()),
                range=getattr(head, "range", None),
                no_answer=getattr(head, "no_answer", False),
                max_target_tokens=getattr(head, "max_target_tokens", None),
                shared_head=head.shared_head,
            )
        )
    return HeadLayout(
        slots=tuple(slots),
        num_sentence_columns=widths[SENTENCE],
        num_token_columns=widths[TOKEN],
    )


def has_slot_for(model: ModelFolder, spec: TaskSpec) -> bool:
    """Whether a head of the model answers a task: its own, or one that the task shares."""
    own = {(slot.head, slot.shared_head) for slot in model.layout.slots if slot.shared_head}
    return spec.name in model.tasks or (spec.head.type, spec.head.shared_head) in own


def with_slots_for(model: ModelFolder, specs: Sequence[TaskSpec]) -> HeadLayout:
    """The model's layout with a slot for each of `specs` that it was not trained on.

    Such a task is answered by a head that others trained and that its spec names as shared: so one
    model scores a commonsense task it never saw, or the adversarial version of one that it did.

    Raises:
        UnknownNameError: no head of the model answers a task.
        CheckpointError: a spec means other things by a head's columns than the model does.
    """
    trained = {slot.task: slot for slot in model.layout.slots}
    shared = {
        (slot.head, slot.shared_head): slot for slot in model.layout.slots if slot.shared_head
    }
    added = []
    for spec, now in zip(specs, lay_out(specs).slots, strict=True):
        before = trained.get(spec.name)
        if before is None and now.shared_head is not None:
            before = shared.get((now.head, now.shared_head))
        if before is None:
            raise UnknownNameError(f"task with a head in {model.path}", spec.name, model.tasks)
        for what in ("head", "labels", "range"):
            if getattr(before, what) != getattr(now, what):
                raise CheckpointError(
                    f"task {spec.name}: {model.path} was trained with {what} "
                    f"{getattr(before, what)}, its spec now has {getattr(now, what)}"
                )
        if spec.name not in trained:
            added.append(replace(now, start=before.start))
    return replace(model.layout, slots=(*model.layout.slots, *added))


def write_layout(model: ModelFolder) -> None:
    """Write heads.json; done last, it marks the folder as complete."""
    data = {key: value for key, value in asdict(model).items() if key != "path"}
    write_atomically(model.path / LAYOUT_FILE, json.dumps(data, indent=1).encode())


def find_model(path: Path) -> ModelFolder:
    """The model in `path`: a model folder, a checkpoint, or what `train --out` wrote.

    Raises:
        CheckpointError: when there is none, or it is damaged.
    """
    checkpoints = sorted((path / CHECKPOINTS_FOLDER).glob(f"step-*/{MODEL_FOLDER}"))
    for folder in (path, path / MODEL_FOLDER, *reversed(checkpoints)):
        if (folder / LAYOUT_FILE).is_file():
            _check_checksums(folder)
            return _read(folder)
    raise CheckpointError(
        f"no trained model in {path}: neither {LAYOUT_FILE} nor {MODEL_FOLDER}/{LAYOUT_FILE} is "
        f"there; give the folder that `muppet-zoo train --out` wrote"
    )


def model_of_encoder(encoder: str) -> ModelFolder | None:
    """The model folder that an encoder, by its path, lies in; None for any other encoder.

    Raises:
        CheckpointError: the folder is damaged.
    """
    path = Path(encoder)
    ours = path.name == ENCODER_FOLDER and (path.parent / LAYOUT_FILE).is_file()
    return find_model(path.parent) if ours else None


def _check_checksums(folder: Path) -> None:
    """Refuse a model in a checkpoint whose record of checksums says that a file of it changed."""
    try:
        files = dict(json.loads((folder.parent / CHECKPOINT_FILE).read_text("utf-8"))["files"])
    except (OSError, ValueError, TypeError, LookupError):
        return  # no checkpoint's; one that is not whole is told when it is resumed
    for name, checksum in files.items():
        path = folder.parent / name
        if path.is_relative_to(folder) and not (path.is_file() and checksum_of(path) == checksum):
            raise CheckpointError(
                f"{path} is damaged or missing: it is not the file that was saved; give an earlier "
                f"checkpoint of {folder.parent.parent}"
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
    _check_choice("pooling", described.pooling, POOLINGS)
    _check_choice("head_dense", described.head_dense, DENSE_LAYERS)
    layout = described.layout
    widths = {SENTENCE: layout.num_sentence_columns, TOKEN: layout.num_token_columns}
    for slot in layout.slots:
        head = HEADS.get(slot.head)
        if head is None or slot.level != head.level:
            raise ValueError(f"{slot.task}: no '{slot.head}' head reads the level '{slot.level}'")
        if slot.level == VOCABULARY:
            if not slot.max_target_tokens:
                raise ValueError(f"{slot.task}: max_target_tokens is {slot.max_target_tokens}")
        elif not 1 <= slot.size <= widths[slot.level] - slot.start:
            raise ValueError(
                f"{slot.task}: {slot.size} columns from {slot.start} of {widths[slot.level]}"
            )


def _check_choice(key: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ValueError(f"{key}: '{value}' is none of {', '.join(allowed)}")
