"""The scored cells of one or more runs, read back to be compared.

A cell is one arm's scores on one split of one target, trained with so many labelled examples and
one seed. Two kinds of folder hold some: what `finetune` writes (`results.jsonl`), and what `train`
writes (`reports.jsonl`), whose name is then the arm. What must be equal for scores to be comparable
is checked here, before anything is averaged: the data that was scored, its size and the metric.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from muppet_zoo.errors import SpecError
from muppet_zoo.finetune.results import (
    ALL,
    RESULTS_FILE,
    Shots,
    predictions_file,
    read_predictions,
    read_results,
)
from muppet_zoo.results import ReportError, TaskReport, read_reports
from muppet_zoo.validation import check_schema
from muppet_zoo.yaml_reader import read_yaml

REPORTS_FILE, ARMS_FILE = "reports.jsonl", "arms.yaml"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Scores of one arm, target, split, number of examples (`shots`) and seed.

    headline: the metric in `scores` that counts first.
    fingerprint: names the data that was scored; None where unknown.
    overlap: training rows whose inputs are those of scored rows; None where not compared.
    predictions: file of {"row", "prediction", "target"} lines; None where none were kept.
    """

    arm: str
    target: str
    split: str
    shots: Shots
    seed: int
    scores: Mapping[str, float]
    headline: str
    num_examples: int
    fingerprint: str | None = None
    overlap: int | None = None
    predictions: Path | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str, str, Shots, int]:
        """What tells it from all others of a report."""
        return self.arm, self.target, self.split, self.shots, self.seed

    @property
    def group(self) -> Group:
        """Cells of one group are compared with each other."""
        return Group(target=self.target, split=self.split, shots=self.shots)


@dataclass(frozen=True, kw_only=True)
class Group:
    """What arms are compared on."""

    target: str
    split: str
    shots: Shots

    def __str__(self) -> str:
        return f"{self.target}, {self.split}, {self.shots} shots"


@dataclass(frozen=True, kw_only=True)
class ArmFacts:
    """What is known of an arm: the tasks it was pre-finetuned on, and what it is in words."""

    num_tasks: int | None = None
    description: str = ""


@dataclass(frozen=True, kw_only=True)
class Runs:
    """All cells in the order of reading, one of each key, and facts of their arms."""

    cells: tuple[Cell, ...]
    arms: Mapping[str, ArmFacts]


def read_runs(runs: Sequence[str], arms_file: Path | None = None) -> Runs:
    """The cells of these folders; `NAME=DIR` names the arm of a training folder.

    Raises:
        ReportError: a folder holds no results, a line is none, or cells cannot be compared.
        SpecError: a file of arms is malformed.
    """
    cells: dict[tuple[Any, ...], tuple[Path, Cell]] = {}
    facts: dict[str, dict[str, Any]] = {}
    for run in runs:
        name, folder = _named(run)
        found, found_facts = _read_folder(folder, name)
        for cell in found:
            other = cells.get(cell.key, (folder, cell))
            if other[0] != folder:
                raise ReportError(
                    f"{folder}: arm '{cell.arm}', seed {cell.seed} on {cell.group} is in "
                    f"{other[0]} too; leave one out, or name training folders apart with NAME=DIR"
                )
            cells[cell.key] = folder, cell
        for arm, known in found_facts.items():
            facts.setdefault(arm, {}).update(known)
    if arms_file is not None:
        for arm, known in _read_arms(arms_file).items():
            facts.setdefault(arm, {}).update(known)
    read = tuple(cell for _, cell in cells.values())
    check_comparable(read)
    arms = dict.fromkeys(cell.arm for cell in read)
    return Runs(cells=read, arms={arm: ArmFacts(**facts.get(arm, {})) for arm in arms})


def cells_of(reports: Iterable[TaskReport], arm: str) -> list[Cell]:
    """The reports of a training as cells; of one task, split and seed the last counts."""
    cells: dict[tuple[Any, ...], Cell] = {}
    for report in reports:
        cell = Cell(
            arm=arm,
            target=report.task,
            split=report.split,
            shots=ALL,
            seed=report.seed or 0,
            scores=report.scores,
            headline=report.headline,
            num_examples=report.num_examples,
            fingerprint=report.fingerprint,
            overlap=report.overlap,
        )
        cells[cell.key] = cell
    return list(cells.values())


def check_comparable(cells: Sequence[Cell]) -> None:
    """Raises ReportError for cells of one group whose data, size or headline metric differ."""
    first: dict[Group, Cell] = {}
    for cell in cells:
        other = first.setdefault(cell.group, cell)
        if None not in (cell.fingerprint, other.fingerprint):
            _check_equal("data_fingerprint", other, other.fingerprint, cell, cell.fingerprint)
        _check_equal("num_examples", other, other.num_examples, cell, cell.num_examples)
        _check_equal("headline", other, other.headline, cell, cell.headline)


def predictions_of(cell: Cell) -> dict[int | str, tuple[Any, Any]]:
    """Row → (prediction, target), in row order; of a cell that has a file of them.

    Raises:
        ReportError: the file is missing, a line is no prediction, or their number is another.
    """
    assert cell.predictions is not None
    rows: dict[int | str, tuple[Any, Any]] = {}
    for each in read_predictions(cell.predictions):
        if each.row in rows:
            raise ReportError(f"{cell.predictions}: row {each.row} is there twice")
        rows[each.row] = each.prediction, each.target
    if len(rows) != cell.num_examples:
        raise ReportError(
            f"{cell.predictions}: {len(rows)} predictions, and {cell.num_examples} rows were scored"
        )
    return rows


def _named(run: str) -> tuple[str | None, Path]:
    name, equals, folder = run.partition("=")
    if equals and name and not Path(run).exists():
        return name, Path(folder)
    return None, Path(run)


def _read_folder(folder: Path, name: str | None) -> tuple[list[Cell], dict[str, dict[str, Any]]]:
    facts = _read_arms(folder / ARMS_FILE) if (folder / ARMS_FILE).is_file() else {}
    if (folder / RESULTS_FILE).is_file():
        if name is not None:
            raise ReportError(
                f"{folder}: its results name their arms themselves; give the folder without {name}="
            )
        return _read_results(folder / RESULTS_FILE, facts), facts
    if (folder / REPORTS_FILE).is_file():
        arm = name or folder.resolve().name
        return cells_of(read_reports(folder / REPORTS_FILE).reports, arm), facts
    what = "there is no such folder" if not folder.is_dir() else "no results are in this folder"
    raise ReportError(
        f"{folder}: {what}; needed: one with {RESULTS_FILE}, as `muppet-zoo finetune` writes it, "
        f"or {REPORTS_FILE}, as `muppet-zoo train` does"
    )


def _read_arms(path: Path) -> dict[str, dict[str, Any]]:
    document = read_yaml(path)
    schema = check_schema(document, "arms")
    if schema.findings:
        raise SpecError(schema.findings)
    return {arm: dict(known) for arm, known in document.data["arms"].items()}


def _read_results(path: Path, facts: dict[str, dict[str, Any]]) -> list[Cell]:
    """The cells of the file; adds what its settings know of arms to `facts`."""
    cells: dict[tuple[Any, ...], Cell] = {}
    for result in read_results(path):
        cell = Cell(
            arm=result.arm,
            target=result.target,
            split=result.split,
            shots=result.shots,
            seed=result.seed,
            scores=result.scores,
            headline=result.headline,
            num_examples=result.num_examples,
            fingerprint=result.data_fingerprint,
            overlap=result.overlap,
            predictions=predictions_file(path, result),
            settings=result.settings,
        )
        twin = cells.get(cell.key)
        if twin is not None and replace(twin, scores=cell.scores) != cell:
            raise ReportError(
                f"{path}: arm '{cell.arm}', seed {cell.seed} on {cell.group} was scored twice, "
                f"with other settings or data; which one counts must be clear"
            )
        cells[cell.key] = cell
        num_tasks = cell.settings.get("num_tasks")
        if num_tasks is not None and type(num_tasks) is not int:
            raise ReportError(f"{path}: 'num_tasks' is {num_tasks!r}; allowed: a whole number")
        if num_tasks is not None:
            facts.setdefault(cell.arm, {})["num_tasks"] = num_tasks
    return list(cells.values())


def _check_equal(name: str, first: Cell, wanted: Any, cell: Cell, found: Any) -> None:
    if wanted != found:
        raise ReportError(
            f"{cell.group}: {name} is {wanted} for arm '{first.arm}', seed {first.seed}, and "
            f"{found} for arm '{cell.arm}', seed {cell.seed}; these cannot be compared: score "
            f"both on the same built data"
        )
