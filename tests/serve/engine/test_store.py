"""Where keys and values lie: sizes to the byte, types with factors, copies, moves, swaps, and the size of the pools."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.kit.errors import OrreryError
from orrery.model.mla import Mla
from orrery.serve.engine.config import MOST_BYTES, EngineConfig, pool_sizes
from orrery.serve.engine.paged_reference import _read
from orrery.serve.engine.store import PagedStore, absorbed, bytes_per_token, cache_groups, latent_layers

MIXED = {"window": 6, "layer_pattern": ("local", "global"), "n_layers": 4}
LATENT = {
    "attention": Mla(kv_lora_rank=12, qk_nope_head_dim=8, qk_rope_head_dim=4, v_head_dim=6),
    "n_kv_heads": 4,
}


def test_groups_are_the_layers_that_see_the_same(make_model: Any) -> None:
    groups = cache_groups(make_model(50, **MIXED))
    assert {window: [s.layer for s in specs] for window, specs in groups.items()} == {None: [1, 3], 6: [0, 2]}
    assert list(cache_groups(make_model(50, window=64))) == [None]  # as long as the context


@pytest.mark.parametrize(
    ("dtype", "per_token"),
    [
        ("float32", 2 * 2 * 8 * 4),
        ("bfloat16", 2 * 2 * 8 * 2),
        ("int8", 2 * 2 * 8 + 2 * 2 * 4),
        ("float8", 48),
    ],
)
def test_bytes_by_hand(make_model: Any, dtype: Any, per_token: int) -> None:
    """Two sides, two kv heads of eight numbers; types with factors have four bytes more for each side and head."""
    model = make_model(50, **MIXED)
    groups = list(cache_groups(model).values())
    assert [bytes_per_token(specs, dtype) for specs in groups] == [2 * per_token, 2 * per_token]
    store = PagedStore(model, [5, 3], block_size=4, dtype=dtype)
    assert store.bytes == 2 * per_token * 4 * (5 + 3)
    assert store.group_of == {1: 0, 3: 0, 0: 1, 2: 1}


def test_latent_attention_keeps_one_vector_a_token(make_model: Any) -> None:
    model = make_model(50, **LATENT)
    store = PagedStore(model, [3], block_size=4)
    assert store.keys[0].shape == (3, 4, 1, 16) and store.values == {}
    assert not any(block.attn.absorbed for block in model.blocks)
    with absorbed(latent_layers(model)):
        assert all(block.attn.absorbed for block in model.blocks)
    assert not any(block.attn.absorbed for block in model.blocks)


@given(seed=st.integers(0, 1000), size=st.sampled_from([1e-3, 1.0, 300.0]))
@settings(max_examples=20, deadline=None)
def test_types_with_factors_round_to_their_step(make_model: Any, seed: int, size: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(3, 2, 8, generator=generator) * size
    x[1, 0] = 0
    for dtype, step in (("int8", 1 / 254), ("float8", 1 / 16)):
        store = PagedStore(make_model(50), [2], block_size=4, dtype=dtype)  # type: ignore[bad-argument-type]
        store.write(0, torch.tensor([5, 4, 7]), x, 2 * x)
        back = _read(store.keys[0], store.key_scales[0], torch.tensor([5, 4, 7]))
        largest = x.abs().amax(-1, keepdim=True)
        bound = step * (largest if dtype == "int8" else x.abs() + largest / 32)
        assert ((back - x).abs() <= bound + 1e-9).all()
        twice = _read(store.values[0], store.value_scales[0], torch.tensor([5, 4, 7]))
        assert torch.equal(twice, 2 * back)
        assert not store.keys[0].view(torch.uint8)[0].any()  # nobody else's place was touched


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8", "float8"])
def test_copies_moves_and_swaps_keep_every_bit(make_model: Any, dtype: Any) -> None:
    store = PagedStore(make_model(50, **MIXED), [6, 6], block_size=4, dtype=dtype)
    places = torch.arange(4, 24)
    for layer in range(4):
        k = torch.randn(20, 2, 8, generator=torch.Generator().manual_seed(layer))
        store.write(layer, places, k, k + 1)
    before = {layer: [x.clone() for x in store.tensors(layer)] for layer in range(4)}
    store.copy_block(0, 2, 5)
    for layer in range(4):
        for new, old in zip(store.tensors(layer), before[layer], strict=True):
            assert torch.equal(new[5], old[2] if layer in (1, 3) else old[5])
    store.move(1, [9, 10, 11], [8, 9, 10])  # places overlap: all are read first
    for layer in (0, 2):
        for new, old in zip(store.tensors(layer), before[layer], strict=True):
            assert torch.equal(new.flatten(0, 1)[8:11], old.flatten(0, 1)[9:12])
    swapped = store.swap_out([[1, 3], [4]])
    for layer in range(4):
        for x in store.tensors(layer):
            x.zero_()
    store.swap_in(swapped, [[2, 5], [1]])
    for layer, pairs in ((1, ((2, 1), (5, 3))), (0, ((1, 4),))):
        for new, old in zip(store.tensors(layer), before[layer], strict=True):
            for target, source in pairs:
                assert torch.equal(new[target], old[source])


def test_states_of_sequences(make_model: Any) -> None:
    store = PagedStore(make_model(50), [2])
    site = torch.nn.Identity()
    store.states[site] = {1: (5, "state")}
    store.fork_states(1, 2)
    store.forget_states(1)
    store.fork_states(7, 8)
    assert store.states[site] == {2: (5, "state")}


def test_pools_share_the_memory_by_what_a_sequence_needs(make_model: Any) -> None:
    model = make_model(50, **MIXED)
    size = (
        4 * 2 * 2 * 2 * 8 * 4
    )  # bytes of a block: four tokens, two layers of a group, two sides, two heads, eight floats
    config = EngineConfig(block_size=4, max_sequences=3, token_budget=10)
    whole, near = -(-64 // 4) + 1, -(-(6 + 10) // 4) + 1
    assert pool_sizes(model, config) == [1 + 3 * whole, 1 + 3 * near]
    store = PagedStore(model, pool_sizes(model, config), block_size=4)
    assert store.bytes == (2 + 3 * whole + 3 * near) * size
    half = EngineConfig(block_size=4, token_budget=10, kv_memory=(2 + whole + near) * size)
    assert pool_sizes(model, half) == [1 + whole, 1 + near]
    with pytest.raises(OrreryError, match=r"set kv_memory to [\d,]+ or more"):
        pool_sizes(model, EngineConfig(kv_memory=10))
    many = pool_sizes(model, EngineConfig(max_sequences=10**6))
    assert sum(many) * 4 * size <= MOST_BYTES + 2 * 4 * size
