"""`muppet-zoo validate`."""

from __future__ import annotations

from pathlib import Path

import click

from muppet_zoo.cli.options import json_option


@click.command("validate")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@json_option
def command(paths: tuple[Path, ...], as_json: bool) -> int:
    """Check spec, mixture, run, plan and study files; report every problem at its line.

    PATHS are files or folders; without any, the shipped zoo is checked. The checks need no data
    and no network: YAML (one document, UTF-8, no duplicate keys, no aliases or tags, bounded size
    and depth), the JSON Schema, and what it cannot say: that the name equals the file's, that
    templates, operations and head name columns that exist at that point and hold what is needed,
    that head, format, target type and metrics suit each other, that labels are distinct, that
    carving leaves rows for training, that files exist inside the spec's folder, that names are
    unique in the zoo, that mixtures name existing tasks and explicit rates name each of them, and
    that tasks that share a head agree. Also that labels suit the metrics, that tables which write
    the target write labels, and that inputs do not show it. A file with `run_version`,
    `study_version` or `setting_version` is checked against its schema; one with `finetune_version`
    also for the runs that it makes and for its targets. Exits with 1 when there are findings.
    """
    from muppet_zoo.console import plural, print_findings, print_json, say
    from muppet_zoo.zoo import shipped_specs, validate_paths

    num_files, findings = validate_paths(paths or (shipped_specs(),))
    if as_json:
        print_json(
            {
                "files": num_files,
                "findings": [
                    {
                        "path": str(finding.path),
                        "line": finding.line,
                        "column": finding.column,
                        "field": finding.field,
                        "message": finding.message,
                    }
                    for finding in findings
                ],
            }
        )
    else:
        print_findings(findings)
        if not findings:
            say(f"{plural(num_files, 'file')}, no findings")
    return 1 if findings else 0
