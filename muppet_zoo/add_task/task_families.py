"""Which family of the zoo a new task belongs to, as far as its labels and columns tell.

A family groups tasks in lists and reports; nothing is computed from it. The words below are those
of labels and columns of the field's datasets; the first line that fits is proposed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from muppet_zoo.add_task.column_roles import LONG_TEXT_WORDS, Column, as_set

_BY_LABELS = {
    "nli": as_set("entailment entailed contradiction contradictory"),
    "sentiment": as_set("positive negative pos neg"),
    "emotion": as_set("joy anger sadness fear disgust surprise"),
    "toxicity": as_set("hate hateful offensive toxic abusive insult"),
    "stance": as_set("favor against agree disagree"),
    "fact_checking": as_set("supported refuted supports refutes true false mixture"),
    "acceptability": as_set("acceptable unacceptable grammatical ungrammatical"),
    "paraphrase": as_set("paraphrase duplicate equivalent"),
}
_BY_COLUMNS = {
    "nli": as_set("premise hypothesis"),
    "sentiment": as_set("sentiment polarity review star"),
    "emotion": as_set("emotion"),
    "toxicity": as_set("toxicity toxic hate offensive"),
    "stance": as_set("stance"),
    "fact_checking": as_set("claim"),
    "intent": as_set("intent"),
    "dialogue_act": as_set("utterance"),
    "relation": as_set("relation"),
    "paraphrase": as_set("paraphrase duplicate"),
    "topic": as_set("topic category subject"),
}


def guess_family(columns: Sequence[Column], values: Mapping[str, Any]) -> tuple[str | None, str]:
    """(family or None, why)."""
    match values.get("head"):
        case "span":
            return "reading_comprehension", "the answer is a part of the text"
        case "multiple_choice":
            is_long = any(c.is_text and c.mean_words >= LONG_TEXT_WORDS for c in columns)
            return ("reading_comprehension", "options to a long text") if is_long else (
                "commonsense", "options to a short text")  # fmt: skip
        case "generation":
            return "summarization", "a text is written from another"
        case "regression" if values.get("format") == "pair":
            return "similarity", "a number for two texts"
        case "token_classification":
            is_entities = any(str(label)[1:2] == "-" for label in values.get("labels") or ())
            return ("named_entities" if is_entities else "tagging"), "labels of words"
    return _by_words(columns, values)


def _by_words(columns: Sequence[Column], values: Mapping[str, Any]) -> tuple[str | None, str]:
    labels = set(re.findall(r"[a-z]+", " ".join(values.get("labels") or ()).lower()))
    for family, words in _BY_LABELS.items():
        if found := labels & words:
            return family, f"a label says '{min(found)}'"
    read = str([values.get(k) for k in ("text", "first", "second", "target")])
    names = {word for c in columns if c.path in read for word in c.words}
    for family, words in _BY_COLUMNS.items():
        if found := names & words:
            return family, f"a column's name says '{min(found)}'"
    if values.get("format") == "pair" and "question" in names:
        return "question_answering", "a question and a text"
    return ("topic", "nothing tells another family") if values.get("labels") else (None, "")
