"""Exhibits of scaling laws: what they say of parameters, tokens and compute, and where laws come from."""

from __future__ import annotations

import math

import numpy as np
import torch

from orrery.evaluate.ngram import fit_ngram
from orrery.glossary.exhibit import Exhibit, Series
from orrery.glossary.exhibits import _library, _tiny
from orrery.kit.seeds import numpy_generator
from orrery.model.decoder import Decoder
from orrery.model.mlp import Mlp
from orrery.plan.parameters import count_parameters
from orrery.plan.scaling import BESIROGLU, HOFFMANN, HOFFMANN_UNROUNDED, TOKENS_PER_PARAMETER
from orrery.text.report import zipf_fit
from orrery.train.optim.config import Muon
from orrery.train.schedule import Cosine


def compute_optimal_table() -> Exhibit:
    """How to spend budgets of 10^18 to 10^26 FLOPs, by the law as printed, unrounded, and fitted again."""
    laws = {"as printed": HOFFMANN, "unrounded": HOFFMANN_UNROUNDED, "refitted": BESIROGLU}
    budgets = [10.0**e for e in range(18, 27)]
    ratios = {name: [law.optimal(c)[1] / law.optimal(c)[0] for c in budgets] for name, law in laws.items()}
    rows = []
    for i, flops in enumerate(budgets):
        n, d = BESIROGLU.optimal(flops)
        rows.append(
            (
                f"{flops:.0e}",
                f"{n:.2e}",
                f"{d:.2e}",
                BESIROGLU.loss(n, d),
                *(values[i] for values in ratios.values()),
            )
        )
    n, d = BESIROGLU.optimal(6 * 70e9 * 1.4e12)
    return Exhibit(
        title="N parameters, D tokens and the loss (nats a token) by the refitted law; D/N by all three",
        columns=("FLOPs", "N", "D", "loss", *laws),
        rows=rows,
        series=[Series(name=name, x=budgets, y=values) for name, values in ratios.items()],
        x="FLOPs", y="tokens a parameter", log_x=True, log_y=True,
        reads=f"Chinchilla's own budget, 6 x 70e9 x 1.4e12, would go to {n:.2e} parameters and {d:.2e} tokens by the refitted law. "
        "The paper's own constants, rounded or not, ask for ever more tokens a parameter; the refitted ones stay near 20.",
    )  # fmt: skip


def isoflop_profiles() -> Exhibit:
    """Three budgets, each spent on models of many sizes: the loss the law gives, a parabola through it, and its bottom."""
    rows, series, bottoms = [], [], []
    budgets = (1e19, 1e20, 1e21)
    for flops in budgets:
        best, _ = BESIROGLU.optimal(flops)
        sizes = [best * 2.0 ** (k / 2) for k in range(-4, 5)]
        losses = [BESIROGLU.loss(n, flops / (6 * n)) for n in sizes]
        a, b, _ = np.polyfit(np.log(sizes), losses, 2)
        bottoms.append(math.exp(-b / (2 * a)))
        extra = [losses[i] - losses[4] for i in (0, 2, 6, 8)]
        rows.append((f"{flops:.0e}", f"{best:.3e}", f"{bottoms[-1]:.3e}", losses[4], *extra))
        series.append(Series(name=f"{flops:.0e} FLOPs", x=sizes, y=losses))
    slope = math.log(bottoms[-1] / bottoms[0]) / math.log(budgets[-1] / budgets[0])
    return Exhibit(
        title="Sizes from a quarter to four times the optimum at equal compute; what a wrong size costs in nats",
        columns=("FLOPs", "optimum by the law", "bottom of the parabola", "loss there", "1/4 of the size", "1/2", "twice", "4 times"),
        rows=rows,
        series=series,
        x="parameters", y="loss, nats a token", log_x=True,
        reads="The valley is flat: half or twice the best size costs a few hundredths of a nat, a quarter or four times about four times as much. "
        f"Its bottom moves with compute to the power {slope:.2f}.",
    )  # fmt: skip


def over_training_costs() -> Exhibit:
    """The loss of a compute-optimal 70B model from ever smaller ones: tokens, training cost, and when serving pays for it."""
    target_n = 70e9
    tokens = BESIROGLU.tokens_for(target_n)
    loss, optimal_cost = BESIROGLU.loss(target_n, tokens), 6 * target_n * tokens
    rows = [("70B", f"{tokens:.2e}", tokens / target_n, 1.0, 1.0, "")]
    for share in (0.7, 0.5, 0.3, 0.2):
        n = share * target_n
        left = loss - BESIROGLU.E - BESIROGLU.A / n**BESIROGLU.alpha
        if left <= 0:
            rows.append((f"{share * 70:.0f}B", "never", math.inf, math.inf, share, "never"))
            continue
        d = (BESIROGLU.B / left) ** (1 / BESIROGLU.beta)
        cost = 6 * n * d
        served = (cost - optimal_cost) / (2 * (target_n - n))
        rows.append((f"{share * 70:.0f}B", f"{d:.2e}", d / n, cost / optimal_cost, share, f"{served:.2e}"))
    return Exhibit(
        title=f"All of them at {loss:.4f} nats a token by the refitted law",
        columns=(
            "model",
            "training tokens",
            "tokens a parameter",
            "training cost",
            "cost of a served token",
            "tokens served to break even",
        ),
        rows=rows,
        reads="A smaller model trained for longer reaches the same loss at a higher price once, and every token it serves is cheaper. What is "
        "compute-optimal to train is not what is cheapest to own. Below some size no amount of text suffices.",
    )


def data_wall_table() -> Exhibit:
    """Compute-optimal demand for text against a supply of 15 trillion tokens: from which budget on it must be repeated."""
    supply = 15e12
    rows = []
    for exponent in (22, 23, 24, 25, 26, 27, 28):
        n, d = BESIROGLU.optimal(10.0**exponent)
        rows.append(
            (
                f"1e{exponent}",
                f"{n:.2e}",
                f"{d:.2e}",
                d / supply,
                "fits" if d <= supply else f"{d / supply:.1f} epochs",
            )
        )
    edge = 6 * (supply / TOKENS_PER_PARAMETER) * supply
    return Exhibit(
        title="Demand by the refitted law, supply 15e12 tokens",
        columns=("FLOPs", "parameters", "tokens wanted", "of the supply", "reading it"),
        rows=rows,
        reads=f"Demand grows with the square root of compute, supply does not. At 20 tokens a parameter 15e12 tokens serve "
        f"{supply / TOKENS_PER_PARAMETER:.1e} parameters and {edge:.1e} FLOPs; beyond, text is repeated, filtered less, or made.",
    )


def size_ladder() -> Exhibit:
    """One recipe, four widths, the same 23,040 tokens: held-out loss against parameters, and the slope between them."""
    texts = ["".join(_library.texts()[first::2]).encode() for first in (0, 1)]
    seen, unseen = (torch.frombuffer(bytearray(text), dtype=torch.uint8).long() for text in texts)
    rows = []
    for width in (8, 16, 32, 64):
        model = Decoder(_tiny.shape(d_model=width, n_heads=2, feed_forward=Mlp(d_ff=3 * width)))
        _tiny.train(model, Muon(lr=0.02), steps=60, schedule=Cosine(warmup=5), rows=6, ids=seen)
        with torch.no_grad():
            loss = _tiny.loss(model, *_tiny.draw(0, 64, ids=unseen, seed=5)).mean().item()
        n = count_parameters(model.cfg)
        rows.append((width, n.non_embedding, n.total, loss))
    x, y = np.log([row[1] for row in rows]), np.log([row[3] for row in rows])
    slope = float(np.polyfit(x, y, 1)[0])
    return Exhibit(
        title="60 steps of Muon on bytes of library modules; others are held out",
        columns=("width", "weights without embeddings", "all weights", "held-out loss, nats a byte"),
        rows=rows,
        series=[Series(name="held-out loss", x=[row[1] for row in rows], y=[row[3] for row in rows])],
        x="weights without embeddings", y="nats a byte", log_x=True, log_y=True,
        reads=f"With nothing changed but the width, more weights learn more from the same tokens; here the loss falls about as N^{slope:.2f}. Four tiny runs "
        "show a direction. A law needs many runs, each at its own good settings, and a term for what no model can predict.",
    )  # fmt: skip


def data_ladder() -> Exhibit:
    """A counting model on 8 kB to 512 kB of text: a law E + B / D^b fitted to the first five sizes predicts the last two."""
    texts = [np.frombuffer(text.encode(), dtype=np.uint8) for text in _library.texts()]
    counted, held_out = np.concatenate(texts[::2]), [part[:20_000] for part in texts[1::4]]
    order = numpy_generator(0, "ladder").permutation(len(counted) // 1024)
    sizes, bits = [2**k for k in range(13, 20)], []
    for size in sizes:
        documents = [counted[1024 * i : 1024 * (i + 1)] for i in order[: size // 1024]]
        nats = -sum(
            float(row.sum()) for row in fit_ngram(documents, order=4, vocab_size=256).logprobs(held_out)
        )
        bits.append(nats / math.log(2) / sum(map(len, held_out)))
    x, known = np.log(np.array(sizes)), len(sizes) - 2

    def fitted(b: float) -> tuple[float, float, np.ndarray]:
        basis = np.stack([np.ones(len(x)), np.exp(-b * x)], axis=1)
        (e, scale), *_ = np.linalg.lstsq(basis[:known], np.array(bits[:known]), rcond=None)
        predicted = basis @ np.array([e, scale])
        return float(((predicted[:known] - bits[:known]) ** 2).sum()), float(e), predicted

    b = min(np.arange(0.02, 1.0, 0.01).tolist(), key=lambda exponent: fitted(exponent)[0])
    _, e, predicted = fitted(b)
    rows = [
        (
            size,
            bits[i],
            float(predicted[i]),
            "fitted" if i < known else f"predicted, off by {predicted[i] / bits[i] - 1:+.1%}",
        )
        for i, size in enumerate(sizes)
    ]
    return Exhibit(
        title="Kneser-Ney of order 4 on bytes of Python's library",
        columns=("bytes counted", "bits a byte, held out", "law", ""),
        rows=rows,
        series=[Series(name="measured", x=sizes, y=bits), Series(name="law", x=sizes, y=predicted.tolist())],
        x="bytes counted", y="bits a byte", log_x=True,
        reads=f"The fit gives E = {e:.2f}, b = {b:.2f}. A law fitted to small runs foretells larger ones nearby. It says nothing of where the trend ends: "
        "a model of fixed order runs out of what it can use, and then the curve lies above the law.",
    )  # fmt: skip


def power_law_recovered() -> Exhibit:
    """Counts drawn by Zipf laws of known exponents, and an exponential: what the shipped fit on log-log axes finds."""
    rng, ranks = numpy_generator(0, "power"), np.arange(1, 3001)
    rows = []
    for name, p in (
        ("exponent 0.8", ranks**-0.8),
        ("exponent 1.0", ranks**-1.0),
        ("exponent 1.5", ranks**-1.5),
        ("exponential, no power law", np.exp(-ranks / 100)),
    ):
        fit = zipf_fit(np.bincount(rng.choice(len(p), size=300_000, p=p / p.sum()), minlength=len(p)))
        rows.append((name, fit.exponent, fit.r_squared))
    return Exhibit(
        title="300,000 draws each",
        columns=("planted", "exponent found", "R^2 of the line"),
        rows=rows,
        reads="The fit finds what was planted. It gives the exponential an exponent too, with a worse R^2: a line can be drawn through anything, so "
        "a good fit over less than two decades proves little.",
    )
