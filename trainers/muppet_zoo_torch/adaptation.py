"""What of a pre-trained model is trained: all of it, all but its lowest layers, or adapters.

Adapters are put into the model in place, so that everything else finds its modules where they were;
what is saved has them merged, so that it loads without `peft`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from muppet_zoo.errors import MissingExtraError, UsageError
from muppet_zoo.model_folder import Freeze, Lora
from muppet_zoo_torch.backbone import layers_of

_ADAPTER = "default"  # peft's name for the only adapter of a model


def adapt(encoder: Any, *, freeze: Freeze, lora: Lora | None, checkpointing: bool) -> None:
    """Freeze parts of the model, put adapters in, and switch gradient checkpointing on.

    Raises:
        UsageError: the model has fewer layers, no such modules, or cannot be checkpointed.
        MissingExtraError: adapters are asked for and `peft` is not installed.
    """
    if lora is not None:
        _add_adapters(encoder, lora)
    # After the adapters: those in a frozen layer are frozen with it.
    _freeze(encoder, freeze)
    if checkpointing:
        # The method's old name is the only one before transformers 5.
        enable = getattr(encoder, "activation_checkpointing_enable", None)
        try:
            # The re-entrant kind needs an input with a gradient, and token ids have none.
            (enable or encoder.gradient_checkpointing_enable)({"use_reentrant": False})
        except ValueError as error:
            raise UsageError(
                f"model.gradient_checkpointing: {encoder.config.model_type} does not support it"
            ) from error


def _freeze(encoder: Any, freeze: Freeze) -> None:
    layers = layers_of(encoder)
    if freeze.layers > len(layers):
        raise UsageError(
            f"model.freeze.layers is {freeze.layers}; the encoder ({encoder.config.model_type}) "
            f"has {len(layers)} layers"
        )
    for layer in layers[: freeze.layers]:
        layer.requires_grad_(False)
    if freeze.embeddings:
        for parameter in _embeddings(encoder):
            parameter.requires_grad_(False)


def _embeddings(encoder: nn.Module) -> list[nn.Parameter]:
    """Tables of tokens, positions and segments, and their norm: all that no layer holds.

    An output layer that is tied to the token table is that table.
    """
    inside = {
        id(parameter)
        for stack in encoder.modules()
        if isinstance(stack, nn.ModuleList)
        for parameter in stack.parameters()
    }
    return [
        parameter
        for name, parameter in encoder.named_parameters()
        if id(parameter) not in inside and any(word in name for word in ("embed", "shared"))
    ]


def _add_adapters(encoder: nn.Module, lora: Lora) -> None:
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ModuleNotFoundError as error:
        raise MissingExtraError("peft", "lora") from error
    wanted = "all-linear" if lora.target_modules is None else list(lora.target_modules)
    config = LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=wanted
    )
    names = {
        name.rpartition(".")[2]: type(module).__name__
        for name, module in encoder.named_modules()
        if isinstance(module, nn.Linear)
    }
    odd = sorted(set(lora.target_modules or ()) - names.keys())
    if odd:
        raise UsageError(
            f"model.lora.target_modules: the encoder has no linear module {', '.join(odd)}; it has "
            f"{', '.join(sorted(names))}"
        )
    inject_adapter_in_model(config, encoder, adapter_name=_ADAPTER)


def merged(state: Mapping[str, Tensor], lora: Lora | None) -> dict[str, Tensor]:
    """A model's parameters by name with the adapters added to the weights they adapt.

    Source: Hu et al. 2021, "LoRA", equation 3: W + alpha / rank * B A.
    """
    if lora is None:
        return dict(state)
    whole = {}
    for name, value in state.items():
        if ".lora_" in name:
            continue
        module, inner, leaf = name.rpartition(".base_layer.")
        if inner and leaf == "weight":
            low = state[f"{module}.lora_A.{_ADAPTER}.weight"]
            high = state[f"{module}.lora_B.{_ADAPTER}.weight"]
            value = value + (lora.alpha / lora.rank) * (high @ low)
        whole[f"{module}.{leaf}" if inner else name] = value
    return whole
