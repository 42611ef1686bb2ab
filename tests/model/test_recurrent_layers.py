"""Mamba-2 and Gated DeltaNet as layers of a decoder: through every context, in training, and as they begin."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.kit.errors import OrreryError
from orrery.model import Decoder, DecoderConfig, KVCache, Packed
from orrery.model.cache import Cached
from orrery.model.config import GatedDelta, Mamba2
from orrery.model.mlp import Mlp
from orrery.model.recurrent import Recurrence
from orrery.model.reset import reset_by_kind
from orrery.train.init import initialize
from orrery.train.optim.groups import parameter_groups

from .shapes import ids, tiny

NAMES = ("state-space", "delta-rule", "hybrid")


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(NAMES), st.lists(st.integers(1, 9), min_size=1, max_size=6))
@torch.no_grad()
def test_any_pieces_are_the_whole(name: str, sizes: list[int]) -> None:
    model, tokens = tiny(name), ids(sum(sizes))
    want = model(tokens, Packed([len(tokens)]))
    cache, out, start = KVCache(model, rows=2, capacity=64), [], 0
    for n in sizes:
        out.append(model(tokens[start : start + n], Cached(cache, [(1, start, n)])))
        start += n
    torch.testing.assert_close(torch.cat(out), want, atol=1e-5, rtol=1e-5)
    one_by_one = KVCache(model, rows=1, capacity=64)
    for i in range(len(tokens)):
        model(tokens[i : i + 1], Cached(one_by_one, [(0, i, 1)]))
    for site in cache.states:
        reached, state = cache.states[site][1]
        assert reached == one_by_one.states[site][0][0] == len(tokens)
        torch.testing.assert_close(state, one_by_one.states[site][0][1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_rows_share_states_and_part_again(name: str) -> None:
    """A fork holds the very tensors of its source; what either row reads next does not show in the other."""
    model, tokens = tiny(name), ids(12)
    cache = KVCache(model, rows=3, capacity=32)
    model(tokens, Cached(cache, [(0, 0, 12)]))
    cache.fork(0, 1)
    before = {site: [t.clone() for t in rows[0][1]] for site, rows in cache.states.items()}
    for site, rows in cache.states.items():
        assert all(a is b for a, b in zip(rows[0][1], rows[1][1], strict=True)), site
    other = model(torch.tensor([5, 6]), Cached(cache, [(1, 12, 2)]))
    assert all(
        torch.equal(a, b)
        for site, rows in cache.states.items()
        for a, b in zip(rows[0][1], before[site], strict=True)
    )
    cache.reorder([1, 0])
    again = model(torch.tensor([5, 6, 7]), Cached(cache, [(1, 12, 2), (0, 14, 1)]))
    torch.testing.assert_close(again[:2], other)
    whole = model(torch.cat((tokens, torch.tensor([5, 6, 7]))), Packed([15]))
    torch.testing.assert_close(again[2], whole[14], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_state_cannot_go_back() -> None:
    model = tiny("hybrid")
    cache = KVCache(model, rows=1, capacity=32)
    model(ids(8), Cached(cache, [(0, 0, 8)]))
    cache.truncate(0, 5)
    with pytest.raises(
        OrreryError, match="row 0 has a recurrent state after 8 tokens and cannot go on from 5"
    ):
        model(ids(1), Cached(cache, [(0, 5, 1)]))
    model(ids(4), Cached(cache, [(0, 0, 4)]))  # but it can begin anew


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_every_weight(name: str) -> None:
    """Through chunks, and equal to those through one token after another, in float64."""
    model, tokens = tiny(name, dtype=torch.float64), ids(11)
    weight = torch.randn(11, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(2))

    def gradients(hidden: torch.Tensor) -> dict[str, torch.Tensor]:
        found = torch.autograd.grad((hidden * weight).sum(), list(model.parameters()))
        return dict(zip(dict(model.named_parameters()), found, strict=True))

    whole = gradients(model(tokens, Packed([11])))
    assert all(grad.abs().max() > 0 for grad in whole.values())
    if model.cache_spec():
        return  # a cache of keys is written in place, so only layers without attention can be trained through it
    cache = KVCache(model, rows=1, capacity=11)
    steps = gradients(torch.cat([model(tokens[i : i + 1], Cached(cache, [(0, i, 1)])) for i in range(11)]))
    torch.testing.assert_close(steps, whole, atol=1e-9, rtol=1e-9)


COPY: dict[str, Any] = {
    "mamba2": Mamba2(n_heads=4, head_dim=16, state_dim=16, chunk=8),
    "gated-delta": GatedDelta(n_key_heads=2, n_value_heads=2, key_dim=16, value_dim=16, chunk=8),
}


@pytest.mark.parametrize("kind", COPY)
def test_a_toy_task_is_learnt(kind: str) -> None:
    """Eight tokens, then the same eight again: in 30 steps the loss on the second half falls by a third and more."""
    cfg = DecoderConfig(
        vocab_size=12, d_model=32, n_layers=2, n_heads=2, recurrent=COPY[kind], layer_pattern=("recurrent",),
        feed_forward=Mlp(d_ff=64),
    )  # fmt: skip
    model, losses = Decoder(cfg, seed=1).train(), []
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-2)
    generator = torch.Generator().manual_seed(0)
    lengths = Packed([16] * 16)
    pattern = torch.randint(0, 12, (4, 8), generator=generator)
    for _ in range(30):
        half = pattern[torch.randint(0, 4, (16,), generator=generator)]
        tokens = torch.cat((half, half), 1)
        logits = model.head(model(tokens.flatten(), lengths)).unflatten(0, (16, 16))
        loss = torch.nn.functional.cross_entropy(logits[:, 7:-1].flatten(0, 1), tokens[:, 8:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 2.2 and losses[-1] < losses[0] / 3, losses


@pytest.mark.parametrize("kind", COPY)
def test_layers_begin_as_their_papers_say(kind: str) -> None:
    cfg = DecoderConfig(recurrent=COPY[kind], layer_pattern=("recurrent",), n_layers=2)
    model, again, other = Decoder(cfg, seed=3), Decoder(cfg, seed=3), Decoder(cfg, seed=4)
    for layer, same, differs in zip(
        *([m for m in x.modules() if isinstance(m, Recurrence)] for x in (model, again, other)), strict=True
    ):
        assert torch.equal(layer.A_log, same.A_log) and not torch.equal(layer.A_log, differs.A_log)
        low = 1.0 if kind == "mamba2" else 0.0
        assert ((layer.A_log.exp() >= low) & (layer.A_log.exp() <= 16)).all()
        dt = torch.nn.functional.softplus(layer.dt_bias)
        assert ((dt >= 0.99e-3) & (dt <= 0.101)).all()
        assert layer.conv.weight.abs().max() <= 0.5 < 4 * layer.conv.weight.std()  # 1 / sqrt(4 taps)
        assert torch.equal(layer.norm.weight, torch.ones_like(layer.norm.weight))
        if kind == "mamba2":
            assert torch.equal(layer.D, torch.ones(4))
    initialize(model, "xavier", seed=7)
    first = model.blocks[0].recurrent
    assert first.A_log.abs().max() > 0 and torch.equal(first.norm.weight, torch.ones_like(first.norm.weight))
    groups = parameter_groups(model)
    assert {"blocks.0.recurrent.conv.weight", "blocks.0.recurrent.A_log"} <= set(groups.vectors)
    before = first.A_log.clone()
    reset_by_kind(model, 7)
    assert torch.equal(first.A_log, before)


@pytest.mark.parametrize("name", NAMES)
def test_mixed_precision_keeps_the_state_exact(name: str) -> None:
    """Under autocast matrices are bf16 and the recurrence is not."""
    model, tokens = tiny(name), ids(9)
    with torch.autocast("cpu", torch.bfloat16):
        hidden = model(tokens, Packed([9]))
        hidden.float().square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
    cache = KVCache(model.to(torch.bfloat16), rows=1, capacity=16)
    with torch.no_grad():
        for start, n in ((0, 8), (8, 1)):
            assert model(tokens[start : start + n], Cached(cache, [(0, start, n)])).dtype == torch.bfloat16
    for rows in cache.states.values():
        conv, state = rows[0][1]
        assert (conv.dtype, state.dtype) == (torch.bfloat16, torch.float32)


@torch.no_grad()
def test_time_steps_are_kept_within_their_limits() -> None:
    """Where both limits are one number, what a token projects to its time step does not matter."""
    ssm = Mamba2(n_heads=2, head_dim=4, state_dim=4, dt_min=0.05, dt_max=0.05)
    model = Decoder(DecoderConfig(n_layers=1, recurrent=ssm, layer_pattern=("recurrent",), sublayers="one"))
    before = model(ids(6), Packed([6]))
    model.blocks[0].recurrent.in_proj.weight[-2:] += 1
    model.blocks[0].recurrent.dt_bias += 1
    assert torch.equal(model(ids(6), Packed([6])), before)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(OrreryError, match="n_heads=6 must be a multiple of n_groups=4"):
        Mamba2(n_heads=6, head_dim=4, state_dim=4, n_groups=4)
    with pytest.raises(OrreryError, match="n_value_heads=3 must be a multiple of n_key_heads=2"):
        GatedDelta(n_key_heads=2, n_value_heads=3, key_dim=4, value_dim=4)
    with pytest.raises(OrreryError, match="'recurrent' layers, which need `recurrent`"):
        DecoderConfig(layer_pattern=("recurrent",))
    with pytest.raises(OrreryError, match="layers needs dense_feed_forward"):
        DecoderConfig(layer_pattern=("global", "dense_feed_forward"), sublayers="one")
    with pytest.raises(OrreryError, match="belong to sublayers='one'"):
        DecoderConfig(layer_pattern=("global", "dense_feed_forward"), dense_feed_forward=Mlp(d_ff=8))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES[:2])
def test_compiled_in_one_graph(name: str) -> None:
    torch.compiler.reset()
    model, tokens = tiny(name), ids(13)
    fast = torch.compile(model, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(
        fast(tokens, Packed((5, 5, 3))), model(tokens, Packed((5, 5, 3))), rtol=1e-5, atol=1e-5
    )
    cache = KVCache(model, rows=2, capacity=12)
    with torch.no_grad():
        fast(tokens[:10], Cached(cache, [(0, 0, 6), (1, 0, 4)]))
        last = fast(tokens[10:], Cached(cache, [(0, 6, 2), (1, 4, 1)]))[2]
        whole = model(torch.cat((tokens[6:10], tokens[12:])), Packed([5]))[4]
    torch.testing.assert_close(last, whole, rtol=1e-5, atol=1e-5)
    torch.compiler.reset()
