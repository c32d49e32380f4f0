"""A training run as a frozen record: its YAML file, plus the changes of the command line.

The schema `schemas/run.schema.json` is the single source of defaults: they are filled in here,
once, so no other module knows a default. The resolved run is written beside the results, and
resuming asks that it is the same.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muppet_zoo.batches import Batching
from muppet_zoo.errors import SpecError, UsageError, suggest
from muppet_zoo.model_folder import BeamSearch, Freeze, Lora
from muppet_zoo.samples import Sample
from muppet_zoo.validation import load_schema, schema_findings
from muppet_zoo.yaml_reader import Document, parse_scalar, read_yaml

PLAN_VERSION_KEY = "finetune_version"
# Of each of these a run has one; a change by one of them replaces the other one in the file.
_EXCLUSIVE = (
    ("mixture", "task"),
    ("schedule.steps", "schedule.epochs"),
    ("schedule.warmup", "schedule.warmup_steps"),
)


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """The encoder or encoder-decoder (a folder or a hub name), how heads read it, what is trained.

    pooling None: the first token's state of an encoder, the last one's of an encoder-decoder.
    packing: `on`, `off`, or `auto`, which is for the trainer to decide.
    """

    encoder: str
    random_init: bool
    pooling: str | None
    dropout: float
    head_dense: str
    gradient_checkpointing: bool
    packing: str
    freeze: Freeze
    lora: Lora | None
    heads: str


@dataclass(frozen=True, kw_only=True)
class GenerationSettings:
    """How answers are learned and, when they are scored, generated."""

    label_smoothing: float
    beam_search: BeamSearch


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    """Optimizer by name and its constants; `head_learning_rate` None means `learning_rate`.

    head_momentum: whether heads have AdamW's first beta, or 0.
    """

    name: str
    learning_rate: float
    head_learning_rate: float | None
    weight_decay: float
    betas: tuple[float, float]
    eps: float
    gradient_clipping: float
    head_momentum: bool


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Length of the run, in steps or in epochs, and the learning rate's course.

    warmup: share of the steps; None where warmup_steps says how many. power: of polynomial decay.
    """

    steps: int | None
    epochs: float | None
    warmup: float | None
    decay: str
    warmup_steps: int | None = None
    power: float = 1.0


@dataclass(frozen=True, kw_only=True)
class CheckpointSettings:
    """How often to save, how many of the newest to keep, and whether the best scored one too."""

    every_steps: int
    keep: int
    keep_best: bool


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """When and on how much to score; `every_steps` None means only at the end, if `at_end`."""

    split: str
    every_steps: int | None
    at_start: bool
    at_end: bool
    max_examples: int | None


@dataclass(frozen=True, kw_only=True)
class R3F:
    """Noise on the embeddings; see `muppet_zoo_torch.r3f`."""

    weight: float
    weight_by_head: Mapping[str, float]
    noise: str
    epsilon: float
    spectral_norm: bool


@dataclass(frozen=True, kw_only=True)
class DeepSpeedSettings:
    """What only the DeepSpeed trainer reads."""

    zero_stage: int
    timeout_minutes: int
    overlap_comm: bool
    bucket_elements: int


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training run, every default filled in. `raw` is the same as plain data."""

    data: Path
    mixture: str | None
    task: str | None
    targets: tuple[str, ...]
    allow_trained_targets: bool
    sample: Sample | None
    seed: int
    trainer: str
    model: ModelSettings
    generation: GenerationSettings
    batching: Batching
    optimizer: OptimizerSettings
    schedule: Schedule
    r3f: R3F | None
    loss_scaling: str
    precision: str
    on_bad_loss: str
    checkpointing: CheckpointSettings
    evaluation: EvaluationSettings
    log_every_steps: int
    trackers: tuple[str, ...]
    deepspeed: DeepSpeedSettings
    raw: Mapping[str, Any]


def read_run(path: Path, changes: Sequence[str] = ()) -> Run:
    """Read a run file and apply `key.inner=value` changes.

    Paths in the file are relative to it; paths in a change are relative to the working directory.

    Raises:
        SpecError: with every finding in the file.
        UsageError: there is no such file, or a change is wrong.
    """
    if not path.is_file():
        raise UsageError(f"no such run file: {path}" + (" (a folder)" if path.is_dir() else ""))
    document = read_yaml(path)
    _refuse_plans(path, document.data)
    if findings := schema_findings(document, "run"):
        raise SpecError(findings)
    data = with_defaults(document.data)
    data["data"] = _resolved(data["data"], path.parent)
    data["model"]["encoder"] = resolve_encoder(data["model"]["encoder"], path.parent)
    if changes:
        data = _changed(data, changes)
    return parse_run(data)


def is_plan(path: Path) -> bool:
    """Whether this is the file of a finetune plan and not of a run."""
    return path.is_file() and PLAN_VERSION_KEY in read_yaml(path).data


def _refuse_plans(path: Path, data: Mapping[str, Any]) -> None:
    if data.keys() & {"suite", PLAN_VERSION_KEY}:
        raise UsageError(
            f"{path}: a run trains on one mixture or one task; several targets, seeds and settings "
            f"are a finetune plan: write `{PLAN_VERSION_KEY}: 1` and `targets`, then "
            f"muppet-zoo finetune {path}"
        )


def parse_run(data: Mapping[str, Any]) -> Run:
    """The record of a run whose defaults are filled in and whose paths are resolved."""
    optimizer, schedule, evaluation = data["optimizer"], data["schedule"], data["evaluation"]
    return Run(
        data=Path(data["data"]),
        mixture=data.get("mixture"),
        task=data.get("task"),
        targets=tuple(data["targets"]),
        allow_trained_targets=data["allow_trained_targets"],
        sample=_sample(data.get("sample")),
        seed=data["seed"],
        trainer=data["trainer"],
        model=_model_settings(data["model"]),
        generation=_generation_settings(data["generation"]),
        batching=Batching(**data["batching"]),
        optimizer=OptimizerSettings(
            name=optimizer["name"],
            learning_rate=optimizer["learning_rate"],
            head_learning_rate=optimizer.get("head_learning_rate"),
            weight_decay=optimizer["weight_decay"],
            betas=(optimizer["betas"][0], optimizer["betas"][1]),
            eps=optimizer["eps"],
            gradient_clipping=optimizer["gradient_clipping"],
            head_momentum=optimizer["head_momentum"],
        ),
        schedule=Schedule(
            steps=schedule.get("steps"),
            epochs=schedule.get("epochs"),
            warmup=schedule.get("warmup"),
            decay=schedule["decay"],
            warmup_steps=schedule.get("warmup_steps"),
            power=schedule["power"],
        ),
        r3f=R3F(**data["r3f"]) if data.get("r3f") is not None else None,
        loss_scaling=data["loss_scaling"],
        precision=data["precision"],
        on_bad_loss=data["on_bad_loss"],
        checkpointing=CheckpointSettings(**data["checkpointing"]),
        evaluation=EvaluationSettings(
            split=evaluation["split"],
            every_steps=evaluation.get("every_steps"),
            at_start=evaluation["at_start"],
            at_end=evaluation["at_end"],
            max_examples=evaluation.get("max_examples"),
        ),
        log_every_steps=data["logging"]["every_steps"],
        trackers=tuple(data["logging"]["trackers"]),
        deepspeed=DeepSpeedSettings(**data["deepspeed"]),
        raw=data,
    )


def _sample(data: Mapping[str, Any] | None) -> Sample | None:
    return None if data is None else Sample(examples=data["examples"], held_out=data["held_out"])


def _model_settings(data: Mapping[str, Any]) -> ModelSettings:
    lora = data["lora"]
    if lora is not None:
        names = lora.get("target_modules")
        targets = None if names is None else tuple(names)
        lora = Lora(**{**lora, "alpha": float(lora["alpha"]), "target_modules": targets})
    inner = {"freeze": Freeze(**data["freeze"]), "lora": lora, "pooling": data.get("pooling")}
    return ModelSettings(**{**data, **inner})


def _generation_settings(data: Mapping[str, Any]) -> GenerationSettings:
    search = {key: value for key, value in data.items() if key != "label_smoothing"}
    return GenerationSettings(
        label_smoothing=data["label_smoothing"], beam_search=BeamSearch(**search)
    )


def with_defaults(
    data: Mapping[str, Any], schema: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """A run's plain data with every default that its schema states."""
    schema = load_schema("run") if schema is None else schema
    filled = dict(data)
    # Of keys that exclude each other the one that is given leaves no room for the other's default.
    exclusive = set(schema.get("not", {}).get("required", ()))
    taken = exclusive if exclusive & filled.keys() else set()
    for key, inner in schema.get("properties", {}).items():
        if key not in filled and key not in taken and "default" in inner:
            filled[key] = inner["default"]
        if isinstance(filled.get(key), dict):
            filled[key] = with_defaults(filled[key], inner)
    return filled


def _resolved(path: str, base: Path) -> str:
    return str((base / Path(path).expanduser()).resolve())


def resolve_encoder(name: str, base: Path) -> str:
    """A folder becomes an absolute path; anything else is a name on the hub."""
    candidate = base / Path(name).expanduser()
    if candidate.is_dir() or name.startswith((".", "/", "~")):
        return str(candidate.resolve())
    return name


def _changed(data: dict[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals or not key:
            raise UsageError(
                f"--set takes KEY=VALUE, such as optimizer.learning_rate=1e-4; found '{change}'"
            )
        _set(data, key.split("."), text)
    keys = {change.partition("=")[0] for change in changes}
    for one, other in _EXCLUSIVE:
        if {one, other} <= keys:
            raise UsageError(f"--set: {one} and {other} exclude each other; set one of them")
    document = Document(path=Path("--set"), data=data)
    if findings := schema_findings(document, "run"):
        # The command line has no lines and columns to point at.
        raise UsageError("\n".join(sorted(f"--set: {f.field}: {f.message}" for f in findings)))
    if "data" in keys:
        data["data"] = _resolved(data["data"], Path.cwd())
    if "model.encoder" in keys:
        data["model"]["encoder"] = resolve_encoder(data["model"]["encoder"], Path.cwd())
    return with_defaults(data)  # of a group that was not there before


def _set(data: dict[str, Any], keys: Sequence[str], text: str) -> None:
    schema = load_schema("run")
    for i, key in enumerate(keys):
        allowed = schema.get("properties", {})
        if key not in allowed:
            where = ".".join(keys[:i]) or "a run"
            raise UsageError(f"--set: {where} has no '{key}'{suggest(key, allowed)}")
        schema = allowed[key]
    value = text if schema.get("type") == "string" else parse_scalar(text)
    optional = "null" in schema.get("type", "")
    if (inside := schema.get("properties")) and not (optional and value in (None, {})):
        group = ".".join(keys)
        raise UsageError(
            f"--set: {group} is a group; set one of {', '.join(f'{group}.{key}' for key in inside)}"
        )
    if isinstance(value, int | float) and not abs(value) <= sys.float_info.max:
        raise UsageError(f"--set: {'.'.join(keys)} cannot be '{text:.60}'; give a finite number")
    inner = data
    for key in keys[:-1]:
        if inner.get(key) is None:
            inner[key] = {}
        inner = inner[key]
    for pair in _EXCLUSIVE:
        if ".".join(keys) in pair:
            for key in pair:
                inner.pop(key.rpartition(".")[2], None)
    inner[keys[-1]] = value
