"""Mixtures that name mixtures → the tasks of each, when all files are known.

The files are a graph. Its order comes from the standard library, so a ring is told with the way
around it, and a chain of any length is no deep recursion.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any

from muppet_zoo.errors import Finding, allowed, suggest
from muppet_zoo.mixture import Member, Mixture, MixtureFile, Overlap, Rates, qualified
from muppet_zoo.yaml_reader import DataPath


def resolve_mixtures(
    files: Iterable[MixtureFile], tasks: Collection[str], broken: Collection[str] = ()
) -> tuple[dict[str, Mixture], list[Finding]]:
    """The mixtures of all files, and what is wrong with those that are missing from the result.

    `tasks` are the zoo's; `broken` are mixtures whose files have findings of their own, so that to
    name them is no further mistake.
    """
    by_name = {file.name: file for file in files}
    resolver = _Resolver(by_name, tasks, broken)
    order, rings = _order(by_name)
    for name in order:
        resolver.resolve(by_name[name], rings.get(name, {}))
    # In the order of the files, which that of resolving is not.
    found = {name: mixture for name in by_name if (mixture := resolver.done[name])}
    return found, resolver.findings


def _order(files: Mapping[str, MixtureFile]) -> tuple[list[str], dict[str, dict[str, str]]]:
    """An order in which each mixture comes after those that it names, but for rings.

    Rings: for a mixture, and one that it names and is in it, the way from there back to it.
    """
    named = {name: _names_in(file, files) for name, file in files.items()}
    rings: dict[str, dict[str, str]] = {}
    while True:
        try:
            return list(TopologicalSorter(named).static_order()), rings
        except CycleError as error:
            # Each name in it is in the one that follows; told from the first one of the alphabet.
            ring = error.args[1][:0:-1]
            start = ring.index(min(ring))
            ring = [*ring[start:], *ring[:start]]
            rings.setdefault(ring[-1], {})[ring[0]] = " -> ".join([*ring, ring[0]])
            named[ring[-1]].discard(ring[0])


def _names_in(file: MixtureFile, files: Mapping[str, MixtureFile]) -> set[str]:
    names = (_mixture_name(raw) for raw in file.document.data.get("mixtures", []))
    return {found for name in names if (found := _find(name, file, files)) is not None}


def _mixture_name(raw: Any) -> str:
    return str(raw["mixture"] if isinstance(raw, dict) else raw)


class _Resolver:
    """Mixtures are resolved one by one, each after those that it names."""

    def __init__(
        self, files: Mapping[str, MixtureFile], tasks: Collection[str], broken: Collection[str]
    ) -> None:
        self.files = files
        self.findings: list[Finding] = []
        # None where a mixture has findings, its own or those of a mixture in it.
        self.done: dict[str, Mixture | None] = {}
        self._tasks = tasks
        self._broken = broken

    def resolve(self, file: MixtureFile, rings: Mapping[str, str]) -> None:
        """Add a mixture to `done`; `rings`: those that it names and that hold it, and how."""
        self.done[file.name] = self._resolved(file, rings)

    def _resolved(self, file: MixtureFile, rings: Mapping[str, str]) -> Mixture | None:
        problems_before = len(self.findings)
        own = {member.task: member for member in self._own_members(file)}
        nested, whole = self._nested_members(file, own, rings)
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
        self, file: MixtureFile, own: Mapping[str, Member], rings: Mapping[str, str]
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
            inner, problem = self._named(entry["mixture"], file, rings)
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

    def _named(
        self, name: str, file: MixtureFile, rings: Mapping[str, str]
    ) -> tuple[Mixture | None, str]:
        """The mixture that a file names, or the problem; neither where it is told elsewhere."""
        found = _find(name, file, self.files)
        if found is None:
            if _find(name, file, self._broken) is not None:
                return None, ""
            if _find(name, file, self._tasks) is not None:
                return None, f"'{name}' is a task; name it under `tasks`"
            return None, f"no mixture is named '{name}'{suggest(name, self.files)}"
        if found in rings:
            return None, f"a mixture cannot hold itself: {rings[found]}"
        return self.done[found], ""


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
