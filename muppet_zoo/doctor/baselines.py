"""How well words alone tell the answer: a bag of words and a linear model, cross-validated.

This is a measuring instrument, not a contender: it is quick, knows nothing but which words are in
which field and how much two fields share, and so tells what a field gives away. Skill is measured
so that guessing is 0: balanced accuracy for labels (a majority does not help), accuracy for
options, explained variance for numbers. scikit-learn does all of it.

Shapes: N rows of the learning problem (examples; for multiple choice, options), F features.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal

from muppet_zoo.metrics import load_library

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FOLDS = 5
_MIN_PER_LABEL = 2 * FOLDS  # else a fold may have none to learn from
_MAX_FEATURES = 20_000
_MAX_CHARACTERS = 3000  # of each field: what a long document is about stands in its first page


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A learning problem.

    kind: a label, the right one of several options, or a number.
    fields: (N,) texts each. targets: (N,) label or number; 1 or 0 for an option that is right or
    not. examples: (N,) number of the example, which differs from the row's for options only.
    groups: (N,) rows of one group are never split between learning and test.
    """

    kind: Literal["label", "option", "number"]
    fields: Mapping[str, Sequence[str]]
    targets: NDArray[Any]
    examples: NDArray[np.int64]
    groups: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Skill:
    """What a model reached.

    score: balanced accuracy, accuracy, or the explained share of variance (squared correlation).
    guess: the score of guessing.

    error: standard error of the score. hits: (num_examples,) 1 where right; for a number, minus the
    squared error: what two models are compared by, example by example.
    """

    score: float
    guess: float
    error: float
    hits: NDArray[np.float64]

    @property
    def value(self) -> float:
        """0 for guessing, 1 for always right."""
        return max((self.score - self.guess) / (1 - self.guess), 0.0)

    @property
    def num_errors_above(self) -> float:
        """By how many standard errors the score is above guessing."""
        return (self.score - self.guess) / max(self.error, 1e-9)


def skill(problem: Problem, fields: Sequence[str]) -> Skill | None:
    """The skill with these fields; None where there are too few rows or labels to tell."""
    splits = _splits(problem)
    if splits is None:
        return None
    features = _features(problem, fields)
    # Sparse vectors are small work: threads would wait for each other more than they compute.
    with load_library("threadpoolctl", extra="check").threadpool_limits(1):
        predicted = _predictions(problem, features, splits)
    measure = {"label": _label_skill, "option": _option_skill, "number": _number_skill}
    return measure[problem.kind](problem, predicted)


def kept_labels(targets: NDArray[Any]) -> NDArray[np.bool_]:
    """(N,) which rows have a label that is common enough to be learned."""
    import numpy as np

    labels, where, counts = np.unique(targets, return_inverse=True, return_counts=True)
    return (counts >= _MIN_PER_LABEL)[where] if len(labels) else np.zeros(0, bool)


def gain_p_value(less: Skill, more: Skill) -> float:
    """Probability, were `more` no better than `less`, of as many examples right by it alone.

    Source: McNemar 1947, as an exact one-sided sign test; for numbers, of errors that are smaller.
    """
    better = int((more.hits > less.hits).sum())
    worse = int((more.hits < less.hits).sum())
    if not better:
        return 1.0
    test = load_library("scipy.stats", extra="check").binomtest
    return float(test(better, better + worse, alternative="greater").pvalue)


# --- features --------------------------------------------------------------------------------


def _features(problem: Problem, fields: Sequence[str]) -> Any:
    """(N, F) sparse: words and pairs of words of each field, and what each two fields share."""
    sparse = load_library("scipy.sparse", extra="check")
    blocks = [
        _word_features(problem.fields[name])
        for name in fields
        # Options are compared within an example, where its context is the same for all.
        if problem.kind != "option" or name == "option"
    ]
    if problem.kind == "option" and "option" in fields:
        blocks.append(sparse.csr_matrix(_relative_lengths(problem)))
    for one, other in combinations(fields, 2):
        if problem.kind != "option" or "option" in (one, other):
            shared = _shared(problem.fields[one], problem.fields[other])
            blocks.append(sparse.csr_matrix(shared))
    nothing = sparse.csr_matrix((len(problem.targets), 1))  # of a context without its options
    return sparse.hstack([*blocks, nothing], format="csr")


def _word_features(texts: Sequence[str]) -> Any:
    text = load_library("sklearn.feature_extraction.text", extra="check")
    vectorizer = text.TfidfVectorizer(
        ngram_range=(1, 2), min_df=2, max_features=_MAX_FEATURES, sublinear_tf=True,
        token_pattern=r"(?u)\b\w+\b|[^\w\s]",
    )  # fmt: skip
    try:
        return vectorizer.fit_transform([text[:_MAX_CHARACTERS] for text in texts])
    except ValueError:  # no word occurs in two texts
        return load_library("scipy.sparse", extra="check").csr_matrix((len(texts), 1))


def _shared(ones: Sequence[str], others: Sequence[str]) -> NDArray[np.float64]:
    """(N, 3) share of each field's words that the other has, and whether all are."""
    import numpy as np

    rows = []
    for one, other in zip(ones, others, strict=True):
        a, b = words(one), words(other)
        both = len(a & b)
        rows.append((both / max(len(a), 1), both / max(len(b), 1), float(both == len(b))))
    return np.array(rows)


def _relative_lengths(problem: Problem) -> NDArray[np.float64]:
    """(N, 3) words of an option over its example's mean; is it the longest, the shortest?"""
    import numpy as np

    lengths = np.array([len(text.split()) for text in problem.fields["option"]], float)
    counts = np.bincount(problem.examples)
    mean = np.bincount(problem.examples, lengths) / np.maximum(counts, 1)
    ends = np.zeros((len(counts), 2))
    ends[:, 1] = np.inf
    np.maximum.at(ends[:, 0], problem.examples, lengths)
    np.minimum.at(ends[:, 1], problem.examples, lengths)
    relative = lengths / np.maximum(mean[problem.examples], 1)
    return np.column_stack([relative, *(lengths == ends[problem.examples].T)])


def words(text: str) -> frozenset[str]:
    """The different words of a text, lower case, without marks at their ends."""
    stripped = (word.strip(".,;:!?()[]{}\"'“”‘’…*") for word in text.lower().split())
    return frozenset(word for word in stripped if word)


# --- learning --------------------------------------------------------------------------------


def _splits(problem: Problem) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]] | None:
    """(rows to learn from, rows to test on), one pair per fold."""
    import numpy as np

    if len(np.unique(problem.groups)) < _MIN_PER_LABEL or len(np.unique(problem.targets)) < 2:
        return None
    selection = load_library("sklearn.model_selection", extra="check")
    if problem.kind == "label":
        folds = selection.StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    else:
        folds = selection.GroupKFold(FOLDS, shuffle=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a label with fewer groups than folds
        splits = list(folds.split(problem.targets, problem.targets, problem.groups))
    one_sided = any(len(np.unique(problem.targets[train])) < 2 for train, _ in splits)
    return None if one_sided else splits


def _predictions(problem: Problem, features: Any, splits: Any) -> NDArray[Any]:
    """(N,) predicted label or number; for options the score of being right."""
    import numpy as np

    linear = load_library("sklearn.linear_model", extra="check")
    predicted = np.zeros(len(problem.targets), float)
    for train, test in splits:
        if problem.kind == "number":
            model = linear.Ridge()
        else:
            model = linear.LogisticRegression(class_weight="balanced", max_iter=200, tol=1e-3)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # not converged in full: near enough to measure
            model.fit(features[train], problem.targets[train])
        if problem.kind == "option":
            predicted[test] = model.decision_function(features[test])
        else:
            predicted[test] = model.predict(features[test])
    return predicted


def _label_skill(problem: Problem, predicted: NDArray[Any]) -> Skill:
    import numpy as np

    hits = (predicted == problem.targets).astype(float)
    labels = np.unique(problem.targets)
    recalls = [hits[problem.targets == label] for label in labels]
    variance = sum(recall.mean() * (1 - recall.mean()) / len(recall) for recall in recalls)
    return Skill(
        score=float(np.mean([recall.mean() for recall in recalls])),
        guess=1 / len(labels),
        error=math.sqrt(variance) / len(labels),
        hits=hits,
    )


def _option_skill(problem: Problem, predicted: NDArray[Any]) -> Skill:
    import numpy as np

    counts = np.bincount(problem.examples)
    best = np.full(len(counts), -np.inf)
    np.maximum.at(best, problem.examples, predicted)
    chosen = (predicted == best[problem.examples]).astype(float)
    # Of options that score the same, each is chosen in part: to take the first would know the
    # position of the answer, which in some datasets is always the same.
    right = np.bincount(problem.examples, chosen * problem.targets)
    hits = right / np.bincount(problem.examples, chosen)
    guess = float(np.mean(1 / counts))
    return Skill(
        score=float(hits.mean()), guess=guess, hits=hits.astype(np.float64),
        error=math.sqrt(max(hits.mean() * (1 - hits.mean()), guess * (1 - guess)) / len(hits)),
    )  # fmt: skip


def _number_skill(problem: Problem, predicted: NDArray[Any]) -> Skill:
    import numpy as np

    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = float(np.nan_to_num(np.corrcoef(predicted, problem.targets)[0, 1]))
    num_rows = max(len(predicted) - 3, 1)
    return Skill(
        score=max(correlation, 0.0) ** 2, guess=0.0, hits=-((predicted - problem.targets) ** 2),
        # Fisher 1915: a correlation varies by 1 / sqrt(n - 3); its square by 2 r times that.
        error=max(2 * correlation, 1 / math.sqrt(num_rows)) / math.sqrt(num_rows),
    )  # fmt: skip
