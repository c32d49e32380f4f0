"""Features and sample rows of a dataset → a proposed task spec, each part with its reason.

`propose` is a pure function of what was seen and what is given. Whatever a user changes is given
to it again, and what follows from it (the head from the format, the labels from the target, the
metrics from both) is proposed anew; so flags and dialogue are one mechanism. What the rows cannot
say is never made up: it is in `missing`, with the question to ask.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from muppet_zoo.add_task.column_roles import Column, columns_of
from muppet_zoo.add_task.outcomes import (
    drop_unlabelled,
    label_operations,
    labels_of,
    metrics_of,
    range_of,
    target_length,
)
from muppet_zoo.add_task.samples import Sample
from muppet_zoo.add_task.task_families import guess_family
from muppet_zoo.add_task.task_shapes import guess_shape
from muppet_zoo.add_task.text_inputs import Guess
from muppet_zoo.formats import FORMATS
from muppet_zoo.heads import HEADS

INPUTS = {
    "single": ("text",),
    "pair": ("first", "second"),
    "multiple_choice": ("context", "choices"),
    "extractive_qa": ("question", "context"),
    "tokens": ("tokens",),
    "text_to_text": ("text",),
}
HEAD_FIELDS = {
    "classification": ("target", "labels"),
    "multi_label": ("target", "labels"),
    "regression": ("target", "range"),
    "token_classification": ("target", "labels"),
    "multiple_choice": ("target", "keys"),
    "span": ("answers", "answer_starts", "no_answer"),
    "generation": ("target", "max_target_tokens"),
}
OPTIONAL = frozenset({"keys", "no_answer", "max_target_tokens"})
FACTS = ("description", "license", "citation", "homepage", "languages")
LISTS = frozenset({"labels", "keys", "range", "metrics", "languages"})

_QUESTIONS = {
    "description": "what a row is, who labelled it, what is predicted (20 letters at least)",
    "license": "SPDX name of the data's licence; unknown if its publisher states none",
    "citation": "BibTeX entry, or how the publisher asks to be cited",
    "homepage": "web address, https://…",
    "languages": "BCP 47 tags, such as: en, pt-BR",
    "target": "the column that is to be predicted",
    "range": "lowest and highest value, such as: 0, 5",
    "answers": "the column with the list of answer texts",
    "answer_starts": "the column with the answers' first characters in the context",
    "choices": "the column with the list of options, or one template per option",
    "tokens": "the column with the list of words",
    "context": "the column, or in multiple choice a template with {column}",
}
_TEMPLATE = "a template with {column} placeholders"
_FAMILY = "what kind of skill it is, by the zoo's families; `muppet-zoo list` has them"
_CARVED_PERCENT = 10
_ROLES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "development"),
    "test": ("test", "testing"),
}


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A spec in parts. The keys of all mappings are fields as a user names them.

    values: field → value as in the spec; `rows` (operations) and `columns` are among them. reasons:
    field → phrase. missing: field → what to ask for. remarks: what a person should look at.
    """

    values: Mapping[str, Any]
    reasons: Mapping[str, str]
    missing: Mapping[str, str]
    remarks: tuple[str, ...]


def propose(sample: Sample, given: Mapping[str, Any] | None = None) -> Proposal:
    """A proposal for this dataset in which what is `given` stands as it is."""
    given = given or {}
    columns = columns_of(sample)
    target = given.get("target", given.get("answers"))
    guess = _guess(columns, given, target if target in sample.columns else None)
    draft = _Draft(given)
    draft.add("name", _name(sample.name), "the name of the dataset or file")
    _add_shape(draft, guess)
    _add_outcomes(draft, columns)
    family = guess_family(columns, draft.values)
    draft.add("family", *family, or_ask=_FAMILY)
    draft.add("metrics", *metrics_of(draft.values, columns))
    splits = _splits(sample, draft.values.get("target"))
    draft.add("splits", *splits, or_ask="roles, such as: train: train, validation: dev")
    for fact in FACTS:
        stated = sample.facts.get(fact)
        value = stated.split(", ") if stated and fact in LISTS else stated
        draft.add(fact, value, "from the dataset's card", or_ask=_QUESTIONS[fact])
    draft.values["columns"] = _declared(sample, draft.values)
    return Proposal(
        values=draft.values,
        reasons=draft.reasons,
        missing=draft.missing,
        remarks=tuple(_remarks(sample, columns, draft.values)),
    )


def _guess(columns: Sequence[Column], given: Mapping[str, Any], target: str | None) -> Guess | None:
    """The kind of task under what is given; where its format fits nothing, the head still may."""
    shape, head = given.get("format"), given.get("head")
    guess = guess_shape(columns, format=shape, head=head, target=target)
    if guess is None and shape in FORMATS:
        other = guess_shape(columns, format=None, head=head, target=target)
        if other is not None and shape in HEADS[other.head].formats:
            joined = " ".join(other.inputs[part] for part in INPUTS[other.format])
            inputs = {"text": joined} if shape == "single" else {}
            guess = replace(other, format=shape, inputs=inputs)
    return guess


class _Draft:
    """Values with reasons, as they come together; what is given wins."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.given = given
        self.values: dict[str, Any] = {}
        self.reasons: dict[str, str] = {}
        self.missing: dict[str, str] = {}

    def add(self, field: str, value: Any, reason: str, or_ask: str = "") -> None:
        if field in self.given:
            value, reason = self.given[field], "as given"
        if value is not None:
            self.values[field], self.reasons[field] = value, reason
        elif or_ask:
            self.missing[field] = or_ask


def fields_of(values: Mapping[str, Any]) -> tuple[str, ...]:
    """The fields that a user may set, in order, for this format and head."""
    inputs = INPUTS.get(values.get("format", ""), ())
    head = HEAD_FIELDS.get(values.get("head", ""), ())
    return ("name", "family", "format", *inputs, "head", *head, "metrics", "splits", *FACTS)


# --- format, inputs, head --------------------------------------------------------------------


def _add_shape(draft: _Draft, guess: Guess | None) -> None:
    why = guess.why if guess is not None else {}
    draft.add("format", guess.format if guess else None, why.get("format", ""),
              or_ask=f"one of: {', '.join(FORMATS)}")  # fmt: skip
    shape = draft.values.get("format")
    is_same = guess is not None and guess.format == shape
    for field in INPUTS.get(shape or "", ()):
        value = guess.inputs.get(field) if guess is not None and is_same else None
        is_context = (shape, field) == ("extractive_qa", "context")
        is_column = is_context or field in ("tokens", "choices")
        ask = _QUESTIONS[field] if is_column else _TEMPLATE
        draft.add(field, value, why.get(field, ""), or_ask=ask)
    heads = [head.type for head in HEADS.values() if shape in head.formats]
    only = heads[0] if len(heads) == 1 else None
    head = guess.head if guess is not None and is_same else only
    reason = why.get("target", "") if guess is not None and is_same else "the head of this format"
    draft.add("head", head, reason, or_ask=f"one of: {', '.join(heads)}")
    fits = guess is not None and guess.head == draft.values.get("head")
    for field in HEAD_FIELDS.get(draft.values.get("head", ""), ()):
        if field in ("labels", "range", "max_target_tokens"):
            continue
        value = guess.fields.get(field) if guess is not None and fits else None
        ask = "" if field in OPTIONAL else _QUESTIONS[field]
        if draft.values.get("head") == "generation":
            ask = _TEMPLATE
        draft.add(field, value, why.get(field, why.get("format", "")), or_ask=ask)
    draft.values["rows"] = (
        [dict(row) for row in guess.rows] if guess is not None and is_same else []
    )


def _add_outcomes(draft: _Draft, columns: Sequence[Column]) -> None:
    """Labels, range or length of what is predicted, and the operations that the target needs."""
    head, target = draft.values.get("head", ""), draft.values.get("target", "")
    column = next((c for c in columns if c.path == target), None)
    if "labels" in HEAD_FIELDS.get(head, ()):
        labels, reason = labels_of(column, columns, draft.values["rows"])
        ask = "names in plain words, separated by commas"
        if column is not None and column.outcomes:
            ask += f", for {', '.join(map(str, column.outcomes[:8]))}"
        draft.add("labels", labels, reason, or_ask=ask)
    if head == "regression":
        draft.add("range", *range_of(column), or_ask=_QUESTIONS["range"])
    if head == "generation":
        draft.add("max_target_tokens", *target_length(columns, target))
    if head in ("classification", "multi_label") and column is not None:
        draft.values["rows"] += label_operations(column, draft.values.get("labels"), head)
    elif head == "multiple_choice" and column is not None:
        draft.values["rows"] += drop_unlabelled(column)


# --- splits, columns, remarks ---------------------------------------------------------------


def _splits(sample: Sample, target: str | None) -> tuple[dict[str, Any] | None, str]:
    roles: dict[str, Any] = {}
    for name, split in sample.splits.items():
        role = _role(name)
        if role is None and len(sample.splits) == 1:
            role = "train"
        if role is None or role in roles:
            continue
        values = set(split.counts.get(target or "") or ())
        is_kept_back = bool(values) and values <= {None, "", -1}
        roles[role] = {"split": name, "labels": False} if is_kept_back else name
    if not roles:
        return None, ""
    if "train" in roles and not any(role.startswith("validation") for role in roles):
        roles["validation"] = {"carve_from": roles["train"], "percent": _CARVED_PERCENT}
        reason = f"no validation rows: {_CARVED_PERCENT} % of the training rows are set aside"
    else:
        reason = "by their names"
    order = list(_ROLES)
    ordered = sorted(roles, key=lambda role: order.index(role.partition("_")[0]))
    return {role: roles[role] for role in ordered}, reason


def _role(split: str) -> str | None:
    """`validation` of "dev", `test_r1` of "test_r1"; None of a name that tells no role."""
    words = re.findall(r"[a-z0-9]+", split.lower())
    for role, names in _ROLES.items():
        if words and words[0] in names:
            return "_".join([role, *words[1:]])
    for role, names in _ROLES.items():
        if words and words[-1] in names:
            return role
    return None


def _declared(sample: Sample, values: Mapping[str, Any]) -> dict[str, str]:
    """The columns with their types; a target of whole numbers from 0 is a label."""
    columns = dict(sample.columns)
    target, head = values.get("target"), values.get("head")
    is_mapped = any(row.get("op") == "map_values" for row in values["rows"])
    one_label = head in ("classification", "multiple_choice")
    if one_label and columns.get(target or "") == "integer" and not is_mapped:
        if not values.get("keys"):
            columns[str(target)] = "label"
    elif columns.get(target or "") == "integers" and "labels" in values:
        columns[str(target)] = "labels"
    return columns


def _remarks(sample: Sample, columns: Sequence[Column], values: Mapping[str, Any]) -> list[str]:
    read = str([values.get(field) for field in fields_of(values)]) + str(values["rows"])
    names = set(re.findall(r"[A-Za-z_][A-Za-z0-9_.-]*", read))
    remarks = [
        f"'{c.path}', texts of {c.mean_words:.0f} words on average, is not read; add it to a "
        f"template if the answer needs it"
        for c in columns
        if (c.is_text or _may_be_text(c)) and c.path not in names
    ]
    for name in sample.unusable:
        remarks.append(f"no spec can name the column '{name}'; rename it if it is needed")
    read_splits = str(values.get("splits", ""))
    for name, split in sample.splits.items():
        if f"'{name}'" not in read_splits:
            remarks.append(f"no role reads the split '{name}'; add one to splits if it is wanted")
        if not split.complete:
            remarks.append(
                f"of split '{name}' only the first {split.num_rows:,} rows were looked at"
            )
    return remarks


def _may_be_text(column: Column) -> bool:
    """Short texts, none of them a number or name of the row, that differ from row to row."""
    return column.kind == "string" and not column.is_aside and not column.is_category


def _name(text: str) -> str:
    """A task's name of a dataset's."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")[:64] or "task"
