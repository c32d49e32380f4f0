"""The evaluation rows as an index, and what training rows find in it.

The evaluation side is small and is kept: per kind of overlap one sorted array of hashes with the
rows they come from, and a MinHash index of whole examples. The training side streams past it in
chunks, so memory does not grow with it. Which rows are found depends on the two rows alone, never
on the chunk they came in.

    kinds, strongest first
    exact    the whole inputs have the same letters and digits
    near     the whole inputs are nearly the same words in nearly the same order
    segment  a text of theirs is the same, such as a passage under another question
    ngram    13 words in a row are the same

Near: the sets of neighbouring word pairs have a Jaccard index of at least NEAR_JACCARD, about one
word in eight edited, and those of the words of the first and of the other texts each at least
PART_JACCARD (either way round), since a long passage would otherwise hide that the question is
another. Inputs of fewer than MIN_NEAR_PAIRS word pairs ("so brilliant") are compared exactly only.
MinHash with locality-sensitive hashing finds candidates, whose Jaccard is then computed, so what is
found is never an estimate. Sources: Broder 1997, "On the resemblance and containment of documents";
Indyk and Motwani 1998, "Approximate nearest neighbors". The library is `rensa`: it makes, indexes
and looks up the same sets thirteen times as fast as `datasketch` (`benchmarks/overlap.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from muppet_zoo.errors import MissingExtraError
from muppet_zoo.overlap.hashes import (
    MIN_SEGMENT_WORDS,
    HashedExamples,
    Hashes,
    Indices,
    Sets,
    jaccard,
    spread,
    starts_of,
)

KINDS = ("exact", "near", "segment", "ngram")
NONE = len(KINDS)

NEAR_JACCARD = 0.6
PART_JACCARD = 0.6
MIN_NEAR_PAIRS = MIN_SEGMENT_WORDS
NUM_PERMUTATIONS = 255
NUM_BANDS = 51
"""Bands of 5 of the 255 values: a pair with Jaccard s becomes a candidate with probability
1 - (1 - s^5)^51, which is 0.983 at 0.6, 0.9999 at 0.7, and 0.00002 for unrelated sentences, which
have 0.05. Source: Leskovec et al., "Mining of Massive Datasets", section 3.4.2."""
_SEED = 1

MAX_CANDIDATES = 1000
"""Where rows are made from one template, each is a candidate for all. Of more than so many only the
first are looked at; rows for which that happened are counted."""
_PAIRS_AT_ONCE = 20_000  # bounds the memory of comparing sets


def minhash() -> Any:
    """The `rensa` module.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import rensa
    except ModuleNotFoundError as error:
        raise MissingExtraError("rensa", "overlap") from error
    return rensa


@dataclass(frozen=True, kw_only=True)
class Postings:
    """For each distinct hash, sorted, the rows that have it; and the first of them in each split.

    rows: row numbers of hash i at starts[i]:starts[i + 1], ascending. firsts likewise by
    first_starts: one row for each split that has the hash.
    """

    hashes: Hashes
    starts: Indices
    rows: NDArray[np.int32]
    first_starts: Indices
    firsts: NDArray[np.int32]

    @classmethod
    def of(cls, hashes: Hashes, rows: Indices, split_of: NDArray[np.int32]) -> Postings:
        """Postings of (hash, row) pairs; split_of: (rows,) the split of each row, ascending."""
        order = np.lexsort((rows, hashes))
        hashes, small = hashes[order], rows[order].astype(np.int32)
        new_hash = np.ones(len(hashes), bool)
        new_hash[1:] = hashes[1:] != hashes[:-1]
        new_row = new_hash.copy()
        new_row[1:] |= small[1:] != small[:-1]
        splits = split_of[small]
        new_split = new_hash.copy()
        new_split[1:] |= splits[1:] != splits[:-1]
        number = np.cumsum(new_hash) - 1
        count = int(new_hash.sum())
        return cls(
            hashes=hashes[new_hash],
            starts=starts_of(np.bincount(number[new_row], minlength=count)),
            rows=small[new_row],
            first_starts=starts_of(np.bincount(number[new_split], minlength=count)),
            firsts=small[new_split],
        )

    def find(self, hashes: Hashes) -> tuple[Indices, Indices]:
        """Which of `hashes` are here, and at which place."""
        if not len(self.hashes):
            return np.empty(0, np.int64), np.empty(0, np.int64)
        at = np.searchsorted(self.hashes, hashes)
        hit = np.flatnonzero(self.hashes[np.minimum(at, len(self.hashes) - 1)] == hashes)
        return hit, at[hit]


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a chunk of R training rows has in common with S evaluation splits.

    kinds: (R, S) the strongest kind by its number in KINDS, NONE where there is none.
    partners: (R, S) an evaluation row it is found with, the first one; -1 where there is none.
    touched: for each kind, the evaluation rows found, each once.
    num_cut: training rows with more than MAX_CANDIDATES near candidates.
    """

    kinds: NDArray[np.uint8]
    partners: NDArray[np.int32]
    touched: tuple[NDArray[np.int32], ...]
    num_cut: int


class EvaluationIndex:
    """Evaluation rows, numbered over all splits; built once, then only read, also by threads."""

    def __init__(
        self, parts: Sequence[HashedExamples], rows: Indices, split_of: NDArray[np.int32]
    ) -> None:
        """rows: (examples,) the row of each example of all `parts`; split_of: (rows,) ascending."""
        self._split_of = split_of
        self._num_splits = int(split_of[-1]) + 1 if len(split_of) else 0
        self.num_rows = len(split_of)
        offsets = starts_of(np.array([len(part) for part in parts], np.int64))

        def postings(hashes: str, owners: str) -> Postings:
            values = [getattr(part, hashes) for part in parts]
            numbers = [getattr(p, owners) + o for p, o in zip(parts, offsets, strict=False)]
            return Postings.of(
                _joined(values, np.uint64), rows[_joined(numbers, np.int64)], split_of
            )

        whole = _joined([part.whole for part in parts], np.uint64)
        self._exact = Postings.of(whole, rows, split_of)
        self._segments = postings("segments", "segment_owners")
        self._ngrams = postings("ngrams", "ngram_owners")
        # One of each distinct whole input, in the order of self._exact.hashes.
        chosen = np.unique(whole, return_index=True)[1]
        self._shingles = _concatenated([part.shingles for part in parts]).take(chosen)
        self._first = _concatenated([part.first for part in parts]).take(chosen)
        self._second = _concatenated([part.second for part in parts]).take(chosen)
        self._lsh = minhash().RMinHashLSH(NEAR_JACCARD, NUM_PERMUTATIONS, NUM_BANDS)
        filled = np.flatnonzero(np.diff(self._shingles.starts) >= MIN_NEAR_PAIRS)
        self._lsh.insert_pairs(
            zip(filled.tolist(), _sketches(self._shingles.take(filled)), strict=True)
        )

    def find(self, chunk: HashedExamples, rows: Indices, num_rows: int) -> Found:
        """What the examples of a chunk have in common with the index.

        rows: (N,) the row, 0 … num_rows - 1, of each example.
        """
        near, at, num_cut = self._near(chunk)
        hits = (
            (self._exact, *self._exact.find(chunk.whole), np.arange(len(chunk))),
            (self._exact, near, at, np.arange(len(chunk))),
            (self._segments, *self._segments.find(chunk.segments), chunk.segment_owners),
            (self._ngrams, *self._ngrams.find(chunk.ngrams), chunk.ngram_owners),
        )
        kinds = np.full((num_rows, self._num_splits), NONE, np.uint8)
        partners = np.full((num_rows, self._num_splits), -1, np.int32)
        touched = []
        for kind, (postings, hit, places, owners) in enumerate(hits):
            unique = np.unique(places)
            touched.append(np.unique(postings.rows[spread(postings.starts, unique)[0]]))
            at, lengths = spread(postings.first_starts, places)
            firsts = postings.firsts[at]
            mine, splits = np.repeat(rows[owners[hit]], lengths), self._split_of[firsts]
            # Of several the first evaluation row counts, whatever the order of the hits.
            order = np.lexsort((firsts, splits, mine))
            mine, splits, firsts = mine[order], splits[order], firsts[order]
            new = np.ones(len(mine), bool)
            new[1:] = (mine[1:] != mine[:-1]) | (splits[1:] != splits[:-1])
            new &= kinds[mine, splits] == NONE
            kinds[mine[new], splits[new]] = kind
            partners[mine[new], splits[new]] = firsts[new]
        return Found(kinds=kinds, partners=partners, touched=tuple(touched), num_cut=num_cut)

    def _near(self, chunk: HashedExamples) -> tuple[Indices, Indices, int]:
        """Examples of the chunk, the places in `_exact` they are near to, and how many were cut."""
        filled = np.flatnonzero(np.diff(chunk.shingles.starts) >= MIN_NEAR_PAIRS)
        answers = self._lsh.query_all(_sketches(chunk.shingles.take(filled)))
        num_cut = sum(len(answer) > MAX_CANDIDATES for answer in answers)
        mine = np.repeat(filled, [min(len(answer), MAX_CANDIDATES) for answer in answers])
        theirs = np.array([n for a in answers for n in sorted(a)[:MAX_CANDIDATES]], np.int64)
        kept = [
            at[self._are_near(chunk, mine[at], theirs[at])]
            for at in np.split(
                np.arange(len(mine)), range(_PAIRS_AT_ONCE, len(mine), _PAIRS_AT_ONCE)
            )
        ]
        chosen = _joined(kept, np.int64)
        return mine[chosen], theirs[chosen], num_cut

    def _are_near(self, chunk: HashedExamples, mine: Indices, theirs: Indices) -> NDArray[np.bool_]:
        near = jaccard(chunk.shingles.take(mine), self._shingles.take(theirs)) >= NEAR_JACCARD
        at = np.flatnonzero(near)
        one, two = (sets.take(mine[at]) for sets in (chunk.first, chunk.second))
        other, another = (sets.take(theirs[at]) for sets in (self._first, self._second))
        straight = np.minimum(jaccard(one, other), jaccard(two, another))
        crossed = np.minimum(jaccard(one, another), jaccard(two, other))
        # Where one of the two is a single text there is nothing to compare part by part.
        both = (np.diff(two.starts) > 0) & (np.diff(another.starts) > 0)
        near[at] = ~both | (np.maximum(straight, crossed) >= PART_JACCARD)
        return near


def _sketches(sets: Sets) -> list[Any]:
    """A MinHash of each set; none may be empty."""
    data = sets.values.tobytes()
    tokens = [data[at : at + 8] for at in range(0, len(data), 8)]
    lists = [tokens[start:end] for start, end in pairwise(sets.starts.tolist())]
    return list(minhash().RMinHash.from_token_sets(lists, NUM_PERMUTATIONS, _SEED))


def _concatenated(parts: Sequence[Sets]) -> Sets:
    lengths = _joined([np.diff(part.starts) for part in parts], np.int64)
    return Sets(values=_joined([p.values for p in parts], np.uint64), starts=starts_of(lengths))


def _joined(parts: Sequence[NDArray[Any]], kind: type[np.generic]) -> NDArray[Any]:
    return np.concatenate([np.empty(0, kind), *parts])
