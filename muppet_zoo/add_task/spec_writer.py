"""A proposed spec → YAML as a person would write it in the zoo.

Specs are read far more often than they are written, so short parts stand on one line and long ones
in blocks, in the order of the other files, and the reason for each choice is a comment beside it.
PyYAML quotes and escapes; only the layout is decided here.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from muppet_zoo.yaml_reader import parse_scalar

WIDTH = 100
_ORDER = (
    *("spec_version", "name", "family", "description", "source", "rows", "inputs", "head"),
    *("metrics", "on_bad_row", "license", "citation", "homepage", "lineage", "languages"),
)
_NOTE = "# Proposed by `muppet-zoo add-task`. Read it, and check its examples, before you trust it."


def spec_yaml(data: Mapping[str, Any], reasons: Mapping[str, str], *, schema: str) -> str:
    """The file's text. `reasons`: top-level key, or `splits`, → phrase. `schema`: its path."""
    lines = [f"# yaml-language-server: $schema={schema}", _NOTE]
    for key in (key for key in _ORDER if key in data):
        if key in reasons and key != "splits":
            lines += _comment(reasons[key], "")
        if key == "source":
            lines += ["source:"]
            for inner, value in data["source"].items():
                if inner in reasons:
                    lines += _comment(reasons[inner], "  ")
                lines += _entry(inner, value, "  ")
        else:
            lines += _entry(key, data[key], "")
    return "\n".join(lines) + "\n"


def _comment(text: str, indent: str) -> list[str]:
    return textwrap.wrap(
        " ".join(text.split()), WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# "
    )


def _entry(key: str, value: Any, indent: str) -> list[str]:
    """`key: value` on one line where it fits, else as a block."""
    line = f"{indent}{inline(key)}: {inline(value)}"
    if isinstance(value, str):
        return list(_text(key, value, indent)) if len(line) > WIDTH or "\n" in value else [line]
    if len(line) <= WIDTH and key != "rows":
        return [line]
    if isinstance(value, Mapping):
        inner = [line for k, v in value.items() for line in _entry(k, v, f"{indent}  ")]
        return [f"{indent}{inline(key)}:", *inner]
    if isinstance(value, list):
        return [f"{indent}{inline(key)}:", *(f"{indent}  - {inline(item)}" for item in value)]
    return [line]


def _text(key: str, value: str, indent: str) -> Iterator[str]:
    """A long text folded, a text of several lines as it is, anything odd as PyYAML quotes it."""
    inside = f"{indent}  "
    lines = value.split("\n")
    if value.strip() != value or not all(_is_plain(line) for line in lines):
        yield f"{indent}{key}: {inline(value)}"
    elif len(lines) > 1:
        yield f"{indent}{key}: |-"
        yield from (f"{inside}{line}" if line else "" for line in lines)
    elif "  " in value:
        yield f"{indent}{key}: {inline(value)}"
    else:
        yield f"{indent}{key}: >-"
        yield from textwrap.wrap(
            value, WIDTH, initial_indent=inside, subsequent_indent=inside,
            break_long_words=False, break_on_hyphens=False,
        )  # fmt: skip


def _is_plain(line: str) -> bool:
    """Whether it can stand in a block: white space at its end would be lost to sight."""
    return line.isprintable() and not line.endswith(" ")


def inline(value: Any) -> str:
    """A value in flow style, on one line."""
    import yaml

    text = yaml.dump(
        value,
        Dumper=_dumper(),
        default_flow_style=True,
        sort_keys=False,
        width=float("inf"),
        allow_unicode=True,
    )
    return text.removesuffix("...\n").strip(" \n")


@cache
def _dumper() -> Any:
    """PyYAML's safe dumper with double quotes, as the zoo's files have them."""
    import yaml

    class Dumper(yaml.SafeDumper):
        def choose_scalar_style(self) -> Any:
            style = super().choose_scalar_style()
            return '"' if style == "'" else style

        def ignore_aliases(self, data: Any) -> bool:
            return True  # the zoo's reader takes no aliases

    def quoted_where_needed(dumper: Any, text: str) -> Any:
        # PyYAML quotes what YAML 1.1 would read as something else; 1.2 has other numbers: 1e3.
        style = None if parse_scalar(text) == text else '"'
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)

    Dumper.add_representer(str, quoted_where_needed)
    return Dumper
