"""The engine against `LM.generate`: the same requests, alone and together, with little memory, cancelled, refused, failing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orrery.kit.errors import OrreryError
from orrery.kit.lm import EmbedRequest, GenerateRequest, Sampling, ScoreRequest
from orrery.model.config import GatedDelta, Mamba2
from orrery.model.mla import Mla
from orrery.model.positions import Alibi, Dynamic, Learned, LongRope, NoPosition, Rope, T5Relative
from orrery.serve.engine.config import EngineConfig
from orrery.serve.engine.engine import Engine, QueueFull
from orrery.serve.lm import LM
from orrery.serve.speculate.config import Lookup

from .conftest import run, same

TIGHT = 4 * 256 * 13
"""Bytes of twelve blocks of four tokens of the tiny model: two or three sequences, not four."""


@pytest.mark.parametrize(
    "config",
    [
        EngineConfig(block_size=4),
        EngineConfig(block_size=4, token_budget=5),
        EngineConfig(block_size=4, prefix_cache=False, max_sequences=2),
        EngineConfig(block_size=4, kv_memory=TIGHT, max_sequences=8),
        EngineConfig(block_size=4, kv_memory=TIGHT, max_sequences=8, preemption="swap", token_budget=9),
    ],
    ids=["blocks", "chunks", "two-at-a-time", "recompute", "swap"],
)
def test_batches_equal_the_plain_path(lm: LM, requests: Callable[..., list[GenerateRequest]], config: EngineConfig) -> None:  # fmt: skip
    wanted = [lm.generate([request])[0] for request in requests()]
    engine = Engine(lm, config)
    for _ in range(2):  # the second time behind cached prefixes
        done, _ = run(engine, *requests())
        for a, b in zip(done, wanted, strict=True):
            same(a, b)
    stats = engine.stats()
    assert stats.blocks_used == 0 and stats.running == stats.waiting == 0
    assert (stats.preemptions > 0) == (config.kv_memory is not None)
    if config.kv_memory is None:
        cached = sum(c.cached_tokens for c in done)
        assert (cached > 0) == (stats.prefix_hits > 0) == config.prefix_cache


SHAPES: dict[str, dict[str, Any]] = {
    "window": {"window": 6},
    "mixed": {"window": 5, "layer_pattern": ("local", "global")},
    "latent": {"attention": Mla(kv_lora_rank=12, qk_nope_head_dim=8, qk_rope_head_dim=4, v_head_dim=6), "n_kv_heads": 4},
    "learned": {"position": Learned(max_positions=64)},
    "alibi": {"position": Alibi()},
    "t5": {"position": T5Relative(buckets=8, max_distance=20)},
    "sinks": {"sinks": True, "attention_softcap": 5.0},
    "dynamic": {"position": Rope(scaling=Dynamic(factor=2.0, original_max_positions=16))},
    "longrope": {"position": Rope(scaling=LongRope(short_factor=(1.0,) * 4, long_factor=(3.0,) * 4, factor=4.0, original_max_positions=16))},
    "mamba": {
        "recurrent": Mamba2(n_heads=4, head_dim=8, state_dim=8, chunk=8),
        "layer_pattern": ("recurrent",), "sublayers": "one", "position": NoPosition(),
    },
    "hybrid": {
        "recurrent": GatedDelta(n_key_heads=2, n_value_heads=4, key_dim=8, value_dim=8, chunk=8),
        "layer_pattern": ("recurrent", "global"),
    },
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_every_kind_of_layer(lm: LM, make_model: Any, requests: Any, name: str) -> None:
    """Chunked, several at once, and with so little memory that they make room for each other."""
    shaped = LM(model=make_model(lm.tokenizer.vocab_size, **SHAPES[name]), tokenizer=lm.tokenizer)
    wanted = [shaped.generate([request])[0] for request in requests()]
    plain = Engine(shaped, EngineConfig(block_size=4, token_budget=9))
    per_sequence = plain.memory.store.bytes / 64 if plain.memory.pools else 0
    tight = EngineConfig(block_size=4, kv_memory=int(1.7 * per_sequence), token_budget=9, max_sequences=8)
    for engine in (plain, *([Engine(shaped, tight)] if plain.memory.pools else [])):
        done, _ = run(engine, *requests())
        for a, b in zip(done, wanted, strict=True):
            same(a, b, atol=2e-3)
        assert engine.stats().blocks_used == 0


def test_recurrent_models_say_what_is_switched_off(lm: LM, make_model: Any) -> None:
    shaped = LM(model=make_model(lm.tokenizer.vocab_size, **SHAPES["hybrid"]), tokenizer=lm.tokenizer)
    engine = Engine(shaped)
    assert (
        not engine.support.prefix_cache and "state cannot go back" in engine.support.reasons["prefix_cache"]
    )
    with pytest.raises(OrreryError, match="state cannot go back"):
        Engine(shaped, EngineConfig(speculation=Lookup()))


def test_several_continuations_share_the_prompt(lm: LM, requests: Any, small: EngineConfig) -> None:
    several, best = (requests(n=3)[1], requests(n=2, best_of=4)[3])
    wanted = [lm.generate([several])[0], lm.generate([best])[0]]
    engine = Engine(lm, small)
    done, updates = run(engine, several, best)
    for a, b in zip(done, wanted, strict=True):
        same(a, b)
    assert engine.stats().prompt_tokens == len(several.ids) + len(best.ids)
    texts = ["".join(u.text for u in updates if u.ticket == 0 and u.choice == i) for i in range(3)]
    assert texts == [done[0].text, *(other.text for other in done[0].others)]


def test_updates_are_the_completion_in_pieces(lm: LM, requests: Any, small: EngineConfig) -> None:
    asked = requests(logprobs=2, prompt_logprobs=3)[3]
    ((done,), updates) = run(Engine(lm, small), asked)
    assert "".join(u.text for u in updates) == done.text
    assert tuple(i for u in updates for i in u.ids) == done.ids
    assert tuple(p for u in updates for p in u.logprobs) == done.logprobs
    assert tuple(top for u in updates for top in u.top_logprobs) == done.top_logprobs
    assert updates[-1].completion == done and updates[-1].last
    rows = lm.logits([*asked.ids, *done.ids]).log_softmax(-1)
    n = len(asked.ids)
    assert done.logprobs == pytest.approx(
        [float(rows[n - 1 + i, t]) for i, t in enumerate(done.ids)], abs=1e-4
    )
    assert len(done.prompt_logprobs) == n - 1
    for i, read in enumerate(done.prompt_logprobs):
        assert len(read) in (3, 4)
        assert read[asked.ids[i + 1]] == pytest.approx(float(rows[i, asked.ids[i + 1]]), abs=1e-4)


def test_prompt_logprobs_are_whole_behind_a_cached_prefix_and_in_chunks(lm: LM, requests: Any) -> None:
    asked = requests(prompt_logprobs=1)[3]
    wanted = lm.generate([asked])[0]
    engine = Engine(lm, EngineConfig(block_size=4, token_budget=3))
    for _ in range(2):
        ((done,), _) = run(engine, asked)
        assert [list(a) for a in done.prompt_logprobs] == [list(b) for b in wanted.prompt_logprobs]
        for a, b in zip(done.prompt_logprobs, wanted.prompt_logprobs, strict=True):
            assert list(a.values()) == pytest.approx(list(b.values()), abs=1e-4)
    assert done.cached_tokens == 0


def test_stop_strings_and_ids(lm: LM, requests: Any, small: EngineConfig) -> None:
    free = lm.generate([requests()[0]])[0]
    word = free.text[3:6]
    asked = [
        replace(requests()[0], stop=(word,)),
        replace(requests()[0], stop_ids=(free.ids[4],), ignore_eos=False),
    ]
    wanted = [lm.generate([request])[0] for request in asked]
    done, updates = run(Engine(lm, small), *asked)
    for a, b in zip(done, wanted, strict=True):
        same(a, b)
    assert done[0].finish_reason == done[1].finish_reason == "stop"
    assert word not in "".join(u.text for u in updates if u.ticket == 0)


def test_cancel_in_every_phase(lm: LM, requests: Any) -> None:
    engine = Engine(lm, EngineConfig(block_size=4, token_budget=6, max_sequences=2))
    asked = requests(n=2)
    for steps in range(12):
        tickets = [engine.add(request) for request in asked[:2]]
        for _ in range(steps):
            engine.step()
        for ticket in (*tickets, *tickets, 10_000):
            engine.cancel(ticket)
            engine.check()
        assert engine.stats().blocks_used == 0 and engine.stats().running == 0
        last = {u.ticket: u for u in engine.step() if u.last}
        assert all(last[t].completion.finish_reason in ("cancelled", "length") for t in last)  # type: ignore[union-attr]
        assert not engine.has_work


def test_refusals(lm: LM, requests: Any) -> None:
    engine = Engine(lm, EngineConfig(block_size=4, kv_memory=TIGHT, max_sequences=3, max_queue=2))
    asked = requests()[0]
    for broken, words in (
        (replace(asked, ids=()), "prompt is empty"),
        (replace(asked, ids=(9999,)), "outside the model's vocabulary"),
        (replace(asked, max_tokens=0), "max_tokens"),
        (replace(asked, max_tokens=60), "do not fit the cache"),
        (replace(asked, n=4), "max_sequences"),
        (replace(asked, sampling=Sampling(top_p=0)), "top_p"),
    ):
        with pytest.raises(OrreryError, match=words):
            engine.add(broken)
    assert not engine.has_work
    engine.add(asked)
    engine.add(asked)
    with pytest.raises(QueueFull, match="wait already"):
        engine.add(asked)
    with pytest.raises(OrreryError, match="kv_memory"):
        Engine(lm, EngineConfig(kv_memory=100))
    with pytest.raises(OrreryError, match="token_budget"):
        EngineConfig(token_budget=0)


def test_a_request_that_fails_fails_alone(
    lm: LM, requests: Any, small: EngineConfig, monkeypatch: Any
) -> None:
    asked = requests()[:3]
    wanted = lm.generate([asked[0]])[0]
    engine = Engine(lm, small)
    tickets = [engine.add(request) for request in asked]
    updates = [u for _ in range(3) for u in engine.step()]
    monkeypatch.setattr(engine.turns.running[tickets[1]].chooser, "choose", _fault)
    states = engine.memory.store.keys[0]
    table = engine.turns.running[tickets[2]].tables.blocks[0]
    states[table] = torch.nan  # its own numbers, nobody else's
    while engine.has_work:
        updates += engine.step()
        engine.check()
    errors = {u.ticket: str(u.error) for u in updates if u.error is not None}
    assert errors == {
        tickets[1]: "a fault of its own",
        tickets[2]: errors[tickets[2]],
    }
    assert "no numbers" in errors[tickets[2]]
    done = [u.completion for u in updates if u.completion is not None]
    same(done[0], wanted)
    again, _ = run(engine, asked[2])  # in the blocks that held no numbers
    same(again[0], lm.generate([asked[2]])[0])


def _fault(*_: Any) -> None:
    raise OrreryError("a fault of its own")


def test_a_failing_pass_fails_what_it_read_and_no_more(lm: LM, requests: Any, small: EngineConfig) -> None:
    engine = Engine(lm, small)
    ticket = engine.add(requests()[0])
    engine.step()

    def fault(*_: Any) -> None:
        raise RuntimeError("a hook's fault")

    handle = lm.model.blocks[0].register_forward_hook(fault)
    updates = engine.step()
    handle.remove()
    assert [(u.ticket, str(u.error)) for u in updates if u.last] == [(ticket, "a hook's fault")]
    assert engine.stats().blocks_used == 0
    done, _ = run(engine, requests()[0])
    same(done[0], lm.generate([requests()[0]])[0])


def test_generate_offline(lm: LM, requests: Any) -> None:
    engine = Engine(lm, EngineConfig(block_size=4, max_queue=1))
    asked = [*requests(), *requests()]
    for a, b in zip(engine.generate(asked), lm.generate(asked), strict=True):
        same(a, b)
    with pytest.raises(OrreryError, match="prompt is empty"):
        engine.generate([asked[0], GenerateRequest(ids=())])
    assert not engine.has_work
    foreign = engine.add(asked[1])
    engine.generate(asked[:1])
    left = []
    while engine.has_work:
        left += engine.step()
    assert {u.ticket for u in left} == {foreign} and left[-1].completion is not None
    text = lm.tokenizer.encode("the cat sat on the mat.")
    assert engine.score([ScoreRequest(ids=text)]) == lm.score([ScoreRequest(ids=text)])
    assert (engine.embed([EmbedRequest(ids=text)])[0] == lm.embed([EmbedRequest(ids=text)])[0]).all()


def test_an_interrupt_leaves_the_engine_usable(lm: LM, requests: Any, small: EngineConfig) -> None:
    engine = Engine(lm, small)
    passes = iter(range(100))

    def interrupt(*_: Any) -> None:
        if next(passes) == 5:
            raise KeyboardInterrupt

    handle = lm.model.blocks[1].register_forward_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        engine.generate(requests())
    handle.remove()
    engine.check()
    assert not engine.has_work and engine.stats().blocks_used == 0
    same(engine.generate(requests())[0], lm.generate([requests()[0]])[0])


@given(data=st.data())
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_order_of_operations_keeps_the_ledger_and_the_texts(
    lm: LM, requests: Any, data: st.DataObject
) -> None:
    """Requests come, are stepped, taken off and cancelled in any order; at the end all is given back."""
    kinds = [
        *requests(max_tokens=6),
        *requests(max_tokens=4, n=2)[1:3],
        replace(requests(max_tokens=5)[0], num_beams=2),
    ]
    engine = Engine(
        lm,
        EngineConfig(
            block_size=4,
            kv_memory=data.draw(st.sampled_from([TIGHT, 3 * TIGHT])),
            max_sequences=data.draw(st.integers(2, 5)),
            token_budget=data.draw(st.sampled_from([3, 8, 64])),
            prefix_cache=data.draw(st.booleans()),
        ),
    )
    asked: dict[int, int] = {}
    done: dict[int, Any] = {}
    for move in data.draw(
        st.lists(st.sampled_from(["add", "step", "step", "cancel", "preempt"]), max_size=40)
    ):
        running = list(engine.turns.running.values())
        if move == "add":
            kind = data.draw(st.integers(0, len(kinds) - 1))
            asked[engine.add(kinds[kind])] = kind
        elif move == "cancel" and asked:
            engine.cancel(data.draw(st.sampled_from(sorted(asked))))
        elif move == "preempt" and running:
            victim = running[data.draw(st.integers(0, len(running) - 1))]
            engine.turns.preempt(victim, data.draw(st.sampled_from(["swap", "recompute"])))
        elif move == "step":
            done |= {u.ticket: u.completion for u in engine.step() if u.last}
        engine.check()
    while engine.has_work:
        done |= {u.ticket: u.completion for u in engine.step() if u.last}
        engine.check()
    assert set(done) == set(asked) and engine.stats().blocks_used == 0
    plain = {kind: lm.generate([kinds[kind]])[0] for kind in set(asked.values())}
    for ticket, completion in done.items():
        if completion.finish_reason != "cancelled" and not any(
            o.finish_reason == "cancelled" for o in completion.others
        ):
            same(completion, plain[asked[ticket]])


def test_tenants_share_no_prefix(lm: LM, requests: Any, small: EngineConfig) -> None:
    engine = Engine(lm, small)
    ours, theirs = requests(tenant="a")[3], requests(tenant="b")[3]
    first, second, third = (run(engine, request)[0][0] for request in (ours, theirs, ours))
    assert (first.cached_tokens, second.cached_tokens) == (0, 0)
    assert third.cached_tokens == (len(ours.ids) - 1) // 4 * 4
    private = run(engine, replace(theirs, cache_prefix=False, tenant="c"))[0][0]
    after = run(engine, replace(theirs, tenant="c"))[0][0]
    assert private.cached_tokens == after.cached_tokens == 0


def test_smaller_priorities_run_earlier(lm: LM, requests: Any) -> None:
    engine = Engine(lm, EngineConfig(block_size=4, max_sequences=1, token_budget=8))
    late, early = engine.add(requests(priority=5)[0]), engine.add(requests(priority=1)[1])
    updates = []
    while engine.has_work:
        updates += engine.step()
    assert [u.ticket for u in updates if u.completion is not None] == [early, late]
