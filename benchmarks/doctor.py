"""What the doctor finds in real datasets, and whether it is true.

Run: python -m benchmarks.doctor --mirror DIR. Examines every task of the zoo that has rows in DIR
and writes `results/doctor.md` and `.json`; then again with a column taken out of the inputs, as in
`doctor_faults.yaml`, and says whether it is missed. Whether a finding is true was judged by
a person from the rows, and is kept in `doctor_verdicts.yaml` by task and check; a finding without
a verdict is shown as "not judged". Excerpts of rows are left out, since the licences differ.
"""

from __future__ import annotations

import re
import statistics
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import yaml

from benchmarks.common import RESULTS, write_result
from muppet_zoo.console import note, progress
from muppet_zoo.doctor.examine import Examination, Report, examine
from muppet_zoo.doctor.records import SEVERITIES, Diagnosis
from muppet_zoo.errors import SourceError
from muppet_zoo.sources import MissingSplitError
from muppet_zoo.spec import build_task_spec
from muppet_zoo.yaml_reader import Document
from muppet_zoo.zoo import Zoo, load_zoo

VERDICTS = Path(__file__).with_name("doctor_verdicts.yaml")
FAULTS = Path(__file__).with_name("doctor_faults.yaml")
_NOT_JUDGED = {"holds": "not judged", "why": ""}


@click.command()
@click.option(
    "--mirror", required=True, type=click.Path(path_type=Path, exists=True, file_okay=False)
)
def main(mirror: Path) -> None:
    """Examine all tasks with rows under MIRROR and write the tables."""
    zoo = load_zoo()
    reports, seconds, unreadable = examine_all(zoo, mirror)
    verdicts = yaml.safe_load(VERDICTS.read_text("utf-8"))
    faults = find_faults(zoo, mirror)
    rows = [row_of(d, verdicts) for report in reports for d in report.diagnoses]
    data = {
        "command": "python -m benchmarks.doctor --mirror DIR",
        "tasks": {report.task: report.splits for report in reports},
        "cpu_seconds": {name: round(value, 2) for name, value in seconds.items()},
        "unreadable": unreadable,
        "findings": rows,
        "faults": faults,
    }
    write_result("doctor", data)
    (RESULTS / "doctor.md").write_text(markdown(rows, faults, seconds, unreadable), "utf-8")
    counts = Counter((row["severity"], row["holds"]) for row in rows)
    for (severity, verdict), count in sorted(counts.items()):
        note(f"{severity}: {verdict}: {count}")


def examine_all(zoo: Zoo, mirror: Path) -> tuple[list[Report], dict[str, float], dict[str, str]]:
    """Reports, CPU seconds by task, and what could not be read by task."""
    reports, seconds, unreadable = [], {}, {}
    how = Examination(mirror=mirror)
    with progress() as display:
        line = display.start("doctor", total=len(zoo.tasks), unit="tasks")
        for done, spec in enumerate(zoo.tasks.values()):
            line.update(done)
            if spec.source.files:
                continue  # the invented data of the quickstart
            start = time.process_time()
            try:
                reports.append(examine(spec, how))
            except MissingSplitError:
                continue
            except SourceError as error:
                unreadable[spec.name] = str(error).replace(str(mirror), "DIR")
                continue
            seconds[spec.name] = time.process_time() - start
        line.finish()
    return reports, seconds, unreadable


def find_faults(zoo: Zoo, mirror: Path) -> list[dict[str, Any]]:
    """For each spec with a column taken out of the inputs: the gravest finding on that column."""
    results = []
    with progress() as display:
        faults = yaml.safe_load(FAULTS.read_text("utf-8"))
        line = display.start("faults", total=len(faults), unit="faults")
        for done, fault in enumerate(faults):
            line.update(done)
            spec = zoo.task(fault["task"])
            data = {**spec.raw, "inputs": fault["inputs"]}
            planted = build_task_spec(Document(path=spec.path, data=data))
            try:
                report = examine(planted, Examination(mirror=mirror))
            except SourceError:
                continue
            found = [d for d in report.diagnoses if d.subject == fault["lost"]]
            results.append(
                {
                    "task": spec.name,
                    "lost": fault["lost"],
                    "check": found[0].check if found else "",
                    "severity": found[0].severity if found else "not found",
                    "numbers": dict(found[0].numbers) if found else {},
                }
            )
        line.finish()
    return results


def row_of(diagnosis: Diagnosis, verdicts: Mapping[str, Any]) -> dict[str, Any]:
    """A finding with the verdict on it: the task's own, else the one on all notes of the check."""
    own = verdicts["findings"].get(diagnosis.task, {}).get(diagnosis.check)
    general = verdicts["notes"].get(diagnosis.check) if diagnosis.severity == "note" else None
    return {
        **diagnosis.to_json(),
        "message": without_excerpts(diagnosis.message),
        "rows": " ".join(map(str, diagnosis.rows)),
        **(own or general or _NOT_JUDGED),
    }


def without_excerpts(message: str) -> str:
    """The message up to where it quotes a row."""
    return re.split(r"[,;]? such as:? ", message)[0]


def markdown(
    rows: Sequence[Mapping[str, Any]],
    faults: Sequence[Mapping[str, Any]],
    seconds: Mapping[str, float],
    unreadable: Mapping[str, str],
) -> str:
    """The tables: a summary, then errors and warnings one by one, then notes by check."""
    verdicts = sorted({row["holds"] for row in rows})
    lines = [
        "# What the doctor finds in real datasets",
        "",
        f"{len(seconds)} tasks of the zoo with rows at hand, at most 5,000 rows of each split: "
        f"median {statistics.median(seconds.values()):.1f} s of CPU time a task, the longest "
        f"{max(seconds.values()):.1f} s. Made by `python -m benchmarks.doctor --mirror DIR`; the "
        f"verdicts are in `benchmarks/doctor_verdicts.yaml`, each given after looking at rows.",
        "",
        *_table(
            ["severity", *verdicts],
            [
                [severity, *(_count(rows, severity, verdict) for verdict in verdicts)]
                for severity in SEVERITIES
            ],
        ),
        "",
        "## Errors and warnings",
        "",
        *_table(
            ["task", "check", "severity", "finding", "true?", "why"],
            [
                [row[key] for key in ("task", "check", "severity", "message", "holds", "why")]
                for severity in SEVERITIES[:2]
                for row in rows
                if row["severity"] == severity
            ],
        ),
        "",
        "## Columns taken out of the inputs on purpose",
        "",
        f"Of {len(faults)}, {sum(f['severity'] == 'error' for f in faults)} are found with an "
        f"error, {sum(f['severity'] == 'warning' for f in faults)} with a warning, "
        f"and {sum(f['severity'] == 'not found' for f in faults)} are not found.",
        "",
        *_table(
            ["task", "column", "found as", "severity", "words", "related", "skill without", "with"],
            [_fault_row(fault) for fault in faults],
        ),
        "",
        "## Notes",
        "",
        *_table(["check", "notes", "tasks", *verdicts], _note_rows(rows, verdicts)),
        "",
        "Notes that are not simply true:",
        "",
        *_table(
            ["task", "check", "finding", "true?", "why"],
            [
                [row[key] for key in ("task", "check", "message", "holds", "why")]
                for row in rows
                if row["severity"] == "note" and row["holds"] != "yes"
            ],
        ),
        *(["", "## Not readable", ""] if unreadable else []),
        *(f"- {name}: {reason}" for name, reason in unreadable.items()),
    ]
    return "\n".join(lines) + "\n"


def _fault_row(fault: Mapping[str, Any]) -> list[Any]:
    numbers = fault["numbers"]
    words = f"{numbers['words']:.0f}" if "words" in numbers else ""
    keys = ("related", "skill_of_inputs", "skill_of_both")
    shares = [f"{numbers[key]:.2f}" if key in numbers else "" for key in keys]
    return [fault["task"], fault["lost"], fault["check"], fault["severity"], words, *shares]


def _count(rows: Sequence[Mapping[str, Any]], severity: str, verdict: str) -> int:
    return sum(row["severity"] == severity and row["holds"] == verdict for row in rows)


def _note_rows(rows: Sequence[Mapping[str, Any]], verdicts: Sequence[str]) -> list[list[Any]]:
    table = []
    for check in sorted({row["check"] for row in rows if row["severity"] == "note"}):
        notes = [row for row in rows if (row["check"], row["severity"]) == (check, "note")]
        counts = [sum(row["holds"] == verdict for row in notes) for verdict in verdicts]
        table.append([check, len(notes), len({row["task"] for row in notes}), *counts])
    return table


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    lines = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines]


def _cell(value: Any) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    main()
