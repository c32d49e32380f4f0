"""Cosines between the gradients that tasks send into a trained model's encoder.

Gradients are as long as the encoder has parameters, so each is folded into `NUM_BUCKETS` sums: a
count sketch, in which every coordinate gets a random sign and a random bucket. Inner products are
kept on average, and cosines of unrelated gradients err by about 1 / sqrt(NUM_BUCKETS) = 0.004.
Sources: Charikar, Chen, Farach-Colton 2002, "Finding frequent items in data streams"; Weinberger et
al. 2009, "Feature hashing for large scale multitask learning", arXiv:0902.2206. Similar gradients
as a sign that tasks go together: Yu et al. 2020, arXiv:2001.06782; Wang et al. 2021,
arXiv:2010.05874.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor

from muppet_zoo.affinity import Affinity, AffinityRequest
from muppet_zoo.batches import eval_plans, sample_examples
from muppet_zoo.collate import collate
from muppet_zoo.console import ProgressDisplay
from muppet_zoo.errors import UsageError
from muppet_zoo.model_folder import ENCODER_FOLDER, find_model, with_slots_for
from muppet_zoo.row_pool import RowPool
from muppet_zoo.samples import SplitPart, part_of
from muppet_zoo.shards import BuiltSplit
from muppet_zoo_torch.batch import to_tensors
from muppet_zoo_torch.checks import check_data_fits
from muppet_zoo_torch.evaluate import default_device, pad_id
from muppet_zoo_torch.export import load_model
from muppet_zoo_torch.model import MultiTaskModel
from muppet_zoo_torch.plan import open_splits

NUM_BUCKETS = 1 << 16
_SEED = 0


def affinity(request: AffinityRequest, display: ProgressDisplay) -> Affinity:
    """Dropout is off, so the outcome depends on the model and the examples alone.

    Raises:
        UsageError: a task has fewer than two examples, or the data was not built for the encoder.
        UnknownNameError: the model has no head for a task.
        ShardError: a train split is not built, or has no labels.
        CheckpointError: the model is damaged, or a spec is no longer the one it was trained with.
    """
    folder = find_model(request.checkpoint)
    folder = replace(folder, layout=with_slots_for(folder, request.tasks))
    splits = open_splits(request.data, request.tasks, "train")
    model = load_model(folder, default_device()).eval()
    check_data_fits(model.encoder, str(folder.path / ENCODER_FOLDER), splits)
    slots = [slot.task for slot in model.layout.slots]
    line = display.start("gradients", total=len(splits), unit="tasks")
    halves, num_examples = [], []
    for done, (spec, split) in enumerate(zip(request.tasks, splits, strict=True), start=1):
        parts = _halves(split, request.num_examples)
        if not parts[1].num_examples:
            raise UsageError(f"{spec.name} has {split.num_examples} train examples; two are needed")
        task, limit = slots.index(spec.name), request.tokens_per_micro_batch
        halves.append([_gradient(model, part, task, limit) for part in parts])
        num_examples.append(parts[1].num_examples)
        line.update(done, text=spec.name)
    line.finish()
    first, second = (torch.stack(half) for half in zip(*halves, strict=True))
    across = first @ second.T
    cosines = (across + across.T) / 2
    return Affinity(
        tasks=tuple(spec.name for spec in request.tasks),
        num_examples=tuple(num_examples),
        cosines=tuple(map(tuple, cosines.tolist())),
    )


def _halves(split: BuiltSplit, most_examples: int) -> list[SplitPart]:
    """Two parts of at most so many examples each; no window of an example is in the other's."""
    drawn = sample_examples(split.num_examples, 2 * most_examples)
    # Every second one: where a split is sorted by label, both halves have all labels.
    return [part_of(split, drawn[at::2]) for at in (0, 1)]


def _gradient(
    model: MultiTaskModel, split: SplitPart, task: int, tokens_per_micro_batch: int
) -> Tensor:
    """(NUM_BUCKETS,) the sketch, of length 1, of the mean loss's gradient by the encoder."""
    device = next(model.parameters()).device
    model.zero_grad()
    pool = RowPool([split], tasks=[task])
    for plan in eval_plans(split, tokens_per_micro_batch, task=task):
        batch = collate(plan, pool, pad_id(model))
        losses, _ = model(to_tensors(batch, device))
        (losses.sum() / split.num_records).backward()
    return torch.nn.functional.normalize(sketch(model.encoder.parameters()), dim=0)


def sketch(parameters: Iterable[torch.nn.Parameter]) -> Tensor:
    """(NUM_BUCKETS,) signed sums of the gradients' coordinates, the same for the same shapes."""
    generator = torch.Generator().manual_seed(_SEED)
    sums = torch.zeros(2 * NUM_BUCKETS)
    for parameter in parameters:
        # Half of the places are for coordinates that count negative.
        places = torch.randint(2 * NUM_BUCKETS, (parameter.numel(),), generator=generator)
        if parameter.grad is not None:
            sums.index_add_(0, places, parameter.grad.flatten().float().cpu())
    return sums[:NUM_BUCKETS] - sums[NUM_BUCKETS:]
