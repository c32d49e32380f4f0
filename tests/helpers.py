"""What several test modules need: specs as text, tiny tokenizers, the command in a process."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from muppet_zoo.encode import TokenizerSource
from muppet_zoo.spec import TaskSpec, parse_task_spec
from muppet_zoo.yaml_reader import read_yaml

ROOT = Path(__file__).parents[1]

_SPEC = """\
spec_version: 1
name: {name}
family: paraphrase
description: Pairs of invented sentences, marked for having the same meaning.
source:
  hub: example/pairs
  revision: main
  columns: {columns}
  splits: {splits}
{rows}inputs: {inputs}
head: {head}
metrics: {metrics}
license: CC0-1.0
citation: Invented for the tests.
homepage: https://example.org/pairs
languages: [en]
"""
_DEFAULTS = {
    "name": "pairs",
    "columns": "{first: string, second: string, label: label}",
    "splits": "{train: train, validation: validation}",
    "inputs": '{format: pair, first: "{first}", second: "{second}"}',
    "head": "{type: classification, target: label, labels: [different, same]}",
    "metrics": "[accuracy]",
}


def spec_text(*, rows: str = "", **parts: str) -> str:
    """A valid spec as YAML; `parts` replace the values of the keys of `_DEFAULTS`."""
    assert parts.keys() <= _DEFAULTS.keys()
    return _SPEC.format(rows=f"rows: {rows}\n" if rows else "", **{**_DEFAULTS, **parts})


def write_spec(folder: Path, name: str, *changes: tuple[str, str], **parts: str) -> Path:
    """Write `name`.yaml; each of `changes` replaces a text that must be there once."""
    text = spec_text(name=name, **parts)
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path = folder / f"{name}.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def make_spec(folder: Path, name: str = "pairs", **parts: str) -> TaskSpec:
    """The record of a valid spec with these parts."""
    return parse_task_spec(read_yaml(write_spec(folder, name, **parts)))


def muppet_zoo(
    *arguments: str, cwd: Path = ROOT, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "muppet_zoo", *arguments],
        cwd=cwd,
        env=child_env(env),
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )


def child_env(extra: dict[str, str] | None = None) -> dict[str, str]:
    """The environment of a child that imports this checkout, installed or not."""
    paths = [str(ROOT), str(ROOT / "trainers"), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), **(extra or {})}


def terminal_env(extra: dict[str, str] | None = None) -> dict[str, str]:
    """The same for a child in a terminal: its own width counts, not what the suite's exports."""
    env = {key: value for key, value in child_env().items() if key not in ("COLUMNS", "LINES")}
    return {**env, "TERM": "xterm-256color", **(extra or {})}


VOCABULARY = [
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]"),
    *("the", "cat", "sat", "on", "mat", "a", "dog", "ran", "where", "who", "is", "it", "."),
    *("##s", "##ning", "run", "play", "##ed", "paris", "london", ",", "?"),
]


def word_piece(folder: Path, *, like: str = "bert", padding: int = 0) -> TokenizerSource:
    """A tiny lower-casing WordPiece tokenizer, saved and opened as from a model's folder.

    like: `bert` ([CLS] a [SEP] b [SEP], type ids 0 and 1) or `roberta` (<s> a </s></s> b </s>,
    all type ids 0). padding: so many unused words make the vocabulary larger.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    words = VOCABULARY + [f"unused{i}" for i in range(padding)]
    vocabulary = {word: i for i, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    start, end = ("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])
    if like == "bert":
        tokenizer.post_processor = processors.BertProcessing(end, start)
    else:
        tokenizer.post_processor = processors.RobertaProcessing(
            end, start, trim_offsets=False, add_prefix_space=False
        )
    path = folder / f"{like}-{padding}.json"
    tokenizer.save(str(path))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return TokenizerSource(name=like, path=path, digest=digest)


def byte_level(folder: Path) -> TokenizerSource:
    """A tokenizer with one token per byte and none unknown: what it encodes can be decoded again.

    Sequences are `<s> first </s> second </s>`; no text is ever taken for these special tokens.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    pieces = ["<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.BertProcessing(("</s>", 1), ("<s>", 0))
    path = folder / "byte_level.json"
    tokenizer.save(str(path))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return TokenizerSource(name="byte_level", path=path, digest=digest)
