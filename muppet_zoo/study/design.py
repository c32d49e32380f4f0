"""A study and its setting as frozen records, read from YAML that `checks.py` found right."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from muppet_zoo.errors import Finding, SpecError, UnknownNameError, UsageError
from muppet_zoo.finetune.results import Shots
from muppet_zoo.run import resolve_encoder, with_defaults
from muppet_zoo.study.checks import setting_findings, study_findings
from muppet_zoo.validation import load_schema
from muppet_zoo.yaml_reader import Document, read_yaml

QUICK = "quick"


@dataclass(frozen=True, kw_only=True)
class ArmDesign:
    """An arm as a study states it.

    tasks: "none", "all", names, or None where `first_of` names what the pool is searched for.
    prefinetune, finetune: settings by dotted key of a run file.
    """

    name: str
    description: str
    tasks: str | tuple[str, ...] | None
    first_of: tuple[str, ...] = ()
    prefinetune: Mapping[str, Any]
    finetune: Mapping[str, Any]
    finetune_budget: int = 1


@dataclass(frozen=True, kw_only=True)
class Design:
    """A study. sizes, orders: of nested random subsets of the pool, see the schema.

    micro_batches_per_step: into how many a step is cut; None where that is the setting's to say.
    """

    name: str
    question: str
    paper: str
    baseline: str
    shots: tuple[Shots, ...] | None
    arms: tuple[ArmDesign, ...]
    sizes: tuple[int, ...]
    orders: int
    leave_out_families: bool
    micro_batches_per_step: int | None
    path: Path


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """What every arm starts from. sizes, orders, shots: None where the study's own are kept."""

    name: str
    encoder: str
    random_init: bool
    sizes: tuple[int, ...] | None
    orders: int | None
    shots: tuple[Shots, ...] | None
    prefinetune: Mapping[str, Any]
    finetune: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Where studies are run. prefinetune, finetune: plain data, as in the file."""

    name: str
    specs: tuple[Path, ...]
    pool: str
    targets: tuple[str, ...]
    max_tokens: int
    encoders: tuple[Encoder, ...]
    seeds: tuple[int, ...]
    shots: tuple[Shots, ...]
    prefinetune: Mapping[str, Any]
    finetune: Mapping[str, Any]
    path: Path


def shipped_studies() -> Path:
    """The folder of the studies that come with muppet-zoo, in a wheel or in a checkout."""
    installed = Path(str(resources.files("muppet_zoo"))) / "studies"
    return installed if installed.is_dir() else installed.parent.parent / "benchmarks" / "studies"


def study_names() -> list[str]:
    """The shipped studies."""
    return sorted(path.stem for path in shipped_studies().glob("*.yaml"))


def read_design(name: str) -> Design:
    """A study by its file, or by the name of a shipped one.

    Raises:
        SpecError: with every finding in the file.
        UsageError: there is no such file or study.
    """
    path = _find(name, shipped_studies(), "study")
    data = _checked(read_yaml(path), "study", study_findings)
    subsets = with_defaults(
        data.get("subsets", {"sizes": []}), load_schema("study")["properties"]["subsets"]
    )
    return Design(
        name=data["name"],
        question=data["question"],
        paper=data["paper"],
        baseline=data["baseline"],
        shots=tuple(data["shots"]) if "shots" in data else None,
        arms=tuple(_arm(name, arm) for name, arm in data["arms"].items()),
        sizes=tuple(subsets["sizes"]),
        orders=subsets["orders"],
        leave_out_families=data["leave_out_families"],
        micro_batches_per_step=data.get("micro_batches_per_step"),
        path=path,
    )


def read_setting(name: str) -> Setting:
    """A setting by its file, or by the name of a shipped one.

    Raises: as `read_design`.
    """
    path = _find(name, shipped_studies() / "settings", "setting")
    data = _checked(read_yaml(path), "study_setting", setting_findings)
    return Setting(
        name=data["name"],
        specs=tuple((path.parent / folder).resolve() for folder in data["specs"]),
        pool=data["pool"],
        targets=tuple(data["targets"]),
        max_tokens=data["max_tokens"],
        encoders=tuple(_encoder(name, raw, path) for name, raw in data["encoders"].items()),
        seeds=tuple(data["seeds"]),
        shots=tuple(data["shots"]),
        prefinetune=data["prefinetune"],
        finetune=data["finetune"],
        path=path,
    )


def _find(name: str, shipped: Path, kind: str) -> Path:
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise UsageError(f"no such {kind} file: {path}")
        return path
    found = shipped / f"{name.replace('-', '_')}.yaml"
    if not found.is_file():
        known = [each.stem for each in shipped.glob("*.yaml")]
        raise UnknownNameError(kind, name, known, f"; a {kind} of your own is given as a file")
    return found


def _checked(
    document: Document, schema: str, find: Callable[[Document], list[Finding]]
) -> dict[str, Any]:
    if findings := find(document):
        raise SpecError(findings)
    return with_defaults(document.data, load_schema(schema))


def _arm(name: str, data: Mapping[str, Any]) -> ArmDesign:
    tasks = data["tasks"]
    first_of = tasks["first_of"] if isinstance(tasks, dict) else ()
    return ArmDesign(
        name=name,
        description=data["description"],
        tasks=None if first_of else tasks if isinstance(tasks, str) else tuple(tasks),
        first_of=tuple(first_of),
        prefinetune=data.get("prefinetune", {}),
        finetune=data.get("finetune", {}),
        finetune_budget=data.get("finetune_budget", 1),
    )


def _encoder(name: str, data: Mapping[str, Any], path: Path) -> Encoder:
    return Encoder(
        name=name,
        encoder=resolve_encoder(data["encoder"], path.parent),
        random_init=data.get("random_init", False),
        sizes=_optional(data.get("subset_sizes")),
        orders=data.get("subset_orders"),
        shots=_optional(data.get("shots")),
        prefinetune=data.get("prefinetune", {}),
        finetune=data.get("finetune", {}),
    )


def _optional(values: Iterable[Any] | None) -> tuple[Any, ...] | None:
    return None if values is None else tuple(values)
