"""A tokenizer, specs and row files small enough to build in milliseconds; shared by tests."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from muppet_zoo.encode import TokenizerSource, open_tokenizer
from muppet_zoo.spec import TaskSpec, parse_task_spec
from muppet_zoo.yaml_reader import read_yaml

_TEXT = """a b c the cat dog bird sat ran flew on under over mat roof tree who what where is was not
good bad fine red green blue one two three"""
WORDS = tuple(_TEXT.split())
_MARKS = (".", "?", "!", ",", "-", "'")

# format -> inputs, head, columns: one task of every kind that can be built
KINDS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, str]]] = {
    "single": (
        {"format": "single", "text": "{text}"},
        {"type": "classification", "target": "label", "labels": ["bad", "good", "fine"]},
        {"text": "string", "label": "label"},
    ),
    "pair": (
        {"format": "pair", "first": "{text}", "second": "{other}"},
        {"type": "regression", "target": "score", "range": [0, 5]},
        {"text": "string", "other": "string", "score": "number"},
    ),
    "multi_label": (
        {"format": "single", "text": "{text}"},
        {"type": "multi_label", "target": "tags", "labels": ["red", "green", "blue"]},
        {"text": "string", "tags": "labels"},
    ),
    "multiple_choice": (
        {"format": "multiple_choice", "context": "{text}", "choices": "options"},
        {"type": "multiple_choice", "target": "label"},
        {"text": "string", "options": "strings", "label": "label"},
    ),
    "tokens": (
        {"format": "tokens", "tokens": "words"},
        {"type": "token_classification", "target": "tags", "labels": ["O", "B", "I"]},
        {"words": "strings", "tags": "labels"},
    ),
    "extractive_qa": (
        {"format": "extractive_qa", "question": "{question}", "context": "context"},
        {"type": "span", "answers": "answers.text", "answer_starts": "answers.start"},
        {
            "question": "string",
            "context": "string",
            "answers.text": "strings",
            "answers.start": "integers",
        },
    ),
    "text_to_text": (
        {"format": "text_to_text", "text": "{text}"},
        {"type": "generation", "target": "{other}"},
        {"text": "string", "other": "string"},
    ),
}
_METRICS = {
    "classification": "accuracy",
    "regression": "pearson",
    "multi_label": "macro_f1",
    "multiple_choice": "accuracy",
    "token_classification": "entity_f1",
    "span": "squad_f1",
    "generation": "rougeL",
}


def write_tokenizer(folder: Path, words: Iterable[str] = WORDS) -> TokenizerSource:
    """A WordPiece tokenizer that knows `words` and all ASCII letters, shaped like BERT's."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *_MARKS, *letters, *(f"##{c}" for c in letters)]
    vocab = {piece: i for i, piece in enumerate(dict.fromkeys([*pieces, *words]))}
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    return open_tokenizer(str(folder))


def spec_data(name: str, kind: str = "single", **changes: Any) -> dict[str, Any]:
    """The spec of a hub task of this kind as plain data; `changes` replace top-level fields."""
    inputs, head, columns = KINDS[kind]
    data: dict[str, Any] = {
        "spec_version": 1,
        "name": name,
        "family": "synthetic",
        "description": "Generated rows for tests, without any meaning.",
        "source": {
            "hub": "nobody/nothing",
            "revision": "0" * 40,
            "columns": dict(columns),
            "splits": {"train": "train", "validation": "validation"},
        },
        "inputs": dict(inputs),
        "head": dict(head),
        "metrics": [_METRICS[head["type"]]],
        "license": "CC0-1.0",
        "citation": "Nobody, nowhere.",
        "homepage": "https://example.org",
        "languages": ["en"],
    }
    return {**data, **changes}


def write_spec(folder: Path, data: Mapping[str, Any]) -> TaskSpec:
    """Write a spec to `folder` (JSON is YAML) and read it back."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{data['name']}.yaml"
    path.write_text(json.dumps(data), encoding="utf-8")
    return parse_task_spec(read_yaml(path))


def random_rows(kind: str, count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Rows that a task of this kind can encode."""
    source = random.Random(f"{kind}:{seed}")
    return [_random_row(kind, source) for _ in range(count)]


def _random_row(kind: str, source: random.Random) -> dict[str, Any]:
    def text(low: int = 1, high: int = 12) -> str:
        return " ".join(source.choices(WORDS, k=source.randint(low, high)))

    match kind:
        case "single":
            return {"text": text(), "label": source.randrange(3)}
        case "pair":
            return {"text": text(), "other": text(), "score": source.randrange(51) / 10}
        case "multi_label":
            return {"text": text(), "tags": source.sample(range(3), source.randrange(4))}
        case "multiple_choice":
            options = [text(1, 4) for _ in range(source.randint(2, 5))]
            return {"text": text(), "options": options, "label": source.randrange(len(options))}
        case "tokens":
            words = text().split()
            return {"words": words, "tags": [source.randrange(3) for _ in words]}
        case "extractive_qa":
            context = text(6, 20)
            start = context.index(" ") + 1
            answer = context[start:].split(" ")[0]
            return {
                "question": text(2, 4),
                "context": context,
                "answers": {"text": [answer], "start": [start]},
            }
        case _:
            return {"text": text(), "other": text(1, 4)}


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """One JSON object a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row) + "\n")


def files_below(folder: Path) -> dict[str, bytes]:
    """Every built file by its path under `folder`; locks and the digest cache left out."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }
