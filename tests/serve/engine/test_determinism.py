"""The same request gives the same bytes: alone, among others, in any order, cut into chunks, cached, preempted, drafted for.

Ids, texts and every log-probability, compared with ==. It holds where all row products are row-invariant: models over quantised
weights and models for inference only, which our own kernels serve. With torch's float products (the last test) tokens are equal
and log-probabilities agree to rounding.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orrery.kit.lm import Completion, GenerateRequest, Sampling
from orrery.model import Decoder
from orrery.model.lowbit import QuantLinear
from orrery.model.lowbit.choice import backend
from orrery.model.mla import Mla
from orrery.model.mlp import Mlp
from orrery.model.quant.codec import quantize
from orrery.model.quantised import place, takes_blocks, use_native_kernels
from orrery.serve.engine.config import EngineConfig
from orrery.serve.engine.determinism import settle_kernels
from orrery.serve.engine.engine import Engine
from orrery.serve.lm import LM
from orrery.serve.speculate.config import Lookup

from .conftest import same

if backend() != "c++":
    pytest.skip(
        "bitwise equality is promised with the compiled kernel, which is not here", allow_module_level=True
    )

SHAPES: dict[str, dict[str, Any]] = {
    "full": {},
    "mixed": {"window": 6, "layer_pattern": ("local", "global"), "attention_softcap": 8.0},
    "latent": {"attention": Mla(kv_lora_rank=12, qk_nope_head_dim=8, qk_rope_head_dim=4, v_head_dim=6), "n_kv_heads": 4},
}  # fmt: skip
WORDS = [
    "the cat sat ",
    "on the mat. ",
    "def read(path):\n",
    "naïve café ",
    "東京 ",
    "the mat sat on the cat. ",
]


def quantised(model: Decoder) -> Decoder:
    """Its matrices as blocks of 8-bit numbers, as a GGUF file's are."""
    for name, weight in list(model.named_parameters()):
        if takes_blocks(model, name):
            place(model, name, quantize(weight.detach(), "Q8_0"), "Q8_0")
    return model


@pytest.fixture(scope="module", params=["float-full", "float-mixed", "float-latent", "blocks-mixed"])
def exact(request: Any, tokenizer: Any, make_model: Any) -> LM:
    kind, shape = request.param.split("-")
    model = make_model(tokenizer.vocab_size, feed_forward=Mlp(d_ff=64), **SHAPES[shape])
    if kind == "blocks":
        quantised(model)
    use_native_kernels(model)
    return LM(model=model, tokenizer=tokenizer)


@pytest.fixture(scope="module")
def asked(exact: LM) -> list[GenerateRequest]:
    """Ten requests of many lengths and settings, some of which share a beginning."""
    made = []
    for i in range(10):
        text = "".join(WORDS[j % len(WORDS)] for j in range(i % 3, i + 1))
        sampling = [
            Sampling(temperature=0),
            Sampling(seed=i),
            Sampling(seed=i, top_k=6, repetition_penalty=1.3),
        ][i % 3]
        ids = exact.tokenizer.encode(text)[:34]
        made.append(
            GenerateRequest(ids=ids, max_tokens=4 + 2 * i, sampling=sampling, request_id=f"{i}", logprobs=2, ignore_eos=True)
        )  # fmt: skip
    return made


@pytest.fixture(scope="module")
def alone(exact: LM, asked: list[GenerateRequest]) -> list[Completion]:
    return [Engine(exact).generate([request])[0] for request in asked]


def bare(completion: Completion) -> Completion:
    """Without the counts that may differ."""
    return replace(completion, cached_tokens=0, drafted=0, accepted=0)


def test_alone_equals_the_plain_path(
    exact: LM, asked: list[GenerateRequest], alone: list[Completion]
) -> None:
    for request, done in zip(asked, alone, strict=True):
        same(done, exact.generate([request])[0], atol=1e-5)


@given(data=st.data())
@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
def test_among_others_in_any_order_and_configuration(
    exact: LM, asked: list[GenerateRequest], alone: list[Completion], data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(len(asked))))
    config = EngineConfig(
        block_size=data.draw(st.sampled_from([2, 4, 16])),
        token_budget=data.draw(st.sampled_from([3, 7, 64])),
        max_sequences=data.draw(st.sampled_from([1, 3, 10])),
        prefix_cache=data.draw(st.booleans()),
        speculation=data.draw(st.sampled_from([None, Lookup(shortest=1, tokens=3)])),
    )
    engine = Engine(exact, config)
    done = engine.generate([asked[i] for i in order])
    assert [bare(c) for c in done] == [bare(alone[i]) for i in order]
    engine.check()


@pytest.mark.parametrize("preemption", ["recompute", "swap"])
def test_after_preemption(
    exact: LM, asked: list[GenerateRequest], alone: list[Completion], preemption: Any
) -> None:
    """Twelve times somebody is taken off, in the middle of its prompt or of its reply."""
    engine = Engine(exact, EngineConfig(block_size=4, token_budget=11, prefix_cache=False))
    places = {engine.add(request): i for i, request in enumerate(asked)}
    done: dict[int, Completion] = {}
    for step in itertools.count():
        for update in engine.step():
            if update.completion is not None:
                done[places[update.ticket]] = update.completion
        engine.check()
        running = list(engine.turns.running.values())
        if not engine.has_work:
            break
        if step % 3 == 2 and step < 36 and running:
            victim = running[step % len(running)]
            engine.turns.preempt(victim, preemption)
    assert engine.stats().preemptions >= 12
    assert [bare(done[i]) for i in range(len(asked))] == [bare(c) for c in alone]


@pytest.mark.parametrize("dtype", ["bfloat16", "int8", "float8"])
def test_small_types_of_the_cache_keep_the_promise(
    exact: LM, asked: list[GenerateRequest], dtype: Any
) -> None:
    one = [Engine(exact, EngineConfig(kv_dtype=dtype)).generate([request])[0] for request in asked[:4]]
    config = EngineConfig(kv_dtype=dtype, block_size=4, token_budget=5)
    together = Engine(exact, config).generate(asked[:4])
    assert [bare(c) for c in together] == [bare(c) for c in one]


def test_several_continuations_equal_each_alone(exact: LM, asked: list[GenerateRequest]) -> None:
    request = replace(asked[4], n=3)
    (done,) = Engine(exact, EngineConfig(block_size=4)).generate([request])
    parts = [
        Engine(exact).generate([replace(request, n=1, request_id=name)])[0] for name in ("4", "4#1", "4#2")
    ]
    made = [replace(done, others=()), *done.others]
    assert [bare(c) for c in made] == [bare(c) for c in parts]


def test_logprobs_are_those_of_the_whole_text(
    exact: LM, asked: list[GenerateRequest], alone: list[Completion]
) -> None:
    """Bitwise where the paged and the packed forward take the same kernel, which latent attention's two forms do not."""
    request, done = asked[7], alone[7]
    rows = exact.logits([*request.ids, *done.ids])[len(request.ids) - 1 : -1].log_softmax(-1)
    wanted = [float(row[i]) for row, i in zip(rows, done.ids, strict=True)]
    if isinstance(exact.model.cfg.attention, Mla):
        assert list(done.logprobs) == pytest.approx(wanted, abs=1e-5)
    else:
        assert list(done.logprobs) == wanted


@pytest.mark.slow
def test_a_thousand_needles(exact: LM) -> None:
    """Each alone, and again at random places in batches, with chunks, cached prefixes and preemption."""
    generator = torch.Generator().manual_seed(3)
    hay = exact.tokenizer.encode("".join(WORDS * 3))
    needles = []
    for i in range(1000):
        start, n = (int(torch.randint(0, high, (), generator=generator)) for high in (8, 24))
        sampling = Sampling(seed=i, temperature=float(i % 3) / 2)
        needles.append(
            GenerateRequest(ids=hay[start : start + n + 1], max_tokens=2 + i % 7, sampling=sampling, request_id=str(i), ignore_eos=True)
        )  # fmt: skip
    single = Engine(exact, EngineConfig(prefix_cache=False))
    one = [single.generate([needle])[0] for needle in needles]
    order = torch.randperm(1000, generator=generator).tolist()
    engine = Engine(exact, EngineConfig(block_size=4, token_budget=48, max_sequences=40))
    places = {engine.add(needles[i]): i for i in order}
    done: dict[int, Completion] = {}
    for step in itertools.count():
        if not engine.has_work:
            break
        done |= {places[u.ticket]: u.completion for u in engine.step() if u.completion is not None}
        running = list(engine.turns.running.values())
        if step % 20 == 19 and running:
            engine.turns.preempt(running[step % len(running)], "swap" if step % 40 == 19 else "recompute")
    assert [bare(done[i]) for i in range(1000)] == [bare(c) for c in one]
    assert engine.stats().preemptions > 5 and engine.stats().blocks_used == 0


@pytest.fixture
def disturbed() -> Iterator[Callable[[Decoder], None]]:
    """Make a model's head look at the whole batch."""
    handles = []

    def disturb(model: Decoder) -> None:
        handles.append(model.norm.register_forward_hook(lambda m, i, o: o + 1e-3 * o.mean(0)))

    yield disturb
    for handle in handles:
        handle.remove()


def test_the_comparison_can_fail(exact: LM, asked: list[GenerateRequest], disturbed: Any) -> None:
    disturbed(exact.model)
    one = [Engine(exact).generate([request])[0] for request in asked]
    assert [bare(c) for c in Engine(exact).generate(asked)] != [bare(c) for c in one]


def test_float_products_of_torch_give_equal_tokens(lm: LM, requests: Any) -> None:
    one = [Engine(lm).generate([request])[0] for request in requests()]
    for config in (EngineConfig(block_size=4, token_budget=5), EngineConfig(prefix_cache=False)):
        for a, b in zip(Engine(lm, config).generate(requests()), one, strict=True):
            same(a, b, atol=1e-4)
            assert torch.tensor(a.logprobs).isfinite().all()


def test_a_fast_engine_leaves_nothing_behind(make_model: Any) -> None:
    model = quantised(make_model(320, feed_forward=Mlp(d_ff=64)))
    layers = [module for module in model.modules() if isinstance(module, QuantLinear)]
    assert settle_kernels(model, fast=True) == "fast" and {layer.activation_bits for layer in layers} == {8}
    assert settle_kernels(model, fast=False) == "deterministic" and {
        layer.activation_bits for layer in layers
    } == {16}
