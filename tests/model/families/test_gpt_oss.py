"""gpt-oss's experts as published, in blocks of 4-bit floats: opened, run and written back without becoming plain numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from orrery.model.decoder import Decoder
from orrery.model.families.gpt_oss import GPT_OSS
from orrery.model.folder import load_model, save_model
from orrery.model.lowbit.experts import QuantStack
from orrery.model.mxfp4_experts import from_rows, to_rows
from orrery.model.packed import Packed
from orrery.model.quant import dequantize

HF = {
    "vocab_size": 128, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 16, "num_local_experts": 4, "num_experts_per_tok": 2, "intermediate_size": 32, "sliding_window": 8,
}  # fmt: skip


def published(folder: Path) -> dict[str, torch.Tensor]:
    """A tiny model whose experts are stored as gpt-oss's are; returns its tensors."""
    save_model(Decoder(GPT_OSS.read(HF), seed=1), folder)
    stored = load_file(folder / "model.safetensors")
    generator = torch.Generator().manual_seed(0)
    for name in [name for name in stored if name.endswith(("gate_up_proj", "down_proj"))]:
        experts, width, out = stored.pop(name).shape
        shape = (experts, out, width // 32)
        stored[f"{name}_blocks"] = torch.randint(0, 256, (*shape, 16), dtype=torch.uint8, generator=generator)
        stored[f"{name}_scales"] = torch.randint(118, 123, shape, dtype=torch.uint8, generator=generator)
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    return stored


@pytest.mark.parametrize("gated", [True, False])
def test_rows_and_back(gated: bool) -> None:
    blocks = torch.randint(
        0, 256, (3, 8, 2, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    scales = torch.randint(100, 130, (3, 8, 2), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    again = from_rows(to_rows(blocks, scales, gated=gated), gated=gated)
    assert torch.equal(again[0], blocks)
    assert torch.equal(again[1], scales)


def test_opens_runs_and_comes_back(tmp_path: Path) -> None:
    stored = published(tmp_path / "a")
    model = load_model(tmp_path / "a").eval()
    assert isinstance(model.get_submodule("blocks.1.mlp.experts.gate_up"), QuantStack)

    plain = Decoder(model.cfg).eval()
    state = {name: tensor for name, tensor in model.state_dict().items() if name in plain.state_dict()}
    for i in range(model.cfg.n_layers):
        for ours, theirs, gated in (("gate_up", "gate_up_proj", True), ("down", "down_proj", False)):
            name = f"model.layers.{i}.mlp.experts.{theirs}"
            rows = to_rows(stored[f"{name}_blocks"], stored[f"{name}_scales"], gated=gated)
            state[f"blocks.{i}.mlp.experts.{ours}"] = dequantize(rows, "MXFP4").transpose(1, 2)
    plain.load_state_dict(state)
    tokens = torch.arange(20)
    with torch.inference_mode():
        got, want = (m.head(m(tokens, Packed([20]))) for m in (model, plain))
    # Activations are rounded to eight bits, which sends a token here and there to another of these random experts.
    assert ((got - want).norm(dim=-1) / want.norm(dim=-1)).median() < 0.02

    save_model(model, tmp_path / "b")
    again = load_file(tmp_path / "b" / "model.safetensors")
    assert again.keys() == stored.keys()
    for name, tensor in stored.items():
        assert torch.equal(again[name], tensor), name


def test_transformers_reads_the_same_numbers(tmp_path: Path) -> None:
    integration = pytest.importorskip(
        "transformers.integrations.mxfp4", reason="the reference reading of the blocks is transformers'"
    )
    stored = published(tmp_path)
    name = "model.layers.0.mlp.experts.gate_up_proj"
    blocks, scales = stored[f"{name}_blocks"], stored[f"{name}_scales"]
    theirs = integration.convert_moe_packed_tensors(
        blocks, scales, dtype=torch.float32
    )  # (E, in, out), in turn
    ours = dequantize(to_rows(blocks, scales, gated=True), "MXFP4").transpose(1, 2)
    torch.testing.assert_close(torch.cat((theirs[..., ::2], theirs[..., 1::2]), -1), ours, atol=0, rtol=0)
