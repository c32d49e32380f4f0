"""What is written reads back as it was meant, and looks like the zoo's own files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from muppet_zoo.add_task.spec_writer import WIDTH, spec_yaml
from muppet_zoo.yaml_reader import parse_yaml, read_yaml
from muppet_zoo.zoo import find_files, shipped_specs

PATH = Path("toy.yaml")
NOT_MIXTURES = [f for f in find_files([shipped_specs()]) if f.parent.name != "mixtures"]


def written(data: dict[str, Any], **reasons: str) -> Any:
    return parse_yaml(spec_yaml(data, reasons, schema="../s.json"), PATH).data


@pytest.mark.parametrize("path", NOT_MIXTURES[::10], ids=lambda path: path.stem)
def test_the_zoos_own_specs_survive(path: Path) -> None:
    data = read_yaml(path).data
    assert (
        written(data)
        == {
            key: value.rstrip("\n") if isinstance(value, str) else value
            for key, value in data.items()
        }
        or written(data) == data
    )


PRINTABLE = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc", "Cn", "Co"]))


@given(PRINTABLE, st.lists(PRINTABLE, min_size=1), PRINTABLE)
@example("0", [""], "0 ")  # white space at the end of a line that is not the last
@example("\xa0", ["a"], "")  # white space to Python, a letter like others to YAML
def test_any_text_survives(description: str, labels: list[str], citation: str) -> None:
    data = {
        "description": description,
        "head": {"type": "classification", "target": "a", "labels": labels},
        "citation": f"{citation}\n{description}",
    }
    assert written(data) == data


@pytest.mark.parametrize("word", ["no", "yes", "null", "1", "1e3", "- a", "#x", "a: b", "~", "'"])
def test_words_that_are_more_than_words_are_quoted(word: str) -> None:
    assert written({"metrics": [word], "license": word}) == {"metrics": [word], "license": word}


def test_the_layout() -> None:
    text = spec_yaml(
        {
            "name": "toy",
            "description": "word " * 40 + "end",
            "source": {"files": {"a": "a.csv"}, "splits": {"train": "a"}},
            "inputs": {"format": "single", "text": "{a}"},
            "metrics": ["accuracy"],
        },
        {"inputs": "one text column", "splits": "by their names", "metrics": "why " * 40},
        schema="../s.json",
    )
    lines = text.splitlines()
    assert lines[0] == "# yaml-language-server: $schema=../s.json"
    assert "description: >-" in lines
    assert "  # by their names" in lines
    assert lines[lines.index("# one text column") + 1] == ('inputs: {format: single, text: "{a}"}')
    assert all(len(line) <= WIDTH for line in lines)
