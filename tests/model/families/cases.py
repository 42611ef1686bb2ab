"""One or more tiny models of each family, as transformers makes them; variants that take another path have their own row."""

from __future__ import annotations

from typing import Any

SMALL: dict[str, Any] = {
    "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 80, "max_position_embeddings": 128,
}  # fmt: skip


def case(name: str, **settings: Any) -> dict[str, Any]:
    """A causal model whose classes are called <name>Config and <name>ForCausalLM."""
    return {"config": f"{name}Config", "model": f"{name}ForCausalLM", "settings": {**SMALL, **settings}}


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
}
