"""A trained model → a folder that transformers alone can use, whole or not at all.

Without a task it is the encoder, which lies ready. With one it is a model of the class that
transformers has for it, with the task's labels. Before the folder takes its name, the model is
loaded from it by transformers and must give the logits of ours on a few texts, tokenizer included:
a family whose class computes something else is refused, and not merely suspected.
"""

from __future__ import annotations

import copy
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from muppet_zoo.batches import MicroBatchPlan
from muppet_zoo.collate import collate
from muppet_zoo.encode import ExampleEncoder, open_tokenizer
from muppet_zoo.errors import UsageError
from muppet_zoo.examples import Example
from muppet_zoo.formats import Segments
from muppet_zoo.heads import Regression
from muppet_zoo.model_folder import (
    ENCODER_FOLDER,
    HeadSlot,
    ModelFolder,
    find_model,
    with_slots_for,
)
from muppet_zoo.row_pool import RowPool
from muppet_zoo.shards import Records
from muppet_zoo.spec import TaskSpec
from muppet_zoo.targets import SENTENCE
from muppet_zoo.trainer_api import ExportRequest
from muppet_zoo_torch.batch import to_tensors
from muppet_zoo_torch.checks import max_tokens
from muppet_zoo_torch.evaluate import pad_id
from muppet_zoo_torch.export import load_model
from muppet_zoo_torch.hf_heads import (
    CHOOSERS,
    CLASSES,
    CLASSIFIERS,
    DenseLayer,
    head_weights,
    output_of_tokens,
    prepare_config,
    write_dense,
    write_output,
)
from muppet_zoo_torch.model import MultiTaskModel
from muppet_zoo_torch.model_card import write_card
from muppet_zoo_torch.pretrained import first_line, is_encoder_decoder, quiet_transformers

_PROBLEM_TYPES = {
    "classification": "single_label_classification",
    "multi_label": "multi_label_classification",
    "regression": "regression",
}
TOLERANCE = 1e-5  # of the largest logit; single precision gives about 1e-6
_OTHERWISE = (
    "Without --task the encoder can be exported, and `muppet-zoo predict` answers the task as it is"
)


def export(request: ExportRequest) -> Path:
    """Write the folder aside, check it, and give it its name.

    Raises:
        UsageError: there is such a folder already, or transformers has no class that computes
            what this model does for the task.
        UnknownNameError: the model has no head for the task.
        CheckpointError: the model is damaged.
    """
    folder, out = find_model(request.checkpoint), request.out
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is there already and not empty; choose another --out")
    temporary = out.with_name(f".{out.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        if request.task is None:
            shutil.copytree(folder.path / ENCODER_FOLDER, temporary)
        else:
            _export_task(folder, request.task, temporary)
        write_card(folder, temporary, request)
        temporary.replace(out)
    except OSError as error:
        raise UsageError(f"--out {out} cannot be written: {first_line(error)}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return out


def _export_task(folder: ModelFolder, spec: TaskSpec, out: Path) -> None:
    folder = replace(folder, layout=with_slots_for(folder, [spec]))
    model = load_model(folder, torch.device("cpu"))
    slot = next(slot for slot in folder.layout.slots if slot.task == spec.name)
    if slot.head == "generation":
        _save_generator(model, slot, out)
    else:
        with quiet_transformers():
            _convert(model, slot, spec).save_pretrained(out)
    _save_tokenizer(folder.path / ENCODER_FOLDER, out, model)
    if slot.head != "generation":
        _check_equal(model, spec, out)


def _save_generator(model: MultiTaskModel, slot: HeadSlot, out: Path) -> None:
    """The encoder-decoder as it is, with the search that scored it as its default."""
    encoder: Any = model.encoder
    settings = encoder.generation_config
    settings.num_beams = model.beam_search.num_beams
    settings.length_penalty = model.beam_search.length_penalty
    settings.max_new_tokens = slot.max_target_tokens
    with quiet_transformers():
        encoder.save_pretrained(out)


def _convert(model: MultiTaskModel, slot: HeadSlot, spec: TaskSpec) -> Any:
    """A model of transformers with the encoder's parameters and those of the task's head."""
    import transformers

    encoder: Any = model.encoder
    config = copy.deepcopy(encoder.config)
    auto_class = CLASSES[slot.head]
    known = getattr(transformers, auto_class)._model_mapping
    if type(config) not in known:
        raise UsageError(
            f"transformers has no {auto_class} for {config.model_type}, so the task {spec.name} "
            f"cannot be exported. {_OTHERWISE}"
        )
    name = known[type(config)].__name__
    _set_labels(config, slot, spec)
    ours = head_weights(model, slot)
    layer = _dense_layer(model, slot, name) if slot.level == SENTENCE else None
    if layer is not None:
        prepare_config(config, layer, ours)
    target = known[type(config)](config).eval()
    left = _copy_encoder(encoder, target)
    written = {layer.dense, layer.output} if layer is not None else {output_of_tokens(target)}
    try:
        _refuse_further_layers(left, written, name)
        if layer is not None:
            write_dense(target, layer, ours, name)
        else:
            write_output(target, ours)
    except UsageError as error:
        raise UsageError(f"the task {spec.name} cannot be exported: {error}. {_OTHERWISE}") from (
            error
        )
    return target


def _set_labels(config: Any, slot: HeadSlot, spec: TaskSpec) -> None:
    labels = slot.labels
    if isinstance(spec.head, Regression):
        labels = (spec.head.target,)
    if slot.head == "span":
        config.num_labels = 2  # a start and an end
    if labels:
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: i for i, label in enumerate(labels)}
    config.problem_type = _PROBLEM_TYPES.get(slot.head)


def _dense_layer(model: MultiTaskModel, slot: HeadSlot, name: str) -> DenseLayer:
    encoder: Any = model.encoder
    layers = CHOOSERS if slot.head == "multiple_choice" else CLASSIFIERS
    layer = layers.get(encoder.config.model_type)
    if layer is None:
        raise UsageError(
            f"the task {slot.task} cannot be exported: what {name} has before its output is no "
            f"single dense layer, so no setting of a run makes a head that equals it; families "
            f"that can: {', '.join(layers)}. {_OTHERWISE}"
        )
    usual = "end" if is_encoder_decoder(encoder.config) else "first"
    if model.pooling != usual:
        where = "the first token's state" if usual == "first" else "the last end-of-sequence token"
        dense = layer.activation_key is None and layer.activation == "tanh"
        also = " and model.head_dense: shared" if dense and model.dense is None else ""
        raise UsageError(
            f"the task {slot.task} cannot be exported: {name} reads {where}, this model was "
            f"trained with model.pooling: {model.pooling}; one trained with model.pooling: "
            f"{usual}{also} can be. {_OTHERWISE}"
        )
    return layer


def _copy_encoder(encoder: Any, target: Any) -> set[str]:
    """Copy the encoder's parameters; returns the target's that they do not give."""
    given = encoder.base_model.state_dict()
    target.base_model.load_state_dict(given, strict=False)
    prefix = "" if target.base_model is target else f"{target.base_model_prefix}."
    return {name for name, _ in target.named_parameters()} - {prefix + name for name in given}


def _refuse_further_layers(left: set[str], written: set[str], name: str) -> None:
    """Refuse a class with parameters that nothing was copied into: they would stay random."""
    layers = sorted({path.rpartition(".")[0] for path in left} - written)
    if layers:
        raise UsageError(
            f"{name} has further layers before its output ({', '.join(layers)}), which no setting "
            f"of a run gives a head"
        )


def _save_tokenizer(encoder: Path, out: Path, model: MultiTaskModel) -> None:
    """The tokenizer's files as they are, but for what the model reads and how much of it."""
    for name, content in model.tokenizer_files.items():
        (out / name).write_bytes(content)
    path = out / "tokenizer_config.json"
    settings = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    config: Any = model.encoder.config
    names = ["input_ids", "attention_mask"]
    if getattr(config, "type_vocab_size", 0) > 1 and not is_encoder_decoder(config):
        names.insert(1, "token_type_ids")
    settings["model_input_names"] = names
    room = max_tokens(model.encoder)
    if room is not None:
        settings["model_max_length"] = min(int(settings.get("model_max_length", room)), room)
    path.write_text(json.dumps(settings, indent=2, ensure_ascii=False), "utf-8")


# --- the check -------------------------------------------------------------------------------

_TEXTS = (
    ("The committee met on Tuesday.", "It was raining, and nobody came."),
    ("Where is the station?", "The station lies behind the old mill, an hour on foot."),
)


def _check_equal(model: MultiTaskModel, spec: TaskSpec, out: Path) -> None:
    """Compare what transformers makes of the folder with our model.

    Raises:
        UsageError: the logits, or already the token ids, differ.
    """
    slot_index = [slot.task for slot in model.layout.slots].index(spec.name)
    ours = _our_logits(model, spec, slot_index, out)
    theirs = _their_logits(spec, out)
    largest = max(float(value.abs().max()) for value in ours)
    for own, other in zip(ours, theirs, strict=True):
        if own.shape != other.shape:
            found = f"{tuple(other.shape)} logits in place of {tuple(own.shape)}"
        elif not float((own - other).abs().max()) <= TOLERANCE * max(1.0, largest):
            found = f"logits that differ by up to {float((own - other).abs().max()):.2g}"
        else:
            continue
        raise UsageError(
            f"the task {spec.name} cannot be exported: transformers gives {found}; its tokenizer "
            f"or model of type {model.encoder.config.model_type} does "  # type: ignore[union-attr]
            f"something else than this one. {_OTHERWISE}"
        )


def _samples(spec: TaskSpec) -> list[Segments]:
    """Two inputs in the task's format."""
    kind = spec.inputs.format
    if kind == "tokens":
        return [Segments(sequences=(("", None),), words=tuple(a.split())) for a, _ in _TEXTS]
    if kind == "multiple_choice":
        return [Segments(sequences=((a, b), (a, a))) for a, b in _TEXTS]
    second = kind in ("pair", "extractive_qa")
    return [Segments(sequences=((a, b if second else None),)) for a, b in _TEXTS]


def _our_logits(model: MultiTaskModel, spec: TaskSpec, index: int, out: Path) -> list[Tensor]:
    """Of each sample: (K,) labels or options, (T, K) tags, or (T, 2) starts and ends."""
    slot = model.layout.slots[index]
    limit = min(512, max_tokens(model.encoder) or 512)
    encoder = ExampleEncoder(spec, open_tokenizer(str(out)), limit)
    examples = [
        Example(row=i, segments=s, target=tuple(range(len(s.words))) if s.words else None)
        for i, s in enumerate(_samples(spec))
    ]
    chunk = encoder.encode_examples(examples)
    records = Records(slot.head, chunk.batch, len(examples))
    rows = np.arange(len(examples), dtype=np.int64)
    plan = MicroBatchPlan(
        tasks=np.full(len(rows), index, np.int32), rows=rows, lengths=records.lengths
    )
    batch = collate(plan, RowPool([records], tasks=[index]), pad_id(model))
    with torch.no_grad():
        x = model.head_inputs(to_tensors(batch, torch.device("cpu")))[slot.head]
    own = x.logits[..., slot.start : slot.start + slot.size]
    if slot.head == "multiple_choice":
        return list(own[..., 0])
    if slot.level == SENTENCE:
        low, high = slot.range or (0.0, 1.0)
        return list(own[:, 0] * (high - low) + low)
    return [row[mask] for row, mask in zip(own, x.mask, strict=True)]


def _their_logits(spec: TaskSpec, out: Path) -> list[Tensor]:
    """The same by transformers alone, one sample at a time."""
    import transformers

    auto_class = CLASSES[spec.head.type]
    with quiet_transformers():
        target = getattr(transformers, auto_class).from_pretrained(out).eval()
        tokenizer = transformers.AutoTokenizer.from_pretrained(out)
    found = []
    for sample in _samples(spec):
        if sample.words is not None:
            inputs = tokenizer(list(sample.words), is_split_into_words=True, return_tensors="pt")
        else:
            firsts, seconds = zip(*sample.sequences, strict=True)
            texts = (list(firsts), list(seconds)) if seconds[0] is not None else (list(firsts),)
            inputs = tokenizer(*texts, padding=True, return_tensors="pt")
        if spec.head.type == "multiple_choice":
            inputs = {key: value[None] for key, value in inputs.items()}
        with torch.no_grad():
            output = target(**inputs)
        if spec.head.type == "span":
            found.append(torch.stack([output.start_logits[0], output.end_logits[0]], dim=-1))
        else:
            found.append(output.logits[0])
    return found
