"""A mixture: tasks that are trained or scored together, and how often each is drawn.

A file names tasks and other mixtures; what it means follows only when all files are known, so a
mixture is read in two steps: `parse_mixture` checks one file, `resolve_mixtures` replaces the
mixtures in it by their tasks. Everyone else sees the flat `Mixture`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muppet_zoo.errors import Finding, SpecError, allowed, suggest
from muppet_zoo.validation import SchemaCheck, check_schema
from muppet_zoo.yaml_reader import DataPath, Document


@dataclass(frozen=True, kw_only=True)
class Rates:
    """How many draws of each task make an epoch (see `order.quotas`).

    scheme:       natural, temperature, capped or explicit.
    temperature:  of `temperature`: 1 is natural, larger is flatter.
    cap:          of `capped`: rows of a task that count.
    weights:      of `explicit`: one positive number per task, in the order of the tasks.
    members:      what the mixture asks of single tasks, in their order; empty for nothing.
    """

    scheme: str = "natural"
    temperature: float | None = None
    cap: int | None = None
    weights: tuple[float, ...] | None = None
    members: tuple[Member, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Member:
    """A task in a mixture: it counts as min(rows, cap) * weight rows."""

    task: str
    cap: int | None = None
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """What the build does with training rows that overlap with evaluation rows.

    policy:   warn, drop or fail.
    against:  mixtures or tasks whose evaluation rows are protected.
    splits:   their roles.
    level:    the weakest kind of overlap that counts, one of `overlap.index.KINDS`.
    """

    policy: str
    against: tuple[str, ...]
    splits: tuple[str, ...] = ("validation", "test")
    level: str = "near"


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """Tasks by name, their rates, what licences must permit, and which rows must not be there.

    license_policy is one of `licenses.POLICIES`; overlap is None where no rows are compared.
    """

    name: str
    description: str
    tasks: tuple[str, ...]
    rates: Rates
    path: Path
    license_policy: str = "any"
    overlap: Overlap | None = None


@dataclass(frozen=True, kw_only=True)
class MixtureFile:
    """A mixture as its file says it. `namespace` is that of the task pack it comes from, or ""."""

    document: Document
    namespace: str = ""

    @property
    def name(self) -> str:
        """The name in the zoo."""
        return qualified(str(self.document.data["name"]), self.namespace)

    @property
    def path(self) -> Path:
        """The file."""
        return self.document.path


def qualified(name: str, namespace: str) -> str:
    """The name in the zoo of what a task pack calls `name`."""
    return f"{namespace}.{name}" if namespace else name


def parse_mixture(document: Document, namespace: str = "") -> MixtureFile:
    """The mixture in a file, checked as far as the file alone allows.

    Raises:
        SpecError: with every finding.
    """
    schema = check_schema(document, "mixture")
    findings = [*schema.findings, *_own_findings(document, schema)]
    if findings:
        raise SpecError(findings)
    return MixtureFile(document=document, namespace=namespace)


def resolve_mixtures(
    files: Iterable[MixtureFile], tasks: Collection[str], broken: Collection[str] = ()
) -> tuple[dict[str, Mixture], list[Finding]]:
    """The mixtures of all files, and what is wrong with those that are missing from the result.

    `tasks` are the zoo's; `broken` are mixtures whose files have findings of their own, so that to
    name them is no further mistake.
    """
    resolver = _Resolver({file.name: file for file in files}, tasks, broken)
    found = {name: resolver.mixture(name) for name in resolver.files}
    return {name: mixture for name, mixture in found.items() if mixture}, resolver.findings


class _Resolver:
    """Each mixture is resolved once, after those that it names."""

    def __init__(
        self, files: Mapping[str, MixtureFile], tasks: Collection[str], broken: Collection[str]
    ) -> None:
        self.files = files
        self.findings: list[Finding] = []
        self._tasks = tasks
        self._broken = broken
        self._done: dict[str, Mixture | None] = {}
        self._open: list[str] = []

    def mixture(self, name: str) -> Mixture | None:
        """None where it has findings, its own or those of a mixture in it."""
        if name not in self._done:
            self._open.append(name)
            self._done[name] = self._resolve(self.files[name])
            self._open.pop()
        return self._done[name]

    def _resolve(self, file: MixtureFile) -> Mixture | None:
        problems_before = len(self.findings)
        own = {member.task: member for member in self._own_members(file)}
        nested, whole = self._nested_members(file, own)
        members = {**nested, **own}
        self.findings += _take_out(members, own, file) if whole else []
        self.findings += self._overlap_findings(file)
        data = file.document.data
        rates = dict(data.get("rates", {"scheme": "natural"}))
        if whole and len(self.findings) == problems_before:
            self.findings += _member_findings(file, members, rates)
        if not whole or len(self.findings) > problems_before:
            return None
        if "weights" in rates:
            weights = {_find(key, file, members): value for key, value in rates["weights"].items()}
            rates["weights"] = tuple(float(weights[task]) for task in members)
        plain = all(member == Member(task=member.task) for member in members.values())
        return Mixture(
            name=file.name,
            description=data["description"],
            tasks=tuple(members),
            rates=Rates(**rates, members=() if plain else tuple(members.values())),
            path=file.path,
            license_policy=data.get("license_policy", "any"),
            overlap=self._overlap(file),
        )

    def _overlap(self, file: MixtureFile) -> Overlap | None:
        data = file.document.data.get("overlap")
        if data is None:
            return None
        known = {*self.files, *self._tasks}
        against = tuple(_find(name, file, known) or name for name in data["against"])
        return Overlap(
            policy=data["policy"],
            against=against,
            splits=tuple(data.get("splits", Overlap.splits)),
            level=data.get("level", Overlap.level),
        )

    def _overlap_findings(self, file: MixtureFile) -> Iterator[Finding]:
        known = {*self.files, *self._tasks, *self._broken}
        for i, name in enumerate(file.document.data.get("overlap", {}).get("against", [])):
            if _find(name, file, known) is None:
                message = f"no mixture or task is named '{name}'{suggest(name, known)}"
                yield file.document.finding(("overlap", "against", i), message)

    def _own_members(self, file: MixtureFile) -> Iterator[Member]:
        for i, raw in enumerate(file.document.data.get("tasks", [])):
            entry = raw if isinstance(raw, dict) else {"task": raw}
            path: DataPath = ("tasks", i, "task") if isinstance(raw, dict) else ("tasks", i)
            task = _find(entry["task"], file, self._tasks)
            if task is not None:
                yield Member(
                    task=task, cap=entry.get("cap"), weight=float(entry.get("weight", 1.0))
                )
            elif _find(entry["task"], file, self.files) is not None:
                message = f"'{entry['task']}' is a mixture; name it under `mixtures`"
                self.findings.append(file.document.finding(path, message))
            else:
                message = f"no task is named '{entry['task']}'{suggest(entry['task'], self._tasks)}"
                self.findings.append(file.document.finding(path, message))

    def _nested_members(
        self, file: MixtureFile, own: Mapping[str, Member]
    ) -> tuple[dict[str, Member], bool]:
        """Members that come with other mixtures, and whether all of these could be resolved."""
        members: dict[str, Member] = {}
        origin: dict[str, str] = {}
        whole = True
        for i, raw in enumerate(file.document.data.get("mixtures", [])):
            entry = raw if isinstance(raw, dict) else {"mixture": raw}
            path: DataPath = (
                ("mixtures", i, "mixture") if isinstance(raw, dict) else ("mixtures", i)
            )
            inner, problem = self._named(entry["mixture"], file)
            if problem:
                self.findings.append(file.document.finding(path, problem))
            if inner is None:
                whole = False
                continue
            for member in _with_entry(inner, entry):
                if member.task in own:
                    continue  # what the file itself says of a task decides
                if members.setdefault(member.task, member) != member:
                    message = (
                        f"{member.task} comes with '{origin[member.task]}' already, with another "
                        f"cap or weight; list it under `tasks` to say which holds"
                    )
                    self.findings.append(file.document.finding(path, message))
                origin.setdefault(member.task, entry["mixture"])
        return members, whole

    def _named(self, name: str, file: MixtureFile) -> tuple[Mixture | None, str]:
        """The mixture that a file names, or the problem; neither where it is told elsewhere."""
        found = _find(name, file, self.files)
        if found is None:
            if _find(name, file, self._broken) is not None:
                return None, ""
            if _find(name, file, self._tasks) is not None:
                return None, f"'{name}' is a task; name it under `tasks`"
            return None, f"no mixture is named '{name}'{suggest(name, self.files)}"
        if found in self._open:
            ring = " -> ".join([*self._open[self._open.index(found) :], found])
            return None, f"a mixture cannot hold itself: {ring}"
        return self.mixture(found), ""


def _find(name: str, file: MixtureFile, known: Collection[str]) -> str | None:
    """A name as a file means it: of its own task pack first, then of the zoo."""
    own = qualified(name, file.namespace)
    return own if own in known else name if name in known else None


def _with_entry(inner: Mixture, entry: Mapping[str, Any]) -> Iterator[Member]:
    """A mixture's members as an entry of another one takes them: caps meet, weights multiply."""
    for member in inner.rates.members or [Member(task=task) for task in inner.tasks]:
        caps = [cap for cap in (member.cap, entry.get("cap")) if cap is not None]
        weight = member.weight * float(entry.get("weight", 1.0))
        yield Member(task=member.task, cap=min(caps, default=None), weight=weight)


def _take_out(
    members: dict[str, Member], own: Collection[str], file: MixtureFile
) -> Iterator[Finding]:
    """Remove what the file excludes; findings for what was not there, or is listed as well."""
    for i, name in enumerate(file.document.data.get("exclude", [])):
        task = _find(name, file, members)
        if task is None:
            message = f"'{name}' is not one of this mixture's tasks{suggest(name, members)}"
            yield file.document.finding(("exclude", i), message)
        elif task in own:
            message = f"'{name}' is listed under `tasks` and left out here; decide for one"
            yield file.document.finding(("exclude", i), message)
        else:
            del members[task]


def _member_findings(
    file: MixtureFile, members: Mapping[str, Member], rates: Mapping[str, Any]
) -> Iterator[Finding]:
    """What is wrong with the rates of the tasks that are left, or with there being none."""
    document = file.document
    if not members:
        yield document.finding(("exclude",), "no task is left in this mixture", at_key=True)
        return
    weights = rates.get("weights")
    if weights is None:
        return
    for task in weights:
        if _find(task, file, members) is None:
            message = f"'{task}' is not one of this mixture's tasks{allowed(task, members)}"
            yield document.finding(("rates", "weights", task), message, at_key=True)
    given = {_find(task, file, members) for task in weights}
    if missing := [task for task in members if task not in given]:
        message = f"no weight is given for {', '.join(missing)}; explicit rates name every task"
        yield document.finding(("rates", "weights"), message)
    if any(member != Member(task=member.task) for member in members.values()):
        message = (
            "explicit rates say how often each task is drawn; leave out the cap and weight of "
            "single tasks and mixtures, or choose another scheme"
        )
        yield document.finding(("rates", "scheme"), message)


def _own_findings(document: Document, schema: SchemaCheck) -> Iterator[Finding]:
    data = schema.data
    if schema.intact("name") and document.path.stem != data["name"]:
        message = (
            f"found '{data['name']}', but the file is {document.path.name}; both must be equal"
        )
        yield document.finding(("name",), message)
    for key, inner in (("tasks", "task"), ("mixtures", "mixture")):
        if not schema.intact(key):
            continue
        seen: set[str] = set()
        for i, raw in enumerate(data.get(key, [])):
            name = raw[inner] if isinstance(raw, dict) else raw
            # Equal entries are the schema's to report.
            if name in seen and data[key].index(raw) == i:
                message = f"{name} is listed twice"
                yield document.finding((key, i), message)
            seen.add(name)
