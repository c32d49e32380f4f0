"""Write the quickstart zoo's data and its tiny models, byte for byte the same every time.

The files it makes are committed, so nobody has to run it; it is here so that anyone can see where
every row comes from, and change the world and make it anew:

    python -m benchmarks.quickstart.generate            # writes into task_specs/quickstart
    python -m benchmarks.quickstart.generate --out DIR  # writes elsewhere, to compare

The specs beside the data are written by hand.
"""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.quickstart import tasks
from benchmarks.quickstart.world import Draw, World, make_world

if TYPE_CHECKING:
    from collections.abc import Callable

SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")  # RoBERTa's, in RoBERTa's order
MAX_TOKENS = 64
PACK = Path(__file__).resolve().parents[2] / "task_specs" / "quickstart"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One task: how a row is drawn, and how many."""

    name: str
    row: Callable[[World, Draw], tasks.Row]
    num_train: int
    num_validation: int = 200


# In the mixture. The harder the task, the more rows.
MIXTURE = (
    Recipe(name="qs_aspect", row=tasks.aspect, num_train=1400),
    Recipe(name="qs_find_thing", row=tasks.find_thing, num_train=600),
    Recipe(name="qs_fitting_remark", row=tasks.fitting_remark, num_train=500),
    Recipe(name="qs_fitting_thing", row=tasks.fitting_thing, num_train=700),
    Recipe(name="qs_mood", row=tasks.mood, num_train=800),
    Recipe(name="qs_nli", row=tasks.nli, num_train=1200),
    Recipe(name="qs_paraphrase", row=tasks.paraphrase, num_train=1000),
    Recipe(name="qs_plausible", row=tasks.plausible, num_train=800),
    Recipe(name="qs_question_type", row=tasks.question_type, num_train=600),
    Recipe(name="qs_similarity", row=tasks.similarity, num_train=1200),
    Recipe(name="qs_size_order", row=tasks.size_order, num_train=800),
    Recipe(name="qs_topic", row=tasks.topic, num_train=600),
    Recipe(name="qs_who_did_what", row=tasks.who_did_what, num_train=800),
    Recipe(name="qs_word_in_context", row=tasks.word_in_context, num_train=800),
)
# The target of the demo: few rows to learn from, many to score on.
HELD_OUT = Recipe(name="qs_reviews", row=tasks.reviews, num_train=120, num_validation=500)
# Shows the remaining heads, of which one needs an encoder-decoder; not part of the demo.
EXTRA = (
    Recipe(name="qs_mentions", row=tasks.mentions, num_train=300, num_validation=100),
    Recipe(name="qs_summary", row=tasks.summary, num_train=600, num_validation=100),
    Recipe(name="qs_word_tags", row=tasks.word_tags, num_train=300, num_validation=100),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=PACK, metavar="DIR")
    generate(parser.parse_args().out)


def generate(out: Path) -> None:
    """Write `data/<task>/<split>.jsonl` and the folders of both tiny models under `out`."""
    world = make_world()
    words = set(world.words())
    for recipe in (*MIXTURE, HELD_OUT, *EXTRA):
        rows = _different_rows(recipe, world)
        splits = {"train": rows[: recipe.num_train], "validation": rows[recipe.num_train :]}
        for split, part in splits.items():
            lines = [json.dumps(row, separators=(",", ":")) for row in part]
            _write(out / "data" / recipe.name / f"{split}.jsonl", "\n".join(lines) + "\n")
        for row in rows:
            words.update(re.findall(r"\w+|[^\w\s]+", " ".join(_strings(row)).lower()))
    tokens = [*SPECIAL_TOKENS, *sorted(words)]
    for folder, config in (
        ("tiny_encoder", _encoder_config(len(tokens))),
        ("tiny_encoder_decoder", _encoder_decoder_config(len(tokens))),
    ):
        for name, content in (
            ("tokenizer.json", _tokenizer(tokens)),
            ("tokenizer_config.json", _tokenizer_config()),
            ("config.json", config),
        ):
            _write(out / folder / name, json.dumps(content, indent=2) + "\n")


def _different_rows(recipe: Recipe, world: World) -> list[tasks.Row]:
    """Rows that are all different, so that no validation row is in train."""
    draw, rows, seen = Draw(recipe.name), list[tasks.Row](), set[str]()
    while len(rows) < recipe.num_train + recipe.num_validation:
        row = recipe.row(world, draw)
        key = json.dumps(row)
        if key not in seen:
            seen.add(key)
            rows.append(row)
    return rows


def _strings(row: tasks.Row) -> list[str]:
    """All text of a row; answers and tags are left out, for they are no input."""
    inputs = [value for name, value in row.items() if name not in tasks.TARGET_COLUMNS]
    return [s for v in inputs for s in (v if isinstance(v, list) else [v]) if isinstance(s, str)]


def _tokenizer(tokens: list[str]) -> dict[str, object]:
    """A whole-word tokenizer in the `tokenizers` library's file format, with RoBERTa's frame."""
    start, _, end, _, _ = SPECIAL_TOKENS

    def special(token: str) -> dict[str, object]:
        return {"SpecialToken": {"id": token, "type_id": 0}}

    def sequence(name: str) -> dict[str, object]:
        return {"Sequence": {"id": name, "type_id": 0}}

    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    single = [special(start), sequence("A"), special(end)]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": i, "content": token, **flags, "special": True}
            for i, token in enumerate(SPECIAL_TOKENS)
        ],
        "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": single,
            "pair": [*single, special(end), sequence("B"), special(end)],
            "special_tokens": {
                token: {"id": token, "ids": [tokens.index(token)], "tokens": [token]}
                for token in (start, end)
            },
        },
        "decoder": None,
        "model": {
            "type": "WordLevel",
            "vocab": {token: i for i, token in enumerate(tokens)},
            "unk_token": "<unk>",
        },
    }


def _tokenizer_config() -> dict[str, object]:
    names = ("bos_token", "pad_token", "eos_token", "unk_token", "mask_token")
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": MAX_TOKENS,
        "model_input_names": ["input_ids", "attention_mask"],
        **dict(zip(names, SPECIAL_TOKENS, strict=True)),
    }


def _encoder_config(vocab_size: int) -> dict[str, object]:
    """RoBERTa's shape at a thousandth of its size."""
    return {
        "model_type": "roberta",
        "architectures": ["RobertaModel"],
        "vocab_size": vocab_size,
        "hidden_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 256,
        "max_position_embeddings": MAX_TOKENS + 2,  # RoBERTa counts positions from pad's id + 1
        "type_vocab_size": 1,
        "hidden_dropout_prob": 0.0,  # nothing to forget within a minute of training
        "attention_probs_dropout_prob": 0.0,
        "initializer_range": 0.04,  # 0.02 is made for 768 dimensions; here it delays learning
        "bos_token_id": 0,
        "pad_token_id": 1,
        "eos_token_id": 2,
    }


def _encoder_decoder_config(vocab_size: int) -> dict[str, object]:
    """BART's shape at a thousandth of its size."""
    return {
        "model_type": "bart",
        "architectures": ["BartForConditionalGeneration"],
        "is_encoder_decoder": True,
        "vocab_size": vocab_size,
        "d_model": 128,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "encoder_ffn_dim": 256,
        "decoder_ffn_dim": 256,
        "max_position_embeddings": MAX_TOKENS,
        "dropout": 0.0,  # as above
        "attention_dropout": 0.0,
        "activation_dropout": 0.0,
        "init_std": 0.04,
        "bos_token_id": 0,
        "pad_token_id": 1,
        "eos_token_id": 2,
        "decoder_start_token_id": 2,
        "forced_eos_token_id": 2,
    }


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode("utf-8"))


if __name__ == "__main__":
    main()
