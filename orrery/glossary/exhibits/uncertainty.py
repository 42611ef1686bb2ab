"""Exhibits of uncertainty: calibration, intervals and their coverage, paired comparison, ratings."""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from numpy.typing import NDArray

from orrery.evaluate.metrics.calibration import brier_score, ece, reliability
from orrery.evaluate.metrics.temperature_scaling import fit_temperature, log_loss, tempered
from orrery.evaluate.ngram import kneser_ney
from orrery.evaluate.ngram_counts import count_ngrams
from orrery.evaluate.statistics.battles import Battle
from orrery.evaluate.statistics.bootstrap import bootstrap, paired_bootstrap
from orrery.evaluate.statistics.elo import elo, expected_score
from orrery.evaluate.statistics.estimate import mean_estimate
from orrery.evaluate.statistics.leaderboard import leaderboard
from orrery.evaluate.statistics.proportion import wald, wilson
from orrery.glossary.exhibit import Exhibit, Series
from orrery.glossary.exhibits import _prepared, _tiny
from orrery.glossary.exhibits.evaluation import _as_bytes
from orrery.kit.seeds import numpy_generator
from orrery.model.decoder import Decoder
from orrery.model.packed import Packed
from orrery.train.optim.config import Muon


def calibration_before_and_after() -> Exhibit:
    """A decoder that learned a short text by heart predicts another: how sure it says it is, and how often it is right."""
    ids = _tiny.text_ids()
    model = Decoder(_tiny.shape())
    _tiny.train(model, Muon(lr=0.03), steps=80, ids=ids[:1500], rows=6)
    pieces = ids[6000 : 6000 + 65 * 60].view(60, 65)
    with torch.no_grad():
        logits = model.head(model(pieces[:, :-1].flatten(), Packed([64] * 60))).double().numpy()
    labels = pieces[:, 1:].flatten().numpy()
    half = len(labels) // 2
    temperature = fit_temperature(logits[:half], labels[:half])
    z, y = logits[half:], labels[half:]
    right = z.argmax(1) == y
    rows, curves = [], [Series(name="honest", x=[0.0, 1.0], y=[0.0, 1.0])]
    for name, t in (("as trained", 1.0), (f"over {temperature:.2f}", temperature)):
        said = tempered(z, t).max(1)
        rows.append(
            (
                name,
                float(right.mean()),
                float(said.mean()),
                ece(said, right),
                brier_score(said, right),
                log_loss(z, y, temperature=t),
            )
        )
        full = [b for b in reliability(said, right, bins=10) if b.n >= 10]
        curves.append(Series(name=name, x=[b.confidence for b in full], y=[b.accuracy for b in full]))
    return Exhibit(
        title=f"{len(y)} next bytes of text it has not seen; the temperature is fitted on {half} others",
        columns=("logits", "accuracy", "mean confidence", "ECE", "Brier", "nats"),
        rows=rows,
        series=curves,
        x="confidence",
        y="accuracy",
        reads="A model that has its text by heart is as sure elsewhere and mostly wrong: its curve runs far under the diagonal. One number, fitted on other text, "
        "brings it back. Not a single answer changes, so accuracy stays; confidence, Brier score and log loss mend.",
    )


def interval_kinds_and_coverage() -> Exhibit:
    """Three ways to an interval for a share, on samples of a known coin: how often each holds the truth."""
    rng, trials = numpy_generator(0, "intervals"), 200
    rows = []
    for truth in (0.5, 0.05):
        for n in (10, 40, 160):
            held = {"normal": 0, "Wilson": 0, "bootstrap": 0}
            for _ in range(trials):
                sample = rng.random(n) < truth
                k = int(sample.sum())
                for name, e in (
                    ("normal", wald(k, n)),
                    ("Wilson", wilson(k, n)),
                    ("bootstrap", bootstrap(sample, resamples=60)),
                ):
                    held[name] += e.low <= truth <= e.high
            rows.append((truth, n, *(count / trials for count in held.values())))
    return Exhibit(
        title=f"{trials} samples each; 0.95 is promised",
        columns=("true share", "items", "normal", "Wilson", "bootstrap"),
        rows=rows,
        reads="With many items and a share in the middle all three keep their promise. With few items, or a share near 0, the normal interval and the bootstrap "
        "often see no failure at all and call the share certain; Wilson's does not.",
    )


@functools.cache
def _nats_by_order() -> dict[str, list[NDArray[np.float64]]]:
    """-ln p of every byte of 60 held-out pieces of text, under n-gram models of four orders."""
    documents = [d.ids for d in _as_bytes([p for p in _prepared.pieces(500) if 200 < len(p) < 1500][:240])]
    counts = count_ngrams(documents[60:], order=5, vocab_size=256)
    return {
        f"{order}-gram": [-x for x in kneser_ney(counts.truncated(order)).logprobs(documents[:60])]
        for order in (2, 3, 4, 5)
    }


def paired_against_unpaired() -> Exhibit:
    """Two counting models on the same 60 documents: the interval of each, and that of their difference."""
    nats = _nats_by_order()
    a, b = (np.array([x.mean() for x in nats[name]]) / math.log(2) for name in ("4-gram", "5-gram"))
    alone = mean_estimate(a), mean_estimate(b)
    paired = paired_bootstrap(a, b)
    names = ("4-gram", "5-gram")
    rows = [(name, e.mean, e.standard_error, e.low, e.high, "") for name, e in zip(names, alone, strict=True)]
    error = math.hypot(alone[0].standard_error, alone[1].standard_error)
    apart = float(b.mean() - a.mean())
    rows.append(
        ("difference, taken for two samples", apart, error, apart - 1.96 * error, apart + 1.96 * error, "")
    )
    d = paired.difference
    rows.append(
        ("difference, document by document", d.mean, d.standard_error, d.low, d.high, f"{paired.p_value:.3f}")
    )
    return Exhibit(
        title="Bits a byte, mean over 60 held-out documents, 1000 resamples",
        columns=("what", "mean", "standard error", "low", "high", "p"),
        rows=rows,
        reads="Each model's own interval is wide because documents differ, and the two overlap. A document hard for one is hard for the other: resampling the same "
        "documents for both cancels that, and the difference is many errors from zero.",
    )


def ratings_of_counting_models() -> Exhibit:
    """Four n-gram models predict the same 12 bytes, the one less surprised wins: a battle log and its leaderboard."""
    nats, rng = _nats_by_order(), numpy_generator(0, "arena")
    names, battles = list(nats), []
    for _ in range(300):
        i, j = rng.choice(len(names), 2, replace=False)
        document = rng.integers(0, 60)
        start = rng.integers(0, len(nats[names[i]][document]) - 12)
        x, y = (float(nats[names[m]][document][start : start + 12].sum()) for m in (i, j))
        battles.append(Battle(names[i], names[j], "tie" if abs(x - y) < 1 else ("a" if x < y else "b")))
    rows = []
    by_elo = {row.model: row.rating for row in leaderboard(battles, method="elo", k=16, resamples=100)}
    for row in leaderboard(battles, resamples=100):
        r, e = row.rating, by_elo[row.model]
        rows.append(
            (
                row.rank,
                row.model,
                f"{row.wins}-{row.losses}-{row.ties}",
                r.mean,
                f"{r.low:.0f} to {r.high:.0f}",
                e.mean,
                f"{e.low:.0f} to {e.high:.0f}",
            )
        )
    return Exhibit(
        title="300 battles on pieces drawn at random; within 1 nat a tie",
        columns=("rank", "model", "won-lost-tied", "Bradley-Terry", "95%", "Elo, K = 16", "95%"),
        rows=rows,
        reads="Both put the models in an order; ranks are shared where intervals overlap. Elo's depend on the order of the battles as well, so its intervals "
        "are wider or its ratings closer together, by the size of its step.",
    )


def elo_by_order() -> Exhibit:
    """The same 300 battles of equal strength in many orders: how far Elo drifts apart by its step K."""
    truth, rng = {"x": 1000.0, "y": 1100.0}, numpy_generator(0, "elo")
    chance = expected_score(truth["x"], truth["y"])
    battles = [Battle("x", "y", "a" if rng.random() < chance else "b") for _ in range(300)]
    fitted = {row.model: row.rating.mean for row in leaderboard(battles, resamples=2)}
    lead = fitted["y"] - fitted["x"]
    rows: list[tuple[object, ...]] = [("Bradley-Terry", lead, lead, lead)]
    for k in (4, 16, 32, 64):
        gaps = []
        for _ in range(60):
            ratings = elo([battles[i] for i in rng.permutation(len(battles))], k=k)
            gaps.append(ratings["y"] - ratings["x"])
        rows.append((k, float(np.mean(gaps)), float(np.min(gaps)), float(np.max(gaps))))
    return Exhibit(
        title="y is 100 points better; 300 battles, 60 orders",
        columns=("K", "mean lead of y", "least", "most"),
        rows=rows,
        reads="A small step is slow to reach the truth, a large one is thrown about by the last few battles: the same results in another order give leads that "
        "differ by hundreds of points. A fit of all battles at once does not know their order.",
    )
