"""Every family that has a GGUF architecture: written, read again, the same network with the same numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from orrery.kit.errors import OrreryError
from orrery.kit.gguf import GgufFile
from orrery.model.folder import load_model
from orrery.model.gguf.read import config_of, model_of
from orrery.model.gguf.tables import BY_FAMILY
from orrery.model.gguf.write import same, write_model
from orrery.model.packed import Packed
from tests.model.families.cases import CASES, FULL, LINEAR, LLAMA3, SLIDING, case, text_case
from tests.model.families.harness import make, tokens

transformers = pytest.importorskip("transformers", reason="the tiny models are transformers'")

VARIANTS = {
    name: case
    for name, case in CASES.items()
    if getattr(transformers, case["config"]).model_type in BY_FAMILY
}
# As published: what llama.cpp has no key for is what every size of the family has.
VARIANTS |= {
    "qwen3-moe-as-published": case(
        "Qwen3Moe",
        head_dim=16,
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=24,
        norm_topk_prob=True,
    ),
    "llama3-as-published": case(
        "Llama", rope_parameters={**LLAMA3, "factor": 32.0, "original_max_position_embeddings": 8192}
    ),
    "gemma2-as-published": case("Gemma2", head_dim=16, sliding_window=8, query_pre_attn_scalar=16),
    "gemma3-as-published": text_case(
        "Gemma3", head_dim=16, num_hidden_layers=8, sliding_window=8, query_pre_attn_scalar=16
    ),
    "gemma3-4b-as-published": text_case(
        "Gemma3",
        head_dim=16,
        num_hidden_layers=7,
        sliding_window=8,
        query_pre_attn_scalar=16,
        rope_parameters={
            FULL: {**LINEAR, "factor": 8.0, "rope_theta": 1e6},
            SLIDING: {"rope_type": "default", "rope_theta": 1e4},
        },
    ),
}
# What an architecture has no key for, and what the refusal names.
REFUSED: dict[str, str] = {
    "qwen3-moe": "normalize_top_k=False",
    "llama-dynamic": "no keys for rope scaling 'dynamic'",
    "llama-gelu": "gelu_tanh",
    "mistral": "window = 8",
    "qwen3-windows": "window = 8",
    "qwen2-windows": "window = 8",
    "gemma-biases": "attention_bias = True",
    "gemma2": "attention_scale = 0.204124",
    "gemma2-uncapped": "attention_softcap = None",
    "gemma3": "attention_scale = 0.204124",
    "gemma3-linear": "layer_pattern",
    "gpt2-variants": "attention_scale = 1.0",
    "gpt-neox-serial": "attention_bias = False",
}


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        return model.head(model(tokens(33), Packed([33])))


@pytest.mark.parametrize("name", VARIANTS)
def test_written_and_read_again(name: str, tmp_path: Path) -> None:
    make(VARIANTS[name], tmp_path / "hf")
    model = load_model(tmp_path / "hf").eval()
    path = tmp_path / "model.gguf"
    if name in REFUSED:
        with pytest.raises(OrreryError, match=REFUSED[name]):
            write_model(path, model, kind="f32", name=name, vocabulary={})
        assert not path.exists()
        return
    write_model(path, model, kind="f32", name=name, vocabulary={})
    with GgufFile.open(path) as file:
        cfg = config_of(file)[1]
        again = model_of(file).eval()
    assert same(cfg) == same(model.cfg)
    for key, tensor in model.state_dict().items():
        torch.testing.assert_close(again.state_dict()[key], tensor, atol=1e-6, rtol=1e-6, msg=key)
    torch.testing.assert_close(logits(again), logits(model), atol=1e-4, rtol=1e-4)
