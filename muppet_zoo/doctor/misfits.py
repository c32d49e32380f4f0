"""Rows that the spec does not fit, and rows that its filters drop.

The build refuses a row that does not fit, or skips it where the spec says so. Here all of them are
listed at once, by what is wrong: a label outside the set, an answer that is not in the context, a
key that no option has.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from muppet_zoo.doctor.records import Diagnosis, RowRef, graded, listed
from muppet_zoo.doctor.sample import Misfit, TaskSample
from muppet_zoo.doctor.thresholds import Thresholds

_TARGET_CHECKS = {"span": "answer_not_found", "multiple_choice": "key_outside_options"}
_MEANING = {
    "answer_not_found": "the answer is not in the context",
    "key_outside_options": "the answer's key is that of no option",
    "label_outside_set": "the label is none of the spec's",
    "no_text": "there is nothing to read",
    "operation_fails": "a row operation cannot be carried out",
}


def check_misfits(sample: TaskSample, limits: Thresholds) -> Iterator[Diagnosis]:
    """`answer_not_found`, `key_outside_options`, `label_outside_set`, `no_text`,
    `operation_fails`, `dropped_rows`, `no_rows`."""
    refs: dict[str, list[RowRef]] = defaultdict(list)
    reasons: dict[str, Counter[str]] = defaultdict(Counter)
    num_rows = sum(len(split.rows) for split in sample.splits)
    for split in sample.splits:
        for sampled in split.rows:
            if sampled.misfit is not None:
                check = _check_of(sample, sampled.misfit)
                refs[check].append(split.ref(sampled.number))
                reasons[check][sampled.misfit.reason] += 1
    for check, found in refs.items():
        share = len(found) / num_rows
        skips = sample.spec.on_bad_row == "skip"
        reason, _ = reasons[check].most_common(1)[0]
        yield Diagnosis(
            task=sample.spec.name,
            check=check,
            severity=graded(share, warning=limits.common_fault) if skips else "error",
            message=f"{_MEANING[check]} in {len(found):,} of {num_rows:,} rows, "
            f"{'which are skipped' if skips else 'and the build stops there'}; such as: {reason}",
            numbers={"rows": num_rows, "share": round(share, 4)},
            **listed(found),
        )
    yield from _dropped(sample, limits)
    if sample.absent:
        yield Diagnosis(
            task=sample.spec.name,
            check="no_rows",
            severity="note",
            message=f"the mirror has no rows for: {', '.join(sample.absent)}; not examined",
            numbers={"splits": len(sample.absent)},
        )


def _check_of(sample: TaskSample, misfit: Misfit) -> str:
    if misfit.stage == "target":
        return _TARGET_CHECKS.get(sample.spec.head.type, "label_outside_set")
    if misfit.stage == "inputs":
        return "no_text"
    return "answer_not_found" if misfit.stage == "locate" else "operation_fails"


def _dropped(sample: TaskSample, limits: Thresholds) -> Iterator[Diagnosis]:
    for split in sample.splits:
        refs = [
            split.ref(sampled.number)
            for sampled in split.rows
            if not sampled.examples and sampled.misfit is None
        ]
        if not refs:
            continue
        share = len(refs) / len(split.rows)
        enough = len(split.rows) >= limits.min_rows
        yield Diagnosis(
            task=sample.spec.name,
            check="dropped_rows",
            severity=graded(share, warning=limits.mostly_dropped) if enough else "note",
            subject=split.role,
            message=f"row operations drop {len(refs):,} of {len(split.rows):,} rows of "
            f"{split.role}",
            numbers={"rows": len(split.rows), "share": round(share, 4)},
            **listed(refs),
        )
