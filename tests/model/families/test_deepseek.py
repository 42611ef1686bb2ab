"""What transformers' DeepSeek models leave out: multi-token modules, and weights in blocks of eight-bit floats."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from orrery.model.decoder import Decoder
from orrery.model.families.deepseek import DEEPSEEK_V3
from orrery.model.folder import load_model, save_model
from orrery.model.packed import Packed
from tests.model.families.cases import LATENT, SMALL


def tiny(mtp_heads: int) -> Decoder:
    hf = {
        **SMALL,
        **LATENT,
        "vocab_size": 128,
        "n_group": 4,
        "topk_group": 2,
        "num_nextn_predict_layers": mtp_heads,
    }
    return Decoder(DEEPSEEK_V3.read(hf), seed=3)


def test_multi_token_modules_are_kept_under_their_published_names(tmp_path: Path) -> None:
    model = tiny(mtp_heads=1)
    save_model(model, tmp_path / "a")
    stored = load_file(tmp_path / "a" / "model.safetensors")
    last = f"model.layers.{model.cfg.n_layers}"
    for part in (
        "enorm", "hnorm", "eh_proj", "shared_head.norm", "input_layernorm", "self_attn.kv_b_proj",
        "mlp.experts.7.up_proj", "mlp.gate",
    ):  # fmt: skip
        assert f"{last}.{part}.weight" in stored
    # as published, every module also carries copies of the embedding and the head
    stored[f"{last}.embed_tokens.weight"] = stored["model.embed_tokens.weight"].clone()
    stored[f"{last}.shared_head.head.weight"] = stored["lm_head.weight"].clone()
    save_file(stored, tmp_path / "a" / "model.safetensors", metadata={"format": "pt"})
    again = load_model(tmp_path / "a")
    assert again.cfg.mtp_heads == 1
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name


def test_a_file_without_the_modules_opens_as_a_model_without(tmp_path: Path) -> None:
    model = tiny(mtp_heads=0)
    save_model(model, tmp_path / "a")
    config = (tmp_path / "a" / "config.json").read_text()
    (tmp_path / "a" / "config.json").write_text(
        config.replace('"num_nextn_predict_layers": 0', '"num_nextn_predict_layers": 1')
    )
    assert load_model(tmp_path / "a").cfg == replace(model.cfg, mtp_heads=0)


def test_blocks_of_eight_bit_floats_are_read_as_numbers(tmp_path: Path) -> None:
    """weight = float8 number * the scale of its block of 128 x 128 (DeepSeek-V3, section 3.3.2)."""
    model = tiny(mtp_heads=0)
    save_model(model, tmp_path / "a")
    stored = load_file(tmp_path / "a" / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"  # 80 x 48: one block
    scale = stored[name].abs().max() / 448
    eight = (stored[name] / scale).to(torch.float8_e4m3fn)
    stored[name], stored[f"{name}_scale_inv"] = eight, scale.reshape(1, 1)
    save_file(stored, tmp_path / "a" / "model.safetensors", metadata={"format": "pt"})
    again = load_model(tmp_path / "a")
    got = again.get_parameter("blocks.0.mlp.up_proj.weight")
    torch.testing.assert_close(got, eight.float() * scale, atol=0, rtol=0)
    assert again(torch.arange(5), Packed([5])).dtype == torch.float32
