"""The build of twelve real tasks against two peers, as a row of the table.

    python -m benchmarks.speed.build_peers --mirror DIR [--rounds N] [--limit N]

Each build is cold, as in `benchmarks.speed.build`. Each peer first runs once with one and with two
processes; the faster takes part in the rounds.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click

from benchmarks.speed.inputs import (
    MAX_TOKENS,
    TASKS,
    WORK,
    check_mirror,
    encoder_folder,
    forget,
    make_bundle,
)
from benchmarks.speed.peers import OURS, python_of, run_contender, versions_of
from benchmarks.speed.record import Goal, Row, interleave, medians, ratio, rounds_option, write_row

PEERS = {"datasets.map": ("hf", "hf_build"), "tasknet": ("tasknet", "tasknet_build")}


@click.command()
@click.option("--mirror", required=True, type=click.Path(path_type=Path, exists=True))
@rounds_option(5)
@click.option("--limit", default=10_000, show_default=True, help="Rows of a split, at most.")
def main(mirror: Path, rounds: int, limit: int) -> None:
    """Measure, and store the row."""
    check_mirror(mirror)
    encoder, bundle = encoder_folder(), make_bundle(mirror, limit)
    read = [bundle, *(mirror / task for task in TASKS)]
    versions = {k: v for peer, _ in PEERS.values() for k, v in versions_of(peer).items()}
    contenders = {
        "muppet-zoo": partial(
            _rows_per_s, read, OURS, "our_build", mirror, encoder / "tokenizer.json", limit
        )
    }
    for name, (peer, script) in PEERS.items():
        of_peer: dict[str, Callable[[], float]] = {
            f"{name}, {processes} process{'es' if processes > 1 else ''}": partial(
                _rows_per_s, read, python_of(peer), script, bundle, encoder, processes
            )
            for processes in (1, 2)
        }
        fastest = max(of_peer, key=lambda each: of_peer[each]())
        contenders[fastest] = of_peer[fastest]  # type: ignore[assignment]
    rates = interleave(contenders, rounds=rounds, warm_up=0)
    typical = medians(rates, "rows/s")
    best = max((name for name in rates if name != "muppet-zoo"), key=lambda n: sum(rates[n]))
    write_row(
        Row(
            name="build_peers",
            topic="build",
            what=f"build, twelve real tasks of at most {limit:,} rows a split, cold, two cores",
            against=f"the fastest peer: {best}",
            goal=Goal(at_least=1.8, unit="x"),
            figure=ratio(rates, over="muppet-zoo", under=best),
            command="python -m benchmarks.speed.build_peers --mirror DIR",
            measured=typical,
            peers=versions,
            notes=(
                "Peers read texts that are rendered already, with a fast AutoTokenizer, batched; "
                "of one and two processes the faster in a first trial. tasknet's loading of "
                "metrics from the hub is replaced by nothing, and it pads nothing."
            ),
        )
    )


def _rows_per_s(
    read: list[Path], python: Path | str, script: str, source: Path, tokenizer: Path, last: int
) -> float:
    """One build into an empty folder, which is also the cache of `datasets`."""
    out = WORK / "built"
    shutil.rmtree(out, ignore_errors=True)
    forget(*read)
    os.environ["HF_DATASETS_CACHE"] = str(out)
    said = run_contender(python, script, source, tokenizer, out, MAX_TOKENS, last)
    shutil.rmtree(out)
    return float(said["rows"]) / float(said["seconds"])


if __name__ == "__main__":
    main()
