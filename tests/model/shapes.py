"""One tiny seeded decoder for every kind of layer, for tests that must hold for all of them."""

from __future__ import annotations

from typing import Any

import torch

from orrery.model import Decoder, DecoderConfig
from orrery.model.config import GatedDelta, Mamba2
from orrery.model.mla import Mla
from orrery.model.mlp import Mlp
from orrery.model.moe import Moe
from orrery.model.positions import Alibi, Learned, Llama3, NoPosition, Rope, Sinusoidal, T5Relative, Yarn

VOCAB = 61
LATENT = Mla(kv_lora_rank=12, qk_nope_head_dim=6, qk_rope_head_dim=4, v_head_dim=8)
STATE_SPACE = Mamba2(n_heads=6, head_dim=4, state_dim=5, n_groups=2, chunk=4)
DELTA_RULE = GatedDelta(n_key_heads=2, n_value_heads=4, key_dim=4, value_dim=6, chunk=4)

SHAPES: dict[str, dict[str, Any]] = {
    "gqa": {},
    "mha": {"n_kv_heads": None},
    "mqa": {"n_kv_heads": 1, "head_dim": 12},
    "qk-norm": {"qk_norm": True},
    "sliding-window": {"window": 3, "layer_pattern": ("local",)},
    "local-and-global": {
        "window": 3,
        "layer_pattern": ("local", "local", "global"),
        "local_position": Rope(theta=100.0),
    },
    "alibi": {"position": Alibi()},
    "alibi-window": {"position": Alibi(), "window": 4, "layer_pattern": ("local", "global")},
    "learned": {"position": Learned(max_positions=64)},
    "sinusoidal": {"position": Sinusoidal()},
    "t5": {"position": T5Relative(buckets=8, max_distance=16)},
    "no-position": {"position": NoPosition()},
    "partial-rope": {"position": Rope(fraction=0.5, interleaved=True)},
    "yarn": {"position": Rope(scaling=Yarn(factor=4.0, original_max_positions=16))},
    "llama3-rope": {"position": Rope(scaling=Llama3(factor=8.0, original_max_positions=32))},
    "softcap": {"attention_softcap": 2.0, "logit_softcap": 3.0},
    "sinks": {"sinks": True},
    "sinks-window": {"sinks": True, "window": 3, "layer_pattern": ("local", "global")},
    "layernorm": {"norm": "layernorm"},
    "unit-offset": {"norm_unit_offset": True},
    "post-norm": {"placement": "post"},
    "sandwich": {"placement": "sandwich"},
    "parallel": {"parallel": True},
    "biases": {"attention_bias": True, "output_bias": True},
    "scales": {"embedding_scale": 4.0, "logit_scale": 0.5, "attention_scale": 0.2},
    "untied": {"tied": False},
    "plain-mlp": {"feed_forward": Mlp(d_ff=40, activation="gelu", gated=False, bias=True)},
    "latent": {"attention": LATENT, "n_kv_heads": None},
    "moe-softmax": {"feed_forward": Moe(n_experts=4, top_k=2, d_ff=24)},
    "moe-sigmoid": {
        "feed_forward": Moe(
            n_experts=6, top_k=2, d_ff=16, router="sigmoid", shared_experts=1, bias_update=0.01
        ),
        "first_dense_layers": 1,
        "dense_feed_forward": Mlp(d_ff=40),
    },
    "state-space": {"recurrent": STATE_SPACE, "layer_pattern": ("recurrent",), "sublayers": "one"},
    "delta-rule": {"recurrent": DELTA_RULE, "layer_pattern": ("recurrent", "global"), "attention_gate": True},
    "hybrid": {
        "recurrent": STATE_SPACE,
        "layer_pattern": ("recurrent", "feed_forward", "global"),
        "sublayers": "one",
        "position": NoPosition(),
        "feed_forward": Moe(n_experts=4, top_k=2, d_ff=24, activation="relu2", gated=False, shared_width=40),
    },
}


def shape(name: str, **changes: Any) -> DecoderConfig:
    """The config of that name."""
    base: dict[str, Any] = {
        "vocab_size": VOCAB, "d_model": 32, "n_layers": 3, "n_heads": 4, "n_kv_heads": 2,
        "feed_forward": Mlp(d_ff=40), "max_positions": 64,
    }  # fmt: skip
    return DecoderConfig(**(base | SHAPES[name] | changes))


def tiny(name: str = "gqa", *, seed: int = 0, dtype: torch.dtype = torch.float32, **changes: Any) -> Decoder:
    """The model of that name in eval mode, every weight (norms, biases, sinks too) moved off its starting value."""
    model = Decoder(shape(name, **changes), seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.15)
    return model.to(dtype).eval()


def ids(n: int, seed: int = 0) -> torch.Tensor:
    """n token ids."""
    return torch.randint(VOCAB, (n,), generator=torch.Generator().manual_seed(seed))
