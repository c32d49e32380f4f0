"""A mixture: tasks that are trained or scored together, and how often each is drawn.

A file names tasks and other mixtures; what it means follows only when all files are known, so a
mixture is read in two steps: `parse_mixture` checks one file, and `resolve_mixtures` (in
`mixture_members.py`) replaces the mixtures in it by their tasks. Everyone else sees the flat
`Mixture`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from muppet_zoo.errors import Finding, SpecError
from muppet_zoo.validation import SchemaCheck, check_schema
from muppet_zoo.yaml_reader import Document


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
