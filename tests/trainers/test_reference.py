"""The gradient of one optimizer step against a reference that shares no code with the trainers.

The reference runs every sequence alone, unpadded, through the library's own forward pass, gives
every head its own map, takes each example's loss from PyTorch, divides it by the log of its
outcomes, adds all up and divides once. It knows nothing of micro-batches, fused maps or masks. With
R3F it runs the clean and the noised sequence apart and takes the divergences from PyTorch's
distributions; only the noise itself is ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from muppet_zoo_torch.batch import TensorBatch, TensorRows, to_tensors
from muppet_zoo_torch.evaluate import pad_id
from muppet_zoo_torch.model import MultiTaskModel
from muppet_zoo_torch.plan import Plan, make_plan
from muppet_zoo_torch.r3f import noise, noise_keys
from muppet_zoo_torch.trainer import make_model
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Distribution, kl_divergence
from torch.nn import functional as F
from transformers.models.t5.modeling_t5 import T5LayerNorm

from muppet_zoo.batches import MicroBatchPlan, StepPlan
from muppet_zoo.collate import collate
from muppet_zoo.heads import HEADS
from muppet_zoo.model_folder import HeadLayout, HeadSlot
from muppet_zoo.order import R3F_NOISE, key
from muppet_zoo.run import Run
from muppet_zoo.shards import BuiltSplit
from muppet_zoo.task_data import Record
from muppet_zoo.trainer_api import TrainRequest, tasks_of
from muppet_zoo.zoo import load_zoo

MakeRun = Callable[..., Run]
CPU = torch.device("cpu")
SEED, STEP = 3, 11  # of the noise


def plan_of(run: Run, specs: Path, out: Path) -> Plan:
    tasks, rates = tasks_of(run, load_zoo([specs]))
    return make_plan(TrainRequest(run=run, tasks=tasks, rates=rates, out=out))


def gradients(model: MultiTaskModel) -> dict[str, Tensor]:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def micro_batched(model: MultiTaskModel, plan: Plan, step: StepPlan, parts: int) -> None:
    """The step as the loop does it: micro-batches, cut into `parts`, summed."""
    for micro_batch in step.micro_batches:
        for part in np.array_split(np.arange(len(micro_batch.rows)), parts):
            if not len(part):
                continue
            piece = MicroBatchPlan(
                tasks=micro_batch.tasks[part],
                rows=micro_batch.rows[part],
                lengths=micro_batch.lengths[part],
            )
            collated = collate(piece, plan.pool, pad_id(model))
            batch = to_tensors(collated, CPU)
            if model.r3f is not None:
                batch = replace(batch, noise_keys=noise_keys(collated, SEED, STEP))
            losses, _ = model(batch)
            (losses.sum() / step.num_examples).backward()


def naive(model: MultiTaskModel, plan: Plan, step: StepPlan) -> None:
    """One backward pass of the whole step, example by example."""
    total = torch.zeros(())
    for micro_batch in step.micro_batches:
        for task, row in zip(micro_batch.tasks.tolist(), micro_batch.rows.tolist(), strict=True):
            total = total + naive_loss(model, plan, task, plan.train[task], row)
    (total / step.num_examples).backward()


def naive_loss(model: MultiTaskModel, plan: Plan, task: int, data: BuiltSplit, row: int) -> Tensor:
    slot, record = plan.layout.slots[task], data.record(row)
    logits = naive_logits(model, plan, task, record, None)
    loss = naive_head_loss(model, slot, logits, record.target)
    if model.r3f is None or slot.head == "regression":
        return loss
    keys = [
        key(SEED, R3F_NOISE, *(np.array([n], dtype=np.uint64) for n in (STEP, task, row, option)))
        for option in range(len(record.sequences))
    ]
    noise_of = [torch.from_numpy(k.view(np.int64)) for k in keys]
    noised = naive_logits(model, plan, task, record, noise_of)
    pairs = zip(
        naive_distributions(slot, logits, record.target),
        naive_distributions(slot, noised, record.target),
        strict=True,
    )
    divergences = [kl_divergence(p, q) + kl_divergence(q, p) for p, q in pairs]
    return loss + model.r3f.weight * torch.stack(divergences).mean()


def naive_logits(
    model: MultiTaskModel, plan: Plan, task: int, record: Record, keys: list[Tensor] | None
) -> Tensor:
    """(options, size) of a sentence head, (tokens, size) of a token head or the output layer."""
    slot = plan.layout.slots[task]
    given = [
        naive_input(model, long(ids)[None], None if keys is None else keys[i])
        for i, ids in enumerate(record.sequences)
    ]
    if slot.head == "generation":
        # The library shifts the labels itself.
        written: Any = model.encoder(**given[0], labels=long(record.target)[None])
        return written.logits[0]  # type: ignore[no-any-return]
    level = model.sentence if slot.level == "sentence" else model.token
    weight = level.weight[slot.start : slot.start + slot.size]
    if model.r3f is not None and model.r3f.spectral_norm:
        weight = weight / torch.linalg.svdvals(weight)[0]
    bias = level.bias[slot.start : slot.start + slot.size]
    states = [
        naive_states(model, long(ids)[None], inputs)
        for ids, inputs in zip(record.sequences, given, strict=True)
    ]
    if slot.level == "sentence":
        pooled = [naive_pooled(model, plan, task, s) for s in states]
        return torch.stack([p @ weight.T + bias for p in pooled])
    return states[0] @ weight.T + bias


def naive_input(model: MultiTaskModel, ids: Tensor, key: Tensor | None) -> dict[str, Tensor]:
    """One sequence as the model reads it: token ids, or their embeddings with noise."""
    if key is None:
        return {"input_ids": ids}
    assert model.r3f is not None
    embedded = model.encoder.get_input_embeddings()(ids)  # type: ignore[operator]
    added = noise(key, embedded.shape[1], embedded.shape[2], model.r3f)
    return {"inputs_embeds": embedded + added}


def naive_head_loss(model: MultiTaskModel, slot: HeadSlot, logits: Tensor, target: Any) -> Tensor:
    if slot.head == "generation":
        labels = long(target)
        loss = F.cross_entropy(logits, labels, label_smoothing=model.label_smoothing)
        return loss / math.log(logits.shape[1])
    if slot.level == "sentence":
        return naive_sentence_loss(slot.head, logits, target, slot.range)
    if slot.head == "span":
        outcomes = len(logits)
        edges = [F.cross_entropy(logits[:, i], torch.tensor(int(target[i]))) for i in (0, 1)]
        return (edges[0] + edges[1]) / 2 / math.log(outcomes)
    tags = torch.from_numpy(np.asarray(target).astype(np.int64))
    return F.cross_entropy(logits, tags, ignore_index=-100) / math.log(slot.size)


def long(ids: Any) -> Tensor:
    return torch.from_numpy(np.asarray(ids).astype(np.int64))


def naive_states(model: MultiTaskModel, ids: Tensor, given: dict[str, Tensor]) -> Tensor:
    """States of one sequence: an encoder's, or those of a decoder that says it again."""
    whole: Any = model.encoder
    if not whole.config.is_encoder_decoder:
        return whole(**given).last_hidden_state[0]  # type: ignore[no-any-return]
    shifted = torch.cat([torch.tensor([[whole.config.decoder_start_token_id]]), ids[:, :-1]], 1)
    found = whole(**given, decoder_input_ids=shifted, output_hidden_states=True)
    return found.decoder_hidden_states[-1][0]  # type: ignore[no-any-return]


def naive_pooled(model: MultiTaskModel, plan: Plan, task: int, states: Tensor) -> Tensor:
    """Every sequence here ends with the end-of-sequence token."""
    pooled = {"first": states[0], "mean": states.mean(0), "end": states[-1]}[model.pooling]
    if model.dense is None:
        return pooled
    hidden, own = len(pooled), 0
    if model.head_dense == "per_task":
        slots = plan.layout.slots
        starts = {slot.start for slot in slots if slot.level == "sentence"}
        own = sorted(starts).index(slots[task].start)
    rows = slice(own * hidden, (own + 1) * hidden)
    return torch.tanh(model.dense.weight[rows] @ pooled + model.dense.bias[rows])


def naive_distributions(slot: HeadSlot, logits: Tensor, target: Any) -> list[Distribution]:
    """What an example's loss is about, by the library's own classes."""
    if slot.head == "multi_label":
        return [Bernoulli(logits=logit) for logit in logits[0]]
    if slot.head == "multiple_choice":
        return [Categorical(logits=logits[:, 0])]
    if slot.head == "span":
        return [Categorical(logits=logits[:, i]) for i in (0, 1)]
    if slot.head == "token_classification":
        scored = np.flatnonzero(np.asarray(target) != -100)
        return [Categorical(logits=logits[i]) for i in scored.tolist()]
    if slot.head == "generation":
        return [Categorical(logits=logit) for logit in logits]
    return [Categorical(logits=logits[0])]


def naive_sentence_loss(
    head: str, logits: Tensor, target: Any, scale: tuple[float, float] | None
) -> Tensor:
    if head == "regression":
        low, high = scale or (0.0, 1.0)
        return (logits[0, 0] - (float(target) - low) / (high - low)) ** 2
    if head == "multiple_choice":
        return F.cross_entropy(logits[:, 0], torch.tensor(int(target))) / math.log(len(logits))
    if head == "multi_label":
        hot = torch.zeros_like(logits[0])
        hot[torch.from_numpy(np.asarray(target).astype(np.int64))] = 1.0
        return F.binary_cross_entropy_with_logits(logits[0], hot) / math.log(2)
    return F.cross_entropy(logits[0], torch.tensor(int(target))) / math.log(logits.shape[1])


REGULARISERS = {
    "none": None,
    # Noise a thousand times the usual, so that the divergence is not nothing.
    "r3f": {"epsilon": 1e-2, "weight": 5.0},
    "normal": {"epsilon": 1e-2, "weight": 5.0, "noise": "normal"},
    "r4f": {"epsilon": 1e-2, "weight": 5.0, "spectral_norm": True},
}


@pytest.mark.parametrize(
    ("pooling", "regulariser"),
    [("first", "none"), ("mean", "none"), ("first", "r3f"), ("mean", "normal"), ("first", "r4f")],
)
@pytest.mark.parametrize("parts", [1, 2, 4])
def test_step_gradient_equals_the_reference(
    make_run: MakeRun,
    mixed_specs: Path,
    tmp_path: Path,
    parts: int,
    pooling: str,
    regulariser: str,
) -> None:
    settings = REGULARISERS[regulariser]
    run = make_run(
        **({} if settings is None else {"r3f": settings}),
        model={"pooling": pooling},
        batching={"tokens_per_micro_batch": 512, "micro_batches_per_step": 6},
    )
    plan = plan_of(run, mixed_specs, tmp_path)
    model = make_model(plan).double().eval()  # no dropout; doubles leave no doubt about 1e-6
    step = next(iter(plan.batcher.steps()))
    heads = {plan.layout.slots[t].head for m in step.micro_batches for t in m.tasks}
    assert heads == set(HEADS) - {"generation"}
    assert_equal_gradients(model, plan, step, parts)


def assert_equal_gradients(
    model: MultiTaskModel, plan: Plan, step: StepPlan, parts: int, tolerance: float = 1e-6
) -> None:
    micro_batched(model, plan, step, parts)
    ours = gradients(model)
    naive(model, plan, step)
    for name, expected in gradients(model).items():
        assert (ours[name] - expected).norm() <= tolerance * max(1e-3, float(expected.norm())), name
        assert torch.isfinite(ours[name]).all()


@pytest.mark.parametrize(
    ("family", "changes", "parts"),
    [
        *(("bart", {}, parts) for parts in (1, 2, 4)),
        ("t5", {}, 2),
        *(pytest.param("t5", {}, parts, marks=pytest.mark.slow) for parts in (1, 4)),
        ("bart", {"pooling": "mean", "head_dense": "per_task"}, 2),
        ("bart", {"r3f": REGULARISERS["r4f"]}, 2),
        pytest.param("t5", {"r3f": REGULARISERS["normal"]}, 2, marks=pytest.mark.slow),
    ],
)
def test_step_gradient_of_an_encoder_decoder_equals_the_reference(
    make_run: MakeRun, seq2seq_folder: Callable[..., Path], mixed_specs: Path, tmp_path: Path,
    family: str, changes: dict[str, Any], parts: int, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    # T5 rounds to single precision here, which is all that would be seen at 1e-6.
    monkeypatch.setattr(T5LayerNorm, "forward", exact_t5_norm)
    model_settings = {"encoder": str(seq2seq_folder(family)), **changes}
    r3f = {"r3f": model_settings.pop("r3f")} if "r3f" in changes else {}
    run = make_run(
        **r3f,
        mixture="all_heads",
        model=model_settings,
        batching={"tokens_per_micro_batch": 512, "micro_batches_per_step": 4},
    )
    plan = plan_of(run, mixed_specs, tmp_path)
    model = make_model(plan).double().eval()
    step = next(iter(plan.batcher.steps()))
    assert {plan.layout.slots[t].head for m in step.micro_batches for t in m.tasks} == set(HEADS)
    assert model.pooling == changes.get("pooling", "end")
    assert_equal_gradients(model, plan, step, parts)


def exact_t5_norm(self: T5LayerNorm, states: Tensor) -> Tensor:
    mean_square = states.pow(2).mean(-1, keepdim=True)
    return self.weight * states * torch.rsqrt(mean_square + self.variance_epsilon)


@pytest.mark.parametrize("head_dense", ["shared", "per_task"])
def test_step_gradient_with_dense_layers_equals_the_reference(
    make_run: MakeRun, mixed_specs: Path, tmp_path: Path, head_dense: str
) -> None:
    plan = plan_of(make_run(model={"head_dense": head_dense}), mixed_specs, tmp_path)
    model = make_model(plan).double().eval()
    assert_equal_gradients(model, plan, next(iter(plan.batcher.steps())), parts=2)


def test_every_micro_batch_touches_the_same_parameters(
    make_run: MakeRun, seq2seq_folder: Callable[..., Path], mixed_specs: Path, tmp_path: Path
) -> None:
    """Also where nothing is generated, and where nothing else is."""
    encoder = untied(seq2seq_folder("t5"))
    model_settings = {"encoder": str(encoder), "head_dense": "per_task", "random_init": False}
    plan = plan_of(make_run(mixture="all_heads", model=model_settings), mixed_specs, tmp_path)
    model = make_model(plan)
    assert "encoder.lm_head.weight" in dict(model.named_parameters())
    orders = []
    for task, slot in enumerate(plan.layout.slots):
        rows = np.arange(2)
        part = MicroBatchPlan(
            tasks=np.full(2, task, np.int32), rows=rows, lengths=plan.train[task].lengths[rows]
        )
        order: list[str] = []
        handles = [
            parameter.register_post_accumulate_grad_hook(lambda _, n=name, o=order: o.append(n))
            for name, parameter in model.named_parameters()
        ]
        losses, _ = model(to_tensors(collate(part, plan.pool, pad_id(model)), CPU))
        losses.sum().backward()
        for handle in handles:
            handle.remove()
        assert len(order) == len(list(model.parameters())), slot.head
        orders.append(order)
    assert all(order == orders[0] for order in orders)


def untied(folder: Path) -> Path:
    """The model of a configuration, saved with an output layer of its own, as T5 1.1 has it."""
    from transformers import AutoConfig, AutoModelForSeq2SeqLM

    whole = AutoModelForSeq2SeqLM.from_config(AutoConfig.from_pretrained(folder))
    whole.config.tie_word_embeddings = False
    whole.lm_head.weight = torch.nn.Parameter(torch.randn_like(whole.lm_head.weight))
    whole.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("is_tied", [True, False])
def test_an_output_layer_that_nothing_uses_is_left_alone(
    make_run: MakeRun, seq2seq_folder: Callable[..., Path], mixed_specs: Path, tmp_path: Path,
    is_tied: bool,
) -> None:  # fmt: skip
    folder = seq2seq_folder("t5")
    model_settings = {"encoder": str(folder if is_tied else untied(folder)), "random_init": is_tied}
    model = make_model(plan_of(make_run(model=model_settings), mixed_specs, tmp_path))
    weight = model.encoder.get_output_embeddings().weight  # type: ignore[operator]
    assert weight.requires_grad is is_tied


def sentence_batch(texts: list[list[int]], tasks: list[int]) -> TensorBatch:
    """Sequences of one classification group each, padded with 1."""
    lengths = torch.tensor([len(ids) for ids in texts])
    mask = torch.arange(int(lengths.max())) < lengths[:, None]
    ids = torch.ones(mask.shape, dtype=torch.long)
    ids[mask] = torch.tensor([token for text in texts for token in text])
    rows = TensorRows(
        tasks=torch.tensor(tasks),
        sequences=torch.arange(len(texts))[:, None],
        target=torch.zeros(len(texts), dtype=torch.long),
    )
    return TensorBatch(
        input_ids=ids,
        attention_mask=mask,
        segments=torch.zeros_like(ids),
        decoder_text=ids.masked_fill(~mask, -100),
        groups={"classification": rows},
    )


@pytest.mark.parametrize("library_class", ["BartForSequenceClassification",
                                           "T5ForSequenceClassification"])  # fmt: skip
def test_classification_equals_the_librarys(
    seq2seq_folder: Callable[..., Path], library_class: str
) -> None:
    import transformers

    family = library_class.partition("For")[0].lower()
    config = transformers.AutoConfig.from_pretrained(seq2seq_folder(family), num_labels=3)
    config.classifier_dropout = config.classifier_dropout or 0.0
    torch.manual_seed(0)
    theirs = getattr(transformers, library_class)(config).eval()
    ours_of = transformers.AutoModelForSeq2SeqLM.from_config(config).eval()
    name = "model" if family == "bart" else "transformer"
    weights = {k.removeprefix(f"{name}."): v for k, v in theirs.state_dict().items()}
    ours_of.base_model.load_state_dict(weights, strict=False)
    if family == "t5":
        ours_of.tie_weights()
    slot = HeadSlot(task="t", head="classification", level="sentence", start=0, size=3)
    layout = HeadLayout(slots=(slot,), num_sentence_columns=3, num_token_columns=0)
    model = MultiTaskModel(ours_of, layout, pooling="end", dropout=0.0, head_dense="shared").eval()
    assert model.dense is not None
    model.dense.load_state_dict(theirs.classification_head.dense.state_dict())
    model.sentence.load_state_dict(theirs.classification_head.out_proj.state_dict())
    # A pair of sentences has an end-of-sequence token inside too.
    texts = [[0, 7, 2, 2, 9, 8, 11, 2], [0, 5, 6, 2, 2, 12, 2], [0, 3, 2, 2, 4, 2]]
    with torch.no_grad():
        found = model._logits(sentence_batch(texts, [0, 0, 0]))["sentence"]
        for text, logits in zip(texts, found, strict=True):
            expected = theirs(input_ids=torch.tensor([text])).logits[0]
            assert torch.allclose(logits, expected, atol=1e-5), (logits, expected)
    assert found.std(0).max() > 1e-3, "equal to all is equal to anything"


def test_uniform_predictions_cost_one(make_run: MakeRun, mixed_specs: Path, tmp_path: Path) -> None:
    """What loss scaling is for: at the start no task weighs more than another."""
    plan = plan_of(make_run(), mixed_specs, tmp_path)
    model = make_model(plan).eval()
    for linear in (model.sentence, model.token):
        torch.nn.init.zeros_(linear.weight)
    seen: dict[str, float] = {}
    for _, step in zip(range(6), plan.batcher.steps(), strict=False):
        for micro_batch in step.micro_batches:
            batch = to_tensors(collate(micro_batch, plan.pool, pad_id(model)), CPU)
            losses, tasks = model(batch)
            for loss, task in zip(losses.tolist(), tasks.tolist(), strict=True):
                seen[plan.layout.slots[task].head] = loss
                if plan.layout.slots[task].head != "regression":
                    assert loss == pytest.approx(1.0, abs=1e-5)
    assert len(seen) == 6
