"""A head type is known everywhere or nowhere: what one table lacks would end in a KeyError."""

from __future__ import annotations

from muppet_zoo_torch.heads import HEAD_MATH

from muppet_zoo.heads import HEADS
from muppet_zoo.targets import SENTENCE, TOKEN, VOCABULARY


def test_every_head_type_has_losses() -> None:
    assert set(HEAD_MATH) == set(HEADS)


def test_every_head_but_generation_predicts_from_logits() -> None:
    assert {name for name, math in HEAD_MATH.items() if math.predict is None} == {"generation"}


def test_every_level_is_read_by_a_head() -> None:
    assert {head.level for head in HEADS.values()} == {SENTENCE, TOKEN, VOCABULARY}
