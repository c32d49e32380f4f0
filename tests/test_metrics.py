"""Metrics: golden values worked out by hand, equality with the libraries, and properties."""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
from dataclasses import replace
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muppet_zoo.errors import MissingExtraError, UnknownNameError
from muppet_zoo.metric_inputs import ScoreError
from muppet_zoo.metrics import METRICS, score, score_all

if TYPE_CHECKING:
    from collections.abc import Sequence

SCHEMA = json.loads(
    (files("muppet_zoo") / "schemas" / "task_spec.schema.json").read_text(encoding="utf-8")
)
CORRELATIONS = ("matthews_correlation", "pearson", "spearman")

# For each head: strategy of one example (prediction, reference), and the number of labels.
LABELS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
WORDS = st.sampled_from(("a", "the", "cat", "sat", "Mat!", "42"))
TEXT = st.lists(WORDS, max_size=5).map(" ".join)
NUMBER = st.integers(-100, 100).map(lambda value: value / 8)
LABEL_SET = st.lists(st.integers(0, 3), unique=True, max_size=4)
EXAMPLES: dict[str, tuple[st.SearchStrategy[tuple[Any, Any]], int]] = {
    "classification": (st.tuples(st.integers(0, 1), st.integers(0, 1)), 2),
    "multiple_choice": (st.tuples(st.integers(0, 4), st.integers(0, 4)), 5),
    "multi_label": (st.tuples(LABEL_SET, LABEL_SET), 4),
    "regression": (st.tuples(NUMBER, NUMBER), 1),
    "token_classification": (
        st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from(LABELS)), min_size=1).map(
            lambda pairs: ([left for left, _ in pairs], [right for _, right in pairs])
        ),
        len(LABELS),
    ),
    "span": (st.tuples(TEXT, st.lists(TEXT, max_size=3)), 0),
    "generation": (st.tuples(TEXT, TEXT), 0),
}
QUESTIONS = [f"question {i // 2}" for i in range(12)]
EVERY_PAIR = [(metric.name, head) for metric in METRICS.values() for head in sorted(metric.heads)]


def test_every_metric_of_the_schema_exists_and_every_metric_is_in_the_schema() -> None:
    assert list(METRICS) == SCHEMA["properties"]["metrics"]["items"]["enum"]
    assert all(name == metric.name for name, metric in METRICS.items())


def test_heads_are_those_of_the_schema_and_each_has_a_metric() -> None:
    heads = set(SCHEMA["$defs"]["head"]["properties"]["type"]["enum"])
    assert set().union(*(metric.heads for metric in METRICS.values())) == heads
    assert set(EXAMPLES) == heads


def test_names_and_heads_need_no_library() -> None:
    program = (
        "import sys, muppet_zoo.metrics as m; assert m.METRICS['accuracy'].heads\n"
        "heavy = {'numpy', 'sklearn', 'scipy', 'torch', 'torchmetrics', 'seqeval', 'rouge_score'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


# Golden values. Each case: metric, predictions, references, number of labels, score.
GOLDEN: dict[str, tuple[str, list[Any], list[Any], int, float]] = {
    # 3 of 4 equal.
    "accuracy": ("accuracy", [0, 1, 2, 1], [0, 1, 2, 2], 3, 3 / 4),
    # Words count, not rows: 2 of 3 right.
    "accuracy of words": ("accuracy", [["A", "B"], ["A"]], [["A", "A"], ["A"]], 2, 2 / 3),
    # Positives: tp 2, fp 1, fn 1. F1 = 2·2 / (2·2 + 1 + 1).
    "binary f1": ("f1", [1, 1, 1, 0, 0], [1, 1, 0, 1, 0], 2, 4 / 6),
    # The positive class is the last label: with 0 as the positive it would be 0.8.
    "binary f1 side": ("f1", [0, 0, 1, 0], [0, 0, 1, 1], 2, 2 / 3),
    # Class 0: tp 1 fp 1 fn 0 -> 2/3. Class 1: tp 1 fp 0 fn 1 -> 2/3. Class 2: tp 1 -> 1.
    "macro f1": ("macro_f1", [0, 0, 1, 2], [0, 1, 1, 2], 3, (2 / 3 + 2 / 3 + 1) / 3),
    # As above; class 3 of 4 occurs nowhere and is no part of the average.
    "macro f1 absent class": ("macro_f1", [0, 0, 1, 2], [0, 1, 1, 2], 4, 7 / 9),
    "micro f1 is accuracy": ("micro_f1", [0, 0, 1, 2], [0, 1, 1, 2], 3, 3 / 4),
    # Label sets {0,1} {2} {} against {0} {2} {1}: tp 2, fp 1, fn 1 -> 4/6.
    "micro f1 of label sets": ("micro_f1", [[0, 1], [2], []], [[0], [2], [1]], 4, 4 / 6),
    # Label 0: 1. Label 1: tp 0 -> 0. Label 2: 1. Label 3 occurs nowhere.
    "macro f1 of label sets": ("macro_f1", [[0, 1], [2], []], [[0], [2], [1]], 4, 2 / 3),
    # tp 2 tn 1 fp 1 fn 1: (2·1 - 1·1) / sqrt(3·3·2·2) = 1/6.
    "matthews": ("matthews_correlation", [1, 1, 1, 0, 0], [1, 1, 0, 1, 0], 2, 1 / 6),
    "matthews inverted": ("matthews_correlation", [0, 1, 0], [1, 0, 1], 2, -1.0),
    # Deviations (-1, 0, 1) and (-4/3, -1/3, 5/3): 3 / sqrt(2 · 14/3).
    "pearson": ("pearson", [1.0, 2.0, 3.0], [1.0, 2.0, 4.0], 1, 3 / math.sqrt(28 / 3)),
    # Ranks (1, 2, 3, 4) and (1, 3, 2, 4): 1 - 6·(0 + 1 + 1 + 0) / (4·15).
    "spearman": ("spearman", [1.0, 2.0, 3.0, 9.0], [0.0, 5.0, 1.0, 7.0], 1, 0.8),
    # Entities predicted: PER(0-1), LOC(3); expected: PER(0-1), ORG(3), LOC(4) -> tp 1, 2·1/(2+3).
    "entity f1": (
        "entity_f1",
        [["B-PER", "I-PER", "O", "B-LOC", "O"]],
        [["B-PER", "I-PER", "O", "B-ORG", "B-LOC"]],
        7,
        2 / 5,
    ),
    # As conlleval: I- after O starts an entity, and so does I- of another type.
    "entity f1 counts I- as a start": (
        "entity_f1",
        [["O", "I-PER", "I-LOC"]],
        [["O", "B-PER", "B-LOC"]],
        5,
        1.0,
    ),
    # An entity ends where its row ends: two PER of one word, not one of two words.
    "entity f1 rows": ("entity_f1", [["B-PER"], ["I-PER"]], [["B-PER"], ["B-PER"]], 3, 1.0),
    # 3 of 4 predicted unigrams, 3 of 5 expected: 2·(3/4)(3/5) / (3/4 + 3/5).
    "rouge1": ("rouge1", ["the cat sat down"], ["the cat sat on it"], 0, 2 / 3),
    # Bigrams "the cat", "cat sat" of 3 predicted and 4 expected: 2·(2/3)(1/2) / (2/3 + 1/2).
    "rouge2": ("rouge2", ["the cat sat down"], ["the cat sat on it"], 0, 4 / 7),
    # Longest common subsequence "b d" of 3 and 3 words.
    "rougeL": ("rougeL", ["b c d"], ["b d c"], 0, 2 / 3),
    # Porter: "cats" and "cat", "running" and "runs" have one stem.
    "rouge stems": ("rouge1", ["cats running"], ["cat runs"], 0, 1.0),
    "rouge of nothing": ("rouge1", [""], ["a cat"], 0, 0.0),
    # Second row is perfect: mean of 0 and 1.
    "rouge mean": ("rougeL", ["x", "a cat"], ["y", "a cat"], 0, 1 / 2),
}


@pytest.mark.parametrize("case", GOLDEN)
def test_golden_values(case: str) -> None:
    name, predictions, references, num_labels, expected = GOLDEN[case]
    assert score(name, predictions, references, num_labels=num_labels) == pytest.approx(
        expected, abs=1e-12
    )


@pytest.mark.parametrize(
    ("prediction", "answers", "exact", "f1"),
    [
        ("The Cat", ["cat"], 1, 1),  # articles and case
        ("a  cat,  sat!", ["cat sat"], 1, 1),  # punctuation and spaces
        ("U.S.A.", ["USA"], 1, 1),
        ("1,000", ["1000"], 1, 1),
        ("theatre", ["atre"], 0, 0),  # an article is a word, never part of one
        ("cat", ["dog", "the cat"], 1, 1),  # the best of several answers
        ("black cat", ["cat", "big black cat"], 0, 4 / 5),  # with the second: 2·1·(2/3) / (5/3)
        ("cat cat", ["cat"], 0, 2 / 3),  # a word counts once: precision 1/2, recall 1
        ("dog", ["cat"], 0, 0),
        ("", ["cat"], 0, 0),
        ("", [], 1, 1),  # SQuAD 2.0: no answer, none predicted
        ("cat", [], 0, 0),
    ],
)
def test_squad_normalisation(prediction: str, answers: list[str], exact: float, f1: float) -> None:
    scores = score_all(["squad_exact_match", "squad_f1"], [prediction], [answers], num_labels=0)
    assert scores == {"squad_exact_match": exact, "squad_f1": pytest.approx(f1, abs=1e-6)}


def test_equality_with_the_libraries() -> None:
    from rouge_score.rouge_scorer import RougeScorer
    from scipy.stats import pearsonr, spearmanr
    from seqeval.metrics import f1_score as entity_f1
    from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef
    from torchmetrics.functional.text import squad

    rng = random.Random(7)
    left, right = ([rng.randrange(5) for _ in range(200)] for _ in range(2))
    ours = score_all(
        ["accuracy", "macro_f1", "micro_f1", "matthews_correlation"], left, right, num_labels=5
    )
    assert ours == {
        "accuracy": accuracy_score(right, left),
        "macro_f1": f1_score(right, left, average="macro"),
        "micro_f1": f1_score(right, left, average="micro"),
        "matthews_correlation": matthews_corrcoef(right, left),
    }
    x, y = ([rng.gauss(0, 1) for _ in range(50)] for _ in range(2))
    assert score_all(["pearson", "spearman"], x, y, num_labels=1) == {
        "pearson": pearsonr(x, y).statistic,
        "spearman": spearmanr(x, y).statistic,
    }
    tags = [[[rng.choice(LABELS) for _ in range(9)] for _ in range(20)] for _ in range(2)]
    assert score("entity_f1", tags[0], tags[1], num_labels=5) == entity_f1(tags[1], tags[0])
    texts = [" ".join(rng.choice("abcde") for _ in range(6)) for _ in range(40)]
    answers = [[" ".join(rng.choice("abcde") for _ in range(4))] for _ in range(40)]
    library = squad(
        [{"id": str(i), "prediction_text": text} for i, text in enumerate(texts)],
        [{"id": str(i), "answers": {"text": text}} for i, text in enumerate(answers)],
    )
    assert score("squad_f1", texts, answers, num_labels=0) == pytest.approx(
        library["f1"].item() / 100, abs=1e-6
    )
    rouge = RougeScorer(["rouge2"], use_stemmer=True)
    assert score("rouge2", texts[:1], answers[0], num_labels=0) == (
        rouge.score(answers[0][0], texts[0])["rouge2"].fmeasure
    )


def _perfect(metric: str, head: str, references: Sequence[Any]) -> list[Any] | None:
    """Predictions that equal the references, or None where the metric is 0/0 on them."""
    if metric in CORRELATIONS and len(set(references)) == 1:
        return None
    if metric == "f1" and 1 not in references:
        return None
    if head == "multi_label" and not any(references):
        return None
    if metric == "entity_f1" and all(label == "O" for row in references for label in row):
        return None
    if head == "generation" and any(
        len(text.split()) < (2 if metric == "rouge2" else 1) for text in references
    ):
        return None
    return (
        [answers[0] if answers else "" for answers in references]
        if head == "span"
        else [*references]
    )


@pytest.mark.parametrize(("metric", "head"), EVERY_PAIR)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_properties(metric: str, head: str, data: st.DataObject) -> None:
    examples, num_labels = EXAMPLES[head]
    pairs = data.draw(st.lists(examples, min_size=1, max_size=12))
    predictions, references = [left for left, _ in pairs], [right for _, right in pairs]
    groups = QUESTIONS[: len(pairs)]
    value = score(metric, predictions, references, num_labels=num_labels, groups=groups)
    assert (-1.0 if metric in CORRELATIONS else 0.0) <= value <= 1.0

    order = data.draw(st.permutations(range(len(pairs))))
    shuffled = score(
        metric, [predictions[i] for i in order], [references[i] for i in order],
        num_labels=num_labels, groups=[groups[i] for i in order],
    )  # fmt: skip
    assert shuffled == pytest.approx(value, abs=1e-9)

    perfect = _perfect(metric, head, references)
    if perfect is not None:
        assert score(
            metric, perfect, references, num_labels=num_labels, groups=groups
        ) == pytest.approx(1.0)


@pytest.mark.parametrize("metric", ["pearson", "spearman"])
@pytest.mark.parametrize(
    ("predictions", "references"),
    [
        ([0.5, 0.5, 0.5], [1.0, 2.0, 3.0]),
        ([1.0, 2.0, 3.0], [0.5, 0.5, 0.5]),
        ([0.5], [0.5]),
    ],
)
def test_a_constant_side_correlates_with_nothing(
    metric: str, predictions: list[float], references: list[float]
) -> None:
    assert score(metric, predictions, references, num_labels=1) == 0.0


def test_a_side_that_varies_in_its_last_bits_alone_is_constant() -> None:
    assert score("pearson", [1.0, 1.0 + 2e-16, 1.0], [1.0, 2.0, 3.0], num_labels=1) == 0.0


@pytest.mark.parametrize(
    ("predictions", "references"), [([1, 1], [0, 1]), ([0, 1], [1, 1]), ([1, 1], [1, 1])]
)
def test_matthews_of_a_constant_side_is_zero(predictions: list[int], references: list[int]) -> None:
    assert score("matthews_correlation", predictions, references, num_labels=2) == 0.0


@pytest.mark.parametrize(
    ("metric", "rows"), [("f1", [0, 0]), ("micro_f1", [[], []]), ("entity_f1", [["O"], ["O"]])]
)
def test_nothing_to_find_and_nothing_found_is_zero(metric: str, rows: list[Any]) -> None:
    assert score(metric, rows, rows, num_labels=2) == 0.0


def test_library_scalars_are_accepted() -> None:
    import numpy as np

    labels: Any = np.array([0, 1, 1], dtype=np.int32)
    assert score("accuracy", labels, list(labels), num_labels=2) == 1.0
    numbers: Any = np.array([0.0, 1.0, 3.0], dtype=np.float32)
    assert score("pearson", numbers, [0.0, 1.0, 3.0], num_labels=1) == pytest.approx(1.0)


def test_many_labels_and_few_examples_warn_of_nothing() -> None:
    rows = list(range(30))
    names = ["accuracy", "macro_f1", "matthews_correlation"]
    assert set(score_all(names, rows, rows, num_labels=30).values()) == {1.0}


@pytest.mark.parametrize("metric", METRICS)
def test_no_examples(metric: str) -> None:
    with pytest.raises(ScoreError, match=f"^{metric}: there are no examples to score$"):
        score(metric, [], [], num_labels=2)


@pytest.mark.parametrize("metric", METRICS)
def test_unequal_lengths(metric: str) -> None:
    with pytest.raises(ScoreError, match=f"^{metric}: 1 predictions for 2 references; "):
        score(metric, [0], [0, 0], num_labels=2)


NAN = float("nan")


@pytest.mark.parametrize(
    ("metric", "predictions", "references", "message"),
    [
        ("pearson", [1.0, NAN], [1.0, 2.0], "prediction of row 1 is nan; allowed: a finite number"),
        ("spearman", [1.0, 2.0], [NAN, 2.0], "reference of row 0 is nan"),
        ("pearson", [math.inf, 2.0], [1.0, 2.0], "prediction of row 0 is inf"),
        ("pearson", [None, 2.0], [1.0, 2.0], "prediction of row 0 is None"),
        ("accuracy", [0, NAN], [0, 1], "prediction of row 1 is nan; allowed: a whole number"),
        ("accuracy", [0, 2], [0, 1], "prediction of row 1 is 2; .* from 0 to 1$"),
        ("f1", [0, 1], [0, -1], "reference of row 1 is -1; .*-1 marks an unlabelled row"),
        ("accuracy", [0], [NAN], "reference of row 0 is nan; allowed: a whole number"),
        ("micro_f1", [[0, 5]], [[1]], "prediction of row 0 is 5"),
        ("micro_f1", [0], [[1]], "prediction of row 0 is 0; allowed: a list of label indices"),
        ("accuracy", [["A"]], [["A", "B"]], "row 0 has 1 predicted labels for 2 words"),
        ("accuracy", ["AB"], [["A", "B"]], "prediction of row 0 is 'AB'; allowed: a list"),
        ("accuracy", [[]], [[]], "no words to score"),
        ("entity_f1", [["NOUN"]], [["O"]], "label 'NOUN' is not an entity tag"),
        ("squad_f1", ["cat"], ["cat"], "reference of row 0 is 'cat'; allowed: a list of texts"),
        ("squad_f1", [3], [["cat"]], "prediction of row 0 is 3; allowed: a text"),
        ("rouge1", ["cat"], [None], "reference of row 0 is None; allowed: a text"),
    ],
)
def test_what_cannot_be_scored(
    metric: str, predictions: list[Any], references: list[Any], message: str
) -> None:
    with pytest.raises(ScoreError, match=f"^{metric}: .*{message}"):
        score(metric, predictions, references, num_labels=2)


def test_a_library_that_answers_nan_is_an_error_and_never_a_perfect_score(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken = replace(METRICS["pearson"], function=lambda predictions, references, num_labels: NAN)
    monkeypatch.setitem(METRICS, "pearson", broken)
    with pytest.raises(ScoreError, match=r"^pearson: scipy returns no number"):
        score("pearson", [1.0, 2.0], [1.0, 2.0], num_labels=1)


def test_binary_f1_is_for_two_labels() -> None:
    with pytest.raises(ScoreError, match="the head has 3; use macro_f1 or micro_f1"):
        score("f1", [0], [0], num_labels=3)


def test_unknown_metric_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="no metric is named 'acuracy'; did you mean 'acc"):
        score("acuracy", [0], [0], num_labels=2)


@pytest.mark.parametrize(
    ("metric", "module", "package"),
    [
        ("accuracy", "sklearn.metrics", "sklearn"),
        ("pearson", "scipy.stats", "scipy"),
        ("squad_f1", "torchmetrics.functional.text", "torchmetrics"),
        ("entity_f1", "seqeval.metrics", "seqeval"),
        ("rougeL", "rouge_score.rouge_scorer", "rouge_score"),
    ],
)
def test_a_missing_library_says_how_to_install_it(
    metric: str, module: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    values: dict[str, tuple[list[Any], list[Any]]] = {
        "pearson": ([1.0, 2.0], [1.0, 2.0]),
        "squad_f1": (["a"], [["a"]]),
        "entity_f1": ([["O"]], [["O"]]),
        "rougeL": (["a"], ["a"]),
    }
    predictions, references = values.get(metric, ([0], [0]))
    with pytest.raises(MissingExtraError, match=rf"'{package}'.*muppet-zoo\[train\]"):
        score(metric, predictions, references, num_labels=2)


def test_multirc_scores_answers_and_whole_questions() -> None:
    # Three questions with 3, 2 and 1 candidates; one answer of the second is missed. F1a counts
    # candidates, tp 2 fp 0 fn 1: 2·2 / (2·2 + 1). Exact match counts questions: 2 of 3.
    questions = ["a", "a", "a", "b", "b", "c"]
    predictions, references = [1, 0, 1, 0, 0, 0], [1, 0, 1, 0, 1, 0]
    scores = score_all(
        ["f1", "group_exact_match"], predictions, references, num_labels=2, groups=questions
    )
    assert scores == {"f1": pytest.approx(4 / 5), "group_exact_match": pytest.approx(2 / 3)}


def test_groups_count_wherever_their_rows_are() -> None:
    # Rows of question a are not neighbours, and one of them is wrong: only b is right.
    value = score("group_exact_match", [0, 1, 1], [0, 1, 0], num_labels=2, groups=["a", "b", "a"])
    assert value == 1 / 2


@pytest.mark.parametrize("groups", [None, ["a"]])
def test_a_grouped_metric_needs_every_group(groups: list[str] | None) -> None:
    with pytest.raises(ScoreError, match=r"^group_exact_match: the group of every example"):
        score("group_exact_match", [0, 1], [0, 1], num_labels=2, groups=groups)


# One dev set of each benchmark in small: (benchmark, scores by hand, predictions, references, K).
BENCHMARKS: list[tuple[str, dict[str, float], list[Any], list[Any], int]] = [
    # GLUE, MRPC and QQP: accuracy 3/5; F1 of "same": tp 2, fp 1, fn 1.
    ("mrpc", {"accuracy": 3 / 5, "f1": 4 / 6}, [1, 1, 1, 0, 0], [1, 1, 0, 1, 0], 2),
    # GLUE, CoLA: tp 1 tn 1 fp 1 fn 0: (1·1 - 1·0) / sqrt(2·1·2·1).
    ("cola", {"matthews_correlation": 1 / 2}, [1, 1, 0], [1, 0, 0], 2),
    # GLUE, STS-B. Deviations (-1, 0, 1), (-2, 1, 1): 3 / sqrt(2·6). Ranks (1, 2, 3), (1, 2.5, 2.5).
    (
        "stsb",
        {"pearson": 3 / math.sqrt(12), "spearman": 1.5 / math.sqrt(2 * 1.5)},
        [1.0, 2.0, 3.0],
        [0.0, 3.0, 3.0],
        1,
    ),
    # SuperGLUE, CB: accuracy 3/4; F1 of each of three classes: 2/3, 2/3, 1, unweighted.
    ("cb", {"accuracy": 3 / 4, "macro_f1": 7 / 9}, [0, 0, 1, 2], [0, 1, 1, 2], 3),
    # SuperGLUE, ReCoRD: the best of all accepted names. Rows: equal but for case; "Ada Byron" and
    # "Lady Ada Byron" share 2 of 2 and 3 words, F1 2·1·(2/3) / (5/3) = 4/5; nothing shared.
    (
        "record",
        {"squad_exact_match": 1 / 3, "squad_f1": (1 + 4 / 5 + 0) / 3},
        ["ada byron", "Ada Byron", "Paris"],
        [["Ada Byron", "Lovelace"], ["Lovelace", "Lady Ada Byron"], ["London", "Rome"]],
        0,
    ),
    # SQuAD 1.1: articles and punctuation do not count; 1 of 2 words right, F1 2·(1/2)·1 / (3/2).
    (
        "squad",
        {"squad_exact_match": 1 / 2, "squad_f1": (1 + 2 / 3) / 2},
        ["The Nile.", "in 1905"],
        [["Nile"], ["1905", "year 1905 AD"]],
        0,
    ),
    # SQuAD 2.0: no answer is right only when nothing is said, and then wholly.
    (
        "squad_v2",
        {"squad_exact_match": 1 / 3, "squad_f1": 1 / 3},
        ["", "Rome", ""],
        [[], [], ["Rome"]],
        0,
    ),
    # ROUGE with stems. Words: "the" and "cat" shared, 2 of 3 and 2 of 3. Pairs: "the cat", 1 of 2
    # and 2. Longest common subsequence "the cat", again 2 of 3 and 3.
    (
        "rouge",
        {"rouge1": 2 / 3, "rouge2": 1 / 2, "rougeL": 2 / 3},
        ["the cats slept"],
        ["The cat ran"],
        0,
    ),
]


@pytest.mark.parametrize("case", BENCHMARKS, ids=[case[0] for case in BENCHMARKS])
def test_benchmarks_are_scored_as_by_their_own_scripts(
    case: tuple[str, dict[str, float], list[Any], list[Any], int],
) -> None:
    _, expected, predictions, references, num_labels = case
    scores = score_all(list(expected), predictions, references, num_labels=num_labels)
    assert scores == pytest.approx(expected, abs=1e-6)
