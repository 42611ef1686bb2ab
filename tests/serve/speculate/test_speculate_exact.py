"""The rejection rule end to end: with each drafter that draws, strings come as often as the model alone would write them."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
import torch

from orrery.kit.lm import GenerateRequest, Sampling
from orrery.model.drafters import EagleConfig, MedusaConfig, SemiAutoregressiveConfig, make_net
from orrery.serve.lm import LM
from orrery.serve.sampling import Chooser
from orrery.serve.speculate.draft_model import DraftModelDrafter
from orrery.serve.speculate.drafter import Drafter
from orrery.serve.speculate.eagle import EagleDrafter
from orrery.serve.speculate.generate import speculative_generate
from orrery.serve.speculate.medusa import MedusaDrafter
from orrery.serve.speculate.own_mtp import MtpDrafter
from orrery.serve.speculate.semi_autoregressive import SemiAutoregressiveDrafter
from orrery.serve.speculate.statistics import AcceptanceStatistics

PROMPT = (5, 9, 5, 9, 5)
SAMPLING = {"temperature": 1.5, "top_k": 3, "presence_penalty": 0.7}
LENGTH = 3


@pytest.fixture(scope="module")
def models(tokenizer, make_model) -> tuple[LM, LM]:
    """A model, and a smaller one that is its first layer."""
    model = make_model(tokenizer.vocab_size, n_layers=2, mtp_heads=2)
    small = make_model(tokenizer.vocab_size, n_layers=1)
    mine = model.state_dict()
    small.load_state_dict({name: mine[name] for name in small.state_dict()})
    return LM(model=model, tokenizer=tokenizer), LM(model=small, tokenizer=tokenizer)


@pytest.fixture(scope="module")
def expected(models) -> dict[tuple[int, ...], float]:
    """The probability of every string that the filters leave."""
    lm, _ = models
    out: dict[tuple[int, ...], float] = {(): 1.0}
    for _ in range(LENGTH):
        longer = {}
        for string, p in out.items():
            chooser = Chooser(
                GenerateRequest(ids=PROMPT, sampling=Sampling(**SAMPLING)),
                lm.config.vocab_size,
                lm.tokenizer.vocab_size,
            )
            for token in string:
                chooser.push(token)
            row = chooser.distribution(lm.logits([*PROMPT, *string])[-1])
            longer |= {(*string, t): p * float(row[t]) for t in row.nonzero().flatten().tolist()}
        out = longer
    return out


def drafter(kind: str, lm: LM, small: LM) -> Drafter:
    def net(cfg):
        made = make_net(cfg, lm.model)
        made.reset_parameters(1)
        return made.eval()

    return {
        "chain": lambda: DraftModelDrafter(small, lm),
        "tree": lambda: DraftModelDrafter(small, lm, branches=(2, 2)),
        "medusa": lambda: MedusaDrafter(net(MedusaConfig(heads=2))),
        "eagle tree": lambda: EagleDrafter(net(EagleConfig()), branches=(2, 1)),
        "mtp": lambda: MtpDrafter(lm.model),
        "semi": lambda: SemiAutoregressiveDrafter(net(SemiAutoregressiveConfig(block=2))),
    }[kind]()


def p_value(kind: str, models: tuple[LM, LM], expected: dict[tuple[int, ...], float], samples: int) -> float:
    """Of the chi-square over the strings; rare ones count as one."""
    lm, small = models
    counts, statistics = Counter(), AcceptanceStatistics()
    for seed in range(samples):
        request = GenerateRequest(
            ids=PROMPT, max_tokens=LENGTH, sampling=Sampling(**SAMPLING, seed=seed), ignore_eos=True
        )
        done = speculative_generate(
            lm, request, drafter(kind, lm, small), rule="rejection", tokens=6, statistics=statistics
        )
        counts[done.ids] += 1
    assert set(counts) <= set(expected)
    assert statistics.nodes > 0
    common = [s for s, p in expected.items() if p * samples >= 5]
    cells = [(counts[s], expected[s] * samples) for s in common]
    rest = samples - sum(wanted for _, wanted in cells)
    if rest >= 1:
        cells.append((samples - sum(seen for seen, _ in cells), rest))
    statistic = sum((seen - wanted) ** 2 / wanted for seen, wanted in cells)
    return float(torch.special.gammaincc(torch.tensor((len(cells) - 1) / 2.0), torch.tensor(statistic / 2)))


@pytest.mark.parametrize("kind", ["chain", "tree", "eagle tree"])
def test_strings_follow_the_model(kind: str, models, expected) -> None:
    assert p_value(kind, models, expected, 250) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["chain", "tree", "medusa", "eagle tree", "mtp", "semi"])
def test_many_strings_follow_the_model(kind: str, models, expected) -> None:
    assert p_value(kind, models, expected, 1000) > 1e-3


@pytest.mark.parametrize("kind", ["chain", "tree", "medusa", "mtp"])
def test_the_same_request_gives_the_same_bytes(kind: str, models) -> None:
    lm, small = models
    request = GenerateRequest(
        ids=PROMPT, max_tokens=24, sampling=Sampling(temperature=1.2, seed=7), ignore_eos=True
    )
    once, again = (
        speculative_generate(lm, request, drafter(kind, lm, small), rule="rejection") for _ in range(2)
    )
    assert once == again and len(once.ids) == 24


def test_every_string_has_its_probability(expected) -> None:
    assert len(expected) == 27 and sum(expected.values()) == pytest.approx(1)
    assert len(set(itertools.chain.from_iterable(expected))) > 3
