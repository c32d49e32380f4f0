"""Fields of a proposal as a user writes them, on the command line or at a prompt, and back.

Lists and splits are YAML in flow style without its brackets, so that what is typed is what stands
in the spec; everything else is taken as it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from muppet_zoo.add_task.proposals import FACTS, HEAD_FIELDS, INPUTS, LISTS
from muppet_zoo.errors import UnknownNameError, UsageError
from muppet_zoo.yaml_reader import parse_scalar

FIELDS = tuple(
    dict.fromkeys(
        [
            *("name", "family", "format"),
            *(field for fields in INPUTS.values() for field in fields),
            "head",
            *(field for fields in HEAD_FIELDS.values() for field in fields),
            *("metrics", "splits", *FACTS),
        ]
    )
)


def given_by(settings: Sequence[str]) -> dict[str, Any]:
    """The fields that `FIELD=VALUE` settings give.

    Raises:
        UsageError: a setting without `=`, an unknown field, or a value that cannot be read.
    """
    given = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise UsageError(f"--set {setting}: write FIELD=VALUE, such as labels='bad, good'")
        given[name.strip()] = parse_field(name.strip(), text.strip())
    return given


def parse_field(name: str, text: str) -> Any:
    """The value that `text` means for this field.

    Raises:
        UnknownNameError: there is no such field.
        UsageError: this is no value for it.
    """
    if name not in FIELDS:
        raise UnknownNameError("field", name, FIELDS, f"; known: {', '.join(FIELDS)}")
    if name == "splits":
        value = parse_scalar("{" + text.strip().removeprefix("{").removesuffix("}") + "}")
        if not isinstance(value, dict) or not all(value.values()):
            raise UsageError("write roles as in a spec: train: train, validation: dev")
        return value
    if name == "choices" and "{" in text:
        return [part.strip().strip("\"'") for part in re.split(r",\s*(?=[\"']?\{)", text)]
    if name in LISTS:
        return _list(name, text)
    if name in ("no_answer", "max_target_tokens"):
        return parse_scalar(text)
    return text


def _list(name: str, text: str) -> Any:
    if name == "keys" and "," not in text:
        return text
    inside = text.strip().removeprefix("[").removesuffix("]")
    value = parse_scalar(f"[{inside}]")
    if not isinstance(value, list) or any(isinstance(part, dict | list) for part in value):
        raise UsageError(f"{name} are separated by commas; quote one that has a comma or a colon")
    if name == "range":
        return value
    return [part if isinstance(part, str) else _as_typed(part) for part in value]


def _as_typed(value: Any) -> str:
    """A word that YAML reads as a number or boolean, as it was typed."""
    return json.dumps(value)


def spelled_field(name: str, value: Any) -> str:
    """How a user would type this value."""
    if name == "splits":
        return _flow(value).removeprefix("{").removesuffix("}")
    if isinstance(value, list):
        return _flow(value).removeprefix("[").removesuffix("]")
    return value if isinstance(value, str) else _flow(value)


def _flow(value: Any) -> str:
    from muppet_zoo.add_task.spec_writer import inline

    return inline(value)
