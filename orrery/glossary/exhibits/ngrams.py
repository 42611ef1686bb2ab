"""Exhibits of counting: n-grams, smoothing, back-off, and the Markov chain that a bigram model is."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from orrery.evaluate.ngram import NgramModel, add_k, back_off, fit_ngram, kneser_ney, stupid_back_off
from orrery.evaluate.ngram_counts import NgramCounts, count_ngrams, lay_out
from orrery.glossary.exhibit import Exhibit, Series
from orrery.glossary.exhibits import _library, _tiny
from orrery.kit.seeds import numpy_generator
from orrery.model.decoder import Decoder
from orrery.model.packed import Packed

Ids = NDArray[np.uint8]
LONGEST = 6


@functools.cache
def _split() -> tuple[list[Ids], list[Ids]]:
    """Bytes of every second library module to count, and the first 20 kB of others to predict."""
    ids = [np.frombuffer(text.encode(), dtype=np.uint8) for text in _library.texts()]
    return ids[::2], [part[:20_000] for part in ids[1::4]]


@functools.cache
def _counts() -> NgramCounts:
    return count_ngrams(_split()[0], order=LONGEST, vocab_size=256)


def _bits(model: NgramModel, documents: list[Ids]) -> float:
    """Bits a byte; ids are bytes here, so a token is a byte."""
    nats = -sum(float(row.sum()) for row in model.logprobs(documents))
    return nats / math.log(2) / sum(map(len, documents))


def bits_by_order() -> Exhibit:
    """Bytes of Python's library predicted by counting, orders 1 to 6, under three ways of smoothing."""
    _, held_out = _split()
    methods = {"Kneser-Ney": kneser_ney, "back-off": back_off, "Laplace": add_k}
    orders = list(range(1, LONGEST + 1))
    table = {
        name: [_bits(smooth(_counts().truncated(n)), held_out) for n in orders]
        for name, smooth in methods.items()
    }
    return Exhibit(
        title=f"Bits a byte of {sum(map(len, held_out)):,} held-out bytes, counted on {sum(map(len, _split()[0])):,}",
        columns=("order", *methods),
        rows=[(n, *(values[n - 1] for values in table.values())) for n in orders],
        series=[Series(name=name, x=orders, y=values) for name, values in table.items()],
        x="order", y="bits a byte",
        reads="Each further byte of context helps until the counts run out. Adding one to every count spreads most of the probability over what "
        "never occurs as soon as contexts are rare; Kneser-Ney keeps gaining, because it goes down to shorter contexts by how much they can say.",
    )  # fmt: skip


def smoothing_by_hand() -> Exhibit:
    """The bigrams of 'abracadabra' worked out: what may follow 'a', seen or not, by four methods."""
    text, letters = "abracadabra", "abcdr"
    ids = [letters.index(c) for c in text]
    counts = count_ngrams([ids], order=2, vocab_size=5)
    models = {
        "+1": add_k(counts),
        "KN": kneser_ney(counts, discount=0.5),
        "back-off": back_off(counts, discount=0.5),
        "stupid": stupid_back_off(counts),
    }
    after_a = {name: model.next([letters.index("a")] * 2) for name, model in models.items()}
    follow = {c: sum(text[i : i + 2] == "a" + c for i in range(len(text) - 1)) for c in letters}
    before = {
        c: len({"^" + text[i - 1] if i else "^" for i in range(len(text)) if text[i] == c}) for c in letters
    }
    total, kinds, all_kinds = sum(follow.values()), sum(n > 0 for n in follow.values()), sum(before.values())
    rows: list[tuple[Any, ...]] = []
    for i, c in enumerate(letters):
        add_one = (follow[c] + 1) / (total + 5)
        shorter = (before[c] - 0.5) / all_kinds + 0.5 * 5 / all_kinds / 5
        kneser = max(follow[c] - 0.5, 0) / total + 0.5 * kinds / total * shorter
        rows.append((c, follow[c], before[c], add_one, kneser, *(float(p[i]) for p in after_a.values())))
    rows.append(
        (
            "sum",
            total,
            all_kinds,
            *(sum(row[k] for row in rows) for k in (3, 4)),
            *(float(p.sum()) for p in after_a.values()),
        )
    )
    return Exhibit(
        title=f"p(next | a) in '{text}': 'a' is followed {total} times, twice by b, once each by c and d; discount 1/2",
        columns=("next", "count", "stands after", "+1 by hand", "KN by hand", *after_a),
        rows=rows,
        reads="Unseen pairs get what is taken from the seen ones: by add-one 1/9 each, whatever they are; by the others a share of "
        "the discounts, by how well the letter does elsewhere. Kneser-Ney counts after how many different letters it stood (the text's beginning is one). "
        "Stupid back-off does not sum to one: it is a score.",
    )


def sparsity_by_order() -> Exhibit:
    """Distinct n-grams of library bytes by order, how many occur once, and how many held-out ones were never seen."""
    counts, (_, held_out) = _counts(), _split()
    ranks = counts.ranks(lay_out(held_out, 256))
    places = lay_out(held_out, 256).targets
    rows = []
    for n in range(1, LONGEST + 1):
        level = counts.levels[n]
        enough = places[lay_out(held_out, 256).depth[places] >= n - 1]
        unseen = float((ranks[n][enough] < 0).mean())
        used = level.count[level.count > 0]
        rows.append((n, f"{256.0**n:.2g}", len(used), float((used == 1).mean()), float(used.max()), unseen))
    return Exhibit(
        title=f"{sum(map(len, _split()[0])):,} bytes",
        columns=("n", "possible", "distinct", "seen once", "most frequent", "held-out ones never seen"),
        rows=rows,
        series=[
            Series(name="seen once", x=list(range(1, LONGEST + 1)), y=[row[3] for row in rows]),
            Series(name="held-out ones never seen", x=list(range(1, LONGEST + 1)), y=[row[5] for row in rows]),
        ],
        x="n", y="share",
        reads="Possible n-grams multiply by 256 with every byte, text does not: long ones are mostly seen once, and a growing share of new text "
        "consists of n-grams never seen. Counting alone cannot fix that, which is what smoothing, and later networks, are for.",
    )  # fmt: skip


def counts_write() -> Exhibit:
    """Eighty bytes drawn from Kneser-Ney models of order 1 to 6 after the same start."""
    rows = []
    for order in range(1, LONGEST + 1):
        model = kneser_ney(_counts().truncated(order))
        uniform = numpy_generator(0, "write", order).random(80)
        ids = list(b"    def ")
        for u in uniform:
            ids.append(int(np.searchsorted(np.cumsum(model.next(ids[-LONGEST:])), u * 0.999999)))
        rows.append(
            (order, bytes(ids[8:]).decode("latin1").replace("\n", "⏎").translate({c: "·" for c in range(32)}))
        )
    return Exhibit(
        title="After '    def '",
        columns=("order", "80 bytes more"),
        rows=rows,
        reads="Letters at their rates, then syllables, then words, then something like code; never a thought longer than the order. Each model "
        "is a table of what followed what.",
    )


def bigram_chain() -> Exhibit:
    """A bigram model of letters as a Markov chain: its stationary distribution by iteration, by eigenvector, by counting."""
    text = "".join(c for c in _library.texts()[0].lower() if c in "etaoinshr ")
    letters = "etaoinshr "
    ids = [letters.index(c) for c in text]
    model = fit_ngram([ids], order=2, vocab_size=len(letters))
    matrix = np.stack([model.next([ids[0], i]) for i in range(len(letters))])
    state, distances = np.eye(len(letters))[0], []
    values, vectors = np.linalg.eig(matrix.T)
    order = np.argsort(-np.abs(values))
    exact = np.real(vectors[:, order[0]] / vectors[:, order[0]].sum())
    for _ in range(40):
        distances.append(float(np.abs(state - exact).sum() / 2))
        state = state @ matrix
    counted = np.bincount(ids, minlength=len(letters)) / len(ids)
    second = float(np.abs(values[order[1]]))
    return Exhibit(
        title=f"Ten letters, 10 x 10 transitions from {len(ids):,} of them",
        columns=("letter", "after 40 steps from 'e'", "eigenvector", "share in the text"),
        rows=[(repr(c), float(state[i]), float(exact[i]), float(counted[i])) for i, c in enumerate(letters)],
        series=[Series(name="distance to the stationary distribution", x=list(range(12)), y=distances[:12])],
        x="step", y="total variation", log_y=True,
        reads="Wherever it starts, the chain forgets: the distance shrinks by about the second eigenvalue "
        f"({second:.2f}) a step, to a distribution that a step leaves as it is, which is nearly how often the letters occur.",
    )  # fmt: skip


def how_far_back_it_looks() -> Exhibit:
    """Change one byte, k places back: how much the next byte's distribution moves, for n-gram models and a decoder."""
    ids = _tiny.text_ids()
    model = Decoder(_tiny.shape())
    _tiny.train(model, steps=40)
    start = list(ids[3000:3024].tolist())
    counted = {f"{n}-gram": kneser_ney(_counts().truncated(n)) for n in (2, 4)}
    back = (1, 2, 3, 4, 8, 16)

    def next_of(name: str, context: list[int]) -> NDArray[np.float64]:
        if name in counted:
            return counted[name].next(context)
        with torch.no_grad():
            return (
                model.head(model(torch.tensor(context), Packed([len(context)])))[-1]
                .softmax(-1)
                .double()
                .numpy()
            )

    rows = []
    for name in (*counted, "decoder"):
        before, moved = next_of(name, start), []
        for k in back:
            changed = list(start)
            changed[-k] = ord("~") if changed[-k] != ord("~") else ord("Q")
            moved.append(float(np.abs(next_of(name, changed) - before).sum() / 2))
        rows.append((name, *moved))
    return Exhibit(
        title="Total variation between the distributions before and after",
        columns=("model", *(f"{k} back" for k in back)),
        rows=rows,
        reads="An n-gram model is a Markov chain of order n - 1: what lies further back changes nothing, exactly. A decoder reads its whole "
        "context, so it is a Markov chain only of the order of that.",
    )
