"""One or more tiny models of each family, as transformers makes them; variants that take another path have their own row."""

from __future__ import annotations

from typing import Any

SMALL: dict[str, Any] = {
    "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 80, "max_position_embeddings": 128,
}  # fmt: skip


LATENT: dict[str, Any] = {
    "num_key_value_heads": 4, "q_lora_rank": 24, "kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8,
    "v_head_dim": 8, "n_routed_experts": 8, "num_experts_per_tok": 3, "moe_intermediate_size": 16,
    "first_k_dense_replace": 1, "n_shared_experts": 2, "routed_scaling_factor": 1.5,
}  # fmt: skip


def case(name: str, **settings: Any) -> dict[str, Any]:
    """A causal model whose classes are called <name>Config and <name>ForCausalLM."""
    return {"config": f"{name}Config", "model": f"{name}ForCausalLM", "settings": {**SMALL, **settings}}


def bare(name: str, **settings: Any) -> dict[str, Any]:
    """The same without the settings that attention and feed-forwards share."""
    return {"config": f"{name}Config", "model": f"{name}ForCausalLM", "settings": settings}


MAMBA2: dict[str, Any] = {
    "hidden_size": 48, "num_hidden_layers": 3, "num_heads": 12, "head_dim": 8, "state_size": 10, "n_groups": 3, "chunk_size": 8,
}  # fmt: skip
GRANITE_4: dict[str, Any] = {
    "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 24,
    "shared_intermediate_size": 40, "mamba_n_heads": 12, "mamba_d_state": 10, "mamba_n_groups": 2, "mamba_chunk_size": 8,
    "embedding_multiplier": 6.0, "residual_multiplier": 0.22, "attention_multiplier": 0.1, "logits_scaling": 3.0,
}  # fmt: skip
NEMOTRON: dict[str, Any] = {
    "hidden_size": 48, "mamba_num_heads": 8, "mamba_head_dim": 6, "ssm_state_size": 10, "n_groups": 2, "chunk_size": 8,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "intermediate_size": 80, "n_routed_experts": 6,
    "num_experts_per_tok": 2, "moe_intermediate_size": 24, "moe_shared_expert_intermediate_size": 40,
    "routed_scaling_factor": 2.5,
}  # fmt: skip


CASES: dict[str, dict[str, Any]] = {
    "llama": case("Llama"),
    "llama-biases": case("Llama", attention_bias=True, mlp_bias=True, tie_word_embeddings=True),
    "qwen3": case("Qwen3", head_dim=16),
    "mixtral": case("Mixtral", num_local_experts=4, num_experts_per_tok=2),
    "qwen3-moe": case(
        "Qwen3Moe",
        head_dim=16,
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=24,
        decoder_sparse_step=1,
    ),
    "qwen2-moe": case(
        "Qwen2Moe",
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=24,
        shared_expert_intermediate_size=40,
    ),
    "gpt-oss": case(
        "GptOss",
        head_dim=16,
        num_local_experts=4,
        num_experts_per_tok=2,
        intermediate_size=24,
        sliding_window=8,
    ),
    "deepseek-v2": case("DeepseekV2", **LATENT, topk_method="greedy"),
    "deepseek-v2-groups": case(
        "DeepseekV2",
        **LATENT | {"q_lora_rank": None},
        topk_method="group_limited_greedy",
        n_group=4,
        topk_group=2,
    ),
    "deepseek-v3": case("DeepseekV3", **LATENT, n_group=4, topk_group=2, num_nextn_predict_layers=0),
    "deepseek-v3-yarn": case(
        "DeepseekV3",
        **LATENT,
        n_group=1,
        topk_group=1,
        num_nextn_predict_layers=0,
        rope_parameters={
            "rope_type": "yarn",
            "rope_theta": 10_000.0,
            "factor": 4.0,
            "mscale": 1.0,
            "mscale_all_dim": 1.0,
            "original_max_position_embeddings": 16,
            "beta_fast": 32,
            "beta_slow": 1,
        },
    ),
    "mamba2": bare("Mamba2", **MAMBA2),
    "mamba2-tied": bare(
        "Mamba2",
        **{**MAMBA2, "n_groups": 1, "use_bias": True, "use_conv_bias": False, "tie_word_embeddings": True},
    ),
    "nemotron-h": bare(
        "NemotronH", **NEMOTRON, layers_block_type=["linear_attention", "mlp", "full_attention", "mlp"]
    ),
    "nemotron-3": bare(
        "NemotronH",
        **NEMOTRON,
        layers_block_type=["linear_attention", "moe", "full_attention", "moe", "linear_attention"],
    ),
    "nemotron-latent": bare(
        "NemotronH",
        **NEMOTRON,
        layers_block_type=["linear_attention", "moe", "full_attention", "mlp"],
        moe_latent_size=16,
    ),
    "granite-hybrid": bare(
        "GraniteMoeHybrid",
        **GRANITE_4,
        layer_types=["linear_attention", "full_attention", "linear_attention"],
        num_local_experts=4,
        num_experts_per_tok=2,
        position_embedding_type="rope",
        tie_word_embeddings=True,
    ),
    "granite-hybrid-dense": bare(
        "GraniteMoeHybrid",
        **GRANITE_4,
        layer_types=["linear_attention", "full_attention", "linear_attention"],
        num_local_experts=0,
    ),
    "granite-4-plain": bare(
        "GraniteMoeHybrid",
        **GRANITE_4,
        layer_types=["full_attention"] * 3,
        num_local_experts=0,
        position_embedding_type="rope",
    ),
    "qwen3-next": case(
        "Qwen3Next",
        num_hidden_layers=4,
        head_dim=16,
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=24,
        shared_expert_intermediate_size=40,
        linear_num_key_heads=2,
        linear_num_value_heads=4,
        linear_key_head_dim=8,
        linear_value_head_dim=12,
    ),
}

LINEAR = {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 4.0}
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 10_000.0, "factor": 4.0}
YARN = {
    "rope_type": "yarn", "rope_theta": 10_000.0, "factor": 4.0, "original_max_position_embeddings": 16, "beta_fast": 8.0,
    "beta_slow": 1.0,
}  # fmt: skip
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 10_000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}  # fmt: skip


def longrope(pairs: int) -> dict[str, Any]:
    """Factors for so many pairs of dimensions; beyond 24 tokens the long ones count."""
    return {
        "rope_type": "longrope", "rope_theta": 10_000.0, "original_max_position_embeddings": 24,
        "short_factor": [1.0 + 0.1 * i for i in range(pairs)], "long_factor": [1.5 + 0.7 * i for i in range(pairs)],
    }  # fmt: skip


def text_case(name: str, **settings: Any) -> dict[str, Any]:
    """One whose config class is called <name>TextConfig."""
    return {**case(name, **settings), "config": f"{name}TextConfig"}


SLIDING, FULL = "sliding_attention", "full_attention"
GPT2 = {
    "n_embd": 48, "n_layer": 3, "n_head": 4, "n_positions": 128, "hidden_size": 48, "num_hidden_layers": 3,
    "num_attention_heads": 4, "max_position_embeddings": 128,
}  # fmt: skip
GPT2_CLASSES = {"config": "GPT2Config", "model": "GPT2LMHeadModel"}

CASES |= {
    "llama-linear": case("Llama", rope_parameters=LINEAR),
    "llama-dynamic": {**case("Llama", rope_parameters=DYNAMIC, max_position_embeddings=24), "angles": "by length"},
    "llama-yarn": case("Llama", rope_parameters=YARN, head_dim=16),
    "llama-llama3": case("Llama", rope_parameters=LLAMA3, num_key_value_heads=1),
    "llama-gelu": case("Llama", hidden_act="gelu_new", num_key_value_heads=4),
    "mistral": case("Mistral", sliding_window=8),
    "mistral-full": case("Mistral", sliding_window=None, head_dim=8),
    "ministral": case("Ministral", head_dim=16, sliding_window=8, layer_types=[FULL, SLIDING, SLIDING]),
    "ministral-full": case("Ministral", head_dim=16, sliding_window=8, layer_types=[FULL] * 3, tie_word_embeddings=True),
    "ministral3": case(
        "Ministral3", head_dim=16, rope_parameters={**YARN, "mscale": 1.0, "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.1}
    ),
    "ministral3-window": case(
        "Ministral3", head_dim=16, sliding_window=8, rope_parameters={**YARN, "llama_4_scaling_beta": 0.3}
    ),
    "qwen2": case("Qwen2"),
    "qwen2-windows": case("Qwen2", use_sliding_window=True, sliding_window=8, max_window_layers=1, tie_word_embeddings=True),
    "qwen3-windows": case(
        "Qwen3", head_dim=16, use_sliding_window=True, sliding_window=8, layer_types=[SLIDING, FULL, SLIDING], attention_bias=True
    ),
    "qwen3-yarn": case("Qwen3", head_dim=16, rope_parameters=YARN, tie_word_embeddings=True),
    "gemma": case("Gemma", head_dim=16),
    "gemma-biases": case("Gemma", head_dim=16, attention_bias=True, num_key_value_heads=1, tie_word_embeddings=False),
    "gemma2": case("Gemma2", head_dim=16, sliding_window=8, query_pre_attn_scalar=24),
    "gemma2-uncapped": case(
        "Gemma2", head_dim=16, sliding_window=8, attn_logit_softcapping=None, final_logit_softcapping=None
    ),
    "gemma3": text_case("Gemma3", head_dim=16, num_hidden_layers=8, sliding_window=8, query_pre_attn_scalar=24),
    "gemma3-linear": text_case(
        "Gemma3", head_dim=16, sliding_window=8, layer_types=[FULL, SLIDING, SLIDING], final_logit_softcapping=5.0,
        rope_parameters={FULL: {**LINEAR, "rope_theta": 1e6}, SLIDING: {"rope_type": "default", "rope_theta": 500.0}},
    ),
    "phi": case("Phi", num_key_value_heads=4),
    "phi-normed": case("Phi", qk_layernorm=True, rope_parameters={"rope_theta": 5000.0, "partial_rotary_factor": 0.34}),
    "phi3": case("Phi3", pad_token_id=0),
    "phi3-window": case("Phi3", pad_token_id=0, sliding_window=8, num_key_value_heads=4),
    "phi3-longrope": {
        **case("Phi3", pad_token_id=0, original_max_position_embeddings=24, rope_parameters=longrope(6)), "angles": "by length",
    },
    "phi4-mini": {
        **case(
            "Phi3", pad_token_id=0, original_max_position_embeddings=24, tie_word_embeddings=True, hidden_size=64,
            rope_parameters={**longrope(6), "partial_rotary_factor": 0.75},
        ), "angles": "by length",
    },
    "olmo": case("Olmo"),
    "olmo-clipped": case("Olmo", clip_qkv=0.3, attention_bias=True),
    "olmo2": case("Olmo2"),
    "olmo2-biases": case("Olmo2", attention_bias=True, tie_word_embeddings=True),
    "olmo3": case("Olmo3", num_hidden_layers=5, sliding_window=8),
    "olmo3-yarn": case(
        "Olmo3", sliding_window=8, layer_types=[SLIDING, FULL, FULL],
        rope_parameters={FULL: YARN, SLIDING: {"rope_type": "default", "rope_theta": 10_000.0}},
    ),
    "smollm3": case("SmolLM3", num_hidden_layers=5, pad_token_id=0),
    "smollm3-biases": case("SmolLM3", no_rope_layers=[0, 1, 1], attention_bias=True, mlp_bias=True, pad_token_id=0),
    "smollm3-windows": case(
        "SmolLM3", no_rope_layers=[1, 0, 1], layer_types=[SLIDING, FULL, SLIDING], use_sliding_window=True, sliding_window=8,
        pad_token_id=0, rope_parameters=YARN,
    ),
    "granite": case(
        "Granite", embedding_multiplier=12.0, residual_multiplier=0.22, attention_multiplier=0.015625, logits_scaling=49.0
    ),
    "granite-biases": case("Granite", attention_bias=True, mlp_bias=True, tie_word_embeddings=True, attention_multiplier=0.3),
    "command-r": case("Cohere", num_key_value_heads=4, logit_scale=0.25),
    "command-r-plus": case("Cohere", use_qk_norm=True, logit_scale=0.8, attention_bias=True),
    "command-r7b": case("Cohere2", num_hidden_layers=5, sliding_window=8, logit_scale=0.25),
    "glm": case("Glm", head_dim=16, pad_token_id=0),
    "glm-unbiased": case("Glm", head_dim=16, pad_token_id=0, attention_bias=False, tie_word_embeddings=True),
    "glm4": case("Glm4", head_dim=16, pad_token_id=0),
    "gpt2": {**GPT2_CLASSES, "settings": GPT2},
    "gpt2-variants": {
        **GPT2_CLASSES,
        "settings": {**GPT2, "tie_word_embeddings": False, "n_inner": 80, "activation_function": "gelu", "scale_attn_weights": False},
    },
    "pythia": case("GPTNeoX", hidden_size=64, num_key_value_heads=None),
    "gpt-neox-serial": case(
        "GPTNeoX", num_key_value_heads=None, use_parallel_residual=False, attention_bias=False, tie_word_embeddings=True,
        rope_parameters={"rope_theta": 5000.0, "partial_rotary_factor": 0.5},
    ),
}  # fmt: skip
