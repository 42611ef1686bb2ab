"""The divergence between two models over a vocabulary, from logits that are never whole.

    loss_i = (1 - hard) temperature^2 D(teacher_i, student_i) + hard nll_i,     sum = sum_i w_i loss_i

The square makes up for the 1 / temperature^2 by which a soft target's gradient shrinks, so that `hard` means the same at every temperature
(Hinton et al. 2015, section 2).

A softmax head's gradient is known as soon as its logits are (see `train.loss`). So one pass over chunks of tokens computes the teacher's
logits and the student's, the divergence, and the gradients in the student's states and head; nothing is computed twice, and no more logits
exist than a few chunks of 16 MiB, whatever the vocabulary: at 262,144 words that is 16 tokens at a time.

N tokens, V vocabulary, d and e the widths of student and teacher.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from orrery.train.loss import CHUNK_BYTES, Head, LinearHead, Loss
from orrery.tune.distill.config import Mode, ReverseKl
from orrery.tune.distill.divergence import divergence, log_probabilities, with_gradient


def distillation_loss(
    hidden: Tensor, head: Head, taught: Tensor, teacher_head: Callable[[Tensor], Tensor], targets: Tensor, weights: Tensor, *,
    mode: Mode, vocab_size: int, hard: float = 0.0, chunk: int | None = None,
) -> Loss:  # fmt: skip
    """The loss of a student's states against its teacher's at the same tokens.

    Args:
        hidden: (N, d) the student's final states, taught: (N, e) the teacher's, without gradient.
        head: the student's: the weight (V, d), a `LinearHead`, or any function (n, d) -> (n, V), whose logits are computed again in the
            backward pass. teacher_head: (n, e) -> (n, V).
        targets: (N,) int64 ids; looked at where `hard` is not 0. weights: (N,).
        vocab_size: the tokens both know; rows of a head beyond are room without a meaning and left out.
        hard: the share of the cross-entropy with `targets`. chunk: tokens at a time.

    Returns:
        `sum` is differentiable; `stats` holds "nll", the loss itself, which a validation by the same loss is compared with, and with
        `hard` the "divergence" (at the temperature, without its square) and the "cross_entropy" it is made of.
    """
    rows = chunk or max(1, CHUNK_BYTES // (4 * vocab_size))
    head = LinearHead(head) if isinstance(head, Tensor) else head
    teach = _Teach(taught, teacher_head, targets, weights, mode, vocab_size, hard)
    if isinstance(head, LinearHead):
        assert isinstance(head.weight, Tensor), "a quantised head comes as a function"
        weight = head.weight if len(head.weight) == vocab_size else head.weight[:vocab_size]
        bias = head.bias if head.bias is None else head.bias[:vocab_size]
        inputs = hidden, weight, bias
        if not torch.is_grad_enabled():  # autograd functions look at the tensors, not at the mode
            inputs = tuple(None if x is None else x.detach() for x in inputs)  # type: ignore[assignment]
        sums = _Fused.apply(*inputs, replace(head, weight=weight, bias=bias), teach, rows)
    else:
        sums = _by_autograd(hidden, head, teach, rows)
    total, apart, nll = sums
    parts = {"divergence": apart.detach(), "cross_entropy": nll.detach()} if hard else {}
    return Loss(total, weights.sum(dtype=total.dtype), {"nll": total.detach(), **parts})


class _Teach:
    """What a chunk of tokens is taught."""

    def __init__(
        self, taught: Tensor, head: Callable[[Tensor], Tensor], targets: Tensor, weights: Tensor, mode: Mode, known: int, hard: float
    ) -> None:  # fmt: skip
        self.taught, self.head, self.targets, self.weights = taught, head, targets, weights
        self.mode, self.known, self.hard = mode, known, hard
        self.top_k = None if isinstance(mode, ReverseKl) else mode.top_k

    @torch.no_grad()
    def logprobs(self, part: slice) -> Tensor:
        """(n, V) of the teacher."""
        rows = self.taught[part]
        with torch.autocast(rows.device.type, enabled=False):
            logits = self.head(rows)[:, : self.known].float()
        return log_probabilities(logits, temperature=self.mode.temperature, top_k=self.top_k)

    def student(self, z: Tensor, part: slice) -> tuple[Tensor, Tensor, Tensor]:
        """(n, V) at the temperature, and at temperature 1 where there are hard targets; (n,) the nll of those."""
        soft = log_probabilities(z, temperature=self.mode.temperature)
        if not self.hard:
            return soft, soft, soft.new_zeros(len(z))
        plain = soft if self.mode.temperature == 1.0 else z.log_softmax(-1)
        return soft, plain, -plain.gather(1, self.targets[part, None]).squeeze(1)

    def total(self, apart: Tensor, nll: Tensor) -> Tensor:
        """The loss of both parts."""
        return (1 - self.hard) * self.mode.temperature**2 * apart + self.hard * nll

    def gradient(self, apart: Tensor, plain: Tensor, part: slice) -> Tensor:
        """(n, V) in the logits, in the memory of `apart`, the gradient of the divergence at temperature 1."""
        dz = apart.mul_((1 - self.hard) * self.mode.temperature)
        if self.hard:
            dz.add_(plain.exp(), alpha=self.hard)
            dz.scatter_add_(1, self.targets[part, None], dz.new_full((len(dz), 1), -self.hard))
        return dz


class _Fused(torch.autograd.Function):
    """Loss and gradients of a linear head in one pass over chunks of tokens."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        head: LinearHead,
        teach: _Teach,
        rows: int,
    ) -> tuple[Tensor, Tensor, Tensor]:
        device, dtype = hidden.device, weight.dtype
        if torch.is_autocast_enabled(device.type):
            dtype = torch.get_autocast_dtype(device.type)
        wide = torch.promote_types(dtype, torch.float32)  # of softmaxes and sums
        lift = 1024.0 if dtype == torch.float16 else 1.0  # keeps small probabilities above fp16's underflow
        wants = ctx.needs_input_grad[:3]
        d_hidden, d_weight, d_bias = (
            torch.zeros_like(x, dtype=wide) if want and x is not None else None
            for x, want in zip((hidden, weight, bias), wants, strict=True)
        )
        sums = torch.zeros(3, dtype=wide, device=device)
        with torch.autocast(device.type, enabled=False):
            h, w = hidden.to(dtype), weight.to(dtype)
            for part in (slice(i, i + rows) for i in range(0, len(h), rows)):
                z = _logits(h[part] @ w.t(), bias, head).to(wide)
                soft, plain, nll = teach.student(z, part)
                of_teacher = teach.logprobs(part).to(wide)
                weighs = teach.weights[part].to(wide)
                if not any(wants):
                    apart = divergence(teach.mode, of_teacher, soft)
                    sums += torch.stack([weighs @ x for x in (teach.total(apart, nll), apart, nll)])
                    continue
                apart, dz = with_gradient(teach.mode, of_teacher, soft)
                sums += torch.stack([weighs @ x for x in (teach.total(apart, nll), apart, nll)])
                dz = teach.gradient(dz, plain, part)
                if head.softcap is not None:
                    dz.mul_(1 - (z / head.softcap).square())
                dz = dz if dtype == wide else dz.mul_(lift).to(dtype)
                # A row's weight and the scale go to the (n, d) sides of the products, smaller than (n, V).
                factor = (weighs * (head.scale / lift))[:, None]
                if d_hidden is not None:
                    torch.mul(dz @ w, factor, out=d_hidden[part])
                if d_weight is not None:
                    d_weight.addmm_(dz.t().to(wide), h[part].to(wide) * factor)
                if d_bias is not None:
                    d_bias += factor.squeeze(1) @ dz.to(wide)
        ctx.save_for_backward(d_hidden, d_weight, d_bias)
        ctx.dtypes = [None if x is None else x.dtype for x in (hidden, weight, bias)]
        total, apart, nll = sums.unbind()
        ctx.mark_non_differentiable(apart, nll)
        return total, apart, nll

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        known = zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        return *(None if g is None else (g * grad).to(dtype) for g, dtype in known), *[None] * 3


def _logits(z: Tensor, bias: Tensor | None, head: LinearHead) -> Tensor:
    """What `LinearHead` says of the products (n, V), in their memory."""
    if bias is not None:
        z += bias
    if head.scale != 1.0:
        z *= head.scale
    return z if head.softcap is None else z.div_(head.softcap).tanh_().mul_(head.softcap)


def _by_autograd(
    hidden: Tensor, head: Callable[[Tensor], Tensor], teach: _Teach, rows: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The same for any function; several chunks are computed again in backward."""

    def of(h: Tensor, part: slice) -> tuple[Tensor, Tensor, Tensor]:
        z = head(h)[:, : teach.known].float()
        soft, _, nll = teach.student(z, part)
        apart, weighs = divergence(teach.mode, teach.logprobs(part), soft), teach.weights[part].to(z.dtype)
        return weighs @ teach.total(apart, nll), weighs @ apart, weighs @ nll

    zero = hidden.new_zeros((), dtype=torch.float32)
    sums = zero, zero, zero
    for part in (slice(i, i + rows) for i in range(0, len(hidden), rows)):
        whole = rows >= len(hidden)
        found = of(hidden[part], part) if whole else checkpoint(of, hidden[part], part, use_reentrant=False)
        sums = tuple(a + b for a, b in zip(sums, found, strict=True))
    return sums  # type: ignore[return-value]
