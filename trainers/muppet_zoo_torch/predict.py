"""Rows → answers: what evaluation would predict, with scores, and no labels needed.

Rows are taken in chunks: one is sorted by length and answered in micro-batches, its answers put
back into the order of the rows, and written before the next is read. So memory does not grow with
the file, and a pipe sees answers while it still writes, with chunks of one row after each.

Shapes: N examples of a micro-batch, K options or labels, S columns of the sentence map.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from muppet_zoo.batches import MicroBatchPlan, eval_plans
from muppet_zoo.collate import collate
from muppet_zoo.encode import ExampleEncoder, TokenizerSource, open_tokenizer
from muppet_zoo.errors import SourceError
from muppet_zoo.examples import Example
from muppet_zoo.model_folder import (
    ENCODER_FOLDER,
    HeadSlot,
    ModelFolder,
    find_model,
    with_slots_for,
)
from muppet_zoo.prediction_rows import examples_to_answer, input_operations
from muppet_zoo.row_pool import RowPool
from muppet_zoo.rows import Row, RowProblem
from muppet_zoo.shards import Records
from muppet_zoo.spec import TaskSpec
from muppet_zoo.targets import IGNORED
from muppet_zoo.trainer_api import PredictRequest
from muppet_zoo_torch.batch import to_tensors
from muppet_zoo_torch.checks import max_tokens
from muppet_zoo_torch.decode import ScoredTask, WindowAnswer
from muppet_zoo_torch.evaluate import default_device, pad_id
from muppet_zoo_torch.export import load_model
from muppet_zoo_torch.heads import HEAD_MATH, HeadInput
from muppet_zoo_torch.model import MultiTaskModel

USUAL_MAX_TOKENS = 512


@dataclass(frozen=True, kw_only=True)
class Answerer:
    """A model, one of its tasks, and the encoder of that task's examples.

    index: of the task among the model's slots.
    """

    model: MultiTaskModel
    device: torch.device
    spec: TaskSpec
    index: int
    encoder: ExampleEncoder
    tokenizer: TokenizerSource
    tokens_per_micro_batch: int

    def answers(self, examples: Sequence[Example]) -> list[dict[str, Any]]:
        """A record for each example, in order."""
        if not examples:
            return []
        chunk = self.encoder.encode_examples(examples)
        records = Records(self.spec.head.type, chunk.batch, chunk.num_examples)
        slot = self.model.layout.slots[self.index]
        task = ScoredTask(split=records, slot=slot, tokenizer=self.tokenizer.load())
        found: dict[int, Any] = {}
        pool = RowPool([records], tasks=[self.index])
        for plan in eval_plans(records, self.tokens_per_micro_batch, task=self.index):
            found.update(self._of_micro_batch(plan, pool, task))
        starts = records.example_starts
        answer = _ANSWERS[slot.head].of_example
        return [
            answer([found[at] for at in range(*starts[i : i + 2])], example, slot)
            for i, example in enumerate(examples)
        ]

    def _of_micro_batch(
        self, plan: MicroBatchPlan, pool: RowPool, task: ScoredTask
    ) -> dict[int, Any]:
        batch = collate(plan, pool, pad_id(self.model))
        tensors = to_tensors(batch, self.device)
        head = task.slot.head
        rows = batch.groups[head].rows
        math = HEAD_MATH[head]
        if math.predict is None:
            texts = math.decoder.predictions(self.model(tensors, predict=True)[head], rows, task)
            return {row: (text, None) for row, text in zip(rows.tolist(), texts, strict=True)}
        x = self.model.head_inputs(tensors)[head]
        predicted = math.decoder.predictions(math.predict(x), rows, task)
        scores = _ANSWERS[head].scores(x, task.slot)
        return dict(zip(rows.tolist(), zip(predicted, scores, strict=True), strict=True))


def open_answerer(
    folder: ModelFolder,
    spec: TaskSpec,
    *,
    most_tokens: int | None = None,
    tokens_per_micro_batch: int = 8192,
) -> Answerer:
    """Load a model to answer one task.

    Raises:
        UnknownNameError: the model has no head for it.
        CheckpointError: the model is damaged, or was trained with another spec.
    """
    folder = replace(folder, layout=with_slots_for(folder, [spec]))
    model = load_model(folder, default_device())
    tokenizer = open_tokenizer(str(folder.path / ENCODER_FOLDER))
    limit = min(USUAL_MAX_TOKENS, max_tokens(model.encoder) or USUAL_MAX_TOKENS)
    return Answerer(
        model=model,
        device=default_device(),
        spec=spec,
        index=[slot.task for slot in folder.layout.slots].index(spec.name),
        encoder=ExampleEncoder(spec, tokenizer, min(most_tokens or limit, limit)),
        tokenizer=tokenizer,
        tokens_per_micro_batch=tokens_per_micro_batch,
    )


def predict(request: PredictRequest) -> Iterator[dict[str, Any]]:
    """See `trainer_api.ModelUser.predict`.

    Raises:
        SourceError: a row is bad, and bad rows are not to be skipped; answers to those before it
            have been given.
    """
    answerer = open_answerer(
        find_model(request.checkpoint),
        request.task,
        most_tokens=request.max_tokens,
        tokens_per_micro_batch=request.tokens_per_micro_batch,
    )
    examples = _examples(request, iter(request.rows))
    with torch.no_grad():
        while chunk := list(islice(examples, request.rows_at_a_time)):
            made_examples = [e for _, made in chunk if isinstance(made, list) for e in made]
            answers = iter(answerer.answers(made_examples))
            for number, made in chunk:
                if isinstance(made, list):
                    yield from ({"row": number, **next(answers)} for _ in made)
                elif request.skip_bad_rows:
                    yield {"row": number, "error": str(made)}
                else:
                    raise SourceError(f"row {number}: {made}. Mend it, or give --on-bad-row skip")


def _examples(
    request: PredictRequest, rows: Iterator[tuple[int, Row]]
) -> Iterator[tuple[int, list[Example] | RowProblem]]:
    operations = input_operations(request.task)
    for number, row in rows:
        try:
            yield number, examples_to_answer(request.task, operations, number, row)
        except RowProblem as problem:
            yield number, problem


# --- by head type ----------------------------------------------------------------------------

Record = tuple[Any, Any]  # what the metric compares, and the scores behind it


def _label_chances(x: HeadInput, slot: HeadSlot) -> list[Any]:
    return _own_logits(x, slot).softmax(-1).tolist()


def _label_chances_apart(x: HeadInput, slot: HeadSlot) -> list[Any]:
    return _own_logits(x, slot).sigmoid().tolist()


def _option_chances(x: HeadInput, slot: HeadSlot) -> list[Any]:
    scores = x.logits[..., slot.start].masked_fill(~x.mask, -torch.inf).softmax(-1)
    return [
        row[:count] for row, count in zip(scores.tolist(), x.mask.sum(-1).tolist(), strict=True)
    ]


def _tag_chances(x: HeadInput, slot: HeadSlot) -> list[Any]:
    """(word, chance of its likeliest tag) for each word that has a token."""
    chances = x.logits[..., slot.start : slot.start + slot.size].softmax(-1).amax(-1).tolist()
    words = x.rows.target.tolist()
    return [
        [(word, chance) for word, chance in zip(*row, strict=True) if word != IGNORED]
        for row in zip(words, chances, strict=True)
    ]


def _none(x: HeadInput, slot: HeadSlot) -> list[Any]:
    return [None] * len(x.rows.tasks)


def _own_logits(x: HeadInput, slot: HeadSlot) -> Tensor:
    """(N, K)"""
    return x.logits[:, 0, slot.start : slot.start + slot.size]


def _label(records: Sequence[Record], example: Example, slot: HeadSlot) -> dict[str, Any]:
    [(label, chances)] = records
    scores = dict(zip(slot.labels, chances, strict=True))
    return {"label": slot.labels[label], "scores": scores}


def _labels(records: Sequence[Record], example: Example, slot: HeadSlot) -> dict[str, Any]:
    [(labels, chances)] = records
    scores = dict(zip(slot.labels, chances, strict=True))
    return {"labels": [slot.labels[label] for label in labels], "scores": scores}


def _value(records: Sequence[Record], example: Example, slot: HeadSlot) -> dict[str, Any]:
    return {"value": records[0][0]}


def _choice(records: Sequence[Record], example: Example, slot: HeadSlot) -> dict[str, Any]:
    [(choice, chances)] = records
    return {"choice": choice, "text": example.segments.sequences[choice][1], "scores": chances}


def _tags(records: Sequence[Record], example: Example, slot: HeadSlot) -> dict[str, Any]:
    """One tag a word; None where it was cut off, or is nothing to the tokenizer."""
    [(tags, found)] = records
    chances: list[float | None] = [None] * len(tags)
    for word, chance in found:
        chances[word] = chance
    return {"tags": tags, "scores": chances}


def _span(records: Sequence[Record], example: Example, slot: HeadSlot) -> dict[str, Any]:
    """The score is the sum of two logits; of no answer the lowest of all windows."""
    windows: list[WindowAnswer] = [window for window, _ in records]
    best = max(window.score for window in windows)
    text = HEAD_MATH[slot.head].decoder.of_example(windows, slot)
    answer: dict[str, Any] = {"answer": text, "score": best if np.isfinite(best) else None}
    if slot.no_answer:
        answer["no_answer_score"] = min(window.empty_score for window in windows)
    return answer


def _text(records: Sequence[Record], example: Example, slot: HeadSlot) -> dict[str, Any]:
    return {"text": records[0][0]}


@dataclass(frozen=True, kw_only=True)
class Answer:
    """scores: of each of N records. of_example: the record that is written, from an example's."""

    of_example: Callable[[Sequence[Record], Example, HeadSlot], dict[str, Any]]
    scores: Callable[[HeadInput, HeadSlot], Iterable[Any]] = _none


_ANSWERS: dict[str, Answer] = {
    "classification": Answer(of_example=_label, scores=_label_chances),
    "generation": Answer(of_example=_text),
    "multi_label": Answer(of_example=_labels, scores=_label_chances_apart),
    "multiple_choice": Answer(of_example=_choice, scores=_option_chances),
    "regression": Answer(of_example=_value),
    "span": Answer(of_example=_span),
    "token_classification": Answer(of_example=_tags, scores=_tag_chances),
}
