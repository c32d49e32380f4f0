"""`muppet-zoo preview`."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from muppet_zoo.cli.options import (
    COUNT,
    TOKENS,
    check_max_tokens,
    json_option,
    mirror_option,
    specs_option,
)

if TYPE_CHECKING:
    from muppet_zoo.previews import Preview, ShownExample
    from muppet_zoo.rows import Row
    from muppet_zoo.sources import RowSource
    from muppet_zoo.spec import TaskSpec

# Rows to choose from; a random choice among all of them would have to read all of them.
_NUM_READ_ROWS = 10_000


@click.command("preview")
@click.argument("task")
@click.option("--split", metavar="ROLE", help="Role of the split; the first one without it.")
@click.option("--rows", "num_rows", type=COUNT, default=3, show_default=True,
              help="How many rows to show.")  # fmt: skip
@click.option("--seed", type=int, help="Choose the rows at random; without it the first are shown.")
@click.option("--tokenizer", "tokenizer_name", metavar="NAME_OR_DIR", help="Show tokens, too.")
@click.option("--max-tokens", type=TOKENS, default=128, show_default=True,
              help="Where `build` would cut; needs --tokenizer.")  # fmt: skip
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="Write a page that needs no other file.")  # fmt: skip
@mirror_option
@specs_option
@json_option
def command(  # one parameter per option of the command line
    task: str,
    split: str | None,
    num_rows: int,
    seed: int | None,
    tokenizer_name: str | None,
    max_tokens: int,
    html: Path | None,
    mirror: Path | None,
    spec_dirs: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Show what TASK's spec makes of real rows: raw row, segments, tokens, target.

    With --seed the rows are chosen among the first 10,000 of the split.
    """
    from muppet_zoo.console import print_json, say
    from muppet_zoo.encode import open_tokenizer
    from muppet_zoo.errors import SourceError
    from muppet_zoo.previews import preview_rows, write_preview_html
    from muppet_zoo.zoo import load_zoo

    check_max_tokens(tokenizer_name)
    spec = load_zoo(spec_dirs).task(task)
    role, source = _opened(spec, split, mirror)
    previews = preview_rows(
        spec,
        _chosen(source, num_rows, seed),
        labelled=spec.source.splits[role].labels,
        tokenizer=None if tokenizer_name is None else open_tokenizer(tokenizer_name),
        max_tokens=max_tokens,
    )
    if not previews:
        raise SourceError(f"{source.place.where}: there are no rows")
    if html is not None:
        write_preview_html(html, f"{task}, {role}", previews)
    if as_json:
        print_json({"task": task, "split": role, "rows": [p.to_json() for p in previews]})
        return
    show_previews(previews)
    if tokenizer_name is None:
        say("(no tokens: give --tokenizer to see them)")
    if html is not None:
        say(f"written: {html}")


def _opened(spec: TaskSpec, split: str | None, mirror: Path | None) -> tuple[str, RowSource]:
    """The role that is asked for, else the first one that has rows, with its rows."""
    from muppet_zoo.errors import UnknownNameError
    from muppet_zoo.sources import MissingSplitError, open_rows

    roles = list(spec.source.splits)
    if split is not None and split not in roles:
        raise UnknownNameError("split", split, roles)
    for role in roles if split is None else [split]:
        try:
            return role, open_rows(spec, role, mirror=mirror)
        except MissingSplitError:
            if role == (split or roles[-1]):
                raise
    raise AssertionError("a spec has at least one role")


def _chosen(source: RowSource, num_rows: int, seed: int | None) -> list[tuple[int, Row]]:
    if seed is None:
        return list(itertools.islice(source.rows(), num_rows))
    rows = list(itertools.islice(source.rows(), _NUM_READ_ROWS))
    chosen = random.Random(seed).sample(range(len(rows)), min(num_rows, len(rows)))
    return [rows[i] for i in sorted(chosen)]


def show_previews(previews: Sequence[Preview]) -> None:
    """Rows and examples on stdout; texts that fill more than a few lines are cut."""
    from muppet_zoo.console import print_fields, say

    for preview in previews:
        say(f"row {preview.number}")
        print_fields(
            ((name, _short(str(value)), "") for name, value in preview.row.items()), indent="  "
        )
        if preview.problem is not None:
            say(f"  not usable: {preview.problem}\n")
        elif not preview.examples:
            say("  dropped by a row operation\n")
        for example in preview.examples:
            print_fields(_lines(example), indent="  → ")
            say("")


def _lines(example: ShownExample) -> list[tuple[str, str, str]]:
    lines = [(segment.name, _short(segment.text), "") for segment in example.segments]
    for tokens in example.tokens:
        lines.append((f"{len(tokens)} tokens", _short(" ".join(tokens)), ""))
    target = "not published" if example.target is None else example.target
    return [*lines, ("target", _short(target), "")]


def _short(text: str, most: int = 400) -> str:
    return text if len(text) <= most else f"{text[: most - 20]} … ({len(text):,} characters)"
