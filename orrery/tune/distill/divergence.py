"""How far a student's distribution is from its teacher's, and the gradient in the student's logits.

    forward KL        sum_v p (log p - log q)                                   d / d z = q - p
    reverse KL        sum_v q (log q - log p)                                   d / d z = q (r - sum q r),   r = log q - log p
    Jensen-Shannon    beta KL(p || m) + (1 - beta) KL(q || m)                   d / d z = q (r - sum q r),   r = (1 - beta)(log q - log m)
                      m = beta p + (1 - beta) q

with p = softmax(teacher / temperature), q = softmax(z / temperature); the gradients are those at temperature 1. (Hinton et al. 2015,
arXiv:1503.02531; Gu et al. 2024, arXiv:2306.08543; Agarwal et al. 2024, arXiv:2306.13649, section 2.)

N tokens, V vocabulary; log-probabilities are (N, V), results (N,) in nats.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from orrery.tune.distill.config import ForwardKl, JensenShannon, Mode, ReverseKl


def log_probabilities(logits: Tensor, *, temperature: float = 1.0, top_k: int | None = None) -> Tensor:
    """log softmax(logits / temperature) over the last axis; with `top_k` of the so many largest alone, renormalised, -inf for the rest."""
    scaled = logits / temperature
    if top_k is not None and top_k < logits.shape[-1]:
        values, places = scaled.topk(top_k, dim=-1)
        scaled = torch.full_like(scaled, -math.inf).scatter_(-1, places, values)
    return scaled.log_softmax(-1)


def forward_kl(teacher: Tensor, student: Tensor) -> Tensor:
    """KL(teacher || student) of log-probabilities. What the teacher thinks impossible counts 0."""
    p = teacher.exp()
    return torch.where(p > 0, p * (teacher - student), 0.0).sum(-1)


def reverse_kl(teacher: Tensor, student: Tensor) -> Tensor:
    """KL(student || teacher) of log-probabilities."""
    return forward_kl(student, teacher)


def jensen_shannon(teacher: Tensor, student: Tensor, *, beta: float = 0.5) -> Tensor:
    """The generalised Jensen-Shannon divergence of log-probabilities; never above log 2 at beta = 1/2."""
    mixed = mixture(teacher, student, beta)
    return beta * forward_kl(teacher, mixed) + (1 - beta) * forward_kl(student, mixed)


def mixture(teacher: Tensor, student: Tensor, beta: float) -> Tensor:
    """log(beta teacher + (1 - beta) student), all in logarithms."""
    return torch.logaddexp(teacher + math.log(beta), student + math.log1p(-beta))


def divergence(mode: Mode, teacher: Tensor, student: Tensor) -> Tensor:
    """The divergence that `mode` names, of log-probabilities at its temperature."""
    match mode:
        case ForwardKl():
            return forward_kl(teacher, student)
        case ReverseKl():
            return reverse_kl(teacher, student)
        case JensenShannon():
            return jensen_shannon(teacher, student, beta=mode.beta)


def with_gradient(mode: Mode, teacher: Tensor, student: Tensor) -> tuple[Tensor, Tensor]:
    """The divergence (N,), and its gradient (N, V) in the logits whose log-softmax `student` is."""
    q = student.exp()
    if isinstance(mode, ForwardKl):
        return forward_kl(teacher, student), q.sub_(teacher.exp())
    if isinstance(mode, ReverseKl):
        rise = student - teacher
        value = inner = (q * rise).sum(-1)
    else:
        mixed = mixture(teacher, student, mode.beta)
        rise = (student - mixed).mul_(1 - mode.beta)
        inner = (q * rise).sum(-1)
        value = inner + mode.beta * forward_kl(teacher, mixed)
    return value, q.mul_(rise.sub_(inner[:, None]))
