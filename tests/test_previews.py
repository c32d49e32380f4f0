"""What `preview` shows of each kind of task, in words, as JSON and as a page."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from helpers import muppet_zoo
from tiny_zoo import KINDS, random_rows, spec_data, write_jsonl, write_spec, write_tokenizer

from muppet_zoo.previews import Preview, preview_rows, write_preview_html
from muppet_zoo.spec import TaskSpec

ROWS = {
    "single": ({"text": "the cat sat", "label": 2}, "fine"),
    "pair": ({"text": "the cat", "other": "a dog", "score": 2.5}, "2.5"),
    "multi_label": ({"text": "the cat", "tags": [0, 2]}, "red, blue"),
    "multiple_choice": ({"text": "who", "options": ["cat", "dog"], "label": 0}, "option 0: cat"),
    "tokens": ({"words": ["the", "cat"], "tags": [0, 1]}, "the/O cat/B"),
    "extractive_qa": (
        {"question": "who", "context": "the cat sat", "answers": {"text": ["cat"], "start": [4]}},
        "cat",
    ),
    "text_to_text": ({"text": "the cat sat", "other": "a cat"}, "a cat"),
}  # fmt: skip


def spec_of(folder: Path, kind: str, **changes: object) -> TaskSpec:
    return write_spec(folder, spec_data("toy", kind, **changes))


@pytest.mark.parametrize("kind", KINDS)
def test_the_target_is_in_words(tmp_path: Path, kind: str) -> None:
    row, target = ROWS[kind]
    tokenizer = write_tokenizer(tmp_path / "tokenizer")
    (found,) = preview_rows(spec_of(tmp_path, kind), [(5, row)], labelled=True, tokenizer=tokenizer)
    (example,) = found.examples
    assert (found.number, found.row, example.target) == (5, row, target)
    assert len(example.tokens) == (2 if kind == "multiple_choice" else 1)
    assert all(tokens[0] == "[CLS]" and tokens[-1] == "[SEP]" for tokens in example.tokens)


def test_segments_have_the_names_of_the_inputs(tmp_path: Path) -> None:
    row, _ = ROWS["multiple_choice"]
    (found,) = preview_rows(spec_of(tmp_path, "multiple_choice"), [(0, row)], labelled=True)
    segments = [(s.sequence, s.name, s.text) for s in found.examples[0].segments]
    assert segments == [(0, "context", "who"), (0, "option 0", "cat"), (1, "option 1", "dog")]
    assert found.examples[0].tokens == ()


def test_tokens_are_cut_as_the_build_cuts_them(tmp_path: Path) -> None:
    row = {"text": "the cat sat on the mat", "label": 0}
    (found,) = preview_rows(
        spec_of(tmp_path, "single"), [(0, row)], labelled=True,
        tokenizer=write_tokenizer(tmp_path / "t"), max_tokens=4,
    )  # fmt: skip
    assert found.examples[0].tokens == (("[CLS]", "the", "cat", "[SEP]"),)


def test_bad_dropped_and_unlabelled_rows_say_so(tmp_path: Path) -> None:
    drop = [{"op": "drop_where", "column": "label", "values": [-1]}]
    spec = spec_of(tmp_path, "single", rows=drop)
    rows = [(i, {"text": "the cat", "label": label}) for i, label in enumerate([7, -1, 0])]
    bad, dropped, good = preview_rows(spec, rows, labelled=True)
    assert "column 'label' holds 7, which is no label" in str(bad.problem)
    assert (dropped.examples, dropped.problem) == ((), None)
    assert good.examples[0].target == "bad"
    assert preview_rows(spec, rows[2:], labelled=False)[0].examples[0].target is None


def test_the_page_escapes_every_text(tmp_path: Path) -> None:
    row = {"text": "<script>alert(1)</script> & more", "label": 0, "<b>": "<i>"}
    previews = preview_rows(spec_of(tmp_path, "single"), [(0, row)], labelled=True)
    write_preview_html(tmp_path / "page.html", "a <title>", previews)
    page = (tmp_path / "page.html").read_text("utf-8")
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; more" in page
    assert "<dt>&lt;b&gt;</dt><dd>&lt;i&gt;</dd>" in page
    assert not re.search(r"(src|href)=", page)


def test_previews_are_plain_values(tmp_path: Path) -> None:
    row, _ = ROWS["extractive_qa"]
    (found,) = preview_rows(spec_of(tmp_path, "extractive_qa"), [(0, row)], labelled=True)
    assert isinstance(found, Preview)
    assert json.loads(json.dumps(found.to_json()))["examples"][0]["target"] == "cat"


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    """A task with validation rows only, as many mirrors have."""
    spec_of(tmp_path / "specs", "pair")
    write_jsonl(tmp_path / "rows" / "toy" / "validation.jsonl", random_rows("pair", 50))
    return tmp_path


def test_the_command_shows_the_first_split_that_has_rows(mirror: Path) -> None:
    arguments = ("preview", "toy", "--specs", "specs", "--mirror", "rows", "--json")
    shown = json.loads(muppet_zoo(*arguments, cwd=mirror).stdout)
    assert shown["split"] == "validation"
    assert [row["row_number"] for row in shown["rows"]] == [0, 1, 2]
    chosen = json.loads(muppet_zoo(*arguments, "--seed", "1", "--rows", "5", cwd=mirror).stdout)
    numbers = [row["row_number"] for row in chosen["rows"]]
    assert numbers == sorted(set(numbers))
    assert len(numbers) == 5
    assert numbers != [0, 1, 2, 3, 4]


def test_the_command_in_words_and_as_a_page(mirror: Path) -> None:
    write_tokenizer(mirror / "tokenizer")
    done = muppet_zoo(
        *("preview", "toy", "--specs", "specs", "--mirror", "rows", "--rows", "1"),
        *("--tokenizer", "tokenizer", "--html", "page.html"), cwd=mirror,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    for part in ("row 0\n", "→ first", "→ second", "tokens  [CLS]", "→ target", "written: page"):
        assert part in done.stdout
    assert (mirror / "page.html").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--split", "trian"], "no split is named 'trian'; did you mean 'train'?"),
        (["--split", "train"], "no file for split 'train'"),
        (["--mirror", "nowhere"], "nowhere is no folder"),
    ],
)
def test_a_wrong_request(mirror: Path, arguments: list[str], message: str) -> None:
    done = muppet_zoo(
        "preview", "toy", "--specs", "specs", "--mirror", "rows", *arguments, cwd=mirror
    )
    assert done.returncode in (1, 2)
    assert message in done.stderr
    assert "Traceback" not in done.stderr
