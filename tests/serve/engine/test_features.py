"""Every pair of features, run for real: equal to what each gives without the engine's devices, or refused at the request."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch

from orrery.kit.errors import OrreryError
from orrery.kit.lm import Completion, GenerateRequest, Grammar, Observe, Sampling, Steering
from orrery.model import Decoder
from orrery.model.adapters import Lora, merge_adapter, new_adapter
from orrery.model.packed import Packed
from orrery.model.probe import record
from orrery.serve.adapters import Adapters
from orrery.serve.engine.config import EngineConfig
from orrery.serve.engine.engine import Engine
from orrery.serve.engine.features import FEATURES, REFUSED, feature_table
from orrery.serve.lm import LM
from orrery.serve.speculate.config import Lookup
from orrery.serve.speculate.drafter import Draft, DraftView

from .conftest import same

DEVICES = ("paged", "chunked", "prefix cache", "speculation", "quantised KV", "preemption")
"""Features that must not change a token. The others say what is asked for."""
PROMPT = "the cat sat on the mat. the cat sat on the mat. the"
STEERING = (Steering(layer=0, vector=tuple(torch.linspace(-1, 1, 32).tolist()), strength=0.8),)
OBSERVE = (
    Observe(what="logit_lens", top=2),
    Observe(what="attention"),
    Observe(what="blocks.0.residual_mid"),
)


@pytest.fixture(scope="module")
def adapted(tokenizer: Any, make_model: Any) -> LM:
    """A model with an adapter "a" beside it."""
    model = make_model(tokenizer.vocab_size, window=9, layer_pattern=("local", "global"))
    Adapters.of(model).add("a", trained_adapter(model))
    return LM(model=model, tokenizer=tokenizer)


def trained_adapter(model: Decoder) -> Any:
    adapter = new_adapter(model, Lora(rank=2, alpha=4.0, targets=("q_proj", "down_proj")), seed=5)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for low in adapter.parts.values():
            low.b.normal_(std=0.3, generator=generator)
    return adapter


def request_for(lm: LM, names: set[str]) -> GenerateRequest:
    """What the pair asks for."""
    request = GenerateRequest(
        ids=lm.tokenizer.encode(PROMPT), max_tokens=10, sampling=Sampling(seed=4), ignore_eos=True, request_id="x"
    )  # fmt: skip
    changes: dict[str, dict[str, Any]] = {
        "n": {"n": 3},
        "beams": {"num_beams": 3, "n": 1 + ("n" in names), "sampling": Sampling(temperature=0)},
        "grammar": {"grammar": Grammar(kind="regex", source="[a-z ]{4,30}")},
        "adapters": {"adapter": "a"},
        "steering": {"steering": STEERING},
        "observe": {"observe": OBSERVE},
        "contrastive": {"sampling": Sampling(temperature=0, top_k=4, contrastive_alpha=0.5)},
    }
    for name in ("n", *(n for n in changes if n != "n")):
        if name in names:
            request = replace(request, **changes[name])
    return request


def config_for(names: set[str]) -> EngineConfig:
    return EngineConfig(
        block_size=4 if names & {"paged", "prefix cache", "preemption"} else 64,
        token_budget=5 if "chunked" in names else 512,
        prefix_cache="prefix cache" in names,
        kv_dtype="int8" if "quantised KV" in names else "float32",
        speculation=Lookup(shortest=1, tokens=4) if "speculation" in names else None,
    )


@contextmanager
def plain_equivalent(lm: LM, names: set[str]) -> Iterator[LM]:
    """A model of its own with the adapter merged in and the steering in a hook: what `LM.generate` then gives is right."""
    model = copy.deepcopy(lm.model)
    if "adapters" in names:
        merged = Decoder(lm.model.cfg, seed=0).eval()
        merged.load_state_dict(
            {k.replace(".base.", "."): v for k, v in model.state_dict().items() if ".beside." not in k}
        )
        merge_adapter(merged, trained_adapter(merged))
        model = merged
    if "steering" in names:
        vector = torch.tensor(STEERING[0].vector) * STEERING[0].strength
        model.blocks[0].register_forward_hook(lambda m, i, o: o + vector)
    yield LM(model=model, tokenizer=lm.tokenizer)


def disturb(engine: Engine, requests: list[GenerateRequest], *, preempt: bool) -> list[Completion]:
    """All of them; with `preempt`, somebody makes room now and then, one way and the other."""
    tickets = [engine.add(request) for request in requests]
    done: dict[int, Completion] = {}
    step = 0
    while engine.has_work:
        for update in engine.step():
            assert update.error is None, update.error
            if update.completion is not None:
                done[update.ticket] = update.completion
        engine.check()
        running = list(engine.turns.running.values())
        if preempt and step % 2 and step < 14 and running:
            engine.turns.preempt(running[step % len(running)], "swap" if step % 4 == 1 else "recompute")
        step += 1
    return [done[ticket] for ticket in tickets]


@pytest.mark.parametrize("pair", list(combinations(FEATURES, 2)), ids=" x ".join)
def test_pair(adapted: LM, pair: tuple[str, str]) -> None:
    names = set(pair)
    request, engine = request_for(adapted, names), Engine(adapted, config_for(names))
    if frozenset(names) in REFUSED:
        with pytest.raises(OrreryError, match=re.escape(REFUSED[frozenset(names)])):
            engine.add(request)
        return
    other = replace(request_for(adapted, set()), request_id="other", sampling=Sampling(seed=8))
    if "prefix cache" in names:
        engine.generate([request])
    done, beside = disturb(engine, [request, other], preempt="preemption" in names)
    alone = Engine(adapted, EngineConfig(block_size=64, prefix_cache=False, kv_dtype=engine.config.kv_dtype))
    if "quantised KV" in names:
        wanted, wanted_beside = alone.generate([request])[0], alone.generate([other])[0]
    else:
        with plain_equivalent(adapted, names) as plain:
            wanted = plain.generate([replace(request, adapter=None, steering=(), observe=())])[0]
        wanted_beside = adapted.generate([other])[0]
    same(done, wanted, atol=2e-3)
    same(beside, wanted_beside, atol=2e-3)
    stats = engine.stats()
    if "prefix cache" in names and not names & {"contrastive"}:
        assert done.cached_tokens > 0
    if "speculation" in names and not names & {
        "contrastive",
        "beams",
        "steering",
    }:  # steered, it repeats nothing
        assert stats.drafted > 0
    if "preemption" in names and "contrastive" not in names:
        assert stats.preemptions > 2
    if "observe" in names:
        assert_observed(adapted, request, done, names)
    if "grammar" in names:
        assert re.fullmatch("[a-z ]{4,30}", done.text)


def assert_observed(lm: LM, request: GenerateRequest, done: Completion, names: set[str]) -> None:
    """One entry for each token made; the named activation is the one that the plain forward over the final tokens has."""
    assert {what: len(entries) for what, entries in done.observed.items()} == {
        w.what: len(done.ids) for w in OBSERVE
    }
    for i, rows in enumerate(done.observed["attention"]):
        assert len(rows) == 2 and len(rows[0]) == 4 and len(rows[0][0]) == len(request.ids) + i
        assert sum(rows[1][0]) == pytest.approx(1, abs=1e-4)
    if names & {"quantised KV"}:
        return
    ids = [*request.ids, *done.ids][:-1]
    name = "blocks.0.residual_mid"
    with plain_equivalent(lm, names) as plain, torch.inference_mode(), record(plain.model, [name]) as seen:
        plain.model(torch.tensor(ids), Packed([len(ids)]))
    shown = torch.tensor(done.observed[name])
    torch.testing.assert_close(shown, seen[name][0][len(request.ids) - 1 :], atol=2e-3, rtol=1e-3)
    last = done.observed["logit_lens"][-1][-1]
    assert last[0][1] >= last[1][1]


class Bushy:
    """Drafts trees: for each of the next tokens the right one, from an oracle, behind a wrong sibling."""

    reads_hidden = True

    def __init__(self, truth: list[int]) -> None:
        self.truth, self.heard, self.states = truth, [], 0

    def propose(self, views: list[DraftView], limit: int) -> list[Draft]:
        drafts = []
        for view in views:
            assert view.hidden is not None and list(view.ids) == self.truth[: len(view.ids)]
            ids, parents, last = [], [], -1
            for token in self.truth[len(view.ids) : len(view.ids) + min(view.room, 3)]:
                ids += [(token + 1) % 300, token]
                parents += [last, last]
                last = len(ids) - 1
            drafts.append(Draft(tuple(ids[:limit]), tuple(parents[:limit])))
        return drafts

    def accepted(self, ticket: int, ids: list[int], hidden: torch.Tensor | None) -> None:
        assert hidden is not None and len(hidden) == len(ids)
        self.heard += ids

    def forget(self, ticket: int) -> None:
        self.heard = []


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_trees_of_drafts_are_verified_and_their_path_is_kept(adapted: LM, dtype: Any) -> None:
    request = replace(request_for(adapted, set()), max_tokens=20)
    config = EngineConfig(block_size=4, kv_dtype=dtype, speculation=Lookup(tokens=6), prefix_cache=False)
    (wanted,) = Engine(adapted, replace(config, speculation=None)).generate([request])
    engine = Engine(adapted, config)
    engine.drafts.drafter = drafter = Bushy([*request.ids, *wanted.ids])  # type: ignore[bad-assignment]
    ticket = engine.add(request)
    heard: list[int] = []
    while engine.has_work:
        updates = engine.step()
        engine.check()
        heard = drafter.heard or heard
    done = updates[-1].completion
    assert updates[-1].ticket == ticket and done is not None
    same(replace(done, drafted=0, accepted=0), wanted, atol=2e-3)
    assert heard == [*request.ids, *wanted.ids][: len(heard)] and len(heard) >= len(request.ids) + 12
    assert done.accepted >= 14 and engine.stats().steps <= 7


def test_beams_equal_the_plain_search_with_little_memory(adapted: LM) -> None:
    request = replace(request_for(adapted, {"beams"}), num_beams=4, n=4, length_penalty=0.5, max_tokens=12)
    wanted = adapted.generate([request])[0]
    five = EngineConfig(block_size=4, token_budget=6, max_sequences=5)
    memory = Engine(adapted, five).memory.store.bytes
    engine = Engine(adapted, replace(five, kv_memory=memory, max_sequences=7))
    others = [replace(request_for(adapted, set()), request_id=str(i), max_tokens=12) for i in range(3)]
    done, *beside = disturb(engine, [request, *others], preempt=False)
    same(done, wanted)
    for a, b in zip(beside, adapted.generate(others), strict=True):
        same(a, b)
    ticket = engine.add(request)
    for _ in range(5):
        engine.step()
    engine.cancel(ticket)
    engine.check()
    assert engine.stats().blocks_used == 0 and engine.step()[-1].completion.finish_reason == "cancelled"  # type: ignore[union-attr]


def test_contrastive_search_takes_its_turns(adapted: LM) -> None:
    slow, fast = request_for(adapted, {"contrastive"}), replace(request_for(adapted, set()), max_tokens=2)
    engine = Engine(adapted)
    first, second = engine.add(slow), engine.add(fast)
    order = []
    while engine.has_work:
        order += [update.ticket for update in engine.step() if update.completion is not None]
    assert order == [second, first]
    cancelled = engine.add(slow)
    engine.step()
    engine.cancel(cancelled)
    assert engine.step()[-1].completion.finish_reason == "cancelled" and not engine.has_work  # type: ignore[union-attr]


def test_a_grammar_that_nothing_can_follow_fails_that_request_alone(adapted: LM) -> None:
    vocab = range(adapted.tokenizer.vocab_size)
    held = replace(
        request_for(adapted, {"grammar"}),
        sampling=Sampling(logit_bias=dict.fromkeys(vocab, float("-inf"))),
        grammar=Grammar(kind="choice", source='["cat"]'),
    )
    engine = Engine(adapted)
    bad, good = engine.add(held), engine.add(request_for(adapted, set()))
    last = {}
    while engine.has_work:
        last |= {update.ticket: update for update in engine.step() if update.last}
        engine.check()
    assert "no token is left to choose" in str(last[bad].error)
    assert last[good].completion is not None


def test_a_whole_text_ends_without_a_stop_id(adapted: LM) -> None:
    request = replace(request_for(adapted, set()), grammar=Grammar(kind="choice", source='[" cat sat"]'))
    (done,) = Engine(adapted).generate([request])
    assert (done.text, done.finish_reason) == (" cat sat", "stop")
    assert done.accepted > 0  # what the grammar forces is read at once


def test_a_hook_on_a_module_sees_every_pass(adapted: LM) -> None:
    request, rows = request_for(adapted, set()), []
    handle = adapted.model.blocks[1].register_forward_hook(lambda m, i, o: rows.append(len(o)))
    Engine(adapted, EngineConfig(token_budget=8)).generate([request])
    handle.remove()
    assert sum(rows) == len(request.ids) + request.max_tokens - 1 and max(rows) == 8


def test_adapters_must_be_loaded_and_weights_change_between_requests(adapted: LM) -> None:
    engine = Engine(adapted, EngineConfig(block_size=4))
    request = request_for(adapted, set())
    with pytest.raises(OrreryError, match="no adapter 'b'"):
        engine.add(replace(request, adapter="b"))
    first = engine.generate([request])[0]
    assert engine.generate([request])[0].cached_tokens > 0
    assert engine.generate([replace(request, adapter="a")])[0].cached_tokens == 0
    with torch.no_grad():
        adapted.model.embed.weight.mul_(1.5)
    ticket = engine.add(request)
    with pytest.raises(OrreryError, match="under way"):
        engine.weights_changed()
    engine.cancel(ticket)
    engine.step()
    engine.weights_changed()
    second = engine.generate([request])[0]
    with torch.no_grad():
        adapted.model.embed.weight.div_(1.5)
    assert second.cached_tokens == 0 and second.ids != first.ids


def test_an_adapter_that_changes_under_its_request_fails_it_alone(adapted: LM) -> None:
    engine, request = Engine(adapted), request_for(adapted, set())
    bad, good = engine.add(replace(request, adapter="a", n=2)), engine.add(request)
    for _ in range(3):
        engine.step()
    adapters = Adapters.of(adapted.model)
    adapters.remove("a")
    last = {}
    while engine.has_work:
        last |= {update.ticket: update for update in engine.step() if update.last}
        engine.check()
    adapters.add("a", trained_adapter(adapted.model))
    assert "was removed or changed" in str(last[bad].error)
    same(last[good].completion, adapted.generate([request])[0])


def test_the_page_of_pairs_is_current() -> None:
    page = Path(__file__).parents[3] / "docs" / "features.md"
    assert page.read_text() == feature_table(), (
        "write orrery.serve.engine.features.feature_table() to docs/features.md"
    )
