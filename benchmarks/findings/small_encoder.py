"""A small RoBERTa-shaped encoder that has seen no label: masked-language modelling on raw text.

    python -m benchmarks.findings.small_encoder --mirror DIR --out DIR

The packaged MiniLM was tuned on sentence pairs, so what it gains by pre-finetuning may not be what
a plain encoder gains. This one is trained here, on the texts of the train rows of `findings_pool`
alone: no label, and no text of an unseen target. Goes on where it was stopped.

Recipe: Liu et al. 2019, arXiv:1907.11692 (byte-level BPE, dynamic masking of 15 %, of which 80 %
are masked, 10 % random and 10 % kept, texts packed to full length), in small and for as long as a
CPU can. Ten million tokens are few: from random embeddings a model of this size learns word
frequencies in them and little else. So embeddings start from the singular vectors of the texts'
positive pointwise mutual information (Levy and Goldberg 2014, "Neural word embedding as implicit
matrix factorization"), a matter of seconds.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.utils.extmath import randomized_svd
from tokenizers import ByteLevelBPETokenizer
from tokenizers.processors import RobertaProcessing
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast, RobertaConfig, RobertaForMaskedLM

from muppet_zoo.console import note, progress
from muppet_zoo.examples import examples_of
from muppet_zoo.rows import RowProblem
from muppet_zoo.sources import open_rows
from muppet_zoo.zoo import load_zoo

SPECS = Path(__file__).with_name("specs")
SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
START, PAD, END, MASK = 0, 1, 2, 4
VOCABULARY, LENGTH, ROWS_A_STEP = 8192, 128, 32
MASKED_SHARE = 0.15
HIDDEN, WINDOW = 256, 5
PEAK_RATE, WARMUP_SHARE, CHECKPOINT_STEPS = 1e-3, 0.06, 200


@click.command()
@click.option("--mirror", required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--out", required=True, type=click.Path(path_type=Path))
@click.option("--steps", default=2500, show_default=True, help="Of 4,096 tokens each.")
@click.option("--threads", default=2, show_default=True)
def main(mirror: Path, out: Path, steps: int, threads: int) -> None:
    """Train the tokenizer and the encoder, and save both in Hugging Face format."""
    torch.set_num_threads(threads)
    out.mkdir(parents=True, exist_ok=True)
    texts = unique_texts(mirror)
    tokenizer = train_tokenizer(texts, out)
    blocks = pack(texts, tokenizer)
    note(f"{len(texts):,} texts, {blocks.size:,} tokens; {steps * ROWS_A_STEP * LENGTH:,} to train")
    if (out / "model.safetensors").is_file():
        note(f"{out} is trained already")
        return
    model = train(blocks, out, steps)
    # Fine-tuning wants dropout; so few passes over the text did not.
    model.config.hidden_dropout_prob = model.config.attention_probs_dropout_prob = 0.1
    model.save_pretrained(out)
    (out / "checkpoint.pt").unlink()


def unique_texts(mirror: Path) -> list[str]:
    """All texts of the pool's train rows, each once, in an order that looks random and is fixed."""
    zoo = load_zoo((SPECS,))
    texts: set[str] = set()
    for name in zoo.mixture("findings_pool").tasks:
        spec = zoo.task(name)
        for number, row in open_rows(spec, "train", mirror=mirror).rows():
            try:
                examples = examples_of(spec, number, row, labelled=False)
            except RowProblem:  # told by `build`
                continue
            for example in examples:
                words = example.segments.words
                texts.update([" ".join(words)] if words else _parts(example.segments.sequences))
    return sorted(texts, key=lambda text: hashlib.sha256(text.encode()).digest())


def _parts(sequences: tuple[tuple[str, str | None], ...]) -> Iterator[str]:
    return (text for pair in sequences for text in pair if text)


def train_tokenizer(texts: list[str], out: Path) -> PreTrainedTokenizerFast:
    """Byte-level BPE, as RoBERTa's."""
    path = out / "tokenizer.json"
    if not path.is_file():
        bpe = ByteLevelBPETokenizer()
        bpe.train_from_iterator(
            texts, VOCABULARY, special_tokens=list(SPECIAL), show_progress=False
        )
        bpe.post_processor = RobertaProcessing(("</s>", END), ("<s>", START))
        fast = PreTrainedTokenizerFast(
            tokenizer_object=bpe._tokenizer,
            bos_token="<s>", eos_token="</s>", cls_token="<s>", sep_token="</s>",
            unk_token="<unk>", pad_token="<pad>", mask_token="<mask>",
            model_max_length=LENGTH,
        )  # fmt: skip
        fast.save_pretrained(out)
    return PreTrainedTokenizerFast.from_pretrained(out)


def pack(texts: list[str], tokenizer: PreTrainedTokenizerFast) -> NDArray[np.int64]:
    """(blocks, LENGTH) token ids of all texts one after another, each with its start and end."""
    encoded = tokenizer.backend_tokenizer.encode_batch_fast(texts)
    ids = np.concatenate([np.array(one.ids, dtype=np.int64) for one in encoded])
    return ids[: len(ids) // LENGTH * LENGTH].reshape(-1, LENGTH)


def train(blocks: NDArray[np.int64], out: Path, steps: int) -> RobertaForMaskedLM:
    """Masked-language modelling with one linear warm-up and decay."""
    torch.manual_seed(0)
    model = RobertaForMaskedLM(
        RobertaConfig(
            vocab_size=VOCABULARY, hidden_size=HIDDEN, num_hidden_layers=4, num_attention_heads=4,
            intermediate_size=1024, max_position_embeddings=LENGTH + 2, type_vocab_size=1,
            hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
            bos_token_id=START, pad_token_id=PAD, eos_token_id=END,
        )
    )  # fmt: skip
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=PEAK_RATE, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.01
    )
    start_from_counts(model, blocks)
    checkpoint, first = out / "checkpoint.pt", 0
    if checkpoint.is_file():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["step"]
    model.train()
    with progress() as display, (out / "pretraining.jsonl").open("a") as log:
        line = display.start("masked-language modelling", total=steps, unit="steps")
        for step, rows in zip(range(first, steps), _batches(blocks, first), strict=False):
            began = time.monotonic()
            loss = _masked_loss(model, torch.from_numpy(rows), step)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for group in optimizer.param_groups:
                group["lr"] = PEAK_RATE * _factor(step, steps)
            optimizer.step()
            record = {"step": step + 1, "loss": loss.item(), "seconds": time.monotonic() - began}
            log.write(json.dumps(record) + "\n")
            line.update(step + 1)
            if (step + 1) % CHECKPOINT_STEPS == 0:
                state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
                torch.save(state | {"step": step + 1}, checkpoint.with_suffix(".part"))
                checkpoint.with_suffix(".part").replace(checkpoint)
                log.flush()
        line.finish()
    checkpoint.touch()
    return model


def start_from_counts(model: RobertaForMaskedLM, blocks: NDArray[np.int64]) -> None:
    """Set the embeddings, which the output layer shares, and the output's bias, from the texts."""
    counts = cooccurrences(blocks)
    token, context = np.asarray(counts.sum(1)).ravel(), np.asarray(counts.sum(0)).ravel() ** 0.75
    found = counts.tocoo()
    ratio = found.data * context.sum() / (token[found.row] * context[found.col])
    positive = ratio > 1
    mutual = csr_matrix(
        (np.log(ratio[positive]), (found.row[positive], found.col[positive])), shape=counts.shape
    )
    left, values, _ = randomized_svd(mutual, HIDDEN, n_iter=3, random_state=0)
    vectors = left * np.sqrt(values)
    vectors *= 2 * model.config.initializer_range / vectors.std()
    frequency = (np.bincount(blocks.ravel(), minlength=VOCABULARY) + 1) / blocks.size
    with torch.no_grad():
        weight = model.roberta.embeddings.word_embeddings.weight
        weight.copy_(torch.from_numpy(vectors))
        weight[PAD] = 0
        model.lm_head.decoder.bias.copy_(torch.from_numpy(np.log(frequency)))


def cooccurrences(blocks: NDArray[np.int64]) -> csr_matrix:
    """(VOCABULARY, VOCABULARY) counts of pairs up to WINDOW apart, each divided by its distance."""
    total = csr_matrix((VOCABULARY, VOCABULARY), dtype=np.float64)
    for distance in range(1, WINDOW + 1):
        pairs = blocks[:, :-distance].ravel() * VOCABULARY + blocks[:, distance:].ravel()
        pair, count = np.unique(pairs, return_counts=True)
        at = (pair // VOCABULARY, pair % VOCABULARY)
        total += csr_matrix((count / distance, at), shape=total.shape)
    return total + total.T


def _batches(blocks: NDArray[np.int64], first: int) -> Iterator[NDArray[np.int64]]:
    """Blocks in another order each epoch, from step `first` on."""
    a_pass = len(blocks) // ROWS_A_STEP
    while True:
        epoch, step = divmod(first, a_pass)
        order = np.random.default_rng([0, epoch]).permutation(len(blocks))
        yield blocks[order[step * ROWS_A_STEP : (step + 1) * ROWS_A_STEP]]
        first += 1


def _masked_loss(model: RobertaForMaskedLM, ids: Tensor, step: int) -> Tensor:
    """Mean loss over the masked positions, whose logits alone are computed."""
    generator = torch.Generator().manual_seed(step)
    chosen = (
        (torch.rand(ids.shape, generator=generator) < MASKED_SHARE) & (ids > PAD) & (ids != END)
    )
    fate = torch.rand(ids.shape, generator=generator)
    drawn = torch.randint(len(SPECIAL), VOCABULARY, ids.shape, generator=generator)
    seen = torch.where(chosen & (fate < 0.8), MASK, ids)
    seen = torch.where(chosen & (fate >= 0.9), drawn, seen)
    states = model.roberta(input_ids=seen, attention_mask=torch.ones_like(seen)).last_hidden_state
    return F.cross_entropy(model.lm_head(states[chosen]), ids[chosen])


def _factor(step: int, steps: int) -> float:
    warmup = max(1, int(steps * WARMUP_SHARE))
    return min((step + 1) / warmup, (steps - step) / max(1, steps - warmup))


if __name__ == "__main__":
    main()
