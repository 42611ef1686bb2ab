from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from orrery.kit.lm import Completion, GenerateRequest, Sampling
from orrery.serve.engine.config import EngineConfig
from orrery.serve.engine.engine import Engine
from orrery.serve.engine.sequence import Update
from orrery.serve.lm import LM

PROMPTS = [
    "the cat sat on the mat. the cat sat on",
    "def read(path):\n    return",
    "naïve",
    "on the mat. the cat sat on the mat. the cat sat",
]


@pytest.fixture(scope="session")
def requests(lm: LM) -> Callable[..., list[GenerateRequest]]:
    """(**settings of the request) -> greedy and sampled requests of several lengths."""

    def make(**changes: Any) -> list[GenerateRequest]:
        samplings = [
            Sampling(temperature=0),
            Sampling(seed=1),
            Sampling(seed=2, temperature=0.7, top_k=8, repetition_penalty=1.2),
            Sampling(seed=3, top_p=0.9, frequency_penalty=0.4),
        ]
        made: dict[str, Any] = {"max_tokens": 14, "ignore_eos": True}
        return [
            GenerateRequest(
                ids=lm.tokenizer.encode(text), sampling=sampling, request_id=f"r{i}", **{**made, **changes}
            )
            for i, (text, sampling) in enumerate(zip(PROMPTS, samplings, strict=True))
        ]

    return make


@pytest.fixture(scope="session")
def small() -> EngineConfig:
    """Blocks of four tokens, so that short texts have many."""
    return EngineConfig(block_size=4)


def same(a: Completion, b: Completion, *, atol: float = 2e-4) -> None:
    """Equal ids, texts and endings; log-probabilities to rounding."""
    assert a.ids == b.ids
    assert (a.text, a.finish_reason) == (b.text, b.finish_reason)
    assert a.logprobs == pytest.approx(b.logprobs, abs=atol)
    assert [o.ids for o in a.others] == [o.ids for o in b.others]


def run(engine: Engine, *requests: GenerateRequest) -> tuple[list[Completion], list[Update]]:
    """Step until all are answered, with the ledger checked after every step."""
    tickets = [engine.add(request) for request in requests]
    updates: list[Update] = []
    while engine.has_work:
        updates += engine.step()
        engine.check()
    done = {update.ticket: update.completion for update in updates if update.completion is not None}
    return [done[ticket] for ticket in tickets], updates
