"""The order of examples: a pure function of (seed, position), for any mixture of tasks.

A shuffled list of 10^8 draws has to be made, kept, saved and found again; a formula has not. Here
draw number p of a run follows from (seed, p) alone, so any process computes any part of the order,
a run resumes from one number, and the number of processes plays no part.

How: an epoch is `sum(quotas)` slots, in which task t owns quotas[t] places. A keyed bijection of
[0, sum(quotas)) shuffles the places. The draws of a task are counted through all epochs, and a
second keyed bijection, of its rows, turns the count into a row; it takes a new key each time the
rows are used up. So every scheme gives each task exactly its quota in every epoch, and uses each
row of a task once before any of them twice.

The bijection is a Feistel network on a near-square grid of at least as many points as the range,
walked along its cycle until it lands inside the range. Halves are added modulo the grid's sides
instead of XOR-ed on a power of four: then at most one pass in sqrt(n) falls outside, instead of up
to three in four. Nothing is stored: seeking costs the same at any position.
Source: Luby and Rackoff, "How to construct pseudorandom permutations", SIAM J. Comput. 17 (1988);
grid and cycle walking: Black and Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from muppet_zoo.errors import ShardError, UnknownNameError, UsageError
from muppet_zoo.mixture import Rates

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

U64 = NDArray[np.uint64]

# Four rounds suffice for large ranges. A range of a few rows makes a grid of two or three points a
# side, where four rounds make some permutations five times as likely as they should be; ten leave
# every place and pair of places even from seven rows on.
_ROUNDS = 10
# 2^64 / golden ratio: the step between the states of SplitMix64. Source: Steele, Lea and Flood,
# "Fast splittable pseudorandom number generators", OOPSLA 2014.
_STEP = np.uint64(0x9E3779B97F4A7C15)
_WORD = 1 << 64

# Keys for different uses must never coincide: the first number of each key path.
_SLOTS, _ROWS, MICRO_BATCHES, SAMPLE, R3F_NOISE, TRAIN_SAMPLE = 1, 2, 3, 4, 5, 6


@dataclass(frozen=True, kw_only=True)
class Draws:
    """n successive draws: task (n,) int32 index of the task, row (n,) int64 row of that task."""

    task: NDArray[np.int32]
    row: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Order:
    """The endless stream of draws of a run. Equal fields give equal draws, on any machine.

    tasks_in_turn: within an epoch, one task after another; else they are shuffled together.
    """

    seed: int
    task_sizes: tuple[int, ...]
    quotas: tuple[int, ...]
    tasks_in_turn: bool = False

    def __post_init__(self) -> None:
        if len(self.task_sizes) != len(self.quotas):
            raise ValueError(f"{len(self.task_sizes)} sizes but {len(self.quotas)} quotas")
        if not self.quotas or min(self.quotas) < 1 or min(self.task_sizes) < 1:
            raise ValueError("an order needs at least one task, and one row and draw of each")

    @property
    def epoch_size(self) -> int:
        """Draws in one epoch."""
        return sum(self.quotas)

    def draws(self, start: int, count: int) -> Draws:
        """Draws start .. start + count - 1 of the run; epoch e begins at e * epoch_size.

        Takes time and memory in proportion to `count` and the number of tasks, wherever it starts.
        """
        if start < 0 or count < 0:
            raise ValueError(f"cannot draw {count} examples from position {start}")
        position = np.arange(start, start + count, dtype=np.uint64)
        epoch, place = np.divmod(position, np.uint64(self.epoch_size))
        slot = place
        if not self.tasks_in_turn:
            slot = permute(place, np.uint64(self.epoch_size), key(self.seed, _SLOTS, epoch))
        task = np.searchsorted(self._ends, slot, side="right")
        size, quota = self._sizes[task], self._quotas[task]
        drawn_before = epoch * quota + (slot - (self._ends[task] - quota))
        task_epoch, place = np.divmod(drawn_before, size)
        row_key = key(self.seed, _ROWS, task.astype(np.uint64), task_epoch)
        row = permute(place, size, row_key)
        return Draws(task=task.astype(np.int32), row=row.astype(np.int64))

    @cached_property
    def _sizes(self) -> U64:
        return np.array(self.task_sizes, dtype=np.uint64)

    @cached_property
    def _quotas(self) -> U64:
        return np.array(self.quotas, dtype=np.uint64)

    @cached_property
    def _ends(self) -> U64:
        return np.cumsum(self._quotas, dtype=np.uint64)


def permute(values: U64, sizes: U64 | np.uint64, keys: U64) -> U64:
    """A keyed bijection of [0, size), applied to each value.

    values, result: (n,), below their size. sizes and keys: (n,), or one for all. Sizes up to 2^53.
    """
    sizes = np.broadcast_to(sizes, values.shape)
    keys = np.broadcast_to(keys, values.shape)
    wide = np.ceil(np.sqrt(sizes.astype(np.float64))).astype(np.uint64)
    high = (sizes + wide - np.uint64(1)) // wide
    result = _feistel(values, wide, high, keys)
    outside = np.flatnonzero(result >= sizes)
    while outside.size:
        result[outside] = _feistel(result[outside], wide[outside], high[outside], keys[outside])
        outside = outside[result[outside] >= sizes[outside]]
    return result


def key(seed: int, use: int, *path: U64) -> U64:
    """A 64-bit key for each element of `path`, whose arrays broadcast; at least one element."""
    state = _mix(np.array([seed % _WORD], dtype=np.uint64))
    for numbers in (np.array([use], dtype=np.uint64), *path):
        state = _mix(state + numbers * _STEP)
    return state


def quotas(sizes: Sequence[int], rates: Rates) -> tuple[int, ...]:
    """Draws of each task in one epoch, at least one each.

    natural:      the task's rows, so an epoch is every row once.
    temperature:  in proportion to rows^(1/temperature); an epoch has as many draws as there are
                  rows. Source: Raffel et al. 2020, arXiv:1910.10683, section 3.5.2.
    capped:       min(rows, cap), so that an epoch shrinks. Source: the same.
    explicit:     in proportion to the weights; an epoch has as many draws as there are rows.

    "Rows" are those that count: of a member with a cap or weight, min(rows, cap) * weight.

    Raises ShardError for a task without rows, UsageError for rates that say too little.
    """
    empty = [number for number, size in enumerate(sizes) if size < 1]
    if empty or not sizes:
        raise ShardError(
            f"task number {empty[0]} of the mixture (from 0) has no rows to train on; "
            f"leave it out of the mixture, or build its train split with rows"
            if empty
            else "the mixture has no tasks"
        )
    if rates.scheme not in _SCHEMES:
        raise UnknownNameError("sampling scheme", rates.scheme, tuple(_SCHEMES))
    return _SCHEMES[rates.scheme](_counted(sizes, rates), rates)


def _counted(sizes: Sequence[int], rates: Rates) -> tuple[int, ...]:
    """How many rows each task counts as, at least one."""
    if not rates.members:
        return tuple(sizes)
    if len(rates.members) != len(sizes):
        raise ValueError(f"{len(sizes)} sizes but {len(rates.members)} members")
    return tuple(
        max(1, round(min(size, member.cap or size) * member.weight))
        for size, member in zip(sizes, rates.members, strict=True)
    )


def _feistel(values: U64, wide: U64, high: U64, keys: U64) -> U64:
    """One pass over [0, wide * high); the result is a new array."""
    right, left = np.divmod(values, wide)
    round_key = keys
    for _ in range(_ROUNDS // 2):
        round_key = round_key + _STEP
        left = _add(left, _mix(right + round_key), wide)
        round_key = round_key + _STEP
        right = _add(right, _mix(left + round_key), high)
    return left + wide * right


def _add(half: U64, words: U64, size: U64) -> U64:
    """(half + words scaled to [0, size)) modulo size, without a division; uses up `words`."""
    words >>= np.uint64(32)
    words *= size
    words >>= np.uint64(32)
    words += half
    # Below size, the difference wraps around to a larger number.
    np.minimum(words, words - size, out=words)
    return words


def _mix(words: U64) -> U64:
    """SplitMix64's finaliser: a bijection of 64-bit words in which every bit sways every bit.

    Source: Stafford's variant 13 of MurmurHash3's finaliser, as in SplitMix64.
    """
    words = words ^ (words >> np.uint64(30))
    words *= np.uint64(0xBF58476D1CE4E5B9)
    words ^= words >> np.uint64(27)
    words *= np.uint64(0x94D049BB133111EB)
    words ^= words >> np.uint64(31)
    return words


def _natural(sizes: tuple[int, ...], _rates: Rates) -> tuple[int, ...]:
    return sizes


def _temperature(sizes: tuple[int, ...], rates: Rates) -> tuple[int, ...]:
    if rates.temperature is None or not rates.temperature >= 1:
        raise UsageError(f"temperature must be a number of at least 1, not {rates.temperature}")
    if rates.temperature == 1:
        return sizes
    return _share(sum(sizes), [size ** (1.0 / rates.temperature) for size in sizes])


def _capped(sizes: tuple[int, ...], rates: Rates) -> tuple[int, ...]:
    if rates.cap is None or rates.cap < 1:
        raise UsageError(f"cap must be a whole number of at least 1, not {rates.cap}")
    return tuple(min(size, rates.cap) for size in sizes)


def _explicit(sizes: tuple[int, ...], rates: Rates) -> tuple[int, ...]:
    weights = rates.weights or ()
    if len(weights) != len(sizes) or not all(0 < weight < float("inf") for weight in weights):
        raise UsageError(
            f"explicit rates need one positive weight for each of the {len(sizes)} tasks, "
            f"not {list(weights)}"
        )
    return _share(sum(sizes), list(weights))


def _share(total: int, weights: list[float]) -> tuple[int, ...]:
    """`total` >= len(weights) draws in proportion to the weights, whole and at least 1 each.

    Largest remainders get what rounding down leaves over; where the minimum of 1 takes too much,
    the largest shares give it back.
    """
    ideal = np.array(weights, dtype=np.float64)
    ideal *= total / ideal.sum()
    share = np.maximum(1, np.floor(ideal)).astype(np.int64)
    left = total - int(share.sum())
    if left > 0:
        share[np.argsort(share - ideal, kind="stable")[:left]] += 1
    for _ in range(-left):
        share[np.argmax(share)] -= 1
    return tuple(share.tolist())


_SCHEMES: dict[str, Callable[[tuple[int, ...], Rates], tuple[int, ...]]] = {
    "natural": _natural,
    "temperature": _temperature,
    "capped": _capped,
    "explicit": _explicit,
}
