"""The chunked loss: equal to whole logits in value and every gradient, and no larger than its chunks at a large vocabulary."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from orrery.train.loss import LinearHead, cross_entropy
from orrery.tune.distill.config import ForwardKl, JensenShannon, Mode, ReverseKl
from orrery.tune.distill.divergence import divergence, log_probabilities
from orrery.tune.distill.loss import distillation_loss

TOKENS, WIDTH, TEACHER, WORDS = 13, 8, 6, 17


def inputs(words: int = WORDS, tokens: int = TOKENS) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(0)
    return {
        "hidden": torch.randn(tokens, WIDTH, generator=g),
        "weight": torch.randn(words, WIDTH, generator=g),
        "taught": torch.randn(tokens, TEACHER, generator=g),
        "teacher": torch.randn(words, TEACHER, generator=g),
        "targets": torch.randint(words, (tokens,), generator=g),
        "weights": torch.rand(tokens, generator=g) + 0.1,
    }


def reference(given: dict[str, Tensor], z: Tensor, mode: Mode, hard: float) -> Tensor:
    """By whole logits and autograd."""
    top_k = None if isinstance(mode, ReverseKl) else mode.top_k
    p = log_probabilities(given["taught"] @ given["teacher"].t(), temperature=mode.temperature, top_k=top_k)
    apart = divergence(mode, p[:, : z.shape[1]], log_probabilities(z, temperature=mode.temperature))
    nll = nn.functional.cross_entropy(z, given["targets"], reduction="none")
    return given["weights"] @ ((1 - hard) * mode.temperature**2 * apart + hard * nll)


def loss_of(given: dict[str, Tensor], head: Any, mode: Mode, **settings: Any) -> Any:
    return distillation_loss(
        given["hidden"], head, given["taught"], lambda x: x @ given["teacher"].t(), given["targets"], given["weights"],
        mode=mode, **{"vocab_size": WORDS} | settings,
    )  # fmt: skip


MODES: list[Mode] = [
    ForwardKl(),
    ForwardKl(temperature=2.0, top_k=4),
    ReverseKl(temperature=0.5),
    JensenShannon(beta=0.3, temperature=1.5),
]


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("hard", [0.0, 0.3])
@pytest.mark.parametrize("chunk", [1, 4, None])
def test_equals_whole_logits(mode: Mode, hard: float, chunk: int | None) -> None:
    given = inputs()
    bias = torch.linspace(-1, 1, WORDS).requires_grad_()
    leaves = [given["hidden"].requires_grad_(), given["weight"].requires_grad_(), bias]
    z = 4 * torch.tanh((given["hidden"] @ given["weight"].t() + bias) * 0.5 / 4)
    expected = reference(given, z, mode, hard)
    head = LinearHead(given["weight"], bias, scale=0.5, softcap=4.0)
    for form in (head, lambda h: 4 * torch.tanh((h @ given["weight"].t() + bias) * 0.5 / 4)):
        loss = loss_of(given, form, mode, hard=hard, chunk=chunk)
        torch.testing.assert_close(loss.sum, expected, rtol=2e-5, atol=1e-5)
        assert loss.stats["nll"].item() == loss.sum.item()
        assert loss.weight.item() == pytest.approx(given["weights"].sum().item())
        wanted = torch.autograd.grad(expected, leaves, retain_graph=True)
        for got, want in zip(torch.autograd.grad(loss.sum, leaves), wanted, strict=True):
            torch.testing.assert_close(got, want, rtol=2e-5, atol=1e-5)


def test_hard_targets_alone_are_the_cross_entropy() -> None:
    given = inputs()
    loss = loss_of(given, given["weight"], ForwardKl(), hard=1.0)
    plain = cross_entropy(given["hidden"], given["weight"], given["targets"], given["weights"])
    torch.testing.assert_close(loss.sum, plain.sum)
    torch.testing.assert_close(loss.stats["cross_entropy"], plain.sum)


def test_rows_that_are_no_tokens_are_left_out() -> None:
    """A head padded to a round number: the rows behind the vocabulary get no gradient and change nothing."""
    given = inputs()
    padded = torch.cat([given["weight"], torch.full((7, WIDTH), 9.0)]).requires_grad_()
    given["teacher"] = torch.cat([given["teacher"], torch.full((3, TEACHER), 9.0)])
    loss = loss_of(given, padded, ForwardKl())
    given["teacher"] = given["teacher"][:WORDS]
    torch.testing.assert_close(loss.sum, loss_of(given, given["weight"], ForwardKl()).sum)
    (gradient,) = torch.autograd.grad(loss.sum, padded)
    assert gradient[WORDS:].abs().max() == 0 and gradient[:WORDS].abs().max() > 0


def test_temperature_keeps_the_size_of_gradients() -> None:
    """In the limit of a high temperature T^2 KL is half the variance of the difference of centred logits (Hinton et al. 2015, eq. 4)."""
    given = {name: value.double() for name, value in inputs().items() if name != "targets"}
    z, v = given["hidden"] @ given["weight"].t(), given["taught"] @ given["teacher"].t()
    apart = (z - z.mean(-1, keepdim=True)) - (v - v.mean(-1, keepdim=True))
    p, q = (log_probabilities(x, temperature=1e3) for x in (v, z))
    torch.testing.assert_close(
        1e6 * divergence(ForwardKl(), p, q), apart.square().mean(-1) / 2, rtol=1e-2, atol=0
    )


class Largest(TorchDispatchMode):
    """The most elements any tensor had that came out of an operation."""

    def __init__(self, apart: int) -> None:
        super().__init__()
        self.most, self.apart = 0, apart

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else (made,):
            if isinstance(tensor, Tensor) and tensor.numel() != self.apart:
                self.most = max(self.most, tensor.numel())
        return made


def test_memory_stays_flat_at_a_large_vocabulary() -> None:
    """At 262,144 words and 48 tokens whole logits have 12.6 million entries; none here has more than a chunk's 4.2 million."""
    words = 262_144
    given = inputs(words, 48)
    leaves = [given["hidden"].requires_grad_(), given["weight"].requires_grad_()]
    with Largest(words * WIDTH) as seen:  # the head's own size is that of its weight and gradient
        loss = loss_of(given, given["weight"], JensenShannon(), vocab_size=words)
        torch.autograd.grad(loss.sum, leaves)
    assert words < seen.most <= (16 << 20) / 4 < 48 * words


def test_products_in_bf16_are_near() -> None:
    given = inputs()
    leaves = [given["hidden"].requires_grad_(), given["weight"].requires_grad_()]
    exact = loss_of(given, given["weight"], JensenShannon())
    with torch.autocast("cpu", torch.bfloat16):
        rough = loss_of(given, given["weight"], JensenShannon())
    assert rough.sum.dtype == torch.float32
    torch.testing.assert_close(rough.sum, exact.sum, rtol=2e-2, atol=0)
    pairs = zip(torch.autograd.grad(rough.sum, leaves), torch.autograd.grad(exact.sum, leaves), strict=True)
    for got, want in pairs:
        assert (got - want).norm() < 2e-2 * want.norm()
