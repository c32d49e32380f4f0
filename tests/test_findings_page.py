"""FINDINGS.md holds what the committed raw results give."""

from __future__ import annotations

import re

from benchmarks.findings.render import FINDINGS, RAW, main
from muppet_zoo.report.cells import read_runs


def test_tables_are_what_the_raw_results_give() -> None:
    main(["--check"], standalone_mode=False)


def test_figures_and_links_lead_somewhere() -> None:
    text = FINDINGS.read_text("utf-8")
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in headings}
    for target in re.findall(r"\]\(([^)]+)\)", text):
        found = target[1:] in anchors if target.startswith("#") else (FINDINGS.parent / target)
        assert found is True or (found is not False and found.exists()), target


def test_every_study_is_whole() -> None:
    for folder in RAW.glob("*/*"):
        runs = read_runs([str(folder)])
        combinations = {(cell.arm, cell.target, cell.shots) for cell in runs.cells}
        seeds = {combination: set() for combination in combinations}
        for cell in runs.cells:
            seeds[cell.arm, cell.target, cell.shots].add(cell.seed)
        assert all(found == {0, 1, 2, 3, 4} for found in seeds.values()), folder
        assert len({arm for arm, *_ in combinations}) * 10 <= len(combinations), folder
