"""Generating with a cache gives what the whole sequence gives, and takes the memory it says."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from orrery.kit.errors import OrreryError
from orrery.model import Cached, Decoder, KVCache, Packed, record

from .shapes import SHAPES, ids, shape, tiny
from .test_context import Decay


def close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", SHAPES)
@torch.no_grad()
def test_a_whole_prompt_is_bitwise_the_packed_pass(name: str) -> None:
    model = tiny(name)
    tokens = ids(26)
    cache = KVCache(model, 4, 12)
    hidden = model(tokens, Cached(cache, [(2, 0, 9), (0, 0, 4), (1, 0, 4), (3, 0, 9)]))
    assert torch.equal(hidden, model(tokens, Packed([9, 4, 4, 9])))
    assert cache.lengths == [4, 4, 9, 9]


@pytest.mark.parametrize("name", SHAPES)
@torch.no_grad()
def test_chunks_and_single_tokens_agree_with_the_packed_pass(name: str) -> None:
    model = tiny(name)
    first, second = ids(14, seed=1), ids(9, seed=2)
    cache = KVCache(model, 3, 20)
    got: dict[int, list[Tensor]] = {0: [], 2: []}
    at = {0: 0, 2: 0}
    # (row, new tokens) of each pass: prompt chunks, single tokens, both at once, in either order
    passes = [
        [(0, 5)],
        [(2, 1)],
        [(0, 3), (2, 4)],
        [(2, 1), (0, 1)],
        [(0, 1)],
        [(0, 2), (2, 1)],
        [(0, 2), (2, 2)],
    ]
    for step in passes:
        work = [(row, at[row], n) for row, n in step]
        tokens = torch.cat([(first if row == 0 else second)[start : start + n] for row, start, n in work])
        hidden = model(tokens, Cached(cache, work))
        for (row, _, n), part in zip(work, hidden.split([n for _, _, n in work]), strict=True):
            got[row].append(part)
            at[row] += n
    assert at == {0: 14, 2: 9}
    close(torch.cat(got[0]), model(first, Packed([14])))
    close(torch.cat(got[2]), model(second, Packed([9])))


@torch.no_grad()
def test_absorbed_latent_attention_agrees_and_keeps_less() -> None:
    model = tiny("latent")
    tokens = ids(12)
    want, wide = model(tokens, Packed([12])), KVCache(model, 1, 12).bytes
    for block in model.blocks:
        block.attn.absorbed = True
    cache = KVCache(model, 1, 12)
    head, tail = model(tokens[:7], Cached(cache, [(0, 0, 7)])), model(tokens[7:], Cached(cache, [(0, 7, 5)]))
    close(torch.cat([head, tail]), want)
    assert cache.bytes == 3 * 12 * (12 + 4) * 4  # layers * tokens * (latent + rotary part) * bytes
    assert wide == 3 * 12 * 4 * (10 + 8) * 4


MODEL = {name: tiny(name) for name in ("gqa", "local-and-global", "alibi-window")}


@settings(max_examples=30, deadline=None)
@given(cuts=st.lists(st.integers(1, 15), max_size=6), name=st.sampled_from(sorted(MODEL)))
@torch.no_grad()
def test_any_chunks(cuts: list[int], name: str) -> None:
    model, tokens = MODEL[name], ids(16)
    cache = KVCache(model, 1, 16)
    edges = sorted({0, 16, *cuts})
    parts = [model(tokens[a:b], Cached(cache, [(0, a, b - a)])) for a, b in pairwise(edges)]
    close(torch.cat(parts), model(tokens, Packed([16])))


@torch.no_grad()
def test_rejected_tokens_are_overwritten() -> None:
    model, tokens = tiny(), ids(10)
    cache = KVCache(model, 1, 16)
    model(tokens[:6], Cached(cache, [(0, 0, 6)]))
    model((tokens[6:10] + 1) % 61, Cached(cache, [(0, 6, 4)]))  # a draft
    cache.truncate(0, 6)
    assert cache.lengths == [6]
    close(model(tokens[6:], Cached(cache, [(0, 6, 4)])), model(tokens, Packed([10]))[6:])
    # A smaller start does the same as truncate.
    close(model(tokens[8:9], Cached(cache, [(0, 8, 1)])), model(tokens, Packed([10]))[8:9])
    assert cache.lengths == [9]


@torch.no_grad()
def test_rows_fork_and_change_places() -> None:
    model = tiny("sinks-window")
    a, b = ids(6, seed=1), ids(4, seed=2)
    cache = KVCache(model, 3, 12)
    model(torch.cat([a, b]), Cached(cache, [(0, 0, 6), (1, 0, 4)]))
    cache.fork(0, 2)
    assert cache.lengths == [6, 4, 6]
    cache.reorder([1, 0])
    assert cache.lengths == [4, 6, 6]
    tails = ids(3, seed=3)
    hidden = model(tails, Cached(cache, [(0, 4, 1), (1, 6, 1), (2, 6, 1)]))
    for i, head in enumerate((b, a, a)):
        whole = torch.cat([head, tails[i : i + 1]])
        close(hidden[i], model(whole, Packed([len(whole)]))[-1])
    cache.reorder([2, 2, 0])
    assert cache.lengths == [7, 7, 5]
    assert torch.equal(cache.keys[1][0, :7], cache.keys[1][1, :7])


@pytest.mark.parametrize("name", SHAPES)
def test_memory_is_what_the_spec_says(name: str) -> None:
    model = tiny(name)
    cache = KVCache(model, 3, 50)
    assert cache.bytes == 3 * 50 * sum(spec.bytes_per_token() for spec in model.cache_spec())
    for spec, keys, values in zip(
        model.cache_spec(), cache.keys.values(), cache.values.values(), strict=True
    ):
        assert keys.shape == (3, 50, spec.kv_heads, spec.key_dim) and values.shape[-1] == spec.value_dim
        assert spec.window == model.cfg.layer_window(spec.layer)


def test_memory_by_the_formula() -> None:
    model = Decoder(shape("gqa", n_layers=5, n_heads=8, n_kv_heads=2, head_dim=16))
    per_token = 2 * 5 * 2 * 16  # keys and values * layers * kv heads * head dim
    assert KVCache(model, 1, 1).bytes == per_token * 4
    assert KVCache(model.to(torch.bfloat16), 7, 11).bytes == 7 * 11 * per_token * 2
    assert sum(spec.bytes_per_token(torch.bfloat16) for spec in model.cache_spec()) == per_token * 2


def test_work_that_does_not_fit_is_refused() -> None:
    cache = KVCache(tiny(), 2, 8)
    for work, says in [
        ([(0, 1, 1)], "position 1 of row 0"),
        ([(2, 0, 1)], "the cache has 2 rows"),
        ([(0, 0, 0)], "cannot put 0 tokens"),
        ([(0, 0, 9)], "would hold 9 tokens but the cache's capacity is 8"),
        ([(0, 0, 2), (0, 2, 2)], "at most one for each row"),
        ([], "at least one piece of work"),
    ]:
        with pytest.raises(OrreryError, match=says):
            Cached(cache, work)
        assert cache.lengths == [0, 0]
    with pytest.raises(OrreryError, match="rows=0"):
        KVCache(tiny(), 0, 8)


@torch.no_grad()
def test_probes_work_while_generating() -> None:
    model = tiny()
    cache = KVCache(model, 1, 8)
    with record(model, ["blocks.2"]) as seen:
        for i, token in enumerate(ids(5)):
            model(token[None], Cached(cache, [(0, i, 1)]))
    with record(model, ["blocks.2"]) as whole:
        model(ids(5), Packed([5]))
    close(torch.cat(seen["blocks.2"]), whole["blocks.2"][0])


def test_state_goes_on_in_its_row() -> None:
    layer, cache = Decay(), KVCache(tiny(), 2, 8)
    one = layer(torch.tensor([1.0, 2.0, 8.0]), Cached(cache, [(0, 0, 2), (1, 0, 1)]))
    two = layer(torch.tensor([6.0, 4.0]), Cached(cache, [(1, 1, 1), (0, 2, 1)]))
    assert one.tolist() == [1.0, 2.5, 8.0] and two.tolist() == [10.0, 5.25]
    cache.fork(0, 1)
    assert layer(torch.tensor([0.0, 1.0]), Cached(cache, [(0, 3, 1), (1, 3, 1)])).tolist() == [2.625, 3.625]
    cache.truncate(0, 2)
    with pytest.raises(OrreryError, match="cannot go on from 2"):
        layer(torch.tensor([1.0]), Cached(cache, [(0, 2, 1)]))
    assert layer(torch.tensor([1.0]), Cached(cache, [(0, 0, 1)])).tolist() == [1.0]  # from the start it can
