"""Prefixes that outlive their engine: found again with equal results, refused elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from orrery.kit.errors import OrreryError
from orrery.kit.lm import GenerateRequest
from orrery.serve.engine.config import EngineConfig
from orrery.serve.engine.engine import Engine
from orrery.serve.engine.prefix_file import read_prefixes, write_prefixes
from orrery.serve.lm import LM

from .conftest import run, same


@pytest.fixture(scope="module")
def windowed(tokenizer: Any, make_model: Any) -> LM:
    model = make_model(tokenizer.vocab_size, window=9, layer_pattern=("local", "global"))
    return LM(model=model, tokenizer=tokenizer)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8", "float8"])
def test_the_next_engine_finds_what_the_last_one_cached(
    windowed: LM, requests: Any, tmp_path: Path, dtype: Any
) -> None:
    config, path = EngineConfig(block_size=4, kv_dtype=dtype), tmp_path / "cache" / "prefixes.safetensors"
    asked = requests(tenant="t")
    first = Engine(windowed, config)
    wanted = first.generate(asked)
    written = write_prefixes(first, path)
    second = Engine(windowed, config)
    assert read_prefixes(second, path) == written > 40
    second.check()
    done, _ = run(second, *asked)
    for a, b in zip(done, wanted, strict=True):
        same(a, b)
    assert [c.cached_tokens for c in done] == [(len(r.ids) - 1) // 4 * 4 for r in asked]
    assert second.generate(requests(tenant="other"))[3].cached_tokens == 0


def test_an_empty_cache_and_a_smaller_pool(windowed: LM, requests: Any, tmp_path: Path) -> None:
    path = tmp_path / "prefixes.safetensors"
    config = EngineConfig(block_size=4, token_budget=8)
    engine = Engine(windowed, config)
    assert write_prefixes(engine, path) == read_prefixes(engine, path) == 0
    engine.generate(requests())
    written = write_prefixes(engine, path)
    small = Engine(windowed, EngineConfig(block_size=4, token_budget=8, max_sequences=1))
    assert 0 < read_prefixes(small, path) < written
    small.check()
    same(small.generate(requests()[:1])[0], windowed.generate(requests()[:1])[0])


def test_what_does_not_fit_is_refused(
    windowed: LM, lm: LM, requests: Any, tmp_path: Path, make_model: Any
) -> None:
    path = tmp_path / "prefixes.safetensors"
    engine = Engine(windowed, EngineConfig(block_size=4))
    engine.generate(requests()[:1])
    write_prefixes(engine, path)
    changed = LM(
        model=make_model(lm.tokenizer.vocab_size, window=9, layer_pattern=("local", "global")),
        tokenizer=lm.tokenizer,
    )
    with torch.no_grad():
        changed.model.norm.weight.mul_(1.01)
    for other in (
        Engine(changed, EngineConfig(block_size=4)),
        Engine(windowed, EngineConfig(block_size=8)),
        Engine(windowed, EngineConfig(block_size=4, kv_dtype="int8")),
        Engine(lm, EngineConfig(block_size=4)),
    ):
        with pytest.raises(OrreryError, match="another model"):
            read_prefixes(other, path)
        assert other.stats().blocks_cached == 0
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(OrreryError):
        read_prefixes(engine, path)
    engine.add(GenerateRequest(ids=requests()[0].ids))
    for move in (write_prefixes, read_prefixes):
        with pytest.raises(OrreryError, match="under way"):
            move(engine, path)
