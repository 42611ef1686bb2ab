"""QLoRA end to end: a GGUF file stays in its blocks while an adapter learns beside it, is saved, and is served beside the same file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from orrery.data.batch import Batch
from orrery.kit.lm import GenerateRequest, Sampling
from orrery.model.adapters import AdapterSlots, Lora, new_adapter
from orrery.model.adapters.folder import load_adapter, save_adapter
from orrery.model.lowbit import QuantEmbedding, QuantLinear
from orrery.serve.adapters import Adapters
from orrery.serve.convert import convert
from orrery.serve.engine.config import EngineConfig
from orrery.serve.engine.engine import Engine
from orrery.serve.lm import LM
from orrery.train.objectives import CausalLM
from orrery.train.objectives.apply import compute
from orrery.train.optim.build import build_optimizer
from orrery.train.optim.config import AdamW
from tests.serve.conftest import lm, save_lm, tiny_model, tokenizer

__all__ = ["lm", "save_lm", "tokenizer"]


@pytest.mark.parametrize(("kind", "width"), [("q8_0", 32), ("q4_k_m", 256)])
def test_an_adapter_learns_beside_a_file_s_blocks(
    kind: str, width: int, lm: LM, save_lm: Callable[[LM, Path], Path], tmp_path: Path
) -> None:
    small = LM(model=tiny_model(lm.tokenizer.vocab_size, d_model=width), tokenizer=lm.tokenizer)
    convert(save_lm(small, tmp_path / "base"), tmp_path / "base.gguf", kind=kind)
    base = LM.load(tmp_path / "base.gguf")
    model = base.model.requires_grad_(False)
    kinds = {m.weight_kind for m in model.modules() if isinstance(m, QuantLinear | QuantEmbedding)}
    assert kinds & {"Q8_0", "Q4_K"} and isinstance(model.embed, QuantEmbedding)
    blocks = model.blocks[0].attn.q_proj.blocks()
    adapter = new_adapter(model, Lora(rank=4, alpha=8.0, dora=kind == "q8_0"))
    slots = AdapterSlots.of(model)
    slots.default = slot = slots.add(adapter)
    ids = torch.tensor(lm.tokenizer.encode("the cat sat on the mat. the cat sat."))
    batch = Batch(tokens=ids[:-1], targets=ids[1:], weights=torch.ones(len(ids) - 1), lengths=(len(ids) - 1,))
    optimizer, losses = build_optimizer(adapter, AdamW(lr=2e-2)), []
    for _ in range(15):
        optimizer.zero_grad()
        mean = compute(CausalLM(), model, batch).mean()
        mean.backward()
        optimizer.step()
        losses.append(mean.item())
    assert losses[-1] < 0.8 * losses[0], losses
    assert torch.equal(blocks, slots.model.get_submodule("blocks.0.attn.q_proj").base.blocks())  # type: ignore[missing-attribute]
    request = GenerateRequest(
        ids=ids[:6].tolist(), max_tokens=6, ignore_eos=True, sampling=Sampling(temperature=0)
    )
    (wanted,) = base.generate([request])
    save_adapter(adapter, model, tmp_path / "adapter")
    slots.remove(slot)
    Adapters.of(model).add("learned", load_adapter(tmp_path / "adapter", model))
    (said,) = Engine(base, EngineConfig()).generate([replace(request, adapter="learned")])
    assert said.ids == wanted.ids != base.generate([request])[0].ids
