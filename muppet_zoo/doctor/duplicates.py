"""Inputs that occur twice: with different labels, or in training and in evaluation.

Two inputs are the same here when they differ only in case, white space, marks like commas, or the
form of Unicode characters. Looser likeness is not a fault by itself: a "not" more is another label.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Hashable, Iterator
from typing import Any

from muppet_zoo.doctor.records import Diagnosis, RowRef, graded, listed
from muppet_zoo.doctor.sample import SplitSample, TaskSample
from muppet_zoo.doctor.thresholds import Thresholds
from muppet_zoo.examples import Example
from muppet_zoo.heads import Regression

# For spans and generated texts, two answers to one question may both be right.
_ONE_TARGET = frozenset(
    {"classification", "multi_label", "regression", "token_classification", "multiple_choice"}
)
# Not brackets, signs or hyphens: specs mark words with them, and "2 - 1" is not "2 + 1".
_PUNCTUATION = re.compile(r"""[\s.,;:!?'"`´“”‘’…]+""")


def check_duplicates(sample: TaskSample, limits: Thresholds) -> Iterator[Diagnosis]:
    """`contradiction`, `train_test_duplicate`, `repeated_input`."""
    keys = {
        split.role: [(input_key(sample, example), example) for example in split.examples]
        for split in sample.splits
    }
    yield from _contradictions(sample, keys, limits)
    yield from _repeated(sample, keys)
    train = next((split for split in sample.splits if split.role == "train"), None)
    for split in sample.splits:
        if train is not None and not split.role.startswith("train"):
            yield from _leaks(sample, train, split, keys, limits)


Keys = dict[str, list[tuple[Hashable, Example]]]


def input_key(sample: TaskSample, example: Example) -> Hashable:
    """What equal inputs share. The order of options and of nothing else is left out."""
    segments = example.segments
    if segments.words is not None:
        return tuple(map(folded, segments.words))  # cut elsewhere, the labels differ too
    texts = [(folded(first), folded(second or "")) for first, second in segments.sequences]
    is_choice = sample.spec.head.type == "multiple_choice"
    return (texts[0][0], tuple(sorted(b for _, b in texts))) if is_choice else tuple(texts)


def folded(text: str) -> str:
    """Lower case, compatible characters as one, words apart by single spaces.

    A text of punctuation alone stays as it is: "!" and "?" are not the same.
    """
    plain = unicodedata.normalize("NFKC", text).casefold()
    return _PUNCTUATION.sub(" ", plain).strip() or plain


def _contradictions(sample: TaskSample, keys: Keys, limits: Thresholds) -> Iterator[Diagnosis]:
    if sample.spec.head.type not in _ONE_TARGET:
        return
    groups: dict[Hashable, list[tuple[RowRef, Any]]] = defaultdict(list)
    num_examples = 0
    for split in sample.labelled:
        num_examples += len(keys[split.role])
        for key, example in keys[split.role]:
            groups[key].append((split.ref(example.row), _answer(sample, example)))
    refs: list[RowRef] = []
    num_groups = 0
    for group in groups.values():
        if len(group) > 1 and _differ(sample, [answer for _, answer in group], limits):
            num_groups += 1
            refs += [ref for ref, _ in group]
    if not refs:
        return
    share = len(refs) / num_examples
    yield Diagnosis(
        task=sample.spec.name,
        check="contradiction",
        severity=graded(share, warning=limits.common_fault) if num_groups >= limits.few else "note",
        message=f"{num_groups:,} inputs occur with different labels, in {len(refs):,} of "
        f"{num_examples:,} examples",
        numbers={"inputs": num_groups, "examples": num_examples, "share": round(share, 4)},
        **listed(refs),
    )


def _answer(sample: TaskSample, example: Example) -> Any:
    if sample.spec.head.type != "multiple_choice" or example.target is None:
        return example.target
    return folded(example.segments.sequences[example.target][1] or "")


def _differ(sample: TaskSample, answers: list[Any], limits: Thresholds) -> bool:
    if isinstance(sample.spec.head, Regression):
        low, high = sample.spec.head.range
        return bool(max(answers) - min(answers) >= limits.same_number * (high - low))
    return len(set(answers)) > 1


def _repeated(sample: TaskSample, keys: Keys) -> Iterator[Diagnosis]:
    for split in sample.splits:
        seen: set[Hashable] = set()
        refs = []
        for key, example in keys[split.role]:
            if key in seen:
                refs.append(split.ref(example.row))
            seen.add(key)
        if refs:
            total = len(keys[split.role])
            yield Diagnosis(
                task=sample.spec.name,
                check="repeated_input",
                severity="note",
                subject=split.role,
                message=f"{len(refs):,} of {total:,} examples of {split.role} repeat an input",
                numbers={"examples": total, "share": round(len(refs) / total, 4)},
                **listed(refs),
            )


def _leaks(
    sample: TaskSample, train: SplitSample, split: SplitSample, keys: Keys, limits: Thresholds
) -> Iterator[Diagnosis]:
    taught = {key for key, _ in keys[train.role]}
    refs = [split.ref(example.row) for key, example in keys[split.role] if key in taught]
    if not refs:
        return
    total = len(keys[split.role])
    share = len(refs) / total
    part = len(train.rows) / train.num_rows
    # Each duplicate is met only if its partner was drawn too.
    estimate = min(share / part, 1.0)
    enough = total >= limits.min_rows and len(refs) >= limits.few
    sampled = f" (of {part:.0%} of train; about {estimate:.1%} of all)" if part < 1 else ""
    yield Diagnosis(
        task=sample.spec.name,
        check="train_test_duplicate",
        severity=graded(estimate, warning=limits.duplicates_warning, error=limits.duplicates_error)
        if enough
        else "note",
        subject=split.role,
        message=f"{len(refs):,} of {total:,} examples of {split.role} have an input of train"
        f"{sampled}; leave them out, or score them apart",
        numbers={"examples": total, "share": round(share, 4), "estimate": round(estimate, 4)},
        **listed(refs),
    )
