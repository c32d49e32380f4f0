"""The whole path in under three minutes: what `make demo` runs.

Fourteen small tasks teach a tiny encoder about an invented world. A fifteenth, with 120 labelled
rows, is then fine-tuned twice: from random weights, and from that encoder. All else is equal, and
several seeds show what is chance. Only public commands do the work; each is printed before it runs
and can be typed as it stands. A demo that was interrupted goes on where it was: what is complete
is skipped, and `train --resume` continues what is not.

    python -m benchmarks.quickstart.demo --out runs/demo
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.common import ROOT, from_root, run_cli
from muppet_zoo.console import note, print_table, say
from muppet_zoo.model_folder import MODEL_FOLDER
from muppet_zoo.report.cells import ArmFacts, Runs, cells_of, check_comparable
from muppet_zoo.report.compare import Report, build_report
from muppet_zoo.report.figures import draw, svg_of
from muppet_zoo.report.page import write_page
from muppet_zoo.report.score_statistics import MeanInterval, mean_and_interval
from muppet_zoo.results import TaskReport, read_reports

RUNS = Path("benchmarks/quickstart")
ENCODER = Path("task_specs/quickstart/tiny_encoder")
TARGET = "qs_reviews"
MAX_TOKENS = 64
ARMS = {"scratch": "from random weights", "prefinetuned": "from the pre-finetuned encoder"}


@dataclass(frozen=True, kw_only=True)
class Result:
    """Scores on the target, by arm and seed, and the mixture's scores before and after."""

    target: dict[str, list[TaskReport]]
    mixture_before: list[TaskReport]
    mixture_after: list[TaskReport]

    def scores(self, arm: str) -> list[float]:
        return [report.scores[report.headline] for report in self.target[arm]]

    def gain(self) -> MeanInterval:
        """Mean gain with its interval, over pairs of runs with equal seeds."""
        pairs = zip(self.scores("scratch"), self.scores("prefinetuned"), strict=True)
        return mean_and_interval([after - before for before, after in pairs])


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), metavar="DIR")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="default: 3; at least 2")
    options = parser.parse_args()
    if options.seeds < 2:
        parser.error("--seeds must be at least 2: one run says nothing about chance")
    out = from_root(options.out)
    start = time.monotonic()
    _run_commands(out, options.seeds)
    result = _collect(out, options.seeds)
    clear = _report(out, result, time.monotonic() - start)
    return 0 if clear else 1


def _run_commands(out: Path, num_seeds: int) -> None:
    """Build, pre-finetune, score, and fine-tune both arms with every seed."""
    data, prefinetuned = out / "data", out / "prefinetuned"
    build = ["build", TARGET, "--mixture", "quickstart", "--tokenizer", str(ENCODER)]
    _command(*build, "--max-tokens", str(MAX_TOKENS), "--out", str(data))
    _train("prefinetune.yaml", prefinetuned, f"data={data}")
    _command("eval", str(prefinetuned), "--data", str(data))
    encoders = {
        "scratch": (f"model.encoder={ENCODER}", "model.random_init=true"),
        "prefinetuned": (f"model.encoder={prefinetuned / MODEL_FOLDER / 'encoder'}",),
    }
    for seed in range(num_seeds):
        for arm, encoder in encoders.items():
            changes = (f"data={data}", f"seed={seed}", *encoder)
            _train("finetune.yaml", _finetuned(out, arm, seed), *changes)


def _train(run_file: str, out: Path, *changes: str) -> None:
    if (ROOT / out / MODEL_FOLDER).is_dir():
        note(f"\n{out} is complete; remove the folder to train it anew")
        return
    settings = [part for change in changes for part in ("--set", change)]
    resume = ["--resume"] if (ROOT / out).is_dir() else []
    _command("train", str(RUNS / run_file), "--out", str(out), *resume, *settings)


def _command(*arguments: str) -> None:
    # Matrices of this size gain little from a second thread and lose much to a busy neighbour.
    threads = os.environ.get("OMP_NUM_THREADS", "1")
    run_cli(*arguments, environment={"OMP_NUM_THREADS": threads})


def _collect(out: Path, num_seeds: int) -> Result:
    """Read what the trainings reported."""

    def reports(folder: Path) -> list[TaskReport]:
        return list(read_reports(ROOT / folder / "reports.jsonl").reports)

    mixture = reports(out / "prefinetuned")
    first, last = min(r.step or 0 for r in mixture), max(r.step or 0 for r in mixture)
    return Result(
        target={
            arm: [reports(_finetuned(out, arm, seed))[-1] for seed in range(num_seeds)]
            for arm in ARMS
        },
        mixture_before=[report for report in mixture if (report.step or 0) == first],
        mixture_after=[report for report in mixture if (report.step or 0) == last],
    )


def _report(out: Path, result: Result, seconds: float) -> bool:
    """Show the comparison, save it, and say whether the gain is clear."""
    metric = result.target["scratch"][0].headline
    rows = []
    for arm, name in ARMS.items():
        interval = mean_and_interval(result.scores(arm))
        each = ", ".join(f"{score:.3f}" for score in result.scores(arm))
        rows.append(
            {
                "fine-tuned": name,
                metric: interval.mean,
                "95% interval": f"{interval.low:.3f} to {interval.high:.3f}",
                "each seed": each,
            }
        )
    gain = result.gain()
    clear = gain.low is not None and gain.low > 0
    verdict = (
        f"gain by pre-finetuning: {gain.mean:+.3f} {metric}, 95% interval {gain.low:+.3f} to "
        f"{gain.high:+.3f} over {gain.num_values} seeds" + ("" if clear else ": NOT clear of zero")
    )
    say("")
    print_table(f"{TARGET}, the task that was left out of the mixture", rows, notes=[verdict])
    _save(out, result, verdict)
    say(f"\n{out / 'report.html'} and report.json hold all scores; {seconds:.0f} s in all")
    return clear


def _compared(result: Result) -> Report:
    """Both sides as the arms "before" and "after"."""
    before = [*result.target["scratch"], *result.mixture_before]
    after = [*result.target["prefinetuned"], *result.mixture_after]
    cells = (*cells_of(before, "before"), *cells_of(after, "after"))
    check_comparable(cells)
    facts = {
        "before": ArmFacts(description=f"not pre-finetuned; {TARGET} {ARMS['scratch']}"),
        "after": ArmFacts(description=f"pre-finetuned; {TARGET} {ARMS['prefinetuned']}"),
    }
    return build_report(Runs(cells=cells, arms=facts))


def _save(out: Path, result: Result, verdict: str) -> None:
    report = _compared(result)
    drawings = draw(report)
    notes = [
        f"{TARGET}, not in the mixture: before is fine-tuned {ARMS['scratch']}, after is "
        f"fine-tuned {ARMS['prefinetuned']}; means over {result.gain().num_values} seeds.",
        f"For {TARGET}, {verdict} (Student t, runs of equal seed paired).",
        "There is one pre-finetuned encoder: its own share of chance is not in the interval.",
        "All other tasks: before the first step of pre-finetuning, and after its last.",
    ]
    write_page(ROOT / out / "report.html", "muppet-zoo quickstart", report, drawings, notes)
    (ROOT / out / "report.svg").write_text(svg_of(drawings[0]), "utf-8")
    record = {
        "target": TARGET,
        "scores": {arm: result.scores(arm) for arm in ARMS},
        "means": {arm: asdict(mean_and_interval(result.scores(arm))) for arm in ARMS},
        "gain": asdict(result.gain()),
        "comparison": asdict(report),
    }
    (ROOT / out / "report.json").write_text(json.dumps(record, indent=2) + "\n", "utf-8")


def _finetuned(out: Path, arm: str, seed: int) -> Path:
    return out / "finetuned" / f"{arm}-seed{seed}"


if __name__ == "__main__":
    sys.exit(main())
