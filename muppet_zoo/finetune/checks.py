"""What can be wrong with a finetune plan, each fault at its line; needs no data.

A plan holds most of a run file, under `run` and, key by key, under `grid`. It is not described a
second time: both are put into the run that they stand for and checked against the schema of runs.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from muppet_zoo.errors import Finding, suggest
from muppet_zoo.validation import SchemaCheck, check_schema, load_schema, schema_findings
from muppet_zoo.yaml_reader import DataPath, Document

# What the plan itself says of every cell, and where.
_SET_BY_PLAN = {
    "run_version": "finetune_version stands for it",
    "task": "name it under `targets`",
    "mixture": "name it under `targets`",
    "targets": "the plan's own `targets` are trained on",
    "allow_trained_targets": "the plan's own `targets` are trained on",
    "seed": "list it under `seeds`",
    "sample": "use `shots` and `held_out`",
    "model.encoder": "name it under `arms`",
    "model.random_init": "set it under `arms`",
    "model.heads": "set it under `arms`",
    "evaluation.at_end": "every cell is scored once",
}
# Settings that would give cells unequal budgets or targets, or that choose nothing.
_NOT_IN_A_GRID = {
    "data": "all cells read the same data",
    "trainer": "all cells have the same trainer",
    "batching": "all cells have the same budget",
    "schedule.steps": "all cells have the same budget",
    "schedule.epochs": "all cells have the same budget",
    "evaluation": "all cells are scored alike",
    "checkpointing": "it changes no score",
    "logging": "it changes no score",
}


def is_plan(document: Document) -> bool:
    """Whether this file is a finetune plan."""
    return "finetune_version" in document.data


def plan_findings(
    document: Document, tasks: Collection[str], mixtures: Collection[str]
) -> list[Finding]:
    """Everything that is wrong with a plan in a zoo of these names, in file order."""
    schema = check_schema(document, "finetune")
    findings = [
        *schema.findings,
        *_target_findings(document, schema, {*tasks, *mixtures}),
        *_arm_findings(document, schema),
        *_run_findings(document, schema),
        *_grid_findings(document, schema),
    ]
    return sorted(set(findings))


def _target_findings(
    document: Document, schema: SchemaCheck, known: Collection[str]
) -> Iterator[Finding]:
    if not schema.intact("targets"):
        return
    for i, name in enumerate(document.data["targets"]):
        if name not in known:
            message = f"no task or mixture is named '{name}'{suggest(name, known)}"
            yield document.finding(("targets", i), message)


def _arm_findings(document: Document, schema: SchemaCheck) -> Iterator[Finding]:
    if not schema.intact("arms"):
        return
    for name, arm in document.data["arms"].items():
        if arm.get("random_init") and arm.get("heads") == "reuse":
            message = "heads of a trained model say nothing to random weights; fresh is expected"
            yield document.finding(("arms", name, "heads"), message)


def _run_findings(document: Document, schema: SchemaCheck) -> Iterator[Finding]:
    if not schema.intact("run"):
        return
    run = document.data["run"]
    for key, instead in _SET_BY_PLAN.items():
        path = tuple(key.split("."))
        if _has(run, path):
            message = f"'{key}' is not for `run`: {instead}"
            yield document.finding(("run", *path), message, at_key=True)
    inner = replace(
        document,
        data=_whole_run(run),
        values={path[1:]: place for path, place in document.values.items() if path[:1] == ("run",)},
        keys={path[1:]: place for path, place in document.keys.items() if path[:1] == ("run",)},
    )
    for found in schema_findings(inner, "run"):
        field = f"run.{found.field}" if found.field else "run"
        if found.field not in _SET_BY_PLAN:
            yield replace(found, field=field)


def _grid_findings(document: Document, schema: SchemaCheck) -> Iterator[Finding]:
    if not schema.intact("grid") or "grid" not in document.data:
        return
    grid = document.data["grid"]
    for key, values in grid.items():
        if problem := _key_problem(key):
            yield document.finding(("grid", key), problem, at_key=True)
        elif schema.intact("run"):
            yield from _value_findings(document, key, values)
    num_points = math.prod(map(len, grid.values()))
    if num_points > 1 and schema.intact("held_out") and not document.data.get("held_out"):
        message = (
            f"{num_points} settings to choose from, and nothing to choose by: set held_out to a "
            f"number of train examples"
        )
        yield document.finding(("grid",), message, at_key=True)


def _key_problem(key: str) -> str | None:
    """Why a key cannot be in a grid, if it cannot."""
    for reserved, instead in (_SET_BY_PLAN | _NOT_IN_A_GRID).items():
        if key == reserved or key.startswith(f"{reserved}."):
            return f"'{key}' is not for a grid: {instead}"
    schema = load_schema("run")
    parts = key.split(".")
    for i, part in enumerate(parts):
        known = schema.get("properties", {})
        if part not in known:
            where = ".".join(parts[:i]) or "a run"
            return f"{where} has no '{part}'{suggest(part, known)}"
        schema = known[part]
    if "properties" in schema:
        inner = next(iter(schema["properties"]))
        return f"{key} is a group; name a key in it, such as {key}.{inner}"
    return None


def _value_findings(document: Document, key: str, values: Sequence[Any]) -> Iterator[Finding]:
    run = document.data["run"]
    without = {str(f) for f in schema_findings(_document(document, _whole_run(run)), "run")}
    for i, value in enumerate(values):
        changed = _document(document, _whole_run(with_setting(run, key, value)))
        for found in schema_findings(changed, "run"):
            if found.field.startswith(key) and str(found) not in without:
                inner = found.field.removeprefix(key)
                message = f"{inner}: {found.message}" if inner else found.message
                yield document.finding(("grid", key, i), message)


def _document(document: Document, data: Mapping[str, Any]) -> Document:
    return Document(path=document.path, data=data)


def _whole_run(run: Mapping[str, Any]) -> dict[str, Any]:
    """A run with all that the plan says of it, so that nothing else is missing."""
    model = run.get("model", {})
    inner = {"encoder": "arm", **model} if isinstance(model, dict) else model
    own = {key: value for key, value in run.items() if key != "mixture"}
    return {**own, "run_version": 1, "task": "target", "model": inner}


def with_setting(run: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    """A run's plain data with another value at a dotted key; groups that are missing are made."""
    changed = copy.deepcopy(dict(run))
    inner = changed
    *groups, last = key.split(".")
    for group in groups:
        if not isinstance(inner.get(group), dict):
            inner[group] = {}
        inner = inner[group]
    inner[last] = value
    return changed


def _has(data: Any, path: DataPath) -> bool:
    for part in path:
        if not isinstance(data, dict) or part not in data:
            return False
        data = data[part]
    return True
