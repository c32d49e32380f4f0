"""What all contenders read: twelve real tasks, in files that hold the same texts for everybody.

muppet-zoo reads its mirror; the limit and the peers read a bundle in which texts are rendered
already, which spares them our row operations and checks. A line of the bundle is one example:
    text    {"first": …, "second": … or null, "label": …}
    options {"options": [[first, second], …], "label": …}
    words   {"words": […], "tags": […]}
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from benchmarks.common import ROOT
from benchmarks.real.run import find_encoder
from muppet_zoo.examples import Example, examples_of
from muppet_zoo.sources import MissingSplitError, open_rows
from muppet_zoo.zoo import load_zoo

TASKS = (
    "ag_news", "cola", "sst2", "trec", "tweet_eval_hate", "clinc_oos",  # one text
    "rte", "mrpc", "boolq", "stsb",  # two texts
    "commonsense_qa", "ncbi_disease",  # options; words
)  # fmt: skip
MAX_TOKENS = 128
WORK = ROOT / "runs" / "speed"


def encoder_folder() -> Path:
    """The packaged MiniLM, whose tokenizer everybody uses."""
    WORK.mkdir(parents=True, exist_ok=True)
    return find_encoder(WORK / "encoder")


def check_mirror(mirror: Path, tasks: Sequence[str] = TASKS) -> None:
    """Stop when the rows of tasks are not there.

    Raises:
        click.ClickException: naming the tasks without a folder.
    """
    missing = [task for task in tasks if not (mirror / task).is_dir()]
    if missing:
        raise click.ClickException(
            f"--mirror {mirror}: no folder for {', '.join(missing)}; this needs the real rows of "
            f"{', '.join(tasks)}"
        )


def make_bundle(mirror: Path, limit: int | None) -> Path:
    """The folder of rendered texts, `limit` rows a split; made once."""
    folder = WORK / f"bundle-{limit or 'all'}"
    done = folder / "files.json"
    if done.is_file():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    zoo, files = load_zoo(), []
    for task in TASKS:
        spec = zoo.task(task)
        for role, split in spec.source.splits.items():
            try:
                source = open_rows(spec, role, mirror=mirror, limit=limit)
            except MissingSplitError:
                continue  # evaluation splits are optional in a mirror
            path = folder / f"{task}.{role}.jsonl.gz"
            num_rows = 0
            with gzip.open(path, "wt", encoding="utf-8") as file:
                for number, row in source.rows(0):
                    num_rows += 1
                    for example in examples_of(spec, number, row, labelled=split.labels):
                        file.write(json.dumps(_line(example), ensure_ascii=False) + "\n")
            files.append({"file": path.name, "task": task, "role": role, "rows": num_rows})
    done.write_text(json.dumps(files, indent=1) + "\n", "utf-8")
    return folder


def forget(*folders: Path) -> None:
    """Ask the system to drop the files from its cache, so that a reader finds none of them there.

    Source: posix_fadvise(2), POSIX_FADV_DONTNEED.
    """
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file():
                with path.open("rb") as file:
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _line(example: Example) -> dict[str, Any]:
    segments, target = example.segments, example.target
    if segments.words is not None:
        return {"words": list(segments.words), "tags": list(target or ())}
    if len(segments.sequences) > 1:
        return {"options": [list(pair) for pair in segments.sequences], "label": target}
    [(first, second)] = segments.sequences
    return {"first": first, "second": second, "label": target}
