"""The README of an exported model: what it was trained on, how well it does, and how to load it.

Everything on it is read from what the run left: run.json, mix.json, metrics.jsonl, reports.jsonl,
versions.json.
What is not there is said to be missing, and never guessed. The front matter is that of the Hugging
Face hub, written and escaped by huggingface_hub.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from muppet_zoo.errors import CheckpointError
from muppet_zoo.model_folder import ModelFolder
from muppet_zoo.prediction_rows import input_columns
from muppet_zoo.results import TaskReport, read_reports
from muppet_zoo.spec import TaskSpec
from muppet_zoo.trainer_api import ExportRequest
from muppet_zoo_torch.hf_heads import CLASSES
from muppet_zoo_torch.run_log import METRICS_FILE
from muppet_zoo_torch.run_record import MIX_FILE, VERSIONS_FILE, counted, read_log

RUN_FILE = "run.json"
REPORTS_FILE = "reports.jsonl"
CARD_FILE = "README.md"
_TEMPLATE = Path(__file__).with_name("model_card.md.jinja")
_MISSING = "not recorded"
# Names of the hub. Source: huggingface.co/docs/hub/models-tasks.
_PIPELINES = {
    "classification": "text-classification",
    "multi_label": "text-classification",
    "regression": "text-classification",
    "multiple_choice": "multiple-choice",
    "token_classification": "token-classification",
    "span": "question-answering",
    "generation": "text-generation",
}


def write_card(folder: ModelFolder, out: Path, request: ExportRequest) -> None:
    """Write README.md into `out`, the folder that is being exported."""
    from huggingface_hub import ModelCard
    from jinja2 import Environment

    name = request.out.name
    run_folder = _run_folder(folder.path)
    run = _read(run_folder, RUN_FILE)
    mix = _mix(run_folder, folder.step)
    reports = _reports(run_folder, folder.step)
    if request.task is not None:
        reports = [report for report in reports if report.task == request.task.name]
    auto_class = _auto_class(out, request.task)
    environment = Environment(trim_blocks=True, keep_trailing_newline=True)
    content = environment.from_string(_TEMPLATE.read_text("utf-8")).render(
        card_data=_card_data(name, run, request, reports).to_yaml(),
        name=name,
        purpose=_purpose(request.task, run),
        code=_code(name, auto_class),
        columns=[f"`{column}`" for column in input_columns(request.task)] if request.task else [],
        format=request.task.inputs.format if request.task else "",
        facts=_facts(folder, run),
        tasks=[_task_row(task, request.specs.get(task), mix.get(task)) for task in folder.tasks],
        earlier_tasks=[
            _task_row(task, request.specs.get(task), None)
            for task in folder.earlier_tasks
            if task not in folder.tasks
        ],
        results=_result_rows(reports),
        split=reports[0].split if reports else "",
        step=folder.step,
        seed=folder.seed,
        overlap=_overlap_lines(mix),
        versions=", ".join(
            f"{key} {value}" for key, value in _read(run_folder, VERSIONS_FILE).items() if value
        )
        or _MISSING,
    )
    ModelCard(content).save(out / CARD_FILE)


def _run_folder(model: Path) -> Path | None:
    """The folder of the run that wrote this model or checkpoint; None where it was moved away."""
    above = list(model.resolve().parents)[:3]
    return next((path for path in above if (path / RUN_FILE).is_file()), None)


def _read(folder: Path | None, name: str) -> dict[str, Any]:
    if folder is None or not (folder / name).is_file():
        return {}
    try:
        return dict(json.loads((folder / name).read_text("utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"{folder / name} is damaged: {error}") from error


def _mix(folder: Path | None, step: int) -> dict[str, dict[str, Any]]:
    """By task what mix.json says, but counted up to `step`: the run may have gone on."""
    tasks: dict[str, dict[str, Any]] = _read(folder, MIX_FILE).get("tasks", {})
    if folder is None or not tasks:
        return tasks
    try:
        log = read_log(folder / METRICS_FILE)
        examples, tokens = counted(line for line in log if line["step"] <= step)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{folder / METRICS_FILE} is damaged: {error}") from error
    # A checkpoint ends a line of the log, so without lines the log is not that of the run.
    return {
        name: {
            **task,
            "num_examples": examples[name] if examples else None,
            "num_tokens": tokens[name] if examples else None,
            "share": examples[name] / examples.total() if examples else None,
        }
        for name, task in tasks.items()
    }


def _reports(folder: Path | None, step: int) -> list[TaskReport]:
    if folder is None or not (folder / REPORTS_FILE).is_file():
        return []
    return [r for r in read_reports(folder / REPORTS_FILE).reports if r.step == step]


def _card_data(
    name: str, run: Mapping[str, Any], request: ExportRequest, reports: Sequence[TaskReport]
) -> Any:
    from huggingface_hub import EvalResult, ModelCardData

    specs = request.specs
    hubs = sorted({spec.source.hub for spec in specs.values() if spec.source.hub})
    encoder = str(run.get("model", {}).get("encoder", ""))
    task = request.task
    pipeline = _PIPELINES[task.head.type] if task is not None else "feature-extraction"
    results = []
    for report in reports:
        spec = specs.get(report.task)
        results += [
            EvalResult(
                task_type=_PIPELINES[spec.head.type] if spec is not None else "other",
                dataset_type=(spec.source.hub if spec is not None else None) or report.task,
                dataset_name=report.task,
                dataset_config=spec.source.config if spec is not None else None,
                dataset_revision=spec.source.revision if spec is not None else None,
                dataset_split=report.split,
                metric_type=metric,
                metric_value=round(score, 6),
            )
            for metric, score in report.scores.items()
        ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that the hub does not list
        return ModelCardData(
            language=sorted({language for spec in specs.values() for language in spec.languages}),
            license="other",
            license_name="see-licences-of-the-training-data",
            library_name="transformers",
            pipeline_tag=pipeline,
            tags=["muppet-zoo", "pre-finetuning" if run.get("mixture") else "fine-tuned"],
            datasets=hubs or None,
            # A folder's path says nothing to a reader, and is nobody's business.
            base_model=encoder if encoder and not Path(encoder).is_absolute() else None,
            model_name=name,
            eval_results=results or None,
        )


def _auto_class(out: Path, task: TaskSpec | None) -> str:
    if task is not None:
        return CLASSES[task.head.type]
    config = json.loads((out / "config.json").read_text("utf-8"))
    return "AutoModelForSeq2SeqLM" if config.get("is_encoder_decoder") else "AutoModel"


def _code(name: str, auto_class: str) -> str:
    return (
        f"from transformers import {auto_class}, AutoTokenizer\n\n"
        f'model = {auto_class}.from_pretrained("{name}")\n'
        f'tokenizer = AutoTokenizer.from_pretrained("{name}")'
    )


def _purpose(task: TaskSpec | None, run: Mapping[str, Any]) -> str:
    how = f"trained on the mixture `{run['mixture']}`" if run.get("mixture") else (
        f"trained on the task `{run['task']}`" if run.get("task") else "trained on several tasks"
    )  # fmt: skip
    if task is None:
        return f"An encoder, {how}, to be fine-tuned."
    return f"A model for the task `{task.name}`, {how}. {_one_line(task.description)}"


def _facts(folder: ModelFolder, run: Mapping[str, Any]) -> list[tuple[str, Any]]:
    optimizer, schedule = run.get("optimizer", {}), run.get("schedule", {})
    encoder = str(run.get("model", {}).get("encoder", _MISSING))
    return [
        ("mixture or task", run.get("mixture") or run.get("task") or _MISSING),
        ("encoder it began with", Path(encoder).name if Path(encoder).is_absolute() else encoder),
        ("tasks the encoder was trained on before", len(folder.earlier_tasks)),
        ("steps", folder.step),
        ("seed", folder.seed),
        ("learning rate", optimizer.get("learning_rate", _MISSING)),
        ("decay of the learning rate", schedule.get("decay", _MISSING)),
        ("precision", run.get("precision", _MISSING)),
        ("pooling", folder.pooling),
        ("dense layer of the heads", folder.head_dense),
    ]


def _task_row(name: str, spec: TaskSpec | None, mix: Mapping[str, Any] | None) -> dict[str, str]:
    source = spec.source if spec is not None else None
    return {
        "name": name,
        "family": spec.family if spec is not None else _MISSING,
        "built": _shown(mix, "num_built_examples", ","),
        "examples": _shown(mix, "num_examples", ","),
        "tokens": _shown(mix, "num_tokens", ","),
        "share": _shown(mix, "share", ".1%"),
        "data": (source.hub or "files of its author") if source is not None else _MISSING,
        "revision": (source.revision or "") if source is not None else "",
        "license": spec.license if spec is not None else f"{_MISSING}: no spec of this name",
        "citation": _one_line(spec.citation) if spec is not None else _MISSING,
    }


def _shown(mix: Mapping[str, Any] | None, key: str, form: str) -> str:
    return _MISSING if mix is None or mix[key] is None else format(mix[key], form)


def _result_rows(reports: Sequence[TaskReport]) -> list[dict[str, str]]:
    return [
        {
            "task": report.task,
            "metric": metric,
            "score": f"{score:.4f}",
            "num_examples": f"{report.num_examples:,}",
            "overlap": "not checked" if report.overlap is None else f"{report.overlap:,}",
        }
        for report in reports
        for metric, score in report.scores.items()
    ]


def _overlap_lines(mix: Mapping[str, Any]) -> list[str]:
    """What the build found, by task; that nothing was compared is said as plainly."""
    checked = {name: task["overlap"] for name, task in mix.items() if task["overlap"] is not None}
    if not checked:
        return ["Not checked: the training rows were not compared with any evaluation rows."]
    lines = []
    if unchecked := [name for name in mix if name not in checked]:
        lines.append(f"Not checked: {', '.join(unchecked)}.")
    found = {name: overlap for name, overlap in checked.items() if overlap["num_rows"]}
    for name, overlap in found.items():
        where = ", ".join(f"{key}: {count}" for key, count in overlap["found_in"].items())
        rows = f"{overlap['num_rows']:,} training rows of {name}"
        if overlap["policy"] == "drop":
            lines.append(f"Left out of the training: {rows}, which overlap ({where}).")
        else:
            lines.append(f"Warning: {rows} overlap ({where}).")
    if not found:
        lines.append("No overlap was found in the tasks that were checked.")
    return lines


def _one_line(text: str) -> str:
    """Line breaks and bars would end a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")
