"""What the table of cases does not show of families with recurrent layers: long inputs, routing biases, spellings of configs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from orrery.kit.errors import OrreryError
from orrery.model import Decoder, DecoderConfig, Packed, load_model, save_model
from orrery.model.cache import Cached, KVCache
from orrery.model.config import Mamba2
from orrery.model.families import family_of
from orrery.model.families.granite_hybrid import GRANITE_HYBRID
from orrery.model.families.mamba2 import MAMBA2
from orrery.model.families.nemotron_h import NEMOTRON_H
from orrery.model.families.qwen3_next import QWEN3_NEXT
from orrery.model.mlp import Mlp
from orrery.model.moe import Moe
from orrery.model.positions import NoPosition
from tests.model.families.cases import CASES
from tests.model.families.harness import check_written_back, make, stored, tokens

pytest.importorskip("transformers", reason="the reference models are transformers'")


def test_many_chunks_of_the_delta_rule(tmp_path: Path) -> None:
    """Their chunks and ours are of 64 tokens: 150 tokens whole, and 100 and then 50."""
    theirs = make(CASES["qwen3-next"], tmp_path)
    model, ids = load_model(tmp_path), tokens(150)
    cache = KVCache(model, rows=1, capacity=150)
    with torch.no_grad():
        want = theirs(ids[None]).logits[0]
        whole = model.head(model(ids, Packed([150])))
        parts = [
            model.head(model(ids[a:b], Cached(cache, [(0, a, b - a)]))) for a, b in ((0, 100), (100, 150))
        ]
    torch.testing.assert_close(whole, want, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(torch.cat(parts), want, atol=1e-4, rtol=1e-4)


def test_the_bias_of_the_router_chooses(tmp_path: Path) -> None:
    """Nemotron 3 with a bias that moves the choice, and groups of experts."""
    case = CASES["nemotron-3"] | {
        "settings": {**CASES["nemotron-3"]["settings"], "n_group": 3, "topk_group": 2}
    }
    theirs = make(case, tmp_path / "model")
    file = tmp_path / "model/model.safetensors"
    tensors = load_file(file)
    for name in [name for name in tensors if name.endswith("e_score_correction_bias")]:
        tensors[name] = torch.linspace(0.5, -0.5, 6)
    with torch.no_grad():
        for name, buffer in theirs.named_buffers():
            if name.endswith("e_score_correction_bias"):
                buffer.copy_(torch.linspace(0.5, -0.5, 6))
    save_file(tensors, file, metadata={"format": "pt"})
    model = load_model(tmp_path / "model")
    assert (
        model.blocks[1].mlp.router.expert_bias is not None
        and model.blocks[1].mlp.router.expert_bias[0] == 0.5
    )
    with torch.no_grad():
        want = theirs(tokens(33)[None]).logits[0]
        torch.testing.assert_close(model.head(model(tokens(33), Packed([33]))), want, atol=1e-4, rtol=1e-4)
    check_written_back(theirs, tmp_path / "model", tmp_path / "again")


def test_prediction_heads_in_a_file_are_left_out(tmp_path: Path) -> None:
    make(CASES["qwen3-next"], tmp_path)
    want = load_model(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    save_file(
        {**tensors, "mtp.fc.weight": torch.ones(2, 2)},
        tmp_path / "model.safetensors",
        metadata={"format": "pt"},
    )
    got = load_model(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(got.parameters(), want.parameters(), strict=True))


OURS: dict[str, dict[str, Any]] = {
    "mamba2": {"layer_pattern": ("recurrent",), "feed_forward": Mlp(d_ff=999), "n_heads": 4},
    "nemotron_h": {
        "layer_pattern": ("recurrent", "dense_feed_forward", "global", "feed_forward"),
        "position": NoPosition(),
        "dense_feed_forward": Mlp(d_ff=40, gated=False, activation="relu2"),
        "feed_forward": Moe(
            n_experts=4, top_k=2, d_ff=8, activation="relu2", gated=False, router="sigmoid", shared_experts=2, bias_update=0.01
        ),
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", OURS)
def test_networks_of_our_own_are_saved_as_their_family(kind: str, tmp_path: Path) -> None:
    """However their config is spelt; and read back with equal tensors."""
    ssm = Mamba2(n_heads=8, head_dim=8, state_dim=6, n_groups=2, chunk=4)
    cfg = DecoderConfig(
        vocab_size=50, d_model=32, n_layers=4, recurrent=ssm, sublayers="one", max_positions=77, **OURS[kind]
    )
    model = Decoder(cfg).eval()
    save_model(model, tmp_path / "saved")
    assert json.loads((tmp_path / "saved/config.json").read_text())["model_type"] == kind
    again = load_model(tmp_path / "saved")
    assert again.cfg.max_positions == 77
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), model.parameters(), strict=True))
    ids = tokens(20) % 50
    with torch.no_grad():
        assert torch.equal(again(ids, Packed([20])), model(ids, Packed([20])))
    assert all(tensor.is_contiguous() for tensor in stored(tmp_path / "saved").values())


def test_what_a_family_has_no_word_for() -> None:
    ssm = Mamba2(n_heads=8, head_dim=8, state_dim=6)
    with_attention = DecoderConfig(
        d_model=32, recurrent=ssm, layer_pattern=("recurrent", "global"), sublayers="one"
    )
    assert family_of(with_attention) is None  # rotary positions in a layer of its own
    assert not MAMBA2.expresses(with_attention) and not NEMOTRON_H.expresses(with_attention)
    assert (
        family_of(DecoderConfig(d_model=32, recurrent=ssm, layer_pattern=("recurrent", "global"))) is not None
    )


@pytest.mark.parametrize("upper", [{"__float__": "Infinity"}, "Infinity", float("inf")])
def test_time_step_limits_as_they_are_spelt(upper: Any) -> None:
    def limits(hf: dict[str, Any]) -> tuple[float, float | None]:
        ssm = MAMBA2.read(hf).recurrent
        assert isinstance(ssm, Mamba2)
        return ssm.dt_min, ssm.dt_max

    assert limits({}) == limits({"time_step_limit": [0.0, upper]}) == (0.0, None)
    assert limits({"time_step_limit": [0.001, upper]}) == (0.001, None)
    bounded = MAMBA2.read({"time_step_limit": [0.001, 0.1]})
    assert limits(MAMBA2.write(bounded)) == limits({"time_step_limit": [0.001, 0.1]}) == (0.001, 0.1)
    assert MAMBA2.read(MAMBA2.write(MAMBA2.read({"time_step_limit": [0.5, upper]}))).recurrent.dt_min == 0.5
    assert "time_step_limit" not in MAMBA2.write(MAMBA2.read({}))


def test_layers_as_they_are_spelt() -> None:
    old = NEMOTRON_H.read({"hybrid_override_pattern": "ME*-"})
    new = NEMOTRON_H.read({"layers_block_type": ["linear_attention", "moe", "full_attention", "mlp"]})
    assert old == new == NEMOTRON_H.read({"layers_block_type": ["mamba", "moe", "attention", "mlp"]})
    assert old.layer_pattern == ("recurrent", "feed_forward", "global", "dense_feed_forward")
    every_fourth = QWEN3_NEXT.read({"num_hidden_layers": 8})
    assert every_fourth.layer_pattern == (*("recurrent",) * 3, "global") * 2
    whole_heads = QWEN3_NEXT.read({"partial_rotary_factor": 1.0, "num_hidden_layers": 8})
    assert QWEN3_NEXT.read(QWEN3_NEXT.write(whole_heads)).position.fraction == 1.0


@pytest.mark.parametrize(
    ("family", "hf", "message"),
    [
        (NEMOTRON_H, {"hybrid_override_pattern": "MX"}, "layers of the kind .'X'."),
        (NEMOTRON_H, {"hybrid_override_pattern": "ME", "mlp_bias": True}, "known are experts without biases"),
        (NEMOTRON_H, {"hybrid_override_pattern": "M-", "mamba_hidden_act": "gelu"}, "known is silu"),
        (QWEN3_NEXT, {"mlp_only_layers": [1]}, "known are experts in every layer"),
        (QWEN3_NEXT, {"layer_types": ["sliding_attention"], "num_hidden_layers": 1}, "sliding_attention"),
        (
            GRANITE_HYBRID,
            {"layer_types": ["conv"], "hidden_size": 64, "num_hidden_layers": 1},
            "layers of the kind .'conv'.",
        ),
        (MAMBA2, {"num_heads": 6, "n_groups": 4}, "n_heads=6 must be a multiple of n_groups=4"),
    ],
)
def test_configs_that_cannot_be_opened(family: Any, hf: dict[str, Any], message: str) -> None:
    with pytest.raises(OrreryError, match=message):
        family.read(hf)
