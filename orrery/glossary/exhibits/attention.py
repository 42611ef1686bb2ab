"""Exhibits of attention: scores and weights by hand, what is masked, what heads do, soft-capping."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from orrery.glossary.exhibit import Exhibit, Grid, Series
from orrery.glossary.exhibits import _tiny
from orrery.kit.seeds import torch_generator
from orrery.model.attention import Attention
from orrery.model.cache import Cached, KVCache
from orrery.model.config import DecoderConfig
from orrery.model.decoder import Decoder
from orrery.model.explicit import Explicit
from orrery.model.mla import MLA, Mla
from orrery.model.packed import Packed
from orrery.model.positions import NoPosition
from orrery.model.probe import record
from orrery.model.scaled_dot_product import attention_probabilities
from orrery.train.init import initialize
from orrery.train.optim.config import AdamW


class _Seen(Explicit):
    """Keeps the queries, keys and values that a layer hands over."""

    def attend(self, site: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        self.qkv = q, k, v
        return super().attend(site, q, k, v)


def attention_by_hand() -> Exhibit:
    """Three tokens through the shipped attention layer: every score raw, scaled, masked and as a weight, worked out by hand."""
    layer = Attention(DecoderConfig(d_model=2, n_heads=1, position=NoPosition()), 0)
    x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    weights = {
        "q_proj": [[1.0, 1.0], [0.0, 2.0]],
        "k_proj": [[1.0, 0.0], [1.0, 1.0]],
        "v_proj": [[1.0, -1.0], [0.0, 3.0]],
    }
    ctx = _Seen([3])
    with torch.no_grad(), record(layer, ["pattern", "z"]) as seen:
        for name, weight in weights.items():
            layer.get_parameter(f"{name}.weight").copy_(torch.tensor(weight))
        layer(x, ctx)
    q, k, v = (t[:, 0].tolist() for t in ctx.qkv)
    shipped, z = seen["pattern"][0][0].tolist(), seen["z"][0][:, 0].tolist()
    rows, outputs = [], []
    for i in range(3):
        raw = [q[i][0] * k[j][0] + q[i][1] * k[j][1] for j in range(3)]
        masked = [s / math.sqrt(2) if j <= i else -math.inf for j, s in enumerate(raw)]
        p = [math.exp(s) / sum(math.exp(t) for t in masked) for s in masked]
        rows += [(i, j, raw[j], raw[j] / math.sqrt(2), masked[j], p[j], shipped[i][j]) for j in range(3)]
        outputs += [abs(sum(p[j] * v[j][n] for j in range(3)) - z[i][n]) for n in range(2)]
    return Exhibit(
        title="One head of width 2; queries " + ", ".join(f"({a:g}, {b:g})" for a, b in q)
        + "; keys " + ", ".join(f"({a:g}, {b:g})" for a, b in k),
        columns=("query", "key", "q.k", "/ sqrt 2", "masked", "weight by hand", "shipped"),
        rows=rows,
        reads="Keys after the query get minus infinity and so weight exactly 0; the others of a row sum to one. The "
        "output is the weighted sum of the values: the shipped one differs from that by at most "
        f"{max(outputs):.0e}.",
    )  # fmt: skip


def _pattern(lengths: tuple[int, ...] = (12,), **changes: Any) -> Tensor:
    """(T, T) attention weights of a fresh layer's first head; documents lie along the diagonal."""
    model = Decoder(_tiny.shape(n_layers=1, position=NoPosition(), **changes)).eval()
    with torch.no_grad(), record(model, ["blocks.0.attn.pattern"]) as seen:
        model(torch.arange(sum(lengths)), Explicit(lengths))
    return torch.block_diag(*(p[0] for p in seen["blocks.0.attn.pattern"]))


def masks_and_sinks() -> Exhibit:
    """Attention weights of a fresh layer under the causal mask, a window, a window with a sink, and two packed documents."""
    local: dict[str, Any] = {"window": 4, "layer_pattern": ("local",)}
    cases = {
        "causal": _pattern(),
        "window of 4": _pattern(**local),
        "window of 4 and a sink": _pattern(**local, sinks=True),
        "documents of 5 and 7": _pattern((5, 7)),
    }
    return Exhibit(
        title="Twelve tokens; a row is a query, shades are its weights times the keys it sees",
        columns=("pattern", "keys the last token sees", "sum of its weights", "pairs that meet"),
        rows=[
            (name, int((p[-1] > 0).sum()), p[-1].sum().item(), f"{int((p > 0).sum())} of {p.numel()}")
            for name, p in cases.items()
        ],
        grids=[
            Grid(
                title=name,
                values=(p * (p > 0).sum(-1, keepdim=True) - 0.05).tolist(),  # shades round up
                rows=[str(i) for i in range(12)],
            )
            for name, p in cases.items()
        ],
        reads="A fresh layer spreads its weight evenly over what it may see, so the pictures show the masks. A sink is a "
        "logit without a value: it takes a share, most where few keys are, and what is left no longer sums to one.",
    )


def reach_by_depth() -> Exhibit:
    """One token of sixteen is changed: positions whose output changes, for the feed-forward alone and windows by depth."""
    n, tokens = 16, torch.arange(16)
    rows, grids = [], []
    for layers in (0, 1, 2, 4):
        model = Decoder(_tiny.shape(n_layers=layers or 1, window=4, layer_pattern=("local",))).eval()
        run = _feed_forward(model) if layers == 0 else lambda t, model=model: model(t, Packed([n]))
        with torch.no_grad():
            before = run(tokens)
            changed = [(run(torch.where(tokens == j, 200, tokens)) != before).any(-1) for j in range(n)]
        grid, name = (
            torch.stack(changed),
            f"window of 4, layers: {layers}" if layers else "feed-forward alone",
        )
        rows.append((name, int(grid[0].sum()) - 1, 3 * layers, int(grid.tril(-1).sum())))
        grids.append(Grid(title=name, values=grid.float().tolist(), rows=[str(j) for j in range(n)]))
    return Exhibit(
        title="A row is the token that was changed, a column a position; dark where any bit of the output differs",
        columns=(
            "network",
            "tokens further it reaches",
            "(window - 1) x layers",
            "earlier positions changed",
        ),
        rows=rows,
        grids=grids,
        reads="The feed-forward mixes no positions. A layer with a window passes news on by window - 1 tokens, so depth buys reach "
        "without a wider cache. To earlier positions nothing flows, whatever the depth.",
    )


def _feed_forward(model: Decoder) -> Any:
    mlp = model.get_submodule("blocks.0.mlp")
    return lambda tokens: mlp(model.embed(tokens))


def heads_are_separate_attentions() -> Exhibit:
    """Four heads of one layer against four layers of one head each that hold its slices."""
    cfg = _tiny.shape()
    size = cfg.head_size
    layer = Attention(cfg, 0)
    initialize(layer, "xavier")
    x = torch.randn(20, cfg.d_model, generator=torch_generator(0, "x"))
    rows, total = [], torch.zeros_like(x)
    with torch.no_grad(), record(layer, ["pattern"]) as seen:
        whole = layer(x, Explicit([20]))
        for h in range(cfg.n_heads):
            alone, part = Attention(_tiny.shape(n_heads=1, head_dim=size), 0), slice(h * size, (h + 1) * size)
            for name in ("q_proj", "k_proj", "v_proj"):
                alone.get_parameter(f"{name}.weight").copy_(layer.get_parameter(f"{name}.weight")[part])
            alone.o_proj.weight.copy_(layer.o_proj.weight[:, part])
            out = alone(x, Explicit([20]))
            total += out
            p = seen["pattern"][0][h, -1]
            rows.append(
                (
                    h,
                    sum(w.numel() for w in alone.parameters()),
                    out.norm().item(),
                    -(p * p.log()).sum().item(),
                )
            )
    rows.append(("sum of the four", sum(row[1] for row in rows), total.norm().item(), ""))
    rows.append(("the layer", sum(w.numel() for w in layer.parameters()), whole.norm().item(), ""))
    return Exhibit(
        title=f"Attention 48 wide with 4 heads of {size} on 20 random vectors",
        columns=("head", "weights", "norm of its output", "entropy of the last row, nats"),
        rows=rows,
        reads="Concatenating heads and projecting is the same as adding up heads that each have their own slice of the "
        f"projections (largest difference {(whole - total).abs().max():.0e}). Heads cost nothing: four narrow "
        "ones have the weights of one wide one, and four patterns instead of one.",
    )


def heads_switched_off() -> Exhibit:
    """Each head of a small trained decoder silenced through its probe: how much worse the model gets."""
    model = Decoder(_tiny.shape())
    _tiny.train(model, AdamW(lr=5e-3), steps=80, rows=4)
    model.eval()
    tokens, targets = _tiny.draw(10_000)
    with torch.no_grad(), record(model, ["blocks.0.attn.pattern", "blocks.1.attn.pattern"]) as seen:
        whole = _tiny.loss(model, tokens, targets).mean().item()
        model(tokens[:64], Explicit([64]))
    distance = torch.arange(64)[:, None] - torch.arange(64)
    rows: list[tuple[Any, ...]] = []
    for layer in range(2):
        for head in range(4):
            weights = seen[f"blocks.{layer}.attn.pattern"][0][head]
            probe = model.get_submodule(f"blocks.{layer}.attn.z")
            handle = probe.register_forward_hook(_silence(head))
            with torch.no_grad():
                without = _tiny.loss(model, tokens, targets).mean().item()
            handle.remove()
            rows.append((layer, head, without - whole, (weights * distance).sum(-1).mean().item()))
    return Exhibit(
        title=f"Loss of the whole model {whole:.3f} nats a byte",
        columns=("layer", "head", "loss without it, more by", "mean distance it looks back"),
        rows=rows,
        reads="Heads are not equal: a few carry most, and some can be taken out at almost no cost. Which ones, one sees only by "
        "switching them off; a sharp pattern does not prove that a head matters.",
    )


def _silence(head: int) -> Any:
    """A hook that sets one head's output (T, H, D) to zero."""

    def hook(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        keep = torch.ones(output.shape[1], 1)
        keep[head] = 0
        return output * keep

    return hook


def soft_capping() -> Exhibit:
    """Logits from -200 to 200 through a head capped at 30, and their slopes; attention weights capped at 50."""
    logits = torch.linspace(-200, 200, 81)
    model = Decoder(DecoderConfig(vocab_size=81, d_model=2, n_heads=1, n_layers=1, logit_softcap=30.0))
    with torch.no_grad():
        model.embed.weight.zero_()
        model.embed.weight[:, 0] = logits
    hidden = torch.tensor([[1.0, 0.0]], requires_grad=True)
    capped = model.head(hidden)[0]
    rows = []
    for value in (5.0, 10.0, 30.0, 100.0, 200.0):
        at = int((logits - value).abs().argmin())
        (grad,) = torch.autograd.grad(capped[at], hidden, retain_graph=True)
        slope = grad[0, 0].item() / logits[at].item()
        rows.append((logits[at].item(), capped[at].item(), 30 * math.tanh(logits[at].item() / 30), slope))
    q, k = torch.tensor([[[[1.0, 0.0]]]]), torch.tensor([[[[500.0, 0.0], [300.0, 0.0]]]])
    tops = []
    for cap in (None, 50.0):
        site = Attention(DecoderConfig(d_model=2, n_heads=1, attention_scale=1.0, attention_softcap=cap), 0)
        tops.append(attention_probabilities(site, q, k, None, causal=False)[0, 0, 0, 1].item())
    return Exhibit(
        title="cap * tanh(z / cap) with cap 30, as the shipped head applies it",
        columns=("logit", "capped", "by formula", "slope"),
        rows=rows,
        series=[
            Series(name="capped at 30", x=logits.tolist(), y=capped.tolist()),
            Series(name="as it was", x=logits.tolist()[25:56], y=logits.tolist()[25:56]),
        ],
        x="logit", y="after the cap",
        reads="Small logits pass, large ones approach the cap and never reach it, and the order stays. The slope falls with them, "
        "which is the point and the price: what is capped learns slowly. In attention, scores 500 and 300 give the second "
        f"key a weight of {tops[0]:.1g}; capped at 50, {tops[1]:.2g}.",
    )  # fmt: skip


def latent_two_forms() -> Exhibit:
    """Latent attention expanded and absorbed: equal outputs, what each keeps of a token, and what looking at it costs."""
    latent = Mla(kv_lora_rank=32, qk_nope_head_dim=16, qk_rope_head_dim=8, v_head_dim=16)
    model = Decoder(_tiny.shape(n_layers=1, d_model=64, n_heads=8, attention=latent)).eval()
    initialize(model, "xavier")
    tokens, outputs, rows = _tiny.text_ids()[:128], [], []
    attn = model.get_submodule("blocks.0.attn")
    assert isinstance(attn, MLA)
    for absorbed in (False, True):
        attn.absorbed = absorbed
        spec, cache = attn.cache_spec(), KVCache(model, rows=1, capacity=128)
        with torch.no_grad():
            outputs.append(model(tokens, Cached(cache, [(0, 0, 128)])))
        work, read = 8 * (spec.key_dim + spec.value_dim), spec.numbers_per_token
        rows.append(
            (
                "absorbed" if absorbed else "expanded",
                spec.kv_heads,
                spec.key_dim,
                read,
                cache.bytes // 128,
                work,
                work / read,
            )
        )
    return Exhibit(
        title="8 heads of 16 + 8, values of 16, latent of 32, fp32",
        columns=(
            "form",
            "kv heads",
            "key width",
            "numbers kept",
            "bytes, measured",
            "multiply-adds",
            "per number read",
        ),
        rows=rows,
        reads=f"Both give the same outputs (largest difference {(outputs[0] - outputs[1]).abs().max():.0e}). Absorbed, all heads share one "
        "key, the latent itself: an eighth to read for every past token, and twice the arithmetic on it. Decoding waits for memory, so "
        "that is the form for it; training and prompts, which wait for arithmetic, use the expanded one.",
    )
