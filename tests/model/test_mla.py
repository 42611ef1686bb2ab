"""Latent attention: its two forms agree, it equals transformers', and its cache is the latent."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from orrery.kit.errors import OrreryError
from orrery.model.cache import Cached, KVCache
from orrery.model.config import DecoderConfig
from orrery.model.decoder import Decoder
from orrery.model.explicit import Explicit
from orrery.model.mla import MLA, Mla
from orrery.model.mlp import Mlp
from orrery.model.packed import Packed
from orrery.model.positions import Alibi, NoPosition, Rope, Yarn

WIDTHS = {"kv_lora_rank": 16, "qk_nope_head_dim": 12, "qk_rope_head_dim": 8, "v_head_dim": 10}
YARN = Yarn(factor=40.0, original_max_positions=64, mscale=1.0, mscale_all_dim=1.0)


def config(q_lora_rank: int | None = None, **options: Any) -> DecoderConfig:
    return DecoderConfig(
        **(
            {
                "vocab_size": 50,
                "d_model": 32,
                "n_layers": 2,
                "n_heads": 4,
                "attention": Mla(q_lora_rank=q_lora_rank, **WIDTHS),
                "feed_forward": Mlp(d_ff=48),
                "position": Rope(interleaved=True),
            }
            | options
        )
    )


def make(cfg: DecoderConfig, dtype: torch.dtype = torch.float32) -> MLA:
    torch.manual_seed(0)
    layer = MLA(cfg, 0)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, mean=float(parameter.ndim == 1), std=0.3)
    return layer.to(dtype).eval()


@pytest.mark.parametrize("q_lora_rank", [None, 14])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"position": Rope()},
        {"position": Rope(interleaved=True, scaling=YARN)},
        {"position": NoPosition()},
        {"attention": Mla(kv_lora_rank=7, qk_nope_head_dim=5, qk_rope_head_dim=4, v_head_dim=3)},
        {"window": 3, "layer_pattern": ("local",)},
        {"attention_softcap": 5.0},
        {"sinks": True},
        {"attention_scale": 0.3, "attention_bias": True, "output_bias": True},
    ],
    ids=lambda o: "-".join(o) or "plain",
)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_absorbed_equals_expanded(
    q_lora_rank: int | None, options: dict[str, Any], dtype: torch.dtype, tolerance: float
) -> None:
    layer = make(config(q_lora_rank, **options), dtype)
    x = torch.randn(11, 32, dtype=dtype, requires_grad=True)
    results = []
    for absorbed in (False, True):
        layer.absorbed = absorbed
        for ctx in (Packed([5, 6]), Explicit([5, 6])):
            y = layer(x, ctx)
            results.append([y, *torch.autograd.grad(y.square().sum(), [x, *layer.parameters()])])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert (a - b).abs().max() <= tolerance * max(1.0, a.abs().max().item())


def by_hand(layer: MLA, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """The equations of the paper, one head and one query at a time (no query compression, interleaved pairs)."""
    cfg = layer.cfg

    def turn(v: Tensor, t: int) -> Tensor:
        a, b = v[0::2], v[1::2]
        return torch.stack((a * cos[t] - b * sin[t], b * cos[t] + a * sin[t]), -1).flatten()

    latent, k_rope = (x @ layer.kv_a_proj_with_mqa.weight.t()).split(
        (cfg.kv_lora_rank, cfg.qk_rope_head_dim), -1
    )
    latent = latent / (latent.square().mean(-1, keepdim=True) + 1e-6).sqrt() * layer.kv_a_layernorm.weight
    out = []
    for t in range(len(x)):
        heads = []
        q_all = (layer.q_proj.weight @ x[t]).view(layer.n_heads, -1)
        w_all = layer.kv_b_proj.weight.view(layer.n_heads, -1, cfg.kv_lora_rank)
        for q, w in zip(q_all, w_all, strict=True):
            q = torch.cat((q[: cfg.qk_nope_head_dim], turn(q[cfg.qk_nope_head_dim :], t)))
            kv = latent[: t + 1] @ w.t()
            k = [torch.cat((kv[s, : cfg.qk_nope_head_dim], turn(k_rope[s], s))) for s in range(t + 1)]
            p = torch.stack([q @ k_s / 20**0.5 for k_s in k]).softmax(0)
            heads.append(p @ kv[:, cfg.qk_nope_head_dim :])
        out.append(layer.o_proj.weight @ torch.cat(heads))
    return torch.stack(out)


@pytest.mark.parametrize("absorbed", [False, True])
def test_equal_to_the_equations(absorbed: bool) -> None:
    layer = make(config(), torch.float64)
    layer.absorbed = absorbed
    x = torch.randn(6, 32, dtype=torch.float64)
    cos, sin = layer.rotary(torch.arange(6), 6)
    assert torch.allclose(layer(x, Packed([6])), by_hand(layer, x, cos, sin), atol=1e-10)


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("q_lora_rank", [None, 14])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("absorbed", [False, True])
def test_equal_to_transformers(version: int, q_lora_rank: int | None, scaled: bool, absorbed: bool) -> None:
    transformers = pytest.importorskip("transformers", reason="the parity test needs transformers")
    from transformers.models.deepseek_v2 import modeling_deepseek_v2 as v2
    from transformers.models.deepseek_v3 import modeling_deepseek_v3 as v3

    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": 10_000.0}
    if scaled:
        rope |= {"rope_type": "yarn", "factor": 40.0, "original_max_position_embeddings": 64}
        rope |= {"mscale": 1.0, "mscale_all_dim": 1.0, "beta_fast": 32, "beta_slow": 1}
    shape = {
        "hidden_size": 32,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "q_lora_rank": q_lora_rank,
    }
    config_class = transformers.DeepseekV2Config if version == 2 else transformers.DeepseekV3Config
    their_config = config_class(**shape, **WIDTHS, rope_parameters=rope, attn_implementation="eager")
    if version == 2:
        theirs, rotary = v2.DeepseekV2Attention(their_config, 0), v2.DeepseekV2RotaryEmbedding(their_config)
    else:
        theirs, rotary = v3.DeepseekV3Attention(their_config, 0), v3.DeepseekV3RotaryEmbedding(their_config)
    layer = make(config(q_lora_rank, position=Rope(interleaved=True, scaling=YARN if scaled else None)))
    layer.absorbed = absorbed
    theirs.load_state_dict(layer.state_dict())

    x = torch.randn(9, 32)
    mask = torch.full((9, 9), -torch.inf).triu(1)[None, None]
    with torch.no_grad():
        tables = rotary(x[None], torch.arange(9)[None])
        y = theirs(hidden_states=x[None], position_embeddings=tables, attention_mask=mask)[0][0]
        assert torch.allclose(layer(x, Packed([9])), y, atol=2e-5)


def test_yarn_multiplies_the_scale_by_mscale_squared() -> None:
    assert make(config()).scale == pytest.approx(20**-0.5)
    assert make(config(position=Rope(scaling=YARN))).scale == pytest.approx(20**-0.5 * 1.368888**2, rel=1e-6)
    plain = Yarn(factor=40.0, original_max_positions=64)
    assert make(config(position=Rope(scaling=plain))).scale == pytest.approx(20**-0.5)
    assert make(config(position=Rope(scaling=YARN), attention_scale=0.5)).scale == 0.5


@pytest.mark.parametrize("absorbed", [False, True])
def test_generation_from_the_cache_equals_the_whole_pass(absorbed: bool) -> None:
    model = Decoder(config(q_lora_rank=14, position=Rope(interleaved=True, scaling=YARN)), seed=3).eval()
    for block in model.blocks:
        block.attn.absorbed = absorbed
    tokens = torch.randint(50, (12,))
    with torch.no_grad():
        whole = model(tokens, Packed([12]))
        cache = KVCache(model, rows=1, capacity=16)
        steps = [(0, 5), (5, 4), (9, 1), (10, 1), (11, 1)]
        parts = [model(tokens[s : s + n], Cached(cache, [(0, s, n)])) for s, n in steps]
    assert torch.allclose(torch.cat(parts), whole, atol=1e-5)


def test_the_absorbed_cache_is_the_latent() -> None:
    """Per token and layer: r + R numbers, against H * (N + R + V) for keys and values written out."""
    model = Decoder(config()).eval()
    sizes = {}
    for absorbed in (False, True):
        for block in model.blocks:
            block.attn.absorbed = absorbed
        sizes[absorbed] = KVCache(model, rows=3, capacity=10).bytes
    assert sizes[False] == 2 * 3 * 10 * 4 * (12 + 8 + 10) * 4
    assert sizes[True] == 2 * 3 * 10 * (16 + 8) * 4
    # DeepSeek-V3: 61 layers of 512 + 64 numbers in bfloat16
    published = Mla(
        q_lora_rank=1536, kv_lora_rank=512, qk_nope_head_dim=128, qk_rope_head_dim=64, v_head_dim=128
    )
    with torch.device("meta"):
        layer = MLA(config(attention=published), 0)
    layer.absorbed = True
    assert 61 * layer.cache_spec().bytes_per_token(torch.bfloat16) == 70_272


def test_the_absorbed_form_hands_over_one_shared_head() -> None:
    seen: dict[str, Any] = {}

    class Looking(Packed):
        def attend(self, site: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            seen.update(q=q.shape, k=k, v=v, scale=site.scale)
            return super().attend(site, q, k, v)

    layer = make(config())
    layer.absorbed = True
    layer(torch.randn(7, 32), Looking([7]))
    assert seen["q"] == (7, 4, 24) and seen["k"].shape == (7, 1, 24)
    assert seen["v"] is seen["k"]
    assert seen["scale"] == 20**-0.5  # of the expanded head: the scores are the same


def test_parameter_names_are_those_of_hugging_face() -> None:
    names = {"kv_a_proj_with_mqa", "kv_a_layernorm", "kv_b_proj", "o_proj"}
    plain = {n.split(".")[0] for n in make(config()).state_dict()}
    assert plain == names | {"q_proj"}
    compressed = {n.split(".")[0] for n in make(config(14)).state_dict()}
    assert compressed == names | {"q_a_proj", "q_a_layernorm", "q_b_proj"}


@pytest.mark.parametrize(
    "options", [{"qk_norm": True}, {"n_kv_heads": 2}, {"position": Alibi()}], ids=lambda o: next(iter(o))
)
def test_what_latent_attention_does_not_have(options: dict[str, Any]) -> None:
    with pytest.raises(OrreryError, match="latent attention"):
        MLA(config(**options), 0)


@pytest.mark.parametrize("absorbed", [False, True])
def test_full_graph_compile(absorbed: bool) -> None:
    layer = make(config(q_lora_rank=14))
    layer.absorbed = absorbed
    torch._dynamo.reset()

    def run(x: Tensor) -> Tensor:
        return layer(x, Packed([4, 3]))

    x = torch.randn(7, 32)
    assert torch.allclose(torch.compile(run, fullgraph=True, backend="aot_eager")(x), run(x), atol=1e-5)
