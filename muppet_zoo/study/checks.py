"""What can be wrong with a study or a setting, each fault at its line; needs no data.

Both hold parts of run files and of finetune plans. These are not described a second time: they are
put into the run or plan that they stand for and checked as such.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from muppet_zoo.errors import Finding
from muppet_zoo.finetune.checks import change_findings, plan_findings
from muppet_zoo.validation import check_schema, schema_findings
from muppet_zoo.yaml_reader import DataPath, Document

_SET_BY_STUDY = {
    "run_version": "it is the study's to say",
    "data": "it is built for each encoder",
    "mixture": "arms name their tasks under `tasks`",
    "task": "targets are the setting's",
    "targets": "targets are the setting's",
    "sample": "use `shots` of the setting",
    "model.encoder": "encoders are the setting's",
    "model.random_init": "set it under `encoders`",
}
# A run and a target that no file names; what the study fills in is right by itself.
_RUN: Mapping[str, Any] = {
    "run_version": 1,
    "data": "data",
    "mixture": "pool",
    "model": {"encoder": "encoder"},
    "schedule": {"steps": 1},
}
_TARGET = "target"


def study_findings(document: Document) -> list[Finding]:
    """Everything that is wrong with a study, in file order."""
    schema = check_schema(document, "study")
    findings = list(schema.findings)
    if schema.intact("arms"):
        for name, arm in document.data["arms"].items():
            if arm["tasks"] == "none" and arm.get("prefinetune"):
                message = "an arm without tasks is not pre-finetuned, so this changes nothing"
                at = ("arms", name, "prefinetune")
                findings.append(document.finding(at, message, at_key=True))
            findings += _changes(document, ("arms", name), arm)
    return sorted(set(findings))


def setting_findings(document: Document) -> list[Finding]:
    """Everything that is wrong with a setting, in file order."""
    schema = check_schema(document, "study_setting")
    findings = list(schema.findings)
    if schema.intact("encoders"):
        for name, encoder in document.data["encoders"].items():
            findings += _changes(document, ("encoders", name), encoder)
    if schema.intact("prefinetune"):
        findings += _prefinetune(document)
    if schema.intact("finetune"):
        findings += _finetune(document)
    return sorted(set(findings))


def _changes(document: Document, at: DataPath, named: Mapping[str, Any]) -> Iterator[Finding]:
    for stage in ("prefinetune", "finetune"):
        for key, value in named.get(stage, {}).items():
            yield from change_findings(
                document, (*at, stage, key), value, _RUN, reserved=_SET_BY_STUDY
            )


def _prefinetune(document: Document) -> Iterator[Finding]:
    run = document.data["prefinetune"]
    for key in ("data", "mixture", "task"):
        if key in run:
            message = f"'{key}' is not for `prefinetune`: {_SET_BY_STUDY[key]}"
            yield document.finding(("prefinetune", key), message, at_key=True)
    model = run.get("model", {})
    inner = {**_RUN["model"], **model} if isinstance(model, dict) else model
    own = {key: value for key, value in run.items() if key != "task"}
    whole = {**own, "run_version": 1, "data": "data", "mixture": "pool", "model": inner}
    part = document.part("prefinetune", data=whole)
    yield from _within("prefinetune", schema_findings(part, "run"))


def _finetune(document: Document) -> Iterator[Finding]:
    finetune = document.data["finetune"]
    if "data" in finetune["run"]:
        message = f"'data' is not for `run`: {_SET_BY_STUDY['data']}"
        yield document.finding(("finetune", "run", "data"), message, at_key=True)
    plan = {
        **finetune,
        "finetune_version": 1,
        "targets": [_TARGET],
        "arms": {"arm": {"encoder": "encoder"}},
        "seeds": [0],
        "run": {**finetune["run"], "data": "data"},
    }
    part = document.part("finetune", data=plan)
    yield from _within("finetune", plan_findings(part, [_TARGET], []))


def _within(field: str, findings: list[Finding]) -> Iterator[Finding]:
    for found in findings:
        yield replace(found, field=f"{field}.{found.field}" if found.field else field)
