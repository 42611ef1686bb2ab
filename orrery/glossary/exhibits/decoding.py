"""Exhibits of sampling: what each filter and penalty does to a distribution small enough to check by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch
from torch import Tensor

from orrery.evaluate.ngram import NgramModel, fit_ngram
from orrery.glossary.exhibit import Exhibit, Series
from orrery.glossary.exhibits import _library
from orrery.kit.lm import Sampling
from orrery.kit.seeds import torch_generator
from orrery.serve.beam import Beam, beam_search
from orrery.serve.sampling import (
    choose,
    count_penalties,
    draw,
    filtered,
    greedy,
    min_p,
    position_uniform,
    repetition_penalty,
    temperature,
    top_k,
    top_p,
)
from orrery.text.config import TokenizerConfig
from orrery.text.train import train_tokenizer
from orrery.train.basic_losses import entropy

NONE = torch.zeros(6, dtype=torch.long)


def _logits() -> Tensor:
    """Six tokens with probabilities 0.40, 0.25, 0.15, 0.10, 0.06, 0.04."""
    return torch.tensor([0.40, 0.25, 0.15, 0.10, 0.06, 0.04]).log()


def _row(name: str, logits: Tensor) -> tuple[str | float, ...]:
    return (name, *(round(p, 4) for p in logits.softmax(-1).tolist()), entropy(logits).item())


def temperature_and_entropy() -> Exhibit:
    """Entropy of a distribution over temperatures from 0.05 to 5."""
    logits = _logits()
    ts = [0.05 * 1.1**i for i in range(49)]
    shown = (0.2, 0.5, 1.0, 2.0, 5.0)
    return Exhibit(
        title="softmax(logits / T) of six tokens",
        columns=("T", *(f"p{i}" for i in range(6)), "entropy, nats"),
        rows=[_row(f"{t:g}", temperature(logits, t)) for t in shown],
        series=[Series(name="entropy", x=ts, y=[entropy(temperature(logits, t)).item() for t in ts])],
        x="temperature", y="nats", log_x=True,
        reads="Entropy rises with T without exception, from 0 (only the likeliest token) towards ln 6 = 1.79 (all alike). The order "
        "of the tokens never changes.",
    )  # fmt: skip


def filters_compared() -> Exhibit:
    """Top-k, top-p and min-p on a peaked and on a flat distribution: what is left of six tokens."""
    flat = torch.tensor([0.20, 0.18, 0.17, 0.16, 0.15, 0.14]).log()
    ties = torch.tensor([0.25, 0.25, 0.25, 0.25, 0.0, 0.0]).log()
    cases = {
        "top_k=3": lambda z: top_k(z, 3),
        "top_p=0.8": lambda z: top_p(z, 0.8),
        "min_p=0.3": lambda z: min_p(z, 0.3),
    }
    rows = []
    for name, keep in cases.items():
        counts = [int(torch.isfinite(keep(z)).sum()) for z in (_logits(), flat, ties)]
        rows.append((name, *counts, *(round(p, 4) for p in keep(_logits()).softmax(-1).tolist())))
    return Exhibit(
        title="Tokens kept of a peaked (0.40 ... 0.04), a flat (0.20 ... 0.14) and a tied (4 x 0.25) distribution",
        columns=("filter", "peaked", "flat", "tied", *(f"p{i}" for i in range(6))),
        rows=rows,
        reads="Top-k keeps three whatever the shape. Top-p keeps what it takes to reach 0.8: three when the model is sure, five when it is "
        "not, and with ties the lower ids first. Min-p compares with the best. What is left is renormalised.",
    )


def sampled_frequencies() -> Exhibit:
    """Seeded draws under top-k 4 at temperature 0.8 against the probabilities they should have, by chi-square."""
    sampling, seeds, n = Sampling(temperature=0.8, top_k=4), 20, 500
    logits = filtered(_logits(), sampling)
    expected = logits.softmax(-1) * n
    alive = expected > 0
    total, chi2 = torch.zeros(6), []
    for seed in range(seeds):
        drawn = torch.tensor([draw(logits, position_uniform(seed, "exhibit", i)) for i in range(n)])
        counts = torch.bincount(drawn, minlength=6).float()
        total += counts
        chi2.append(((counts - expected)[alive].square() / expected[alive]).sum().item())
    return Exhibit(
        title=f"{seeds} seeds of {n} draws, one uniform number per (seed, request, position)",
        columns=("token", "probability", "share drawn"),
        rows=[(i, expected[i].item() / n, total[i].item() / (n * seeds)) for i in range(6)],
        reads=f"Chi-square is {sum(chi2) / seeds:.2f} on average over the seeds, where chance gives 3.00 (four tokens are alive). The same seed "
        "gives the same draws, and a request draws the same alone or in a batch, since its numbers depend on nothing else.",
    )


def greedy_is_temperature_zero() -> Exhibit:
    """The greedy choice against samples as the temperature goes to zero."""
    rows = []
    for t in (1.0, 0.5, 0.2, 0.1, 0.05, 0.0):
        sampling = Sampling(temperature=t)
        picks = [
            choose(_logits(), sampling, before=NONE, made=NONE, u=position_uniform(0, "zero", i))
            for i in range(500)
        ]
        rows.append((t, sum(pick == greedy(_logits()) for pick in picks) / 500))
    return Exhibit(
        title="Share of 500 samples that are the likeliest token",
        columns=("temperature", "share"),
        rows=rows,
        reads="As T goes to 0 sampling becomes greedy; T = 0 is defined as greedy, with ties going to the lower id, and draws nothing.",
    )


def penalties_by_hand() -> Exhibit:
    """Repetition, presence and frequency penalties on four logits, token 0 seen three times and token 2 once."""
    logits = torch.tensor([2.0, 1.0, -1.0, 0.5])
    made = torch.tensor([3, 0, 1, 0])
    cases = {
        "logits": logits,
        "repetition 1.25": repetition_penalty(logits, made > 0, 1.25),
        "presence 0.5": count_penalties(logits, made, presence=0.5, frequency=0.0),
        "frequency 0.5": count_penalties(logits, made, presence=0.0, frequency=0.5),
    }
    return Exhibit(
        title="Token 0 was generated three times, token 2 once, tokens 1 and 3 never",
        columns=("penalty", "token 0", "token 1", "token 2", "token 3"),
        rows=[(name, *values.tolist()) for name, values in cases.items()],
        reads="Repetition divides a positive logit (2 / 1.25) and multiplies a negative one (-1 * 1.25), so both fall. Presence "
        "subtracts once, frequency once per occurrence (2 - 3 * 0.5).",
    )


def beam_against_greedy() -> Exhibit:
    """Log-probability found by greedy, by beams and by trying everything, over 50 random four-step models."""
    vocabulary, length, models = 4, 4, 50
    totals: dict[str, float] = {}
    wins: dict[str, int] = {}
    for seed in range(models):
        tables = (
            2.0
            * torch.randn(length, vocabulary, vocabulary, generator=torch_generator(seed, "beam")).double()
        )
        tables = tables.log_softmax(-1)
        best = max(_path(tables, ids) for ids in itertools.product(range(vocabulary), repeat=length))
        for width in (1, 2, 4, 64):
            found = _search(tables, width, length).logprob
            name = "greedy (width 1)" if width == 1 else f"width {width}"
            totals[name] = totals.get(name, 0.0) + found / models
            wins[name] = wins.get(name, 0) + math.isclose(found, best, abs_tol=1e-9)
        totals["exhaustive (256 sequences)"] = totals.get("exhaustive (256 sequences)", 0.0) + best / models
    wins["exhaustive (256 sequences)"] = models
    return Exhibit(
        title="50 random models of 4 tokens over sequences of 4; each next token depends on the one before",
        columns=("search", "mean log-probability", "found the best, of 50"),
        rows=[(name, totals[name], wins[name]) for name in totals],
        reads="Greedy takes the best first token and may pay for it later. A beam carries several prefixes on; with as many beams as "
        "there are prefixes of length n - 1 it is exhaustive search.",
    )


def _path(tables: Tensor, ids: tuple[int, ...]) -> float:
    return sum(float(tables[i, ids[i - 1] if i else 0, token]) for i, token in enumerate(ids))


def _search(tables: Tensor, width: int, length: int) -> Beam:
    depth = itertools.count(1)

    def step(parents: object, tokens: object) -> Tensor:
        return tables[next(depth)][list(tokens)]  # type: ignore[call-overload]

    return beam_search(
        tables[0, 0], step, width=width, max_tokens=length, ended=lambda ids: False, length_penalty=0.0
    )[0]


def length_penalty() -> Exhibit:
    """Scores of a short and a long continuation under length penalties 0, 0.6 and 1."""
    short = Beam(ids=(1,) * 4, logprobs=(-1.0,) * 4, finished=True)
    long = Beam(ids=(1,) * 12, logprobs=(-0.6,) * 12, finished=True)
    rows = []
    for alpha in (0.0, 0.6, 1.0):
        a, b = short.score(alpha), long.score(alpha)
        rows.append((alpha, a, b, "short" if a > b else "long"))
    return Exhibit(
        title="4 tokens at -1.0 nats each, or 12 tokens at -0.6 each",
        columns=("alpha", "short", "long", "wins"),
        rows=rows,
        reads="Every further token lowers a sequence's probability, so a plain sum prefers short texts. Dividing by "
        "((5 + length) / 6)^alpha takes that back.",
    )


def repetition_loops_by_decoding() -> Exhibit:
    """A Kneser-Ney 4-gram model writes 180 tokens: how much is new under greedy, a penalty, and sampling."""
    tokenizer = train_tokenizer(_library.texts()[:8], TokenizerConfig(vocab_size=1000))
    model = fit_ngram(
        tokenizer.encode_batch(_library.texts()[:8], threads=1), order=4, vocab_size=tokenizer.vocab_size
    )
    settings = {
        "greedy": Sampling(temperature=0.0),
        "greedy, repetition penalty 1.3": Sampling(temperature=0.0, repetition_penalty=1.3),
        "greedy, frequency penalty 0.5": Sampling(temperature=0.0, frequency_penalty=0.5),
        "sampling, top-p 0.9": Sampling(top_p=0.9),
        "sampling": Sampling(),
    }
    prompts = ("def ", "    return ", "class ", "    if not ")
    rows = []
    for name, sampling in settings.items():
        texts = [_write(model, tokenizer.encode(prompt), sampling, 180) for prompt in prompts]
        grams = [list(zip(*(ids[i:] for i in range(4)), strict=False)) for ids in texts]
        distinct = sum(len(set(g)) / len(g) for g in grams) / len(grams)
        loops = sum(_loops(ids) for ids in texts)
        rows.append(
            (name, distinct, f"{loops} of {len(prompts)}", " ".join(tokenizer.decode(texts[0]).split())[-34:])
        )
    return Exhibit(
        title="180 tokens from each of four prompts, by a model counted on Python's library",
        columns=("decoding", "distinct 4-grams", "end in a loop", "the end of the first text"),
        rows=rows,
        reads="Maximising falls into a loop and nothing leads out of it. Penalties break it at the price of odd words, sampling never "
        "enters it.",
    )


def _write(model: NgramModel, ids: list[int], sampling: Sampling, length: int) -> list[int]:
    """Continue `ids` with the shipped choice rule; returns the new ids."""
    before = torch.bincount(torch.tensor(ids), minlength=model.vocab_size)
    made = torch.zeros_like(before)
    out: list[int] = []
    for position in range(length):
        logits = torch.from_numpy(np.log(model.next((ids + out)[-3:]))).float()
        u = position_uniform(sampling.seed, "loops", position)
        out.append(choose(logits, sampling, before=before, made=made, u=u))
        made[out[-1]] += 1
    return out


def _loops(ids: list[int]) -> bool:
    """Whether the last 80 tokens are one phrase of at most 40 tokens over and over."""
    tail = ids[-80:]
    return any(all(tail[i] == tail[i - period] for i in range(period, len(tail))) for period in range(1, 41))
