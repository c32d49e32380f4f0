"""`muppet-zoo predict`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from muppet_zoo.cli.options import COUNT, MOST, MOST_TOKENS, specs_option

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from muppet_zoo.spec import TaskSpec


@click.command("predict")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("file", default="-", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--task", "name", required=True, metavar="NAME", help="Task to answer.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array, not a line each.")
@click.option(
    "--jsonl",
    "out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="OUT",
    help="Write the lines to this file, with progress on the screen. It is there when all are "
    "answered; until then they are in OUT.part, which an error leaves.",
)
@click.option(
    "--batch-tokens",
    default=8192,
    show_default=True,
    type=click.IntRange(min=8, max=MOST),
    help="Most tokens in one pass, padding included.",
)
@click.option(
    "--max-tokens",
    type=click.IntRange(min=8, max=MOST_TOKENS),
    help="Cut inputs to so many tokens. What the encoder reads, at most 512, without it.",
)
@click.option(
    "--rows-at-a-time",
    default=256,
    show_default=True,
    type=COUNT,
    help="Answer when so many rows are read; 1 answers each row of a slow stream as it comes.",
)
@click.option(
    "--on-bad-row",
    default="fail",
    show_default=True,
    type=click.Choice(["fail", "skip"]),
    help="Stop at a row without the inputs, or put an error in its place.",
)
@specs_option
def command(  # one parameter per option of the command line
    checkpoint: Path,
    file: Path,
    name: str,
    as_json: bool,
    out: Path | None,
    batch_tokens: int,
    max_tokens: int | None,
    rows_at_a_time: int,
    on_bad_row: str,
    spec_dirs: tuple[Path, ...],
) -> None:
    """Answer the rows of a file, or JSON lines from standard input, with a trained model.

    Rows have the columns of the task's spec that its inputs are made of; labels are not needed, and
    not looked at. FILE is .jsonl, .csv, .tsv (each also .gz) or .parquet. The answers come in the
    order of the rows, one JSON object a line, several for a row that the spec explodes.
    """
    from muppet_zoo.model_folder import find_model
    from muppet_zoo.trainer_api import PredictRequest, load_model_user
    from muppet_zoo.zoo import load_zoo

    if as_json and out is not None:
        raise click.UsageError("--json prints an array, --jsonl writes lines to a file; give one")
    if out is not None and any(_is_same_file(path, file) for path in (out, _part(out))):
        raise click.UsageError(f"--jsonl {out} would overwrite the file of the rows; name another")
    task = load_zoo(spec_dirs).task(name)
    answers = load_model_user().predict(
        PredictRequest(
            checkpoint=find_model(checkpoint).path,
            task=task,
            rows=_rows(file, task),
            max_tokens=max_tokens,
            tokens_per_micro_batch=batch_tokens,
            skip_bad_rows=on_bad_row == "skip",
            rows_at_a_time=rows_at_a_time,
        )
    )
    _write(answers, as_json=as_json, out=out)


def _rows(file: Path, task: TaskSpec) -> Iterator[tuple[int, dict[str, Any]]]:
    from muppet_zoo.prediction_rows import input_columns
    from muppet_zoo.row_files import read_json_lines, read_rows

    if str(file) == "-":
        return read_json_lines(sys.stdin.buffer, "standard input")
    wanted = set(input_columns(task))
    columns = task.source.columns.items()
    return read_rows(file, {n: kind for n, kind in columns if n.partition(".")[0] in wanted})


def _is_same_file(out: Path, file: Path) -> bool:
    """Whether answers would go into the file that rows are read from, by whatever name."""
    try:
        read = os.fstat(0) if str(file) == "-" else file.stat()
        return out.is_file() and os.path.samestat(out.stat(), read)
    except OSError:  # one of them is not there
        return False


def _part(out: Path) -> Path:
    """Where answers are until all are there: beside the file that `out` is or links to."""
    whole = out.resolve()
    return whole.with_name(f"{whole.name}.part")


def _write(answers: Iterable[dict[str, Any]], *, as_json: bool, out: Path | None) -> None:
    import json

    from muppet_zoo.console import note, print_json, progress, say
    from muppet_zoo.errors import UsageError
    from muppet_zoo.file_tools import replacing

    if as_json:
        print_json(list(answers))
    elif out is None:
        for answer in answers:
            say(json.dumps(answer, ensure_ascii=False))
            sys.stdout.flush()  # whoever reads the pipe need not wait for the next rows
    else:
        part = _part(out)
        try:
            part.unlink(missing_ok=True)  # of a run before
            with replacing(out, part) as lines, progress() as display:
                line = display.start("predict")
                for done, answer in enumerate(answers, start=1):
                    lines.write(f"{json.dumps(answer, ensure_ascii=False)}\n".encode())
                    line.update(done)
                line.finish()
        except OSError as error:
            raise UsageError(f"--jsonl {out} cannot be written: {error.strerror}") from error
        finally:
            if part.is_file():
                note(f"the answers until then are in {part}")
