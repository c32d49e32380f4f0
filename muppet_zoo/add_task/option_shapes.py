"""Options and the key that names the right one, in the many ways that datasets write them.

Options stand in a list, in columns of their own, or with letters in one text; the key is a number
from 0 or from 1, a letter, the option's own text, or an entry of a list beside the options. Part of
`task_shapes.py`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from muppet_zoo.add_task.column_roles import ALMOST_ALL, SURE, Column, share, words_of
from muppet_zoo.add_task.text_inputs import Guess, Texts, joined
from muppet_zoo.rows import RowProblem
from muppet_zoo.text_operations import SplitOptions

_LETTERS = "ABCDEFGHIJ"
_GAP = "_"


@dataclass(frozen=True, kw_only=True)
class _Options:
    """Options of every row, the part of `inputs` that names them, and the columns they are in."""

    choices: str | list[str]
    lists: tuple[list[str] | None, ...]
    paths: frozenset[str]
    why: str
    is_named: bool
    rows: tuple[Mapping[str, Any], ...] = ()


def find_options(columns: Sequence[Column], target: str | None) -> Guess | None:
    """Options, in a list or in columns of their own, and a key that names one of them."""
    for options in (*_option_columns(columns), *_option_lists(columns)):
        keys = [
            c for c in columns
            if c.is_scalar and c.path not in options.paths
            and (c.path == target if target is not None else c.target_rank() > 0)
        ]  # fmt: skip
        for key in sorted(keys, key=lambda c: -c.target_rank()):
            found = _key_of(key, options, columns)
            if found is not None:
                return _options_guess(columns, options, key, *found)
    return _right_and_wrong(columns) if target is None else None


def _options_guess(
    columns: Sequence[Column],
    options: _Options,
    key: Column,
    keys: str | list[str] | None,
    why: str,
) -> Guess | None:
    siblings = {c.path for c in columns if c.outer and c.path == keys}
    texts = Texts.of([c for c in columns if c.path not in {*options.paths, key.path, *siblings}])
    if not texts.columns:
        return None
    fields = {"target": key.path} | ({} if keys is None else {"keys": keys})
    if isinstance(options.choices, list) and _has_gap(texts):
        return _gap_guess(texts.columns[0], options, fields, why)
    context, why_context = texts.in_one()
    return Guess(
        format="multiple_choice",
        head="multiple_choice",
        inputs={"context": context, "choices": options.choices},
        fields=fields,
        why={"format": options.why, "context": why_context, "choices": options.why, "target": why,
             "keys": why},
        rows=(*options.rows, *texts.operations),
    )  # fmt: skip


def _has_gap(texts: Texts) -> bool:
    """Whether there is one text, and in it one place that an option fills."""
    return len(texts.columns) == 1 and share(
        texts.columns[0].texts, lambda text: text.count(_GAP) == 1
    ) >= ALMOST_ALL  # fmt: skip


def _gap_guess(text: Column, options: _Options, fields: Mapping[str, Any], why: str) -> Guess:
    """Each option followed by what comes after the gap, as a continuation of what comes before."""
    cut = {
        "op": "split_at",
        "column": text.path,
        "marker": _GAP,
        "left": "before",
        "right": "after",
    }
    choices = [f"{choice}{{after}}" for choice in options.choices]
    why_gap = f"'{text.path}' has one gap '{_GAP}', which an option fills"
    return Guess(
        format="multiple_choice",
        head="multiple_choice",
        inputs={"context": "{before}", "choices": choices},
        fields=fields,
        why=dict.fromkeys(("format", "context", "choices"), why_gap) | {"target": why, "keys": why},
        rows=(cut,),
    )


def _option_lists(columns: Sequence[Column]) -> list[_Options]:
    lists = [c for c in columns if c.kind == "strings" and not c.is_identifier and _says(c)]
    found = [
        _Options(
            choices=c.path,
            lists=tuple(v if isinstance(v, list) and len(v) > 1 else None for v in c.values),
            paths=frozenset({c.path}),
            why=f"'{c.path}' is a list of options",
            is_named=c.holds_options,
        )
        for c in sorted(lists, key=lambda c: not c.holds_options)
    ]
    for column in (c for c in columns if c.kind == "string" and c.holds_options):
        lists_of = [_lettered(value) for value in column.values]
        if share(lists_of, lambda options: options is not None) >= ALMOST_ALL:
            into = f"{column.words[0]}_list"
            found.append(
                _Options(
                    choices=into, lists=tuple(lists_of), paths=frozenset({column.path}),
                    why=f"'{column.path}' holds options with letters in one text",
                    is_named=True,
                    rows=({"op": "split_options", "column": column.path, "into": into},),
                )
            )  # fmt: skip
    return found


def _says(column: Column) -> bool:
    """Whether the elements are more than letters or numbers of options."""
    elements = [str(e) for value in column.values for e in value or ()]
    return share(elements, lambda text: len(text) > 2) > 0.2


def _lettered(value: Any) -> list[str] | None:
    split = SplitOptions(column="options", into="options")
    try:
        (row,) = split.apply({"options": value})
    except RowProblem:
        return None
    return list(row["options"])


def _option_columns(columns: Sequence[Column]) -> list[_Options]:
    groups: dict[str, list[Column]] = {}
    for column in columns:
        if column.option_name is not None and not column.is_identifier:
            groups.setdefault(column.option_name[0], []).append(column)
    found = []
    for stem, group in groups.items():
        is_options = not words_of(stem) or group[0].holds_options or len(group) > 2
        if len(group) < 2 or not is_options:
            continue
        group = sorted(group, key=lambda c: c.option_name or ("", ""))
        names = ", ".join(c.path for c in group)
        rows = [list(values) for values in zip(*(c.values for c in group), strict=True)]
        found.append(
            _Options(
                choices=[joined([c]) for c in group],
                lists=tuple(row if all(v is not None for v in row) else None for row in rows),
                paths=frozenset(c.path for c in group),
                why=f"{len(group)} columns of options: {names}",
                is_named=True,
            )
        )
    return found


def _key_of(
    key: Column, options: _Options, columns: Sequence[Column]
) -> tuple[str | list[str] | None, str] | None:
    """(the spec's `keys`, why) where this column names one option in almost every row."""
    rows = [
        (value, listed, i)
        for i, (value, listed) in enumerate(zip(key.values, options.lists, strict=True))
        if listed is not None and value not in key.unlabelled
    ]
    if not rows:
        return None
    spellings = {str(value) for value, _, _ in rows}
    most = Counter(len(listed) for _, listed, _ in rows).most_common(1)[0][0]
    for labels in columns:
        is_beside = labels.kind == "strings" and labels.outer and labels.outer == _outer(options)
        if is_beside and labels.path not in options.paths and share(
            rows, lambda r, of=labels.values: (of[r[2]] or []).count(r[0]) == 1  # type: ignore[misc]
        ) >= ALMOST_ALL:  # fmt: skip
            return labels.path, f"'{key.path}' is one of '{labels.path}'"
    if share(rows, lambda r: isinstance(r[0], str) and r[1].count(r[0]) == 1) >= ALMOST_ALL:
        keys = options.choices
        if isinstance(keys, str) and not options.rows:
            return keys, f"'{key.path}' is the text of an option"
    is_number = all(re.fullmatch(r"[0-9]", spelling) for spelling in spellings)
    if is_number and all(0 <= int(value) < len(listed) for value, listed, _ in rows):
        counts_from_one = "0" not in spellings and str(most) in spellings
        if not counts_from_one and (options.is_named or key.target_rank() < SURE):
            return None, f"'{key.path}' is the number of an option, from 0"
    ones = [str(i + 1) for i in range(most)]
    for keys in (ones, list(_LETTERS[:most]), [c.lower() for c in _LETTERS[:most]]):
        if spellings <= set(keys) and share(rows, lambda r: len(r[1]) == most) >= ALMOST_ALL:
            return keys, f"'{key.path}' says {keys[0]} to {keys[-1]}"
    return None


def _outer(options: _Options) -> str:
    return next(iter(options.paths)).rpartition(".")[0]


def _right_and_wrong(columns: Sequence[Column]) -> Guess | None:
    """A column with the right answer and others with wrong ones: the right one is always first."""
    right = [c for c in columns if c.kind == "string" and c.mentions(frozenset({"correct"}))]
    wrong = [c for c in columns if c.kind == "string" and c.mentions(_WRONG)]
    if len(right) != 1 or not wrong:
        return None
    options = [*right, *sorted(wrong, key=lambda c: c.path)]
    texts = Texts.of([c for c in columns if c not in options])
    if not texts.columns:
        return None
    context, why_context = texts.in_one()
    why = f"'{right[0].path}' is right, {', '.join(c.path for c in wrong)} are wrong"
    return Guess(
        format="multiple_choice",
        head="multiple_choice",
        inputs={"context": context, "choices": [joined([c]) for c in options]},
        fields={"target": "right_option"},
        why={"format": why, "context": why_context, "choices": why,
             "target": "the right option stands first; the head does not see places"},
        rows=(*texts.operations, {"op": "join", "template": "0", "into": "right_option"}),
    )  # fmt: skip


_WRONG = frozenset({"incorrect", "wrong", "distractor"})
