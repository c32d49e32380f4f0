"""A text of the source that the model should read and does not: BoolQ without its passage.

A linear model over words can seldom show what such a text is worth: whether a passage answers a
question with yes is beyond it. What it can show is that the inputs alone tell next to nothing, and
that the unused text belongs to them: it has many words of its own row's inputs and few of another
row's. A text that tells the label by itself is no input but an explanation, written afterwards.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from muppet_zoo.doctor.baselines import Skill, gain_p_value, skill, words
from muppet_zoo.doctor.columns import columns_of, median_words, text_at
from muppet_zoo.doctor.records import Diagnosis, Severity, listed
from muppet_zoo.doctor.sample import SampledRow, SplitSample, TaskSample
from muppet_zoo.doctor.signal import Measured, problem_of
from muppet_zoo.doctor.thresholds import Thresholds
from muppet_zoo.metrics import load_library

_UNUSED = "the unused text"


@dataclass(frozen=True, kw_only=True)
class UnusedText:
    """An unused column of texts, against the inputs of the same rows.

    words, words_of_inputs: median of the text, and of what the model reads of a row at a time.
    related: share of rows of which the text is more like its own inputs than like another row's.
    contained: median share of its words that the inputs have.
    questions: share of texts that end with a question mark. distinct: share of different texts.
    """

    column: str
    rows: Sequence[SampledRow]
    words: float
    words_of_inputs: float
    related: float
    contained: float
    questions: float
    distinct: float


def check_missing_text(
    sample: TaskSample, measured: Measured | None, limits: Thresholds
) -> Iterator[Diagnosis]:
    """`missing_text`."""
    split = max(sample.splits, key=lambda split: len(split.examples), default=None)
    if split is None:
        return
    if measured is not None:
        split = measured.split
    for column in columns_of(sample):
        if sample.lineage.uses(column):
            continue
        text = _unused_text(split, column, limits)
        if text is None or text.contained >= limits.contained:
            continue
        if (
            text.related >= limits.related
            or text.questions >= limits.questions
            # The same context for all options, say, and a column that could be it.
            or (_has_constant_field(measured) and text.distinct >= limits.distinct)
        ):
            yield _diagnosis(sample, split, text, measured, limits)


def _has_constant_field(measured: Measured | None) -> bool:
    return measured is not None and len(measured.fields) < len(measured.problem.fields)


def _unused_text(split: SplitSample, column: str, limits: Thresholds) -> UnusedText | None:
    """The column where it holds texts, beside the inputs; None where it holds none or too few."""
    rows, texts, inputs = [], [], []
    for sampled in split.rows:
        text = text_at(sampled.row, column)
        if sampled.examples and text:
            rows.append(sampled)
            texts.append(text)
            inputs.append(_input_text(sampled))
    median = median_words(texts)
    if len(texts) < limits.min_rows or median < limits.text_words or len(set(texts)) < 2:
        return None
    shares = [
        len(own & given) / max(len(own), 1)
        for own, given in zip(map(words, texts), map(words, inputs), strict=True)
    ]
    return UnusedText(
        column=column,
        rows=rows,
        words=median,
        words_of_inputs=median_words([_longest_sequence(sampled) for sampled in rows]),
        related=_relatedness(texts, inputs),
        contained=statistics.median(shares),
        questions=sum(text.rstrip().endswith(("?", "？", "؟")) for text in texts) / len(texts),
        distinct=len(set(texts)) / len(texts),
    )


def _input_text(sampled: SampledRow) -> str:
    """All that the model reads of a row, each text once."""
    segments = [example.segments for example in sampled.examples]
    pairs = [text or "" for part in segments for pair in part.sequences for text in pair]
    return " ".join(dict.fromkeys([*pairs, *(w for part in segments for w in part.words or ())]))


def _longest_sequence(sampled: SampledRow) -> str:
    segments = sampled.examples[0].segments
    joined = [" ".join(text for text in pair if text) for pair in segments.sequences]
    return max([*joined, " ".join(segments.words or ())], key=len)


def _relatedness(texts: Sequence[str], inputs: Sequence[str]) -> float:
    """How often a text is more like its own row's inputs than like another's; 0.5 by chance.

    By the cosine of TF-IDF vectors. The other row is half of the sample away, since neighbours
    often share a passage; rows that share it all the same are left out.
    """
    import numpy as np

    text = load_library("sklearn.feature_extraction.text", extra="check")
    vectorizer = text.TfidfVectorizer(sublinear_tf=True, token_pattern=r"(?u)\b\w+\b")
    try:
        matrix = vectorizer.fit_transform([*texts, *inputs])
    except ValueError:  # not one word in all of them
        return 0.5
    of_texts, of_inputs = matrix[: len(texts)], matrix[len(texts) :]
    others = (np.arange(len(texts)) + len(texts) // 2) % len(texts)
    own = np.asarray(of_texts.multiply(of_inputs).sum(1)).ravel()
    foreign = np.asarray(of_texts[others].multiply(of_inputs).sum(1)).ravel()
    differs = np.array([texts[i] != texts[j] for i, j in enumerate(others.tolist())])
    if not differs.any():
        return 0.5
    return float(np.mean((own > foreign)[differs] + 0.5 * (own == foreign)[differs]))


@dataclass(frozen=True, kw_only=True)
class Worth:
    """What the inputs, the unused text alone, and both together tell of the label."""

    inputs: Skill
    alone: Skill
    both: Skill
    p_value: float


def _worth(sample: TaskSample, measured: Measured, column: str) -> Worth | None:
    texts = {sampled.number: text_at(sampled.row, column) or "" for sampled in measured.split.rows}
    own = [texts[example.row] for example in measured.examples]
    unused = [own[number] for number in measured.problem.examples]
    problem = problem_of(sample, measured.examples, {**measured.problem.fields, _UNUSED: unused})
    inputs = skill(problem, measured.fields)
    both = skill(problem, [*measured.fields, _UNUSED])
    alone = skill(problem, [_UNUSED])
    if inputs is None or both is None or alone is None:
        return None
    return Worth(inputs=inputs, alone=alone, both=both, p_value=gain_p_value(inputs, both))


def _diagnosis(
    sample: TaskSample,
    split: SplitSample,
    text: UnusedText,
    measured: Measured | None,
    limits: Thresholds,
) -> Diagnosis:
    worth = _worth(sample, measured, text.column) if measured is not None else None
    severity = _judged(text, worth, limits)
    why = {
        "error": "the inputs lack a text",
        "warning": "the inputs may lack a text",
        "note": "this text tells the label by itself; rightly unused if written after it",
    }[severity]
    numbers: dict[str, float] = {
        "words": text.words,
        "words_of_inputs": text.words_of_inputs,
        "related": round(text.related, 4),
        "contained": round(text.contained, 4),
        "questions": round(text.questions, 4),
    }
    skills = ""
    if worth is not None:
        skills = (
            f"; skill of words from the inputs {worth.inputs.value:.2f}, from it "
            f"{worth.alone.value:.2f}, from both {worth.both.value:.2f}"
        )
        numbers |= {
            "skill_of_inputs": round(worth.inputs.value, 4),
            "skill_alone": round(worth.alone.value, 4),
            "skill_of_both": round(worth.both.value, 4),
            "p_value": worth.p_value,
        }
    return Diagnosis(
        task=sample.spec.name,
        check="missing_text",
        severity=severity,
        subject=text.column,
        message=f"{why}: column '{text.column}' is never used; median {text.words:.0f} words, the "
        f"inputs {text.words_of_inputs:.0f}; it is nearer to its own inputs than to another row's "
        f"in {text.related:.0%} of {len(text.rows):,} rows{skills}",
        numbers=numbers,
        **listed(split.ref(sampled.number) for sampled in text.rows),
    )


def _judged(text: UnusedText, worth: Worth | None, limits: Thresholds) -> Severity:
    """`error` where the inputs do too little without it; `note` for a likely explanation."""
    if worth is None:
        return "warning"
    if worth.alone.value >= limits.leak_skill:
        return "note"
    gain = worth.both.value - worth.inputs.value
    helps = worth.p_value <= limits.gain_p and gain >= limits.gain
    is_plain = text.related >= limits.related and worth.alone.value < limits.some_leak_skill
    is_long = text.words >= limits.as_long * text.words_of_inputs
    if is_long and is_plain and (worth.inputs.value < limits.little_skill or helps):
        return "error"
    return "warning"
