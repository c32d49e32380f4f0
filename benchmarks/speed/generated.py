"""Rows of random words for any number of tasks, built, for timings that ask for more than is real.

Lengths are lognormal, as in collections of language tasks; see `benchmarks.invented`. All tasks of
a mixture have equally many rows.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from tokenizers import Tokenizer

from benchmarks.invented import invented
from benchmarks.speed.inputs import MAX_TOKENS, WORK, encoder_folder
from benchmarks.speed.peers import OURS, run_contender
from muppet_zoo.build import BuildOptions, build
from muppet_zoo.encode import open_tokenizer
from muppet_zoo.shards import open_task
from muppet_zoo.spec import TaskSpec
from muppet_zoo.zoo import load_zoo

SPECIAL_TOKENS = 2  # of one text, which leaves the others for words
BLOCK_ROWS = 100_000
VERSION = 2  # of the rows; folders of others are not taken for these


def generated_tasks(num_tasks: int) -> list[TaskSpec]:
    """Classification tasks with a train split each."""
    spec = load_zoo().task("cola")
    source = replace(spec.source, splits={"train": spec.source.splits["train"]})
    return [replace(spec, name=f"generated_{i:04}", source=source) for i in range(num_tasks)]


def write_rows(
    mirror: Path, tasks: Sequence[TaskSpec], num_rows: int, max_tokens: int = MAX_TOKENS
) -> None:
    """About `num_rows` rows in all, equally many of each task, in a mirror folder.

    max_tokens: of the longest row; the others are shorter in proportion.

    Rows of a task repeat after `BLOCK_ROWS`, so that ten million are written in seconds.
    """
    words = np.array(_words())
    random = np.random.default_rng(1)
    each = max(1, num_rows // len(tasks))
    for number, spec in enumerate(tasks):
        sizes = invented(min(each, BLOCK_ROWS), max_tokens, 2).lengths
        lengths = np.roll(sizes, number) - SPECIAL_TOKENS
        drawn = iter(np.split(random.choice(words, lengths.sum()), np.cumsum(lengths)))
        lines = [
            json.dumps({"sentence": " ".join(next(drawn)), "label": row % 2, "idx": row}) + "\n"
            for row in range(len(lengths))
        ]
        (mirror / spec.name).mkdir(parents=True, exist_ok=True)
        with (mirror / spec.name / "train.jsonl").open("w", encoding="utf-8") as file:
            for start in range(0, each, BLOCK_ROWS):
                file.writelines(lines[: each - start])


def generated_rows(num_rows: int, num_tasks: int, max_tokens: int = MAX_TOKENS) -> Path:
    """A folder that has such rows under `rows`, made once."""
    folder = WORK / f"generated-v{VERSION}-{num_rows}-{num_tasks}-{max_tokens}"
    if not (folder / "rows").is_dir():
        write_rows(folder / "unfinished", generated_tasks(num_tasks), num_rows, max_tokens)
        (folder / "unfinished").rename(folder / "rows")
    return folder


def generated_shards(
    num_rows: int, num_tasks: int, max_tokens: int = MAX_TOKENS
) -> tuple[Path, list[str]]:
    """The build folder of such rows, made once, and the tasks' names."""
    folder, tasks = generated_rows(num_rows, num_tasks, max_tokens), generated_tasks(num_tasks)
    report = build(
        tasks,
        tokenizer=open_tokenizer(str(encoder_folder())),
        out=folder / "built",
        options=BuildOptions(mirror=folder / "rows", max_tokens=max_tokens),
    )
    if report.errors:
        raise click.ClickException(str(report.errors[0]))
    return folder / "built", [spec.name for spec in tasks]


def run_build(num_rows: int, num_tasks: int = 1, max_tokens: int = MAX_TOKENS) -> dict[str, Any]:
    """What a new process says that builds such rows: seconds, rows, peak_mb."""
    folder = generated_rows(num_rows, num_tasks, max_tokens)
    tokenizer, built = encoder_folder() / "tokenizer.json", folder / "built-again"
    return run_contender(
        OURS, "generated_build", folder / "rows", num_tasks, tokenizer, built, max_tokens
    )


def shard_list(built: Path, names: Sequence[str]) -> Path:
    """A file that names the shards of each task, for contenders that know no manifests."""
    splits = [open_task(built, name, "train") for name in names]
    shards = [[str(split.folder / s.file) for s in split.manifest.shards] for split in splits]
    path = built.parent / "shards.json"
    path.write_text(json.dumps(shards), "utf-8")
    return path


def _words() -> list[str]:
    """Words that the tokenizer keeps whole, so that a text has as many tokens as words."""
    tokenizer = Tokenizer.from_file(str(encoder_folder() / "tokenizer.json"))
    return sorted(word for word in tokenizer.get_vocab() if word.isalpha() and word.isascii())
