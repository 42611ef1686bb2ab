"""Every family that has a GGUF architecture: written, read again, the same network with the same numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from orrery.kit.errors import OrreryError
from orrery.kit.gguf import GgufFile, Typed, write_gguf
from orrery.model.folder import load_model, open_model
from orrery.model.gguf.read import config_of, model_of
from orrery.model.gguf.tables import BY_FAMILY
from orrery.model.gguf.tensors import numbers_of
from orrery.model.gguf.write import same, write_model
from orrery.model.packed import Packed
from orrery.model.quant import quantize
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


def rewritten(path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    """The file with other tensors, as earlier converters wrote them."""
    with GgufFile.open(path) as file:
        keys = {key: Typed(file.kinds[key], value) for key, value in file.metadata.items()}
    made = [
        (name, "F32", tuple(t.shape), lambda t=t: quantize(t, "F32").numpy()) for name, t in tensors.items()
    ]
    write_gguf(path.with_name("older.gguf"), keys, made)
    return path.with_name("older.gguf")


def stored(path: Path) -> dict[str, torch.Tensor]:
    with GgufFile.open(path) as file:
        return {name: numbers_of(file, name).clone() for name in file.tensors}


def as_2023(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Mixtral: a tensor for each expert."""
    out = {}
    for name, tensor in tensors.items():
        if "_exps" in name:
            one = name.replace("_exps", "").replace(".weight", "")
            out |= {f"{one}.{e}.weight": part.contiguous() for e, part in enumerate(tensor)}
        else:
            out[name] = tensor
    return out


def as_2024(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """DeepSeek: keys and values of the latent in one tensor."""
    out = dict(tensors)
    for name in [name for name in out if "attn_k_b" in name]:
        keys, values = out.pop(name), out.pop(name.replace("attn_k_b", "attn_v_b"))
        out[name.replace("attn_k_b", "attn_kv_b")] = torch.cat((keys.transpose(1, 2), values), 1).flatten(
            0, 1
        )
    return out


@pytest.mark.parametrize("name, older", [("mixtral", as_2023), ("deepseek-v3", as_2024)])
def test_files_of_earlier_years(name: str, older: Any, tmp_path: Path) -> None:
    make(CASES[name], tmp_path / "hf")
    model = load_model(tmp_path / "hf").eval()
    write_model(tmp_path / "model.gguf", model, kind="f32", name=name, vocabulary={})
    before = stored(tmp_path / "model.gguf")
    changed = older(before)
    assert changed.keys() != before.keys()
    with GgufFile.open(rewritten(tmp_path / "model.gguf", changed)) as file:
        torch.testing.assert_close(logits(model_of(file).eval()), logits(model), atol=1e-5, rtol=1e-5)


def test_an_encoder_but_for_its_pooler(tmp_path: Path) -> None:
    settings = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 80}
    theirs = make({"config": "BertConfig", "model": "BertModel", "settings": settings}, tmp_path / "hf")
    write_model(tmp_path / "bert.gguf", open_model(tmp_path / "hf"), kind="f32", name="bert", vocabulary={})
    with GgufFile.open(tmp_path / "bert.gguf") as file:
        model = model_of(file).eval()
        assert file.metadata["bert.attention.causal"] is False
        assert "pooler" not in "".join(file.tensors)
    assert model.pooler is None
    with torch.inference_mode():
        want = theirs(tokens(33)[None]).last_hidden_state[0]
        torch.testing.assert_close(model(tokens(33), Packed([33], causal=False)), want, atol=1e-5, rtol=1e-5)


def test_a_head_for_masked_tokens_is_not_dropped_in_silence(tmp_path: Path) -> None:
    settings = {"hidden_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 80}
    make({"config": "BertConfig", "model": "BertForMaskedLM", "settings": settings}, tmp_path / "hf")
    with pytest.raises(OrreryError, match="lm_head"):
        write_model(tmp_path / "x.gguf", open_model(tmp_path / "hf"), kind="f32", name="x", vocabulary={})
