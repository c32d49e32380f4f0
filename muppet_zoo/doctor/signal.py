"""What the inputs tell of the label: too much, too little, or from one field alone.

`baselines.py` measures, `missing_text.py` asks the same of texts that the spec does not use; here
a task's examples become learning problems, and figures become diagnoses.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from muppet_zoo.doctor.baselines import Problem, Skill, kept_labels, skill
from muppet_zoo.doctor.records import Diagnosis
from muppet_zoo.doctor.sample import SplitSample, TaskSample
from muppet_zoo.doctor.thresholds import Thresholds
from muppet_zoo.examples import Example

# A linear model over words has learned what it can by then, and takes a second.
MAX_EXAMPLES = 3000
_MIN_GROUPS = 50
_FIELD_NAMES = {"pair": ("first", "second"), "multiple_choice": ("context", "option")}


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A learning problem with the fields that are no constant, and the skill with all of them."""

    split: SplitSample
    examples: Sequence[Example]
    problem: Problem
    fields: tuple[str, ...]
    skill: Skill


def check_signal(sample: TaskSample, measured: Measured, limits: Thresholds) -> Iterator[Diagnosis]:
    """`too_easy`, `no_signal`, `field_suffices`."""
    whole = measured.skill
    if whole.value >= limits.too_easy:
        yield _diagnosis(
            sample, measured, "too_easy", "warning", whole, measured.fields,
            "a bag of words is (nearly) always right: does an input show the label?",
        )  # fmt: skip
    elif whole.num_errors_above < 2:
        yield _diagnosis(
            sample, measured, "no_signal", "note", whole, measured.fields,
            "words alone do not tell the label; so it is with hard tasks, and with wrong ones",
        )  # fmt: skip
    if len(measured.fields) < 2:
        return
    for field in measured.fields:
        if measured.problem.kind == "option" and field != "option":
            continue  # a context is the same for all options
        alone = skill(measured.problem, [field])
        if alone is None or alone.num_errors_above < limits.predictable_error_sd:
            continue
        if alone.value >= limits.predictable_alone:
            others = [name for name in measured.fields if name != field]
            yield _diagnosis(
                sample, measured, "field_suffices", "warning", alone, [field],
                f"the label is predictable without {_titles(sample, others)}",
            )  # fmt: skip


def _diagnosis(
    sample: TaskSample,
    measured: Measured,
    check: str,
    severity: Any,
    found: Skill,
    fields: Sequence[str],
    message: str,
) -> Diagnosis:
    unit = {"label": "balanced accuracy", "option": "accuracy", "number": "explained variance"}
    return Diagnosis(
        task=sample.spec.name,
        check=check,
        severity=severity,
        subject=", ".join(fields),
        message=f"{message} ({unit[measured.problem.kind]} from the words of "
        f"{_titles(sample, fields)}: "
        f"{found.score:.2f}, guessing {found.guess:.2f}, {len(measured.examples):,} examples of "
        f"{measured.split.role})",
        numbers=skill_numbers(found, len(measured.examples)),
    )


def _titles(sample: TaskSample, fields: Sequence[str]) -> str:
    """Fields by their names in the spec, with what it writes there."""
    titles = []
    for field in fields:
        written = sample.spec.raw["inputs"].get("choices" if field == "option" else field, "")
        template = written if isinstance(written, str) else written[0]
        titles.append(f"{field} '{template}'")
    return " and ".join(titles)


def skill_numbers(found: Skill, num_examples: int) -> dict[str, float]:
    """A skill as the figures of a diagnosis."""
    return {
        "score": round(found.score, 4),
        "guess": round(found.guess, 4),
        "error": round(found.error, 4),
        "skill": round(found.value, 4),
        "examples": num_examples,
    }


def measure(sample: TaskSample, limits: Thresholds) -> Measured | None:
    """The skill with all inputs; None for heads and samples that nothing can be said of."""
    split = sample.main
    if split is None or sample.spec.head.type in ("span", "generation", "token_classification"):
        return None
    examples = _learnable(sample, split.examples)
    step = max(len(examples) / MAX_EXAMPLES, 1)
    examples = [examples[int(i * step)] for i in range(min(len(examples), MAX_EXAMPLES))]
    if len(examples) < limits.min_examples:
        return None
    texts = field_texts(sample, examples)
    fields = tuple(name for name, values in texts.items() if len(set(values)) > 1)
    problem = problem_of(sample, examples, texts)
    found = skill(problem, fields) if fields else None
    if found is None:
        return None
    return Measured(split=split, examples=examples, problem=problem, fields=fields, skill=found)


def _learnable(sample: TaskSample, examples: Sequence[Example]) -> list[Example]:
    """Labelled examples whose label is not too rare to be learned in every fold."""
    labelled = [example for example in examples if example.target is not None]
    if sample.spec.head.type not in ("classification", "multi_label"):
        return labelled
    kept = kept_labels(_targets(sample, labelled))
    return [example for example, keep in zip(labelled, kept, strict=True) if keep]


def field_texts(sample: TaskSample, examples: Sequence[Example]) -> dict[str, list[str]]:
    """Field name -> its text, one for each example, or for each option of each example."""
    names = _FIELD_NAMES.get(sample.spec.inputs.format, ("text",))
    pairs = [pair for example in examples for pair in example.segments.sequences]
    return {name: [pair[i] or "" for pair in pairs] for i, name in enumerate(names)}


def problem_of(
    sample: TaskSample, examples: Sequence[Example], texts: Mapping[str, Sequence[str]]
) -> Problem:
    """The learning problem of these examples with these fields; see `Problem` for its parts."""
    import numpy as np

    is_choice = sample.spec.head.type == "multiple_choice"
    sizes = [len(example.segments.sequences) if is_choice else 1 for example in examples]
    numbers = np.repeat(np.arange(len(examples)), sizes)
    targets = _targets(sample, examples)
    if is_choice:
        starts = np.cumsum([0, *sizes[:-1]])
        right = np.zeros(len(numbers), int)
        right[starts + targets] = 1
        targets = right
    kind: Any = {"multiple_choice": "option", "regression": "number"}
    return Problem(
        kind=kind.get(sample.spec.head.type, "label"),
        fields=texts,
        targets=targets,
        examples=numbers,
        groups=_groups(texts, numbers),
    )


def _targets(sample: TaskSample, examples: Sequence[Example]) -> Any:
    """(examples,) targets as numbers; of several labels at once, whether the commonest is set."""
    import numpy as np

    if sample.spec.head.type != "multi_label":
        return np.array([example.target for example in examples])
    labels = [label for example in examples for label in example.target]
    counts = np.bincount(labels) if labels else np.zeros(1)
    # The label nearest to being set in half of the examples: the most can be seen on it.
    best = int(np.argmin(np.abs(counts / max(len(examples), 1) - 0.5)))
    return np.array([int(best in example.target) for example in examples])


def _groups(texts: Mapping[str, Sequence[str]], numbers: Any) -> Any:
    """(N,) groups by the field whose texts repeat most, such as the passage of many questions.

    A model must not meet a passage in learning and in test. Not by fields of a few texts, such as
    the same instruction for all: then no two groups would be left.
    """
    import numpy as np

    candidates = [
        np.array([zlib.crc32(text.encode()) for text in values])
        for name, values in texts.items()
        # The options of one example must stay together, and they differ.
        if name != "option" and len(set(values)) >= _MIN_GROUPS
    ]
    return min(candidates, key=lambda groups: len(np.unique(groups)), default=numbers)
