"""Token losses that return sums, and a cross-entropy whose logits are never whole.

    nll_i  = logsumexp(z_i) - z_i[y_i],   z_i = W h_i
    loss_i = (1 - e) nll_i + e (logsumexp(z_i) - mean_v z_iv) + c logsumexp(z_i)^2
    sum    = sum_i w_i loss_i

with label smoothing e (Szegedy et al. 2016) and z-loss coefficient c (Chowdhery et al. 2022, section 5). A
loss is a `(sum, weight)`; the one place that divides is the training step, by the weight of the whole batch.

A head whose weight is quantised and frozen goes the same way, its gradient to the hidden states alone.

The gradient of a softmax head is known as soon as its logits are, so the forward pass computes both chunk by
chunk and keeps only d loss / d h and d loss / d W (as in Hsu et al. 2024, "Liger Kernel", arXiv:2410.10989).
Nothing is computed twice, and the memory is one chunk of logits instead of three times all of them.

Legend: T tokens, N tokens that carry weight, V vocabulary, d model width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from orrery.kit.errors import OrreryError

CHUNK_BYTES = 16 << 20
"""Default size of a chunk of logits: with more nothing is gained, with much less the matmuls suffer."""

FROZEN_CHUNK = 128
"""Least tokens per chunk for a quantised head: each chunk dequantises all of it once, which must be worth it."""

FUNCTION_CHUNK = 1024
"""Default tokens per chunk for a head that is a function: its vocabulary is not known before the call."""


@dataclass(frozen=True)
class Loss:
    """A weighted sum of losses, the weight to divide it by, and further sums worth logging."""

    sum: Tensor
    weight: Tensor
    stats: dict[str, Tensor] = field(default_factory=dict)

    def mean(self) -> Tensor:
        """sum / weight.

        Raises:
            OrreryError: the weight is zero, so there was nothing to learn from.
        """
        if not self.weight > 0:
            raise OrreryError(
                "no token of this batch carries a loss; check the masks, the targets and the truncation"
            )
        return self.sum / self.weight

    def plus(self, name: str, extra: Tensor) -> Loss:
        """This loss with an auxiliary sum added (of a router, of a further prediction depth) and logged."""
        logged = self.stats.get(name, 0) + extra.detach()  # layers report one by one
        return Loss(self.sum + extra, self.weight, {**self.stats, name: logged})


class Frozen(Protocol):
    """A weight (V, d) that is quantised and gets no gradient: how it multiplies, forward and back."""

    dtype: torch.dtype

    def __len__(self) -> int: ...
    def product(self, x: Tensor) -> Tensor:
        """(n, d) -> (n, V)."""
        ...

    def back(self, grad: Tensor) -> Tensor:
        """(n, V) -> (n, d)."""
        ...


@dataclass(frozen=True)
class LinearHead:
    """What turns hidden states into logits, open to view: z = softcap * tanh(scale * (W h + b) / softcap)."""

    weight: Tensor | Frozen  # (V, d)
    bias: Tensor | None = None  # (V,)
    scale: float = 1.0
    softcap: float | None = None


Head = Tensor | LinearHead | Callable[[Tensor], Tensor]


def cross_entropy(
    hidden: Tensor,
    head: Head,
    targets: Tensor,
    weights: Tensor,
    *,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    chunk: int | None = None,
) -> Loss:
    """Cross-entropy in nats; the head runs only where `weights` is not 0, a chunk of tokens at a time.

    Args:
        hidden: (T, d) final hidden states.
        head: the weight (V, d), an `nn.Linear`, a `LinearHead`, or any function (n, d) -> (n, V). A
            function's logits are computed again in the backward pass if they fill several chunks; the others'
            never.
        targets: (T,) int64 ids; ignored where the weight is 0.
        weights: (T,) float, 0 = no loss.
        chunk: tokens per chunk; by default 16 MiB of fp32 logits, or 1024 tokens if the head is a function.

    Returns:
        `sum` is differentiable; `stats` holds "nll" (unsmoothed, without z-loss) and, if asked for, "z_loss".
    """
    kept = weights.nonzero().squeeze(1)  # (N,)
    if len(kept) < len(weights):
        hidden, targets, weights = hidden.index_select(0, kept), targets[kept], weights[kept]
    if isinstance(head, Tensor):
        head = LinearHead(head)
    elif type(head) is nn.Linear:  # exactly: an adapter around it is a function like any other
        head = LinearHead(head.weight, head.bias)
    if isinstance(head, LinearHead):
        least = 1 if isinstance(head.weight, Tensor) else FROZEN_CHUNK
        rows = chunk or max(least, CHUNK_BYTES // (4 * len(head.weight)))
        inputs = hidden, head.weight, head.bias
        if not torch.is_grad_enabled():  # evaluation: autograd functions look at the tensors, not at the mode
            inputs = tuple(x.detach() if isinstance(x, Tensor) else x for x in inputs)  # type: ignore[assignment]
        total, nll, z = _FusedHead.apply(
            *inputs, targets, weights, head.scale, head.softcap, label_smoothing, z_loss, rows
        )
    else:
        total, nll, z = _plain_head(hidden, head, targets, weights, label_smoothing, z_loss, chunk)
    stats = {"nll": nll.detach()} | ({"z_loss": z.detach()} if z_loss else {})
    return Loss(total, weights.sum(dtype=total.dtype), stats)


class _FusedHead(torch.autograd.Function):
    """Loss and gradients of a linear head in one pass over chunks of tokens."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor | Frozen, bias: Tensor | None, targets: Tensor, weights: Tensor,
        scale: float, softcap: float | None, smoothing: float, z_loss: float, chunk: int,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        device = hidden.device.type
        dtype = weight.dtype
        if isinstance(weight, Tensor) and torch.is_autocast_enabled(device):
            dtype = torch.get_autocast_dtype(device)
        wide = torch.promote_types(dtype, torch.float32)  # of the softmax and of all sums
        lift = 1024.0 if dtype == torch.float16 else 1.0  # keeps small probabilities above fp16's underflow
        wants = ctx.needs_input_grad[:3]
        d_hidden, d_weight, d_bias = (
            torch.zeros_like(x, dtype=wide) if want and isinstance(x, Tensor) else None
            for x, want in zip((hidden, weight, bias), wants, strict=True)
        )
        total, nll_sum, z_sum = (torch.zeros((), dtype=wide, device=hidden.device) for _ in range(3))
        held = min(chunk, len(hidden)) if isinstance(weight, Tensor) else 0
        buffer = torch.empty(held, len(weight), dtype=dtype, device=hidden.device)
        with torch.autocast(device, enabled=False):
            h, w = hidden.to(dtype), weight.to(dtype) if isinstance(weight, Tensor) else weight
            for part in (slice(i, i + chunk) for i in range(0, len(h), chunk)):
                rows, target, row_weight = h[part], targets[part, None], weights[part].to(wide)
                z = _logits(rows, w, bias, scale, softcap, out=buffer[: len(rows)]).to(wide)  # (n, V)
                slope = (
                    1 - (z / softcap).square() if softcap is not None and any(wants) else None
                )  # of the cap
                mean = z.mean(1) if smoothing else 0.0
                p, nll, lse = _softmax_(z, target)
                loss = (1 - smoothing) * nll + smoothing * (lse - mean) + z_loss * lse.square()
                total += row_weight @ loss
                nll_sum += row_weight @ nll
                z_sum += z_loss * (row_weight @ lse.square())
                if not any(wants):
                    continue
                dz = _logit_gradient_(p, target, lse, smoothing, z_loss)
                dz = dz if slope is None else dz.mul_(slope)
                dz = dz if dtype == wide else dz.mul_(lift).to(dtype)
                # A row's weight and the scale go to the (n, d) sides of the products, smaller than (n, V).
                factor = (row_weight * (scale / lift))[:, None]
                if d_hidden is not None:
                    torch.mul(dz @ w if isinstance(w, Tensor) else w.back(dz), factor, out=d_hidden[part])
                if d_weight is not None:
                    _accumulate(d_weight, dz, rows * factor)
                if d_bias is not None:
                    d_bias += factor.squeeze(1) @ dz.to(wide)
        ctx.save_for_backward(d_hidden, d_weight, d_bias)
        ctx.dtypes = [x.dtype if isinstance(x, Tensor) else None for x in (hidden, weight, bias)]
        ctx.mark_non_differentiable(nll_sum, z_sum)
        return total, nll_sum, z_sum

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        known = zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        return *(None if g is None else (g * grad).to(dtype) for g, dtype in known), *[None] * 7


def _logits(
    rows: Tensor,
    weight: Tensor | Frozen,
    bias: Tensor | None,
    scale: float,
    softcap: float | None,
    *,
    out: Tensor,
) -> Tensor:
    """What `LinearHead` says, in the memory of `out` (that of a quantised weight: in memory of its own)."""
    z = torch.mm(rows, weight.t(), out=out) if isinstance(weight, Tensor) else weight.product(rows)
    if bias is not None:
        z += bias
    if scale != 1.0:
        z *= scale
    return z if softcap is None else z.div_(softcap).tanh_().mul_(softcap)


def _softmax_(z: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Softmax of logits (n, V) in their own memory, with nll (n,) and logsumexp (n,).

    The largest probability is exp(max - lse), at least 1 / V, so its logarithm gives lse back to rounding,
    and one pass with an exponential serves where a log-softmax would need a second one to become
    probabilities.
    """
    largest, chosen = z.amax(1), z.gather(1, target).squeeze(1)
    p = torch.softmax(z, 1, out=z)
    log_sum = -p.amax(1).log()  # logsumexp(z - max)
    return p, (largest - chosen) + log_sum, largest + log_sum


def _logit_gradient_(p: Tensor, target: Tensor, lse: Tensor, smoothing: float, z_loss: float) -> Tensor:
    """d loss / d z = (1 + 2 c lse) p - (1 - e) onehot - e / V, in the memory of `p`."""
    if z_loss:
        p *= 1 + 2 * z_loss * lse[:, None]
    p.scatter_add_(1, target, p.new_full((len(p), 1), smoothing - 1))
    return p.sub_(smoothing / p.shape[1]) if smoothing else p


def _accumulate(total: Tensor, left: Tensor, right: Tensor) -> None:
    """total += left^T right, summed in the dtype of `total`."""
    if left.dtype == total.dtype:
        total.addmm_(left.t(), right)
    else:
        total += left.t() @ right.to(left.dtype)


def _plain_head(
    hidden: Tensor, head: Callable[[Tensor], Tensor], targets: Tensor, weights: Tensor,
    smoothing: float, z_loss: float, chunk: int | None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """The same by autograd for any function; several chunks are recomputed in backward."""

    def part_loss(h: Tensor, y: Tensor, w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits = head(h)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        w = w.to(logits.dtype)
        lse = logits.logsumexp(1)
        nll = lse - logits.gather(1, y[:, None]).squeeze(1)
        z = z_loss * lse.square()
        smoothed = (1 - smoothing) * nll + smoothing * (lse - logits.mean(1))
        return w @ (smoothed + z), w @ nll, w @ z

    step = chunk or FUNCTION_CHUNK
    zero = hidden.new_zeros((), dtype=torch.promote_types(hidden.dtype, torch.float32))
    total, nll, z = zero, zero, zero
    for part in (slice(i, i + step) for i in range(0, len(hidden), step)):
        args = (hidden[part], targets[part], weights[part])
        whole = step >= len(hidden)
        sums = part_loss(*args) if whole else checkpoint(part_loss, *args, use_reentrant=False)
        total, nll, z = total + sums[0], nll + sums[1], z + sums[2]
    return total, nll, z
