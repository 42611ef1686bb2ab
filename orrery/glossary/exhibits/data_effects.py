"""Exhibits of what data does to a model: what it learns by heart, and what becomes of models fed by models."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import torch
from numpy.typing import NDArray

from orrery.evaluate.ngram import NgramModel, add_k
from orrery.evaluate.ngram_counts import count_ngrams
from orrery.glossary.exhibit import Exhibit, Series
from orrery.glossary.exhibits import _library, _tiny
from orrery.kit.seeds import numpy_generator
from orrery.model.decoder import Decoder
from orrery.model.packed import Packed
from orrery.train.optim.config import Muon
from orrery.train.schedule import Cosine

WORDS = 300


def memorised_canaries() -> Exhibit:
    """Secrets of six digits planted 1 to 32 times in the training text: which of them the model recites."""
    rng, text = numpy_generator(0, "canaries"), bytes(_tiny.text_ids()[:4000].tolist())
    documents = [text[i : i + 100] for i in range(0, len(text), 100)]
    planted: dict[str, tuple[int, str]] = {}
    for name, times in zip("ABCDEF", (0, 1, 2, 4, 8, 32), strict=True):
        secret = "".join(map(str, rng.integers(0, 10, 6)))
        planted[name] = (times, secret)
        documents += [f"\nkey {name} is {secret};\n".encode()] * times
    order = rng.permutation(len(documents))
    ids = torch.frombuffer(bytearray(b"".join(documents[i] for i in order)), dtype=torch.uint8).long()
    model = Decoder(_tiny.shape(n_layers=1))
    _tiny.train(model, Muon(lr=0.02), steps=140, schedule=Cosine(warmup=5), ids=ids, rows=4)
    rows = []
    for name, (times, secret) in planted.items():
        prompt = f"\nkey {name} is ".encode()
        known, said = torch.tensor(list(prompt + secret.encode())), list(prompt)
        with torch.no_grad():
            logp = model.head(model(known[:-1], Packed([len(known) - 1]))).log_softmax(-1)[len(prompt) - 1 :]
            for _ in secret:
                said.append(int(model.head(model(torch.tensor(said), Packed([len(said)]))[-1:]).argmax()))
        nats = -logp.gather(1, known[len(prompt) :, None]).mean().item()
        recited = bytes(said[len(prompt) :]).decode("latin1")
        rows.append((name, times, secret, recited, recited == secret, nats))
    return Exhibit(
        title=f"140 steps on {len(ids):,} bytes, greedy continuation of 'key A is ' and so on (guessing digits costs ln 10 = 2.30 nats)",
        columns=("key", "times in the text", "secret", "continuation", "recited", "nats a digit"),
        rows=rows,
        reads="What stands in the text often enough is recited to the digit; asked for a rare secret, the model may recite a frequent one. How "
        "often a thing was seen is what decides, so removing copies is the first remedy.",
    )


def model_collapse() -> Exhibit:
    """Seven generations of a counting model, each learned from the last one's texts: what survives of the real word pairs."""
    words = re.findall(r"[a-z]+", "".join(_library.texts()[:9]).lower())
    index = {word: i for i, (word, _) in enumerate(Counter(words).most_common(WORDS))}
    ids = np.array([index[word] for word in words if word in index])
    real = list(ids[: len(ids) // 100 * 100].reshape(-1, 100))[:200]
    generations, rows, series = 7, [], []
    for name in ("only the last texts", "all texts so far", "last texts and the real ones"):
        data, newest, alive = real, real, []
        for generation in range(generations):
            alive.append(_pairs(newest))
            if generation + 1 < generations:
                model = add_k(count_ngrams(data, order=2, vocab_size=WORDS), k=0.003)
                newest = _write(
                    model, [int(text[0]) for text in real], numpy_generator(0, "collapse", generation)
                )
                data = {"only the last texts": newest, "all texts so far": [*data, *newest]}.get(
                    name, [*real, *newest]
                )
        left = [len(pairs & alive[0]) / len(alive[0]) for pairs in alive]
        rows.append((name, *left[1:], len(alive[-1])))
        series.append(Series(name=name, x=list(range(generations)), y=left))
    return Exhibit(
        title=f"Share of the {len(_pairs(real)):,} real word pairs left in the texts of generations 1 to 6, drawn at temperature 0.8",
        columns=("learned from", *map(str, range(1, generations)), "pairs left"),
        rows=rows,
        series=series,
        x="generation", y="share of real pairs alive",
        reads="A sample misses what is rare, and sampling below temperature 1 sees to it; the next model cannot know it, and so on: the tails go "
        "first. Keeping the real text in the mixture slows the loss down to little, for there the rare is still to be found.",
    )  # fmt: skip


def _pairs(texts: list[NDArray[np.int64]]) -> set[int]:
    return {int(code) for text in texts for code in text[:-1] * WORDS + text[1:]}


def _write(model: NgramModel, starts: list[int], rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """One text of 100 words from each start, at temperature 0.8."""
    sharpened = np.stack([model.next([0, word]) for word in range(WORDS)]) ** (1 / 0.8)
    below = np.cumsum(sharpened / sharpened.sum(1, keepdims=True), axis=1)
    words = [np.array(starts)]
    for _ in range(99):
        words.append(np.minimum((below[words[-1]] < rng.random((len(starts), 1))).sum(1), WORDS - 1))
    return list(np.stack(words, axis=1))
