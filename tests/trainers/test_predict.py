"""Answers to rows are what evaluation predicts of them; labels are not needed; order is kept."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from muppet_zoo_torch import evaluate
from muppet_zoo_torch.trainer import TorchTrainer

from muppet_zoo.cli.predict import command
from muppet_zoo.errors import MuppetZooError, SourceError, UnknownNameError
from muppet_zoo.metrics import score_all
from muppet_zoo.shards import open_task
from muppet_zoo.sources import open_rows
from muppet_zoo.trainer_api import EvalRequest, PredictRequest
from muppet_zoo.zoo import Zoo

ONE_OF_EACH_HEAD = (
    *("qs_topic", "qs_mentions", "qs_similarity", "qs_fitting_thing", "qs_word_tags"),
    "qs_find_thing",
)
LABELS = ("label", "labels", "tags", "score", "answers", "category", "answer")
ROWS = [{"text": "a dog near a tree"}, {"text": "who is it"}, {"text": "one two three " * 9}]


def plain(answer: dict[str, Any], labels: tuple[str, ...]) -> Any:
    """An answer in the form that metrics compare."""
    for key in ("value", "choice", "answer"):
        if key in answer:
            return answer[key]
    if "label" in answer:
        return labels.index(answer["label"])
    if "labels" in answer:
        return [labels.index(label) for label in answer["labels"]]
    return answer["tags"]


@pytest.mark.parametrize("task", ONE_OF_EACH_HEAD)
def test_answers_equal_those_of_evaluation(
    task: str, trained: Path, quickstart_data: Path, zoo: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the scores are of the answer given: the best one has the highest."""
    seen: list[Any] = []

    def watched(metrics: Any, predictions: Any, targets: Any, **options: Any) -> Any:
        seen.extend(predictions)
        return score_all(metrics, predictions, targets, **options)

    monkeypatch.setattr(evaluate, "score_all", watched)
    spec = zoo.task(task)
    TorchTrainer().evaluate(EvalRequest(checkpoint=trained, data=quickstart_data, tasks=(spec,)))
    split = open_task(quickstart_data, task, "validation")
    numbers = split.column("row", split.example_starts[:-1])
    rows = dict(source_rows(spec))
    asked = [(n, {k: v for k, v in rows[n].items() if k not in LABELS}) for n in numbers]
    request = PredictRequest(
        checkpoint=trained, task=spec, rows=iter(asked), tokens_per_micro_batch=300,
        rows_at_a_time=10,
    )  # fmt: skip
    answers = list(TorchTrainer().predict(request))
    assert [answer["row"] for answer in answers] == numbers
    found = [plain(answer, getattr(spec.head, "labels", ())) for answer in answers]
    assert len(found) == len(seen) > 20
    if task == "qs_similarity":
        assert found == pytest.approx(seen, abs=1e-5)
    else:
        assert found == seen
    for answer in answers:
        if "label" in answer:
            assert answer["label"] == max(answer["scores"], key=answer["scores"].get)
            assert sum(answer["scores"].values()) == pytest.approx(1.0)


def source_rows(spec: Any) -> Any:
    source = open_rows(spec, "validation")
    return source.rows()


@pytest.fixture
def ask(trained: Path) -> Callable[..., Result]:
    """`muppet-zoo predict` on the short run's model, its errors as a result."""

    def run(*arguments: str, stdin: bytes | None = None, task: str = "qs_topic") -> Result:
        given = [str(trained), "--task", task, *arguments]
        return CliRunner().invoke(command, given, input=io.BytesIO(stdin) if stdin else None)

    return run


def lines(rows: list[Any]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def test_a_file_of_each_kind_and_standard_input_give_the_same(
    ask: Callable[..., Result], tmp_path: Path
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "rows.jsonl").write_bytes(lines(ROWS))
    text = "".join(f"{row['text']}\n" for row in ROWS)
    (tmp_path / "rows.csv").write_text("text\n" + text)
    (tmp_path / "rows.tsv").write_text("text\n" + text)
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "rows.parquet")
    found = [ask(str(tmp_path / f"rows.{k}")).stdout for k in ("jsonl", "csv", "tsv", "parquet")]
    found.append(ask(stdin=lines(ROWS)).stdout)
    found.append(ask("-", stdin=lines(ROWS)).stdout)
    assert len(set(found)) == 1
    assert [json.loads(line)["row"] for line in found[0].splitlines()] == [0, 1, 2]


def test_whoever_writes_a_chunk_has_its_answers_before_the_next(trained: Path) -> None:
    """A program at the other end of both pipes; the stream does not end meanwhile."""
    command = [sys.executable, "-m", "muppet_zoo", "predict", str(trained), "--task", "qs_topic",
               "--rows-at-a-time", "2"]  # fmt: skip
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for first in (0, 2):
            process.stdin.write(lines(ROWS[:2]))
            process.stdin.flush()
            read = [json.loads(process.stdout.readline())["row"] for _ in range(2)]
            assert read == [first, first + 1]
        process.stdin.close()
        assert process.stdout.read() == b""
    assert process.returncode == 0


def test_json_is_one_array_and_jsonl_a_file(ask: Callable[..., Result], tmp_path: Path) -> None:
    array = json.loads(ask("--json", stdin=lines(ROWS)).stdout)
    ask("--jsonl", str(tmp_path / "out.jsonl"), stdin=lines(ROWS))
    written = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert array == written
    assert len(array) == 3


@pytest.mark.parametrize("name", ["rows.jsonl", "./rows.jsonl", "link.jsonl"])
def test_the_rows_are_not_overwritten(
    ask: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_bytes(lines(ROWS))
    Path("link.jsonl").symlink_to("rows.jsonl")
    done = ask("rows.jsonl", "--jsonl", name)
    assert done.exit_code == 2
    assert f"--jsonl {Path(name)} would overwrite the file of the rows" in done.stderr
    assert Path("rows.jsonl").read_bytes() == lines(ROWS)


def test_nor_are_those_of_standard_input(trained: Path, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(lines(ROWS))
    command = [sys.executable, "-m", "muppet_zoo", "predict", str(trained), "--task", "qs_topic",
               "--jsonl", str(path)]  # fmt: skip
    with path.open("rb") as rows:
        done = subprocess.run(command, stdin=rows, capture_output=True, check=False)
    assert (done.returncode, path.read_bytes()) == (2, lines(ROWS))


def test_an_error_leaves_the_answers_of_before(ask: Callable[..., Result], tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    out.write_text("of before\n")
    done = ask("--jsonl", str(out), "--rows-at-a-time", "1", stdin=lines([*ROWS, {"txt": "x"}]))
    assert isinstance(done.exception, SourceError)
    assert out.read_text() == "of before\n"
    part = tmp_path / "out.jsonl.part"  # three of four rows were answered, and are not lost
    assert len(part.read_text().splitlines()) == 3
    assert f"the answers until then are in {part}" in done.stderr
    assert ask("--jsonl", str(out), stdin=lines(ROWS)).exit_code == 0
    assert list(tmp_path.iterdir()) == [out]
    assert len(out.read_text().splitlines()) == 3


def test_a_link_stays_and_a_device_too(ask: Callable[..., Result], tmp_path: Path) -> None:
    link, pipe = tmp_path / "link.jsonl", tmp_path / "pipe"
    link.symlink_to(tmp_path / "out.jsonl")
    assert ask("--jsonl", str(link), stdin=lines(ROWS)).exit_code == 0
    assert link.is_symlink()
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 3
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert ask("--jsonl", str(pipe), stdin=lines(ROWS)).exit_code == 0
        assert len(os.read(reader, 10_000).splitlines()) == 3
    finally:
        os.close(reader)
    assert pipe.is_fifo()


def test_a_bad_row_stops_after_the_answers_before_it(ask: Callable[..., Result]) -> None:
    bad = [*ROWS, {"text": 7}, {"txt": "x"}, *ROWS]
    done = ask(stdin=lines(bad))
    assert isinstance(done.exception, SourceError)
    assert "row 4: column 'text' is missing (found: txt)" in str(done.exception)
    assert "--on-bad-row skip" in str(done.exception)
    assert [json.loads(line)["row"] for line in done.stdout.splitlines()] == [0, 1, 2, 3]


def test_a_bad_row_that_is_skipped_has_its_error_in_its_place(ask: Callable[..., Result]) -> None:
    done = ask("--on-bad-row", "skip", stdin=lines([{"txt": "x"}, *ROWS]))
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert answers[0] == {"row": 0, "error": "column 'text' is missing (found: txt)"}
    assert [answer["row"] for answer in answers] == [0, 1, 2, 3]
    assert all("label" in answer for answer in answers[1:])


def test_a_line_that_is_no_json_is_named(ask: Callable[..., Result]) -> None:
    done = ask(stdin=lines(ROWS) + b"{\n")
    assert isinstance(done.exception, MuppetZooError)
    assert str(done.exception).startswith("standard input:4: not JSON")


def test_no_rows_no_answers(ask: Callable[..., Result]) -> None:
    done = ask(stdin=b"\n")
    assert (done.exit_code, done.stdout) == (0, "")


def test_a_task_without_a_head(trained: Path, zoo: Zoo) -> None:
    request = PredictRequest(checkpoint=trained, task=zoo.task("rte"), rows=[])
    with pytest.raises(UnknownNameError, match="no task with a head in"):
        list(TorchTrainer().predict(request))


def test_a_word_that_was_cut_off_has_no_tag(trained: Path, zoo: Zoo) -> None:
    words = ["who", "is", "it"] * 4
    rows = [(0, dict.fromkeys(("tokens", "words"), words))]
    request = PredictRequest(
        checkpoint=trained, task=zoo.task("qs_word_tags"), rows=rows, max_tokens=9
    )
    [answer] = TorchTrainer().predict(request)
    assert [tag is None for tag in answer["tags"]] == [False] * 7 + [True] * 5
    assert [score is None for score in answer["scores"]] == [False] * 7 + [True] * 5
