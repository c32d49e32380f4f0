"""The zoo: every spec and mixture that can be found, by name.

Specs come from the ones shipped with the package, from installed task packs and from `--specs DIR`.
All files are read before anything is used, and all their problems are reported together: a spec
that cannot be parsed never just vanishes from the list.

A task pack is a package with an entry point in the group `muppet_zoo.task_packs` that names a
folder. The entry point's name is its namespace: task `x` of pack `acme` is `acme.x` in the zoo, so
that packs cannot clash with the shipped specs, and one installed later changes no run. A pack's
mixtures name its own tasks, and then those of the zoo, without it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata, resources
from pathlib import Path
from typing import Any, TypeVar

from muppet_zoo.errors import Finding, SourceError, SpecError, UnknownNameError, UsageError
from muppet_zoo.finetune.checks import is_plan, plan_findings
from muppet_zoo.mixture import Mixture, MixtureFile, parse_mixture, qualified
from muppet_zoo.mixture_members import resolve_mixtures
from muppet_zoo.spec import TaskSpec, build_task_spec, parse_task_spec
from muppet_zoo.spec_index import recall, remember, stamp_of
from muppet_zoo.study.checks import setting_findings, study_findings
from muppet_zoo.validation import schema_findings
from muppet_zoo.yaml_reader import Document, read_yaml

PACKS = "muppet_zoo.task_packs"
MIXTURE_FOLDER = "mixtures"

_NAMESPACE = re.compile(r"[a-z0-9][a-z0-9_]{0,63}")

_OWN = "; specs of your own are read with --specs DIR"

Named = TypeVar("Named", TaskSpec, MixtureFile)


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
        """The mixture of this name; UnknownNameError with near matches when there is none.

        `-` counts as `_`, as people write `muppet-encoder`.
        """
        name = name.replace("-", "_")
        if name not in self.mixtures:
            raise UnknownNameError("mixture", name, list(self.mixtures), _OWN)
        return self.mixtures[name]

    def named(self, names: Iterable[str]) -> list[TaskSpec]:
        """The tasks of these tasks and mixtures, each once.

        Raises:
            UnknownNameError: with near matches when there is neither of a name.
        """
        found: dict[str, TaskSpec] = {}
        for name in names:
            if name in self.tasks:
                members: tuple[str, ...] = (name,)
            elif name.replace("-", "_") in self.mixtures:
                members = self.mixtures[name.replace("-", "_")].tasks
            else:
                known = [*self.tasks, *self.mixtures]
                raise UnknownNameError("task or mixture", name, known, _OWN)
            found |= {member: self.tasks[member] for member in members}
        return list(found.values())


@dataclass(frozen=True, kw_only=True)
class SpecFolder:
    """A folder of specs; `namespace` is the name of the task pack that brings it, else ""."""

    path: Path
    namespace: str = ""


@dataclass(kw_only=True)
class _Reading:
    documents: dict[Path, Document] = field(default_factory=dict)
    tasks: dict[str, TaskSpec] = field(default_factory=dict)
    mixture_files: dict[str, MixtureFile] = field(default_factory=dict)
    mixtures: dict[str, Mixture] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


def shipped_specs() -> Path:
    """The folder of the specs that come with muppet-zoo, in a wheel or in a checkout."""
    installed = Path(str(resources.files("muppet_zoo"))) / "task_specs"
    return installed if installed.is_dir() else installed.parent.parent / "task_specs"


def spec_folders(extra: Iterable[Path] = ()) -> list[SpecFolder]:
    """Shipped specs, installed packs, then `extra`.

    Raises:
        SourceError: a pack cannot be used.
    """
    packs = [_pack(point) for point in metadata.entry_points(group=PACKS)]
    first: dict[str, SpecFolder] = {}
    for pack in packs:
        other = first.setdefault(pack.namespace, pack)
        if other is not pack:
            raise SourceError(
                f"two installed task packs are named '{pack.namespace}': {other.path} and "
                f"{pack.path}; uninstall one of them"
            )
    return [SpecFolder(path=shipped_specs()), *packs, *(SpecFolder(path=path) for path in extra)]


def _pack(point: metadata.EntryPoint) -> SpecFolder:
    if not _NAMESPACE.fullmatch(point.name):
        raise SourceError(
            f"the task pack '{point.name}' ({point.value}) needs a name of up to 64 small letters, "
            f"digits and _"
        )
    try:
        folder = Path(str(point.load()))
    except Exception as error:  # a pack is foreign code and may fail in any way
        raise SourceError(
            f"the task pack '{point.name}' ({point.value}) cannot be loaded: {error}"
        ) from error
    if not folder.is_dir():
        raise SourceError(f"the task pack '{point.name}' ({point.value}) names no folder: {folder}")
    return SpecFolder(path=folder, namespace=point.name)


def load_zoo(extra: Iterable[Path] = ()) -> Zoo:
    """Every spec and mixture of the shipped zoo, installed packs and the `extra` folders.

    Raises:
        SpecError: with all findings of all files.
        SourceError: an installed pack cannot be used.
    """
    files = _files_in(spec_folders(extra))
    stamp = stamp_of(files)  # before they are read: a change meanwhile is read again next time
    if (remembered := recall(list(files), stamp)) is not None:
        return _zoo_of(remembered, files)
    reading = _read(files)
    if reading.findings:
        raise SpecError(reading.findings)
    data = {path: document.data for path, document in reading.documents.items()}
    remember(list(files), stamp, data)
    return Zoo(tasks=reading.tasks, mixtures=reading.mixtures)


def _files_in(folders: Iterable[SpecFolder]) -> dict[Path, str]:
    """The files of all folders, each with its namespace."""
    files: dict[Path, str] = {}
    seen: set[Path] = set()
    for folder in folders:
        for file in find_files([folder.path]):
            if file.resolve() not in seen:
                seen.add(file.resolve())
                files[file] = folder.namespace
    return files


def _zoo_of(checked: Mapping[Path, Any], namespaces: Mapping[Path, str]) -> Zoo:
    """The zoo of files that were found right before."""
    documents = [Document(path=path, data=data) for path, data in checked.items()]
    documents = [d for d in documents if not joins_no_zoo(d) and not is_plan(d)]
    specs = [
        _in_namespace(build_task_spec(document), namespaces[document.path])
        for document in documents
        if not is_mixture(document)
    ]
    tasks = {spec.name: spec for spec in specs}
    files = [
        MixtureFile(document=document, namespace=namespaces[document.path])
        for document in documents
        if is_mixture(document)
    ]
    return Zoo(tasks=tasks, mixtures=resolve_mixtures(files, tasks)[0])


def _in_namespace(spec: TaskSpec, namespace: str) -> TaskSpec:
    return replace(spec, name=qualified(spec.name, namespace)) if namespace else spec


def validate_paths(paths: Sequence[Path]) -> tuple[int, list[Finding]]:
    """Number of files checked and all findings in `paths` (files or folders).

    The files are checked as part of the zoo that they would join: mixtures may name its tasks, and
    names and shared heads must not clash with it. Its own files are not reported on.
    """
    files = find_files(paths)
    if not files:
        raise UsageError(f"no .yaml file in {', '.join(map(str, paths))}")
    zoo = _files_in(spec_folders())
    others = {
        file: namespace
        for file, namespace in zoo.items()
        if not any(_same(file, own) for own in files if file.name == own.name)
    }
    # A pack's own files keep their namespace, wherever they are named from.
    known = {file.resolve(): namespace for file, namespace in zoo.items()}
    own = {file: known.get(file.resolve(), "") for file in files}
    findings = _read({**others, **own}).findings
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


def _read(files: Mapping[Path, str]) -> _Reading:
    """Read and check files, each with its namespace."""
    reading = _Reading()
    # Names of broken files are known too: that is one finding here, not one more in each mixture.
    known_tasks: set[str] = set()
    known_mixtures: set[str] = set()
    plans: list[Document] = []
    for file, namespace in files.items():
        name = qualified(file.stem, namespace)
        try:
            document = reading.documents[file] = read_yaml(file)
            if find := joins_no_zoo(document):
                reading.findings += find(document)
            elif is_plan(document):
                plans.append(document)
            elif is_mixture(document):
                known_mixtures.add(name)
                mixture = parse_mixture(document, namespace)
                _add(reading.mixture_files, mixture, "mixture", document)
            else:
                known_tasks.add(name)
                spec = _in_namespace(parse_task_spec(document), namespace)
                _add(reading.tasks, spec, "task", document)
        except SpecError as error:
            reading.findings += error.findings
            if file not in reading.documents:
                known_tasks.add(name)
                known_mixtures.add(name)
    reading.mixtures, findings = resolve_mixtures(
        reading.mixture_files.values(), known_tasks, known_mixtures
    )
    reading.findings += [*findings, *_shared_head_findings(reading)]
    for plan in plans:
        reading.findings += plan_findings(plan, known_tasks, known_mixtures)
    return reading


def is_mixture(document: Document) -> bool:
    """Whether this file is meant to be a mixture; else it is a task spec."""
    return "mixture_version" in document.data or document.path.parent.name == MIXTURE_FOLDER


def _run_findings(document: Document) -> list[Finding]:
    return schema_findings(document, "run")


_FINDINGS_BY_VERSION: dict[str, Callable[[Document], list[Finding]]] = {
    "run_version": _run_findings,
    "study_version": study_findings,
    "setting_version": setting_findings,
}


def joins_no_zoo(document: Document) -> Callable[[Document], list[Finding]] | None:
    """What checks a run, a study or its setting; None of files that are part of a zoo."""
    found = (find for key, find in _FINDINGS_BY_VERSION.items() if key in document.data)
    return next(found, None)


def _add(known: dict[str, Named], new: Named, kind: str, document: Document) -> None:
    other = known.setdefault(new.name, new)
    if other is not new:
        message = f"a {kind} '{new.name}' already exists in {other.path}; names are unique"
        raise SpecError([document.finding(("name",), message)])


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
