"""Exhibits of what networks learn inside: features for a probe, for another text, and for words that are alike."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from orrery.data.loader import Loader, LoaderConfig
from orrery.data.shard import Shards
from orrery.evaluate.ngram import fit_ngram
from orrery.glossary.exhibit import Exhibit, Series
from orrery.glossary.exhibits import _library, _prepared, _tiny
from orrery.kit.seeds import torch_generator
from orrery.model.decoder import Decoder
from orrery.model.mlp import MLP, Mlp
from orrery.model.packed import Packed
from orrery.model.probe import record
from orrery.train.basic_losses import binary_cross_entropy, entropy, mse
from orrery.train.init import initialize
from orrery.train.optim.adam import AdamW
from orrery.train.optim.config import AdamW as AdamWConfig


def probe_on_features() -> Exhibit:
    """A linear classifier asks whether a word ends at a byte: from the byte alone, and from hidden states."""
    trained, fresh = Decoder(_tiny.shape()), Decoder(_tiny.shape())
    _tiny.train(trained, AdamWConfig(lr=5e-3), steps=100, rows=4)
    text = _library.texts()[1].encode()[:8_001]
    ids = torch.frombuffer(bytearray(text[:-1]), dtype=torch.uint8).long()
    ends = torch.tensor([float(not chr(b).isalpha()) for b in text[1:]])
    context = Packed([100] * 80)
    features = {"the byte itself (one-hot)": F.one_hot(ids, 256).float()}
    for name, model, block in (
        ("fresh decoder, layer 2", fresh, "blocks.1"),
        ("trained decoder, layer 1", trained, "blocks.0"),
        ("trained decoder, layer 2", trained, "blocks.1"),
    ):
        with torch.no_grad(), record(model, [block]) as seen:
            model.eval()(ids, context)
        features[name] = seen[block][0]
    rows = [(name, x.shape[1], *_probe(x, ends)) for name, x in features.items()]
    share = ends.mean().item()
    return Exhibit(
        title=f"Linear probes on 8,000 bytes of a module the model never saw (the commoner answer alone: {max(share, 1 - share):.3f})",
        columns=("features", "width", "accuracy, training half", "accuracy, other half"),
        rows=rows,
        reads="Nobody told the model about words: it was trained to predict bytes, and what it needs for that can be read off its hidden "
        "states by a linear map. A fresh decoder mixes the context too, at random, so the probe must be compared with it as well.",
    )


def _probe(x: Tensor, y: Tensor) -> tuple[float, float]:
    """Accuracy of logistic regression on the first half, and on the second."""
    half = len(y) // 2
    x = (x - x[:half].mean(0)) / (x[:half].std(0) + 1e-3)
    probe = nn.Linear(x.shape[1], 1)
    nn.init.zeros_(probe.weight)
    nn.init.zeros_(probe.bias)
    optimizer = AdamW(probe.parameters(), lr=0.02, weight_decay=1e-2)
    for _ in range(100):
        optimizer.zero_grad()
        binary_cross_entropy(probe(x[:half])[:, 0], y[:half]).mean().backward()
        optimizer.step()
    with torch.no_grad():
        right = (probe(x)[:, 0] > 0) == (y > 0.5)
    return right[:half].float().mean().item(), right[half:].float().mean().item()


def pretrained_or_scratch() -> Exhibit:
    """40 steps on 1500 bytes of one module, from a fresh decoder and from one trained on another module before."""
    target = torch.frombuffer(bytearray(_library.texts()[3].encode()), dtype=torch.uint8).long()
    small, held_out = target[3000:4500], target[6000:9000]
    curves: dict[str, list[float]] = {}
    for name, before in (("from scratch", 0), ("pre-trained for 120 steps", 120)):
        model = Decoder(_tiny.shape())
        _tiny.train(model, AdamWConfig(lr=5e-3), steps=before, rows=4)
        values = []
        for step in range(9):
            if step:
                _tiny.train(model, AdamWConfig(lr=2e-3), steps=5, rows=4, ids=small)
            with torch.no_grad():
                values.append(_tiny.loss(model, *_tiny.draw(0, 24, ids=held_out, seed=5)).mean().item())
        curves[name] = values
    return Exhibit(
        title="Loss on held-out bytes of the second module, nats a byte",
        columns=("start", "before", "after 10 steps", "after 40 steps", "best"),
        rows=[(name, v[0], v[2], v[8], min(v)) for name, v in curves.items()],
        series=[Series(name=name, x=[5 * i for i in range(9)], y=v) for name, v in curves.items()],
        x="steps on the second module",
        y="nats a byte",
        reads="What the first text taught (bytes, words, indentation) need not be learned again from the second, of which there is little. Better "
        "before the first step, and better for the same steps after.",
    )


def width_beyond_the_samples() -> Exhibit:
    """Networks of 13 to 12,289 weights on 40 noisy samples: training and test error."""
    x, test = (torch.rand(n, 2, generator=torch_generator(0, "wide", n)) * 4 - 2 for n in (40, 1000))

    def truth(points: Tensor) -> Tensor:
        return torch.sin(2 * points[:, 0]) * points[:, 1]

    y = truth(x) + 0.1 * torch.randn(40, generator=torch_generator(1, "wide"))
    rows = []
    for width in (3, 12, 48, 384, 3072):
        mlp = MLP(2, Mlp(d_ff=width, activation="relu", gated=False, bias=True))
        initialize(mlp, "he")
        for p in (mlp.up_proj.bias, mlp.down_proj.bias):
            nn.init.zeros_(p)
        nn.init.uniform_(mlp.up_proj.bias, -2, 2)
        optimizer = AdamW(mlp.parameters(), lr=1e-2)
        loss = torch.zeros(())
        for _ in range(400):
            optimizer.zero_grad()
            loss = mse(mlp(x)[:, 0], y).mean()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            error = mse(mlp(test)[:, 0], truth(test)).mean().item()
        weights = sum(p.numel() for p in mlp.parameters()) - width - 1  # the second output is not used
        rows.append((width, weights, loss.item(), error))
    variance = truth(test).var().item()
    return Exhibit(
        title=f"A smooth function of two numbers from 40 samples (guessing the mean: error {variance:.2f})",
        columns=("hidden units", "weights", "training error", "test error"),
        rows=rows,
        reads="Far more weights than samples fit every sample, noise too, and still the test error does not explode: among all functions "
        "through the points, training from small weights finds smooth ones.",
    )


def mutual_information_of_bytes() -> Exhibit:
    """How much a byte of the library tells about the byte k places on: H(X) + H(Y) - H(X, Y)."""
    ids = (
        np.frombuffer("".join(_library.texts()[:20]).encode(), dtype=np.uint8)[:400_000].astype(np.int64)
        % 128
    )
    shuffled = torch.from_numpy(ids)[
        torch.randperm(len(ids), generator=torch_generator(0, "shuffle"))
    ].numpy()
    distances, values = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32), []
    for k in distances:
        values.append(_information(ids[:-k], ids[k:]))
    marginal = _bits(np.bincount(ids, minlength=128))
    rows = [(str(k), v, v / marginal) for k, v in zip(distances, values, strict=True)]
    by_hand = np.array([0.25, 0.25, 0.0, 0.5])  # X, Y in {0, 1}: p(0,0), p(0,1), p(1,0), p(1,1)
    hand = _bits(by_hand.reshape(2, 2).sum(1)) + _bits(by_hand.reshape(2, 2).sum(0)) - _bits(by_hand)
    rows += [
        ("1, after shuffling", _information(shuffled[:-1], shuffled[1:]), 0.0),
        ("two coins by hand: 1 + 0.8113 - 1.5", hand, hand),
    ]
    return Exhibit(
        title=f"400,000 bytes of Python's library; one byte alone has {marginal:.2f} bits",
        columns=("distance", "bits of mutual information", "share of the byte's entropy"),
        rows=rows,
        series=[Series(name="mutual information", x=list(distances), y=values)],
        x="distance", y="bits", log_x=True, log_y=True,
        reads="The byte before tells most, and the effect falls off like a power of the distance. Shuffled bytes share nothing; what is left there is "
        "the bias of estimating from counts.",
    )  # fmt: skip


def _information(x: np.ndarray, y: np.ndarray) -> float:
    joint = np.bincount(x * 128 + y, minlength=128 * 128)
    return _bits(np.bincount(x, minlength=128)) + _bits(np.bincount(y, minlength=128)) - _bits(joint)


def _bits(counts: np.ndarray) -> float:
    p = torch.from_numpy(counts[counts > 0] / counts.sum())
    return entropy(p.log()[None]).item() / math.log(2)


def which_module_wrote_it() -> Exhibit:
    """Bayes' rule on a piece of code: byte by byte, which of three modules is it from."""
    names = ("argparse", "inspect", "tarfile")
    texts = [_library.module(name).encode() for name in names]
    models = [fit_ngram([list(text[:40_000])], order=4, vocab_size=256) for text in texts]
    line = texts[2][41_000:41_200]
    logp = np.array([model.logprobs([list(line)])[0] for model in models])  # (models, bytes)
    prior = np.log(np.array([0.6, 0.3, 0.1]))
    rows = []
    for n in (0, 2, 5, 10, 25, 60, len(line)):
        score = prior + logp[:, :n].sum(1)
        posterior = np.exp(score - np.logaddexp.reduce(score))
        rows.append((n, " ".join(line[:n].decode().split())[-24:], *posterior.tolist()))
    return Exhibit(
        title="Posterior of three sources with priors 0.6, 0.3 and 0.1, likelihoods by 4-gram models of bytes",
        columns=("bytes seen", "ending in", *names),
        rows=rows,
        reads=f"The text is from the held-out part of {names[2]}, the source held least likely before. Each byte multiplies the odds by a ratio of "
        "likelihoods, and soon the prior no longer matters.",
    )


def one_epoch() -> Exhibit:
    """Every target of a small data set is drawn exactly once an epoch, in another order each time."""
    with _prepared.folder() as where:
        _prepared.prepared(where, "epoch", _prepared.pieces(120))
        shards = Shards(where / "epoch")
        loader = Loader(shards, LoaderConfig(context=64, rows=8))
        total = loader.account()[0].targets
        steps = math.ceil(sum(1 for _ in range(0, total, 64)) / 8)
        seen: dict[tuple[int, int], int] = {}
        rows = []
        for step in range(2 * steps):
            for piece in loader.batch(step).pieces:
                for place in range(piece.start, piece.start + piece.length):
                    seen[(piece.document, place)] = seen.get((piece.document, place), 0) + 1
            if (step + 1) % max(1, steps // 4) == 0 and len(rows) < 8:
                counts = list(seen.values())
                rows.append(
                    (
                        step + 1,
                        loader.epochs(step + 1),
                        sum(counts),
                        len(seen) / total,
                        min(counts),
                        max(counts),
                    )
                )
    return Exhibit(
        title=f"{total:,} targets in rows of 64, 8 rows a step",
        columns=("steps", "epochs", "targets drawn", "share seen", "fewest times", "most times"),
        rows=rows,
        reads="Within an epoch nothing comes twice, and after it nothing is missing. The order is a permutation computed from seed and epoch, so no "
        "list of what was seen has to be kept.",
    )
