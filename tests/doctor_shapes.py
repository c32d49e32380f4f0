"""Invented datasets in the shape of well-known ones, sound until a test plants a fault in them.

The label follows from the inputs, and only from all of them together: a question is answered by its
passage, a hypothesis follows from its premise. Animals, towns and foods are drawn so that no row
repeats another.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiny_zoo import write_jsonl, write_spec

from muppet_zoo.doctor.examine import Examination, Report, examine
from muppet_zoo.doctor.truncation import TokenBudget
from muppet_zoo.spec import TaskSpec

_ANIMALS = """
otter heron badger lynx falcon beaver marten gecko tapir ibex puffin stoat weasel osprey
newt viper bison condor walrus lemur quokka civet jackal dingo caracal numbat okapi serval
vole shrew
"""
_TOWNS = """
Arvel Brunne Caddo Delmar Estry Farrow Galtan Hesper Ilmen Jorvik Kelso Lunder Marsk Norl
Ostra Pellan Quorn Rastel Selby Tarn Ulver Vesmer Wexel Yarrow Zelten Ambry Borrin Corvel
Dunmar Elsin
"""
_FOODS = """
berries roots minnows beetles acorns clover snails crayfish lichen thistles crickets mussels
reeds worms grubs seeds moths nectar leaves herring
"""
_PLACES = """
river forest meadow harbour quarry orchard marsh cliff valley island
"""
_COLOURS = """
grey brown black white red golden spotted striped
"""
ANIMALS = tuple(_ANIMALS.split())
TOWNS = tuple(_TOWNS.split())
FOODS = tuple(_FOODS.split())
PLACES = tuple(_PLACES.split())
COLOURS = tuple(_COLOURS.split())

Rows = list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A spec as plain data, and rows by role."""

    spec: dict[str, Any]
    rows: dict[str, Rows]

    def changed(self, **spec: Any) -> Dataset:
        """A copy with other top-level fields of the spec."""
        return Dataset(spec={**copy.deepcopy(self.spec), **spec}, rows=copy.deepcopy(self.rows))

    def with_rows(self, change: Callable[[int, dict[str, Any]], None], role: str = "") -> Dataset:
        """A copy in which every row (of `role`, if given) went through `change`."""
        made = self.changed()
        for name, rows in made.rows.items():
            for number, row in enumerate(rows if role in ("", name) else ()):
                change(number, row)
        return made

    def write(self, folder: Path) -> tuple[TaskSpec, Path]:
        """The spec, and the mirror that its rows lie in."""
        spec = write_spec(folder / "specs", self.spec)
        for role, rows in self.rows.items():
            write_jsonl(folder / "mirror" / spec.name / f"{role}.jsonl", rows)
        return spec, folder / "mirror"

    def examined(
        self, folder: Path, *, limit: int = 5000, budget: TokenBudget | None = None
    ) -> Report:
        """What the doctor says."""
        spec, mirror = self.write(folder)
        return examine(spec, Examination(mirror=mirror, limit=limit, budget=budget))


def found(report: Report, check: str) -> list[Any]:
    """The diagnoses of one check."""
    return [diagnosis for diagnosis in report.diagnoses if diagnosis.check == check]


def grave(report: Report) -> set[str]:
    """The checks with a warning or an error."""
    return {d.check for d in report.diagnoses if d.severity != "note"}


def _facts(seed: str) -> Iterator[tuple[random.Random, str, str, str, str]]:
    """Endless (source of chance, animal, town, food that it eats, another food), none twice."""
    chance = random.Random(seed)
    seen = set()
    while True:
        animal, town = chance.choice(ANIMALS), chance.choice(TOWNS)
        food, other = chance.sample(FOODS, 2)
        if (animal, town, food) not in seen:
            seen.update({(animal, town, food), (animal, town, other)})
            yield chance, animal, town, food, other


def _passage(chance: random.Random, animal: str, town: str, food: str) -> str:
    place, colour = chance.choice(PLACES), chance.choice(COLOURS)
    return (
        f"The {animal} of {town} lives by the {place}, where it was first described. Its fur is "
        f"{colour} in winter. It likes {food} best, and looks for {food} at night. People of "
        f"{town} seldom meet the {animal}."
    )


def _dataset(
    name: str,
    columns: Mapping[str, str],
    inputs: Mapping[str, Any],
    head: Mapping[str, Any],
    metric: str,
    row: Callable[[random.Random, str, str, str, str, int], dict[str, Any]],
    sizes: Mapping[str, int],
) -> Dataset:
    facts = _facts(name)
    rows = {
        role: [row(*next(facts), number) for number in range(size)] for role, size in sizes.items()
    }
    spec = {
        "spec_version": 1,
        "name": name,
        "family": "synthetic",
        "description": "Invented rows for the tests of the doctor.",
        "source": {
            "hub": "nobody/nothing",
            "revision": "0" * 40,
            "columns": dict(columns),
            "splits": {role: role for role in sizes},
        },
        "inputs": dict(inputs),
        "head": dict(head),
        "metrics": [metric],
        "license": "CC0-1.0",
        "citation": "Nobody, nowhere.",
        "homepage": "https://example.org",
        "languages": ["en"],
    }
    return Dataset(spec=spec, rows=rows)


_SIZES = {"train": 300, "validation": 100}


def boolq(sizes: Mapping[str, int] = _SIZES) -> Dataset:
    """A question that its passage answers with yes or no."""

    def row(
        chance: random.Random, animal: str, town: str, food: str, other: str, number: int
    ) -> Any:
        yes = chance.random() < 0.5
        return {
            "question": f"does the {animal} of {town} eat {food if yes else other}",
            "passage": _passage(chance, animal, town, food),
            "idx": number,
            "label": int(yes),
        }

    return _dataset(
        "like_boolq",
        {"question": "string", "passage": "string", "idx": "integer", "label": "label"},
        {"format": "pair", "first": "{question}", "second": "{passage}"},
        {"type": "classification", "target": "label", "labels": ["no", "yes"]},
        "accuracy", row, sizes,
    )  # fmt: skip


def multirc() -> Dataset:
    """A paragraph, a question, and an answer that is right or wrong."""

    def row(
        chance: random.Random, animal: str, town: str, food: str, other: str, number: int
    ) -> Any:
        right = chance.random() < 0.5
        return {
            "paragraph": _passage(chance, animal, town, food),
            "question": f"What does the {animal} of {town} eat?",
            "answer": food if right else other,
            "label": int(right),
        }

    return _dataset(
        "like_multirc",
        {"paragraph": "string", "question": "string", "answer": "string", "label": "label"},
        {"format": "pair", "first": "{paragraph}", "second": "{question} {answer}"},
        {"type": "classification", "target": "label", "labels": ["wrong answer", "right answer"]},
        "f1", row, _SIZES,
    )  # fmt: skip


def mnli() -> Dataset:
    """A premise and a hypothesis that is entailed, contradicted or neither."""

    def row(
        chance: random.Random, animal: str, town: str, food: str, other: str, number: int
    ) -> Any:
        premise = f"Near {town} a {animal} ate {food} for the whole of one long evening."
        hypotheses = (
            f"A {animal} ate {food} near {town}.",
            f"A {animal} ate {other} near {town}.",
            f"A {chance.choice(ANIMALS)} ate {other} near {chance.choice(TOWNS)}.",
        )
        meant = label = chance.randrange(3)
        if chance.random() < 0.1:  # annotators disagree
            label = chance.randrange(3)
        return {"premise": premise, "hypothesis": hypotheses[meant], "label": label, "idx": number}

    return _dataset(
        "like_mnli",
        {"premise": "string", "hypothesis": "string", "label": "label", "idx": "integer"},
        {"format": "pair", "first": "{premise}", "second": "{hypothesis}"},
        {
            "type": "classification",
            "target": "label",
            "labels": ["entailment", "contradiction", "neutral"],
        },
        "accuracy", row, _SIZES,
    )  # fmt: skip


def squad() -> Dataset:
    """A question and the passage that holds its answer."""

    def row(
        chance: random.Random, animal: str, town: str, food: str, other: str, number: int
    ) -> Any:
        passage = _passage(chance, animal, town, food)
        return {
            "id": f"q{number}",
            "title": town,
            "context": passage,
            "question": f"What does the {animal} of {town} eat?",
            "answers": {"text": [food], "answer_start": [passage.index(food)]},
        }

    return _dataset(
        "like_squad",
        {
            "id": "string",
            "title": "string",
            "context": "string",
            "question": "string",
            "answers.text": "strings",
            "answers.answer_start": "integers",
        },
        {"format": "extractive_qa", "question": "{question}", "context": "context"},
        {"type": "span", "answers": "answers.text", "answer_starts": "answers.answer_start"},
        "squad_f1", row, _SIZES,
    )  # fmt: skip


def race() -> Dataset:
    """A passage, a question and a list of four options with letters."""

    def row(
        chance: random.Random, animal: str, town: str, food: str, other: str, number: int
    ) -> Any:
        wrong = chance.sample([f for f in FOODS if f != food], 3)
        options = chance.sample([food, *wrong], 4)
        tempting = f" Nobody there eats {wrong[0]}." if chance.random() < 0.4 else ""
        return {
            "story": _passage(chance, animal, town, food) + tempting,
            "question": f"What does the {animal} of {town} eat?",
            "choices": {"text": options, "label": ["A", "B", "C", "D"]},
            "answerKey": "ABCD"[options.index(food)],
        }

    return _dataset(
        "like_race",
        {
            "story": "string",
            "question": "string",
            "choices.text": "strings",
            "choices.label": "strings",
            "answerKey": "string",
        },
        {"format": "multiple_choice", "context": "{question} {story}", "choices": "choices.text"},
        {"type": "multiple_choice", "target": "answerKey", "keys": "choices.label"},
        "accuracy", row, _SIZES,
    )  # fmt: skip


def cosmos() -> Dataset:
    """As `race`, with a column for each option."""
    made = race()

    def change(_: int, row: dict[str, Any]) -> None:
        choices = row.pop("choices")
        row |= {f"answer{i}": text for i, text in enumerate(choices["text"])}
        row["label"] = "ABCD".index(row.pop("answerKey"))

    options = [f"answer{i}" for i in range(4)]
    columns = {"story": "string", "question": "string", **dict.fromkeys(options, "string")}
    return made.with_rows(change).changed(
        name="like_cosmos",
        source={**made.spec["source"], "columns": {**columns, "label": "integer"}},
        inputs={
            "format": "multiple_choice",
            "context": "{question} {story}",
            "choices": [f"{{{option}}}" for option in options],
        },
        head={"type": "multiple_choice", "target": "label"},
    )


def sst() -> Dataset:
    """A text and its sentiment, which words tell, though not all of them."""
    good = ["lovely", "splendid", "charming", "bright", "warm"]
    bad = ["dreary", "clumsy", "tiresome", "dull", "cold"]

    def row(
        chance: random.Random, animal: str, town: str, food: str, other: str, number: int
    ) -> Any:
        label = int(chance.random() < 0.5)
        told = label if chance.random() < 0.9 else 1 - label
        word = chance.choice((bad, good)[told])
        text = f"this {word} film shows how the {animal} of {town} finds {food} and {other}"
        return {"text": text, "label": label, "label_text": ("negative", "positive")[label]}

    return _dataset(
        "like_sst",
        {"text": "string", "label": "label", "label_text": "string"},
        {"format": "single", "text": "{text}"},
        {"type": "classification", "target": "label", "labels": ["negative", "positive"]},
        "accuracy", row, _SIZES,
    )  # fmt: skip


def stsb() -> Dataset:
    """Two sentences and how alike they are."""

    def row(
        chance: random.Random, animal: str, town: str, food: str, other: str, number: int
    ) -> Any:
        words = [animal, town, food, chance.choice(PLACES), chance.choice(COLOURS)]
        kept = chance.randrange(6)
        pools = (ANIMALS, TOWNS, FOODS, PLACES, COLOURS)
        others = [
            chance.choice([w for w in p if w != o]) for p, o in zip(pools, words, strict=True)
        ]
        same = set(chance.sample(range(5), kept))
        second = [words[i] if i in same else others[i] for i in range(5)]
        frame = "a {} from {} ate {} by the {} on {} ground"
        return {
            "sentence1": frame.format(*words),
            "sentence2": frame.format(*second),
            "score": float(kept),
        }

    return _dataset(
        "like_stsb",
        {"sentence1": "string", "sentence2": "string", "score": "number"},
        {"format": "pair", "first": "{sentence1}", "second": "{sentence2}"},
        {"type": "regression", "target": "score", "range": [0, 5]},
        "pearson", row, _SIZES,
    )  # fmt: skip


def ner() -> Dataset:
    """Words with labels."""

    def row(
        chance: random.Random, animal: str, town: str, food: str, other: str, number: int
    ) -> Any:
        words = ["The", animal, "of", town, "ate", food, "and", other, "."]
        return {"tokens": words, "tags": [0, 0, 0, 1, 0, 2, 0, 2, 0]}

    return _dataset(
        "like_ner",
        {"tokens": "strings", "tags": "labels"},
        {"format": "tokens", "tokens": "tokens"},
        {"type": "token_classification", "target": "tags", "labels": ["O", "B-TOWN", "B-FOOD"]},
        "entity_f1", row, _SIZES,
    )  # fmt: skip


def emotions() -> Dataset:
    """A text and the labels that hold of it, several or none."""
    words = {"joy": "merry", "fear": "afraid", "anger": "furious"}

    def row(
        chance: random.Random, animal: str, town: str, food: str, other: str, number: int
    ) -> Any:
        labels = [label for label in words if chance.random() < 0.5]
        told = [words[label] for label in labels if chance.random() < 0.9]
        said = " and ".join(told or ["there"])
        return {"text": f"In {town} the {animal} was {said} over {food}, {other}", "tags": labels}

    return _dataset(
        "like_emotions",
        {"text": "string", "tags": "strings"},
        {"format": "single", "text": "{text}"},
        {"type": "multi_label", "target": "tags", "labels": list(words)},
        "macro_f1", row, _SIZES,
    )  # fmt: skip


def xsum() -> Dataset:
    """A text and its summary."""

    def row(
        chance: random.Random, animal: str, town: str, food: str, other: str, number: int
    ) -> Any:
        passage = _passage(chance, animal, town, food)
        return {"document": passage, "summary": f"The {animal} of {town} eats {food}."}

    return _dataset(
        "like_xsum",
        {"document": "string", "summary": "string"},
        {"format": "text_to_text", "text": "{document}"},
        {"type": "generation", "target": "{summary}"},
        "rougeL", row, _SIZES,
    )  # fmt: skip


SHAPES: Sequence[Callable[[], Dataset]] = (
    boolq, multirc, mnli, squad, race, cosmos, sst, stsb, ner, emotions, xsum,
)  # fmt: skip


def write_all(folder: Path, *datasets: Dataset) -> list[str]:
    """Arguments of the command for these datasets."""
    for dataset in datasets:
        dataset.write(folder)
    names = [dataset.spec["name"] for dataset in datasets]
    return [*names, "--specs", str(folder / "specs"), "--mirror", str(folder / "mirror")]
