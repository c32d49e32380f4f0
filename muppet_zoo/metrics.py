"""Metric names and the library function behind each.

A score is only comparable with a published one when it was computed by the same definition, so
no formula is written here: every metric calls scikit-learn, scipy, torchmetrics, seqeval or
rouge-score. What this module adds is what those libraries leave open: which forms predictions
come in, one scale (0 to 1, or -1 to 1 for correlations, never 0 to 100), a fixed answer where the
formula divides nothing by nothing, and a clear error for what cannot be scored.

Names and the heads they suit are plain data, so that specs are checked without any of the
libraries; each is imported when the first score that needs it is computed.

Predictions and references come in row order, one element per example:

    classification, multiple_choice   label or option index
    multi_label                       the label indices that hold, in any order
    regression                        number
    token_classification              label names, one per word
    span                              predicted text; references: the accepted answers, none = ""
    generation                        text
"""

from __future__ import annotations

import importlib
import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from muppet_zoo.errors import MissingExtraError, UnknownNameError
from muppet_zoo.metric_inputs import (
    ScoreError,
    flat,
    indicator,
    is_label_sets,
    is_list,
    numbers,
    paired_words,
    texts,
)

MetricFunction = Callable[..., float]
LabelsCheck = Callable[[Sequence[str]], str | None]


def _any_labels(labels: Sequence[str]) -> str | None:
    return None


def _two_labels(labels: Sequence[str]) -> str | None:
    return None if len(labels) == 2 else _not_two_labels(len(labels))


def _not_two_labels(number: int) -> str:
    return f"this is defined for 2 labels and the head has {number}; use macro_f1 or micro_f1"


def _entity_tags(labels: Iterable[str]) -> str | None:
    for label in labels:
        if label not in ("O", "B", "I", "E", "S") and label[:2] not in ("B-", "I-", "E-", "S-"):
            return (
                f"label '{label}' is not an entity tag; allowed: O, and B-TYPE, I-TYPE, E-TYPE or "
                f"S-TYPE. Use accuracy or macro_f1 for other labels"
            )
    return None


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One way to score predictions.

    `heads` are the head types it suits; `function` maps (predictions, references, num_labels),
    both lists non-empty and equally long, to a score, and (predictions, references, groups) where
    `grouped`: examples of one group are scored together; `library` is the package that defines it;
    `labels_problem` says of a head's labels why they cannot be scored, or None.
    """

    name: str
    heads: frozenset[str]
    function: MetricFunction
    library: str
    labels_problem: LabelsCheck = _any_labels
    higher_is_better: bool = True
    grouped: bool = False


def score(
    metric_name: str,
    predictions: Sequence[Any],
    references: Sequence[Any],
    *,
    num_labels: int,
    groups: Sequence[str] | None = None,
) -> float:
    """Score predictions against references, in the forms of the module docstring.

    `num_labels` bounds label indices (for multiple_choice: the most options of any row); heads
    without labels ignore it. `groups` says of each example which it is scored with; only a grouped
    metric reads it. Raises UnknownNameError, ScoreError for what cannot be scored (no
    rows, unequal numbers of rows, a prediction that is not finite, an unlabelled reference), and
    MissingExtraError when the library is not installed.
    """
    metric = METRICS.get(metric_name)
    if metric is None:
        raise UnknownNameError("metric", metric_name, list(METRICS))
    if len(predictions) != len(references):
        raise ScoreError(
            f"{metric_name}: {len(predictions)} predictions for {len(references)} references; "
            f"every example needs one of each, in the same order"
        )
    if len(references) == 0:
        raise ScoreError(f"{metric_name}: there are no examples to score")
    if metric.grouped and (groups is None or len(groups) != len(references)):
        raise ScoreError(
            f"{metric_name}: the group of every example is needed, in the same order; build data "
            f"again that was built before its spec named a `group`"
        )
    third = groups if metric.grouped else num_labels
    try:
        value = float(metric.function(list(predictions), list(references), third))
    except ScoreError as error:
        raise ScoreError(f"{metric_name}: {error}") from None
    if math.isnan(value):
        raise ScoreError(f"{metric_name}: {metric.library} returns no number for these values")
    # Rounding puts some perfect scores an ulp above 1, which a range check would reject.
    return max(-1.0, min(1.0, value))


def score_all(
    names: Sequence[str],
    predictions: Sequence[Any],
    references: Sequence[Any],
    *,
    num_labels: int,
    groups: Sequence[str] | None = None,
) -> dict[str, float]:
    """`score` for each name, in the order of `names`."""
    return {
        name: score(name, predictions, references, num_labels=num_labels, groups=groups)
        for name in names
    }


def load_library(module: str, *, extra: str = "train") -> Any:
    """Import a module of an extra, or say how to install it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = (error.name or module).partition(".")[0]
        raise MissingExtraError(missing, extra) from error


def _accuracy(predictions: list[Any], references: list[Any], num_labels: int) -> float:
    """Source: sklearn.metrics.accuracy_score. Per word where rows are words."""
    predicted, expected = flat(predictions, references, num_labels)
    return float(load_library("sklearn.metrics").accuracy_score(expected, predicted))


def _binary_f1(predictions: list[Any], references: list[Any], num_labels: int) -> float:
    """Source: sklearn.metrics.f1_score, average="binary". The last label is the positive class."""
    if num_labels != 2:
        raise ScoreError(_not_two_labels(num_labels))
    predicted, expected = flat(predictions, references, num_labels)
    # No positive label anywhere is 0/0: 0.0, scikit-learn's own default, minus its warning.
    return float(
        load_library("sklearn.metrics").f1_score(expected, predicted, pos_label=1, zero_division=0)
    )


def _averaged_f1(
    predictions: list[Any], references: list[Any], num_labels: int, *, average: str
) -> float:
    """Source: sklearn.metrics.f1_score with average="macro" or "micro".

    Micro F1 of one label per example equals accuracy, since every label counts.
    A label that neither side uses is left out of the macro average. That is what scikit-learn
    does for one label per example; for label sets it needs zero_division=nan, else a label that
    a small split lacks counts as 0 and a perfect prediction scores below 1.
    """
    if is_label_sets(references):
        if num_labels < 2:
            raise ScoreError(f"label sets need at least 2 labels and the head has {num_labels}")
        predicted = indicator(predictions, "prediction", num_labels)
        expected = indicator(references, "reference", num_labels)
    else:
        predicted, expected = flat(predictions, references, num_labels)
    value = float(
        load_library("sklearn.metrics").f1_score(
            expected, predicted, average=average, zero_division=math.nan
        )
    )
    # Only when no row has a label on either side: 0.0, as for the binary F1 without positives.
    return 0.0 if math.isnan(value) else value


def _group_exact_match(
    predictions: list[Any], references: list[Any], groups: Sequence[str]
) -> float:
    """Share of groups in which every example is predicted rightly.

    Source: exact match of MultiRC in SuperGLUE (Wang et al. 2019, section 3): a question counts
    when all its candidate answers are labelled rightly. Its F1a is `f1` over all candidates.
    """
    right: dict[str, bool] = {}
    for group, prediction, reference in zip(groups, predictions, references, strict=True):
        right[group] = right.get(group, True) and prediction == reference
    accuracy_score = load_library("sklearn.metrics").accuracy_score
    return float(accuracy_score([True] * len(right), [*right.values()]))


def _is_constant(values: list[Any]) -> bool:
    return len(set(values)) == 1


def _matthews(predictions: list[Any], references: list[Any], num_labels: int) -> float:
    """Source: sklearn.metrics.matthews_corrcoef."""
    predicted, expected = flat(predictions, references, num_labels)
    # A constant side makes it 0/0. scikit-learn's answer is 0.0 too, with a warning when there is
    # one label in all; _correlation says why that is right.
    if _is_constant(predicted) or _is_constant(expected):
        return 0.0
    return float(load_library("sklearn.metrics").matthews_corrcoef(expected, predicted))


def _correlation(
    predictions: list[Any], references: list[Any], num_labels: int, *, function: str
) -> float:
    """Source: scipy.stats.pearsonr or scipy.stats.spearmanr."""
    predicted, expected = numbers(predictions, "prediction"), numbers(references, "reference")
    # A correlation with a constant is 0/0. It is scored 0.0, as a constant knows nothing of the
    # target: an untrained model, or a bad seed, is an ordinary result that has to be reported,
    # and neither a NaN, which JSON cannot hold and no comparison can rank, nor a warning helps.
    if _is_constant(predicted) or _is_constant(expected):
        return 0.0
    stats = load_library("scipy.stats")
    with warnings.catch_warnings():
        # Values that differ only in the last bits of a float64 correlate at random: constant too.
        warnings.simplefilter("error", category=stats.DegenerateDataWarning)
        try:
            value = float(getattr(stats, function)(predicted, expected).statistic)
        except stats.DegenerateDataWarning:
            return 0.0
    return value


def _squad(predictions: list[Any], references: list[Any], num_labels: int, *, key: str) -> float:
    """Mean over examples of the best match with any accepted answer.

    Source: torchmetrics.functional.text.squad, after the official SQuAD script. It is called
    per example, which costs the same: its running sum is a float32, which would drift with the
    order of the rows.
    """
    squad = load_library("torchmetrics.functional.text").squad
    values = []
    for row, (prediction, answers) in enumerate(
        zip(texts(predictions, "prediction"), references, strict=True)
    ):
        if not is_list(answers) or not all(isinstance(answer, str) for answer in answers):
            raise ScoreError(f"reference of row {row} is {answers!r}; allowed: a list of texts")
        # No answer is right when nothing is predicted. Source: SQuAD 2.0 evaluation script.
        accepted = list(answers) or [""]
        result = squad(
            [{"id": "0", "prediction_text": prediction}],
            [{"id": "0", "answers": {"text": accepted}}],
        )
        values.append(float(result[key]) / 100.0)
    return math.fsum(values) / len(values)


def _entity_f1(predictions: list[Any], references: list[Any], num_labels: int) -> float:
    """Micro F1 over entities: right when type, first and last word are.

    Source: seqeval.metrics.f1_score in its default mode, which counts as the CoNLL 2000 script
    `conlleval` does: an I- tag that follows O or another type starts an entity. Published NER
    scores are computed so; seqeval's strict IOB2 mode would drop such an entity.
    """
    predicted, expected = paired_words(predictions, references)
    labels = {label for rows in (predicted, expected) for row in rows for label in row}
    if problem := _entity_tags(sorted(labels)):
        raise ScoreError(problem)
    return float(load_library("seqeval.metrics").f1_score(expected, predicted, zero_division=0))


def _rouge(predictions: list[Any], references: list[Any], num_labels: int, *, kind: str) -> float:
    """Mean F-measure over examples, with Porter stemming.

    Source: the rouge-score package, Google's re-implementation of ROUGE-1.5.5 (Lin
    2004). Its tokenizer keeps a-z and 0-9 alone, so it suits English only.
    """
    predicted, expected = texts(predictions, "prediction"), texts(references, "reference")
    scorer = load_library("rouge_score.rouge_scorer").RougeScorer([kind], use_stemmer=True)
    values = [
        float(scorer.score(target, prediction)[kind].fmeasure)
        for target, prediction in zip(expected, predicted, strict=True)
    ]
    return math.fsum(values) / len(values)


_ONE_LABEL = frozenset({"classification", "multiple_choice", "token_classification"})
_LABELS = frozenset({"classification", "multi_label", "token_classification"})
_CLASSES = frozenset({"classification"})
_NUMBERS = frozenset({"regression"})
_SPANS = frozenset({"span"})
_WORDS = frozenset({"token_classification"})
_TEXTS = frozenset({"generation"})

METRICS: dict[str, Metric] = {
    "accuracy": Metric(
        name="accuracy", heads=_ONE_LABEL, function=_accuracy, library="scikit-learn"
    ),
    "f1": Metric(
        name="f1",
        heads=_CLASSES,
        function=_binary_f1,
        library="scikit-learn",
        labels_problem=_two_labels,
    ),
    "macro_f1": Metric(
        name="macro_f1",
        heads=_LABELS,
        function=partial(_averaged_f1, average="macro"),
        library="scikit-learn",
    ),
    "micro_f1": Metric(
        name="micro_f1",
        heads=_LABELS,
        function=partial(_averaged_f1, average="micro"),
        library="scikit-learn",
    ),
    "matthews_correlation": Metric(
        name="matthews_correlation", heads=_CLASSES, function=_matthews, library="scikit-learn"
    ),
    "group_exact_match": Metric(
        name="group_exact_match",
        heads=_CLASSES,
        function=_group_exact_match,
        library="scikit-learn",
        grouped=True,
    ),
    "pearson": Metric(
        name="pearson",
        heads=_NUMBERS,
        function=partial(_correlation, function="pearsonr"),
        library="scipy",
    ),
    "spearman": Metric(
        name="spearman",
        heads=_NUMBERS,
        function=partial(_correlation, function="spearmanr"),
        library="scipy",
    ),
    "squad_exact_match": Metric(
        name="squad_exact_match",
        heads=_SPANS,
        function=partial(_squad, key="exact_match"),
        library="torchmetrics",
    ),
    "squad_f1": Metric(
        name="squad_f1", heads=_SPANS, function=partial(_squad, key="f1"), library="torchmetrics"
    ),
    "entity_f1": Metric(
        name="entity_f1",
        heads=_WORDS,
        function=_entity_f1,
        library="seqeval",
        labels_problem=_entity_tags,
    ),
    "rouge1": Metric(
        name="rouge1", heads=_TEXTS, function=partial(_rouge, kind="rouge1"), library="rouge-score"
    ),
    "rouge2": Metric(
        name="rouge2", heads=_TEXTS, function=partial(_rouge, kind="rouge2"), library="rouge-score"
    ),
    "rougeL": Metric(
        name="rougeL", heads=_TEXTS, function=partial(_rouge, kind="rougeL"), library="rouge-score"
    ),
}
