"""A document against its JSON Schema, with messages a contributor can act on.

`jsonschema` does the checking; this module only turns its errors into findings that stand at the
faulty key or value and say what was found, what is allowed and which known word is nearest. What a
pattern means is written beside it in the schema (`patternErrorMessage`), where editors read it too.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from muppet_zoo.errors import Finding, allowed, near_matches
from muppet_zoo.yaml_reader import DataPath, Document

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

SchemaError = Any  # jsonschema's ValidationError, whose stubs allow a mark "unset" in every field

_TYPES = {
    "object": "a mapping",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
}
_BOUNDS = {
    "minimum": "at least",
    "maximum": "at most",
    "exclusiveMinimum": "more than",
    "exclusiveMaximum": "less than",
}
_UNITS = {"Items": "entries", "Length": "characters", "Properties": "entries"}


@dataclass(frozen=True, kw_only=True)
class _Problem:
    """A message for one place; empty where another message says it already.

    `harmless` problems leave the value at `path` usable.
    """

    path: DataPath
    message: str
    at_key: bool = False
    harmless: bool = False


@dataclass(frozen=True, kw_only=True)
class SchemaCheck:
    """What a schema says of a document.

    findings: in file order. broken: paths of values that are unusable.
    data: the document's data without its unknown keys.
    """

    findings: list[Finding]
    broken: frozenset[DataPath]
    data: Any

    def intact(self, *path: str | int) -> bool:
        """Whether the value at `path`, and all below it, is as the schema wants it."""
        return not any(
            broken[: len(path)] == path[: len(broken)] for broken in self.broken
        )  # a problem above the path or below it


@cache
def load_schema(name: str) -> dict[str, Any]:
    """The schema `task_spec`, `mixture` or `run`, as shipped."""
    text = resources.files("muppet_zoo").joinpath(f"schemas/{name}.schema.json").read_text("utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


@cache
def _validator(name: str) -> Validator:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import ValidationError
    from jsonschema.validators import extend

    def whole_pattern(_: Any, pattern: str, value: Any, __: Any) -> Iterator[SchemaError]:
        # `$` lets a final line break pass in Python, though not in JSON Schema's dialect.
        if isinstance(value, str) and not re.search(pattern.replace("$", r"\Z"), value):
            yield ValidationError("no match")

    # A number like 64.0 is an integer to JSON Schema, but not to what reads the spec.
    types = Draft202012Validator.TYPE_CHECKER.redefine(
        "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool)
    )
    strict: Any = extend(  # type: ignore[no-untyped-call]
        Draft202012Validator, {"pattern": whole_pattern}, type_checker=types
    )
    validator: Validator = strict(load_schema(name))
    return validator


def check_schema(document: Document, schema_name: str) -> SchemaCheck:
    """Every way in which `document` breaks the schema."""
    errors = _validator(schema_name).iter_errors(document.data)
    problems = [problem for error in errors for problem in _explain(error)]
    findings = {document.finding(p.path, p.message, at_key=p.at_key) for p in problems if p.message}
    broken = frozenset(problem.path for problem in problems if not problem.harmless)
    data = _without(document.data, [problem.path for problem in problems if problem.harmless])
    return SchemaCheck(findings=sorted(findings), broken=broken, data=data)


def _without(data: Any, paths: list[DataPath]) -> Any:
    if not paths:
        return data
    data = copy.deepcopy(data)
    for *outer, key in paths:
        holder = data
        for part in outer:
            holder = holder[part]
        holder.pop(key, None)  # the same key may be unknown by two rules
    return data


def schema_findings(document: Document, schema_name: str) -> list[Finding]:
    """Every way in which `document` breaks the schema, in file order."""
    return check_schema(document, schema_name).findings


def _explain(error: SchemaError) -> Iterator[_Problem]:
    path: DataPath = tuple(error.absolute_path)
    if "propertyNames" in error.absolute_schema_path:
        message = f"'{error.instance:.60}' cannot be a name here{_pattern_hint(error)}"
        yield _Problem(path=(*path, error.instance), message=message, at_key=True)
        return
    match error.validator:
        case "oneOf":
            yield from _explain_choice(error, path)
        case "anyOf":
            keys = [key for choice in error.validator_value for key in choice["required"]]
            yield from _explain_either(error, path, keys)
        case "not":
            yield from _explain_either(error, path, error.validator_value["required"])
        case "additionalProperties":
            for key in _unknown_keys(error):
                message = f"unknown key '{key}'{allowed(key, _known_keys(error))}"
                yield _Problem(path=(*path, key), message=message, at_key=True, harmless=True)
        case "required":
            # jsonschema raises one error per missing key; reporting all each time is harmless.
            for key in error.validator_value:
                if key not in error.instance:
                    reported = key in _misspelt(error)
                    message = "" if reported else f"the key '{key}' is missing"
                    yield _Problem(path=(*path, key), message=message)
        case "dependentRequired":
            for key, needs in error.validator_value.items():
                for need in needs if key in error.instance else ():
                    if need not in error.instance and need not in _misspelt(error):
                        message = f"'{key}' needs '{need}', which is missing"
                        yield _Problem(path=(*path, key), message=message, at_key=True)
        case "uniqueItems":
            for i, item in _repeated(error.instance):
                message = f"{shown(item)} is listed twice"
                yield _Problem(path=(*path, i), message=message)
        case _:
            yield _Problem(path=path, message=_message(error))


def _explain_choice(error: SchemaError, path: DataPath) -> Iterator[_Problem]:
    """Of the alternatives, report the one the author most likely meant: of the right type."""
    choices = error.validator_value
    if all(set(choice) == {"required"} for choice in choices):
        yield from _explain_either(error, path, [key for c in choices for key in c["required"]])
        return
    branches: dict[int, list[SchemaError]] = {}
    for inner in error.context or []:
        branches.setdefault(int(inner.schema_path[0]), []).append(inner)

    def distance(group: list[SchemaError]) -> tuple[bool, int, int]:
        wrong_type = any(e.validator == "type" and not e.path for e in group)
        unknown = sum(len(_unknown_keys(e)) for e in group if e.validator == "additionalProperties")
        return wrong_type, unknown, len(group)

    best = min(branches.values(), key=distance)
    if not distance(best)[0]:
        for inner in best:
            yield from _explain(inner)
        return
    kinds = {_TYPES[e.validator_value]: None for group in branches.values() for e in group
             if e.validator == "type" and not e.path}  # fmt: skip
    message = f"found {shown(error.instance)}, {' or '.join(kinds)} is expected"
    yield _Problem(path=path, message=message)


def _explain_either(error: SchemaError, path: DataPath, keys: list[str]) -> Iterator[_Problem]:
    """Of these keys exactly one must be given, or, of an `anyOf`, at least one."""
    if not isinstance(error.instance, dict):
        return  # reported as of the wrong type
    given = [key for key in error.instance if key in keys]
    if given:
        message = f"only one of these keys may be given: {', '.join(keys)}"
        yield _Problem(path=(*path, given[-1]), message=message, at_key=True)
    elif not _misspelt(error) & set(keys):
        message = f"one of these keys is needed: {', '.join(keys)}"
        yield _Problem(path=(*path, keys[0]), message=message)


def _known_keys(error: SchemaError) -> list[str]:
    schema = error.schema if isinstance(error.schema, dict) else {}
    return list(schema.get("properties", {}))


def _unknown_keys(error: SchemaError) -> list[str]:
    known = _known_keys(error)
    return [key for key in error.instance if key not in known] if known else []


def _misspelt(error: SchemaError) -> set[str]:
    """Known keys that an unknown key of this mapping was most likely meant to be.

    Such a key is not reported as missing as well: one fault, one finding.
    """
    known = [key for key in _known_keys(error) if key not in error.instance]
    return {match for key in _unknown_keys(error) for match in near_matches(key, known)[:1]}


def _repeated(items: Iterable[Any]) -> Iterator[tuple[int, Any]]:
    seen: set[str] = set()
    for i, item in enumerate(items):
        written = json.dumps(item, sort_keys=True)  # keeps 1 and true apart, and can be hashed
        if written in seen:
            yield i, item
        seen.add(written)


def _message(error: SchemaError) -> str:
    found, value = shown(error.instance), error.validator_value
    match str(error.validator):
        case "type":
            kinds = [value] if isinstance(value, str) else value
            hint = _quotes_hint(error.instance) if "string" in kinds else ""
            return f"found {found}, {' or '.join(_TYPES[kind] for kind in kinds)} is expected{hint}"
        case "enum":
            return f"found {found}{allowed(str(error.instance), map(str, value))}"
        case "const":
            return f"found {found}, {json.dumps(value)} is expected"
        case "pattern":
            return f"found {found}{_pattern_hint(error)}"
        case "minItems" | "minLength" | "minProperties" as rule:
            return f"found {found}; at least {value} {_UNITS[rule[3:]]} are needed"
        case "maxItems" | "maxLength" | "maxProperties" as rule:
            return f"found {len(error.instance)} {_UNITS[rule[3:]]}; at most {value} are allowed"
        case "items" if value is False:
            most = len(error.schema["prefixItems"])
            return f"found {len(error.instance)} entries; at most {most} are allowed"
        case rule if rule in _BOUNDS:
            return f"found {found}, {_BOUNDS[rule]} {value} is expected"
        case _:
            return str(error.message)


def _pattern_hint(error: SchemaError) -> str:
    schema = error.schema if isinstance(error.schema, dict) else {}
    if error.validator == "maxLength":
        return f"; at most {error.validator_value} characters are allowed"
    return f"; {schema.get('patternErrorMessage') or 'it must match ' + str(schema.get('pattern'))}"


def _quotes_hint(value: Any) -> str:
    """How to write as text what YAML read as something else."""
    if isinstance(value, bool | int | float):
        return f'; put it in quotes: "{json.dumps(value)}"'
    if isinstance(value, dict) and len(value) == 1 and next(iter(value.values())) is None:
        return '; put it in quotes: "{' + str(next(iter(value))) + '}"'  # an unquoted template
    return ""


def shown(value: Any) -> str:
    """A value as an author would recognise it, shortened."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, dict):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, list):
        return "an empty list" if not value else f"a list of {len(value)}"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "…"
