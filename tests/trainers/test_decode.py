"""From prediction tensors to what metrics compare."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from muppet_zoo_torch.decode import (
    MAX_ANSWER_TOKENS,
    TAGS,
    ScoredTask,
    WindowAnswer,
    best_answer,
)
from muppet_zoo_torch.heads import HEAD_MATH

from muppet_zoo.build import BuildOptions, build
from muppet_zoo.encode import open_tokenizer
from muppet_zoo.model_folder import HeadSlot, lay_out
from muppet_zoo.shards import open_task
from muppet_zoo.targets import IGNORED
from muppet_zoo.zoo import Zoo, shipped_specs

ENCODER = shipped_specs() / "quickstart" / "tiny_encoder"

CONTEXT = "the cat sat on the mat"
# [CLS] who [SEP] the cat sat on the mat [SEP]
OFFSETS = np.array(
    [(0, 0), (0, 0), (0, 0), (0, 3), (4, 7), (8, 11), (12, 14), (15, 18), (19, 22), (0, 0)]
)


def scores(*best: int, num_tokens: int = len(OFFSETS)) -> Any:
    """Zeros, and 1 for the best token, 2 for the next and so on."""
    made = np.zeros(num_tokens, dtype=np.float32)
    for value, at in enumerate(best, start=1):
        made[at] = value
    return made


@pytest.mark.parametrize(
    ("start", "end", "answer"),
    [
        (scores(4), scores(5), "cat sat"),
        (scores(4), scores(4), "cat"),
        (scores(3), scores(8), CONTEXT),
        (scores(4, 0), scores(5, 9), "cat sat"),  # tokens outside of the context never win
        (scores(4, 8), scores(3), "mat"),  # an end before its start never wins
        (scores(), scores(), "the"),  # of equal ones the first
        (scores(7), scores(), "the"),
    ],
    ids=["span", "one_token", "all", "outside", "backwards", "tie", "tie_of_ends"],
)
def test_best_answer(start: Any, end: Any, answer: str) -> None:
    found = best_answer(start, end, OFFSETS, CONTEXT)
    assert found.text == answer
    assert found.empty_score == start[0] + end[0]


def test_no_token_of_the_context_is_no_answer() -> None:
    found = best_answer(scores(4), scores(5), np.zeros_like(OFFSETS), CONTEXT)
    assert found == WindowAnswer(text="", score=-np.inf, empty_score=0.0)


def windows(*answers: tuple[str, float, float]) -> list[WindowAnswer]:
    return [WindowAnswer(text=t, score=score, empty_score=empty) for t, score, empty in answers]


@pytest.mark.parametrize(
    ("no_answer", "found"),
    [(False, ["cat", "mat", "the"]), (True, ["", "mat", "the"])],
)
def test_the_best_answer_of_all_windows_is_the_examples(no_answer: bool, found: list[str]) -> None:
    records = windows(
        ("cat", 2.0, 2.5),
        ("dog", 1.0, 3.0),
        ("sat", 0.0, 9.0),
        ("mat", 2.0, 1.5),  # this window is sure enough, however the others are
        ("the", 1.0, 1.0),
        ("out", 5.0, 0.0),
    )
    slot = HeadSlot(task="t", head="span", level="token", start=0, size=2, no_answer=no_answer)
    examples = (records[:2], records[2:4], records[4:5])
    of_example = HEAD_MATH["span"].decoder.of_example
    assert [of_example(example, slot) for example in examples] == found


def test_other_predictions_are_one_per_example() -> None:
    slot = HeadSlot(task="t", head="classification", level="sentence", start=0, size=2)
    of_example = HEAD_MATH["classification"].decoder.of_example
    assert [of_example([1], slot), of_example([0], slot)] == [1, 0]


@given(seed=st.integers(0, 2**31), num_tokens=st.integers(1, 80))
@settings(max_examples=50, deadline=None)
def test_best_answer_is_the_best_of_all_allowed_pairs(seed: int, num_tokens: int) -> None:
    source = np.random.default_rng(seed)
    start, end = source.normal(size=(2, num_tokens + 3)).astype(np.float32)
    inside = [(2 * t, 2 * t + 1) for t in range(num_tokens)]
    offsets = np.array([(0, 0), (0, 0), *inside, (0, 0)])
    context = "".join(chr(0x4E00 + t) + " " for t in range(num_tokens))
    pairs = [
        (start[2 + i] + end[2 + j], i, j)
        for i in range(num_tokens)
        for j in range(i, min(num_tokens, i + MAX_ANSWER_TOKENS))
    ]
    _, i, j = max(pairs)
    # The tensor may be longer than the example: padding has a score of -inf and no offsets.
    padding = np.full(4, -np.inf, dtype=np.float32)
    found = best_answer(
        np.concatenate([start, padding]), np.concatenate([end, padding]), offsets, context
    )
    assert found.text == context[2 * i : 2 * j + 1]
    assert found.score == pytest.approx(start[2 + i] + end[2 + j])


def opened(data: Path, zoo: Zoo, task: str) -> ScoredTask:
    return ScoredTask(
        split=open_task(data, task, "validation"),
        slot=lay_out([zoo.task(task)]).slots[0],
        tokenizer=open_tokenizer(str(ENCODER)).load(),
    )


def decode(predicted: torch.Tensor, task: ScoredTask) -> list[Any]:
    return HEAD_MATH[task.slot.head].decoder.predictions(predicted, ROWS, task)


def references(task: ScoredTask, num_examples: int | None = None) -> list[Any]:
    firsts = task.split.example_starts[: num_examples or task.split.num_examples]
    return HEAD_MATH[task.slot.head].decoder.references(firsts, task)


ROWS = np.array([5, 0, 3])


def test_plain_values(quickstart_data: Path, zoo: Zoo) -> None:
    topic = opened(quickstart_data, zoo, "qs_topic")
    assert decode(torch.tensor([2, 0, 1]), topic) == [2, 0, 1]
    similarity = opened(quickstart_data, zoo, "qs_similarity")
    found = decode(torch.tensor([0.5, 2.0, 5.0]), similarity)
    assert found == [0.5, 2.0, 5.0]
    assert all(isinstance(value, float) for value in found)


def test_label_sets(quickstart_data: Path, zoo: Zoo) -> None:
    task = opened(quickstart_data, zoo, "qs_mentions")
    predicted = torch.tensor([[1, 0, 1, 0, 0, 0], [0] * 6, [0, 0, 0, 0, 1, 0]], dtype=torch.bool)
    assert decode(predicted, task) == [[0, 2], [], [4]]


def test_tags_are_one_name_per_scored_word(quickstart_data: Path, zoo: Zoo) -> None:
    task = opened(quickstart_data, zoo, "qs_word_tags")
    targets = [task.split.record(row).target for row in ROWS.tolist()]
    # The right tag everywhere and a wrong one where nothing is scored: nothing of it may be read.
    predicted = torch.full((3, max(map(len, targets)) + 2), len(task.slot.labels) - 1)
    for i, target in enumerate(targets):
        scored = np.asarray(target) != IGNORED
        predicted[i, : len(target)][torch.from_numpy(scored)] = torch.from_numpy(
            np.asarray(target)[scored].astype(np.int64)
        )
    found = decode(predicted, task)
    wanted = references(task)
    assert found == [wanted[row] for row in ROWS]
    words = [len(words) for words in read_words(zoo)]
    assert [len(tags) for tags in found] == [words[row] for row in ROWS]


def test_a_word_that_was_cut_off_is_outside(
    zoo: Zoo, quickstart_data: Path, tmp_path: Path
) -> None:
    """It is scored: to leave it out would flatter the model."""
    spec = zoo.task("qs_word_tags")
    options = BuildOptions(max_tokens=6)
    build([spec], tokenizer=open_tokenizer(str(ENCODER)), out=tmp_path, options=options)
    task = opened(tmp_path, zoo, "qs_word_tags")
    wanted = [references(opened(quickstart_data, zoo, "qs_word_tags"))[row] for row in ROWS]
    assert [references(task)[row] for row in ROWS] == wanted
    last = len(task.slot.labels) - 1
    found = decode(torch.full((3, 6), last), task)
    words = [len(tags) for tags in wanted]
    assert [len(tags) for tags in found] == words
    assert [tags.count(None) for tags in found] == [max(0, count - 4) for count in words]
    scored = [TAGS.of_example([tags], task.slot) for tags in found]
    assert [tags.count("O") for tags in scored] == [max(0, count - 4) for count in words]


def read_words(zoo: Zoo) -> list[list[str]]:
    import json

    source = zoo.task("qs_word_tags").source
    assert source.root is not None
    lines = (source.root / source.files["validation"]).read_text("utf-8").splitlines()
    return [json.loads(line)["words"] for line in lines]


def test_answers_come_from_each_rows_own_context(quickstart_data: Path, zoo: Zoo) -> None:
    task = opened(quickstart_data, zoo, "qs_find_thing")
    targets = [task.split.record(row).target for row in ROWS.tolist()]
    predicted = torch.full((3, int(task.split.lengths[ROWS].max()) + 2, 2), -1.0)
    for i, (first, last) in enumerate(targets):
        predicted[i, first, 0] = predicted[i, last, 1] = 3.0
    wanted = references(task)
    assert [[answer.text] for answer in decode(predicted, task)] == [wanted[row] for row in ROWS]


@pytest.mark.parametrize(
    ("task", "of_one"),
    [
        ("qs_topic", int),
        ("qs_fitting_thing", int),
        ("qs_similarity", float),
        ("qs_mentions", list),
        ("qs_word_tags", list),
        ("qs_find_thing", list),
    ],
)
def test_references(quickstart_data: Path, zoo: Zoo, task: str, of_one: type) -> None:
    scored = opened(quickstart_data, zoo, task)
    found = references(scored, 9)
    assert len(found) == 9
    assert {type(value) for value in found} == {of_one}
    assert found == references(scored)[:9]
    decoder = HEAD_MATH[scored.slot.head].decoder
    assert decoder.is_labelled(found)
    if scored.slot.labels:
        assert decoder.num_labels(np.arange(9), scored) == len(scored.slot.labels)


def test_choices_have_as_many_labels_as_the_longest_row_has_options(
    quickstart_data: Path, zoo: Zoo
) -> None:
    task = opened(quickstart_data, zoo, "qs_fitting_thing")
    num_labels = HEAD_MATH["multiple_choice"].decoder.num_labels(np.arange(20), task)
    assert num_labels == max(task.split.num_sequences[:20]) >= 2


@pytest.mark.parametrize(
    ("head", "targets"),
    [
        ("classification", [-1, -1]),
        ("multiple_choice", [-1]),
        ("regression", [float("nan"), 1.0]),
        ("multi_label", [[-1], [-1]]),
        ("span", [[], []]),
        ("token_classification", [[], []]),
        ("generation", ["", ""]),
    ],
)
def test_unlabelled_splits_are_recognised(head: str, targets: list[Any]) -> None:
    assert not HEAD_MATH[head].decoder.is_labelled(targets)


def test_minus_one_is_a_number_that_regression_can_be_scored_on() -> None:
    assert HEAD_MATH["regression"].decoder.is_labelled([-1.0, 0.5])


def test_an_empty_label_set_is_a_label() -> None:
    assert HEAD_MATH["multi_label"].decoder.is_labelled([[], [1]])
