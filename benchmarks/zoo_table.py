"""The table in task_specs/README.md: rows, lengths and labels of every task that a mirror holds.

Run: python -m benchmarks.zoo_table --mirror DIR [--check] [--json]. Each task is built once, with
no limit that would cut a text, and every figure is read from its manifest: from one histogram of
full lengths follows how much any limit would cut. Builds are kept under --out, so that a second run
counts only what changed.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from benchmarks.common import ROOT
from benchmarks.real.run import find_encoder
from muppet_zoo.build import BuildOptions, BuildProgress, BuildReport, build
from muppet_zoo.console import note, print_json, progress
from muppet_zoo.encode import open_tokenizer
from muppet_zoo.manifests import Manifest
from muppet_zoo.sources import MissingSplitError, open_rows
from muppet_zoo.spec import TaskSpec
from muppet_zoo.zoo import load_zoo

README = ROOT / "task_specs" / "README.md"
BEGIN, END = "<!-- zoo-table: begin -->", "<!-- zoo-table: end -->"
UNCUT_TOKENS = 1 << 20
LIMITS = (128, 512)
# The rows that are shown, in this order: a mirror need not hold a train split.
ROLES = ("train", "validation", "test")
MAX_SHOWN_LABELS = 6


@dataclass(frozen=True, kw_only=True)
class Line:
    """One task. Lengths are of an example's longest sequence; `longer`: limit -> share of records.

    `labels`: the share of each, in the spec's order, or of each position of the right option; empty
    where the head has neither.
    """

    task: str
    family: str
    head: str
    split: str
    num_examples: int
    mean_tokens: float
    p95_tokens: int
    longer: dict[int, float]
    labels: dict[str, float]


@click.command()
@click.option("--mirror", required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--tokenizer", help="A folder with a tokenizer.json; MiniLM's where not given.")
@click.option("--out", default="runs/zoo_table", type=click.Path(path_type=Path), show_default=True)
@click.option("--check", is_flag=True, help="Change nothing; exit 1 where the table differs.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures and change nothing.")
def main(mirror: Path, tokenizer: str | None, out: Path, check: bool, as_json: bool) -> None:
    """Build what the mirror holds and write its figures into task_specs/README.md."""
    out.mkdir(parents=True, exist_ok=True)
    lines = measure(mirror, tokenizer or str(find_encoder(out / "encoder")), out)
    if as_json:
        print_json([asdict(line) for line in lines])
        return
    before = README.read_text("utf-8")
    after = with_table(before, table(lines))
    if check and before != after:
        note("\n".join(difflib.unified_diff(before.split("\n"), after.split("\n"), lineterm="")))
        note(f"{README.name} differs from what the rows give; run this without --check")
        raise SystemExit(1)
    if before != after:
        README.write_text(after, "utf-8")
    note(f"{README.name}: {len(lines)} tasks, {'unchanged' if before == after else 'written'}")


def measure(mirror: Path, tokenizer: str, out: Path) -> list[Line]:
    """A line for each task of which at least one split can be built."""
    specs = [spec for spec in load_zoo().tasks.values() if is_held(spec, mirror)]
    num_splits = sum(len(spec.source.splits) for spec in specs)
    num_done = 0
    with progress() as display:
        bar = display.start("build", total=num_splits, unit="splits")

        def show(at: BuildProgress) -> None:
            nonlocal num_done
            num_done += at.outcome is not None
            bar.update(num_done, text=at.task)

        report = build(
            specs, tokenizer=open_tokenizer(tokenizer), out=out / "data",
            options=BuildOptions(mirror=mirror, max_tokens=UNCUT_TOKENS), on_progress=show,
        )  # fmt: skip
        bar.finish(f"{num_done} splits")
    for error in report.errors:
        if not isinstance(error, MissingSplitError):
            note(f"left out: {error}")
    chosen = chosen_splits(report)
    ordered = sorted(specs, key=lambda spec: (spec.family, spec.name))
    return [line_of(spec, chosen[spec.name]) for spec in ordered if spec.name in chosen]


def is_held(spec: TaskSpec, mirror: Path) -> bool:
    """Whether the mirror has a file for any of the task's splits."""
    if spec.source.files:
        return False
    for role in spec.source.splits:
        try:
            open_rows(spec, role, mirror=mirror)
        except MissingSplitError:
            continue
        return True
    return False


def chosen_splits(report: BuildReport) -> dict[str, Manifest]:
    """Each task's split that is shown."""
    chosen: dict[str, Manifest] = {}
    for role in reversed(ROLES):
        for outcome in report.outcomes:
            if outcome.role == role and outcome.manifest is not None:
                chosen[outcome.task] = outcome.manifest
    return chosen


def line_of(spec: TaskSpec, manifest: Manifest) -> Line:
    """The figures of one split."""
    lengths = manifest.length_histogram
    total = sum(lengths.values())
    counts = manifest.label_histogram
    names = getattr(spec.head, "labels", None) or positions(counts)
    is_scale = spec.head.type == "regression"
    return Line(
        task=spec.name,
        family=spec.family,
        head=spec.head.type,
        split=manifest.split,
        num_examples=manifest.num_examples,
        mean_tokens=sum(length * count for length, count in lengths.items()) / total,
        p95_tokens=percentile(lengths, 0.95),
        longer={
            limit: sum(count for length, count in lengths.items() if length > limit) / total
            for limit in LIMITS
        },
        labels={}
        if is_scale or not counts
        else {name: counts.get(name, 0) / sum(counts.values()) for name in names},
    )


def positions(counts: Mapping[str, int]) -> list[str]:
    """The positions of options up to the last that is ever right."""
    return [str(i) for i in range(max(map(int, counts), default=-1) + 1)]


def percentile(histogram: Mapping[int, int], share: float) -> int:
    """The least length that at least `share` of the records do not exceed."""
    left = share * sum(histogram.values())
    for length, count in sorted(histogram.items()):
        left -= count
        if left <= 0:
            return length
    raise ValueError("an empty histogram has no percentile")


# --- as Markdown -----------------------------------------------------------------------------


def table(lines: Sequence[Line]) -> str:
    """The Markdown table."""
    heads = ("task", "family", "split", "examples", "tokens mean / p95",
             *(f"> {limit}" for limit in LIMITS), "labels")  # fmt: skip
    rows = [
        (
            line.task,
            line.family.replace("_", " "),
            line.split,
            f"{line.num_examples:,}",
            f"{line.mean_tokens:,.0f} / {line.p95_tokens:,}",
            *(percent(share) for share in line.longer.values()),
            labels(line),
        )
        for line in lines
    ]
    align = ("---", "---", "---", "--:", "--:", *("--:" for _ in LIMITS), "---")
    return "\n".join(f"| {' | '.join(row)} |" for row in (heads, align, *rows))


def percent(share: float) -> str:
    """A share in words: 0, below one in a hundred, or whole percents."""
    if share == 0:
        return "0 %"
    return "< 1 %" if share < 0.01 else f"{100 * share:.0f} %"


def labels(line: Line) -> str:
    """`2: 30/70 %`: how many, and the share of each in the spec's order, or the least and most."""
    shares = [100 * share for share in line.labels.values()]
    if not shares:
        return {"regression": "a number", "span": "a span", "generation": "a text"}.get(
            line.head, "hidden"
        )
    if len(shares) > MAX_SHOWN_LABELS:
        return f"{len(shares)}: {min(shares):.1f} to {max(shares):.1f} %"
    return f"{len(shares)}: {'/'.join(f'{share:.0f}' for share in shares)} %"


def with_table(text: str, markdown: str) -> str:
    """`text` with the table between the marks replaced.

    Raises:
        ClickException: the marks are not both there once.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise click.ClickException(f"{README.name} must have one '{BEGIN}' and one '{END}'")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{markdown}\n{END}{after}"


if __name__ == "__main__":
    main()
