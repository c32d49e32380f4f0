"""Inputs as hashes: what two examples are compared by, so that no text has to be kept.

A text is compared by its words: runs of letters and digits, NFKC-normalised and case-folded, which
makes case, punctuation and spacing count for nothing. Four things are made of them:

    whole     one hash of all letters and digits of an example; equal means an exact copy
    segments  the same of each of its texts (a premise, a passage) of at least MIN_SEGMENT_WORDS
    ngrams    hashes of NGRAM_WORDS words in a row within one text
    shingles  hashes of two neighbouring words, whose sets tell how alike two examples are

Word order and spelling in languages written without spaces are beyond this: there a whole clause
is one word, so that only `whole` and `segments` say much.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from muppet_zoo.formats import Segments

Hashes = NDArray[np.uint64]
Indices = NDArray[np.int64]

NGRAM_WORDS = 13
"""Words in a row that two texts must share. Source: Brown et al. 2020, "Language Models are
Few-Shot Learners", appendix C: 13 for all but short examples, which here the other kinds cover."""

MIN_SEGMENT_WORDS = 8
"""Shorter texts ("What is it?") are equal by chance. Source: the same appendix never compares fewer
than 8 words."""

_WORD = re.compile(r"[^\W_]+")
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # odd, so that no bit of a word is lost; 2^64 / φ


@dataclass(frozen=True, kw_only=True)
class Sets:
    """Sets of hashes: set i is values[starts[i]:starts[i + 1]], sorted and without repetition."""

    values: Hashes
    starts: Indices

    @classmethod
    def of(cls, values: Hashes, owners: Indices, count: int) -> Sets:
        """Sets 0 … count - 1 of (value, owner) pairs in any order."""
        order = np.lexsort((values, owners))
        values, owners = values[order], owners[order]
        new = np.ones(len(values), bool)
        new[1:] = (values[1:] != values[:-1]) | (owners[1:] != owners[:-1])
        return cls(values=values[new], starts=starts_of(np.bincount(owners[new], minlength=count)))

    def take(self, sets: Indices) -> Sets:
        """These sets, in this order."""
        at, lengths = spread(self.starts, sets)
        return Sets(values=self.values[at], starts=starts_of(lengths))


@dataclass(frozen=True, kw_only=True)
class HashedExamples:
    """The hashes of N examples. `*_owners` say which example, 0 … N - 1, a hash is from.

    whole: (N,). shingles: one set an example, over all its words. first, second: the words of its
    first text and those of all others (a second sentence, a context, all options), one set each.
    """

    whole: Hashes
    segments: Hashes
    segment_owners: Indices
    ngrams: Hashes
    ngram_owners: Indices
    shingles: Sets
    first: Sets
    second: Sets

    def __len__(self) -> int:
        return len(self.whole)


def words_of(text: str) -> list[str]:
    """The words of a text as they are compared."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return _WORD.findall(text.casefold())


def texts_of(segments: Segments) -> list[str]:
    """The distinct texts of an example in reading order, such as context, option, option."""
    if segments.words is not None:
        return [" ".join(segments.words)]
    texts = (text for sequence in segments.sequences for text in sequence if text is not None)
    return list(dict.fromkeys(texts))


def hash_examples(examples: Iterable[Segments]) -> HashedExamples:
    """Everything that examples are compared by. Equal hashes mean equal words."""
    whole: list[int] = []
    segments: list[tuple[int, int]] = []  # (hash, example)
    words: list[str] = []
    texts: list[tuple[int, int, int]] = []  # (example, words, whether it is not the first text)
    for number, example in enumerate(examples):
        joined = []
        for place, text in enumerate(texts_of(example)):
            found = words_of(text)
            # A text of emoji alone has no word and is compared by its characters.
            joined.append("".join(found) or "".join(text.split()))
            if len(found) >= MIN_SEGMENT_WORDS:
                segments.append((_hash(joined[-1]), number))
            words += found
            texts.append((number, len(found), int(place > 0)))
        whole.append(_hash("".join(joined)))
    return _hashed(whole, segments, words, np.array(texts, np.int64).reshape(-1, 3))


def _hashed(
    whole: Sequence[int],
    segments: Sequence[tuple[int, int]],
    words: Sequence[str],
    texts: NDArray[np.int64],
) -> HashedExamples:
    count = len(whole)
    values = np.fromiter(map(_hash, words), np.uint64, len(words))
    text_starts = starts_of(texts[:, 1])
    owners = np.repeat(texts[:, 0], texts[:, 1])
    later = np.repeat(texts[:, 2].astype(bool), texts[:, 1])
    example_starts = starts_of(np.bincount(owners, minlength=count))
    ngrams, at = _windows(values, text_starts, NGRAM_WORDS)
    return HashedExamples(
        whole=np.array(whole, np.uint64),
        segments=np.array([value for value, _ in segments], np.uint64),
        segment_owners=np.array([owner for _, owner in segments], np.int64),
        ngrams=ngrams,
        ngram_owners=owners[at],
        shingles=Sets.of(_shingles(values, example_starts), owners, count),
        first=Sets.of(values[~later], owners[~later], count),
        second=Sets.of(values[later], owners[later], count),
    )


def _hash(text: str) -> int:
    return xxh3_64_intdigest(text.encode("utf-8", "surrogatepass"))


def _windows(words: Hashes, starts: Indices, length: int) -> tuple[Hashes, Indices]:
    """Hashes of `length` words in a row that do not cross a start, and where each begins.

    Source: the polynomial of Karp and Rabin 1987, modulo 2^64.
    """
    num = max(len(words) - length + 1, 0)
    total = np.zeros(num, np.uint64)
    for k in range(length):
        total = total * _MULTIPLIER + words[k : k + num]
    ends = np.repeat(starts[1:], np.diff(starts))
    at = np.flatnonzero(np.arange(num) + length <= ends[:num])
    return total[at], at


def _shingles(words: Hashes, starts: Indices) -> Hashes:
    """(W,) each word with the next; an example's last word with the end, so that none has none."""
    following = np.append(words[1:], np.uint64(0))[: len(words)]
    following[starts[1:][np.diff(starts) > 0] - 1] = 0
    return words * _MULTIPLIER + following


# --- lists of different lengths in one array -------------------------------------------------


def starts_of(lengths: NDArray[np.int64]) -> Indices:
    """(n,) lengths → (n + 1,) where each list starts and the last ends."""
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


def spread(starts: Indices, lists: Indices) -> tuple[Indices, NDArray[np.int64]]:
    """The places of all elements of these lists, one list after the other, and their lengths."""
    lengths = starts[lists + 1] - starts[lists]
    before = starts_of(lengths)[:-1]
    return np.arange(lengths.sum()) + np.repeat(starts[lists] - before, lengths), lengths


def jaccard(left: Sets, right: Sets) -> NDArray[np.float64]:
    """(n,) |A ∩ B| / |A ∪ B| of each pair of sets at the same place; 0 for two empty ones.

    Source: Jaccard 1912, "The distribution of the flora in the alpine zone".
    """
    left_sizes, right_sizes = np.diff(left.starts), np.diff(right.starts)
    pairs = np.arange(len(left_sizes))
    owners = np.concatenate([np.repeat(pairs, left_sizes), np.repeat(pairs, right_sizes)])
    values = np.concatenate([left.values, right.values])
    order = np.lexsort((values, owners))
    values, owners = values[order], owners[order]
    both = (values[1:] == values[:-1]) & (owners[1:] == owners[:-1])
    shared = np.bincount(owners[1:][both], minlength=len(pairs))
    return shared / np.maximum(left_sizes + right_sizes - shared, 1)
