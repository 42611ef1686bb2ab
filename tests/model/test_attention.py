"""Attention by hand, and against a loop over queries and keys for every way of changing the scores."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from orrery.model import DecoderConfig, Explicit, Packed, record
from orrery.model.attention import Attention
from orrery.model.mlp import Mlp
from orrery.model.positions import NoPosition

from .shapes import SHAPES, ids, shape, tiny


def plain(**fields: Any) -> Attention:
    """One head, one or two dimensions, weights of one, no positions."""
    base: dict[str, Any] = {"d_model": 2, "n_heads": 1, "position": NoPosition(), "feed_forward": Mlp(d_ff=2)}
    layer = Attention(DecoderConfig(**(base | fields)), 0)
    with torch.no_grad():
        for p in (layer.q_proj, layer.k_proj, layer.v_proj, layer.o_proj):
            p.weight.copy_(torch.eye(*p.weight.shape))
    return layer


def test_two_tokens_by_hand() -> None:
    x = torch.tensor([[1.0, 0.0], [1.0, 2.0]])
    out = plain()(x, Packed([2]))
    # token 0 sees itself; token 1: scores (1, 5) / sqrt 2, weights 1 / (1 + e^(4 / sqrt 2)) and the rest
    w = 1 / (1 + math.exp(4 / math.sqrt(2)))
    torch.testing.assert_close(out, torch.tensor([[1.0, 0.0], [1.0, 2 * (1 - w)]]))


def test_without_causality_the_first_token_sees_the_second() -> None:
    x = torch.tensor([[1.0, 0.0], [1.0, 2.0]])
    out = plain()(x, Packed([2], causal=False))
    torch.testing.assert_close(out[0], torch.tensor([1.0, 1.0]))  # equal scores, so the mean


def test_a_sink_takes_its_share() -> None:
    layer = plain(sinks=True)
    with torch.no_grad():
        layer.sinks.fill_(math.log(3))  # beside one key of score 0: e^0 / (e^0 + 3) of the weight is left
        layer.q_proj.weight.zero_()
    out = layer(torch.tensor([[4.0, 8.0]]), Packed([1]))
    torch.testing.assert_close(out, torch.tensor([[1.0, 2.0]]))


def test_soft_capping_bounds_the_scores() -> None:
    layer = plain(attention_softcap=1.0, attention_scale=1.0)
    x = torch.tensor([[0.0, 0.0], [100.0, 0.0]])
    out = layer(x, Packed([2]))[1, 0]  # scores tanh(0) = 0 and tanh(10000) = 1
    torch.testing.assert_close(out, torch.tensor(100 * math.e / (1 + math.e)))


def test_a_window_of_one_sees_itself_alone() -> None:
    layer = plain(window=1, layer_pattern=("local",))
    x = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(layer(x, Packed([5])), x)


def test_one_kv_head_is_many_equal_ones() -> None:
    mqa = Attention(shape("mqa"), 0)
    mha = Attention(shape("mqa", n_kv_heads=4), 0)
    with torch.no_grad():
        for name in ("q_proj", "o_proj"):
            getattr(mha, name).weight.copy_(getattr(mqa, name).weight)
        for name in ("k_proj", "v_proj"):
            getattr(mha, name).weight.copy_(getattr(mqa, name).weight.repeat(4, 1))
    x = torch.randn(9, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(mqa(x, Packed([9])), mha(x, Packed([9])))
    assert mqa.k_proj.weight.shape == (12, 32)


def slow_attention(site: Any, q: Tensor, k: Tensor, v: Tensor, *, causal: bool) -> tuple[Tensor, Tensor]:
    """The definition, one query and one key at a time: (L, H, Dv) and the probabilities (H, L, L)."""
    length, heads, group = len(q), q.shape[1], q.shape[1] // k.shape[1]
    places = torch.arange(length)
    bias = site.bias(places, places) if site.bias is not None else torch.zeros(heads, length, length)
    out, probabilities = q.new_zeros(length, heads, v.shape[-1]), q.new_zeros(heads, length, length)
    for h in range(heads):
        for i in range(length):
            near = (
                range(length) if site.window is None else range(max(0, i - site.window + 1), i + site.window)
            )
            seen = [j for j in range(length) if j in near and (j <= i or not causal)]
            scores = {}
            for j in seen:
                score = (q[i, h] @ k[j, h // group]).item() * site.scale
                if site.softcap is not None:
                    score = site.softcap * math.tanh(score / site.softcap)
                scores[j] = math.exp(score + bias[h, i, j].item())
            total = sum(scores.values()) + (0.0 if site.sinks is None else math.exp(site.sinks[h].item()))
            for j in seen:
                probabilities[h, i, j] = scores[j] / total
                out[i, h] += scores[j] / total * v[j, h // group]
    return out, probabilities


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(
    "name",
    [
        n
        for n in SHAPES
        if n not in ("plain-mlp", "untied", "layernorm", "parallel") and "recurrent" not in SHAPES[n]
    ],
)
def test_contexts_compute_the_definition(name: str, causal: bool) -> None:
    model = tiny(name, dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)
    lengths = (5, 5, 1, 7)
    for site in (model.blocks[0].attn, model.blocks[2].attn):
        spec = site.cache_spec()
        q = torch.randn(18, 4, spec.key_dim, dtype=torch.float64, generator=generator)
        k = torch.randn(18, spec.kv_heads, spec.key_dim, dtype=torch.float64, generator=generator)
        v = torch.randn(18, spec.kv_heads, spec.value_dim, dtype=torch.float64, generator=generator)
        seen: list[Tensor] = []
        hook = site.pattern.register_forward_hook(lambda m, i, o, seen=seen: seen.append(o))
        with torch.no_grad():
            packed = Packed(lengths, causal=causal).attend(site, q, k, v)
            assert not seen
            explicit = Explicit(lengths, causal=causal).attend(site, q, k, v)
            hook.remove()
            parts = zip(*(x.split(lengths) for x in (q, k, v)), strict=True)
            want, patterns = zip(*(slow_attention(site, *part, causal=causal) for part in parts), strict=True)
        # As close as ALiBi's float32 slopes allow.
        torch.testing.assert_close(packed, torch.cat(want), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(explicit, torch.cat(want), rtol=1e-5, atol=1e-6)
        assert len(seen) == len(lengths)
        for shown, pattern in zip(seen, patterns, strict=True):
            torch.testing.assert_close(shown, pattern, rtol=1e-5, atol=1e-6)


def test_dropout_is_for_training() -> None:
    model = tiny(dropout=0.5)
    tokens, ctx = ids(12), Packed([12])
    still = model(tokens, ctx)
    assert torch.equal(still, model(tokens, ctx))
    model.train()
    torch.manual_seed(0)
    one, two = model(tokens, ctx), model(tokens, ctx)
    assert not torch.equal(one, two) and not torch.equal(one, still)


@pytest.mark.parametrize("name", ["gqa", "softcap"])
def test_attention_dropout_keeps_the_mean(name: str) -> None:
    site = tiny(name, dropout=0.25).blocks[0].attn.train()
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(4, n, 8, generator=generator) for n in (4, 2, 2))
    torch.manual_seed(0)
    with torch.no_grad():
        for context in (Packed([4]), Explicit([4])):
            many = torch.stack([context.attend(site, q, k, v) for _ in range(3000)]).mean(0)
            torch.testing.assert_close(many, context.attend(site.eval(), q, k, v), rtol=0.1, atol=0.08)
            site.train()


def test_the_pattern_probe_shows_and_edits() -> None:
    model = tiny("sinks")
    tokens = ids(7)
    with torch.no_grad(), record(model, ["blocks.1.attn.pattern", "blocks.1.attn.z"]) as seen:
        model(tokens, Explicit([4, 3]))
    assert [tuple(x.shape) for x in seen["blocks.1.attn.pattern"]] == [(4, 4, 4), (4, 3, 3)]
    assert [tuple(x.shape) for x in seen["blocks.1.attn.z"]] == [(7, 4, 8)]
    rows = seen["blocks.1.attn.pattern"][0].sum(-1)
    assert (rows < 1).all() and (rows > 0).all()  # the sink has the rest
    with torch.no_grad():
        before = model(tokens, Explicit([7]))
        hook = model.blocks[1].attn.pattern.register_forward_hook(lambda m, i, o: torch.zeros_like(o))
        ablated = model(tokens, Explicit([7]))
        assert torch.equal(ablated, model(tokens, Explicit([7]))) and not torch.equal(before, ablated)
        hook.remove()
        gone = model.blocks[1].attn.o_proj.register_forward_hook(lambda m, i, o: torch.zeros_like(o))
        # Attending to nothing is no attention.
        torch.testing.assert_close(ablated, model(tokens, Explicit([7])))
        gone.remove()
