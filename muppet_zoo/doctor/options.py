"""Options of multiple choice against the raw row: dropped, changed, twice, always the same right.

A peer of ours cut every example to the fewest options that any row had, and nothing said so. What
the row offers is known: a list of texts among which the options are, or columns that are named as a
series, `ending0` to `ending3`.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from muppet_zoo.doctor.columns import columns_of, text_at, value_at
from muppet_zoo.doctor.duplicates import folded
from muppet_zoo.doctor.records import Diagnosis, RowRef, graded, listed
from muppet_zoo.doctor.sample import SampledRow, TaskSample
from muppet_zoo.doctor.thresholds import Thresholds
from muppet_zoo.examples import Example


def check_options(sample: TaskSample, limits: Thresholds) -> Iterator[Diagnosis]:
    """`options_dropped`, `options_changed`, `duplicate_options`, `answer_position`."""
    if sample.spec.head.type != "multiple_choice":
        return
    yield from _series(sample)
    yield from _lists(sample)
    yield from _duplicates(sample, limits)
    yield from _position(sample, limits)


def _series(sample: TaskSample) -> Iterator[Diagnosis]:
    """Columns of a series of which only some are read."""
    families: dict[str, list[str]] = defaultdict(list)
    for column in columns_of(sample):
        families[re.sub(r"(\d+|(?<=[._a-z])[A-J])$", "#", column)].append(column)
    for family, columns in families.items():
        read = [column for column in columns if sample.lineage.feeds_inputs(column)]
        left = [column for column in columns if column not in read]
        if not family.endswith("#") or len(read) < 2 or not left:
            continue
        refs = [
            split.ref(sampled.number)
            for split in sample.splits
            for sampled in split.rows
            if any((text_at(sampled.row, column) or "").strip() for column in left)
        ]
        if refs:
            yield Diagnosis(
                task=sample.spec.name,
                check="options_dropped",
                severity="error",
                subject=", ".join(left),
                message=f"the options read {', '.join(read)}, but not {', '.join(left)}, which "
                f"{'has' if len(left) == 1 else 'have'} a text in {len(refs):,} rows",
                numbers={"read": len(read), "left": len(left)},
                **listed(refs),
            )


def _lists(sample: TaskSample) -> Iterator[Diagnosis]:
    """Lists of the raw row that hold the options, but not as many, or not the same."""
    dropped: dict[str, list[RowRef]] = defaultdict(list)
    changed: dict[str, list[RowRef]] = defaultdict(list)
    counts: dict[str, Counter[tuple[int, int]]] = defaultdict(Counter)
    num_rows: Counter[str] = Counter()
    for split in sample.splits:
        for sampled in split.rows:
            for column, offered, example in _offered(sample, sampled):
                shown = [folded(second or "") for _, second in example.segments.sequences]
                num_rows[column] += 1
                if len(offered) != len(shown):
                    dropped[column].append(split.ref(sampled.number))
                    counts[column][len(offered), len(shown)] += 1
                elif not all(a in b or b in a for a, b in zip(offered, shown, strict=True)):
                    changed[column].append(split.ref(sampled.number))
    for column, refs in dropped.items():
        (num_offered, num_shown), _ = counts[column].most_common(1)[0]
        yield Diagnosis(
            task=sample.spec.name,
            check="options_dropped",
            severity="error",
            subject=column,
            message=f"'{column}' has another number of options than the example, such as "
            f"{num_offered} and {num_shown}, in {len(refs):,} of {num_rows[column]:,} rows",
            numbers={"rows": num_rows[column], "offered": num_offered, "shown": num_shown},
            **listed(refs),
        )
    for column, refs in changed.items():
        yield Diagnosis(
            task=sample.spec.name,
            check="options_changed",
            severity="error",
            subject=column,
            message=f"the options are not those of '{column}', or not in its order, in "
            f"{len(refs):,} of {num_rows[column]:,} rows",
            numbers={"rows": num_rows[column]},
            **listed(refs),
        )


def _offered(sample: TaskSample, sampled: SampledRow) -> Iterator[tuple[str, list[str], Example]]:
    """(column, its texts, example) for each list column that has most of the example's options."""
    for column in sample.spec.source.columns:
        value = value_at(sampled.row, column)
        if not _is_texts(value) or not sample.lineage.feeds_inputs(column):
            continue
        offered = [folded(text) for text in value]
        for example in sampled.examples:
            shown = [folded(second or "") for _, second in example.segments.sequences]
            known = [any(one in text or text in one for one in offered) for text in shown]
            if 2 * sum(known) > len(shown) and not _is_context(offered, example):
                yield column, offered, example


def _is_texts(value: Any) -> bool:
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and len(value) > 1
        and all(isinstance(text, str) and text.strip() for text in value)
    )


def _is_context(texts: Sequence[str], example: Example) -> bool:
    """The list is what is asked about, such as the turns of a dialogue, which mentions options."""
    context = folded(example.segments.sequences[0][0])
    return all(text in context for text in texts)


def _duplicates(sample: TaskSample, limits: Thresholds) -> Iterator[Diagnosis]:
    refs, right, num_examples = [], 0, 0
    for split in sample.splits:
        for example in split.examples:
            num_examples += 1
            options = [_exact(second or "") for _, second in example.segments.sequences]
            if len(set(options)) < len(options):
                refs.append(split.ref(example.row))
                right += example.target is not None and options.count(options[example.target]) > 1
    if refs:
        yield Diagnosis(
            task=sample.spec.name,
            check="duplicate_options",
            severity=graded(len(refs) / num_examples, warning=limits.common_fault)
            if len(refs) >= limits.few
            else "note",
            message=f"{len(refs):,} of {num_examples:,} examples have an option twice; it is the "
            f"right one in {right:,}, where one of two equal texts counts as wrong",
            numbers={"examples": num_examples, "right": right},
            **listed(refs),
        )


def _exact(text: str) -> str:
    """Equal but for spaces: case and signs may be what a question is about."""
    return " ".join(text.split())


def _position(sample: TaskSample, limits: Thresholds) -> Iterator[Diagnosis]:
    for split in sample.labelled:
        positions = Counter(e.target for e in split.examples if e.target is not None)
        total = positions.total()
        if total < limits.min_rows:
            continue
        position, most = positions.most_common(1)[0]
        if most / total >= limits.same_position:
            yield Diagnosis(
                task=sample.spec.name,
                check="answer_position",
                severity="note",
                subject=split.role,
                message=f"the right option is number {position} in {most / total:.1%} of "
                f"{split.role} ({total:,} examples): harmless here, where each option is scored "
                f"apart, but not for a model that reads all options at once",
                numbers={"examples": total, "share": round(most / total, 4)},
            )
