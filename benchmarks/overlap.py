"""How well and how fast overlap is found: planted copies among a million generated rows.

Run: python -m benchmarks.overlap [--train 1000000] [--evaluation 100000] [--json FILE]

Rows are pairs of sentences, of 8 to 30 and of 4 to 12 words, drawn as often as words are in English
text (Zipf's law over 30,000 words), so that they share frequent words by chance. Evaluation rows
are copied into the training rows, each at a known place, with other case and punctuation and with a
share of their words edited. An edit deletes a word, doubles it, puts another in its place or
swaps it with the next, each equally often. What is found elsewhere is a false positive.

`recall` is of evaluation rows planted at that rate, found as `exact` or `near` with the row they
were planted in. The command itself does the work, in a process of its own, whose time and peak
memory are measured. Last, `rensa` and `datasketch` (to be installed for this) make, index and look
up the same sets.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from benchmarks.common import environment
from muppet_zoo.console import note
from muppet_zoo.formats import Segments
from muppet_zoo.overlap.hashes import hash_examples
from muppet_zoo.overlap.index import NEAR_JACCARD, NUM_BANDS, NUM_PERMUTATIONS

RATES = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3)
COPIES_OF_EACH = 2_000
NUM_WORDS = 30_000
SEED = 1

_WEIGHTS = list(itertools.accumulate(1 / rank for rank in range(1, NUM_WORDS + 1)))
_EDITS = ("delete", "double", "replace", "swap")
_WORDS = [f"w{rank}" for rank in range(NUM_WORDS)]
Pair = tuple[list[str], list[str]]

_SPEC = {
    "spec_version": 1,
    "family": "synthetic",
    "description": "Generated rows for a measurement, without any meaning.",
    "inputs": {"format": "pair", "first": "{first}", "second": "{second}"},
    "head": {"type": "classification", "target": "label", "labels": ["a", "b"]},
    "metrics": ["accuracy"],
    "license": "CC0-1.0",
    "citation": "Nobody, nowhere.",
    "homepage": "https://example.org",
    "languages": ["en"],
}


def sentence(source: random.Random, low: int, high: int) -> list[str]:
    return source.choices(_WORDS, cum_weights=_WEIGHTS, k=source.randint(low, high))


def two_sentences(source: random.Random) -> Pair:
    return sentence(source, 8, 30), sentence(source, 4, 12)


def joined(pair: Pair) -> tuple[str, str]:
    return " ".join(pair[0]), " ".join(pair[1])


def edited(words: list[str], rate: float, source: random.Random) -> str:
    """About `rate` of the words edited; at 0 only case and punctuation are."""
    result: list[str] = []
    at = 0
    while at < len(words):
        edit = source.choice(_EDITS) if source.random() < rate else ""
        if edit == "swap" and at + 1 < len(words):
            result += [words[at + 1], words[at]]
            at += 2
            continue
        result += {
            "delete": [],
            "double": [words[at]] * 2,
            "replace": source.choices(_WORDS, cum_weights=_WEIGHTS),
        }.get(edit, [words[at]])
        at += 1
    marked = [w.upper() if source.random() < 0.2 else w for w in result]
    return " ".join(w + source.choice(("", "", "", ",", ".", " -")) for w in marked)


def write_rows(path: Path, rows: Iterable[tuple[str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for first, second in rows:
            file.write(json.dumps({"first": first, "second": second, "label": 0}) + "\n")


def generate(folder: Path, num_train: int, num_evaluation: int) -> dict[int, tuple[float, int]]:
    """Write specs and rows; training row -> (rate, the evaluation row it is a copy of)."""
    source = random.Random(SEED)
    evaluation = [two_sentences(source) for _ in range(num_evaluation)]
    copies = min(COPIES_OF_EACH, num_train // (2 * len(RATES)), num_evaluation // len(RATES))
    places = source.sample(range(num_train), copies * len(RATES))
    originals = source.sample(range(num_evaluation), len(places))
    rates = itertools.chain.from_iterable([rate] * copies for rate in RATES)
    planted = {p: (r, o) for p, r, o in zip(places, rates, originals, strict=True)}

    def train() -> Iterator[tuple[str, str]]:
        for row in range(num_train):
            if row in planted:
                rate, original = planted[row]
                first, second = evaluation[original]
                yield edited(first, rate, source), edited(second, rate, source)
            else:
                yield joined(two_sentences(source))

    for name, role, rows in (
        ("learned", "train", train()),
        ("scored", "test", map(joined, evaluation)),
    ):
        columns = {"first": "string", "second": "string", "label": "label"}
        data = {"hub": "nobody/nothing", "revision": "0" * 40, "columns": columns}
        spec = {**_SPEC, "name": name, "source": {**data, "splits": {role: role}}}
        (folder / "specs").mkdir(exist_ok=True)
        (folder / "specs" / f"{name}.yaml").write_text(json.dumps(spec))
        write_rows(folder / "mirror" / name / f"{role}.jsonl", rows)
    return planted


def measure(folder: Path) -> dict[str, Any]:
    """Run the comparison in a process; every found pair, seconds, and peak memory."""
    script = (
        "import dataclasses, json, sys\n"
        "from muppet_zoo.overlap import compare as overlap\n"
        "from muppet_zoo.cli import main\n"
        "overlap.MAX_EXAMPLES = 10**9\n"  # the command names five of each kind
        "main()\n"
    )
    command = [
        sys.executable, "-c", script, "overlap", "--train", "learned", "--eval", "scored",
        "--specs", str(folder / "specs"), "--mirror", str(folder / "mirror"), "--json",
    ]  # fmt: skip
    start = time.monotonic()
    done = subprocess.run(command, stdout=subprocess.PIPE, env=os.environ, check=True)
    seconds = time.monotonic() - start
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "report": json.loads(done.stdout),
        "seconds": seconds,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "peak_mib": used.ru_maxrss / 1024,
    }


def scores(report: dict[str, Any], planted: dict[int, tuple[float, int]]) -> dict[str, Any]:
    """Recall by edit rate, and what was found that was not planted."""
    (pair,) = report["pairs"]
    kinds = {(e["train_row"], e["evaluation_row"]): e["kind"] for e in pair["examples"]}
    recall = []
    for rate in RATES:
        rows = [(row, original) for row, (r, original) in planted.items() if r == rate]
        found = [kinds.get(pair) for pair in rows]
        recall.append(
            {
                "edit_rate": rate,
                "copies": len(rows),
                "exact": sum(kind == "exact" for kind in found) / len(rows),
                "near_or_exact": sum(kind in ("exact", "near") for kind in found) / len(rows),
                "any_kind": sum(kind is not None for kind in found) / len(rows),
            }
        )
    strange = [kind for (row, original), kind in kinds.items()
               if planted.get(row, (0, -1))[1] != original]  # fmt: skip
    others = pair_rows(report) - len(planted)
    return {
        "recall": recall,
        "false_positives": {
            "rows_that_were_not_planted": others,
            **{kind: strange.count(kind) for kind in ("exact", "near", "segment", "ngram")},
            "share": len(strange) / others,
        },
    }


def pair_rows(report: dict[str, Any]) -> int:
    return int(report["train"][0]["num_rows"])


def compare_libraries(num_rows: int) -> list[dict[str, Any]]:
    """Seconds to sketch, index and look up the same sets of word pairs with each library."""
    import datasketch
    import rensa

    source = random.Random(SEED)
    examples = [Segments(sequences=(joined(two_sentences(source)),)) for _ in range(num_rows)]
    sets = hash_examples(examples).shingles
    lists = [
        [value.tobytes() for value in sets.values[start:end]]
        for start, end in itertools.pairwise(sets.starts.tolist())
    ]
    figures = []
    for name in ("rensa", "datasketch"):
        begin = time.perf_counter()
        if name == "rensa":
            sketches = rensa.RMinHash.from_token_sets(lists, NUM_PERMUTATIONS, SEED)
        else:
            sketches = datasketch.MinHash.bulk(lists, num_perm=NUM_PERMUTATIONS, seed=SEED)
        made = time.perf_counter()
        if name == "rensa":
            index = rensa.RMinHashLSH(NEAR_JACCARD, NUM_PERMUTATIONS, NUM_BANDS)
            index.insert_many(sketches)
        else:
            bands = (NUM_BANDS, NUM_PERMUTATIONS // NUM_BANDS)
            index = datasketch.MinHashLSH(num_perm=NUM_PERMUTATIONS, params=bands)
            with index.insertion_session() as session:
                for key, sketch in enumerate(sketches):
                    session.insert(key, sketch, check_duplication=False)
        indexed = time.perf_counter()
        answers = (
            index.query_all(sketches)
            if name == "rensa"
            else [index.query(sketch) for sketch in sketches]
        )
        looked_up = time.perf_counter()
        figures.append(
            {
                "library": name,
                "rows": num_rows,
                "sketch_us": (made - begin) / num_rows * 1e6,
                "index_us": (indexed - made) / num_rows * 1e6,
                "look_up_us": (looked_up - indexed) / num_rows * 1e6,
                "found_themselves": sum(i in found for i, found in enumerate(answers)) / num_rows,
            }
        )
    return figures


def markdown(data: dict[str, Any]) -> str:
    """The figures as two short tables."""
    lines = [
        "# Overlap on generated rows",
        "",
        f"{data['train_rows']:,} training rows against {data['evaluation_rows']:,} evaluation rows "
        f"took {data['cpu_seconds']:.0f} s of one processor ({data['seconds']:.0f} s by the clock) "
        f"and {data['peak_mib']:,.0f} MiB at the peak, reading of the files included, in one "
        f"process. The machine ({data['environment']['machine']}) had other work at the same time.",
        "",
        "| words edited | copies | exact | near or exact | any kind |",
        "|---|---|---|---|---|",
    ]
    for row in data["recall"]:
        rate = f"{row['edit_rate']:.0%}" + (", case and punctuation" * (not row["edit_rate"]))
        lines.append(
            f"| {rate} | {row['copies']:,} | {row['exact']:.1%} | {row['near_or_exact']:.1%} | "
            f"{row['any_kind']:.1%} |"
        )
    false = data["false_positives"]
    lines += [
        "",
        f"Of {false['rows_that_were_not_planted']:,} rows that were not planted, {false['exact']} "
        f"were called exact, {false['near']} near, {false['segment']} a shared segment and "
        f"{false['ngram']} a shared 13-gram.",
        "",
        "| MinHash library | sketch | index | look up | found themselves |",
        "|---|---|---|---|---|",
    ]
    for row in data["libraries"]:
        lines.append(
            f"| {row['library']} | {row['sketch_us']:.1f} µs | {row['index_us']:.1f} µs | "
            f"{row['look_up_us']:.1f} µs | {row['found_themselves']:.1%} |"
        )
    lines += [
        "",
        f"A row each, {data['libraries'][0]['rows']:,} rows, "
        f"{NUM_PERMUTATIONS} values in {NUM_BANDS} bands.",
        "",
    ]
    return "\n".join(lines)


@click.command()
@click.option("--train", "num_train", default=1_000_000, show_default=True)
@click.option("--evaluation", "num_evaluation", default=100_000, show_default=True)
@click.option("--library-rows", default=20_000, show_default=True)
@click.option("--json", "path", type=click.Path(path_type=Path), help="Also FILE.md beside it.")
def main(num_train: int, num_evaluation: int, library_rows: int, path: Path | None) -> None:
    """Measure recall, false positives, time and memory of `muppet-zoo overlap`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        note(f"writing {num_train:,} and {num_evaluation:,} rows")
        planted = generate(folder, num_train, num_evaluation)
        note("comparing")
        measured = measure(folder)
    data = {
        "environment": environment(),
        "train_rows": num_train,
        "evaluation_rows": num_evaluation,
        "seconds": round(measured["seconds"], 1),
        "cpu_seconds": round(measured["cpu_seconds"], 1),
        "peak_mib": round(measured["peak_mib"]),
        **scores(measured["report"], planted),
        "libraries": compare_libraries(library_rows),
    }
    print(markdown(data))
    if path is not None:
        path.write_text(json.dumps(data, indent=1) + "\n", "utf-8")
        path.with_suffix(".md").write_text(markdown(data), "utf-8")


if __name__ == "__main__":
    main()
