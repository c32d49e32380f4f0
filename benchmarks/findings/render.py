"""FINDINGS.md's tables and figures from the committed raw results: `make findings`.

Averages over unseen targets and over those that are in the pool too are made apart: the second can
gain by memory alone. Everything that is compared comes from `muppet_zoo.report`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from benchmarks.common import RESULTS, ROOT
from muppet_zoo.report.cells import Runs, read_runs
from muppet_zoo.report.compare import Report, build_report
from muppet_zoo.report.figures import draw, write_figures
from muppet_zoo.report.score_statistics import CONFIDENCE
from muppet_zoo.study.design import Design, read_design, study_names
from muppet_zoo.zoo import load_zoo

FINDINGS = ROOT / "benchmarks" / "FINDINGS.md"
RAW = RESULTS / "findings"
SPECS = Path(__file__).with_name("specs")
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
PARTS = {"unseen": "targets that are not in the pool", "seen": "targets that are in the pool too"}


@click.command()
@click.option("--check", is_flag=True, help="Only say whether FINDINGS.md is up to date.")
def main(check: bool) -> None:
    """Write the part of FINDINGS.md between its marks, and the figures."""
    text = FINDINGS.read_text("utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    made = f"{before}{BEGIN}\n{''.join(sections(draw_figures=not check))}{END}{after}"
    if check and made != text:
        raise click.ClickException("FINDINGS.md is not what its raw results give: make findings")
    FINDINGS.write_text(made, "utf-8")


def sections(*, draw_figures: bool) -> Iterator[str]:
    """A section for each study and encoder that has raw results."""
    for name in study_names():
        design = read_design(name)
        for folder in sorted(path for path in (RAW / name).glob("*") if path.is_dir()):
            yield f"\n### {design.question} ({name}, encoder {folder.name})\n\n"
            yield f"The literature: {design.paper}\n"
            runs = read_runs([str(folder)])
            for part in PARTS:
                yield from _part(design, runs, part, folder, draw_figures=draw_figures)
    yield "\n"


def _part(
    design: Design, runs: Runs, part: str, folder: Path, *, draw_figures: bool
) -> Iterator[str]:
    targets = load_zoo((SPECS,)).mixture(f"findings_{part}").tasks
    # Committed results have no predictions beside them, so tests are over seeds alone.
    cells = tuple(replace(c, predictions=None) for c in runs.cells if c.target in targets)
    if not cells:
        return
    report = build_report(Runs(cells=cells, arms=runs.arms), baseline=design.baseline)
    yield f"\nOn {PARTS[part]}:\n\n{_table(_average_rows(report))}"
    yield f"\n{_table(_gain_rows(report))}"
    if draw_figures:
        write_figures(draw(report), folder / "figures" / part)
    for drawing in sorted((folder / "figures" / part).glob("*.svg")):
        yield f"\n![{drawing.stem}, {part}]({drawing.relative_to(FINDINGS.parent)})\n"


def _average_rows(report: Report) -> list[dict[str, Any]]:
    return [
        {
            "arm": row.arm,
            "tasks": report.arms[row.arm].num_tasks,
            "examples": row.shots,
            "targets": row.num_targets,
            f"mean [{CONFIDENCE:.0%} over seeds]": _with_interval(row.mean, row.low, row.high),
            f"gain over {report.baseline} [{CONFIDENCE:.0%} over targets]": "-"
            if row.targets is None
            else _with_interval(
                row.targets.difference, row.targets.low, row.targets.high, sign=True
            ),
        }
        for row in report.averages
    ]


def _gain_rows(report: Report) -> list[dict[str, Any]]:
    return [
        {
            "target": row.target,
            "metric": row.metric,
            "examples": row.shots,
            "arm": row.arm,
            f"gain over {report.baseline}": _with_interval(
                row.seeds.difference, row.seeds.low, row.seeds.high, sign=True
            ),
            "seeds": row.seeds.num_pairs,
        }
        for row in report.comparisons
    ]


def _with_interval(mean: float, low: float | None, high: float | None, sign: bool = False) -> str:
    form = "+.3f" if sign else ".3f"
    return f"{mean:{form}}" + ("" if low is None else f" [{low:{form}}, {high:{form}}]")


def _table(rows: list[dict[str, Any]]) -> str:
    header = list(rows[0])
    lines = [header, ["---"] * len(header), *([str(v) for v in row.values()] for row in rows)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


if __name__ == "__main__":
    main()
