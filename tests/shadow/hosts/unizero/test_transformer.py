"""The transformer: one token at a time on stacked contexts answers what a whole sequence does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from shadow.entry import KeysValues, leaves
from shadow.hosts.unizero.config import WorldModelConfig
from shadow.hosts.unizero.contexts import Contexts
from shadow.hosts.unizero.transformer import Transformer
from tests.shadow.hosts.unizero.uncached import CLOSE, SMALL
from validator.proof.hosts.unizero import lively_network

CONFIG = WorldModelConfig(**SMALL)
CAPACITY = CONFIG.context_length
BLANK = torch.zeros(CONFIG.num_layers, 2, 1, CONFIG.num_heads, CAPACITY, CONFIG.embed_dim // CONFIG.num_heads)


@pytest.fixture
def transformer() -> Transformer:
    return lively_network(CONFIG).transformer


def sequence(length: int, seed: int = 0) -> Tensor:
    """Draw tokens ``(1, length, embed_dim)``."""
    return torch.randn(1, length, CONFIG.embed_dim, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def run(transformer: Transformer, tokens: Tensor, contexts: Contexts) -> Tensor:
    """Feed a sequence token by token; every row gets the same tokens."""
    rows = len(contexts.lengths)
    outputs = [transformer.step(tokens[:, i].expand(rows, -1), contexts) for i in range(tokens.shape[1])]
    return torch.stack(outputs, dim=1)


def entry_of(transformer: Transformer, tokens: Tensor) -> KeysValues:
    contexts = Contexts.stack([None], BLANK)
    run(transformer, tokens, contexts)
    return contexts.entry(0)


@torch.no_grad()
def test_token_by_token_equals_the_whole_sequence(transformer: Transformer) -> None:
    tokens = sequence(CAPACITY)
    cached = run(transformer, tokens, Contexts.stack([None], BLANK))
    torch.testing.assert_close(cached, transformer(tokens), **CLOSE)


@torch.no_grad()
def test_a_token_sees_nothing_ahead_of_it(transformer: Transformer) -> None:
    tokens = sequence(9)
    changed = tokens.clone()
    changed[:, 5:] *= -1
    torch.testing.assert_close(transformer(changed)[:, :5], transformer(tokens)[:, :5])
    assert not torch.allclose(transformer(changed)[:, 5], transformer(tokens)[:, 5], atol=0.01)


@torch.no_grad()
def test_rows_of_different_length_do_not_see_padding_or_each_other(transformer: Transformer) -> None:
    lengths = [1, 9, 0, 5]
    histories = [sequence(length, seed=length) for length in lengths]
    new = sequence(2, seed=99)
    entries = [entry_of(transformer, history) if history.shape[1] else None for history in histories]

    together = run(transformer, new, Contexts.stack(entries, BLANK))

    for row, history in enumerate(histories):
        alone = transformer(torch.cat((history, new), dim=1))[:, -2:]
        torch.testing.assert_close(together[row : row + 1], alone, **CLOSE)


@torch.no_grad()
def test_memory_beyond_the_valid_length_is_not_read(transformer: Transformer) -> None:
    entry = entry_of(transformer, sequence(3))
    for tensor, size in leaves(entry):
        tensor[:, :, size:] = float("nan")
    output = run(transformer, sequence(2, seed=1), Contexts.stack([entry], BLANK))
    expected = transformer(torch.cat((sequence(3), sequence(2, seed=1)), dim=1))[:, -2:]
    torch.testing.assert_close(output, expected, **CLOSE)


@torch.no_grad()
@pytest.mark.parametrize("kept", [1, 5])
def test_after_a_trim_distances_are_still_right(transformer: Transformer, kept: int) -> None:
    old, new = sequence(9), sequence(4, seed=1)
    contexts = Contexts.stack([entry_of(transformer, old)], BLANK)
    contexts.trim(0, kept)

    output = run(transformer, new, contexts)

    # The old tokens saw each other; the new ones see only the newest of them.
    visible = torch.ones(13, 13, dtype=torch.bool)
    visible[9:, : 9 - kept] = False
    expected = transformer(torch.cat((old, new), dim=1), visible)[:, -4:]
    torch.testing.assert_close(output, expected, **CLOSE)


def test_trimming_half_a_pair_is_refused() -> None:
    contexts = Contexts(BLANK.clone(), [5])
    with pytest.raises(ValueError, match="can't keep 4 of 5 tokens: an even number of oldest ones has to go"):
        contexts.trim(0, 4)


def test_make_room_drops_the_oldest_pairs_of_full_rows_only() -> None:
    block = torch.arange(CAPACITY).float()[:, None].expand(CONFIG.num_layers, 2, 2, 2, CAPACITY, 16).clone()
    contexts = Contexts(block, [CAPACITY - 1, 3])
    contexts.make_room(2)
    assert contexts.lengths == [CAPACITY - 3, 3]
    assert block[0, 0, 0, 0, : CAPACITY - 3, 0].tolist() == list(range(2, CAPACITY - 1))
    assert block[0, 0, 1, 0, :3, 0].tolist() == [0, 1, 2]


@torch.no_grad()
def test_a_row_that_does_not_advance_forgets_its_token(transformer: Transformer) -> None:
    contexts = Contexts.stack([None, None], BLANK)
    transformer.step(sequence(1, seed=7)[0].expand(2, -1), contexts, advance=[True, False])
    assert contexts.lengths == [1, 0]

    output = transformer.step(sequence(1, seed=8)[0].expand(2, -1), contexts)

    torch.testing.assert_close(output[1], transformer(sequence(1, seed=8))[0, 0], **CLOSE)
    both = torch.cat((sequence(1, seed=7), sequence(1, seed=8)), dim=1)
    torch.testing.assert_close(output[0], transformer(both)[0, 1], **CLOSE)


@torch.no_grad()
def test_stacking_copies(transformer: Transformer) -> None:
    entry = entry_of(transformer, sequence(3))
    before = [leaf.tensor.clone() for leaf in leaves(entry)]
    contexts = Contexts.stack([entry], BLANK)
    run(transformer, sequence(4, seed=1), contexts)
    contexts.trim(0, 1)
    for leaf, kept in zip(leaves(entry), before, strict=True):
        np.testing.assert_array_equal(leaf.tensor.numpy(), kept.numpy())
    assert BLANK.abs().sum() == 0


def test_one_context_of_one_env_is_copied_too() -> None:
    """``torch.cat`` of a single tensor is a copy as well; the stack relies on it."""
    entry = Contexts(torch.ones_like(BLANK), [2]).entry(0)
    contexts = Contexts.stack([entry], BLANK)
    contexts.block.zero_()
    assert leaves(entry)[0].tensor.sum() > 0
