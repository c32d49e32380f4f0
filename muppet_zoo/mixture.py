"""A mixture: tasks that are trained together, and how often each is drawn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from muppet_zoo.errors import Finding, SpecError, allowed
from muppet_zoo.validation import SchemaCheck, check_schema
from muppet_zoo.yaml_reader import Document


@dataclass(frozen=True, kw_only=True)
class Rates:
    """How many draws of each task make an epoch, as a mixture file says it.

    scheme:       natural, temperature, capped or explicit (see `order.quotas`).
    temperature:  of `temperature`: 1 is natural, larger is flatter.
    cap:          of `capped`: rows of a task that count.
    weights:      of `explicit`: one positive number per task, in the order of the tasks.
    """

    scheme: str = "natural"
    temperature: float | None = None
    cap: int | None = None
    weights: tuple[float, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """Tasks by name, and their rates."""

    name: str
    description: str
    tasks: tuple[str, ...]
    rates: Rates
    path: Path


def parse_mixture(document: Document) -> Mixture:
    """The record of a mixture file; whether its tasks exist is the zoo's to say.

    Raises:
        SpecError: with every finding.
    """
    schema = check_schema(document, "mixture")
    findings = [*schema.findings, *_cross_findings(document, schema)]
    if findings:
        raise SpecError(findings)
    return build_mixture(document)


def build_mixture(document: Document) -> Mixture:
    """The record of a document that is known to be right."""
    data = document.data
    rates = dict(data.get("rates", {"scheme": "natural"}))
    if "weights" in rates:
        rates["weights"] = tuple(float(rates["weights"][task]) for task in data["tasks"])
    return Mixture(
        name=data["name"],
        description=data["description"],
        tasks=tuple(data["tasks"]),
        rates=Rates(**rates),
        path=document.path,
    )


def _cross_findings(document: Document, schema: SchemaCheck) -> Iterator[Finding]:
    data = schema.data
    if schema.intact("name") and document.path.stem != data["name"]:
        message = (
            f"found '{data['name']}', but the file is {document.path.name}; both must be equal"
        )
        yield document.finding(("name",), message)
    weights = data.get("rates", {}).get("weights") if schema.intact("rates") else None
    if weights is None or not schema.intact("tasks"):
        return
    for task in weights:
        if task not in data["tasks"]:
            message = f"'{task}' is not one of this mixture's tasks{allowed(task, data['tasks'])}"
            yield document.finding(("rates", "weights", task), message, at_key=True)
    missing = [task for task in data["tasks"] if task not in weights]
    if missing:
        message = f"no weight is given for {', '.join(missing)}; explicit rates name every task"
        yield document.finding(("rates", "weights"), message)
