"""Exhibits of the decoder: what attends to what, positions, caches, experts."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from orrery.glossary.exhibit import Exhibit, Grid, Series
from orrery.glossary.exhibits import _tiny
from orrery.kit.seeds import torch_generator
from orrery.model.context import visible
from orrery.model.decoder import Decoder
from orrery.model.explicit import Explicit
from orrery.model.moe import Moe, balance_loss
from orrery.model.norm import LayerNorm, RMSNorm
from orrery.model.packed import Packed
from orrery.model.positions import (
    Alibi,
    AlibiBias,
    Linear,
    NoPosition,
    Rope,
    RotaryEmbedding,
    Sinusoidal,
    SinusoidalPositions,
    Yarn,
    apply_rope,
)
from orrery.model.probe import record
from orrery.train.init import initialize


def attention_pattern() -> Exhibit:
    """Who attends to whom in a decoder trained for a moment: two heads over a line of code."""
    model = Decoder(_tiny.shape())
    _tiny.train(model, steps=60, rows=4)
    text = "def fill(text, w):"
    ids = torch.tensor(list(text.encode()))
    with torch.no_grad(), record(model.eval(), ["blocks.0.attn.pattern"]) as seen:
        model(ids, Explicit([len(ids)]))
    heads = seen["blocks.0.attn.pattern"][0]  # (H, T, T)
    labels = [c if c != " " else "␣" for c in text]
    shown = sorted(range(len(heads)), key=lambda h: heads[h].max(1).values.mean().item())
    grids = [
        Grid(
            title=f"head {h}, layer 0: rows attend to columns",
            values=heads[h].tolist(),
            rows=labels,
            columns=labels,
        )
        for h in (shown[0], shown[-1])
    ]
    sums = heads.sum(-1)
    return Exhibit(
        title=f"Attention of a byte-level decoder over '{text}'",
        columns=("head", "smallest row sum", "largest row sum", "mean weight on itself", "on the byte before", "largest weight above the diagonal"),
        rows=[
            (h, sums[h].min().item(), sums[h].max().item(), heads[h].diagonal().mean().item(),
             heads[h].diagonal(-1).mean().item(), heads[h].triu(1).max().item())
            for h in range(len(heads))
        ],
        grids=grids,
        reads="Each row is a distribution over what came before, so rows sum to one and nothing stands above the diagonal.",
    )  # fmt: skip


def future_does_not_matter() -> Exhibit:
    """Change one token: which logits move, under the causal and under the bidirectional context."""
    model = Decoder(_tiny.shape()).eval()
    initialize(model, "xavier")
    ids = _tiny.text_ids()[:12].clone()
    other = ids.clone()
    other[6] = (other[6] + 1) % 256
    rows = []
    with torch.no_grad():
        for name, causal in (("causal", True), ("bidirectional", False)):
            a, b = (model.head(model(t, Packed([12], causal=causal))) for t in (ids, other))
            moved = (a - b).abs().amax(1)
            rows.append((name, *(moved[i].item() for i in (0, 5, 6, 7, 11))))
    return Exhibit(
        title="Largest change of a logit after token 6 of 12 was changed",
        columns=("context", "position 0", "5", "6", "7", "11"),
        rows=rows,
        reads="Under the causal mask nothing before the change moves by a single bit, which lets all positions train at once. Without it every "
        "position sees every other.",
    )


def packing_isolates_documents() -> Exhibit:
    """Two documents laid end to end against each alone, and what changing one does to the other."""
    model = Decoder(_tiny.shape()).eval()
    initialize(model, "xavier")
    a, b = _tiny.text_ids()[:20], _tiny.text_ids()[500:513]
    changed = a.flip(0)
    with torch.no_grad():
        both = model.head(model(torch.cat([a, b]), Packed([20, 13])))
        alone = [model.head(model(t, Packed([len(t)]))) for t in (a, b)]
        after = model.head(model(torch.cat([changed, b]), Packed([20, 13])))
        merged = model.head(model(torch.cat([a, b]), Packed([33])))
    return Exhibit(
        title="Documents of 20 and 13 tokens in one batch",
        columns=("comparison", "largest difference of a logit"),
        rows=[
            ("first document, packed and alone", (both[:20] - alone[0]).abs().max().item()),
            ("second document, packed and alone", (both[20:] - alone[1]).abs().max().item()),
            ("second document after the first was changed", (both[20:] - after[20:]).abs().max().item()),
            ("second document without the boundary", (both[20:] - merged[20:]).abs().max().item()),
        ],
        reads="Attention stays within each document and positions start again at 0, so packing changes nothing. Without the boundary the second "
        "document would read the first.",
    )


def rope_sees_distance_only() -> Exhibit:
    """q.k of one query and key at many positions: with rotary positions it depends on their distance alone."""
    rotary = RotaryEmbedding(Rope(), 32)
    q, k = (torch.randn(1, 1, 32, generator=torch_generator(0, name)) for name in ("q", "k"))

    def score(m: int, n: int) -> float:
        a, b = (apply_rope(x, *rotary(torch.tensor([at]), 1)) for x, at in ((q, m), (k, n)))
        return (a * b).sum().item()

    rows = [(d, score(d, 0), score(100 + d, 100), score(5000 + d, 5000)) for d in (0, 1, 2, 5, 20, 100)]
    same = torch.ones(1, 1, 32)
    base = rotary(torch.tensor([0]), 1)
    far = [(same * apply_rope(same, *rotary(torch.tensor([d]), 1))).sum().item() / 32 for d in range(200)]
    assert base[0].shape == (1, 16)
    return Exhibit(
        title="q.k with the query d tokens after the key",
        columns=("d", "key at 0", "key at 100", "key at 5000"),
        rows=rows,
        series=[Series(name="equal vectors, d apart", x=list(range(200)), y=far)],
        x="distance", y="q.k relative to d = 0",
        reads="Each pair of dimensions turns by an angle proportional to the position, and a product of turned vectors sees only the "
        "difference of angles. Slow pairs carry far distances, fast ones near ones.",
    )  # fmt: skip


def rope_scaling_frequencies() -> Exhibit:
    """Wavelengths of rotary pairs for a context stretched four times: plain, interpolated, and YaRN."""
    schemes = {
        "plain": Rope(),
        "linear, factor 4": Rope(scaling=Linear(factor=4.0)),
        "YaRN, factor 4": Rope(scaling=Yarn(factor=4.0, original_max_positions=2048)),
    }
    table = {name: (2 * math.pi / rope.frequencies(64)).tolist() for name, rope in schemes.items()}
    pairs = (0, 8, 16, 20, 24, 31)
    return Exhibit(
        title="Tokens a full turn takes, by pair of a 64-wide head (theta 10,000)",
        columns=("scheme", *(f"pair {i}" for i in pairs)),
        rows=[(name, *(values[i] for i in pairs)) for name, values in table.items()],
        series=[Series(name=name, x=list(range(32)), y=values) for name, values in table.items()],
        x="pair", y="tokens a turn", log_y=True,
        reads="Interpolation slows all pairs alike and blurs neighbours. YaRN leaves fast pairs, which tell near distances apart, as they were "
        "and stretches only those that never turned fully in training.",
    )  # fmt: skip


def position_biases() -> Exhibit:
    """What ALiBi adds to the scores, what a window hides, and the sinusoidal table."""
    places = torch.arange(12)
    bias = AlibiBias(Alibi(), 4)(places, places)[0]
    seen = visible(places, places, window=None)
    window = visible(places, places, window=4)
    weights = (bias.masked_fill(~seen, -torch.inf)).softmax(-1)
    table = SinusoidalPositions(Sinusoidal(), 24)(torch.arange(12))
    return Exhibit(
        title="Twelve tokens",
        grids=[
            Grid(
                title="ALiBi alone, steepest head: attention weights where all contents are equal",
                values=weights.tolist(),
            ),
            Grid(title="a window of four tokens: what each row may see", values=window.float().tolist()),
            Grid(
                title="sinusoidal vectors, one row a position (dark = +1, light = -1)",
                values=((table + 1) / 2).tolist(),
            ),
        ],
        columns=("head", "slope of ALiBi with 4 heads"),
        rows=[(h, slope) for h, slope in enumerate(AlibiBias(Alibi(), 4).slopes)],
        reads="ALiBi fades with distance at one rate a head; a window cuts off; sinusoids give every position its own vector, fast waves left, "
        "slow ones right.",
    )


def order_needs_positions() -> Exhibit:
    """Shuffle the tokens before the last one: without positions and without a mask the result stays."""
    ids = _tiny.text_ids()[:10]
    shuffled = torch.cat([ids[torch.randperm(9, generator=torch_generator(3, "order"))], ids[9:]])
    rows = []
    for name, position in (
        ("none", NoPosition()),
        ("rope", Rope()),
        ("alibi", Alibi()),
        ("sinusoidal", Sinusoidal()),
    ):
        model = Decoder(_tiny.shape(position=position)).eval()
        initialize(model, "xavier")
        differences = []
        with torch.no_grad():
            for causal in (False, True):
                a, b = (model(t, Packed([10], causal=causal))[-1] for t in (ids, shuffled))
                differences.append((a - b).abs().max().item())
        rows.append((name, *differences))
    return Exhibit(
        title="Largest change of the last hidden state when the nine tokens before it are shuffled",
        columns=("positions", "bidirectional", "causal"),
        rows=rows,
        reads="Attention is a sum over a set: without positions it cannot know an order. The causal mask alone gives some, because each layer "
        "below saw a different prefix.",
    )


def scaled_scores() -> Exhibit:
    """Variance of q.k over random vectors by head dimension, with and without dividing by sqrt(D)."""
    rows = []
    for d in (4, 16, 64, 256):
        q, k = (torch.randn(4000, d, generator=torch_generator(0, name, d)) for name in ("q", "k"))
        score = (q * k).sum(-1)
        sharp, soft = ((score.view(-1, 20) * s).softmax(-1).amax(-1).mean().item() for s in (1.0, d**-0.5))
        rows.append((d, score.var().item(), (score * d**-0.5).var().item(), sharp, soft))
    return Exhibit(
        title="Scores of random queries and keys of unit variance, and the largest of 20 attention weights",
        columns=("D", "variance of q.k", "scaled", "largest weight, unscaled", "scaled"),
        rows=rows,
        reads="A sum of D products has variance D, so unscaled softmaxes saturate as heads get wider, and a saturated softmax passes no gradient.",
    )


def norms_by_hand() -> Exhibit:
    """LayerNorm and RMSNorm of two vectors: mean, size, and what shifting or scaling the input does."""
    rows = []
    for name, norm in (("LayerNorm", LayerNorm(4)), ("RMSNorm", RMSNorm(4))):
        for label, x in (
            ("1 2 3 4", torch.tensor([1.0, 2.0, 3.0, 4.0])),
            ("the same + 10", torch.tensor([11.0, 12.0, 13.0, 14.0])),
            ("the same x 10", torch.tensor([10.0, 20.0, 30.0, 40.0])),
        ):
            y = norm(x).detach()
            rows.append(
                (
                    name,
                    label,
                    " ".join(f"{v:.3f}" for v in y),
                    y.mean().item(),
                    y.square().mean().sqrt().item(),
                )
            )
    return Exhibit(
        title="Norms of four features, gain 1, shift 0",
        columns=("norm", "input", "output", "mean", "RMS"),
        rows=rows,
        reads="Both forget the input's scale. LayerNorm also forgets its mean; RMSNorm keeps the direction and only sets the length, which costs "
        "one pass less and serves as well.",
    )


def router_balance() -> Exhibit:
    """Experts' loads in a trained mixture, with no balancing, with the loss, and with the selection bias."""
    rows = []
    kinds: dict[str, dict[str, float | None]] = {
        "none": {"balance_loss": 0.0},
        "loss 0.05": {"balance_loss": 0.05},
        "bias 0.02": {"balance_loss": 0.0, "bias_update": 0.02},
    }
    for name, how in kinds.items():
        moe = Moe(n_experts=8, top_k=2, d_ff=32, **how)  # type: ignore[arg-type]
        loads = _train_router(Decoder(_tiny.shape(n_layers=1, feed_forward=moe)), steps=60)
        share = loads / loads.sum()
        nats = -(share * share.clamp(min=1e-9).log()).sum().item()
        rows.append(
            (name, share.max().item(), share.min().item(), nats, " ".join(f"{s:.2f}" for s in share.tolist()))
        )
    scores, ids = torch.full((64, 8), 1 / 8), torch.arange(128).view(64, 2) % 8
    uniform = balance_loss(scores, ids, (64,)).item() / 64
    return Exhibit(
        title="Shares of 8 experts over the last 10 of 60 steps, top-2 routing (even: 0.125, entropy ln 8 = 2.079)",
        columns=("balancing", "busiest", "idlest", "entropy, nats", "shares"),
        rows=rows,
        reads=f"Left alone, an expert that is ahead gets more tokens and so more training. The loss E sum f P (here {uniform:.3f} at uniform routing, its "
        "minimum) or a bias that only takes part in the choice evens the loads out.",
    )


def _train_router(model: Decoder, steps: int) -> Tensor:
    """Train with the balance loss and bias update the layer asks for; the loads of the last 10 steps."""
    from orrery.train.optim.build import build_optimizer
    from orrery.train.optim.config import AdamW

    optimizer, total = build_optimizer(model, AdamW(lr=5e-3)), torch.zeros(8)
    for step in range(steps):
        optimizer.zero_grad()
        contexts: list[Packed] = []
        loss = _tiny.loss(
            model, *_tiny.draw(step, 4), wrap=lambda ctx, kept=contexts: kept.append(ctx) or ctx
        )
        recorded = contexts[0].recorded
        extra = sum((value.sum() for _, value in recorded.get("balance_loss", [])), torch.zeros(()))
        ((loss.sum + extra) / loss.weight).backward()
        optimizer.step()
        loads: list[tuple[Any, Tensor]] = list(recorded["expert_load"])
        for layer, load in loads:
            if layer.cfg.bias_update is not None:
                layer.update_bias(load)
            if step >= steps - 10:
                total += load
    return total
