"""A head type is known everywhere or nowhere: what one table lacks would end in a KeyError."""

from __future__ import annotations

from muppet_zoo_torch.decode import _DECODERS
from muppet_zoo_torch.heads import HEAD_MATH

from muppet_zoo.batches import _TARGETS
from muppet_zoo.heads import HEADS
from muppet_zoo.model_folder import SENTENCE_HEADS, TOKEN_HEADS


def test_every_head_type_can_be_collated() -> None:
    assert set(_TARGETS) == set(HEADS)


def test_every_trainable_head_type_has_columns_losses_and_a_decoder() -> None:
    trainable = {head.type for head in (*SENTENCE_HEADS, *TOKEN_HEADS)}
    assert trainable == set(HEADS) - {"generation"}
    assert trainable == set(HEAD_MATH) == set(_DECODERS)


def test_both_packages_agree_on_the_level_of_a_head() -> None:
    for head in SENTENCE_HEADS:
        assert HEAD_MATH[head.type].level == "sentence"
    for head in TOKEN_HEADS:
        assert HEAD_MATH[head.type].level == "token"
