"""The label set against the rows: labels never seen, one label only, names in another order."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from muppet_zoo.doctor.columns import columns_of, value_at
from muppet_zoo.doctor.label_names import declared_names
from muppet_zoo.doctor.records import Diagnosis, RowRef, listed
from muppet_zoo.doctor.sample import SplitSample, TaskSample
from muppet_zoo.doctor.thresholds import Thresholds
from muppet_zoo.rows import spelled

_HEADLINE_HIDES_MAJORITY = frozenset({"accuracy", "micro_f1"})


def check_labels(sample: TaskSample, limits: Thresholds) -> Iterator[Diagnosis]:
    """`label_never_seen`, `one_label`, `majority_label`, `label_order`."""
    labels: Sequence[str] | None = getattr(sample.spec.head, "labels", None)
    if labels is None:
        return
    yield from _never_seen(sample, labels, limits)
    if sample.spec.head.type == "classification":
        yield from _majority(sample, limits)
        yield from _order(sample, labels)


def label_counts(sample: TaskSample, split: SplitSample) -> Counter[str]:
    """How often each label occurs in the sampled rows."""
    return Counter(
        key
        for example in split.examples
        if example.target is not None
        for key in sample.spec.head.histogram_keys(example.target)
    )


def _never_seen(
    sample: TaskSample, labels: Sequence[str], limits: Thresholds
) -> Iterator[Diagnosis]:
    counts = {split.role: label_counts(sample, split) for split in sample.labelled}
    examples = {split.role: len(split.examples) for split in sample.labelled}
    num_examples = sum(examples.values())
    seen = set().union(*counts.values()) if counts else set()
    enough = max(limits.min_rows, 10 * len(labels))  # ten of each, were all equally common
    if missing := [label for label in labels if label not in seen]:
        # Rule of three: what is absent from n draws is rarer than 3/n with 95 % confidence.
        # Source: Hanley and Lippman-Hand 1983, "If nothing goes wrong, is everything all right?"
        yield Diagnosis(
            task=sample.spec.name,
            check="label_never_seen",
            severity="warning" if num_examples >= enough else "note",
            subject=", ".join(missing[:8]) + (", …" if len(missing) > 8 else ""),
            message=f"{len(missing)} of {len(labels)} labels never occur in {num_examples:,} "
            f"examples: {', '.join(missing[:8])}{', …' if len(missing) > 8 else ''}",
            numbers={"labels": len(missing), "examples": num_examples},
        )
    for role in counts:
        untaught = [label for label in seen if label not in counts[role]]
        if role == "train" and untaught and examples[role] >= enough:
            yield Diagnosis(
                task=sample.spec.name,
                check="label_not_in_train",
                severity="warning",
                subject=", ".join(sorted(untaught)[:8]),
                message=f"{len(untaught)} labels occur elsewhere but in none of "
                f"{examples[role]:,} training examples: {', '.join(sorted(untaught)[:8])}",
                numbers={"labels": len(untaught), "examples": examples[role]},
            )


def _majority(sample: TaskSample, limits: Thresholds) -> Iterator[Diagnosis]:
    for split in sample.labelled:
        counts = label_counts(sample, split)
        total = counts.total()
        if total < limits.min_rows:
            continue
        label, most = counts.most_common(1)[0]
        share = most / total
        numbers = {"examples": total, "share": round(share, 4)}
        if len(counts) == 1:
            yield Diagnosis(
                task=sample.spec.name,
                check="one_label",
                severity="error",
                subject=split.role,
                message=f"all {total:,} examples of {split.role} have the label '{label}': nothing "
                f"can be learned or measured",
                numbers=numbers,
            )
        elif share >= limits.majority and sample.spec.metrics[0] in _HEADLINE_HIDES_MAJORITY:
            yield Diagnosis(
                task=sample.spec.name,
                check="majority_label",
                severity="warning",
                subject=split.role,
                message=f"always answering '{label}' has {share:.3f} {sample.spec.metrics[0]} on "
                f"{split.role} ({total:,} examples); put a metric first that sees other labels",
                numbers=numbers,
            )


# --- the order of labels ---------------------------------------------------------------------


def _order(sample: TaskSample, labels: Sequence[str]) -> Iterator[Diagnosis]:
    """Labels that have another label's name in the data."""
    target = str(getattr(sample.spec.head, "target", ""))
    meant, rows = _target_of_values(sample, target)
    for where, names in _named_values(sample, target):
        swapped = {}
        for value, name in names.items():
            if value in meant and (other := _namesake(name, labels)) not in (None, meant[value]):
                swapped[value] = (name, other)
        if not swapped:
            continue
        value, (name, _) = next(iter(swapped.items()))
        yield Diagnosis(
            task=sample.spec.name,
            check="label_order",
            severity="error",
            subject=where,
            message=f"{where} calls the label {value} '{name}', the spec '{labels[meant[value]]}'; "
            f"{len(swapped)} labels have the name of another",
            numbers={"labels": len(swapped)},
            **listed(rows[value]),
        )


def _target_of_values(
    sample: TaskSample, column: str
) -> tuple[dict[str, int], dict[str, list[RowRef]]]:
    """What each value of the target column became, and the rows that have it."""
    meant: dict[str, int] = {}
    rows: dict[str, list[RowRef]] = defaultdict(list)
    for split in sample.labelled:
        for sampled in split.rows:
            value = value_at(sampled.row, column)
            if len(sampled.examples) == 1 and isinstance(value, int | str):
                meant[spelled(value)] = sampled.examples[0].target
                rows[spelled(value)].append(split.ref(sampled.number))
    return meant, rows


def _named_values(sample: TaskSample, target: str) -> Iterator[tuple[str, Mapping[str, str]]]:
    """(where, value of the target column -> its name): declared names, and columns of names."""
    for split in sample.labelled:
        if names := declared_names(split.source.place, target):
            yield f"the dataset's '{target}'", {str(i): name for i, name in enumerate(names)}
            break
    for column in columns_of(sample):
        if column != target and (pairs := _one_name_each(sample, target, column)):
            yield f"column '{column}'", pairs


def _one_name_each(sample: TaskSample, target: str, column: str) -> dict[str, str]:
    """Value -> name, where the column has exactly one short text for each value of the target."""
    pairs: dict[str, str] = {}
    for split in sample.labelled:
        for sampled in split.rows:
            value, name = value_at(sampled.row, target), value_at(sampled.row, column)
            if not isinstance(value, int | str) or not isinstance(name, str):
                return {}
            if pairs.setdefault(spelled(value), name) != name:
                return {}
    is_unique = len(set(pairs.values())) == len(pairs) > 1
    return pairs if is_unique else {}


def _namesake(name: str, labels: Sequence[str]) -> int | None:
    """The label of this name, whole or begun ("neg" for "negative"); None where none or several."""
    folded, known = _folded(name), [_folded(label) for label in labels]
    if folded in known:
        return known.index(folded)
    begun = [i for i, label in enumerate(known) if _begins(folded, label)]
    return begun[0] if len(begun) == 1 else None


def _begins(one: str, other: str) -> bool:
    short, long = sorted((one, other), key=len)
    return len(short) >= 3 and long.startswith(short)


def _folded(name: Any) -> str:
    return re.sub(r"[\W_]+", "", str(name).casefold())
