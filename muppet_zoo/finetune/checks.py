"""What can be wrong with a finetune plan, each fault at its line; needs no data.

A plan holds most of a run file, under `run` and, key by key, under `grid`. It is not described a
second time: both are put into the run that they stand for and checked against the schema of runs.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Iterator, Mapping
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
    inner = document.part("run", data=_whole_run(run))
    for found in schema_findings(inner, "run"):
        field = f"run.{found.field}" if found.field else "run"
        if found.field not in _SET_BY_PLAN:
            yield replace(found, field=field)


def _grid_findings(document: Document, schema: SchemaCheck) -> Iterator[Finding]:
    if not schema.intact("grid") or "grid" not in document.data:
        return
    grid = document.data["grid"]
    # A run that is wrong itself would show its faults again at every value.
    run = _whole_run(document.data["run"]) if schema.intact("run") else None
    for key, values in grid.items():
        if problem := _key_problem(key, "a grid", _SET_BY_PLAN | _NOT_IN_A_GRID):
            yield document.finding(("grid", key), problem, at_key=True)
        elif run is not None:
            for i, value in enumerate(values):
                yield from _value_findings(document, ("grid", key, i), key, value, run)
    num_points = math.prod(map(len, grid.values()))
    if num_points > 1 and schema.intact("held_out") and not document.data.get("held_out"):
        message = (
            f"{num_points} settings to choose from, and nothing to choose by: set held_out to a "
            f"number of train examples"
        )
        yield document.finding(("grid",), message, at_key=True)


def change_findings(
    document: Document,
    at: DataPath,
    value: Any,
    run: Mapping[str, Any],
    *,
    reserved: Mapping[str, str],
) -> Iterator[Finding]:
    """What is wrong with one setting of a study, whose dotted key is the last part of `at`.

    run: a whole run that it changes. reserved: keys that it is not for, and what is instead.
    """
    key = str(at[-1])
    if problem := _key_problem(key, "a study", reserved):
        yield document.finding(at, problem, at_key=True)
    else:
        yield from _value_findings(document, at, key, value, run)


def _key_problem(key: str, place: str, reserved: Mapping[str, str]) -> str | None:
    """Why a key cannot stand for a setting here, if it cannot."""
    for name, instead in reserved.items():
        if key == name or key.startswith(f"{name}."):
            return f"'{key}' is not for {place}: {instead}"
    schema = load_schema("run")
    parts = key.split(".")
    for i, part in enumerate(parts):
        known = schema.get("properties", {})
        if part not in known:
            where = ".".join(parts[:i]) or "a run"
            return f"{where} has no '{part}'{suggest(part, known)}"
        schema = known[part]
    if "properties" in schema and "null" not in schema.get("type", ""):
        inner = next(iter(schema["properties"]))
        return f"{key} is a group; name a key in it, such as {key}.{inner}"
    return None


def _value_findings(
    document: Document, at: DataPath, key: str, value: Any, run: Mapping[str, Any]
) -> Iterator[Finding]:
    without = {str(found) for found in schema_findings(_document(document, run), "run")}
    changed = _document(document, with_setting(run, key, value))
    for found in schema_findings(changed, "run"):
        if found.field.startswith(key) and str(found) not in without:
            inner = found.field.removeprefix(key)
            message = f"{inner}: {found.message}" if inner else found.message
            yield document.finding(at, message)


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
