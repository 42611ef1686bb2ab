"""Multi-token prediction modules."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from orrery.model.config import DecoderConfig
from orrery.model.decoder import Decoder
from orrery.model.mlp import Mlp
from orrery.model.moe import MoE, Moe
from orrery.model.mtp import MTP
from orrery.model.packed import Packed


def make(**options: Any) -> tuple[Decoder, MTP]:
    cfg = DecoderConfig(
        **(
            {"vocab_size": 40, "d_model": 16, "n_layers": 2, "n_heads": 2, "feed_forward": Mlp(d_ff=24)}
            | options
        )
    )
    model = Decoder(cfg, seed=1).eval()
    torch.manual_seed(0)
    return model, MTP(cfg, 0, model.embed_tokens, model.position_bias).eval()


def test_equations_21_to_23() -> None:
    model, module = make()
    tokens, after = torch.randint(40, (2, 7))
    hidden = model(tokens, Packed([7]))
    ctx = Packed([7])

    def rms(x: Tensor) -> Tensor:
        return x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt()

    w_embed, w_hidden = module.proj.weight.chunk(2, 1)
    mixed = rms(model.embed.weight[after]) @ w_embed.t() + rms(hidden) @ w_hidden.t()
    expected = rms(module.block(mixed, ctx))
    assert torch.allclose(module.predict(hidden, after, Packed([7])), expected, atol=1e-5)


def test_a_place_sees_only_tokens_up_to_its_own_next() -> None:
    model, module = make()
    tokens = torch.randint(40, (9,))
    hidden = model(tokens, Packed([9]))
    after = tokens.roll(-1)
    base = module(hidden, after, Packed([9]))
    after[4] = (after[4] + 1) % 40
    changed = module(hidden, after, Packed([9]))
    same = (base == changed).all(-1)
    assert same.tolist() == [True] * 4 + [False] * 5


def test_documents_stay_apart() -> None:
    _, module = make()
    hidden, after = torch.randn(8, 16), torch.randint(40, (8,))
    both = module(hidden, after, Packed([5, 3]))
    hidden[:5] += 1
    assert torch.equal(module(hidden, after, Packed([5, 3]))[5:], both[5:])


def test_the_embedding_stays_the_models_own() -> None:
    model, module = make(embedding_scale=4.0)
    assert not any("embed." in name for name in module.state_dict())
    module(torch.randn(3, 16), torch.tensor([1, 2, 3]), Packed([3])).sum().backward()
    touched = model.embed.weight.grad.abs().sum(1) > 0
    assert touched.nonzero().flatten().tolist() == [1, 2, 3]


def test_a_copied_model_uses_its_own_embedding() -> None:
    model, module = make()
    model.mtp = torch.nn.ModuleList([module])
    twin = copy.deepcopy(model)
    twin.embed.weight.data.zero_()
    args = torch.randn(3, 16), torch.tensor([1, 2, 3]), Packed([3])
    assert not torch.allclose(model.mtp[0](*args), twin.mtp[0](*args))


@pytest.mark.parametrize("placement", ["pre", "post", "sandwich"])
@pytest.mark.parametrize("routed", [False, True])
def test_every_kind_of_block(placement: str, routed: bool) -> None:
    feed_forward = Moe(n_experts=4, top_k=2, d_ff=8) if routed else Mlp(d_ff=24)
    _, module = make(placement=placement, feed_forward=feed_forward)
    assert isinstance(module.block.mlp, MoE) is routed
    out = module(torch.randn(6, 16), torch.randint(40, (6,)), Packed([6]))
    assert out.shape == (6, 16) and out.isfinite().all()


def test_learns_the_token_after_next() -> None:
    """On a cycle of tokens, two chained modules come to predict two and three places ahead."""
    cfg = DecoderConfig(vocab_size=12, d_model=32, n_layers=1, n_heads=2, feed_forward=Mlp(d_ff=48))
    model = Decoder(cfg, seed=0)
    modules = torch.nn.ModuleList(MTP(cfg, k, model.embed_tokens) for k in range(2))
    tokens = (torch.arange(40) * 5) % 12
    optimizer = torch.optim.Adam([*model.parameters(), *modules.parameters()], lr=3e-3)

    def losses() -> list[Tensor]:
        ctx = Packed([30])
        hidden, found = model(tokens[:30], ctx), []
        for k, module in enumerate(modules):
            hidden = module(hidden, tokens[1 + k : 31 + k], ctx)
            found.append(torch.nn.functional.cross_entropy(model.head(hidden), tokens[2 + k : 32 + k]))
        return found

    before = [loss.item() for loss in losses()]
    for _ in range(60):
        optimizer.zero_grad()
        sum(losses()).backward()
        optimizer.step()
    after = [loss.item() for loss in losses()]
    assert min(before) > 2.0
    assert max(after) < 0.2
