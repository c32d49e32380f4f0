"""`muppet-zoo add-task`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from muppet_zoo.cli.options import json_option

if TYPE_CHECKING:
    from muppet_zoo.add_task.files import Draft
    from muppet_zoo.add_task.proposals import Proposal
    from muppet_zoo.add_task.samples import Sample
    from muppet_zoo.encode import TokenizerSource

_NUM_SHOWN = 3


@click.command("add-task")
@click.argument("sources", nargs=-1, required=True, metavar="HUB_NAME|FILE...")
@click.option("--config", metavar="NAME", help="Configuration of the hub dataset.")
@click.option("--revision", metavar="NAME", help="Branch, tag or commit; pinned to its commit.")
@click.option(
    "--set", "settings", multiple=True, metavar="FIELD=VALUE",
    help="Set a field instead of the proposal, such as labels='bad, good'; see above.",
)  # fmt: skip
@click.option(
    "--specs", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
    help="Where the spec goes, and the rows of files beside it.",
)  # fmt: skip
@click.option("--tokenizer", metavar="NAME_OR_DIR", help="Show the tokens of the examples, too.")
@click.option("--yes", is_flag=True, help="Ask nothing: take the proposal and what is --set.")
@click.option("--force", is_flag=True, help="Overwrite files that are there already.")
@json_option
def command(  # one parameter per option of the command line
    sources: tuple[str, ...],
    config: str | None,
    revision: str | None,
    settings: tuple[str, ...],
    specs: Path | None,
    tokenizer: str | None,
    yes: bool,
    force: bool,
    as_json: bool,
) -> int:
    """Propose a spec for a dataset, show what it makes of three rows, and write it.

    The dataset is HUB_NAME on the Hugging Face hub, or files of rows: jsonl, csv, tsv, each also
    .gz, or parquet. Each file is a split by its name (train, validation or dev, test), or as
    train=FILE. One file alone is the training split, of which a tenth is set aside to validate on.

    The rows are looked at, and every part of the spec is proposed with its reason: name, family,
    format, the inputs of that format, head, target, labels, metrics, splits. In a terminal, what
    the rows cannot tell (license, citation, …) is asked, and each part can be changed. In scripts,
    --yes takes the proposal, and --set FIELD=VALUE gives what it lacks. Lists are separated by
    commas; splits are written as in a spec: --set 'splits=train: train, validation: dev'.

    Nothing is written before the end, so Ctrl-C leaves nothing behind. With --specs, files that do
    not lie in DIR are copied into DIR/data/NAME. Without it, in a checkout, the spec of a hub
    dataset goes into task_specs/, with a golden test to check by hand, and a few rows into
    runs/samples/, which git ignores and --mirror reads. Then `validate` and `doctor` run on it;
    with --json only `validate`, whose findings are in the document.
    """
    from muppet_zoo.add_task.field_values import given_by
    from muppet_zoo.errors import UsageError

    if as_json and not yes:
        raise UsageError("--json prints one document and cannot ask; give --yes as well")
    if not yes and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("add-task asks questions; run it in a terminal, or give --yes and --set")
    given = given_by(settings)
    sample = _read(sources, config, revision, quiet=as_json)
    session = _Session(sample=sample, given=given, specs=specs, is_quiet=as_json)
    session.show_proposal()
    if yes:
        session.require_complete()
    else:
        session.ask_missing()
        session.ask_changes()
    return session.finish(_opened(tokenizer), force=force, is_asking=not yes)


def _opened(tokenizer: str | None) -> TokenizerSource | None:
    from muppet_zoo.encode import open_tokenizer

    return None if tokenizer is None else open_tokenizer(tokenizer)


def _read(
    sources: tuple[str, ...], config: str | None, revision: str | None, *, quiet: bool
) -> Sample:
    from muppet_zoo.add_task.hub_info import ask_hub, sample_hub
    from muppet_zoo.add_task.samples import looks_like_hub_name, named_files, sample_files
    from muppet_zoo.console import progress
    from muppet_zoo.errors import UsageError

    with progress(quiet=quiet) as display:
        line = display.start("reading", total=1.0, unit="of the split")

        def on_progress(split: str, share: float) -> None:
            line.update(share, text=split)

        try:
            if looks_like_hub_name(sources):
                return sample_hub(ask_hub(sources[0], config, revision), on_progress)
            if config is not None or revision is not None:
                raise UsageError("--config and --revision are for datasets of the hub, not files")
            return sample_files(named_files(sources), on_progress=on_progress)
        finally:
            line.finish()


@dataclass(kw_only=True)
class _Session:
    """One task on its way: what was seen, what is given, and what follows from both."""

    sample: Sample
    given: dict[str, Any]
    specs: Path | None
    is_quiet: bool
    proposal: Proposal = field(init=False)
    taken: Mapping[str, Path] = field(init=False)

    def __post_init__(self) -> None:
        from muppet_zoo.add_task.files import check_place
        from muppet_zoo.zoo import MIXTURE_FOLDER, find_files, spec_folders

        check_place(self.sample, self.specs)
        self.proposal = self._proposed(self.given)
        own = [self.specs] if self.specs is not None and self.specs.is_dir() else []
        # By their files' names, which are the tasks' own: a broken spec has a name, too.
        files = find_files(folder.path for folder in spec_folders(own))
        self.taken = {file.stem: file for file in files if file.parent.name != MIXTURE_FOLDER}

    def _proposed(self, given: Mapping[str, Any]) -> Proposal:
        from muppet_zoo.add_task.proposals import propose

        return propose(self.sample, given)

    def _draft(self, proposal: Proposal) -> Draft:
        from muppet_zoo.add_task.files import make_draft

        folder = self.specs or Path("task_specs")
        return make_draft(self.sample, proposal, folder / f"{proposal.values['name']}.yaml")

    def check_name(self) -> None:
        """UsageError when another task has this name."""
        from muppet_zoo.add_task.files import place_of
        from muppet_zoo.errors import UsageError

        name = self.proposal.values["name"]
        other = self.taken.get(name)
        if other is None or "head" not in self.proposal.values:
            return
        if (
            other.resolve()
            != place_of(self.sample, self.proposal.values, self.specs).spec.resolve()
        ):
            raise UsageError(f"a task '{name}' is already in {other}; set another name")

    # --- what is shown -----------------------------------------------------------------------

    def show_proposal(self) -> None:
        """Every field with its value and reason, then what a person should look at."""
        from muppet_zoo.add_task.field_values import spelled_field
        from muppet_zoo.add_task.proposals import fields_of
        from muppet_zoo.console import plural, print_fields, say

        if self.is_quiet:
            return
        num_rows = sum(split.num_rows for split in self.sample.splits.values())
        columns = plural(len(self.sample.columns), "column")
        say(f"\n{self.sample.name}: {plural(num_rows, 'row')} looked at, {columns}\n")
        values, reasons = self.proposal.values, self.proposal.reasons
        print_fields(
            (name, spelled_field(name, values[name]), reasons[name])
            for name in fields_of(values)
            if name in values
        )
        for operation in values["rows"]:
            print_fields([("rows", str(operation), "a step before the inputs")])
        for remark in self.proposal.remarks:
            say(f"note: {remark}")
        say("")

    # --- what is asked -----------------------------------------------------------------------

    def require_complete(self) -> None:
        """UsageError that lists what has to be set; the licence alone may be unknown."""
        from muppet_zoo.errors import UsageError

        if "license" in self.proposal.missing:
            self._set("license", "unknown")
            reasons = {**self.proposal.reasons, "license": "nobody has stated one"}
            self.proposal = replace(self.proposal, reasons=reasons)
        missing = self.proposal.missing
        if missing:
            listed = "".join(f"\n  --set {name}=…  {ask}" for name, ask in missing.items())
            raise UsageError(f"the rows do not tell these, so give them:{listed}")
        self.check_name()

    def ask_missing(self) -> None:
        """Ask for each field that the rows do not tell."""
        from muppet_zoo.console import ask

        while self.proposal.missing:
            name, question = next(iter(self.proposal.missing.items()))
            ask(f"{name} ({question})", lambda text, name=name: self._set(name, text))  # type: ignore[misc]

    def ask_changes(self) -> None:
        """Take changes until there are no more, and none of them left something wrong."""
        from muppet_zoo.console import ask, say

        while True:
            question = "change FIELD=VALUE (Enter to go on)"
            if not ask(question, self._change, default=""):
                findings = self._draft(self.proposal).findings
                for finding in findings:
                    say(f"not right yet: {finding.field}: {finding.message}")
                if not findings:
                    return
                continue
            self.ask_missing()
            self.show_proposal()

    def _change(self, text: str) -> bool:
        """Carry out `FIELD=VALUE`; False where there is nothing to change."""
        from muppet_zoo.errors import UsageError

        if not text.strip():
            self.check_name()
            return False
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"write FIELD=VALUE, such as {name.strip()}=…")
        self._set(name.strip(), value.strip())
        return True

    def _set(self, name: str, text: str) -> None:
        """Give a field this value, unless it is a wrong one.

        Raises:
            SpecError: what the spec's checks say of this field.
        """
        from muppet_zoo.add_task.field_values import parse_field
        from muppet_zoo.add_task.files import field_of, with_placeholders
        from muppet_zoo.errors import SpecError

        given = {**self.given, name: parse_field(name, text)}
        proposal = self._proposed(given)
        draft = self._draft(with_placeholders(proposal))
        findings = [finding for finding in draft.findings if field_of(finding) == name]
        if findings:
            raise SpecError(findings)
        self.given, self.proposal = given, proposal

    # --- what is written ---------------------------------------------------------------------

    def finish(self, tokenizer: TokenizerSource | None, *, force: bool, is_asking: bool) -> int:
        """Show examples, write everything, run the checks; the exit code."""
        from muppet_zoo.add_task.files import (
            make_draft,
            place_of,
            planned_files,
            refuse_overwriting,
            write_all,
        )  # fmt: skip
        from muppet_zoo.console import confirm, print_json, say
        from muppet_zoo.zoo import validate_paths

        place = place_of(self.sample, self.proposal.values, self.specs)
        draft = make_draft(self.sample, self.proposal, place.spec)
        planned = planned_files(self.sample, draft, place)
        if not force:
            refuse_overwriting(planned)
        unusable = self._unusable_rows(draft)
        self._show_examples(draft, tokenizer)
        if not self.is_quiet:
            for remark in unusable:
                say(f"note: {remark}")
        if is_asking:
            say("\n".join(["to be written:", *(f"  {path}" for path in planned)]))
            if not confirm("write?"):
                say("nothing was written")
                return 0
        write_all(planned)
        if not self.is_quiet:
            return self._run_checks(place.spec)
        _, findings = validate_paths([place.spec])
        print_json(
            {
                "spec": str(place.spec),
                "files": [str(path) for path in planned],
                "reasons": dict(self.proposal.reasons),
                "remarks": [*self.proposal.remarks, *unusable],
                "findings": [str(finding) for finding in findings],
            }
        )
        return 1 if findings else 0

    def _unusable_rows(self, draft: Draft) -> list[str]:
        """One remark per split of which sampled rows do not fit the spec."""
        from muppet_zoo.previews import preview_rows

        remarks: list[str] = []
        if draft.spec is None:
            return remarks
        for role, split in draft.spec.source.splits.items():
            seen = self.sample.splits[split.split]
            rows = zip(seen.numbers, seen.rows, strict=True)
            shown = preview_rows(draft.spec, rows, labelled=split.labels)
            bad = [preview for preview in shown if preview.problem is not None]
            if bad:
                remarks.append(
                    f"{len(bad)} of {len(shown)} sampled rows of {role} do not fit the spec, and "
                    f"the build will stop there; row {bad[0].number}: {bad[0].problem}"
                )
        return remarks

    def _show_examples(self, draft: Draft, tokenizer: TokenizerSource | None) -> None:
        from muppet_zoo.cli.preview import show_previews
        from muppet_zoo.console import say
        from muppet_zoo.previews import preview_rows

        if self.is_quiet or draft.spec is None:
            return
        role, split = next(iter(draft.spec.source.splits.items()))
        seen = self.sample.splits[split.split]
        rows = list(zip(seen.numbers, seen.rows, strict=True))[:_NUM_SHOWN]
        say(f"{len(rows)} rows of {role}, and what the model is given:\n")
        show_previews(preview_rows(draft.spec, rows, labelled=split.labels, tokenizer=tokenizer))
        if tokenizer is None:
            say("(no tokens: give --tokenizer to see them)\n")

    def _run_checks(self, spec: Path) -> int:
        """`validate`, and where it finds nothing `doctor`, if there is one; the exit code."""
        from muppet_zoo.cli import cli
        from muppet_zoo.console import say
        from muppet_zoo.errors import MissingExtraError

        code = 0
        context = click.get_current_context()
        for name, arguments in (
            ("validate", [str(spec)]),
            ("doctor", [spec.stem, *(["--specs", str(self.specs)] if self.specs else [])]),
        ):
            checker = cli.get_command(context, name)
            if checker is None or code != 0:
                continue
            say(f"$ muppet-zoo {name} {' '.join(arguments)}")
            try:
                result = checker.main(
                    arguments, prog_name=f"muppet-zoo {name}", standalone_mode=False
                )
            except MissingExtraError as error:  # the spec is written, and right as far as is known
                say(f"{name} did not run: {error}")
                continue
            code = result if isinstance(result, int) else 0
        return code
