"""Exhibits of adapters: what each kind learns and costs, ranks, memory, where an edit reaches furthest, several served at once."""

from __future__ import annotations

import copy
import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from orrery.glossary.exhibit import Exhibit, Series
from orrery.glossary.exhibits import _tiny
from orrery.kit.seeds import torch_generator
from orrery.model.adapters import (
    Adapter,
    AdapterConfig,
    AdapterSlots,
    Bottleneck,
    Ia3,
    Lora,
    Prefix,
    Prompt,
    Reft,
    Vera,
    merge_adapter,
    new_adapter,
    slots_of_tokens,
)
from orrery.model.adapters.folder import load_adapter, save_adapter
from orrery.model.adapters.low_rank import LowRank
from orrery.model.adapters.virtual import PLACEHOLDER
from orrery.model.decoder import Decoder
from orrery.model.packed import Packed
from orrery.model.quant import dequantize, quantize
from orrery.model.quant.nf4 import dequantize_nf4, quantize_nf4
from orrery.model.quantised import freeze_quantised, quantised_bytes
from orrery.train.loss import cross_entropy
from orrery.train.optim.build import build_optimizer
from orrery.train.optim.config import AdamW
from orrery.tune.critical import critical_positions, flow_scores

KINDS: dict[str, AdapterConfig] = {
    "LoRA, rank 4": Lora(rank=4, alpha=8.0),
    "rsLoRA, rank 4": Lora(rank=4, alpha=8.0, rslora=True),
    "LoRA+, ratio 4": Lora(rank=4, alpha=8.0, lr_ratio=4.0),
    "DoRA, rank 4": Lora(rank=4, alpha=8.0, dora=True),
    "PiSSA, rank 4": Lora(rank=4, alpha=8.0, init="pissa"),
    "VeRA, rank 64": Vera(rank=64),
    "IA3": Ia3(),
    "bottleneck, 8 wide": Bottleneck(width=8),
    "prefix, 8 tokens": Prefix(tokens=8),
    "prompt, 8 tokens": Prompt(tokens=8),
    "ReFT, rank 4": Reft(rank=4),
}
CONTEXT, ROWS, STEPS = 48, 4, 24


@functools.cache
def _base() -> Decoder:
    """A model that has learned some text of lower case."""
    model = Decoder(_tiny.shape(d_model=64))
    _tiny.train(model, steps=60)
    return model.eval().requires_grad_(False)


@functools.cache
def _loud() -> Tensor:
    """The same text, all letters capitals: what the base has hardly seen."""
    ids = _tiny.text_ids().clone()
    small = (ids >= 97) & (ids <= 122)
    ids[small] -= 32
    return ids


def _fresh(quantised: str | None = None) -> Decoder:
    model = copy.deepcopy(_base())
    if quantised is not None:
        freeze_quantised(model, quantised)
    return model


def _loss(
    model: Decoder,
    adapter: Adapter | None,
    step: int,
    *,
    edits: Callable[[Tensor, list[int]], Tensor] | None = None,
) -> Any:
    """The loss of one batch of the new text behind the adapter's virtual tokens."""
    virtual = 0 if adapter is None else adapter.virtual_tokens
    tokens, targets = _tiny.draw(step, ROWS, context=CONTEXT, ids=_loud())
    rows = [torch.cat([part.new_full((virtual,), PLACEHOLDER), part]) for part in tokens.split(CONTEXT)]
    lengths = [virtual + CONTEXT] * ROWS
    ctx = Packed(lengths)
    if edits is not None:
        ctx.edited = edits(tokens, lengths)
    hidden = model(torch.cat(rows), ctx).unflatten(0, (ROWS, -1))[:, virtual:].flatten(0, 1)
    return cross_entropy(hidden, model.head, targets, torch.ones(len(targets)))


def _teach(
    model: Decoder, cfg: AdapterConfig, *, steps: int = STEPS, lr: float = 1e-2, edits: Callable[[Tensor, list[int]], Tensor] | None = None
) -> tuple[Adapter, list[float]]:  # fmt: skip
    """A new adapter after some steps, beside the model, and the losses."""
    adapter = new_adapter(model, cfg, seed=0)
    slots = AdapterSlots.of(model)
    slots.default = slots.add(adapter)
    optimizer, losses = build_optimizer(adapter, AdamW(lr=lr)), []
    optimizer.set_lr(1.0)
    for step in range(steps):
        optimizer.zero_grad()
        mean = _loss(model, adapter, step, edits=edits).mean()
        mean.backward()
        optimizer.step()
        losses.append(mean.item())
    return adapter, losses


@torch.no_grad()
def _unseen(model: Decoder, adapter: Adapter | None, **settings: Any) -> float:
    """Nats a byte on batches that were not learned from."""
    return sum(float(_loss(model, adapter, 1000 + i, **settings).mean()) for i in range(4)) / 4


def _remove(model: Decoder) -> None:
    slots = AdapterSlots.of(model)
    for slot in list(slots.adapters):
        slots.remove(slot)


def trainable_share_of_adapters() -> Exhibit:
    """A byte model learns to shout, by every kind of adapter: how much learns, what is reached, and what remains of the model."""
    rows: list[tuple[Any, ...]] = []
    start = _unseen(_base(), None)
    size = sum(p.numel() for p in _base().parameters())
    for name, cfg in KINDS.items():
        model = _fresh()
        before = {key: value.clone() for key, value in model.state_dict().items()}
        adapter, _ = _teach(model, cfg)
        reached = _unseen(model, adapter)
        _remove(model)
        same = all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
        rows.append(
            (
                name,
                adapter.size,
                f"{adapter.size / size:.1%}",
                round(reached, 3),
                "bit for bit" if same else "changed",
            )
        )
    return Exhibit(
        title=f"{STEPS} steps on text in capitals; a model of {size:,} weights that starts at {start:.2f} nats a byte",
        columns=("kind", "numbers that learn", "share", "nats a byte after", "the model"),
        rows=rows,
        reads="Each kind gets somewhere with a few percent of the weights or less, and takes nothing from the model, which is there as it "
        "was when the adapter is gone. Vectors (IA3, VeRA) and prompts learn least because they can change least; in a model "
        "this small the shares are large, in one of billions they are a hundred times smaller.",
    )  # fmt: skip


def lora_rank_against_loss() -> Exhibit:
    """A linear layer must change by a matrix whose singular values fall: what LoRA of each rank leaves over, and what it must leave."""
    generator = torch_generator(0, "rank")
    u, v = (torch.linalg.qr(torch.randn(48, 48, generator=generator)).Q for _ in range(2))
    sizes = 0.8 ** torch.arange(48)
    wanted, x = (u * sizes) @ v.t(), torch.randn(512, 48, generator=generator)
    ranks, rows = [1, 2, 4, 8, 16, 32], []
    for rank in ranks:
        left = [
            _left_over(x, wanted, rank, rslora=rslora, steps=n)
            for rslora, n in ((False, 20), (True, 20), (False, 150))
        ]
        best = float(sizes[rank:].square().sum() / sizes.square().sum())
        rows.append((rank, *(round(value, 5) for value in (*left, best))))
    names = ("alpha / r, 20 steps", "alpha / sqrt r, 20 steps", "alpha / r, 150 steps", "best of that rank")
    return Exhibit(
        title="Share of the wanted change that is missing, alpha 8",
        columns=("rank", *names),
        rows=rows,
        series=[Series(name=name, x=ranks, y=[row[i + 1] for row in rows]) for i, name in enumerate(names)],
        x="rank",
        y="missing",
        log_x=True,
        log_y=True,
        reads="A product of rank r can hold the r largest directions of what is wanted, and gets to about that (the inputs are a sample, "
        "so it may look a little better). At a fixed alpha, alpha / r turns a large rank's product down, so that it begins slowly; "
        "dividing by the root keeps it going.",
    )  # fmt: skip


def _left_over(x: Tensor, wanted: Tensor, rank: int, *, rslora: bool, steps: int) -> float:
    """|x (wanted - learned)^T|^2 / |x wanted^T|^2 of a low-rank product that has learned for a while."""
    cfg = Lora(rank=rank, alpha=8.0, rslora=rslora)
    a = torch.randn(rank, 48, generator=torch_generator(rank, "lora")) * 48**-0.5
    low = LowRank(a, torch.zeros(48, rank), scale=cfg.scale()).requires_grad_(True)
    optimizer, target = torch.optim.Adam(low.parameters(), lr=1e-2), x @ wanted.t()
    for _ in range(steps):
        optimizer.zero_grad()
        (low(x) - target).square().mean().backward()
        optimizer.step()
    return float((x @ (wanted - low.delta().detach()).t()).square().sum() / target.square().sum())


def memory_of_tuning() -> Exhibit:
    """Bytes that full tuning, LoRA and QLoRA need for weights, gradients and AdamW's two moments, counted on real modules."""
    cfg = Lora(rank=8, targets=("q_proj", "k_proj", "v_proj", "o_proj"))
    shape = _tiny.shape(d_model=256, n_layers=6, n_heads=8)

    def made(quantised: str | None) -> Decoder:
        model = Decoder(shape).requires_grad_(False)
        if quantised is not None:
            freeze_quantised(model, quantised)
        return model

    full = quantised_bytes(made(None))
    rows: list[tuple[Any, ...]] = [("full", full, full, 2 * full, 4 * full)]
    for name, kind in (
        ("LoRA", None),
        ("QLoRA, Q8_0", "Q8_0"),
        ("QLoRA, Q4_K", "Q4_K"),
        ("QLoRA, NF4", "NF4"),
    ):
        model = made(kind)
        adapter = new_adapter(model, cfg)
        weights = quantised_bytes(model) + adapter.bytes
        rows.append((name, weights, adapter.bytes, 2 * adapter.bytes, weights + 3 * adapter.bytes))
    return Exhibit(
        title=f"A decoder of {full // 4:,} weights in float32, adapters of rank 8 on its attention",
        columns=("how", "weights", "gradients", "optimiser", "bytes in all"),
        rows=rows,
        reads="LoRA saves gradients and moments, which are three quarters of full tuning; then the frozen weights are nearly all that is "
        "left, and storing those in four bits saves most of them. Activations come on top and are alike for all.",
    )


def nf4_against_other_four_bits() -> Exhibit:
    """Error of 4-bit formats on weights drawn from a normal distribution, at what they cost."""
    x = torch.randn(256, 512, generator=torch_generator(0, "nf4")) * 0.02
    rows: list[tuple[Any, ...]] = []
    for kind in ("Q4_0", "Q4_1", "IQ4_NL", "Q4_K"):
        raw = quantize(x, kind)
        rows.append((kind, round(raw.nbytes * 8 / x.numel(), 3), _error(dequantize(raw, kind), x)))
    held = quantize_nf4(x)
    rows.append(
        ("NF4, scales in 8 bits", round(held.nbytes * 8 / x.numel(), 3), _error(dequantize_nf4(held), x))
    )
    rows.append(("NF4, scales in 32 bits", 4.5, _error(_plain_nf4(x), x)))
    return Exhibit(
        title="131,072 normal weights",
        columns=("format", "bits a weight", "root mean square error / that of the weights"),
        rows=rows,
        reads="NF4's codes lie where normal weights do, close together at zero, and quantising the scales again makes hardly any difference to "
        "the error while it saves 0.37 bits. Formats with smaller blocks or minima pay for a lower error with bits.",
    )


def _error(got: Tensor, want: Tensor) -> float:
    return round(float((got - want).square().mean().sqrt() / want.square().mean().sqrt()), 4)


def _plain_nf4(x: Tensor) -> Tensor:
    """With exact scales: each block is quantised as a tensor of its own, whose one scale is its mean."""
    return torch.cat([dequantize_nf4(quantize_nf4(block)) for block in x.reshape(-1, 64).split(1)]).view_as(x)


def qlora_learns() -> Exhibit:
    """LoRA beside float weights and beside quantised ones: the same steps, the losses, and the bytes of the frozen layers."""
    rows, series = [], []
    for name, kind in (("float32", None), ("Q8_0", "Q8_0"), ("NF4", "NF4")):
        model = _fresh(kind)
        weights = quantised_bytes(model)
        adapter, losses = _teach(model, Lora(rank=4, alpha=8.0))
        rows.append((name, weights, round(losses[0], 3), round(_unseen(model, adapter), 3)))
        series.append(
            Series(name=name, x=tuple(range(STEPS)), y=tuple(round(x, 4) for x in _tiny.smooth(losses)))
        )
    return Exhibit(
        title="LoRA of rank 4 beside a frozen model, stored in three ways",
        columns=("frozen as", "bytes", "first loss", "nats a byte after"),
        rows=rows,
        series=tuple(series),
        x="step",
        y="nats a byte",
        reads="The gradient goes through the dequantised weights, a piece at a time; the adapter learns what rounding took away along with "
        "the task, so the curves lie close together.",
    )


def critical_positions_matter() -> Exhibit:
    """Edits of the stream at six of 48 positions of each text: those that flow scores find, random ones, the first and the last."""
    count, scored = 6, _fresh()

    def random(tokens: Tensor, lengths: list[int]) -> Tensor:
        scores = torch.rand(len(tokens), generator=torch_generator(int(tokens.sum()), "positions"))
        return critical_positions(scores, lengths, count=count)

    ways: dict[str, Callable[[Tensor, list[int]], Tensor]] = {
        "none": lambda tokens, lengths: torch.zeros(len(tokens), dtype=torch.bool),
        "last": lambda tokens, lengths: critical_positions(torch.arange(len(tokens)).float(), lengths, count=count),
        "random": random,
        "first": lambda tokens, lengths: critical_positions(-torch.arange(len(tokens)).float(), lengths, count=count),
        "by attention": lambda tokens, lengths: critical_positions(flow_scores(scored, tokens, lengths), lengths, count=count),
        "by saliency": lambda tokens, lengths: critical_positions(
            flow_scores(scored, tokens, lengths, by="saliency"), lengths, count=count
        ),
    }  # fmt: skip
    rows = []
    for name, edits in ways.items():
        model = _fresh()
        adapter, _ = _teach(model, Reft(rank=4, positions="critical"), steps=25, edits=edits)
        rows.append((name, round(_unseen(model, adapter, edits=edits), 4)))
    return Exhibit(
        title="Nats a byte after 25 steps of low-rank edits at six positions of 48",
        columns=("positions", "nats a byte"),
        rows=rows,
        reads="The model's weights are the same in all rows. An edit helps where later tokens read it: at the end of a text it reaches "
        "almost nobody. Scores that measure the flow pick positions for each text by itself.",
    )


def adapters_side_by_side() -> Exhibit:
    """Two LoRA adapters in one batch with requests that have none: rows equal those of models with the adapter merged in."""
    model = _fresh()
    learned = [
        _teach(model, Lora(rank=4, alpha=8.0, targets=targets), steps=12)[0]
        for targets in (("q_proj", "v_proj"), ("up_proj", "down_proj"))
    ]
    _remove(model)
    slots = AdapterSlots.of(model)
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        sizes = []
        for i, adapter in enumerate(learned):
            save_adapter(adapter, model, Path(folder) / str(i))
            sizes.append(sum(file.stat().st_size for file in (Path(folder) / str(i)).iterdir()))
        numbers = [slots.add(load_adapter(Path(folder) / str(i), model)) for i in range(2)]
        text = _tiny.text_ids()[:96]
        asked: list[int | None] = [numbers[0], None, numbers[1]]
        ctx = Packed([32, 32, 32])
        ctx.adapters = slots_of_tokens(asked, [32, 32, 32])
        batch = model(text, ctx).split(32)
        rows: list[tuple[Any, ...]] = []
        for i, (slot, part, got) in enumerate(zip(asked, text.split(32), batch, strict=True)):
            alone = _fresh()
            if slot is not None:
                merge_adapter(alone, learned[numbers.index(slot)])
            want = alone(part, Packed([32]))
            name = "none" if slot is None else f"adapter {numbers.index(slot) + 1}"
            kept = "" if slot is None else sizes[numbers.index(slot)]
            rows.append((f"request {i + 1}", name, kept, float((got - want).abs().max())))
    whole = sum(p.nbytes for p in model.parameters())
    return Exhibit(
        title=f"One batch of three requests over one model of {whole:,} bytes",
        columns=("request", "goes through", "bytes on disk", "largest difference from a merged model"),
        rows=rows,
        reads="The model is in memory once. An adapter is a small file that comes and goes while the model stays, and each request's rows go "
        "through its own.",
    )
