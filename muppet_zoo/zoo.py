"""The zoo: every spec and mixture that can be found, by name.

Specs come from the ones shipped with the package, from installed task packs (entry-point group
`muppet_zoo.task_packs`, each naming a folder) and from `--specs DIR`. All files are read before
anything is used, and all their problems are reported together: a spec that cannot be parsed never
just vanishes from the list.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import metadata, resources
from pathlib import Path

from muppet_zoo.errors import Finding, SpecError, UnknownNameError, UsageError, suggest
from muppet_zoo.mixture import Mixture, parse_mixture
from muppet_zoo.spec import TaskSpec, parse_task_spec
from muppet_zoo.yaml_reader import Document, read_yaml

PACKS = "muppet_zoo.task_packs"
MIXTURE_FOLDER = "mixtures"


@dataclass(frozen=True, kw_only=True)
class Zoo:
    """Specs and mixtures by name."""

    tasks: dict[str, TaskSpec]
    mixtures: dict[str, Mixture]

    def task(self, name: str) -> TaskSpec:
        """The spec of this name; UnknownNameError with near matches when there is none."""
        if name not in self.tasks:
            raise UnknownNameError("task", name, list(self.tasks))
        return self.tasks[name]

    def mixture(self, name: str) -> Mixture:
        """The mixture of this name; UnknownNameError with near matches when there is none."""
        if name not in self.mixtures:
            raise UnknownNameError("mixture", name, list(self.mixtures))
        return self.mixtures[name]


@dataclass(kw_only=True)
class _Reading:
    documents: dict[Path, Document] = field(default_factory=dict)
    tasks: dict[str, TaskSpec] = field(default_factory=dict)
    mixtures: dict[str, Mixture] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @cached_property
    def zoo(self) -> Zoo:
        return Zoo(tasks=self.tasks, mixtures=self.mixtures)


def shipped_specs() -> Path:
    """The folder of the specs that come with muppet-zoo, in a wheel or in a checkout."""
    installed = Path(str(resources.files("muppet_zoo"))) / "task_specs"
    return installed if installed.is_dir() else installed.parent.parent / "task_specs"


def spec_folders(extra: Iterable[Path] = ()) -> list[Path]:
    """Shipped specs, installed packs, then `extra`."""
    packs = [Path(str(point.load())) for point in metadata.entry_points(group=PACKS)]
    return [shipped_specs(), *packs, *extra]


def load_zoo(extra: Iterable[Path] = ()) -> Zoo:
    """Every spec and mixture of the shipped zoo, installed packs and the `extra` folders.

    Raises:
        SpecError: with all findings of all files.
    """
    reading = _read(find_files(spec_folders(extra)))
    if reading.findings:
        raise SpecError(reading.findings)
    return reading.zoo


def validate_paths(paths: Sequence[Path]) -> tuple[int, list[Finding]]:
    """Number of files checked and all findings in `paths` (files or folders).

    Mixtures may name tasks of the shipped zoo as well as those in `paths`; the shipped specs
    themselves are read for their names and not reported on.
    """
    files = find_files(paths)
    if not files:
        raise UsageError(f"no .yaml file in {', '.join(map(str, paths))}")
    known = {path.resolve() for path in files}
    others = [file for file in find_files(spec_folders()) if file.resolve() not in known]
    names = {file.stem for file in others if file.parent.name != MIXTURE_FOLDER}
    reading = _read(files, other_tasks=names)
    return len(files), sorted(set(reading.findings))


def find_files(paths: Iterable[Path]) -> list[Path]:
    """The .yaml files among and under `paths`, sorted; UsageError for a path that is not there."""
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            files += sorted(
                file
                for file in (*path.rglob("*.yaml"), *path.rglob("*.yml"))
                if not any(part.startswith(".") for part in file.relative_to(path).parts)
            )
        elif path.exists():
            files.append(path)
        else:
            raise UsageError(f"no such file or folder: {path}")
    return list(dict.fromkeys(files))


def _read(files: Sequence[Path], other_tasks: Iterable[str] = ()) -> _Reading:
    reading = _Reading()
    for file in files:
        try:
            document = read_yaml(file)
            if _is_mixture(document):
                _add_mixture(reading, document)
            else:
                _add_task(reading, document)
        except SpecError as error:
            reading.findings += error.findings
    known_tasks = {*(d.path.stem for d in reading.documents.values()), *other_tasks}
    for mixture in reading.mixtures.values():
        reading.findings += _mixture_findings(reading, mixture, known_tasks)
    reading.findings += _shared_head_findings(reading)
    return reading


def _is_mixture(document: Document) -> bool:
    return "mixture_version" in document.data or document.path.parent.name == MIXTURE_FOLDER


def _add_task(reading: _Reading, document: Document) -> None:
    reading.documents[document.path] = document  # also when broken: its name exists
    spec = parse_task_spec(document)
    if spec.name in reading.tasks:
        other = reading.tasks[spec.name].path
        message = f"a task '{spec.name}' already exists in {other}; names are unique in the zoo"
        raise SpecError([document.finding(("name",), message)])
    reading.tasks[spec.name] = spec


def _add_mixture(reading: _Reading, document: Document) -> None:
    mixture = parse_mixture(document)
    if mixture.name in reading.mixtures:
        other = reading.mixtures[mixture.name].path
        message = f"a mixture '{mixture.name}' already exists in {other}"
        raise SpecError([document.finding(("name",), message)])
    reading.documents[document.path] = document
    reading.mixtures[mixture.name] = mixture


def _mixture_findings(reading: _Reading, mixture: Mixture, known: set[str]) -> Iterator[Finding]:
    for i, task in enumerate(mixture.tasks):
        if task not in known:
            message = f"no task is named '{task}'{suggest(task, known)}"
            yield reading.documents[mixture.path].finding(("tasks", i), message)


def _shared_head_findings(reading: _Reading) -> Iterator[Finding]:
    first: dict[str, TaskSpec] = {}
    for spec in reading.tasks.values():
        name = spec.head.shared_head
        if name is None:
            continue
        other = first.setdefault(name, spec)
        same = other.head.type == spec.head.type and getattr(other.head, "labels", None) == getattr(
            spec.head, "labels", None
        )
        if not same:
            message = (
                f"'{name}' is shared with {other.name}, whose type or labels differ; "
                f"tasks that share a head have equal ones"
            )
            yield reading.documents[spec.path].finding(("head", "shared_head"), message)
