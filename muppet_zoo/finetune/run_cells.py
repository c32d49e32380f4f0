"""Carry out a finetune plan, cell by cell, so that it can be killed anywhere and goes on.

    DIR/cells/<cell>/cell.json    which trainings are done
    DIR/results.jsonl             the chosen cells, scored; see `cell_results`
    DIR/predictions/<cell>.jsonl  what they answered

What is missing is found from these files alone. A cell without cell.json is trained; settings are
chosen from the cell.json of all points and seeds, which gives the same choice whenever it is made;
a result without a line is scored. A model is deleted only after the line that needed it, so
every kill leaves a state that one of these rules completes.
"""

from __future__ import annotations

import shutil
import statistics
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from muppet_zoo.console import ProgressLine, note, progress
from muppet_zoo.errors import MuppetZooError, UsageError
from muppet_zoo.file_tools import own_folder
from muppet_zoo.finetune.cell import (
    CELLS_FOLDER,
    CellRecord,
    Study,
    differences,
    drop_models,
    identity_of,
    read_record,
    score_cell,
    train_cell,
    training_digest,
)
from muppet_zoo.finetune.plan import Cell, FinetunePlan, Group, counts_of, without_cells
from muppet_zoo.finetune.results import (
    RESULTS_FILE,
    CellResult,
    append_result,
    read_results,
)
from muppet_zoo.metrics import METRICS
from muppet_zoo.model_folder import CHECKPOINTS_FOLDER, MODEL_FOLDER, WEIGHTS_FILE
from muppet_zoo.provenance import weights_digest
from muppet_zoo.run_checks import check_settings
from muppet_zoo.shards import check_labelled, check_role, open_task
from muppet_zoo.trainer_api import load_trainer
from muppet_zoo.zoo import Zoo

Done = TypeVar("Done")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """All results of the plan, earlier ones too, and (cell, reason) of what has none."""

    results: tuple[CellResult, ...]
    failed: tuple[tuple[str, str], ...]


@dataclass(kw_only=True)
class _Progress:
    """How far a plan is: results by group and seed, failures, and what the line shows."""

    study: Study
    groups: Mapping[Group, int]  # with the number of examples of one training
    results: dict[tuple[Group, int], CellResult]
    line: ProgressLine
    mean_cost: float  # of a training
    cost: float = 0.0  # of those that were done now
    failed: list[tuple[str, str]] = field(default_factory=list)

    def is_done(self, cell: Cell) -> bool:
        return (cell.group, cell.seed) in self.results


def finetune(plan: FinetunePlan, zoo: Zoo, out: Path, spec_dirs: Sequence[Path] = ()) -> Outcome:
    """Train and score every cell that is not done yet. A cell that fails does not stop the others.

    Raises:
        UsageError: the plan has settings that no cell can have, `out` holds something else or is in
            use, or an encoder cannot be had.
        UnknownNameError: a target has no such split as the plan scores on.
        ShardError: a target's split is not built, or has no labels.
    """
    _check_settings(plan)
    groups, data = _open_data(plan, zoo)
    study = Study(
        plan=plan,
        zoo=zoo,
        out=out,
        spec_dirs=tuple(spec_dirs),
        trainer=load_trainer(plan.common.trainer),
        weights=_weights(plan),
        data=data,
    )
    with own_folder(out, "fine-tuning", {CELLS_FOLDER, RESULTS_FILE}), progress() as display:
        results = _results(study, groups)
        costs = _missing_costs(study, groups, results)
        work = _Progress(
            study=study,
            groups=groups,
            results=results,
            line=display.start("finetune", total=len(costs), unit="cells"),
            mean_cost=statistics.fmean(costs or [1.0]),
        )
        for group in groups:
            _finish_group(work, group)
        work.line.finish()
    keys = [(group, seed) for group in groups for seed in plan.seeds]
    return Outcome(
        results=tuple(results[key] for key in keys if key in results), failed=tuple(work.failed)
    )


def _check_settings(plan: FinetunePlan) -> None:
    """Refuse what would fail in every cell, or in every cell of a point of the grid."""
    group = Group(arm=plan.arms[0], target=plan.targets[0], shots=plan.shots[0])
    for point, settings in enumerate(plan.points):
        try:
            check_settings(plan.run_of(Cell(group=group, seed=plan.seeds[0], point=point)))
        except UsageError as error:
            if not settings:
                raise
            named = ", ".join(f"{key}: {value}" for key, value in settings.items())
            raise UsageError(f"grid, at {named}: {error}") from None


# --- what there is to do ---------------------------------------------------------------------


def _open_data(plan: FinetunePlan, zoo: Zoo) -> tuple[dict[Group, int], dict[str, dict[str, str]]]:
    """Groups with their numbers of train examples, and fingerprints of each target's splits.

    Without the groups that a target has not enough examples for, which are told.
    """
    groups, data = {}, {}
    for target in plan.targets:
        check_role(zoo.task(target), plan.split)
        check_labelled(zoo.task(target), plan.split)  # before hours of training
        train, scored = (open_task(plan.common.data, target, s) for s in ("train", plan.split))
        data[target] = {"train": train.fingerprint, plan.split: scored.fingerprint}
        counts = counts_of(plan.shots, train.num_examples, plan.held_out)
        if len(counts) < len(plan.shots):
            note(without_cells(target, plan.shots, train.num_examples, plan.held_out))
        for shots, count in counts.items():
            for arm in plan.arms:
                groups[Group(arm=arm, target=target, shots=shots)] = count
    if not groups:
        raise UsageError("no target has enough train examples; lower held_out or shots")
    return groups, data


def _weights(plan: FinetunePlan) -> dict[str, str]:
    digests = {}
    for arm in plan.arms:
        heads = Path(arm.encoder).parent / WEIGHTS_FILE
        reused = heads if arm.heads == "reuse" and heads.is_file() else None
        digests[arm.name] = weights_digest(arm.encoder, random_init=arm.random_init, heads=reused)
    return digests


def _results(study: Study, groups: Mapping[Group, int]) -> dict[tuple[Group, int], CellResult]:
    """What the folder holds of the plan."""
    path = study.out / RESULTS_FILE
    by_name = {(g.arm.name, g.target, study.plan.split, g.shots): g for g in groups}
    found = read_results(path) if path.is_file() else []
    return {
        (by_name[result.key[:4]], result.seed): result
        for result in found
        if result.key[:4] in by_name and result.seed in study.plan.seeds
    }


def _missing_costs(
    study: Study, groups: Mapping[Group, int], results: Mapping[tuple[Group, int], CellResult]
) -> list[float]:
    """What each training that is missing costs; refuses to mix the cells of two plans.

    Arms, targets, shots and seeds may join a plan later.
    """
    costs = []
    for group in groups:
        for cell in study.plan.cells(group):
            _check_result(study, cell, results.get((group, cell.seed)))
            record = read_record(study, cell)
            if record is not None:
                _check_same_plan(study, cell, record)
            elif any((group, seed) not in results for seed in study.plan.seeds):
                costs.append(_cost(study.plan, groups[group]))
    return costs


def _check_same_plan(study: Study, cell: Cell, record: CellRecord) -> None:
    if found := list(differences(record.identity, identity_of(study, cell))):
        raise UsageError(
            f"{study.out} holds another plan: {cell.name} was trained with {'; '.join(found)}. "
            f"Choose another --out, or go on with the same plan"
        )


def _check_result(study: Study, cell: Cell, result: CellResult | None) -> None:
    """Refuse a result of another training with these settings; the cell's record may be gone."""
    if result is None or dict(result.settings) != dict(study.plan.points[cell.point]):
        return
    if result.training not in (None, training_digest(study, cell)):
        raise UsageError(
            f"{study.out / RESULTS_FILE} holds another plan: {cell.scored_name} was scored after "
            f"a training with another run, encoder or data. Choose another --out, or go on with "
            f"the same plan"
        )


def _cost(plan: FinetunePlan, num_examples: int) -> float:
    """What a training costs, in any unit; with a fixed number of steps all cost the same."""
    return 1.0 if plan.common.schedule.steps is not None else float(num_examples)


# --- doing it --------------------------------------------------------------------------------


def _finish_group(work: _Progress, group: Group) -> None:
    """Train what is missing, choose, score the chosen, and delete models nobody needs any more."""
    cells = work.study.plan.cells(group)
    if not all(work.is_done(cell) for cell in cells):
        point = _chosen_point(work, group)
        if point is None:
            return
        for cell in work.study.plan.cells(group, point):
            if not work.is_done(cell):
                _score(work, cell)
        cells = [cell for cell in cells if cell.point != point or work.is_done(cell)]
    for cell in cells:
        drop_models(work.study, cell, CHECKPOINTS_FOLDER, MODEL_FOLDER)


def _chosen_point(work: _Progress, group: Group) -> int | None:
    """The number of the settings to score with; None where that cannot be known."""
    plan = work.study.plan
    if not plan.is_choosing:
        return 0
    records = {cell: _trained(work, cell) for cell in work.study.plan.cells(group)}
    finished = {cell: record for cell, record in records.items() if record is not None}
    if len(finished) < len(records):
        return None  # to choose without what failed would be another choice
    means: dict[int, float] = {}
    for point in range(len(plan.points)):
        scores = [finished[cell].held_out_score for cell in work.study.plan.cells(group, point)]
        known = [score for score in scores if score is not None]
        if len(known) == len(scores):  # else it diverged with one of the seeds
            means[point] = statistics.fmean(known)
    if not means:
        reason = "the training diverged at every point of the grid"
        work.failed.append((Cell(group=group, seed=plan.seeds[0], point=0).scored_name, reason))
        return None
    sign = 1 if METRICS[work.study.zoo.task(group.target).metrics[0]].higher_is_better else -1
    chosen = max(means, key=lambda point: sign * means[point])  # of equal ones the first
    return chosen if _agrees_with_results(work, group, chosen) else None


def _agrees_with_results(work: _Progress, group: Group, point: int) -> bool:
    """Whether earlier results of the group have these settings: other seeds may choose others."""
    settings = dict(work.study.plan.points[point])
    for cell in work.study.plan.cells(group, point):
        before = work.results.get((group, cell.seed))
        if before is not None and dict(before.settings) != settings:
            reason = (
                f"scored before with {dict(before.settings)}, but over the seeds of now {settings} "
                f"is best on the held-out examples; keep the seeds, or choose another --out"
            )
            work.failed.append((cell.scored_name, reason))
            return False
    return True


def _trained(work: _Progress, cell: Cell) -> CellRecord | None:
    """The record of a cell, which is trained if need be; None when that fails."""
    record = read_record(work.study, cell)
    if record is not None:
        return record
    # In units of the mean cell, so that the time left is that of what the cells have to do.
    work.line.update(work.cost / work.mean_cost, text=cell.name)
    record = _attempt(work, cell.name, lambda: train_cell(work.study, cell))
    work.cost += _cost(work.study.plan, work.groups[cell.group])
    return record


def _score(work: _Progress, cell: Cell) -> None:
    folder = work.study.folder(cell)
    if read_record(work.study, cell) is not None and not (folder / MODEL_FOLDER).is_dir():
        shutil.rmtree(folder)  # scored once, and its line was lost: train it again
    record = _trained(work, cell)
    if record is None:
        return
    if record.diverged:
        work.failed.append((cell.name, record.diverged))
        return
    result = _attempt(work, cell.name, lambda: score_cell(work.study, cell, record))
    if result is not None:
        append_result(work.study.out / RESULTS_FILE, result)
        work.results[cell.group, cell.seed] = result


def _attempt(work: _Progress, name: str, action: Callable[[], Done]) -> Done | None:
    """What the action returns; None when it fails, which is told when the others are done."""
    try:
        return action()
    except MuppetZooError as error:
        work.failed.append((name, str(error)))
    except Exception:  # a bug: hours of other cells are not lost for it, nor is its traceback
        work.failed.append((name, traceback.format_exc().rstrip()))
    return None
