"""One task's head in the shape of a class of transformers, exactly or not at all.

Our heads are one linear map on a token's state, with a dense layer and tanh before it where the run
asks for one. Most classes for sentences have such a layer too, each with an activation of its own:

    tanh            equal to ours with the dense layer; without it there is no exact way
    gelu, relu      without the dense layer each output is f(z) - f(-z), which is z for both; that
                    takes two of the layer's units an output. tanh itself cannot be made of them
    by the config   set to tanh, or to none with the identity as the layer

Classes for tags and spans read the state itself, as ours do. Nothing here is approximated, and
`hf_export` compares the two models before anything is kept. Sources: the modeling files of
transformers 5.23; gelu(z) = z * Phi(z) and Phi(z) + Phi(-z) = 1.

Shapes: H hidden, K outputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from muppet_zoo.errors import UsageError
from muppet_zoo.model_folder import HeadSlot
from muppet_zoo.targets import SENTENCE
from muppet_zoo_torch.model import MultiTaskModel

# What loads the exported model of a task, by its head type.
CLASSES = {
    "classification": "AutoModelForSequenceClassification",
    "multi_label": "AutoModelForSequenceClassification",
    "regression": "AutoModelForSequenceClassification",
    "multiple_choice": "AutoModelForMultipleChoice",
    "token_classification": "AutoModelForTokenClassification",
    "span": "AutoModelForQuestionAnswering",
    "generation": "AutoModelForSeq2SeqLM",
}


@dataclass(frozen=True, kw_only=True)
class DenseLayer:
    """The layer before the output of a class for sentences, by the paths of its modules.

    activation_key: where the config names the activation, which can then be any.
    settings: what the config must say besides.
    """

    dense: str
    output: str = "classifier"
    activation: str = "tanh"
    activation_key: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class HeadWeights:
    """weight (K, H) and bias (K,) of the output; dense (H, H) and dense_bias (H,), or neither."""

    weight: Tensor
    bias: Tensor
    dense: Tensor | None = None
    dense_bias: Tensor | None = None


def head_weights(model: MultiTaskModel, slot: HeadSlot) -> HeadWeights:
    """The parameters that answer one task. A regression's are scaled to the spec's own range."""
    linear = model.sentence if slot.level == SENTENCE else model.token
    own = slice(slot.start, slot.start + slot.size)
    weight, bias = linear.weight.detach()[own].clone(), linear.bias.detach()[own].clone()
    if slot.range is not None:
        low, high = slot.range
        weight, bias = weight * (high - low), bias * (high - low) + low
    if model.dense is None or slot.level != SENTENCE:
        return HeadWeights(weight=weight, bias=bias)
    per_task = model.head_dense == "per_task"
    at = model.layout.sentence_starts.index(slot.start) if per_task else 0
    hidden = weight.shape[1]
    rows = slice(at * hidden, (at + 1) * hidden)
    return HeadWeights(
        weight=weight,
        bias=bias,
        dense=model.dense.weight.detach()[rows].clone(),
        dense_bias=model.dense.bias.detach()[rows].clone(),
    )


def prepare_config(config: Any, layer: DenseLayer, ours: HeadWeights) -> None:
    """Write into a copy of the encoder's config what the class has to know of the dense layer."""
    for key, value in layer.settings.items():
        setattr(config, key, value)
    if layer.activation_key is not None:
        setattr(config, layer.activation_key, "linear" if ours.dense is None else "tanh")


def write_dense(target: Any, layer: DenseLayer, ours: HeadWeights, name: str) -> None:
    """Write a sentence head into `target`, a model of transformers.

    Raises:
        UsageError: its class cannot compute the same; says which setting of a run would.
    """
    dense, output = target.get_submodule(layer.dense), target.get_submodule(layer.output)
    hidden, num_outputs = dense.weight.shape[0], ours.weight.shape[0]
    if layer.activation_key is not None or (ours.dense is not None and layer.activation == "tanh"):
        identity = torch.eye(hidden), torch.zeros(hidden)
        given = identity if ours.dense is None else (ours.dense, ours.dense_bias)
        _fill(dense, *given)
        _fill(output, ours.weight, ours.bias)
        return
    if layer.activation == "tanh":
        raise UsageError(
            f"{name} has a dense layer with tanh before its output, and this model's heads have "
            f"none; one trained with model.head_dense: shared (or per_task) can be exported"
        )
    if ours.dense is not None:
        raise UsageError(
            f"{name} has a dense layer with {layer.activation} before its output, and this "
            f"model's has tanh; one trained with model.head_dense: none can be exported"
        )
    if 2 * num_outputs > hidden:
        raise UsageError(
            f"{name} needs two units of its dense layer for each output, for {num_outputs} outputs "
            f"{2 * num_outputs}; the encoder has {hidden}"
        )
    _fill(dense, torch.cat([ours.weight, -ours.weight]), torch.cat([ours.bias, -ours.bias]))
    unit = torch.eye(num_outputs)
    _fill(output, torch.cat([unit, -unit], dim=1), torch.zeros(num_outputs))


def write_output(target: Any, ours: HeadWeights) -> None:
    """Write a head of tags or spans into the output layer of `target`."""
    _fill(target.get_submodule(output_of_tokens(target)), ours.weight, ours.bias)


def output_of_tokens(target: Any) -> str:
    """Path of the layer that gives the scores of tags, or of starts and ends."""
    return "qa_outputs" if hasattr(target, "qa_outputs") else "classifier"


def _fill(linear: Any, weight: Tensor, bias: Tensor | None) -> None:
    """Copy into a layer that may be larger; the rest of it becomes zero."""
    rows, columns = weight.shape
    with torch.no_grad():
        linear.weight.zero_()
        linear.weight[:rows, :columns].copy_(weight)
        linear.bias.zero_()
        if bias is not None:
            linear.bias[:rows].copy_(bias)


_ROBERTA = DenseLayer(dense="classifier.dense", output="classifier.out_proj")
_DEBERTA = DenseLayer(dense="pooler.dense", activation_key="pooler_hidden_act")
_DISTILBERT = DenseLayer(dense="pre_classifier", activation="relu")
_SEQ2SEQ = DenseLayer(dense="classification_head.dense", output="classification_head.out_proj")

# By model type of the config.
CLASSIFIERS: dict[str, DenseLayer] = {
    "albert": DenseLayer(dense="albert.pooler"),
    "bart": _SEQ2SEQ,
    "bert": DenseLayer(dense="bert.pooler.dense"),
    "camembert": _ROBERTA,
    "deberta": _DEBERTA,
    "deberta-v2": _DEBERTA,
    "distilbert": _DISTILBERT,
    "electra": DenseLayer(
        dense="classifier.dense", output="classifier.out_proj", activation="gelu"
    ),
    "mbart": _SEQ2SEQ,
    "mpnet": _ROBERTA,
    "mt5": _SEQ2SEQ,
    "roberta": _ROBERTA,
    "t5": _SEQ2SEQ,
    "umt5": _SEQ2SEQ,
    "xlm-roberta": _ROBERTA,
}
CHOOSERS: dict[str, DenseLayer] = {
    "albert": DenseLayer(dense="albert.pooler"),
    "bert": DenseLayer(dense="bert.pooler.dense"),
    "camembert": DenseLayer(dense="roberta.pooler.dense"),
    "deberta-v2": _DEBERTA,
    "distilbert": _DISTILBERT,
    "electra": DenseLayer(
        dense="sequence_summary.summary",
        activation_key="summary_activation",
        settings={
            "summary_type": "first", "summary_use_proj": True, "summary_proj_to_labels": False
        },
    ),
    "mpnet": DenseLayer(dense="mpnet.pooler.dense"),
    "roberta": DenseLayer(dense="roberta.pooler.dense"),
    "xlm-roberta": DenseLayer(dense="roberta.pooler.dense"),
}  # fmt: skip
