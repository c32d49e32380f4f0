"""How long the light commands take from the shell's call to their end.

Run: python -m benchmarks.startup [--out FILE]. Each command runs in turn, round by round, so that a
busy moment of the machine hits all alike; a figure is the median over the rounds. The ratio to
`python -c pass` is what can be compared between machines.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import click

BASELINE = ("-c", "pass")
COMMANDS: dict[str, tuple[str, ...]] = {
    "python -c pass": BASELINE,
    "muppet-zoo --help": ("-m", "muppet_zoo", "--help"),
    "muppet-zoo list": ("-m", "muppet_zoo", "list"),
    "muppet-zoo validate": ("-m", "muppet_zoo", "validate"),
}
LIMITS_MS = {"muppet-zoo --help": 150.0, "muppet-zoo list": 400.0}  # on an idle machine
PACKAGES = ("click", "jsonschema", "PyYAML", "rich", "yamlcore")


@dataclass(frozen=True, kw_only=True)
class Figure:
    """Milliseconds of one command: median and least of all rounds; `ratio` to the baseline."""

    command: str
    median_ms: float
    least_ms: float
    ratio: float
    limit_ms: float | None


def run_once_ms(arguments: tuple[str, ...]) -> float:
    """Wall-clock milliseconds of one run; fails where the command does."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
    return (time.perf_counter() - start) * 1e3


def measure(rounds: int) -> list[Figure]:
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(rounds + 1):
        for name, arguments in COMMANDS.items():
            times[name].append(run_once_ms(arguments))
    # The first round warms the disk cache and writes byte code.
    medians = {name: statistics.median(values[1:]) for name, values in times.items()}
    return [
        Figure(
            command=name,
            median_ms=round(medians[name], 1),
            least_ms=round(min(times[name][1:]), 1),
            ratio=round(medians[name] / medians["python -c pass"], 2),
            limit_ms=LIMITS_MS.get(name),
        )
        for name in COMMANDS
    ]


def report(figures: list[Figure], rounds: int) -> dict[str, object]:
    """The figures with what is needed to read them later."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return {
        "command": f"python -m benchmarks.startup --rounds {rounds}",
        "commit": commit.stdout.strip() or None,
        "machine": {
            "architecture": platform.machine(),
            "cores": os.cpu_count(),
            "system": platform.system(),
            "load_average": round(os.getloadavg()[0], 2),
        },
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in PACKAGES},
        },
        "figures": [asdict(figure) for figure in figures],
    }


@click.command()
@click.option("--rounds", default=15, show_default=True, help="Timed runs of each command.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="FILE", help="Also write JSON here."
)
def main(rounds: int, as_json: bool, out: Path | None) -> None:
    """Time of the light commands, and its ratio to an empty Python process."""
    figures = measure(rounds)
    text = json.dumps(report(figures, rounds), indent=2) + "\n"
    if as_json:
        click.echo(text, nl=False)
    else:
        width = max(map(len, COMMANDS))
        click.echo(
            f"{'':{width}}  {'median ms':>10}  {'least ms':>9}  {'ratio':>6}  {'limit ms':>9}"
        )
        for figure in figures:
            limit = "" if figure.limit_ms is None else f"{figure.limit_ms:.0f}"
            click.echo(
                f"{figure.command:{width}}  {figure.median_ms:10.1f}  {figure.least_ms:9.1f}  "
                f"{figure.ratio:6.2f}  {limit:>9}"
            )
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
