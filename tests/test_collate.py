"""Micro-batches are laid out by hand, each head type's targets in its own form."""

from __future__ import annotations

import numpy as np
from fake_task import FakeTask

from muppet_zoo.batches import Batcher, Batching, MicroBatchPlan
from muppet_zoo.collate import collate, collate_target, decoder_text
from muppet_zoo.heads import HEADS
from muppet_zoo.order import Order
from muppet_zoo.row_pool import Ragged, RowPool
from muppet_zoo.task_data import TaskData

CLASSES = FakeTask("classification", [[[5, 6]], [[7]]], [2, -1], [[1], [1]])
SCORES = FakeTask("regression", [[[8, 9, 10]]], [0.5])
CHOICES = FakeTask(
    "multiple_choice", [[[1, 2], [3]], [[4], [5, 6, 7, 8], [9]]], [1, 0], [[1, 1], [1, 2, 1]]
)
TAGS = FakeTask("token_classification", [[[11, 12, 13]]], [[-100, 3, -100]])
SPANS = FakeTask("span", [[[14, 15, 16]], [[17]]], [[1, 2], [-1, -1]])
LABELS = FakeTask("multi_label", [[[20]], [[21]], [[22]]], [[0, 4, 9], [], [1]])
TEXTS = FakeTask("generation", [[[30]], [[31]]], [[40, 41], [42]])
TASKS: list[TaskData] = [CLASSES, SCORES, CHOICES, TAGS, SPANS, LABELS, TEXTS]
POOL = RowPool(TASKS)


def plan_of(*pairs: tuple[int, int]) -> MicroBatchPlan:
    return MicroBatchPlan(
        tasks=np.array([task for task, _ in pairs], dtype=np.int32),
        rows=np.array([row for _, row in pairs], dtype=np.int64),
        lengths=np.array([TASKS[task].lengths[row] for task, row in pairs], dtype=np.uint32),
    )


def test_layout_of_a_mixed_micro_batch_by_hand() -> None:
    # In the plan's order: a class, options 0 1, a score, another class, options 0 1 2.
    batch = collate(plan_of((0, 1), (2, 0), (1, 0), (0, 0), (2, 1)), POOL, pad_id=99)
    assert batch.input_ids.tolist() == [
        [7, 99, 99, 99],
        [1, 2, 99, 99],
        [3, 99, 99, 99],
        [8, 9, 10, 99],
        [5, 6, 99, 99],
        [4, 99, 99, 99],
        [5, 6, 7, 8],
        [9, 99, 99, 99],
    ]
    assert batch.input_ids.dtype == np.int64
    assert batch.attention_mask.dtype == np.bool_
    assert batch.attention_mask.sum(axis=1).tolist() == [1, 2, 1, 3, 2, 1, 4, 1]
    assert (batch.attention_mask == (batch.input_ids != 99)).all()
    assert batch.second_start.tolist() == [1, 1, 1, 3, 1, 1, 2, 1]
    assert (batch.num_tokens, batch.num_examples) == (15, 5)
    assert batch.padding_share == 17 / 32
    assert list(batch.groups) == ["classification", "multiple_choice", "regression"]
    classes, choices, scores = batch.groups.values()
    assert (classes.tasks.tolist(), classes.rows.tolist()) == ([0, 0], [1, 0])
    assert classes.sequences.tolist() == [[0], [4]]
    assert classes.target.tolist() == [-1, 2]
    assert classes.target.dtype == np.dtype(np.int64)
    assert (choices.tasks.tolist(), choices.rows.tolist()) == ([2, 2], [0, 1])
    assert choices.sequences.tolist() == [[1, 2, -1], [5, 6, 7]]
    assert choices.target.tolist() == [1, 0]
    assert choices.target.dtype == np.dtype(np.int64)
    assert scores.head == "regression"
    assert scores.sequences.tolist() == [[3]]
    assert scores.target.tolist() == [0.5]
    assert scores.target.dtype == np.dtype(np.float32)


def test_layout_of_token_and_list_targets_by_hand() -> None:
    batch = collate(plan_of((4, 1), (5, 0), (5, 1), (6, 0), (6, 1), (3, 0), (4, 0)), POOL, pad_id=0)
    targets = {head: rows.target.tolist() for head, rows in batch.groups.items()}
    assert targets == {
        "generation": [[40, 41], [42, -100]],
        "multi_label": [[0, 4, 9], [-1, -1, -1]],
        "span": [[-1, -1], [1, 2]],
        "token_classification": [[-100, 3, -100]],
    }
    assert {rows.target.dtype for rows in batch.groups.values()} == {np.dtype(np.int64)}
    assert batch.groups["span"].sequences.tolist() == [[0], [6]]


def test_token_targets_are_as_wide_as_the_micro_batch() -> None:
    batch = collate(plan_of((3, 0), (2, 1)), POOL, pad_id=0)
    assert batch.groups["token_classification"].target.tolist() == [[-100, 3, -100, -100]]
    assert batch.input_ids.shape == (4, 4)


def test_a_single_row_of_one_token() -> None:
    batch = collate(plan_of((0, 1)), POOL, pad_id=0)
    assert batch.input_ids.tolist() == [[7]]
    assert batch.attention_mask.tolist() == [[True]]
    assert (batch.padding_share, batch.num_tokens, batch.num_examples) == (0.0, 1, 1)


def test_a_row_drawn_twice_is_laid_out_twice() -> None:
    batch = collate(plan_of((0, 0), (0, 0)), POOL, pad_id=0)
    assert batch.input_ids.tolist() == [[5, 6], [5, 6]]
    assert batch.groups["classification"].target.tolist() == [2, 2]


def ragged(*lists: list[int]) -> Ragged:
    lengths = np.array([len(numbers) for numbers in lists])
    return Ragged(lengths, np.array([n for numbers in lists for n in numbers], dtype=np.int32))


def test_unlabelled_and_empty_targets() -> None:
    assert collate_target("multi_label", ragged([], []), 4).shape == (2, 0)
    assert np.isnan(collate_target("regression", np.array([np.nan, 1.0]), 4)[0])
    assert collate_target("span", ragged([0, 3], [2, 2]), 4).tolist() == [[0, 3], [2, 2]]
    assert collate_target("classification", np.array([1, 2], np.int32), 1).dtype == np.int64


def test_every_head_type_has_a_form() -> None:
    for name, head in HEADS.items():
        lists = head.target_form.padding is not None
        targets = ragged([1, 2], [3]) if lists else np.array([1, 2], np.int32)
        assert collate_target(name, targets, 2).dtype == np.dtype(head.target_form.dtype)


def test_a_decoder_says_the_answer_or_the_sequence_itself() -> None:
    # A sequence of three, one of one with an answer of two, one of one with an answer of one.
    batch = collate(plan_of((3, 0), (6, 0), (6, 1)), POOL, pad_id=0)
    assert decoder_text(batch).tolist() == [[11, 12, 13], [40, 41, -100], [42, -100, -100]]
    understood = collate(plan_of((3, 0), (0, 1)), POOL, pad_id=0)
    assert decoder_text(understood).tolist() == [[11, 12, 13], [7, -100, -100]]


def test_a_decoder_reads_as_far_as_the_longest_answer_where_nothing_else_is_read() -> None:
    sources = FakeTask("generation", [[[1, 2, 3, 4]], [[5]]], [[6], [7, 8]])
    plan = MicroBatchPlan(
        tasks=np.zeros(2, np.int32), rows=np.arange(2), lengths=np.array([4, 2], np.uint32)
    )
    assert decoder_text(collate(plan, RowPool([sources]), pad_id=0)).tolist() == [[6, -100], [7, 8]]
    classes = FakeTask("classification", [[[9]]], [0])
    plan = MicroBatchPlan(
        tasks=np.array([0, 0, 1], np.int32),
        rows=np.array([0, 1, 0]),
        lengths=np.array([4, 2, 1], np.uint32),
    )
    mixed = decoder_text(collate(plan, RowPool([sources, classes]), pad_id=0))
    assert mixed.tolist() == [[6, -100, -100, -100], [7, 8, -100, -100], [9, -100, -100, -100]]


def test_an_answer_is_longer_than_any_sequence() -> None:
    short = FakeTask("generation", [[[1]]], [[2, 3, 4]])
    other = FakeTask("classification", [[[9]]], [0])
    plan = MicroBatchPlan(
        tasks=np.array([0, 1], np.int32), rows=np.zeros(2, np.int64), lengths=np.ones(2, np.uint32)
    )
    batch = collate(plan, RowPool([short, other]), pad_id=0)
    assert decoder_text(batch).tolist() == [[2, 3, 4], [9, -100, -100]]


def test_every_planned_micro_batch_can_be_laid_out() -> None:
    sizes = tuple(len(task.lengths) for task in TASKS)
    batcher = Batcher(
        order=Order(seed=0, task_sizes=sizes, quotas=sizes),
        datas=TASKS,
        batching=Batching(tokens_per_micro_batch=8, window_examples=4),
    )
    num_examples = num_tokens = 0
    for step in batcher.steps(stop_after_examples=sum(sizes)):
        for plan in step.micro_batches:
            batch = collate(plan, POOL, pad_id=0)
            width = max(batch.input_ids.shape[1], decoder_text(batch).shape[1])
            assert width == plan.lengths.max()
            assert sorted(batch.groups) == list(batch.groups)
            num_examples += batch.num_examples
            num_tokens += batch.num_tokens
    assert num_examples == 13
    assert num_tokens == 3 + 3 + 9 + 3 + 4 + 3 + 2
