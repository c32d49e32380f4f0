"""Collate the stored rows into `results/speed.json`, `results/speed.md` and the README.

python -m benchmarks.speed.table [--check]
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import click

from benchmarks.common import RESULTS, ROOT
from benchmarks.speed.record import ROWS, Topic

README = ROOT / "README.md"
BEGIN, END = "<!-- speed: begin -->", "<!-- speed: end -->"
HEADER = ("what", "against", "goal", "measured", "middle half", "met")

StoredRow = Mapping[str, Any]


@click.command()
@click.option("--check", is_flag=True, help="Change nothing; exit 1 where a file differs.")
def main(check: bool) -> None:
    """Write the three places, or say which are not what the rows say."""
    rows = read_rows(ROWS)
    texts = {
        RESULTS / "speed.json": json.dumps({"rows": rows}, indent=1, ensure_ascii=False) + "\n",
        RESULTS / "speed.md": page(rows),
        # Slopes have figures, which the README shows in place of rows.
        README: with_section(
            README.read_text("utf-8"),
            table([row for row in rows if row["goal"]["unit"] != "slope"]),
        ),
    }
    stale = [path for path, text in texts.items() if _text_of(path) != text]
    if check and stale:
        names = ", ".join(str(path.relative_to(ROOT)) for path in stale)
        raise click.ClickException(
            f"not what the rows say: {names}; run python -m benchmarks.speed.table"
        )
    for path in stale:
        path.write_text(texts[path], "utf-8")


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """The stored rows, by topic, then by name."""
    topics = get_args(Topic)
    rows = [json.loads(path.read_text("utf-8")) for path in folder.glob("*.json")]
    return sorted(rows, key=lambda row: (topics.index(row["topic"]), row["name"]))


def table(rows: Sequence[StoredRow]) -> str:
    """The rows as a Markdown table."""
    lines = [HEADER, tuple("---" for _ in HEADER), *(_cells(row) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def page(rows: Sequence[StoredRow]) -> str:
    """The table, then each row with all that is needed to judge it and measure it again."""
    parts = ["# Speed\n", table(rows)]
    for row in rows:
        origin = row["environment"]
        versions = {**origin["versions"], **row["peers"]}
        lines = [
            f"## {row['what']}" + (f", against {row['against']}" if row["against"] else ""),
            *(f"- {name}: {_number(value)}" for name, value in row["measured"].items()),
            f"- {row['figure']['rounds']} rounds; `{row['command']}` at {origin['commit']} on "
            f"{origin['machine']}",
            f"- {', '.join(f'{name} {version}' for name, version in versions.items())}",
            *([f"\n{row['notes']}"] if row["notes"] else []),
            *([f"\nGoal not met. {row['tried']}"] if row["meets"] is False else []),
        ]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def with_section(text: str, section: str) -> str:
    """`text` with what is between the markers replaced.

    Raises:
        click.ClickException: the markers are not there.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise click.ClickException(f"README.md has no {BEGIN} … {END}")
    return f"{before}{BEGIN}\n{section}{END}{after}"


def _cells(row: StoredRow) -> tuple[str, ...]:
    goal, figure = row["goal"], row["figure"]
    wanted = "–"
    if goal["at_least"] is not None:
        wanted = f"≥ {_with_unit(goal['at_least'], goal['unit'])}"
    elif goal["at_most"] is not None:
        wanted = f"≤ {_with_unit(goal['at_most'], goal['unit'])}"
    middle = (
        "–" if figure["rounds"] == 1 else f"{_number(figure['low'])} to {_number(figure['high'])}"
    )
    met = {True: "yes", False: "no", None: ""}[row["meets"]]
    measured = _with_unit(figure["median"], goal["unit"])
    return row["what"], row["against"] or "–", wanted, measured, middle, met


def _with_unit(value: float, unit: str) -> str:
    joined = "" if unit in ("x", "%") else " "
    return f"{_number(value)}{joined}{'×' if unit == 'x' else unit}"


def _number(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _text_of(path: Path) -> str | None:
    return path.read_text("utf-8") if path.is_file() else None


if __name__ == "__main__":
    main()
