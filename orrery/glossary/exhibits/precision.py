"""Exhibits of number formats: range and spacing, rounding, scaling the loss, and what a run needs in float32."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from orrery.glossary.exhibit import Exhibit, Series
from orrery.glossary.exhibits import _tiny
from orrery.model.decoder import Decoder
from orrery.model.mlp import Mlp
from orrery.train.optim.adam import AdamW
from orrery.train.precision import DTYPES, LossScaler, Precision


def number_formats() -> Exhibit:
    """fp32, bf16 and fp16 as torch has them: bits, largest and smallest numbers, spacing at 1, and decades of range."""
    columns: list[list[str | int]] = []
    for dtype in DTYPES.values():
        info = torch.finfo(dtype)
        mantissa = round(-math.log2(info.eps))
        exponent = info.bits - 1 - mantissa
        by_rule = (2 - info.eps) * 2.0 ** (2 ** (exponent - 1) - 1)
        numbers = (info.max, by_rule, info.tiny, info.tiny * info.eps, info.eps)
        columns.append(
            [exponent, mantissa, *(f"{x:.4g}" for x in numbers), f"{math.log10(info.max / info.tiny):.1f}"]
        )
    names = (
        "bits of the exponent", "bits of the mantissa", "largest", "(2 - 2^-m) 2^(2^(e-1) - 1)", "smallest at full precision",
        "smallest", "spacing at 1", "decades",
    )  # fmt: skip
    return Exhibit(
        title="One further bit is the sign",
        columns=("", *DTYPES),
        rows=[(name, *values) for name, *values in zip(names, *columns, strict=True)],
        reads="The exponent's bits buy range, the mantissa's buy precision. bf16 is fp32 with the last 16 bits cut off: the range of fp32 and two to three "
        "digits. fp16 has eight times finer steps, and ends at 65,504.",
    )


def rounding_in_three_formats() -> Exhibit:
    """Numbers stored in fp32, bf16 and fp16, and 4096 additions of 0.001 in each."""
    rows: list[tuple[str, ...]] = []
    for value in (1 / 3, 257.0, 1.001, 65_520.0, 1e-8, 3e38):
        rows.append(
            (
                f"{value:.8g}",
                *(f"{torch.tensor(value, dtype=torch.float64).to(d).item():.8g}" for d in DTYPES.values()),
            )
        )
    totals = []
    for dtype in DTYPES.values():
        total = torch.zeros((), dtype=dtype)
        for _ in range(4096):
            total += torch.tensor(0.001, dtype=dtype)
        totals.append(f"{total.item():.8g}")
    rows.append(("0.001 added 4096 times", *totals))
    return Exhibit(
        title="What becomes of a number",
        columns=("number", *DTYPES),
        rows=rows,
        reads="Rounding is relative: bf16 cannot tell 257 from 256. Out of range becomes infinity or zero. And a sum stops growing once what is added is less than "
        "half the spacing, which is why sums and weights stay in fp32.",
    )


def loss_scaling_rescues() -> Exhibit:
    """Gradients sent through fp16 with loss scales from 1 to 2^30: how many vanish, and how the shipped scaler searches."""
    model = Decoder(_tiny.shape(n_layers=1))
    _tiny.loss(model, *_tiny.draw(0)).mean().backward()
    grads = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]) / 4096
    grads = grads[grads != 0]
    rows = []
    for power in (0, 8, 16, 24, 30):
        scaled = (grads * 2.0**power).half()
        lost, infinite = (scaled == 0).float().mean().item(), scaled.isinf().float().mean().item()
        back = scaled.float() / 2.0**power
        good = scaled.isfinite() & (scaled != 0)
        error = ((back - grads).abs() / grads.abs())[good].mean().item() if good.any() else math.nan
        rows.append((f"2^{power}", lost, infinite, error))
    scaler, factors, applied = LossScaler(scale=2.0**32, interval=20), [], []
    largest = grads.abs().max().item()
    for _ in range(60):
        fits = largest * scaler.factor <= torch.finfo(torch.float16).max
        factors.append(math.log2(scaler.factor))
        applied.append(fits)
        scaler.update(fits)
    return Exhibit(
        title=f"{len(grads):,} gradients of a decoder, shrunk 4096-fold; the largest {largest:.1e}, half of them under {grads.abs().median().item():.1e}",
        columns=("scale", "become zero", "become infinite", "mean relative error of the rest"),
        rows=rows,
        series=[Series(name="log2 of the scale", x=list(range(60)), y=factors)],
        x="step", y="log2 of the scale",
        reads="Multiplying the loss lifts all gradients into fp16's range and changes nothing once they are divided again; too much of it ends in infinity. The scaler halves after an overflow, whose "
        f"step is skipped ({applied.count(False)} of 60 here), and doubles after 20 good steps.",
    )  # fmt: skip


def mixed_precision_run() -> Exhibit:
    """One decoder trained in fp32, in mixed precision (bf16 products, fp32 weights), and in bf16 throughout."""
    steps, curves, rows = 40, {}, []
    for name in ("fp32", "mixed", "bf16 weights"):
        model = Decoder(_tiny.shape(n_layers=1, feed_forward=Mlp(d_ff=96)))
        if name == "bf16 weights":
            model = model.bfloat16()
        precision = Precision(torch.bfloat16 if name == "mixed" else torch.float32, "cpu")
        optimizer = AdamW(list(model.parameters()), lr=5e-4, weight_decay=0.0)
        losses, seen, still, updates = [], "", 0, 0
        for step in range(steps):
            optimizer.zero_grad()
            with precision.autocast():
                seen = str(_product(model).dtype).removeprefix("torch.")
                loss = _tiny.loss(model, *_tiny.draw(step, 4)).mean()
            loss.backward()
            before = [p.detach().clone() for p in model.parameters()]
            optimizer.step()
            losses.append(loss.item())
            still += sum(int((a == p).sum()) for a, p in zip(before, model.parameters(), strict=True))
            updates += sum(p.numel() for p in model.parameters())
        curves[name] = losses
        weights = str(next(model.parameters()).dtype).removeprefix("torch.")
        rows.append((name, weights, seen, sum(losses[-5:]) / 5, still / updates))
    return Exhibit(
        title=f"{steps} steps of AdamW at 0.0005, the same batches",
        columns=("run", "weights", "products", "mean loss of the last 5", "updates that changed nothing"),
        rows=rows,
        series=[Series(name=name, x=list(range(steps)), y=values) for name, values in curves.items()],
        x="step", y="nats a byte",
        reads="With fp32 weights, products in bf16 leave the curve where it was. With weights in bf16 a part of the updates is less than half the spacing and rounds away, "
        "on large weights first, and more of them as the rate falls: that is what the fp32 copy is for.",
    )  # fmt: skip


def _product(model: nn.Module) -> Tensor:
    """What a matrix product gives under the present autocast setting."""
    weight = next(p for p in model.parameters() if p.dim() == 2)
    return weight[:2] @ weight[:2].T
