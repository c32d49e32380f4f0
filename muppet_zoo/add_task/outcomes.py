"""What a target column holds → labels, range or length, the operations it needs, the metrics.

Labels are never made up: names come from the features, from the values themselves, or from a column
beside the numbers that has a name for each. Part of `proposals.py`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from muppet_zoo.add_task.column_roles import Column
from muppet_zoo.rows import Template, spelled

_RARE = 0.3  # share of the rarer of two labels below which accuracy says little
_FREQUENT = 0.5


def labels_of(
    column: Column | None, columns: Sequence[Column], rows: Sequence[Mapping[str, Any]]
) -> tuple[list[str] | None, str]:
    """(labels or None where only a person knows them, why)."""
    for row in rows:
        if row["op"] == "flags":
            return list(row["columns"]), "the names of those columns"
    if column is None or column.outcomes is None:
        return None, ""
    if len(column.outcomes) < 2 and column.label_names is None:
        return None, ""  # there must be another label, which only a person knows
    if column.label_names is not None:
        return list(column.label_names), "the names that the features give"
    if column.kind == "boolean":
        return ["false", "true"], "the column is false or true"
    outcomes = [str(value) for value in column.outcomes]
    if any(re.search(r"[^\W\d]", text) for text in outcomes):
        return sorted(outcomes, key=_tag_order), f"the {len(outcomes)} values in the data"
    for other in columns:
        names = _names_beside(column, other)
        if names is not None:
            return names, f"'{other.path}' has a name for each"
    return None, ""


def _tag_order(label: str) -> tuple[bool, str, str]:
    """`O`, `B-x`, `I-x`: the tags of one entity stand together."""
    is_tag = bool(re.match(r"[BILUES]-", label))
    return (label != "O", label[2:] if is_tag else label, label if is_tag else "")


def _names_beside(column: Column, other: Column) -> list[str] | None:
    """The names of a column of numbers, where each goes with one text of another column."""
    if other.kind != "string" or other.counts is None or other is column:
        return None
    pairs = {(a, b) for a, b in zip(column.values, other.values, strict=True)
             if a not in column.unlabelled and b}  # fmt: skip
    names = dict(sorted(pairs, key=lambda pair: str(pair[1])))
    outcomes = column.outcomes or ()
    if len(pairs) != len(outcomes) or len(set(names.values())) != len(names):
        return None
    return [names[value] for value in outcomes] if names.keys() == set(outcomes) else None


def label_operations(
    column: Column, labels: Sequence[str] | None, head: str
) -> list[dict[str, Any]]:
    """What makes of the target's values labels of the head, or leaves rows without one out."""
    operations = drop_unlabelled(column)
    outcomes = column.outcomes or ()
    names = [str(value) for value in outcomes]
    if head == "multi_label" or labels is None or column.kind in ("boolean", "label"):
        return operations
    if column.kind != "string" and outcomes and _are_numbers_from_0(outcomes, len(labels)):
        return operations
    if column.kind == "string" and set(names) <= set(labels):
        return operations
    if len(labels) == len(outcomes):
        table = {spelled(value): label for value, label in zip(outcomes, labels, strict=True)}
        operations.append({"op": "map_values", "column": column.path, "values": table})
    return operations


def _are_numbers_from_0(outcomes: Sequence[Any], num_labels: int) -> bool:
    return all(value in range(num_labels) for value in outcomes)


def drop_unlabelled(column: Column) -> list[dict[str, Any]]:
    """A filter for rows without a label among rows that have one."""
    values = [v for v in (column.counts or {}) if v in column.unlabelled and "." not in column.path]
    if not values or not column.partly_labelled:
        return []
    return [{"op": "drop_where", "column": column.path, "values": values}]


def range_of(column: Column | None) -> tuple[list[float] | None, str]:
    """(lowest and highest value, why)."""
    numbers = [v for v in (column.counts or column.values) if v is not None] if column else []
    if not numbers or not all(isinstance(v, int | float) and math.isfinite(v) for v in numbers):
        return None, ""
    low, high = min(numbers), max(numbers)
    return [math.floor(low), math.ceil(high)], f"{low:g} to {high:g} occur"


def target_length(columns: Sequence[Column], template: str) -> tuple[int | None, str]:
    """(tokens that almost every target fits into, why); a word is about 1.4 tokens."""
    named = Template(template).columns if template else ()
    texts = [text for c in columns if c.path in named for text in c.texts]
    if not texts:
        return None, ""
    words = sorted(len(text.split()) for text in texts)[int(0.95 * (len(texts) - 1))]
    tokens = min(512, 16 * math.ceil(1.4 * words / 16 + 0.01))
    return tokens, f"95 % of the targets have at most {words} words"


def metrics_of(
    values: Mapping[str, Any], columns: Sequence[Column]
) -> tuple[list[str] | None, str]:
    """(metrics, the headline first, why)."""
    labels = values.get("labels") or []
    match values.get("head"):
        case "classification":
            target = next((c for c in columns if c.path == values.get("target")), None)
            return _class_metrics(target, len(labels))
        case "multi_label":
            return ["macro_f1", "micro_f1"], "several labels per row"
        case "token_classification":
            if labels and all(re.fullmatch(r"O|[BI]-.+", label) for label in labels):
                return ["entity_f1"], "the tags begin and continue entities"
            return ["accuracy", "macro_f1"], "one label per word"
        case "regression":
            return ["pearson", "spearman"], "numbers on a scale"
        case "multiple_choice":
            return ["accuracy"], "one right option"
        case "span":
            return ["squad_f1", "squad_exact_match"], "the scores of SQuAD"
        case "generation":
            return ["rougeL", "rouge1", "rouge2"], "a written text"
    return None, ""


def _class_metrics(target: Column | None, num_labels: int) -> tuple[list[str], str]:
    counts = [n for v, n in (target.counts or {}).items() if v not in target.unlabelled] if (
        target is not None) else []  # fmt: skip
    if not counts:
        return ["accuracy", "macro_f1"], "one of several labels"
    rarest, most = min(counts) / sum(counts), max(counts) / sum(counts)
    if num_labels == 2 and rarest >= _RARE:
        return ["accuracy"], f"the more frequent label has {most:.0%} of the rows"
    if num_labels == 2 or most > _FREQUENT:
        return ["macro_f1", "accuracy"], f"the most frequent label has {most:.0%} of the rows"
    return ["accuracy", "macro_f1"], f"{num_labels} labels, none above {most:.0%} of the rows"
