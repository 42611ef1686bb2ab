"""Exhibits of positions: what is relative, rotary frequencies and their scalings, slopes, buckets, waves."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from orrery.glossary.exhibit import Exhibit, Series
from orrery.glossary.exhibits import _tiny
from orrery.kit.errors import OrreryError
from orrery.kit.seeds import torch_generator
from orrery.model.decoder import Decoder
from orrery.model.packed import Packed
from orrery.model.positions import (
    Alibi,
    AlibiBias,
    Learned,
    LearnedPositions,
    Sinusoidal,
    SinusoidalPositions,
    T5Relative,
    T5RelativeBias,
    alibi_slopes,
    t5_bucket,
)
from orrery.model.rope import Rope, RotaryEmbedding, apply_rope
from orrery.model.rope_scaling import Dynamic, Linear, Llama3, Ntk, Scaling, Yarn
from orrery.train.optim.config import AdamW


def relative_or_absolute() -> Exhibit:
    """The score of a query and a key, before and after both move 100 places on, under every position scheme."""
    width = 32
    q, k = (torch.randn(1, 1, width, generator=torch_generator(0, name)) for name in "qk")
    table = LearnedPositions(Learned(max_positions=512), width)
    nn.init.normal_(table.weight, generator=torch_generator(0, "learned"))
    t5 = T5RelativeBias(T5Relative(), 1)
    nn.init.normal_(t5.relative_attention_bias.weight, generator=torch_generator(0, "t5"))
    rotary, alibi = RotaryEmbedding(Rope(), width), AlibiBias(Alibi(), 1)
    waves = SinusoidalPositions(Sinusoidal(), width)

    def turned(x: Tensor, place: int) -> Tensor:
        return apply_rope(x, *rotary(torch.tensor([place]), 0))

    def added(module: nn.Module) -> Callable[[int, int], Tensor]:
        return lambda m, n: (
            (q[0, 0] + module(torch.tensor([m]))[0]) @ (k[0, 0] + module(torch.tensor([n]))[0])
        )

    def biased(module: nn.Module) -> Callable[[int, int], Tensor]:
        return lambda m, n: (q * k).sum() + module(torch.tensor([m]), torch.tensor([n]))[0, 0, 0]

    schemes: dict[str, Callable[[int, int], Tensor]] = {
        "none": lambda m, n: (q * k).sum(),
        "rope": lambda m, n: (turned(q, m) * turned(k, n)).sum(),
        "alibi": biased(alibi),
        "t5": biased(t5),
        "sinusoidal": added(waves),
        "learned": added(table),
    }
    rows = []
    with torch.no_grad():
        for name, score in schemes.items():
            here, there, nearer = score(9, 4).item(), score(109, 104).item(), score(9, 8).item()
            rows.append((name, here, there, abs(there - here), nearer))
    return Exhibit(
        title="Score of one query and one key, vectors fixed",
        columns=("scheme", "at (9, 4)", "at (109, 104)", "difference", "at (9, 8)"),
        rows=rows,
        reads="Rotary positions and biases see the distance alone: moving both changes nothing beyond rounding. Vectors added to "
        "the input make the score depend on the places themselves. Without any scheme, distance means nothing either.",
    )


def rope_frequencies() -> Exhibit:
    """Radians a token and wavelengths of the 64 pairs of a 128-wide head, for the bases 10,000 and 500,000."""
    rows, pairs = [], torch.arange(64)
    frequencies = {base: Rope(theta=base).frequencies(128) for base in (10_000.0, 500_000.0)}
    for i in (0, 8, 16, 32, 48, 63):
        row: list[float] = [i]
        for base, frequency in frequencies.items():
            assert math.isclose(frequency[i].item(), base ** (-2 * i / 128), rel_tol=1e-5)
            wave = 2 * math.pi / frequency[i].item()
            row += [frequency[i].item(), wave, 4096 / wave]
        rows.append(tuple(row))
    return Exhibit(
        title="Left base 10,000, right 500,000; turns within 4096 tokens",
        columns=("pair", "radians", "wavelength", "turns", "| radians", "wavelength", "turns"),
        rows=rows,
        series=[
            Series(name=f"base {base:,.0f}", x=pairs.tolist(), y=(2 * math.pi / f).tolist()) for base, f in frequencies.items()
        ],
        x="pair", y="wavelength, tokens", log_y=True,
        reads="Fast pairs tell neighbours apart, slow ones see far. A pair that makes less than one turn within the trained context "
        "meets angles it never saw as soon as a text is longer. A larger base slows every pair but the first.",
    )  # fmt: skip


def rope_base_scalings() -> Exhibit:
    """How much each rotary pair is slowed when 4096 trained tokens are stretched eightfold: NTK, dynamic NTK, Llama 3."""
    plain = Rope().frequencies(128)
    trained: dict[str, Any] = {"factor": 8.0, "original_max_positions": 4096}
    dynamic = Dynamic(factor=1.0, original_max_positions=4096)
    cases: dict[str, tuple[Scaling, int]] = {
        "interpolation": (Linear(factor=8.0), 0),
        "NTK-aware": (Ntk(factor=8.0), 0),
        "dynamic NTK at 4096 tokens": (dynamic, 4096),
        "dynamic NTK at 8192 tokens": (dynamic, 8192),
        "Llama 3.1": (Llama3(**trained), 0),
    }
    slowed = {
        name: (plain / Rope(scaling=s).frequencies(128, length)).tolist()
        for name, (s, length) in cases.items()
    }
    places = (0, 16, 32, 40, 48, 63)
    return Exhibit(
        title="Old frequency over new, by pair of a 128-wide head: 1 is as trained, 8 is interpolated",
        columns=("scheme", *(f"pair {i}" for i in places)),
        rows=[(name, *(slow[i] for i in places)) for name, slow in slowed.items()],
        series=[Series(name=name, x=list(range(64)), y=slow) for name, slow in slowed.items()],
        x="pair", y="slowed by",
        reads="A larger base leaves the fastest pair alone, divides the slowest by exactly the factor, and the others by powers in "
        "between. Dynamic NTK does so only as far as the text at hand needs; Llama 3 blends by wavelength.",
    )  # fmt: skip


def alibi_by_hand() -> Exhibit:
    """Slopes of eight heads, and the weight ALiBi leaves at a distance when all scores are equal."""
    slopes, bias = alibi_slopes(8), AlibiBias(Alibi(), 8)
    weights = bias(torch.tensor([1023]), torch.arange(1024))[:, 0].softmax(-1).flip(-1)
    rows = [
        (h, slope, 2.0 ** -(h + 1), math.log(2) / slope, weights[h, :8].sum().item())
        for h, slope in enumerate(slopes)
    ]
    return Exhibit(
        title="Eight heads; the query has 1023 tokens before it",
        columns=("head", "slope", "2^-(h+1)", "tokens that halve the weight", "weight on the last 8"),
        rows=rows,
        series=[Series(name=f"head {h}", x=list(range(100)), y=weights[h, :100].tolist()) for h in (0, 3, 5, 7)],
        x="distance", y="weight", log_y=True,
        reads="Weight falls by the same factor with every token, so each head has a reach, from one token to some hundred. Nothing "
        "was learned and no distance is new, which is why longer texts do not surprise the model.",
    )  # fmt: skip


def t5_buckets() -> Exhibit:
    """The bucket of every distance: exact while short, logarithmic further on; and gradients that reach the table."""
    distance = torch.arange(200)
    bucket = t5_bucket(-distance, buckets=32, max_distance=128, bidirectional=False)
    rows = [
        (b, int(distance[bucket == b].min()), int(distance[bucket == b].max()))
        for b in (0, 1, 8, 15, 16, 17, 20, 24, 28, 31)
    ]
    model = Decoder(_tiny.shape(position=T5Relative()))
    _tiny.loss(model, *_tiny.draw(0, 2)).mean().backward()
    grad = model.get_parameter("position_bias.relative_attention_bias.weight").grad
    assert grad is not None
    return Exhibit(
        title="32 buckets, distances to 128 apart",
        columns=("bucket", "from distance", "to (of 199)"),
        rows=rows,
        series=[Series(name="bucket", x=distance.tolist(), y=bucket.tolist())],
        x="distance", y="bucket",
        reads="Half of the buckets hold one distance each, the others ever wider ranges, the last all that is further away. Each has one "
        f"learned number a head, shared by all layers: 32 x 4 = {grad.numel()} weights here, of which {int((grad != 0).sum())} got a "
        "gradient from 64 tokens.",
    )  # fmt: skip


def sinusoidal_waves() -> Exhibit:
    """The sinusoidal table against its formula, and a shift by seven places as one rotation for all positions."""
    width, waves = 32, SinusoidalPositions(Sinusoidal(), 32)
    table = waves(torch.arange(64)).double()
    by_hand = [
        [f(p / 10_000 ** (2 * i / width)) for i in range(width // 2) for f in (math.sin, math.cos)]
        for p in range(64)
    ]
    turn = torch.zeros(width, width, dtype=torch.float64)
    for i in range(width // 2):
        angle = 7 / 10_000 ** (2 * i / width)
        turn[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = torch.tensor(
            [[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]]
        )
    near = table[20] @ table.T
    return Exhibit(
        title="64 positions of 32 numbers",
        columns=("quantity", "value"),
        rows=[
            (
                "largest difference from the formula",
                (table - torch.tensor(by_hand).double()).abs().max().item(),
            ),
            (
                "largest |M P(p) - P(p + 7)| with one matrix M",
                (table[:57] @ turn.T - table[7:]).abs().max().item(),
            ),
            ("P(20).P(20)", near[20].item()),
            ("P(20).P(21)", near[21].item()),
            ("P(20).P(40)", near[40].item()),
        ],
        reads="Sine and cosine of one frequency turn together when the position grows, so a shift is a fixed matrix, the same at every "
        "position; RoPE makes that rotation act on queries and keys themselves. Near positions have a large product.",
    )


def beyond_the_trained_length() -> Exhibit:
    """Decoders trained on pieces of 64 tokens and then read 512: rotary positions plain and rescaled, ALiBi, and a learned table."""
    factor, schemes = 8.0, (Linear(factor=8.0), Ntk(factor=8.0), Yarn(factor=8.0, original_max_positions=64))
    rope, alibi = (Decoder(_tiny.shape(position=scheme)) for scheme in (Rope(), Alibi()))
    for model in (rope, alibi):
        _tiny.train(model, AdamW(lr=5e-3), steps=100, rows=4)
    models = {
        "rope": rope,
        "alibi": alibi,
        "learned table of 64": Decoder(_tiny.shape(position=Learned(max_positions=64))),
    }
    for scheme in schemes:
        models[f"rope, {scheme.kind} {factor:g}"] = rescaled = Decoder(
            _tiny.shape(position=Rope(scaling=scheme))
        )
        rescaled.load_state_dict(rope.state_dict())
    rows, series = [], []
    for name, model in models.items():
        try:
            far, near = _losses(model, 512), _losses(model, 64)
        except OrreryError:
            rows.append((name, "refused", "refused", "refused"))
            continue
        rows.append((name, far[:64].mean().item(), far[256:].mean().item(), near[256:].mean().item()))
        if name in ("rope", "alibi", "rope, yarn 8"):
            series.append(Series(name=name, x=list(range(16, 512, 32)), y=far.view(16, 32).mean(1).tolist()))
    return Exhibit(
        title="Loss in nats a byte, weights as trained; the same text whole and cut into pieces of 64",
        columns=("positions", "first 64", "256 to 511, read whole", "the same bytes in pieces of 64"),
        rows=rows,
        series=series,
        x="place in the text",
        y="nats a byte",
        reads="Rotary angles beyond the trained length are new to the model, and more context makes it worse than less. Rescaled, the same "
        "weights read on better and pay for it near the start: NTK pays least and gains least. ALiBi needs nothing; a learned table has "
        "no row to give.",
    )


def _losses(model: Decoder, length: int) -> Tensor:
    """(512,) mean loss by place in four texts, read in pieces of `length`."""
    tokens, targets = _tiny.draw(10_000, 4, context=512)
    with torch.no_grad():
        logp = model.eval().head(model(tokens, Packed([length] * (2048 // length)))).log_softmax(-1)
    return -logp.gather(1, targets[:, None]).view(4, 512).mean(0)
