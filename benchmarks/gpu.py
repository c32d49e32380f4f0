"""What a training step costs on a GPU, packed and padded, and whether ZeRO is exact there.

    python -m benchmarks.gpu --out benchmarks/results/gpu

On a CUDA device: the shapes of RoBERTa base and large with random weights, bf16, AdamW, one
micro-batch a step, invented sequences of lognormal length, bucketed by length as in every run, laid
out beforehand. Tokens are those of the text, without padding. The model's FLOPs are counted for
these tokens alone, three times the forward pass, the noised rows of R3F included, and given as a
share of what one large matrix product reaches in the same run. The states of packed rows are
compared with those of padded ones, and gradients at ZeRO 0 to 3, on one process and in fp32, with
those of the plain trainer. It is meant to take less than 8 minutes on an H100.

Without a CUDA device all of it runs at a tiny shape on the CPU, which shows that it runs.

Sources: Kaplan et al. 2020, arXiv:2001.08361, section 2.1, for the FLOPs; Chowdhery et al. 2022,
arXiv:2204.02311, appendix B, for their use.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import torch
from muppet_zoo_deepspeed.launch import run_ranks
from muppet_zoo_deepspeed.trainer import write_request
from muppet_zoo_torch import backbone
from muppet_zoo_torch.batch import TensorBatch, to_tensors
from muppet_zoo_torch.dropout import fast_masks
from muppet_zoo_torch.engine import TorchEngine
from muppet_zoo_torch.evaluate import default_device
from muppet_zoo_torch.model import MultiTaskModel
from muppet_zoo_torch.optimizer import base_rates
from muppet_zoo_torch.packing import use_packing
from muppet_zoo_torch.r3f import noise_keys
from safetensors.torch import load_file

from benchmarks.common import write_result
from benchmarks.exactness import STAGES, Difference, compared
from benchmarks.exactness_runs import Case, plain_case, prepare, request
from benchmarks.invented import PADDING_ID, invented, micro_batches
from muppet_zoo.collate import MicroBatch
from muppet_zoo.console import note
from muppet_zoo.model_folder import HeadLayout, HeadSlot
from muppet_zoo.run import R3F, Run, parse_run, with_defaults

NOISE = R3F(weight=1.0, weight_by_head={}, noise="uniform", epsilon=1e-5, spectral_norm=False)
LAYOUT = HeadLayout(
    slots=(HeadSlot(task="invented", head="classification", level="sentence", start=0, size=3),),
    num_sentence_columns=3,
    num_token_columns=0,
)


@dataclass(frozen=True, kw_only=True)
class Scale:
    """What is run on a kind of device.

    models: sizes of a RoBERTa by name. batches: (longest sequence, tokens of a micro-batch).
    """

    models: dict[str, dict[str, int]]
    batches: tuple[tuple[int, int], ...]
    num_examples: int
    warm_up: int
    steps: int
    matrix_size: int


GPU = Scale(
    models={
        "RoBERTa base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
                         "intermediate_size": 3072, "vocab_size": 50265},
        "RoBERTa large": {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16,
                          "intermediate_size": 4096, "vocab_size": 50265},
    },
    batches=((128, 8192), (128, 16384), (512, 8192), (512, 16384)),
    num_examples=16384, warm_up=3, steps=10, matrix_size=8192,
)  # fmt: skip
CPU = Scale(
    models={"tiny": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
                     "intermediate_size": 64, "vocab_size": 200}},
    batches=((64, 512),),
    num_examples=256, warm_up=1, steps=2, matrix_size=256,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One row of the table; figures are None where memory or the device does not give them."""

    model: str
    longest: int
    micro_batch_tokens: int
    r3f: bool
    layout: str
    padding_share: float
    tokens_per_s: float | None
    flops_share: float | None
    peak_memory_gib: float | None
    packing_error: float


def flops(sizes: dict[str, int], batch: MicroBatch, passes: int) -> float:
    """Of forward and backward over the real tokens; a multiplication and an addition are two."""
    hidden, lengths = sizes["hidden_size"], batch.attention_mask.sum(-1).astype(float)
    weights = 4 * hidden**2 + 2 * hidden * sizes["intermediate_size"]
    forward = 2 * weights * lengths + 4 * hidden * lengths**2
    return float(3 * passes * sizes["num_hidden_layers"] * forward.sum())


def matmul_rate(size: int, device: torch.device, repeats: int = 20) -> float:
    """FLOP/s of bf16 matrix products of size x size, the best of three tries."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    best = 0.0
    for _ in range(3):
        a @ b
        _wait(device)
        start = time.perf_counter()
        for _ in range(repeats):
            a @ b
        _wait(device)
        best = max(best, repeats * 2 * size**3 / (time.perf_counter() - start))
    return best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def make_engine(sizes: dict[str, int], longest: int, device: torch.device) -> TorchEngine:
    """A RoBERTa with random weights under one head, in bf16 with AdamW."""
    from transformers import AutoConfig, AutoModel

    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "roberta",
        **sizes,
        max_position_embeddings=longest + PADDING_ID + 1,
        pad_token_id=PADDING_ID,
        type_vocab_size=1,
    )
    encoder = AutoModel.from_config(config, add_pooling_layer=False)
    model = MultiTaskModel(encoder, LAYOUT, pooling="first", dropout=0.1)
    return TorchEngine(model, _run(), device)


def _run() -> Run:
    data = {"run_version": 1, "data": ".", "task": "invented", "model": {"encoder": "none"},
            "schedule": {"steps": 1}, "precision": "bf16"}  # fmt: skip
    return parse_run(with_defaults(data))


def set_layout(engine: TorchEngine, layout: str) -> None:
    """Let the encoder read `packed` or `padded` rows."""
    encoder: Any = engine.model.encoder
    if layout == "packed":
        use_packing(encoder, "RoBERTa", "on")
    else:
        encoder.set_attn_implementation("sdpa")


def measured(
    engine: TorchEngine, batches: Sequence[MicroBatch], warm_up: int
) -> tuple[float | None, int]:
    """Seconds of all steps but the first, None where memory does not suffice; most bytes held."""
    cuda = engine.device.type == "cuda"
    engine.model.train()
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(engine.device)
    start, seconds = 0.0, None
    try:
        for number, batch in enumerate(batches):
            if number == warm_up:
                _wait(engine.device)
                start = time.perf_counter()
            with fast_masks():
                losses, _ = engine.forward(_tensors(engine, batch, number))
                engine.backward(losses.mean(), last=True)
            engine.step(base_rates(engine.model, _run().optimizer))
        _wait(engine.device)
        seconds = time.perf_counter() - start
    except torch.OutOfMemoryError:
        engine.skip_step()
    return seconds, torch.cuda.max_memory_allocated(engine.device) if cuda else 0


def _tensors(engine: TorchEngine, batch: MicroBatch, step: int) -> TensorBatch:
    tensors = to_tensors(batch, engine.device)
    if engine.model.r3f is None:
        return tensors
    return replace(tensors, noise_keys=noise_keys(batch, 0, step).to(engine.device))


def arms_of(name: str, scale: Scale, device: torch.device, rate: float) -> Iterator[Arm]:
    """Every batch, layout and kind of step of one model, and at last how exact packing is."""
    sizes = scale.models[name]
    engine = make_engine(sizes, max(longest for longest, _ in scale.batches), device)
    for longest, num_tokens in scale.batches:
        data = invented(scale.num_examples, longest, sizes["vocab_size"])
        batches = micro_batches(data, num_tokens, scale.warm_up + scale.steps)
        timed = batches[scale.warm_up :]
        tokens = sum(batch.num_tokens for batch in timed)
        uneven = max(batches, key=lambda batch: batch.padding_share)
        for layout, noise in product(("padded", "packed"), (None, NOISE)):
            set_layout(engine, layout)
            engine.model.regularise(noise)
            seconds, memory = measured(engine, batches, scale.warm_up)
            passes = 1 if noise is None else 2
            work = sum(flops(sizes, batch, passes) for batch in timed)
            yield Arm(
                model=name,
                longest=longest,
                micro_batch_tokens=num_tokens,
                r3f=noise is not None,
                layout=layout,
                padding_share=1 - tokens / sum(batch.input_ids.size for batch in timed),
                tokens_per_s=tokens / seconds if seconds else None,
                flops_share=work / seconds / rate if seconds else None,
                peak_memory_gib=memory / 2**30 if memory else None,
                packing_error=packing_error(engine, uneven),
            )


def packing_error(engine: TorchEngine, batch: MicroBatch) -> float:
    """Relative difference of the encoder's states, packed to padded, in fp32 without dropout."""
    engine.model.eval()
    tensors, states = to_tensors(batch, engine.device), []
    for layout in ("padded", "packed"):
        set_layout(engine, layout)
        with torch.no_grad():
            whole = backbone.states(engine.model.encoder, tensors)
        states.append(whole[tensors.attention_mask].double())
    return float((states[1] - states[0]).norm() / states[0].norm())


def zero_differences(
    device: torch.device, stages: Sequence[int] = STAGES, micro_batches: Sequence[int] = (1, 4)
) -> list[Difference]:
    """Gradients of an encoder with R3F on one process, padded and packed, and the reference's."""
    cases = [
        Case(trainer="deepspeed", noise=True, packed=packed, num_micro_batches=parts, stage=stage)
        for packed, parts, stage in product((False, True), micro_batches, stages)
    ]
    with TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        expected = plain_case(folder, cases[0].reference, device)
        requests = []
        for case in cases:
            (folder / case.name).mkdir()
            requests.append(str(write_request(request(folder, folder / case.name, case))))
        run_ranks("benchmarks.exactness_runs", [device.type, *requests], 1)
        return [
            compared(case, load_file(folder / case.name / "found.safetensors"), expected)
            for case in cases
        ]


def table(device_name: str, rate: float, arms: Sequence[Arm], found: Sequence[Difference]) -> str:
    """The results as Markdown."""
    lines = [
        f"# Training steps on {device_name}",
        "",
        "Made by `python -m benchmarks.gpu`, whose docstring says how. A matrix product reached",
        f"{rate / 1e12:.3g} TFLOP/s in bf16.",
        "",
        "| model | longest | tokens a micro-batch | R3F | rows | padding | tokens/s "
        "| FLOPs of it | peak GiB | states, packed to padded |",
        "|" + "---|" * 10,
    ]
    lines += [
        f"| {arm.model} | {arm.longest} | {arm.micro_batch_tokens} | {'yes' if arm.r3f else 'no'} "
        f"| {arm.layout} | {0 if arm.layout == 'packed' else arm.padding_share:.1%} "
        f"| {_shown(arm.tokens_per_s, ',.0f')} | {_shown(arm.flops_share, '.1%')} "
        f"| {_shown(arm.peak_memory_gib, '.1f')} | {arm.packing_error:.0e} |"
        for arm in arms
    ]
    lines += ["", "Relative difference of gradients, fp32, one process:", ""]
    lines += ["| rows | micro-batches | ZeRO | gradient |", "|---|---|---|---|"]
    lines += [
        f"| {'packed' if d.case.packed else 'padded'} | {d.case.num_micro_batches} "
        f"| {d.case.stage} | {d.gradient:.1e} |"
        for d in found
    ]
    return "\n".join(lines) + "\n"


def _shown(value: float | None, form: str) -> str:
    return "not had" if value is None else format(value, form)


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of results.")
def main(out: Path) -> None:
    """Measure, print a table, and write gpu.json and gpu.md."""
    device = default_device()
    cuda = device.type == "cuda"
    scale = GPU if cuda else CPU
    name = torch.cuda.get_device_name(device) if cuda else "a CPU: tiny, no figure counts"
    rate = matmul_rate(scale.matrix_size, device)
    arms = []
    for model in scale.models:
        for arm in arms_of(model, scale, device, rate):
            note(str(arm))
            arms.append(arm)
    found = zero_differences(device)
    text = table(name, rate, arms, found)
    click.echo(text)
    out.mkdir(parents=True, exist_ok=True)
    (out / "gpu.md").write_text(text, "utf-8")
    data = {"device": name, "matmul_flops_per_s": rate, "arms": [asdict(arm) for arm in arms],
            "zero": [asdict(difference) for difference in found]}  # fmt: skip
    write_result("gpu", data, out)


if __name__ == "__main__":
    main()
