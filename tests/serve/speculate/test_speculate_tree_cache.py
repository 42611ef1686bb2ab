"""A tree read in one pass: each node's state is that of its own path read alone."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.kit.errors import OrreryError
from orrery.model.cache import Cached, KVCache
from orrery.model.packed import Packed
from orrery.model.positions import Alibi, Learned, T5Relative
from orrery.serve.speculate.beside import Beside
from orrery.serve.speculate.tree_cache import TreeCached, keep, roomier

SORTS = {
    "plain": {},
    "window": {"window": 3, "layer_pattern": ("local", "global")},
    "alibi": {"position": Alibi()},
    "t5": {"position": T5Relative()},
    "learned": {"position": Learned(max_positions=64)},
    "capped": {"sinks": True, "attention_softcap": 5.0},
}
PROMPT = [3, 1, 4, 1, 5]


def path_of(parents: list[int], node: int) -> list[int]:
    return [] if node < 0 else [*path_of(parents, parents[node]), node]


def alone(model, ids: list[int]) -> torch.Tensor:
    return model(torch.tensor(ids), Packed([len(ids)]))


@pytest.mark.parametrize("sort", SORTS)
@torch.inference_mode()
def test_every_node_sees_its_own_path(sort: str, make_model) -> None:
    model = make_model(40, **SORTS[sort])

    @settings(max_examples=15, deadline=None)
    @given(st.lists(st.integers(0, 39), min_size=1, max_size=7), st.data())
    def check(ids: list[int], data: st.DataObject) -> None:
        parents = [data.draw(st.integers(-1, i - 1)) for i in range(len(ids))]
        cut = data.draw(st.integers(0, len(ids) - 1))  # the tree may grow in two passes
        cache = KVCache(model, rows=1, capacity=16)
        model(torch.tensor(PROMPT), Cached(cache, [(0, 0, len(PROMPT))]))
        states = []
        if cut:
            states.append(model(torch.tensor(ids[:cut]), TreeCached(cache, len(PROMPT), parents[:cut])))
        states.append(model(torch.tensor(ids[cut:]), TreeCached(cache, len(PROMPT), parents, first=cut)))
        found = torch.cat(states)
        for node in range(len(ids)):
            path = path_of(parents, node)
            wanted = alone(model, PROMPT + [ids[n] for n in path])[-1]
            torch.testing.assert_close(found[node], wanted, atol=2e-5, rtol=1e-4)
        # Keep one path: what follows it is as if nothing else had been read.
        path = path_of(parents, len(ids) - 1)
        keep(cache, len(PROMPT), path)
        assert cache.lengths == [len(PROMPT) + len(path)]
        went = PROMPT + [ids[n] for n in path]
        after = model(torch.tensor([7]), Cached(cache, [(0, len(went), 1)]))
        torch.testing.assert_close(after[0], alone(model, [*went, 7])[-1], atol=2e-5, rtol=1e-4)

    check()


@torch.inference_mode()
def test_several_caches_in_one_pass(make_model) -> None:
    model = make_model(40, window=3, layer_pattern=("local", "global"))
    prompts = [[3, 1, 4], [1, 5, 9, 2, 6], [5, 3]]
    caches = [KVCache(model, rows=1, capacity=12) for _ in prompts]
    parts = [Cached(cache, [(0, 0, len(ids))]) for cache, ids in zip(caches, prompts, strict=True)]
    flat = [token for ids in prompts for token in ids]
    together = model(torch.tensor(flat), Beside(parts)).split([len(ids) for ids in prompts])
    for found, ids in zip(together, prompts, strict=True):
        torch.testing.assert_close(found, alone(model, ids), atol=2e-5, rtol=1e-4)
    mixed = [TreeCached(caches[0], 3, [-1, -1]), Cached(caches[1], [(0, 5, 1)])]
    states = model(torch.tensor([8, 9, 7]), Beside(mixed))
    for state, ids in zip(states, ([3, 1, 4, 8], [3, 1, 4, 9], [1, 5, 9, 2, 6, 7]), strict=True):
        torch.testing.assert_close(state, alone(model, ids)[-1], atol=2e-5, rtol=1e-4)


@torch.inference_mode()
def test_a_larger_cache_holds_the_same(make_model) -> None:
    model = make_model(40)
    cache = KVCache(model, rows=1, capacity=6)
    model(torch.tensor(PROMPT), Cached(cache, [(0, 0, 5)]))
    assert roomier(cache, model, 6) is cache
    larger = roomier(cache, model, 7)
    assert larger.capacity == 12 and larger.lengths == [5]
    state = model(torch.tensor([7]), Cached(larger, [(0, 5, 1)]))[0]
    torch.testing.assert_close(state, alone(model, [*PROMPT, 7])[-1], atol=2e-5, rtol=1e-4)


def test_what_cannot_be_is_refused(make_model) -> None:
    model = make_model(40)
    with pytest.raises(OrreryError, match="does not fit a cache of 6"):
        TreeCached(KVCache(model, rows=1, capacity=6), 5, [-1, 0])
    context = TreeCached(KVCache(model, rows=1, capacity=8), 0, [-1])
    with pytest.raises(OrreryError, match="cannot branch"):
        context.recur(model, torch.zeros(1, 4), lambda x, state: (x, state))
