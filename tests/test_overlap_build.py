"""The overlap policy of a mixture in the build, and what scores say of it."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from helpers import child_env, muppet_zoo
from test_overlap import rows_of, sentence
from tiny_zoo import files_below, spec_data, write_jsonl, write_spec

from muppet_zoo import build_split
from muppet_zoo.build import BuildOptions, BuildReport, SplitOutcome, build
from muppet_zoo.encode import TokenizerSource
from muppet_zoo.errors import SourceError, SpecError
from muppet_zoo.manifests import Manifest, OverlappingRow
from muppet_zoo.overlap.compare import evaluation_splits, read_evaluation
from muppet_zoo.overlap.guard import OverlapError, Protection
from muppet_zoo.overlap.record import ComparedSplit, compared_splits, overlap_of, rows_seen
from muppet_zoo.shards import open_task
from muppet_zoo.zoo import load_zoo

DROP = "overlap: {policy: drop, against: [scored]}\n"
EXACT, NEAR, NGRAM = 17, 120, 230
"""The training rows that are copies of evaluation row 3, 20 and 29."""


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_split, "CHUNK_ROWS", 10)
    monkeypatch.setattr(build_split, "SHARD_EXAMPLES", 50)


class Bench:
    """The task `learned`, with 250 rows of which three are those of `scored`."""

    def __init__(self, folder: Path, tokenizer: TokenizerSource) -> None:
        self.mirror, self.out, self.specs = folder / "mirror", folder / "out", folder / "specs"
        self.tokenizer = tokenizer
        source = random.Random(0)
        train = [sentence(source, source.randint(14, 30)) for _ in range(250)]
        self.scored = [sentence(source, source.randint(14, 30)) for _ in range(30)]
        train[EXACT] = self.scored[3].upper()
        train[NEAR] = " ".join(self.scored[20].split()[1:])
        train[NGRAM] = sentence(source, 9) + " " + " ".join(self.scored[29].split()[:13])
        self.learned = train
        self.write("learned", "train", train)
        self.write("learned", "validation", [sentence(source, 9) for _ in range(12)])
        self.write("scored", "validation", self.scored)
        for name in ("learned", "scored"):
            write_spec(self.specs, spec_data(name))
        self.mixture("plain", "")

    def write(self, task: str, split: str, texts: Sequence[str]) -> None:
        write_jsonl(self.mirror / task / f"{split}.jsonl", rows_of(texts))

    def mixture(self, name: str, overlap: str) -> None:
        folder = self.specs / "mixtures"
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.yaml").write_text(
            f"mixture_version: 1\nname: {name}\ndescription: What is trained on.\n"
            f"tasks: [learned]\n{overlap}"
        )

    def build(self, policy: str | None = None, level: str = "near", **options: Any) -> BuildReport:
        zoo = load_zoo([self.specs])
        overlap = None
        if policy:
            rows = tuple(evaluation_splits([zoo.task("scored")]))
            overlap = Protection(policy=policy, level=level, evaluation=rows)
        return build(
            [zoo.task("learned")], tokenizer=self.tokenizer, out=self.out,
            options=BuildOptions(mirror=self.mirror, max_tokens=16, overlap=overlap, **options),
        )  # fmt: skip

    def train(self, policy: str | None = None, **changes: Any) -> SplitOutcome:
        return next(o for o in self.build(policy, **changes).outcomes if o.role == "train")

    def manifest(self) -> Manifest:
        return open_task(self.out, "learned", "train").manifest

    def built(self) -> dict[int, list[int]]:
        """Source row -> token ids, of the training shards."""
        rows: dict[int, list[int]] = {}
        for path in sorted((self.out / "learned" / "train").glob("*.arrow")):
            table = pa.ipc.open_stream(path).read_all()
            rows |= dict(zip(table["row"].to_pylist(), table["input_ids"].to_pylist(), strict=True))
        return rows

    def arguments(self, mixture: str) -> list[str]:
        return [
            "build", "--mixture", mixture, "--specs", str(self.specs), "--out", str(self.out),
            "--mirror", str(self.mirror), "--tokenizer", str(self.tokenizer.path.parent),
        ]  # fmt: skip

    def command(self, mixture: str, *more: str) -> subprocess.CompletedProcess[str]:
        return muppet_zoo(*self.arguments(mixture), *more)


@pytest.fixture
def bench(tmp_path: Path, tokenizer: TokenizerSource) -> Bench:
    return Bench(tmp_path, tokenizer)


@pytest.mark.parametrize(
    ("level", "gone"),
    [
        ("exact", {EXACT}),
        ("near", {EXACT, NEAR}),
        ("segment", {EXACT, NEAR}),
        ("ngram", {EXACT, NEAR, NGRAM}),
    ],
)
def test_drop_leaves_out_exactly_the_overlapping_rows(
    bench: Bench, level: str, gone: set[int]
) -> None:
    bench.build()
    whole = bench.built()
    bench.build("drop", level)
    kept = bench.built()
    assert list(kept.items()) == [item for item in whole.items() if item[0] not in gone]
    manifest = bench.manifest()
    assert manifest.num_overlapping_rows == len(gone)
    assert {row.row for row in manifest.overlapping_rows} == gone
    assert manifest.num_source_rows == 250
    assert manifest.num_examples == 250 - len(gone)


def test_the_manifest_says_what_was_compared_and_found(bench: Bench) -> None:
    bench.build("warn", "ngram")
    manifest = bench.manifest()
    assert len(bench.built()) == 250
    assert manifest.overlapping_rows == (
        OverlappingRow(row=EXACT, kind="exact", found="scored validation", found_row=3),
        OverlappingRow(row=NEAR, kind="near", found="scored validation", found_row=20),
        OverlappingRow(row=NGRAM, kind="ngram", found="scored validation", found_row=29),
    )
    assert manifest.overlap_histogram == {
        "scored validation exact": 1, "scored validation near": 1, "scored validation ngram": 1,
    }  # fmt: skip
    record = overlap_of(manifest)
    assert record is not None
    assert (record["policy"], record["level"]) == ("warn", "ngram")
    assert len(record["against"].pop("scored validation")) == 64


def test_evaluation_rows_that_change_during_the_build_are_not_compared(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change_and_read(*splits: Any, **options: Any) -> Any:
        bench.write("scored", "validation", bench.scored[1:])
        return read_evaluation(*splits, **options)

    monkeypatch.setattr("muppet_zoo.overlap.guard.read_evaluation", change_and_read)
    outcome = bench.train("drop")
    assert str(outcome.error) == "scored validation: was changed meanwhile; build again"
    assert bench.train("drop").status == "built"


def test_only_training_rows_are_compared(bench: Bench) -> None:
    report = bench.build("drop")
    compared = {o.role: o.num_overlapping_rows for o in report.outcomes}
    assert compared == {"train": 2, "validation": None}


@pytest.mark.parametrize("policy", ["warn", "drop"])
def test_a_second_build_has_nothing_to_do_and_reads_no_evaluation_row(
    bench: Bench, policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert bench.train(policy).status == "built"
    before = files_below(bench.out)
    monkeypatch.setattr("muppet_zoo.overlap.guard.read_evaluation", None)
    assert bench.train(policy).status == "reused"
    assert files_below(bench.out) == before


def test_other_evaluation_rows_policies_and_levels_are_other_shards(bench: Bench) -> None:
    why = "overlap policy or evaluation rows changed"
    fingerprints = [bench.train().manifest]
    for policy, level in (("warn", "near"), ("drop", "near"), ("drop", "exact")):
        outcome = bench.train(policy, level=level)
        assert (outcome.status, outcome.why) == ("built", why)
        fingerprints.append(outcome.manifest)
    bench.write("scored", "validation", bench.scored[4:])
    outcome = bench.train("drop", level="exact")
    assert (outcome.status, outcome.why, outcome.num_overlapping_rows) == ("built", why, 0)
    (bench.mirror / "scored" / "validation.jsonl").unlink()
    outcome = bench.train("drop", level="exact")
    assert (outcome.why, outcome.num_overlapping_rows) == (why, 0)
    fingerprints.append(outcome.manifest)
    assert len({manifest and manifest.fingerprint for manifest in fingerprints}) == 5
    assert bench.train().why == why


def test_a_build_without_a_policy_has_the_fingerprint_it_always_had(bench: Bench) -> None:
    bench.build()
    assert "overlap" not in bench.manifest().components


def test_fail_names_the_pairs_and_completes_nothing(bench: Bench) -> None:
    for status in ("failed", "failed"):  # the second goes on from finished shards
        outcome = bench.train("fail")
        assert outcome.status == status
        assert isinstance(outcome.error, OverlapError)
        assert str(outcome.error).startswith(
            "task learned, split train: 2 training rows overlap with evaluation rows: "
            "scored validation exact (1), scored validation near (1); the first is row 17, with "
            "row 3 of scored validation."
        )
    assert not (bench.out / "learned" / "train" / "manifest.json").exists()
    bench.write("scored", "validation", bench.scored[21:])
    assert bench.train("fail").status == "built"


def test_an_interrupted_build_ends_with_the_same_bytes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.build("drop")
    whole = files_below(bench.out)
    bench.out = bench.out.with_name("again")
    close = build_split._OpenShard.close
    closed = []

    def close_and_stop(shard: Any) -> Any:
        record = close(shard)
        closed.append(record)
        if len(closed) == 2:
            raise KeyboardInterrupt
        return record

    monkeypatch.setattr(build_split._OpenShard, "close", close_and_stop)
    with pytest.raises(KeyboardInterrupt):
        bench.build("drop", jobs=1)
    monkeypatch.setattr(build_split._OpenShard, "close", close)
    assert bench.train("drop").status == "resumed"
    assert files_below(bench.out) == whole


# Small shards, and a pause after each chunk to be killed in.
SLOW_BUILD = """
import time
from muppet_zoo import build_split
from muppet_zoo.cli import main
build_split.CHUNK_ROWS, build_split.SHARD_EXAMPLES = 10, 50
add = build_split._OpenShard.add
def slow_add(self, chunk, encoded):
    add(self, chunk, encoded)
    time.sleep(0.05)
build_split._OpenShard.add = slow_add
main()
"""


def test_a_killed_build_goes_on_to_the_same_bytes(bench: Bench) -> None:
    bench.mixture("plain", DROP)
    bench.build("drop")
    whole = files_below(bench.out)
    bench.out = bench.out.with_name("killed")
    arguments = [*bench.arguments("plain"), "--max-tokens", "16", "--json"]
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_BUILD, *arguments],
        env=child_env(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    sealed = bench.out / "learned" / "train"
    end = time.monotonic() + 60
    while len(list(sealed.glob("*-?????.json"))) < 2 and time.monotonic() < end:
        time.sleep(0.005)
    process.kill()
    process.communicate()
    assert not (sealed / "manifest.json").exists()
    assert bench.train("drop").status == "resumed"
    assert files_below(bench.out) == whole


@pytest.mark.parametrize(("chunk_rows", "jobs"), [(3, 1), (1000, 3)])
def test_chunks_and_jobs_do_not_change_what_is_dropped(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, chunk_rows: int, jobs: int
) -> None:
    bench.build("drop", "ngram")
    rows, manifest = bench.built(), bench.manifest()
    bench.out = bench.out.with_name("again")
    monkeypatch.setattr(build_split, "CHUNK_ROWS", chunk_rows)
    bench.build("drop", "ngram", jobs=jobs)
    again = bench.manifest()
    assert bench.built() == rows
    assert again.overlapping_rows == manifest.overlapping_rows
    assert again.overlap_histogram == manifest.overlap_histogram
    assert again.fingerprint == manifest.fingerprint


def test_a_split_of_which_every_row_goes_is_an_error_that_says_so(bench: Bench) -> None:
    bench.write("learned", "train", bench.scored[:5])
    outcome = bench.train("drop")
    assert isinstance(outcome.error, SourceError)
    assert "no usable rows" in str(outcome.error)
    assert "5 of them, for overlapping" in str(outcome.error)


# --- the mixture's key and the command -------------------------------------------------------


def test_the_mixture_decides_and_the_table_tells(bench: Bench) -> None:
    bench.mixture("plain", DROP)
    done = bench.command("plain")
    assert done.returncode == 0, done.stderr
    note = done.stdout.splitlines()[-1]
    assert note == (
        "learned train: 2 rows overlap with evaluation rows and were left out: "
        "scored validation exact 1, scored validation near 1"
    )
    outcome = json.loads(bench.command("plain", "--json").stdout)["splits"][0]
    assert (outcome["status"], outcome["num_overlapping_rows"]) == ("reused", 2)


def test_fail_exits_with_1_and_a_mixture_without_the_key_has_no_column(bench: Bench) -> None:
    bench.mixture("plain", DROP.replace("drop", "fail"))
    done = bench.command("plain")
    assert done.returncode == 1
    assert "2 training rows overlap with evaluation rows" in done.stderr
    bench.mixture("plain", "")
    done = bench.command("plain")
    assert done.returncode == 0
    assert "overlap" not in done.stdout.replace("overlap policy or evaluation rows changed", "")


@pytest.mark.parametrize(
    ("overlap", "message"),
    [
        ("{policy: drop, against: [scorde]}", "did you mean 'scored'"),
        ("{policy: dorp, against: [scored]}", "did you mean 'drop'"),
        ("{policy: drop, against: [scored], level: nearly}", "did you mean 'near'"),
        ("{policy: drop}", "against"),
        ("{policy: drop, against: [scored], splits: [train]}", "validation or test is expected"),
    ],
)
def test_a_wrong_policy_is_found_at_its_line(bench: Bench, overlap: str, message: str) -> None:
    bench.mixture("plain", f"overlap: {overlap}\n")
    with pytest.raises(SpecError, match=message) as caught:
        load_zoo([bench.specs])
    assert {finding.line for finding in caught.value.findings} == {5}


def test_a_policy_may_name_suites_and_its_own_mixture(bench: Bench) -> None:
    bench.mixture("plain", "overlap: {policy: warn, against: [plain, glue]}\n")
    overlap = load_zoo([bench.specs]).mixture("plain").overlap
    assert overlap is not None
    assert (overlap.against, overlap.splits, overlap.level) == (
        ("plain", "glue"), ("validation", "test"), "near",
    )  # fmt: skip


# --- beside a score --------------------------------------------------------------------------


def scored_manifest(bench: Bench) -> Manifest:
    zoo = load_zoo([bench.specs])
    options = BuildOptions(mirror=bench.mirror, max_tokens=16)
    write_jsonl(bench.mirror / "scored" / "train.jsonl", rows_of(["a cat"]))
    build([zoo.task("scored")], tokenizer=bench.tokenizer, out=bench.out, options=options)
    return open_task(bench.out, "scored", "validation").manifest


def test_a_score_knows_how_many_training_rows_overlap(bench: Bench) -> None:
    scored = scored_manifest(bench)
    for policy, expected in (("warn", 2), ("drop", 0), (None, None)):
        bench.build(policy)
        compared = compared_splits([bench.manifest()])
        assert rows_seen(compared, scored) == expected


def test_other_rows_than_were_compared_are_not_checked(bench: Bench) -> None:
    bench.build("warn")
    compared = compared_splits([bench.manifest()])
    assert set(compared) == {"scored validation"}
    bench.write("scored", "validation", bench.scored[:20])
    assert rows_seen(compared, scored_manifest(bench)) is None


def test_a_split_counts_as_compared_only_where_all_training_rows_were(bench: Bench) -> None:
    bench.build("warn")
    warned = bench.manifest()
    assert compared_splits([warned, warned])["scored validation"].num_train_rows == 4
    bench.build()
    assert compared_splits([warned, bench.manifest()]) == {}
    assert compared_splits([]) == {}
    entry = compared_splits([warned])["scored validation"]
    assert entry == ComparedSplit(digest=entry.digest, num_train_rows=2)
