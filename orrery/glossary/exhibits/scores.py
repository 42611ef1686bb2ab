"""Exhibits of scores: what each text metric sees and overlooks, and what accuracy hides."""

from __future__ import annotations

import numpy as np
import torch

from orrery.evaluate.metrics.bleu import bleu, brevity_penalty
from orrery.evaluate.metrics.chrf import chrf
from orrery.evaluate.metrics.classification import accuracy, f1, precision, recall
from orrery.evaluate.metrics.edit_distance import edit_alignment, edit_distance
from orrery.evaluate.metrics.lcs import lcs_items
from orrery.evaluate.metrics.roc import roc_auc, roc_curve
from orrery.evaluate.metrics.rouge import rouge, rouge_words
from orrery.evaluate.metrics.skip_bigrams import skip_bigrams
from orrery.evaluate.metrics.ter import ter
from orrery.evaluate.metrics.top_k import top_k_error
from orrery.glossary.exhibit import Exhibit, Series
from orrery.glossary.exhibits import _tiny
from orrery.kit.seeds import numpy_generator, torch_generator
from orrery.model.decoder import Decoder
from orrery.model.mlp import Mlp
from orrery.model.packed import Packed
from orrery.train.loss import cross_entropy
from orrery.train.optim.build import build_optimizer
from orrery.train.optim.config import AdamW

REFERENCE = "The committee approved the new budget on Monday after a long debate."
VARIANTS = {
    "the same": REFERENCE,
    "another order": "After a long debate, the committee approved the new budget on Monday.",
    "other words": "On Monday, following lengthy discussion, the panel passed its spending plan.",
    "the opposite": "The committee rejected the new budget on Monday after a long debate.",
    "shuffled": "debate the approved Monday budget a long committee after on new the.",
    "its beginning": "The committee approved the new budget.",
    "twice": f"{REFERENCE} {REFERENCE}",
}


def scores_of_variants() -> Exhibit:
    """One reference against a paraphrase, its opposite, a shuffle and others: what each metric says of them."""
    rows = []
    for name, text in VARIANTS.items():
        wanted = [REFERENCE]
        overlaps = (rouge(text, wanted, kind).f1 for kind in ("rouge1", "rouge2", "rougeL", "rougeS4"))
        rows.append((name, bleu(text, wanted).score, chrf(text, wanted), ter(text, wanted), *overlaps))
    return Exhibit(
        title=f"Reference: {REFERENCE}",
        columns=(
            "hypothesis",
            "BLEU",
            "chrF",
            "TER (0 is best)",
            "ROUGE-1",
            "ROUGE-2",
            "ROUGE-L",
            "ROUGE-S4",
        ),
        rows=rows,
        reads="The opposite of the truth scores almost full marks, an honest paraphrase next to nothing: these metrics count shared strings. ROUGE-1 does not see "
        "that the words were shuffled; TER forgives a moved phrase; doubling the text costs precision and no recall.",
    )


def brevity_penalty_and_precision() -> Exhibit:
    """The first words of the reference as a hypothesis: every n-gram is right, only the penalty speaks."""
    words = REFERENCE.split()
    lengths = list(range(4, len(words) + 1))
    found = [bleu(" ".join(words[:n]), [REFERENCE]) for n in lengths]
    ratios = [x / 100 for x in range(20, 141, 5)]
    rows = [
        (n, f"{b.precisions[3]:.0f}", b.brevity_penalty, b.score) for n, b in zip(lengths, found, strict=True)
    ]
    return Exhibit(
        title="BLEU of ever longer beginnings of its reference",
        columns=("words", "4-gram precision", "brevity penalty", "BLEU"),
        rows=rows,
        series=[Series(name="penalty", x=ratios, y=[brevity_penalty(round(1000 * r), 1000) for r in ratios])],
        x="length of the hypothesis over that of the reference",
        y="factor",
        reads="Precision is full for any beginning, so without the penalty the safest translation would be the shortest. It is e^(1 - r/c) below the reference's "
        "length and never a bonus above it: what is too long pays in precision.",
    )


def alignment_by_hand() -> Exhibit:
    """Kitten to sitting, step by step, and what the two have in common in order."""
    a, b = "kitten", "sitting"
    rows = []
    for step in edit_alignment(a, b):
        rows.append(
            (
                step.kind,
                a[step.i] if step.kind != "insert" else "",
                b[step.j] if step.kind != "delete" else "",
            )
        )
    common = "".join(map(str, lcs_items(a, b)))
    return Exhibit(
        title=f"Edit distance {edit_distance(a, b)}; longest common subsequence '{common}'",
        columns=("step", a, b),
        rows=rows,
        reads="Three of the seven steps change something: that is the distance. What matches is a common subsequence, gaps allowed. A substitution counts one, so "
        "the distance is less than the letters that are not in common.",
    )


def pairs_in_order() -> Exhibit:
    """Lin's three sentences against "police killed the gunman": shared words in order, and pairs in order."""
    reference = "police killed the gunman"
    pairs = skip_bigrams(rouge_words(reference))
    rows = []
    for text in ("police kill the gunman", "the gunman kill police", "the gunman police killed"):
        shared = [f"{x} {y}" for x, y in skip_bigrams(rouge_words(text)) if (x, y) in pairs]
        kinds = (rouge(text, [reference], kind).f1 for kind in ("rouge2", "rougeL", "rougeS"))
        rows.append((text, ", ".join(shared), *kinds))
    return Exhibit(
        title=f"Reference: {reference} ({pairs.total()} skip-bigrams)",
        columns=("hypothesis", "shared skip-bigrams", "ROUGE-2", "ROUGE-L", "ROUGE-S"),
        rows=rows,
        reads="The longest common subsequence counts one chain only, so it cannot tell the last two apart; pairs with gaps count every order kept, and can.",
    )


def accuracy_of_saying_no() -> Exhibit:
    """One positive in a hundred: a classifier that always says no, beside two that look."""
    rng = numpy_generator(0, "rare")
    truth = (rng.random(20_000) < 0.01).tolist()
    evidence = rng.standard_normal(len(truth)) + 2.5 * np.array(truth)
    rows = []
    for name, said in (
        ("always no", [False] * len(truth)),
        ("says yes above 1.5", (evidence > 1.5).tolist()),
        ("says yes above 3.0", (evidence > 3.0).tolist()),
    ):
        scores = (of(said, truth, positive=True) for of in (precision, recall, f1))
        rows.append((name, accuracy(said, truth), *scores, f1(said, truth), f1(said, truth, average="micro")))
    cuts = np.linspace(0, 4, 33).tolist()
    curves = [
        Series(name=name, x=cuts, y=[of((evidence > cut).tolist(), truth, positive=True) for cut in cuts])
        for name, of in (("precision", precision), ("recall", recall), ("F1", f1))
    ]
    return Exhibit(
        title="20,000 items, 1 in 100 positive",
        columns=("classifier", "accuracy", "precision", "recall", "F1", "macro F1", "micro F1"),
        rows=rows,
        series=curves,
        x="threshold",
        y="of the rare class",
        reads="Saying no to everything is 99% accurate and finds nothing. A higher threshold trades recall for precision; F1 peaks between. Micro F1 is accuracy "
        "again, macro F1 gives the rare class its say.",
    )


def roc_by_separation() -> Exhibit:
    """Three scorers, one of them coarse: their curves, and the chance to rank a random pair rightly."""
    rng = numpy_generator(0, "roc")
    truth = rng.random(600) < 0.3
    noise = rng.standard_normal(600)
    scorers = {
        "guesses": noise,
        "one deviation apart": noise + truth,
        "the same in three grades": np.clip(np.round(noise + truth), -1, 1),
    }
    rows, curves = [], []
    for name, scores in scorers.items():
        wins = np.subtract.outer(scores[truth], scores[~truth])
        pairs = float(((wins > 0) + (wins == 0) / 2).mean())
        curve = roc_curve(scores, truth)
        rows.append((name, len(curve.thresholds), roc_auc(scores, truth), pairs, float((wins == 0).mean())))
        curves.append(
            Series(name=name, x=curve.false_positive_rate.tolist(), y=curve.true_positive_rate.tolist())
        )
    return Exhibit(
        title="600 items, 3 in 10 positive",
        columns=("scorer", "points", "area", "pairs ranked rightly, ties half", "ties"),
        rows=rows,
        series=curves,
        x="false positive rate",
        y="true positive rate",
        reads="The area under the curve is the chance that a random positive outranks a random negative, to the last digit, ties counted half. Coarse grades tie "
        "often and lose area. Thresholds do not enter, nor whether scores are honest probabilities.",
    )


def top_k_of_a_thousand_classes() -> Exhibit:
    """Points around a thousand centres, named by the nearest: error of the first guess and of the first five."""
    rng = numpy_generator(0, "classes")
    centres = rng.standard_normal((1000, 48))
    labels = rng.integers(0, 1000, 1500)
    rows = []
    for noise in (0.8, 1.2, 1.6, 2.0):
        points = centres[labels] + noise * rng.standard_normal((1500, 48))
        scores = points @ centres.T - (centres**2).sum(1) / 2
        rows.append((noise, *(top_k_error(scores, labels, k) for k in (1, 5, 20))))
    return Exhibit(
        title="1500 points, 1000 classes, guessing has a top-5 error of 0.995",
        columns=("noise", "top-1 error", "top-5 error", "top-20 error"),
        rows=rows,
        reads="Top-5 error forgives confusion with near classes, which is why a challenge with a hundred kinds of dogs and one label a picture used it. It says "
        "nothing of how sure the guesses are.",
    )


def emergence_by_metric() -> Exhibit:
    """Six widths learn 32 numbers of six digits: one curve jumps or glides by how it is scored."""
    names, digits, steps, lr = 32, 6, 100, 0.15
    numbers = torch.randint(0, 10, (names, digits), generator=torch_generator(0, "numbers"))
    ids = torch.cat([10 + torch.arange(names)[:, None], numbers], 1)  # a name, then its digits
    tokens, targets = ids[:, :-1].flatten(), ids[:, 1:].flatten()
    rows = []
    for width in (2, 4, 8, 12, 16, 24):
        shape = _tiny.shape(
            vocab_size=10 + names, d_model=width, n_heads=1, n_layers=1, feed_forward=Mlp(d_ff=2 * width)
        )
        model = Decoder(shape)
        optimizer = build_optimizer(model, AdamW(lr=lr))
        for step in range(steps):
            optimizer.set_lr(lr * (1 - step / steps))
            optimizer.zero_grad()
            hidden = model(tokens, Packed([digits] * names))
            cross_entropy(hidden, model.head, targets, torch.ones(len(targets))).mean().backward()
            optimizer.step()
        with torch.no_grad():
            logp = model.head(model(tokens, Packed([digits] * names))).log_softmax(-1)
        right = (logp.argmax(-1) == targets).view(names, digits)
        nats = -logp.gather(1, targets[:, None]).mean().item()
        share = right.float().mean().item()
        exact = right.all(1).float().mean().item()
        rows.append((width, model.num_parameters(), nats, share, exact, share**digits))
    sizes = [row[1] for row in rows]
    named = {"digits right": 3, "whole number right": 4}
    return Exhibit(
        title=f"{names} numbers of {digits} digits, {steps} steps each",
        columns=(
            "width",
            "weights",
            "nats a digit",
            "digits right",
            "whole number right",
            "digits right ^ 6",
        ),
        rows=rows,
        series=[Series(name=name, x=sizes, y=[row[i] for row in rows]) for name, i in named.items()],
        x="weights",
        y="share",
        log_x=True,
        reads="By whole numbers the small models know nothing and the large ones suddenly everything. The loss and the digits of the very same models improve all "
        "along: six right in a row is a sixth power, flat until near 1. The jump is in the ruler.",
    )
