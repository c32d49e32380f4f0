"""Micro-batches from shards, mixed over 12 and 500 tasks, against three loaders, as rows.

    python -m benchmarks.speed.feed [--rounds N] [--rows N] [--tokens N]

All read the same token ids, generated. The peers' batches hold as many rows as ours do on average,
so that a batch has as many tokens; ours fill a budget of positions instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from benchmarks.speed.generated import generated_shards, shard_list
from benchmarks.speed.peers import OURS, prepare, python_of, run_contender, versions_of
from benchmarks.speed.record import Goal, Row, Spread, medians, ratio, rounds_option, write_row

TOKENS_PER_BATCH = 4096
STORES = ("streaming", "litdata")  # peers that read a format of their own
COMMAND = "python -m benchmarks.speed.feed"
NOTES = (
    "Generated rows, equally many of each task; local disk, files in the cache; each in a process "
    "of its own, without imports. Each peer with none or two workers, and HF map-style or "
    "iterable: the fastest in a first trial. streaming and litdata are made for remote stores, of "
    "which this says nothing."
)
TRIED = (
    "Done: the rows of a micro-batch are read with a dozen array calls, however many tasks it "
    "mixes, since each column of all mapped shards is one array: twice as fast as a call a row, at "
    "12 and at 500 tasks. Arrow's own `take` of a chunked column copies all of it first. Of the "
    "time now, two fifths plan, the rest lays out."
)

Said = dict[str, Any]


@click.command()
@rounds_option(5)
@click.option("--rows", default=100_000, show_default=True, help="Rows of all tasks together.")
@click.option("--tokens", default=500_000, show_default=True, help="Tokens that each is to give.")
def main(rounds: int, rows: int, tokens: int) -> None:
    """Measure, and store the rows."""
    versions = {k: v for name in ("hf", *STORES) for k, v in versions_of(name).items()}
    said = {number: measure(number, rounds, rows, tokens) for number in (12, 500)}
    for number, of_all in said.items():
        write_row(throughput_row(number, of_all, versions))
        write_row(first_batch_row(number, of_all, versions))
    write_row(memory_row(said[12], said[500], versions))


def measure(num_tasks: int, rounds: int, rows: int, tokens: int) -> dict[str, list[Said]]:
    """What we and each peer's fastest way say, in turn; all ways run once to find it."""
    built, names = generated_shards(rows, num_tasks)
    contenders = _contenders(built, shard_list(built, names), tokens)
    once = {name: contender() for name, contender in contenders.items()}
    fastest = {
        peer: max((name for name in once if name.startswith(peer)), key=lambda n: _rate(once[n]))
        for peer in ("muppet-zoo", "HF", *STORES)
    }
    said: dict[str, list[Said]] = {name: [] for name in fastest.values()}
    for _ in range(rounds):
        for name in said:
            said[name].append(contenders[name]())
    return said


def _contenders(built: Path, shards: Path, tokens: int) -> dict[str, Callable[[], Said]]:
    ours = partial(run_contender, OURS, "our_feed", built, TOKENS_PER_BATCH, tokens)
    rows = round(ours()["rows_per_batch"])
    contenders: dict[str, Callable[[], Said]] = {"muppet-zoo": ours}
    for way in ("map", "iterable"):
        hf = partial(run_contender, python_of("hf"), "hf_feed", way, shards, rows)
        for workers in (0, 2):
            contenders[f"HF {way}, {workers} workers"] = partial(hf, workers, tokens)
    for peer in STORES:
        store = built.parent / peer
        if not store.is_dir():
            prepare(python_of(peer), f"{peer}_feed", shards, store)
        for workers in (0, 2):
            contenders[f"{peer}, {workers} workers"] = partial(
                run_contender, python_of(peer), f"{peer}_feed", "feed", store, rows, workers, tokens
            )
    return contenders


def column(said: Mapping[str, Sequence[Said]], name: str) -> dict[str, list[float]]:
    """One figure of each contender, by round."""
    return {contender: [line[name] for line in lines] for contender, lines in said.items()}


def throughput_row(
    num_tasks: int, said: Mapping[str, Sequence[Said]], versions: Mapping[str, str]
) -> Row:
    """Tokens per second over those of the fastest peer."""
    rates = column(said, "tokens_per_s")
    typical = medians(rates, "tokens/s")
    best = max((name for name in rates if name != "muppet-zoo"), key=lambda n: _median(typical, n))
    return Row(
        name=f"feed_{num_tasks}",
        topic="feed",
        what=f"micro-batches from shards, shuffled, {num_tasks} tasks mixed",
        against=f"the fastest peer: {best}",
        goal=Goal(at_least=5.0, unit="x"),
        figure=ratio(rates, over="muppet-zoo", under=best),
        command=COMMAND,
        measured=typical,
        peers=versions,
        tried=TRIED,
        notes=NOTES,
    )


def first_batch_row(
    num_tasks: int, said: Mapping[str, Sequence[Said]], versions: Mapping[str, str]
) -> Row:
    """Seconds from opening to the first batch."""
    times = column(said, "first_s")
    return Row(
        name=f"feed_first_{num_tasks}",
        topic="feed",
        what=f"first micro-batch, {num_tasks} tasks, from opening the shards",
        against="",
        goal=Goal(at_most=0.3, unit="s"),
        figure=Spread.of(times["muppet-zoo"]),
        command=COMMAND,
        measured=medians(times, "s"),
        peers=versions,
    )


def memory_row(
    few: Mapping[str, Sequence[Said]],
    many: Mapping[str, Sequence[Said]],
    versions: Mapping[str, str],
) -> Row:
    """Peak memory at 500 tasks over that at 12; flat is taken to be within a tenth."""
    peaks = {"12": column(few, "peak_mb"), "500": column(many, "peak_mb")}
    ours = {number: peak["muppet-zoo"] for number, peak in peaks.items()}
    return Row(
        name="feed_memory",
        topic="feed",
        what="peak memory of the feed, 500 tasks",
        against="12 tasks of as many rows in all",
        goal=Goal(at_most=1.1, unit="x"),
        figure=ratio(ours, over="500", under="12"),
        command=COMMAND,
        measured={
            name: value
            for number, peak in peaks.items()
            for name, value in medians(peak, f"MB at {number} tasks").items()
        },
        peers=versions,
        tried="What is added per task is its manifest and the arrays of its record batches.",
        notes="Process and workers, the libraries' code and mapped files included.",
    )


def _rate(said: Said) -> float:
    return float(said["tokens_per_s"])


def _median(typical: Mapping[str, float], name: str) -> float:
    return typical[f"{name} [tokens/s]"]


if __name__ == "__main__":
    main()
