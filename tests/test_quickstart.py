"""The quickstart zoo is what its generator writes, its specs read it, and its splits are clean."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from muppet_zoo.zoo import load_zoo

ROOT = Path(__file__).resolve().parents[1]
PACK = ROOT / "task_specs" / "quickstart"
HELD_OUT = "qs_reviews"
NOT_IN_MIXTURE = {HELD_OUT, "qs_mentions", "qs_summary", "qs_word_tags"}
TASKS = sorted(path.stem for path in PACK.glob("qs_*.yaml"))
TARGETS = {"label", "labels", "score", "answer", "answers", "starts", "tags", "summary"}


def rows_of(task: str, split: str) -> list[dict[str, object]]:
    text = (PACK / "data" / task / f"{split}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def inputs_of(row: dict[str, object]) -> str:
    return json.dumps({name: value for name, value in row.items() if name not in TARGETS})


@pytest.fixture(scope="module")
def regenerated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("quickstart")
    subprocess.run(
        [sys.executable, "-m", "benchmarks.quickstart.generate", "--out", str(out)],
        cwd=ROOT,
        check=True,
    )
    return out


@pytest.mark.parametrize("folder", ["data", "tiny_encoder", "tiny_encoder_decoder"])
def test_committed_files_are_what_the_generator_writes(regenerated: Path, folder: str) -> None:
    def content(root: Path) -> dict[str, bytes]:
        files = (path for path in (root / folder).rglob("*") if path.is_file())
        return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}

    assert content(regenerated) == content(PACK)


def test_pack_is_small() -> None:
    num_bytes = sum(path.stat().st_size for path in (PACK / "data").rglob("*.jsonl"))
    assert num_bytes <= 1_600_000


def test_every_spec_has_data_and_the_mixture_leaves_the_target_out() -> None:
    zoo = load_zoo()
    assert sorted(path.name for path in (PACK / "data").iterdir()) == TASKS
    assert set(TASKS) <= set(zoo.tasks)
    assert set(zoo.mixture("quickstart").tasks) == set(TASKS) - NOT_IN_MIXTURE
    heads = {zoo.task(name).head.type for name in zoo.mixture("quickstart").tasks}
    assert heads == {"classification", "regression", "multiple_choice", "span"}


@pytest.mark.parametrize("task", TASKS)
def test_no_input_occurs_twice(task: str) -> None:
    inputs = [inputs_of(row) for split in ("train", "validation") for row in rows_of(task, split)]
    assert len(set(inputs)) == len(inputs)


@pytest.mark.parametrize("task", TASKS)
def test_sizes(task: str) -> None:
    num_train, num_validation = len(rows_of(task, "train")), len(rows_of(task, "validation"))
    if task == HELD_OUT:
        assert (num_train, num_validation) == (120, 500)
    elif task == "qs_summary":
        assert (num_train, num_validation) == (600, 100)
    elif task in NOT_IN_MIXTURE:
        assert (num_train, num_validation) == (300, 100)
    else:
        assert 500 <= num_train <= 1500
        assert num_validation == 200


@pytest.mark.parametrize("split", ["train", "validation"])
@pytest.mark.parametrize("task", [task for task in TASKS if "label" in rows_of(task, "train")[0]])
def test_classes_are_balanced(task: str, split: str) -> None:
    labels = getattr(load_zoo().task(task).head, "labels", ())
    counts = Counter(str(row["label"]) for row in rows_of(task, split))
    assert set(counts) == set(labels)
    equal_share = counts.total() / len(counts)
    assert min(counts.values()) >= 0.7 * equal_share, counts
    assert max(counts.values()) <= 1.4 * equal_share, counts


@pytest.mark.parametrize("task", ["qs_find_thing", "qs_who_did_what"])
def test_answers_stand_where_the_rows_say(task: str) -> None:
    for row in rows_of(task, "train") + rows_of(task, "validation"):
        context, (answer,), (start,) = row["context"], row["answers"], row["starts"]  # type: ignore[misc]
        assert context[start : start + len(answer)] == answer  # type: ignore[index]


@pytest.mark.parametrize("task", ["qs_fitting_thing", "qs_fitting_remark"])
def test_every_position_of_the_right_option_is_about_as_frequent(task: str) -> None:
    rows = rows_of(task, "train")
    counts = Counter(int(str(row["answer"])) for row in rows)
    equal_share = len(rows) / len(rows[0]["options"])  # type: ignore[arg-type]
    assert all(0.75 * equal_share <= count <= 1.25 * equal_share for count in counts.values())


def test_tokenizer_frames_as_roberta_does() -> None:
    tokenizer = Tokenizer.from_file(str(PACK / "tiny_encoder" / "tokenizer.json"))
    config = json.loads((PACK / "tiny_encoder" / "config.json").read_text(encoding="utf-8"))
    pair = tokenizer.encode("Which animal is there?", "There is a nonword.")
    framed = "<s> which animal is there ? </s> </s> there is a <unk> . </s>"
    assert pair.tokens == framed.split()
    assert tokenizer.get_vocab_size() == config["vocab_size"]
    for name in ("bos", "pad", "eos"):
        token = {"bos": "<s>", "pad": "<pad>", "eos": "</s>"}[name]
        assert tokenizer.token_to_id(token) == config[f"{name}_token_id"]


@pytest.mark.parametrize("task", TASKS)
def test_no_word_is_unknown_to_the_tokenizer(task: str) -> None:
    tokenizer = Tokenizer.from_file(str(PACK / "tiny_encoder" / "tokenizer.json"))
    rows = rows_of(task, "train") + rows_of(task, "validation")
    texts = [
        value
        for row in rows
        for name, value in row.items()
        if isinstance(value, str) and name not in TARGETS
    ]
    encodings = tokenizer.encode_batch(texts)
    assert not any("<unk>" in encoding.tokens for encoding in encodings)
