"""A document against its JSON Schema, with messages a contributor can act on.

`jsonschema` does the checking; this module only turns its errors into findings that say what was
found, what is allowed and which known word is nearest.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from muppet_zoo.errors import Finding, suggest
from muppet_zoo.yaml_reader import DataPath, Document

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import ValidationError

_TYPES = {
    "object": "a mapping",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
}


@cache
def load_schema(name: str) -> dict[str, Any]:
    """The schema `task_spec`, `mixture` or `run`, as shipped."""
    text = resources.files("muppet_zoo").joinpath(f"schemas/{name}.schema.json").read_text("utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


@cache
def _validator(name: str) -> Draft202012Validator:
    from jsonschema import Draft202012Validator

    return Draft202012Validator(load_schema(name))


def schema_findings(document: Document, schema_name: str) -> list[Finding]:
    """Every way in which `document` breaks the schema, in file order."""
    errors = _validator(schema_name).iter_errors(document.data)
    found = [finding for error in errors for finding in _explain(document, error)]
    return sorted(set(found))


def _explain(document: Document, error: ValidationError) -> Iterator[Finding]:
    path: DataPath = tuple(error.absolute_path)
    if error.validator in ("oneOf", "anyOf"):
        yield from _explain_choice(document, error, path)
    elif error.validator in ("additionalProperties", "unevaluatedProperties"):
        allowed = list(error.schema.get("properties", {}))
        for key in error.instance:
            if key not in allowed:
                message = f"unknown key '{key}'{suggest(key, allowed) or _listed(allowed)}"
                yield document.finding((*path, key), message, at_key=True)
    elif error.validator == "required":
        missing = [key for key in error.validator_value if key not in error.instance]
        # jsonschema raises one error per missing key; the key is named in its message alone.
        for key in missing:
            if error.message.startswith(repr(key)):
                yield document.finding(path, f"the key '{key}' is missing")
    elif error.validator == "propertyNames" or "propertyNames" in error.absolute_schema_path:
        yield document.finding(
            (*path, str(error.instance)), f"'{error.instance}' is not allowed as a name here"
            f"{_names(error)}", at_key=True,
        )  # fmt: skip
    else:
        yield document.finding(path, _message(error))


def _explain_choice(document: Document, error: ValidationError, path: DataPath) -> Iterator[Finding]:
    """Of the alternatives, report the one the author most likely meant: of the right type."""
    branches: dict[int, list[ValidationError]] = {}
    for inner in error.context or []:
        branches.setdefault(int(inner.schema_path[0]), []).append(inner)
    if not branches:  # oneOf with several matches
        keys = [" and ".join(choice.get("required", [])) for choice in error.validator_value]
        yield document.finding(path, f"only one of these may be given: {', '.join(keys)}")
        return
    if all(inner.validator == "required" for group in branches.values() for inner in group):
        keys = [" and ".join(choice.get("required", [])) for choice in error.validator_value]
        if not any(len(choice) > 1 for choice in error.validator_value):
            yield document.finding(path, f"one of these keys is needed: {', '.join(keys)}")
            return

    def distance(group: list[ValidationError]) -> tuple[bool, int, int]:
        wrong_type = any(e.validator == "type" and not e.path for e in group)
        unknown = sum(e.validator == "additionalProperties" for e in group)
        return wrong_type, unknown, len(group)

    best = min(branches.values(), key=distance)
    if distance(best)[0]:
        kinds = [_TYPES[e.validator_value] for g in branches.values() for e in g
                 if e.validator == "type" and not e.path]  # fmt: skip
        yield document.finding(path, f"found {shown(error.instance)}; allowed: {' or '.join(kinds)}")
        return
    for inner in best:
        yield from _explain(document, inner)


def _message(error: ValidationError) -> str:
    found, value = shown(error.instance), error.validator_value
    match error.validator:
        case "type":
            kinds = [value] if isinstance(value, str) else value
            allowed = " or ".join(_TYPES[kind] for kind in kinds)
            hint = ""
            if "string" in kinds and isinstance(error.instance, bool | int | float):
                hint = '; put it in quotes: "' + str(error.instance).lower() + '"'
            return f"found {found}, {allowed} is expected{hint}"
        case "enum":
            near = suggest(str(error.instance), [str(option) for option in value])
            return f"found {found}{near or _listed(value)}"
        case "const":
            return f"found {found}, {json.dumps(value)} is expected"
        case "pattern":
            return f"found {found}, which does not match {_names(error) or value}"
        case "uniqueItems":
            seen: list[Any] = []
            twice = next(item for item in error.instance if item in seen or seen.append(item))
            return f"{shown(twice)} is listed twice"
        case "minItems" | "minLength" | "minProperties":
            return f"found {found}, which is too short; at least {value} needed"
        case "maxItems" | "maxLength" | "maxProperties":
            return f"too long: at most {value} allowed, found {len(error.instance)}"
        case "items" if value is False:
            return f"too long: at most {len(error.schema.get('prefixItems', []))} entries allowed"
        case "minimum" | "exclusiveMinimum" | "maximum" | "exclusiveMaximum":
            word = {"minimum": "at least", "maximum": "at most", "exclusiveMinimum": "more than",
                    "exclusiveMaximum": "less than"}[error.validator]  # fmt: skip
            return f"found {found}, {word} {value} is expected"
        case _:
            return error.message


def _names(error: ValidationError) -> str:
    schema: Mapping[str, Any] = error.schema if isinstance(error.schema, dict) else {}
    plain = {
        "^[a-z0-9][a-z0-9_]{0,63}$": "a name of small letters, digits and _",
        "^[A-Za-z_][A-Za-z0-9_]*$": "a column name of letters, digits and _",
        "^https?://[^\\s]+$": "a web address that starts with https://",
        "^(train|validation|test)(_[a-z0-9_]+)?$": "train, validation or test, with a _suffix if needed",
    }.get(str(schema.get("pattern")), str(schema.get("pattern", "")))
    return f"; allowed: {plain}" if plain else ""


def _listed(options: Any) -> str:
    return "; allowed: " + ", ".join(str(option) for option in options)


def shown(value: Any) -> str:
    """A value as an author would recognise it, shortened."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "an empty list" if not value else f"a list of {len(value)}"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "…"
