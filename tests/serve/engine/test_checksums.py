"""Flipped bits in what is cached: found before they are read, told to those they touch, and to nobody else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.kit.errors import OrreryError
from orrery.kit.lm import GenerateRequest
from orrery.serve.engine.config import EngineConfig
from orrery.serve.engine.engine import Engine
from orrery.serve.engine.store import KvDtype
from orrery.serve.lm import LM

from .conftest import run, same


def flip(engine: Engine, block: int, layer: int, bit: int) -> None:
    """One bit of one layer's part of a block."""
    part = engine.memory.store.tensors(layer)[0][block].flatten().view(torch.uint8)
    part[bit // 8 % len(part)] ^= 1 << bit % 8


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8", "float8"])
@given(bit=st.integers(0, 4095), layer=st.integers(0, 1), place=st.integers(0, 1))
@settings(max_examples=8, deadline=None)
def test_a_flipped_bit_is_seen(
    lm: LM, requests: Callable[..., list[GenerateRequest]], dtype: KvDtype, bit: int, layer: int, place: int
) -> None:
    engine = Engine(lm, EngineConfig(block_size=4, kv_dtype=dtype, checksums=True, prefix_cache=False))
    one, other = requests()[0], requests()[1]
    alone = Engine(lm, EngineConfig(block_size=4, kv_dtype=dtype)).generate([other])[0]
    broken, whole = engine.add(one), engine.add(other)
    for _ in range(3):
        engine.step()
    sequence = engine.jobs[broken].sequences[0]
    flip(engine, sequence.tables.blocks[0][place], layer, bit)
    seen = [update for _ in range(40) if engine.has_work for update in engine.step()]
    (failed,) = [update for update in seen if update.error is not None]
    assert failed.ticket == broken and isinstance(failed.error, OrreryError)
    assert "changed in memory" in str(failed.error)
    (done,) = [update.completion for update in seen if update.completion is not None]
    same(done, alone)
    assert whole not in engine.jobs
    engine.check()


def test_a_damaged_prefix_is_found_once(lm: LM, requests: Callable[..., list[GenerateRequest]]) -> None:
    engine = Engine(lm, EngineConfig(block_size=4, checksums=True))
    (first,), _ = run(engine, requests()[0])
    cached = engine.memory.pools[0].sealed()[-1].block  # of the first tokens
    flip(engine, cached, 0, 5)
    with pytest.raises(OrreryError, match="changed in memory"):
        engine.generate([requests()[0]])
    engine.check()
    (again,), _ = run(engine, requests()[0])
    same(again, first)


@pytest.mark.parametrize("preemption", ["swap", "recompute"])
def test_nothing_is_seen_where_nothing_changed(
    lm: LM, requests: Callable[..., list[GenerateRequest]], preemption: str
) -> None:
    plain = Engine(lm, EngineConfig(block_size=4)).generate(requests())
    tight = EngineConfig(block_size=4, checksums=True, kv_memory=Engine(lm).memory.store.bytes // 64, preemption=preemption)  # type: ignore[bad-argument-type]  # fmt: skip
    done, _ = run(Engine(lm, tight), *requests())
    for a, b in zip(done, plain, strict=True):
        same(a, b)
