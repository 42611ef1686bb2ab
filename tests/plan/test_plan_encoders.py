"""Encoders and encoder-decoders sized: published parameter counts, and figures worked by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from orrery.cli import app
from orrery.kit.errors import OrreryError
from orrery.model.config import DecoderConfig
from orrery.model.encoder import Encoder, EncoderConfig, MaskedLm
from orrery.model.encoder_decoder import EncoderDecoderConfig
from orrery.model.families import BY_TYPE
from orrery.model.mlp import Mlp
from orrery.plan.parameters import count_parameters
from orrery.plan.sizes import mean_seen_both_ways, size_model

BERT_LARGE = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
}


def t5(d_model: int, layers: int, heads: int, d_ff: int, d_kv: int = 64) -> dict[str, int]:
    return {"d_model": d_model, "num_layers": layers, "num_heads": heads, "d_ff": d_ff, "d_kv": d_kv}


@pytest.mark.parametrize(
    ("kind", "hf", "parameters"),
    [
        ("bert", {}, 109_482_240),
        ("bert", BERT_LARGE, 335_141_888),
        ("t5", t5(512, 6, 8, 2048), 60_506_624),
        ("t5", t5(768, 12, 12, 3072), 222_903_552),
        ("t5", t5(1024, 24, 16, 4096), 737_668_096),
        ("t5", t5(1024, 24, 32, 16_384, 128), 2_851_598_336),
        ("t5", t5(1024, 24, 128, 65_536, 128), 11_307_321_344),
        ("modernbert", {}, 149_655_232),
        # Version 1.1 small: gated feed-forwards, 8 layers a stack, and a head of its own.
        (
            "t5",
            {**t5(512, 8, 6, 1024), "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
            76_961_152,
        ),
        ("roberta", {"type_vocab_size": 1, "max_position_embeddings": 514}, 124_645_632),
        ("distilbert", {}, 66_362_880),
    ],
)
def test_published_counts(kind: str, hf: dict[str, Any], parameters: int) -> None:
    """BERT-base and -large, T5 small to 11B, ModernBERT-base with its head, T5 1.1 small, RoBERTa-base, DistilBERT."""
    assert count_parameters(BY_TYPE[kind].read(hf)).total == parameters


STACK = DecoderConfig(
    vocab_size=100, d_model=8, n_layers=2, n_heads=2, feed_forward=Mlp(d_ff=16, gated=False), max_positions=10
)


def test_components_and_forward_flops_of_an_encoder() -> None:
    """By hand: a layer has 4 * 64 + 2 * 128 matrix weights and two norms of 8; the stack one more norm."""
    cfg = EncoderConfig(stack=STACK, token_types=2, pooler=True, masked_lm=MaskedLm())
    parameters = count_parameters(cfg)
    head = 72 + (72 + 8 + 100)
    assert parameters.by_component() == {
        "embedding": 800 + 16, "attention": 512, "recurrent": 0, "feed_forward": 512, "norm": 40, "head": head,
        "multi_token": 0,
    }  # fmt: skip
    assert parameters.total == Encoder(cfg).num_parameters()
    sizes = size_model(cfg)
    attention = 2 * 4 * 8 * 10  # layers, 4 H D, tokens seen
    assert sizes.forward_flops_per_token == 2 * (512 + 512 + 40 + 800 + 64) + attention
    assert (sizes.kv_bytes_per_token, sizes.kv_bytes, sizes.weights_bytes) == (0, 0, 2 * parameters.total)
    assert (
        size_model(replace(cfg, masked_lm=None)).forward_flops_per_token == 2 * (512 + 512 + 40) + attention
    )


def test_windows_open_to_both_sides() -> None:
    """Of 5 tokens with a window of 2: 2, 3, 3, 3, 2."""
    assert mean_seen_both_ways(5, 2) == pytest.approx(13 / 5)
    assert mean_seen_both_ways(5) == mean_seen_both_ways(5, 5) == mean_seen_both_ways(5, 99) == 5
    for s in range(1, 8):
        for w in range(1, 9):
            seen = sum(abs(i - j) < w for i in range(s) for j in range(s))
            assert mean_seen_both_ways(s, w) == pytest.approx(seen / s)


def test_an_encoder_decoder_keeps_its_own_tokens_and_the_source() -> None:
    cfg = EncoderDecoderConfig(encoder=STACK, decoder=replace(STACK, n_layers=3, cross_attention=True))
    sizes = size_model(cfg, context=4)
    per_token = 2 * 3 * 8 * 2  # keys and values, layers, width, bytes
    assert sizes.kv_bytes_per_token == sizes.source_bytes_per_token == per_token
    assert sizes.kv_bytes == 2 * 4 * per_token
    encoder, decoder = 2 * (256 + 256 + 16) + 8, 3 * (2 * 256 + 256 + 24) + 8
    attention = 4 * 8 * 4 * (2 + 2 * 3)  # 4 H D, tokens seen, layers (the decoder's twice)
    assert sizes.forward_flops_per_token == (2 * (encoder + decoder + 800) + attention) / 2


def test_t5_trains_at_three_flops_a_parameter_and_token() -> None:
    """The 3 N D of GPT-3's table D.1, here without attention and with the head's product instead of the embedding."""
    sizes = size_model(BY_TYPE["t5"].read(t5(1024, 24, 128, 65_536, 128)), context=1)
    assert 3 * sizes.forward_flops_per_token / sizes.parameters.total == pytest.approx(3, rel=0.01)


def test_the_command_sizes_what_is_no_decoder(shared_data: Path) -> None:
    folder = shared_data / "model_configs"
    for name, kind, total in [
        ("bert-base-uncased", "encoder", 109_482_240),
        ("t5-small", "encoder_decoder", 60_506_624),
        ("llava-1.5-7b", "multimodal", 7_063_427_072),
    ]:
        result = CliRunner().invoke(app, ["plan", str(folder / f"{name}.json"), "--json"])
        assert result.exit_code == 0, result.output
        said = json.loads(result.stdout)
        assert (said["kind"], said["parameters"]["total"], said["parameters"]["active"]) == (
            kind,
            total,
            total,
        )
        assert said["forward_flops_per_token"] > 0 and (said["kv_bytes_per_token"] == 0) == (
            kind == "encoder"
        )
        table = CliRunner().invoke(app, ["plan", str(folder / f"{name}.json")])
        assert table.exit_code == 0 and f"{total:,}" in table.output


def test_mistakes_are_named() -> None:
    with pytest.raises(OrreryError, match="context above 0"):
        size_model(EncoderConfig(stack=STACK), context=0)
    with pytest.raises(OrreryError, match="a decoder has a plan"):
        size_model(STACK)
