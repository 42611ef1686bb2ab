"""Dynamic NTK and LongRoPE, whose angles depend on how long a sequence is: neighbours, caches, generation."""

from __future__ import annotations

import pytest
import torch

from orrery.kit.errors import OrreryError
from orrery.kit.lm import GenerateRequest, Sampling
from orrery.model import Packed
from orrery.model.cache import Cached, KVCache
from orrery.model.decoder import Decoder
from orrery.model.positions import Dynamic, LongRope, Rope
from orrery.serve.generate import sampled_tokens

from .shapes import VOCAB, ids, tiny

LONG = LongRope(
    short_factor=(1.0,) * 4, long_factor=(1.0, 2.0, 4.0, 8.0), factor=4.0, original_max_positions=12
)
SCALINGS = {"longrope": LONG, "dynamic": Dynamic(factor=4.0, original_max_positions=12)}


def model(kind: str) -> Decoder:
    return tiny("gqa", position=Rope(scaling=SCALINGS[kind]))


@pytest.mark.parametrize("kind", SCALINGS)
@torch.no_grad()
def test_a_long_neighbour_changes_nothing(kind: str) -> None:
    net, sizes = model(kind), (5, 30, 12, 13)
    texts = [ids(n, seed=n) for n in sizes]
    packed = net(torch.cat(texts), Packed(sizes)).split(sizes)
    cache = KVCache(net, rows=4, capacity=40)
    cached = net(torch.cat(texts), Cached(cache, [(row, 0, n) for row, n in enumerate(sizes)])).split(sizes)
    for text, one, other in zip(texts, packed, cached, strict=True):
        alone = net(text, Packed([len(text)]))
        torch.testing.assert_close(one, alone, atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(other, alone, atol=1e-6, rtol=1e-6)
    longer, shorter = net(texts[1], Packed([30]))[:12], net(texts[1][:12], Packed([12]))
    assert (longer - shorter).abs().max() > 1e-3  # so that the neighbours would have shown


@torch.no_grad()
def test_a_cache_does_not_outlive_the_change_of_angles() -> None:
    net, text = model("longrope"), ids(20)
    cache = KVCache(net, rows=1, capacity=20)
    net(text[:10], Cached(cache, [(0, 0, 10)]))
    assert cache.serves(10, 12) and not cache.serves(10, 13) and not cache.serves(12, 13)
    assert cache.serves(0, 20) and cache.serves(13, 20)
    with pytest.raises(OrreryError, match=r"beyond 12 tokens .* read row 0 again from its first token"):
        Cached(cache, [(0, 10, 3)])
    assert cache.lengths == [10]
    again = net(text[:14], Cached(cache, [(0, 0, 14)]))
    more = net(text[14:], Cached(cache, [(0, 14, 6)]))
    torch.testing.assert_close(torch.cat((again, more)), net(text, Packed([20])), atol=1e-5, rtol=1e-5)
    plain = KVCache(tiny(), rows=1, capacity=20)
    assert plain.serves(10, 13)


@torch.no_grad()
def test_generation_reads_again_where_the_angles_change() -> None:
    net, prompt = model("longrope"), ids(7).tolist()
    request = GenerateRequest(ids=tuple(prompt), max_tokens=16, sampling=Sampling(temperature=0.0))
    got = [choice.id for choice in sampled_tokens(net, request, known=VOCAB)]
    for _ in range(16):
        prompt.append(int(net.head(net(torch.tensor(prompt), Packed([len(prompt)]))[-1:]).argmax()))
    assert got == prompt[7:]
