"""Adapters of every kind served at once: each request gets what it gets alone, however it is cut, cached, preempted and drafted for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from orrery.kit.errors import OrreryError
from orrery.kit.lm import GenerateRequest, Observe, Sampling, ScoreRequest
from orrery.model import Decoder, Packed
from orrery.model.adapters import AdapterSlots, Reft, new_adapter
from orrery.model.adapters.folder import save_adapter
from orrery.serve.adapters import Adapters
from orrery.serve.engine.config import EngineConfig
from orrery.serve.engine.engine import Engine
from orrery.serve.lm import LM
from orrery.serve.speculate.config import Lookup
from tests.model.adapters.kinds import KINDS, adapted, made

from .conftest import same

PROMPT = "the cat sat on the mat. the cat sat on"


@pytest.fixture(scope="module")
def carrying(
    tokenizer: Any, make_model: Callable[..., Decoder], tmp_path_factory: pytest.TempPathFactory
) -> LM:
    """A model with an adapter of every kind, each read from its folder."""
    model = make_model(tokenizer.vocab_size, n_layers=3, window=9, layer_pattern=("local", "global"))
    folder = tmp_path_factory.mktemp("adapters")
    for seed, name in enumerate(KINDS):
        save_adapter(made(model, name, seed), model, folder / name)
        Adapters.of(model).load(name, folder / name)
    return LM(model=model, tokenizer=tokenizer)


def requests_for(lm: LM) -> list[GenerateRequest]:
    return [
        GenerateRequest(
            ids=lm.tokenizer.encode(PROMPT)[: 4 + i], max_tokens=8, adapter=name, ignore_eos=True, request_id=f"r{i}",
            sampling=Sampling(seed=i, temperature=0.0 if i % 2 else 0.9),
        )
        for i, name in enumerate([None, *KINDS])
    ]  # fmt: skip


def test_all_kinds_at_once_and_each_alone(carrying: LM) -> None:
    requests = requests_for(carrying)
    wanted = [
        Engine(carrying, EngineConfig(prefix_cache=False)).generate([request])[0] for request in requests
    ]
    assert len({completion.ids for completion in wanted}) > len(KINDS) // 2
    engine = Engine(
        carrying, EngineConfig(block_size=4, token_budget=16, speculation=Lookup(shortest=1, tokens=3))
    )
    for again in range(2):  # the second time their prefixes are cached
        for got, want in zip(engine.generate(requests), wanted, strict=True):
            same(got, want)
            assert got.cached_tokens <= 4 + len(requests)
            assert again or got.cached_tokens == 0
    tickets, done = [engine.add(request) for request in requests], {}
    step = 0
    while engine.has_work:
        for update in engine.step():
            assert update.error is None, update.error
            if update.completion is not None:
                done[update.ticket] = update.completion
        engine.check()
        running = list(engine.turns.running.values())
        if step % 3 == 1 and running:
            engine.turns.preempt(running[step % len(running)], "swap" if step % 2 else "recompute")
        step += 1
    for ticket, want in zip(tickets, wanted, strict=True):
        same(done[ticket], want)


@pytest.mark.parametrize("name", ["prefix", "prompt", "dora"])
def test_prompts_are_scored_without_the_virtual_tokens(name: str, carrying: LM) -> None:
    request = replace(requests_for(carrying)[5], adapter=name, prompt_logprobs=0)
    ids = torch.tensor(list(request.ids))
    slots = AdapterSlots.of(carrying.model)
    adapter = slots.adapters[Adapters.of(carrying.model)._slot(name)]
    with torch.no_grad():
        rows = adapted(carrying.model, adapter, ids).log_softmax(-1)[:-1]
    want = rows.gather(1, ids[1:, None]).flatten().tolist()
    (done,) = Engine(carrying, EngineConfig(block_size=4, token_budget=3)).generate([request])
    got = [entry[int(token)] for entry, token in zip(done.prompt_logprobs, ids[1:], strict=True)]
    assert got == pytest.approx(want, abs=1e-3)


@pytest.mark.parametrize("name", ["prefix", "prompt"])
def test_by_default_the_plain_path_has_them_too(name: str, carrying: LM) -> None:
    """Generating, scoring and looking at logits of a model that goes through an adapter with virtual tokens."""
    request = replace(requests_for(carrying)[4], adapter=name)
    (want,) = Engine(carrying, EngineConfig()).generate([request])
    adapters, ids = Adapters.of(carrying.model), request.ids
    adapters.use_by_default(name)
    try:
        (got,) = carrying.generate([replace(request, adapter=None)])
        assert got.ids == want.ids
        (by_default,) = Engine(carrying, EngineConfig()).generate([replace(request, adapter=None)])
        same(by_default, want)
        logits = carrying.logits(ids)
        assert len(logits) == len(ids)
        rows = logits[:-1].log_softmax(-1).gather(1, torch.tensor(ids[1:])[:, None])[:, 0]
        (score,) = carrying.score([ScoreRequest(ids=ids, start=1)])
        assert score.logprobs == pytest.approx(rows.tolist(), abs=1e-3)
        room = carrying.context - adapters.virtual_tokens(None)
        with pytest.raises(OrreryError, match="looks at"):
            carrying.logits([1] * (room + 1))
    finally:
        AdapterSlots.of(carrying.model).default = None


def test_the_prompt_and_virtual_tokens_share_the_context(carrying: LM) -> None:
    engine = Engine(carrying, EngineConfig())
    whole = GenerateRequest(ids=[5] * carrying.context, max_tokens=1, ignore_eos=True)
    assert len(engine.generate([whole])[0].ids) == 1
    with pytest.raises(OrreryError, match="context"):
        engine.add(replace(whole, adapter="prefix"))
    almost = replace(whole, ids=[5] * (carrying.context - 4), adapter="prompt", max_tokens=5)
    assert len(engine.generate([almost])[0].ids) == 1


def test_what_cannot_be_served_is_refused_in_a_sentence(
    carrying: LM, make_model: Callable[..., Decoder]
) -> None:
    request = replace(requests_for(carrying)[0], adapter="prompt", observe=(Observe(what="logit_lens"),))
    with pytest.raises(OrreryError, match="virtual tokens"):
        Engine(carrying, EngineConfig()).add(request)
    model = make_model(90)
    critical = new_adapter(model, Reft(positions="critical"))
    with pytest.raises(OrreryError, match="critical positions"):
        Adapters.of(model).add("a", critical)
    assert not Adapters.of(model).names
    with torch.no_grad():
        model(torch.tensor([1, 2]), Packed([2]))


def test_own_folders_are_told_from_peft_s(carrying: LM, tmp_path: Path) -> None:
    model = carrying.model
    for name in ("bottleneck", "ia3"):
        save_adapter(made(model, name, 3), model, tmp_path / name)
        before = Adapters.of(model).fingerprint(name)
        Adapters.of(model).load("again", tmp_path / name)
        assert Adapters.of(model).fingerprint("again") != before
        Adapters.of(model).remove("again")
