"""The command line. Commands are imported when they are called, so `--help` is instant."""

from __future__ import annotations

import errno
import os
import sys
from importlib import import_module
from io import TextIOWrapper
from typing import NoReturn

import click

from muppet_zoo import __version__
from muppet_zoo.errors import MuppetZooError, suggest

# command -> (module under muppet_zoo.cli, one line of help)
_COMMANDS = {
    "list": ("list_tasks", "List the tasks of the zoo, or of one mixture."),
    "show": ("show", "Show one task: its source, inputs, head, metrics, licence and citation."),
    "validate": ("validate", "Check spec and mixture files; report every problem at its line."),
    "citations": ("citations", "What to cite, and a NOTICE with the licences of tasks."),
    "lock": ("lock", "Record the commits and files on the hub that tasks are built from."),
    "overlap": ("overlap", "Find training rows whose inputs are those of evaluation rows."),
    "doctor": ("doctor", "Look at rows for what a well-formed spec can still get wrong."),
    "add-task": ("add_task", "Propose a spec for a dataset, show what it makes of rows, write it."),
    "preview": ("preview", "Show examples: raw row, segments, tokens, target."),
    "stats": ("stats", "Lengths, truncation, labels and duplicates of tasks."),
    "build": ("build", "Turn the rows of tasks into Arrow shards of token ids."),
    "train": ("train", "Pre-finetune on a mixture, or fine-tune on one task or a suite."),
    "finetune": ("finetune", "Fine-tune encoders on targets: seeds, few shots, a grid; resumes."),
    "study": ("study", "Run a study: arms pre-finetuned, fine-tuned on targets, compared."),
    "eval": ("evaluate", "Score a trained model on built tasks."),
    "affinity": ("affinity", "Compare the gradients that tasks send into a trained encoder."),
    "report": ("report", "Compare scores of runs: intervals, tests, figures, one HTML page."),
    "predict": ("predict", "Answer the rows of a file or of standard input."),
    "export": ("export", "Write a trained model for transformers, with a model card."),
}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = import_module(f"muppet_zoo.cli.{_COMMANDS[cmd_name][0]}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # From the table above: asking each command for its help would import them all.
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in _COMMANDS and not args[0].startswith("-"):
            ctx.fail(f"no command is named '{args[0]}'{suggest(args[0], _COMMANDS)}")
        return super().resolve_command(ctx, args)


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="muppet-zoo")
def cli() -> None:
    """Massive multi-task pre-finetuning: many labelled datasets, one better encoder.

    Task specs describe datasets, `build` turns them into shards, `train` consumes the shards, and
    `eval` scores what came out. Exit codes: 0 done, 1 findings or failures, 2 a wrong request.
    """


def main() -> NoReturn:
    """Run the command line; expected errors are shown without a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # names and rows hold any letters
            stream.reconfigure(errors="backslashreplace")
    try:
        result = cli.main(standalone_mode=False)
        sys.stdout.flush()  # here, where a closed pipe is still caught
        sys.exit(result if isinstance(result, int) else 0)
    except MuppetZooError as error:
        from muppet_zoo.console import print_error

        print_error(error)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        sys.exit(130)
    except BrokenPipeError:  # `muppet-zoo list | head`
        _discard_stdout()
        sys.exit(141)
    except OSError as error:
        if error.errno != errno.ENOSPC or error.filename is not None:
            raise
        # Files are written by functions that name them: this is `muppet-zoo list >/full/disk`.
        _discard_stdout()
        click.echo("error: the output cannot be written: no space left on device", err=True)
        sys.exit(1)


def _discard_stdout() -> None:
    """What is still buffered has nowhere to go; Python would complain at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
