"""Exhibits of probabilities: softmax, entropy, divergence, likelihood, and the model as a distribution over texts."""

from __future__ import annotations

import math

import torch
from torch import nn

from orrery.glossary.exhibit import Exhibit, Series
from orrery.glossary.exhibits import _tiny
from orrery.kit.seeds import torch_generator
from orrery.model.decoder import Decoder
from orrery.model.mlp import Mlp
from orrery.model.packed import Packed
from orrery.train.basic_losses import entropy, kl_divergence, kl_estimate, nll
from orrery.train.init import initialize
from orrery.train.loss import cross_entropy
from orrery.train.optim.sgd import SGD


def softmax_is_safe() -> Exhibit:
    """Softmax and log-sum-exp at logits up to 10,000: by the definition, and with the maximum subtracted."""
    rows = []
    for scale in (1.0, 100.0, 10_000.0, -10_000.0):
        z = torch.tensor([0.0, 1.0, 2.0]) + scale
        naive = z.exp() / z.exp().sum()
        nats = cross_entropy(z[None], lambda h: h, torch.tensor([2]), torch.ones(1)).sum.item()
        rows.append(
            (
                f"{scale:g} + (0, 1, 2)",
                naive[2].item(),
                z.softmax(0)[2].item(),
                z.exp().sum().log().item(),
                z.logsumexp(0).item(),
                nats,
            )
        )
    p = torch.tensor([0.0, 1.0, 2.0]).softmax(0)
    jacobian = torch.autograd.functional.jacobian(lambda z: z.softmax(0), torch.tensor([0.0, 1.0, 2.0]))
    error = (jacobian - (p.diag() - torch.outer(p, p))).abs().max().item()  # type: ignore[operator]
    return Exhibit(
        title="p of the third of three logits, log-sum-exp, and the loss if it is the target",
        columns=("logits", "p by definition", "p", "lse by definition", "lse", "cross-entropy"),
        rows=rows,
        reads="Adding a constant to all logits changes nothing, so the largest may be made 0 before exponentiating. (Floats near 10,000 are "
        f"0.001 apart, hence the last digits of the loss.) The Jacobian is diag(p) - p p^T (largest difference {error:.1e}).",
    )


def uniform_model_perplexity() -> Exhibit:
    """A decoder whose head is all zeros: loss ln V, perplexity V, log2 V bits a token; and one fresh from its initialisation."""
    rows = []
    for vocabulary in (16, 256, 4096):
        for kind in ("zero head", "fresh"):
            model = Decoder(_tiny.shape(vocab_size=vocabulary, tied=False))
            if kind == "zero head":
                nn.init.zeros_(model.lm_head.weight)  # type: ignore[union-attr]
            ids = torch.randint(vocabulary, (257,), generator=torch_generator(0, "uniform"))
            with torch.no_grad():
                hidden = model(ids[:-1], Packed([256]))
                nats = cross_entropy(hidden, model.head, ids[1:], torch.ones(256)).mean().item()
            rows.append((vocabulary, kind, nats, math.log(vocabulary), math.exp(nats), nats / math.log(2)))
    return Exhibit(
        title="Mean loss on 256 random tokens",
        columns=("V", "model", "nats a token", "ln V", "perplexity", "bits a token"),
        rows=rows,
        reads="A model that knows nothing spreads its probability evenly: perplexity V. A fresh model is close to that; a first loss far "
        "above ln V means that something is wrong before training began.",
    )


def entropies_by_hand() -> Exhibit:
    """Entropy of a few distributions in nats and bits, and the divergence between two coins both ways."""
    cases = {
        "fair coin": [0.5, 0.5], "9 to 1 coin": [0.9, 0.1], "certain": [1.0, 0.0], "one of 8": [0.125] * 8,
        "0.5 0.25 0.125 0.125": [0.5, 0.25, 0.125, 0.125],
    }  # fmt: skip
    rows = []
    for name, p in cases.items():
        nats = entropy(torch.tensor(p).log()).item() + 0.0
        rows.append((name, nats, nats / math.log(2), math.log2(len(p))))
    return Exhibit(
        title="Entropy",
        columns=("distribution", "nats", "bits", "largest possible, bits"),
        rows=rows,
        reads="The mean number of yes-no questions that a good scheme needs: one for a coin, three for eight equal cases, 1.75 where "
        "half the answers come at the first question.",
    )


def kl_estimators() -> Exhibit:
    """KL between two distributions of six tokens: exact both ways, and three estimates from samples."""
    p = torch.tensor([0.40, 0.25, 0.15, 0.10, 0.06, 0.04]).log()
    rows = []
    for name, q in (("equal", p), ("a little off", p / 1.2), ("far off", p.roll(2))):
        exact, reverse = kl_divergence(p, q).item(), kl_divergence(q, p).item()
        ids = torch.multinomial(p.exp(), 4000, replacement=True, generator=torch_generator(0, "kl"))
        logp, logq = p.log_softmax(-1)[ids], q.log_softmax(-1)[ids]
        parts = [kl_estimate(logp, logq, kind) for kind in ("k1", "k2", "k3")]  # type: ignore[arg-type]
        rows.append((name, exact, reverse, *(f"{k.mean().item():.4f} ± {k.std().item():.3f}" for k in parts)))
    return Exhibit(
        title="KL(p || q), KL(q || p), and the mean and spread of single-sample estimates over 4000 samples of p",
        columns=("q", "KL(p || q)", "KL(q || p)", "k1", "k2", "k3"),
        rows=rows,
        reads="Zero for equal distributions, never negative, and not symmetric. k1 is right on average and noisy; k3 is right too, never "
        "negative, and far less noisy while p and q are near; k2 is biased.",
    )


def maximum_likelihood_by_descent() -> Exhibit:
    """Gradient descent on the negative log-likelihood of 60 observations against counting them."""
    counts = torch.tensor([30, 15, 10, 5])
    data = torch.repeat_interleave(torch.arange(4), counts)
    logits = nn.Parameter(torch.zeros(1, 4))
    optimizer = SGD([logits], lr=1.0)
    losses = []
    for _ in range(200):
        optimizer.zero_grad()
        loss = cross_entropy(logits.expand(60, 4), lambda h: h, data, torch.ones(60)).mean()
        loss.backward()
        losses.append(loss.item())
        optimizer.step()
    p = logits.detach().softmax(-1)[0]
    minimum = entropy((counts / 60).log()).item()
    return Exhibit(
        title="Four outcomes seen 30, 15, 10 and 5 times",
        columns=("outcome", "share of the counts", "after 200 steps"),
        rows=[(i, counts[i].item() / 60, p[i].item()) for i in range(4)],
        series=[Series(name="mean NLL", x=list(range(200)), y=losses)],
        x="step", y="nats",
        reads=f"The likeliest parameters are the relative frequencies, and the smallest loss is their entropy ({minimum:.4f} nats; reached "
        f"{losses[-1]:.4f}). Training a language model is the same with a network in place of the table.",
    )  # fmt: skip


def chain_of_conditionals() -> Exhibit:
    """All 64 texts of three tokens under a small decoder: each probability is a product of conditionals, and they sum to one."""
    model = Decoder(_tiny.shape(vocab_size=4, d_model=16, n_heads=2, feed_forward=Mlp(d_ff=32))).eval()
    initialize(model, "xavier", std=0.5)
    start, total, rows = 0, 0.0, []
    with torch.no_grad():
        for n in range(64):
            text = [n // 16, n // 4 % 4, n % 4]
            logp = model.head(model(torch.tensor([start, *text[:-1]]), Packed([3]))).log_softmax(-1)
            parts = [logp[i, token].item() for i, token in enumerate(text)]
            total += math.exp(sum(parts))
            if n % 13 == 0:
                whole = nll(logp, torch.tensor(text)).sum.item()
                rows.append((str(text), *(math.exp(part) for part in parts), math.exp(sum(parts)), whole))
    return Exhibit(
        title="p(a) p(b | a) p(c | a, b) for texts over four tokens",
        columns=("text", "p(a)", "p(b | a)", "p(c | a, b)", "product", "NLL, nats"),
        rows=rows,
        reads=f"The 64 products add up to {total:.6f}: a softmax at every step makes a distribution over whole texts. Its negative "
        "log-likelihood is the sum of the steps'.",
    )
