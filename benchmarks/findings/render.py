"""FINDINGS.md's tables and figures from the committed raw results: `make findings`.

Averages over unseen targets and over those that are in the pool too are made apart: the second can
gain by memory alone. Everything that is compared comes from `muppet_zoo.report`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from benchmarks.common import RESULTS, ROOT
from muppet_zoo.report.cells import Runs, read_runs
from muppet_zoo.report.compare import Report, build_report
from muppet_zoo.report.figures import draw, svg_of
from muppet_zoo.report.score_statistics import CONFIDENCE
from muppet_zoo.study.design import Design, read_design, study_names
from muppet_zoo.zoo import load_zoo

FINDINGS = ROOT / "benchmarks" / "FINDINGS.md"
RAW = RESULTS / "findings"
SPECS = Path(__file__).with_name("specs")
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
PARTS = {"unseen": "targets not in the pool", "seen": "targets in the pool too"}


# What shows a study's answer best; the others are in the report (`muppet-zoo report`).
FIGURE = {"scale": "scale", "sample_efficiency": "sample_efficiency"}


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
    """A section for each study that has raw results, with a part for each encoder."""
    zoo = load_zoo((SPECS,))
    targets = {part: zoo.mixture(f"findings_{part}").tasks for part in PARTS}
    for name in (name for name in study_names() if (RAW / name).is_dir()):
        design = read_design(name)
        yield f"\n## {name}: {design.question}\n\n> {design.paper}\n"
        for folder in sorted(path for path in (RAW / name).iterdir() if path.is_dir()):
            runs = read_runs([str(folder)])
            for part in PARTS:
                cells = tuple(cell for cell in runs.cells if cell.target in targets[part])
                if cells:
                    of_part = Runs(cells=cells, arms=runs.arms)
                    yield from _part(design, of_part, part, folder, draw_figures=draw_figures)
    yield "\n"


def _part(
    design: Design, runs: Runs, part: str, folder: Path, *, draw_figures: bool
) -> Iterator[str]:
    report = build_report(runs, baseline=design.baseline)
    yield f"\n### {design.name}, encoder {folder.name}, {PARTS[part]}\n\n"
    yield _table(_average_rows(report))
    figure = folder / "figures" / f"{part}.svg"
    if draw_figures:
        wanted = f"{FIGURE.get(design.name, 'targets')}_"
        [drawing] = [each for each in draw(report) if each.name.startswith(wanted)]
        figure.parent.mkdir(parents=True, exist_ok=True)
        figure.write_text(svg_of(drawing), "utf-8")
    words = f"{design.name}, {folder.name}, {part} targets"
    yield f"\n![{words}]({figure.relative_to(FINDINGS.parent)})\n"
    yield f"\n<details><summary>each target</summary>\n\n{_table(_gain_rows(report))}\n</details>\n"


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
