"""The zoo: every spec and mixture that can be found, by name.

Specs come from the ones shipped with the package, from installed task packs (entry-point group
`muppet_zoo.task_packs`, each naming a folder) and from `--specs DIR`. All files are read before
anything is used, and all their problems are reported together: a spec that cannot be parsed never
just vanishes from the list.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata, resources
from pathlib import Path
from typing import Any, TypeVar

from muppet_zoo.errors import Finding, SourceError, SpecError, UnknownNameError, UsageError, suggest
from muppet_zoo.mixture import Mixture, build_mixture, parse_mixture
from muppet_zoo.spec import TaskSpec, build_task_spec, parse_task_spec
from muppet_zoo.spec_index import recall, remember, stamp_of
from muppet_zoo.validation import schema_findings
from muppet_zoo.yaml_reader import Document, read_yaml

PACKS = "muppet_zoo.task_packs"
MIXTURE_FOLDER = "mixtures"

_OWN = "; specs of your own are read with --specs DIR"

Named = TypeVar("Named", TaskSpec, Mixture)


@dataclass(frozen=True, kw_only=True)
class Zoo:
    """Specs and mixtures by name."""

    tasks: dict[str, TaskSpec]
    mixtures: dict[str, Mixture]

    def task(self, name: str) -> TaskSpec:
        """The spec of this name; UnknownNameError with near matches when there is none."""
        if name not in self.tasks and name in self.mixtures:
            raise UsageError(f"'{name}' is a mixture, not a task; name it with --mixture {name}")
        if name not in self.tasks:
            raise UnknownNameError("task", name, list(self.tasks), _OWN)
        return self.tasks[name]

    def mixture(self, name: str) -> Mixture:
        """The mixture of this name; UnknownNameError with near matches when there is none."""
        if name not in self.mixtures:
            raise UnknownNameError("mixture", name, list(self.mixtures), _OWN)
        return self.mixtures[name]


@dataclass(kw_only=True)
class _Reading:
    documents: dict[Path, Document] = field(default_factory=dict)
    tasks: dict[str, TaskSpec] = field(default_factory=dict)
    mixtures: dict[str, Mixture] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


def shipped_specs() -> Path:
    """The folder of the specs that come with muppet-zoo, in a wheel or in a checkout."""
    installed = Path(str(resources.files("muppet_zoo"))) / "task_specs"
    return installed if installed.is_dir() else installed.parent.parent / "task_specs"


def spec_folders(extra: Iterable[Path] = ()) -> list[Path]:
    """Shipped specs, installed packs, then `extra`."""
    return [shipped_specs(), *map(_pack_folder, metadata.entry_points(group=PACKS)), *extra]


def _pack_folder(point: metadata.EntryPoint) -> Path:
    try:
        folder = Path(str(point.load()))
    except Exception as error:  # a pack is foreign code and may fail in any way
        raise SourceError(f"the task pack '{point.value}' cannot be loaded: {error}") from error
    if not folder.is_dir():
        raise SourceError(f"the task pack '{point.value}' names no folder: {folder}")
    return folder


def load_zoo(extra: Iterable[Path] = ()) -> Zoo:
    """Every spec and mixture of the shipped zoo, installed packs and the `extra` folders.

    Raises:
        SpecError: with all findings of all files.
    """
    files = find_files(spec_folders(extra))
    stamp = stamp_of(files)  # before they are read: a change meanwhile is read again next time
    if (remembered := recall(files, stamp)) is not None:
        return _zoo_of(remembered)
    reading = _read(files)
    if reading.findings:
        raise SpecError(reading.findings)
    data = {path: document.data for path, document in reading.documents.items()}
    remember(files, stamp, data)
    return Zoo(tasks=reading.tasks, mixtures=reading.mixtures)


def _zoo_of(checked: Mapping[Path, Any]) -> Zoo:
    """The zoo of files that were found right before."""
    documents = [Document(path=path, data=data) for path, data in checked.items()]
    documents = [document for document in documents if not is_run(document)]
    specs = [build_task_spec(document) for document in documents if not is_mixture(document)]
    mixtures = [build_mixture(document) for document in documents if is_mixture(document)]
    return Zoo(
        tasks={spec.name: spec for spec in specs},
        mixtures={mixture.name: mixture for mixture in mixtures},
    )


def validate_paths(paths: Sequence[Path]) -> tuple[int, list[Finding]]:
    """Number of files checked and all findings in `paths` (files or folders).

    The files are checked as part of the zoo that they would join: mixtures may name its tasks, and
    names and shared heads must not clash with it. Its own files are not reported on.
    """
    files = find_files(paths)
    if not files:
        raise UsageError(f"no .yaml file in {', '.join(map(str, paths))}")
    shipped = find_files(spec_folders())
    others = [f for f in shipped if not any(_same(f, g) for g in files if f.name == g.name)]
    findings = _read([*others, *files]).findings
    checked = set(files)
    return len(files), sorted({found for found in findings if found.path in checked})


def _same(file: Path, other: Path) -> bool:
    """The same file, or a copy, as where a checkout and an installed zoo exist side by side."""
    return other.is_file() and (file.samefile(other) or file.read_bytes() == other.read_bytes())


def find_files(paths: Iterable[Path]) -> list[Path]:
    """The .yaml files among and under `paths`, sorted; UsageError for a path that is not there."""
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            files += sorted(_files_below(path))
        elif path.exists():
            files.append(path)
        else:
            raise UsageError(f"no such file or folder: {path}")
    unique: dict[Path, Path] = {}
    for file in files:
        unique.setdefault(file.resolve(), file)
    return list(unique.values())


def _files_below(folder: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        # What cannot be looked into must not pass for checked.
        reason = error.strerror or error
        raise UsageError(f"{error.filename}: cannot be looked into: {reason}") from None

    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if name.endswith((".yaml", ".yml")) and not name.startswith("."):
                yield Path(parent) / name


def _read(files: Sequence[Path]) -> _Reading:
    reading = _Reading()
    known_tasks: set[str] = set()
    for file in files:
        try:
            document = reading.documents[file] = read_yaml(file)
            if is_run(document):
                reading.findings += schema_findings(document, "run")
            elif is_mixture(document):
                _add(reading.mixtures, parse_mixture(document), "mixture", document)
            else:
                # Known also when broken: that is one finding here, not one more in each mixture.
                known_tasks.add(file.stem)
                _add(reading.tasks, parse_task_spec(document), "task", document)
        except SpecError as error:
            reading.findings += error.findings
            if file not in reading.documents:
                known_tasks.add(file.stem)
    for document in reading.documents.values():
        if is_mixture(document):
            reading.findings += _member_findings(document, known_tasks)
    reading.findings += _shared_head_findings(reading)
    return reading


def is_mixture(document: Document) -> bool:
    """Whether this file is meant to be a mixture; else it is a task spec."""
    return "mixture_version" in document.data or document.path.parent.name == MIXTURE_FOLDER


def is_run(document: Document) -> bool:
    """Whether this file describes a training run; it is checked and joins no zoo."""
    return "run_version" in document.data


def _add(known: dict[str, Named], new: Named, kind: str, document: Document) -> None:
    other = known.setdefault(new.name, new)
    if other is not new:
        message = f"a {kind} '{new.name}' already exists in {other.path}; names are unique"
        raise SpecError([document.finding(("name",), message)])


def _member_findings(document: Document, known: set[str]) -> Iterator[Finding]:
    tasks = document.data.get("tasks")
    for i, task in enumerate(tasks if isinstance(tasks, list) else []):
        if isinstance(task, str) and task not in known:
            message = f"no task is named '{task}'{suggest(task, known)}"
            yield document.finding(("tasks", i), message)


def _shared_head_findings(reading: _Reading) -> Iterator[Finding]:
    first: dict[str, TaskSpec] = {}
    for spec in reading.tasks.values():
        name = spec.head.shared_head
        if name is None:
            continue
        other = first.setdefault(name, spec)
        if _outcomes(other) != _outcomes(spec):
            message = (
                f"'{name}' is shared with {other.name}, whose head type, labels or range differ; "
                f"tasks that share a head have equal ones"
            )
            yield reading.documents[spec.path].finding(("head", "shared_head"), message)


def _outcomes(spec: TaskSpec) -> tuple[Any, ...]:
    return tuple(getattr(spec.head, key, None) for key in ("type", "labels", "range"))
