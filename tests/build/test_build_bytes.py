"""Equal inputs give equal bytes, whatever the jobs, and wherever it was stopped."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from build_bench import Bench
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_zoo import KINDS, files_below, random_rows

from muppet_zoo import build as build_module
from muppet_zoo import build_split
from muppet_zoo.build import BuildOptions, BuildProgress, build
from muppet_zoo.encode import TokenizerSource


def test_jobs_do_not_change_the_bytes(bench: Bench) -> None:
    for kind in KINDS:
        bench.add(f"toy_{kind}", kind)
    bench.build(jobs=1)
    one = files_below(bench.out)
    for jobs in (2, 5):
        bench.out = bench.folder / f"out{jobs}"
        bench.build(jobs=jobs)
        assert files_below(bench.out) == one


class Cut(BaseException):
    """Stands for the end of the process in the middle of the work."""


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_stopped_anywhere_it_goes_on_to_the_same_bytes(
    tmp_path_factory: pytest.TempPathFactory, tokenizer: TokenizerSource, data: st.DataObject
) -> None:
    bench = Bench(tmp_path_factory.mktemp("stopped"), tokenizer)
    drop = [{"op": "drop_where", "column": "label", "values": [data.draw(st.integers(0, 2))]}]
    bench.add("toy", rows=drop, on_bad_row="skip")
    rows = random_rows("single", 130, seed=data.draw(st.integers(0, 9)))
    for row in rows[95:125]:  # three chunks without any example, across a shard's end
        row["text"] = " "
    bench.write("toy", "train", rows)
    if data.draw(st.booleans(), label="carved"):
        carve = {"carve_from": "train", "percent": 40}
        bench.data["toy"]["source"]["splits"] = {"train": "train", "validation": carve}
    bench.build(jobs=1)
    whole, bench.out = files_below(bench.out), bench.folder / "stopped"
    for _ in range(data.draw(st.integers(1, 3))):
        with pytest.MonkeyPatch.context() as patch:
            stop_after(patch, data.draw(st.integers(0, 40)))
            with contextlib.suppress(Cut):
                bench.build(jobs=1)
        left = files_below(bench.out) if bench.out.exists() else {}
        for name in left:  # what looks complete is complete
            if name.endswith("manifest.json"):
                folder = name.removesuffix("manifest.json")
                expected = {path for path in whole if path.startswith(folder)}
                assert {path: left[path] for path in expected} == {p: whole[p] for p in expected}
    report = bench.build(jobs=1)
    assert report.errors == ()
    assert files_below(bench.out) == whole


def stop_after(patch: pytest.MonkeyPatch, steps: int) -> None:
    """Raise at the n-th of all writes, renames and flushes."""
    left = [steps]

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **options: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise Cut
            return function(*arguments, **options)

        return run

    for name in ("fsync", "replace", "rename"):
        patch.setattr(os, name, counted(getattr(os, name)))
    for name in ("replace", "unlink"):
        patch.setattr(Path, name, counted(getattr(Path, name)))


def test_a_shard_ends_by_examples_or_by_tokens(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.add("toy", count=200)
    bench.build()
    assert [shard.rows for shard in bench.manifest("toy").shards] == [30] * 6 + [20]
    monkeypatch.setattr(build_split, "SHARD_TOKENS", 1)
    bench.build(max_tokens=15)
    assert [shard.rows for shard in bench.manifest("toy").shards] == [10] * 20


def test_chunks_end_by_rows_or_by_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_split, "CHUNK_CHARACTERS", 100)
    rows = [(i, {"text": "x" * size, "list": ["y"] * 3}) for i, size in enumerate([30] * 5 + [900])]
    chunks = list(build_split._chunks(iter(rows)))
    assert [[number for number, _ in chunk] for chunk in chunks] == [[0, 1, 2, 3], [4, 5]]


def test_progress_tells_rows_and_the_end(bench: Bench) -> None:
    seen: list[BuildProgress] = []
    options = BuildOptions(mirror=bench.mirror, max_tokens=16)
    spec = bench.add("toy")
    build(
        [spec], tokenizer=bench.tokenizer, out=bench.out, options=options, on_progress=seen.append
    )
    train = [progress for progress in seen if progress.role == "train"]
    assert [progress.num_rows for progress in train[:-1]] == list(range(0, 101, 10))
    assert [progress.row for progress in train[:-1]] == list(range(0, 101, 10))
    assert train[-1].phase == "done"
    assert train[-1].outcome is not None
    assert train[-1].outcome.status == "built"


def test_an_interrupt_stops_all_and_leaves_nothing_that_looks_complete(bench: Bench) -> None:
    specs = [bench.add(name, count=4000) for name in ("a", "b")]
    options = BuildOptions(mirror=bench.mirror, max_tokens=16, jobs=2)

    def interrupt(progress: BuildProgress) -> None:
        if progress.num_rows == 40:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(
            specs, tokenizer=bench.tokenizer, out=bench.out, options=options, on_progress=interrupt
        )
    assert threading.active_count() == 1 or not any(
        thread.name.startswith("build") for thread in threading.enumerate()
    )
    assert not list(bench.out.rglob("manifest.json"))
    assert not list(bench.out.rglob("*.tmp"))
    assert "resumed" in {outcome.status for outcome in bench.build().outcomes}


def test_a_bug_is_not_taken_for_a_failed_split(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.add("toy")

    def broken(*arguments: Any, **options: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(build_module, "build_split", broken)
    with pytest.raises(ZeroDivisionError):
        bench.build()
