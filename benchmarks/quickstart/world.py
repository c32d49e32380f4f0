"""The invented small world that every quickstart task speaks about.

Its content words mean nothing to a fresh encoder: that a word names an animal, that an adjective is
praise, that two words are synonyms or that a verb is done to tools can be learned from labels only.
All tasks draw on this one store of hidden knowledge, so what one task teaches another can use. That
is the effect which pre-finetuning lives on, at a size where it shows within a minute on a laptop.

Everything here is a pure function of `SEED`. Randomness comes from `random.Random.random` alone,
the one method whose sequence Python promises to keep, so the bytes are the same on every version.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

SEED = 20210126

CATEGORIES = ("animal", "food", "tool", "place", "plant")
SIZES = ("tiny", "middling", "huge")
POLARITIES = ("bad", "good")

PAIRS_PER_CATEGORY = 6  # two synonyms each; two pairs of every size
PAIRS_PER_POLARITY = 18
VERB_PAIRS_PER_CATEGORY = 2
NUM_HOMOGRAPHS = 10
NUM_PEOPLE = 12

_T = TypeVar("_T")


class Draw:
    """Seeded draws built on `random()` only."""

    def __init__(self, key: str) -> None:
        self._rng = random.Random(f"{SEED}/{key}")

    def below(self, bound: int) -> int:
        """A whole number from 0 to `bound` - 1."""
        return int(self._rng.random() * bound)

    def chance(self, probability: float) -> bool:
        return self._rng.random() < probability

    def one(self, items: Sequence[_T]) -> _T:
        return items[self.below(len(items))]

    def several(self, items: Sequence[_T], count: int) -> list[_T]:
        """`count` different items, in random order."""
        pool = list(items)
        for i in range(count):
            j = i + self.below(len(pool) - i)
            pool[i], pool[j] = pool[j], pool[i]
        return pool[:count]

    def shuffled(self, items: Sequence[_T]) -> list[_T]:
        return self.several(items, len(items))


@dataclass(frozen=True, kw_only=True)
class Noun:
    word: str
    synonym: str
    category: str
    size: str


@dataclass(frozen=True, kw_only=True)
class Adjective:
    word: str
    synonym: str
    polarity: str


@dataclass(frozen=True, kw_only=True)
class Verb:
    """Something one does to things of one category only."""

    word: str
    synonym: str
    category: str


@dataclass(frozen=True, kw_only=True)
class Homograph:
    """A noun with two meanings that belong to different categories."""

    word: str
    categories: tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class World:
    nouns: tuple[Noun, ...]
    adjectives: tuple[Adjective, ...]
    verbs: tuple[Verb, ...]
    homographs: tuple[Homograph, ...]
    people: tuple[str, ...]

    def nouns_of(self, category: str) -> list[Noun]:
        return [noun for noun in self.nouns if noun.category == category]

    def verbs_of(self, category: str) -> list[Verb]:
        return [verb for verb in self.verbs if verb.category == category]

    def adjectives_of(self, polarity: str) -> list[Adjective]:
        return [adjective for adjective in self.adjectives if adjective.polarity == polarity]

    def words(self) -> list[str]:
        """All invented words, lower case."""
        groups = (self.nouns, self.adjectives, self.verbs, self.homographs)
        return [item.word for group in groups for item in group] + [p.lower() for p in self.people]


def make_world() -> World:
    """The one world of `SEED`."""
    words = _invented_words(
        2 * PAIRS_PER_CATEGORY * len(CATEGORIES)
        + 2 * PAIRS_PER_POLARITY * len(POLARITIES)
        + 2 * VERB_PAIRS_PER_CATEGORY * len(CATEGORIES)
        + NUM_HOMOGRAPHS
        + NUM_PEOPLE
    )
    take = iter(words)
    nouns: list[Noun] = []
    for category in CATEGORIES:
        for pair in range(PAIRS_PER_CATEGORY):
            a, b = next(take), next(take)
            size = SIZES[pair % len(SIZES)]
            nouns += [
                Noun(word=word, synonym=other, category=category, size=size)
                for word, other in ((a, b), (b, a))
            ]
    adjectives: list[Adjective] = []
    for polarity in POLARITIES:
        for _ in range(PAIRS_PER_POLARITY):
            a, b = next(take), next(take)
            adjectives += [
                Adjective(word=word, synonym=other, polarity=polarity)
                for word, other in ((a, b), (b, a))
            ]
    verbs: list[Verb] = []
    for category in CATEGORIES:
        for _ in range(VERB_PAIRS_PER_CATEGORY):
            a, b = next(take), next(take)
            verbs += [
                Verb(word=word, synonym=other, category=category)
                for word, other in ((a, b), (b, a))
            ]
    two_meanings = [(a, b) for i, a in enumerate(CATEGORIES) for b in CATEGORIES[i + 1 :]]
    homographs = [
        Homograph(word=next(take), categories=two_meanings[i % len(two_meanings)])
        for i in range(NUM_HOMOGRAPHS)
    ]
    people = [next(take).capitalize() for _ in range(NUM_PEOPLE)]
    return World(
        nouns=tuple(nouns),
        adjectives=tuple(adjectives),
        verbs=tuple(verbs),
        homographs=tuple(homographs),
        people=tuple(people),
    )


def _invented_words(count: int) -> list[str]:
    """Different five-letter words (consonant, vowel, consonant, consonant, vowel)."""
    draw = Draw("words")
    starts, vowels, middles, ends = "bdfgklmnprstvz", "aeiou", "lmnr", "bdgkmptvz"
    words: list[str] = []
    while len(words) < count:
        word = "".join(draw.one(letters) for letters in (starts, vowels, middles, ends, vowels))
        if word not in words and word not in _REAL_WORDS:
            words.append(word)
    return words


# Drawn, but already words, or too close to rude ones.
_REAL_WORDS = frozenset({"bingo", "bento", "turdu", "farke", "forte", "perka", "venta", "volta"})
