"""Exhibits of mixtures of experts: routing by hand, balance, capacity, and what is counted."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from orrery.glossary.exhibit import Exhibit
from orrery.glossary.exhibits import _tiny
from orrery.kit.seeds import torch_generator
from orrery.model.moe import MoE, Moe, Router, balance_loss
from orrery.model.packed import Packed
from orrery.plan.parameters import count_parameters


def routing_by_hand() -> Exhibit:
    """Three tokens choose two of four experts: scores, the choice and the weights, under four kinds of router."""
    tokens = torch.tensor([[2.0, 1.0, 0.0, -1.0], [0.0, 0.0, 3.0, 1.0], [0.0, -2.0, -2.0, -2.0]])
    kinds: dict[str, dict[str, Any]] = {
        "softmax, weights made to sum to 1": {},
        "softmax as it is": {"normalize_top_k": False},
        "sigmoid": {"router": "sigmoid"},
        "sigmoid, bias (-9 0 0 0)": {"router": "sigmoid", "bias_update": 0.0},
    }
    rows = []
    for name, kind in kinds.items():
        router = Router(4, Moe(n_experts=4, top_k=2, d_ff=8, **kind))
        with torch.no_grad():
            router.weight.copy_(torch.eye(4))  # so that a token is its own logits
            if router.expert_bias is not None:
                router.expert_bias[0] = -9.0
            _, scores = router(tokens)
            ids = router.choose(scores)
            weights = router.weigh(scores, ids)
        for t in range(3):
            rows.append(
                (name, _numbers(tokens[t]), _numbers(scores[t]), _numbers(ids[t]), _numbers(weights[t]))
            )
    return Exhibit(
        title="Router with an identity matrix",
        columns=("router", "logits", "scores", "experts", "weights"),
        rows=rows,
        reads="Best first, of equal scores the lower id. Normalising makes the chosen weights sum to one, so a token that fits no expert "
        "is scaled as much as any other. A bias changes who is chosen and never how much the chosen count.",
    )


def _numbers(values: Tensor) -> str:
    return " ".join(f"{v:.3g}" for v in values.tolist())


def balance_loss_by_hand() -> Exhibit:
    """The auxiliary loss E sum f P of 64 tokens under even, skewed and collapsed routing, and its gradient on a score."""
    rows = []
    for name, logit in (("even", 0.0), ("skewed", 1.0), ("more so", 3.0), ("collapsed", 9.0)):
        logits = torch.zeros(64, 4, requires_grad=True)
        spread = torch.randn(64, 4, generator=torch_generator(0, "tokens"))
        scores = (logits + spread * 0.5 + torch.tensor([logit, 0.0, 0.0, 0.0])).softmax(-1)
        ids = scores.argmax(-1, keepdim=True)
        loss = balance_loss(scores, ids, (64,)) / 64
        f = torch.bincount(ids.flatten(), minlength=4) / 64
        by_hand = 4 * sum(f[i].item() * scores[:, i].mean().item() for i in range(4))
        loss.backward()
        assert logits.grad is not None
        rows.append(
            (
                name,
                _numbers(f),
                _numbers(scores.detach().mean(0)),
                by_hand,
                loss.item(),
                logits.grad[:, 0].sum().item(),
            )
        )
    return Exhibit(
        title="64 tokens, four experts, top-1",
        columns=("routing", "shares f", "mean scores P", "4 sum f P", "shipped", "slope on logit 0"),
        rows=rows,
        reads="It is 1 where load is even and E where one expert gets all. The shares are counts and have no gradient; what is pushed down is the "
        "mean score of a busy expert. Once a router has collapsed, the softmax is flat and the push is weak: balance must come early.",
    )


def capacity_drops_tokens() -> Exhibit:
    """A skewed top-1 layer of four experts under capacity factors 0.5 to 4: assignments dropped and places reserved."""
    x = torch.randn(256, 16, generator=torch_generator(0, "tokens")) + torch.tensor([1.5] + [0.0] * 15)
    rows = []
    for factor in (0.5, 1.0, 1.25, 2.0, 4.0, None):
        layer = MoE(16, Moe(n_experts=4, top_k=1, d_ff=16, capacity_factor=factor, balance_loss=0.0))
        with torch.no_grad():
            layer.router.weight.copy_(torch.randn(4, 16, generator=torch_generator(0, "router")))
        ctx = Packed([256])
        silent = int((layer(x, ctx).abs().sum(-1) == 0).sum())
        load = [int(n) for n in ctx.recorded["expert_load"][0][1]]
        dropped = int(ctx.recorded["dropped_tokens"][0][1]) if factor else 0
        limit = math.ceil(factor * 64) if factor else max(load)
        rows.append(
            (
                factor or "none",
                limit,
                _numbers(torch.tensor(load)),
                dropped,
                sum(max(0, n - limit) for n in load),
                silent,
            )
        )
    gradients = []
    for normalize in (False, True):
        layer = MoE(16, Moe(n_experts=4, top_k=1, d_ff=16, normalize_top_k=normalize, balance_loss=0.0))
        layer(x, Packed([256])).square().sum().backward()
        grad = layer.router.weight.grad
        gradients.append(0.0 if grad is None else grad.norm().item())
    return Exhibit(
        title="256 tokens; capacity is ceil(factor * 256 / 4)",
        columns=(
            "capacity factor",
            "places each",
            "wanted by expert",
            "dropped",
            "by hand",
            "tokens with output 0",
        ),
        rows=rows,
        reads="A dropped token leaves the layer with nothing added, and the residual carries it on. With one expert a token, its weight must be the "
        f"router's own probability: the router's gradient is {gradients[0]:.2g} then, and {gradients[1]:.0e} if weights are made to sum to 1.",
    )


def experts_and_work() -> Exhibit:
    """Weights and counted arithmetic of one layer as experts and choices grow, and how many experts a token touches."""
    from torch.utils.flop_counter import FlopCounterMode

    tokens, rows = 512, []
    x = torch.randn(tokens, 32, generator=torch_generator(0, "x"))
    for n_experts, top_k, shared in ((1, 1, 0), (8, 1, 0), (8, 2, 0), (32, 2, 0), (32, 2, 1), (32, 4, 0)):
        cfg = Moe(n_experts=n_experts, top_k=top_k, d_ff=64, shared_experts=shared)
        planned = count_parameters(_tiny.shape(d_model=32, n_layers=1, feed_forward=cfg))
        layer, one = MoE(32, cfg).eval(), Packed([1])
        with torch.no_grad():
            layer(x[:1], one)
            with FlopCounterMode(display=False) as counted:
                layer(x, Packed([tokens]))
        touched = int((one.recorded["expert_load"][0][1] > 0).sum())
        work = counted.get_total_flops() / tokens
        rows.append((f"{n_experts}, top {top_k}" + ", 1 shared" * shared, touched, planned.feed_forward, planned.active_feed_forward,
                     2 * planned.active_feed_forward, work))  # fmt: skip
    return Exhibit(
        title="One layer 32 wide, experts of inner width 64, 512 tokens",
        columns=("experts", "a token touches", "weights", "active", "2 x active", "FLOPs a token, counted"),
        rows=rows,
        reads="Weights grow with the number of experts, work with the number chosen, the router's own few included. What is counted "
        "beyond 2 x active are the zero rows that fill each expert's tokens up to a multiple of 16.",
    )
