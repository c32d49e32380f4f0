"""What the quickstart tasks yield without reading: the most frequent label, and a bag of words.

A task that a bag of words solves teaches an encoder little and shows nothing. Each word counts once
for the text and once for the column it stands in; the model is scikit-learn's logistic regression
with the strength of its penalty chosen on the validation split, in the baseline's favour. For
multiple choice it scores every option by itself. Span tasks have no such baseline.

    python -m benchmarks.quickstart.baselines
"""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from benchmarks.quickstart.generate import HELD_OUT, MIXTURE, PACK
from benchmarks.quickstart.tasks import TARGET_COLUMNS
from muppet_zoo.console import print_table

if TYPE_CHECKING:
    from collections.abc import Sequence

Row = dict[str, Any]
PENALTIES = (0.03, 0.1, 0.3, 1.0, 3.0)


def main() -> None:
    table = []
    for recipe in (*MIXTURE, HELD_OUT):
        train, validation = (_rows(recipe.name, split) for split in ("train", "validation"))
        metric, majority, words = _baselines(train, validation)
        table.append(
            {
                "task": recipe.name,
                "train": len(train),
                "validation": len(validation),
                "metric": metric,
                "most frequent": majority,
                "bag of words": words,
            }
        )
    print_table("baselines on validation", table)


def _rows(task: str, split: str) -> list[Row]:
    text = (PACK / "data" / task / f"{split}.jsonl").read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()]


def _baselines(
    train: Sequence[Row], validation: Sequence[Row]
) -> tuple[str, float | None, float | None]:
    """Metric, score of the most frequent target, score of a bag of words."""
    if "answers" in train[0]:
        return "squad_exact_match", None, None
    if "score" in train[0]:
        return "pearson", 0.0, _regression(train, validation)
    name = "answer" if "answer" in train[0] else "label"
    frequent = Counter(row[name] for row in train).most_common(1)[0][0]
    majority = sum(row[name] == frequent for row in validation) / len(validation)
    method = _choice if name == "answer" else _classification
    return "accuracy", majority, max(method(train, validation, c) for c in PENALTIES)


def _features(row: Row) -> list[str]:
    """Every word once as itself and once with its column's name."""
    found = []
    for name, text in row.items():
        if name not in TARGET_COLUMNS:
            words = re.findall(r"\w+", text.lower())
            found += [*words, *(f"{name}:{word}" for word in words)]
    return found


def _options(row: Row) -> list[Row]:
    return [{"context": row["context"], "option": option} for option in row["options"]]


def _vectors(train: Sequence[Row], validation: Sequence[Row]) -> tuple[Any, Any]:
    from sklearn.feature_extraction.text import CountVectorizer

    counter = CountVectorizer(analyzer=_features, binary=True)
    return counter.fit_transform(train), counter.transform(validation)


def _classification(train: Sequence[Row], validation: Sequence[Row], penalty: float) -> float:
    from sklearn.linear_model import LogisticRegression

    x, x_validation = _vectors(train, validation)
    model = LogisticRegression(C=penalty, max_iter=2000).fit(x, [row["label"] for row in train])
    return float(model.score(x_validation, [row["label"] for row in validation]))


def _choice(train: Sequence[Row], validation: Sequence[Row], penalty: float) -> float:
    from sklearn.linear_model import LogisticRegression

    x, x_validation = _vectors(
        [option for row in train for option in _options(row)],
        [option for row in validation for option in _options(row)],
    )
    right = [i == row["answer"] for row in train for i in range(len(row["options"]))]
    scores = (
        LogisticRegression(C=penalty, max_iter=2000).fit(x, right).decision_function(x_validation)
    )
    best = scores.reshape(len(validation), -1).argmax(axis=1)
    return float((best == [row["answer"] for row in validation]).mean())


def _regression(train: Sequence[Row], validation: Sequence[Row]) -> float:
    from scipy.stats import pearsonr
    from sklearn.linear_model import Ridge

    x, x_validation = _vectors(train, validation)
    model = Ridge(alpha=10.0).fit(x, [row["score"] for row in train])
    scores = [row["score"] for row in validation]
    return float(pearsonr(model.predict(x_validation), scores).statistic)


if __name__ == "__main__":
    main()
