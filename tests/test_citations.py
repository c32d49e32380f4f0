"""The bibliography and the NOTICE of tasks."""

from __future__ import annotations

import json
from pathlib import Path

import bibtexparser
import pytest
from helpers import make_spec, muppet_zoo, write_spec

from muppet_zoo.citations import bibliography, entries_of, notice
from muppet_zoo.spec import TaskSpec, parse_task_spec
from muppet_zoo.yaml_reader import read_yaml
from muppet_zoo.zoo import Zoo, load_zoo

PAPER = "'@article{who2020, title = {One}, author = {A, B}, year = {2020}}'"


@pytest.fixture(scope="module")
def zoo() -> Zoo:
    return load_zoo()


def citing(folder: Path, name: str, citation: str) -> TaskSpec:
    old = "citation: Invented for the tests."
    path = write_spec(folder, name, (old, f"citation: {citation}"))
    return parse_task_spec(read_yaml(path))


def test_the_bibliography_of_the_whole_zoo_is_bibtex(zoo: Zoo) -> None:
    entries = entries_of(zoo.tasks.values())
    library = bibtexparser.parse_string(bibliography(entries))
    assert library.failed_blocks == []
    keys = [entry.key for entry in library.entries]
    assert keys == [entry.key for entry in entries]
    assert len({key.casefold() for key in keys}) == len(keys)
    assert all({"title"} <= set(entry.fields_dict) for entry in library.entries)
    cited = {task for entry in entries for task in entry.tasks}
    assert cited == set(zoo.tasks)


def test_what_several_tasks_cite_stands_once(tmp_path: Path) -> None:
    specs = [citing(tmp_path, name, PAPER) for name in ("first", "second")]
    (entry,) = entries_of(specs)
    assert entry.tasks == ("first", "second")
    assert bibliography([entry]).startswith("% first, second\n@article{who2020, ")


def test_a_key_that_is_taken_gets_a_number(tmp_path: Path) -> None:
    other = PAPER.replace("One", "Another").replace("who2020", "Who2020")
    specs = [citing(tmp_path, "first", PAPER), citing(tmp_path, "second", other)]
    assert [entry.key for entry in entries_of(specs)] == ["who2020", "Who2020-2"]
    assert entries_of(specs)[1].text.startswith("@article{Who2020-2, title = {Another}")


def test_several_entries_of_one_task_are_told_apart(zoo: Zoo) -> None:
    entries = entries_of([zoo.tasks["rte"]])
    assert len(entries) > 1
    assert all(entry.text.count("@") == 1 for entry in entries)


def test_words_become_an_entry_that_bibtex_can_read(tmp_path: Path) -> None:
    spec = citing(tmp_path, "in_words", "Somebody & others, 100% of {it} in words_only.")
    text = bibliography(entries_of([spec]))
    assert r"note = {Somebody \& others, 100\% of \{it\} in words\_only.}" in text
    (entry,) = bibtexparser.parse_string(text).entries
    assert entry.key == "in_words"


def test_the_notice_names_dataset_licence_and_homepage(tmp_path: Path) -> None:
    spec = make_spec(tmp_path)
    text = notice([spec], entries_of([spec]))
    assert text.endswith(
        "pairs\n"
        "  dataset:  example/pairs, revision main\n"
        "  licence:  CC0-1.0\n"
        "  homepage: https://example.org/pairs\n"
        "  cite as:  pairs\n"
    )


def test_the_command_prints_bibtex() -> None:
    done = muppet_zoo("citations", "cola", "boolq")
    assert done.returncode == 0
    keys = [entry.key for entry in bibtexparser.parse_string(done.stdout).entries]
    assert len(keys) >= 2
    assert done.stderr == ""


def test_the_command_writes_files(tmp_path: Path, zoo: Zoo) -> None:
    out = tmp_path / "new" / "folder"
    done = muppet_zoo("citations", "--mixture", "muppet", "--out", str(out))
    assert (done.returncode, done.stdout) == (0, "")
    assert bibtexparser.parse_file(str(out / "citations.bib")).failed_blocks == []
    text = (out / "NOTICE").read_text("utf-8")
    for task in zoo.mixture("muppet").tasks:
        assert f"\n{task}\n  dataset:  " in text


def test_the_command_as_json() -> None:
    told = json.loads(muppet_zoo("citations", "cola", "--json").stdout)
    (task,) = told["tasks"]
    assert (task["task"], task["license"]) == ("cola", "unknown")
    assert task["cites"] == [entry["key"] for entry in told["entries"]]


def test_mistakes_are_told(tmp_path: Path) -> None:
    assert "no task is named: name tasks" in muppet_zoo("citations").stderr
    unknown = muppet_zoo("citations", "colla")
    assert (unknown.returncode, "did you mean 'cola'" in unknown.stderr) == (2, True)
    (tmp_path / "file").write_text("")
    blocked = muppet_zoo("citations", "cola", "--out", str(tmp_path / "file" / "x"))
    assert (blocked.returncode, "cannot be written" in blocked.stderr) == (2, True)
