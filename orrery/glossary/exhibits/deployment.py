"""Exhibits of measuring what is in use: split traffic, looking too early, leaks into a test, and a system fed by itself."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
from numpy.typing import NDArray

from orrery.evaluate.metrics.classification import accuracy
from orrery.evaluate.metrics.roc import roc_auc
from orrery.evaluate.statistics.power import sample_size_for_shares
from orrery.evaluate.statistics.sequential import boundaries, pocock
from orrery.evaluate.statistics.traffic import arm_of, mismatch_p
from orrery.glossary.exhibit import Exhibit, Series
from orrery.kit.seeds import numpy_generator

LOOKS = (0.2, 0.4, 0.6, 0.8, 1.0)
SHARES = {"control": 1.0, "new": 1.0}


def looking_too_early() -> Exhibit:
    """2000 simulated tests with and without a difference, looked at five times: errors, finds, and items needed."""
    n, rng = sample_size_for_shares(0.30, 0.36), numpy_generator(0, "looks")
    bounds = {
        "once, at the end": [math.inf] * 4 + [1.96],
        "five times at 1.96": [1.96] * 5,
        "Pocock": pocock(5),
        "O'Brien-Fleming spending": boundaries(LOOKS),
    }
    z = {share: _z_values(rng, n, share) for share in (0.30, 0.36)}
    rows = []
    for name, c in bounds.items():
        crossed = {share: np.abs(z[share]) >= np.array(c) for share in z}
        first = np.where(crossed[0.36].any(1), crossed[0.36].argmax(1), 4)
        used = float((np.array(LOOKS)[first] * n).mean())
        rows.append(
            (
                name,
                " ".join("-" if math.isinf(x) else f"{x:.2f}" for x in c),
                float(crossed[0.30].any(1).mean()),
                float(crossed[0.36].any(1).mean()),
                round(used),
            )
        )
    return Exhibit(
        title=f"30% against 36%, planned for a power of 0.8: {n} users an arm; looks at every fifth",
        columns=(
            "looks",
            "boundaries",
            "finds what is not there",
            "finds what is there",
            "users an arm, mean",
        ),
        rows=rows,
        reads="Stopping at the first look beyond 1.96 finds a difference in one test of seven where there is none. Boundaries that spend the error over the looks "
        "keep it at one in twenty, find nearly as much as a single look, and stop early when the difference is real.",
    )


def _z_values(rng: np.random.Generator, n: int, share: float) -> NDArray[np.float64]:
    """(2000, looks) the z statistic of a control of 30% against `share` at each look."""
    sizes = np.diff([0, *(round(t * n) for t in LOOKS)])
    a = np.cumsum(rng.binomial(sizes, 0.30, (2000, 5)), axis=1)
    b = np.cumsum(rng.binomial(sizes, share, (2000, 5)), axis=1)
    m = np.cumsum(sizes)
    pooled = (a + b) / (2 * m)
    return (b - a) / m / np.sqrt(pooled * (1 - pooled) * 2 / m)


def sticky_split() -> Exhibit:
    """20,000 users split by hash: shares, who moves when an arm grows, and a pipeline that loses some of them."""
    users = [f"user-{i}" for i in range(20_000)]
    grown = {"new": 0.3, "control": 0.7}
    before = {u: arm_of(u, {"new": 0.1, "control": 0.9}, experiment="answers") for u in users}
    after = {u: arm_of(u, grown, experiment="answers") for u in users}
    other = {u: arm_of(u, SHARES, experiment="layout") for u in users}
    counts = Counter(after.values())
    lossy = {**counts, "new": round(0.9 * counts["new"])}
    moved = sum(before[u] == "new" and after[u] != "new" for u in users)
    both = sum(after[u] == other[u] == "new" for u in users) / counts["new"]
    return Exhibit(
        title="The arm is a hash of the experiment's and the user's name",
        columns=("question", "answer"),
        rows=[
            (
                "asked again, changes arm",
                sum(arm_of(u, grown, experiment="answers") != after[u] for u in users),
            ),
            ("share in an arm of 30%", counts["new"] / len(users)),
            ("left the new arm when it grew from 10% to 30%", moved),
            ("of these, in the new arm of another experiment", both),
            ("p of the split", mismatch_p(counts, grown)),
            ("p of the split when a tenth of one arm gets lost", mismatch_p(lossy, grown)),
        ],
        reads="Nothing is stored, and nobody changes sides. A second experiment cuts across the first in halves. The last line is why the split is tested first: "
        "an arm that loses some of its users is compared with other people.",
    )


def selection_on_all_data() -> Exhibit:
    """Pure noise, 80 items with 2000 features: choosing features before or after setting test items apart."""
    rng, rows = numpy_generator(0, "leak"), []
    found: dict[str, list[tuple[float, float]]] = {
        "none": [],
        "chosen on all items": [],
        "the label among them": [],
    }
    for _ in range(30):
        x, y = rng.standard_normal((80, 2000)), rng.random(80) < 0.5
        known = np.arange(80) < 40
        for name, pairs in found.items():
            features = np.column_stack([x, 4 * y + rng.standard_normal(80)]) if name.startswith("the") else x
            seen = np.ones(80, dtype=bool) if name.startswith("chosen") else known
            pairs.append(_centroids(features, y, seen, known))
    for name, pairs in found.items():
        rows.append((name, *np.mean(pairs, axis=0).tolist()))
    return Exhibit(
        title="The 20 features that differ most between classes, nearest class mean, 40 test items, 30 repeats",
        columns=("leak", "test accuracy", "test AUC"),
        rows=rows,
        reads="There is nothing to be learned in the first two rows, and the first says so. Looking at the test items only to choose features makes noise look like "
        "knowledge. In the third a feature was recorded after the outcome: no split helps against that.",
    )


def _centroids(
    x: NDArray[np.float64], y: NDArray[np.bool_], seen: NDArray[np.bool_], known: NDArray[np.bool_]
) -> tuple[float, float]:
    """Features chosen on `seen`, class means of `known`, judged on the rest: accuracy and AUC."""
    gap = np.abs(x[seen & y].mean(0) - x[seen & ~y].mean(0))
    best = np.argsort(-gap)[:20]
    yes, no = x[known & y][:, best].mean(0), x[known & ~y][:, best].mean(0)
    score = (x[~known][:, best] - (yes + no) / 2) @ (yes - no)
    return accuracy((score > 0).tolist(), y[~known].tolist()), roc_auc(score, y[~known])


def recommender_on_its_own_clicks() -> Exhibit:
    """Sixty items of nearly equal worth, shown by past clicks: what is shown narrows."""
    worth = np.clip(0.3 + 0.05 * numpy_generator(0, "worth").standard_normal(60), 0.05, 0.6)
    rows, series = [], []
    for name, explore in (("by past clicks", 0.0), ("1 place in 5 at random", 0.2), ("all at random", 1.0)):
        runs = [_clicks(worth, explore, seed) for seed in (0, 1)]
        shown, clicked, kinds = runs[0]
        tops = [set(np.argsort(-run_clicked)[:10].tolist()) for _, run_clicked, _ in runs]
        errors = np.abs(clicked / np.maximum(shown, 1) - worth)
        rows.append(
            (
                name,
                kinds[0],
                kinds[-1],
                len(tops[0] & tops[1]),
                len(tops[0] & set(np.argsort(-worth)[:10].tolist())),
                float(errors.mean()),
                float(clicked.sum() / shown.sum()),
            )
        )
        series.append(Series(name=name, x=list(range(len(kinds))), y=kinds))
    return Exhibit(
        title="60 rounds of 100 places; the log of clicks decides what the next round shows",
        columns=(
            "policy",
            "items shown (effective), first round",
            "last",
            "top ten of clicks shared by two runs",
            "of the ten best in it",
            "mean error of click rates",
            "clicks a place",
        ),
        rows=rows,
        series=series,
        x="round",
        y="effective number of items",
        reads="The system learns from what it showed and shows what it learned: items that were clicked early by luck are all that is seen later, and a second run "
        "settles on others. Some random places keep every item measured, and cost few clicks.",
    )


def _clicks(
    worth: NDArray[np.float64], explore: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], list[float]]:
    """How often each item was shown and clicked, and the effective number of items (e^entropy) of each round."""
    rng = numpy_generator(seed, "clicks")
    shown, clicked, kinds = np.zeros(len(worth), dtype=int), np.zeros(len(worth), dtype=int), []
    for _ in range(60):
        wanted = (clicked + 1.0) ** 1.5
        share = (1 - explore) * wanted / wanted.sum() + explore / len(worth)
        views = rng.multinomial(100, share)
        shown, clicked = shown + views, clicked + rng.binomial(views, worth)
        kinds.append(float(np.exp(-(share * np.log(share)).sum())))
    return shown, clicked, kinds
