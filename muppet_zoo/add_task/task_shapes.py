"""Columns of an unknown dataset → what kind of task they make, one function per kind.

Each looks for one kind and gives a `Guess` or None; `guess_shape` asks them in order, those first
whose evidence is in the data itself (tags as long as their words, answers that stand where the
numbers say, a key that names one option in every row), those last that go by names and lengths.
`target` restricts the search to one column, as the user's own choice does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from muppet_zoo.add_task.column_roles import ALMOST_ALL, Column, share, strings_of, words_of
from muppet_zoo.add_task.option_shapes import find_options
from muppet_zoo.add_task.text_inputs import Guess, Texts, flatten, joined, read_by, text_columns

_FOUND_OFTEN = 0.5  # of the rows; other answers are written freely, and such rows are left out
_WORDS_OF_A_WORD = 1.3
_OUTCOMES_OF_TAGS = 100


Finder = Callable[[Sequence[Column], str | None], Guess | None]


def guess_shape(
    columns: Sequence[Column], *, format: str | None, head: str | None, target: str | None
) -> Guess | None:
    """The first kind that fits the columns and what is given already."""
    for formats, heads, find in _FINDERS:
        if (format is None or format in formats) and (head is None or head in heads):
            guess = find(columns, target)
            fits = guess is not None and format in (None, guess.format)
            if guess is not None and fits and head in (None, guess.head):
                return guess
    return None


# --- words with tags -------------------------------------------------------------------------


def find_tags(columns: Sequence[Column], target: str | None) -> Guess | None:
    """A list of words and a list of tags, equally long in every row."""
    lists = [column for column in columns if column.kind in ("strings", "integers", "labels")]
    tags = [c for c in lists if target in (None, c.path) and _are_tags(c)]
    tags.sort(key=lambda c: (c.words[:1] != ("ner",), "tag" not in c.words, "label" not in c.words))
    for tag in tags:
        for words in lists:
            if words is not tag and words.kind == "strings" and _are_tagged(words, tag):
                why = f"'{words.path}' and '{tag.path}' are equally long lists in every row"
                return Guess(
                    format="tokens",
                    head="token_classification",
                    inputs={"tokens": words.path},
                    fields={"target": tag.path},
                    why={"format": why, "tokens": "the longer list of words",
                         "target": f"{len(tag.outcomes or ())} different values, one per word"},
                )  # fmt: skip
    return None


def _are_tags(column: Column) -> bool:
    return column.outcomes is not None and 2 <= len(column.outcomes) <= _OUTCOMES_OF_TAGS


def _are_tagged(words: Column, tags: Column) -> bool:
    pairs = [(a, b) for a, b in zip(words.values, tags.values, strict=True) if a and b]
    num_words = sum(len(listed) for listed, _ in pairs)
    num_parts = sum(len(" ".join(map(str, listed)).split()) for listed, _ in pairs)
    are_words = num_words > 2 * len(pairs) and num_parts < _WORDS_OF_A_WORD * num_words
    more_words = words.outcomes is None or len(words.outcomes) > len(tags.outcomes or ())
    # The letters of options, too, are as many as the options.
    repeat = share(pairs, lambda pair: len(set(pair[1])) < len(pair[1])) > 0.2
    is_tagged = are_words and more_words and repeat
    return is_tagged and share(pairs, lambda pair: len(pair[0]) == len(pair[1])) == 1.0


# --- answers in a context --------------------------------------------------------------------


def find_spans(columns: Sequence[Column], target: str | None) -> Guess | None:
    """Answer texts with numbers that say where in a context they stand."""
    for answers in (c for c in columns if c.kind == "strings" and target in (None, c.path)):
        for starts in (c for c in columns if c.kind == "integers" and c.outer == answers.outer):
            for context in (c for c in columns if c.kind == "string" and c.mean_words > 5):
                if _stand_at(context, answers, starts):
                    fields: dict[str, Any] = {"answers": answers.path, "answer_starts": starts.path}
                    why = f"'{answers.path}' stand in '{context.path}' where '{starts.path}' says"
                    if any(value == [] for value in answers.values):
                        fields["no_answer"] = True
                    return _question_guess(columns, context, fields, why)
    return None


def find_answers(columns: Sequence[Column], target: str | None) -> Guess | None:
    """Answer texts that occur in a context, with nothing that says where."""
    texts = [c for c in columns if c.kind in ("string", "strings")]
    named = [c for c in texts if not _ANSWER_WORDS.isdisjoint((*c.words, *words_of(c.outer)))]
    for answers in (c for c in named if target in (None, c.path)):
        is_text = {c.path for c in columns if c.is_text and c.mean_words > 4 * answers.mean_words}
        contexts = [c for c in columns if c.path in is_text and c.mean_words >= 20]
        for context in sorted(contexts, key=lambda c: -c.mean_words):
            found = share(_pairs(context, answers), _occurs)
            if found < _FOUND_OFTEN:
                continue
            drop = {} if found == 1.0 else {"if_missing": "drop"}
            locate = {
                "op": "locate", "context": read_by(context), "answers": answers.path,
                "into_answers": "found_answers", "into_starts": "found_starts", **drop,
            }  # fmt: skip
            why = f"'{answers.path}' occurs in '{context.path}' in {found:.0%} of the rows"
            fields = {"answers": "found_answers", "answer_starts": "found_starts"}
            return _question_guess(columns, context, fields, why, (locate,), answers)
    return None


_ANSWER_WORDS = frozenset({"answer", "span", "alias"})


def _question_guess(
    columns: Sequence[Column],
    context: Column,
    fields: Mapping[str, Any],
    why: str,
    rows: tuple[Mapping[str, Any], ...] = (),
    answers: Column | None = None,
) -> Guess | None:
    others = [c for c in text_columns(columns) if c not in (context, answers)]
    asking = [c for c in others if c.asks and c.words != ("title",)]
    question = next(iter(asking or others), None)
    if question is None:
        return None
    return Guess(
        format="extractive_qa",
        head="span",
        inputs={"question": joined([question]), "context": read_by(context)},
        fields=fields,
        why={"format": why, "question": "the text that asks, by its name" if asking else
             "the other text", "context": "where the answers stand", "answers": why},
        rows=(*flatten([context, question]), *rows),
    )  # fmt: skip


def _stand_at(context: Column, answers: Column, starts: Column) -> bool:
    placed = [
        (text, answer, start)
        for text, listed, places in zip(context.values, answers.values, starts.values, strict=True)
        if isinstance(text, str) and listed and places and len(listed) == len(places)
        for answer, start in zip(listed, places, strict=True)
    ]
    return share(placed, lambda p: p[0][p[2] : p[2] + len(p[1])] == p[1]) >= ALMOST_ALL


def _pairs(context: Column, answers: Column) -> list[tuple[str, list[str]]]:
    listed = [[value] if isinstance(value, str) else value for value in answers.values]
    texts = [" ".join(strings_of(value)) for value in context.values]
    return [(text, given) for text, given in zip(texts, listed, strict=True) if given]


def _occurs(pair: tuple[str, list[str]]) -> bool:
    text, answers = pair
    return any(
        answer and re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", text) for answer in answers
    )


# --- labels and numbers ----------------------------------------------------------------------


def find_label_lists(columns: Sequence[Column], target: str | None) -> Guess | None:
    """A list of labels per row, not one per word."""
    for column in columns:
        is_list = column.kind in ("strings", "integers", "labels")
        named = column.mentions(_LABEL_LISTS) or column.label_names is not None or target
        if not is_list or not named or target not in (None, column.path):
            continue
        outcomes = column.outcomes or ()
        if 2 <= len(outcomes) <= max(10, column.num_labelled / 3):
            why = {"target": f"a list of labels per row, {len(outcomes)} different ones"}
            return _read_guess(columns, column, "multi_label", why)
    return None


_LABEL_LISTS = frozenset({"label", "tag", "class", "emotion", "topic", "category", "genre"})


def find_flags(columns: Sequence[Column], target: str | None) -> Guess | None:
    """Three columns or more that hold only 0 and 1: one label each."""
    flags = [c for c in columns if c.kind in ("integer", "label", "boolean", "number")
             and set(c.outcomes or ()) == {0, 1}]  # fmt: skip
    if len(flags) < 3 or target is not None:
        return None
    paths = [c.path for c in flags]
    guess = _read_guess(columns, flags[0], "multi_label", {
        "target": f"{len(flags)} columns hold only 0 and 1: {', '.join(paths)}"})  # fmt: skip
    if guess is None:
        return None
    return replace(
        guess,
        fields={"target": "labels"},
        rows=(*guess.rows, {"op": "flags", "columns": paths, "into": "labels"}),
    )


def find_label(columns: Sequence[Column], target: str | None) -> Guess | None:
    """One label or number for the whole input, in a column that plainly says so by its name."""
    named = [c for c in columns if c.target_rank() > 1]
    return _label_guess(
        columns, named if target is None else [c for c in columns if c.path == target]
    )


def find_kind(columns: Sequence[Column], target: str | None) -> Guess | None:
    """One label or number for the whole input, in a column that is named for a kind or a score."""
    named = [c for c in columns if c.target_rank() > 0]
    return _label_guess(columns, named) if target is None else None


def find_any_label(columns: Sequence[Column], target: str | None) -> Guess | None:
    """One label in a column that only its few values give away."""
    return _label_guess(columns, [c for c in columns if target in (None, c.path)
                                  and not c.is_identifier])  # fmt: skip


def _label_guess(columns: Sequence[Column], candidates: Sequence[Column]) -> Guess | None:
    for column in sorted(candidates, key=lambda c: -c.target_rank()):
        if column.is_score:
            return _read_guess(columns, column, "regression", {"target": "numbers on a scale"})
        if column.is_category:
            num = len(column.outcomes or ())
            return _read_guess(
                columns,
                column,
                "classification",
                {"target": f"{num} different values in {column.num_labelled} rows"},
            )
    return None


def _read_guess(
    columns: Sequence[Column], target: Column, head: str, why: Mapping[str, str]
) -> Guess | None:
    texts = Texts.of([c for c in columns if c is not target])
    if not texts.columns:
        return None
    inputs, reasons, used = texts.single_or_pair()
    return Guess(
        format="pair" if "second" in inputs else "single",
        head=head,
        inputs=inputs,
        fields={"target": target.path},
        why={**reasons, **why},
        rows=flatten(used),
    )


# --- a text for a text -----------------------------------------------------------------------


def find_summary(columns: Sequence[Column], target: str | None) -> Guess | None:
    """A text and another that is made of it, by its name."""
    return _generation(columns, [c for c in columns if target in (None, c.path) and c.is_summary])


def find_any_answer(columns: Sequence[Column], target: str | None) -> Guess | None:
    """Two texts and no label: the second, or shorter, answers the first."""
    texts = [c for c in columns if (c.is_text or c.answers) and target in (None, c.path)]
    texts.sort(key=lambda c: (not c.answers, c.mean_words))
    return _generation(columns, texts)


def _generation(columns: Sequence[Column], candidates: Sequence[Column]) -> Guess | None:
    for answer in candidates:
        others = [c for c in text_columns(columns) if c is not answer]
        if not others:
            continue
        source = max(others, key=lambda c: c.mean_words)
        if answer.is_summary and source.mean_words < answer.mean_words / 2:
            continue
        rows = flatten([source])
        column = answer.path
        if answer.kind == "strings":
            column = f"first_{answer.words[-1]}"
            rows = (*rows, {"op": "pick", "column": answer.path, "index": 0, "into": column})
        return Guess(
            format="text_to_text",
            head="generation",
            inputs={"text": joined([source])},
            fields={"target": f"{{{column}}}"},
            why={"format": f"'{answer.path}' is written from '{source.path}'; there is no label",
                 "text": "the longest other text", "target": "by its name"},
            rows=rows,
        )  # fmt: skip
    return None


_CLASSES = frozenset({"classification", "regression"})
_ONE_OR_TWO = frozenset({"single", "pair"})
_FINDERS: tuple[tuple[frozenset[str], frozenset[str], Finder], ...] = (
    (frozenset({"tokens"}), frozenset({"token_classification"}), find_tags),
    (frozenset({"extractive_qa"}), frozenset({"span"}), find_spans),
    (frozenset({"multiple_choice"}), frozenset({"multiple_choice"}), find_options),
    (_ONE_OR_TWO, frozenset({"multi_label"}), find_label_lists),
    (_ONE_OR_TWO, _CLASSES, find_label),
    (frozenset({"extractive_qa"}), frozenset({"span"}), find_answers),
    (frozenset({"text_to_text"}), frozenset({"generation"}), find_summary),
    (_ONE_OR_TWO, _CLASSES, find_kind),
    (_ONE_OR_TWO, frozenset({"multi_label"}), find_flags),
    (_ONE_OR_TWO, _CLASSES, find_any_label),
    (frozenset({"text_to_text"}), frozenset({"generation"}), find_any_answer),
)
