"""Cross-attention and memory: against torch's own layers, and what a context must keep to."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from orrery.kit.errors import OrreryError
from orrery.model.block import make_block
from orrery.model.cache import Cached, KVCache
from orrery.model.config import DecoderConfig
from orrery.model.encoder import Encoder, EncoderConfig, MaskedLm
from orrery.model.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from orrery.model.explicit import Explicit
from orrery.model.memory import Memory
from orrery.model.mlp import Mlp
from orrery.model.packed import Packed
from orrery.model.positions import NoPosition, T5Relative
from orrery.model.probe import record

STACK = DecoderConfig(
    vocab_size=40,
    d_model=16,
    n_layers=2,
    n_heads=4,
    n_kv_heads=2,
    feed_forward=Mlp(d_ff=24),
    max_positions=32,
)
CONFIG = EncoderDecoderConfig(
    encoder=replace(STACK, position=T5Relative(buckets=8, bidirectional=True)),
    decoder=replace(STACK, n_layers=3, position=T5Relative(buckets=8), cross_attention=True),
)


@pytest.fixture
def model() -> EncoderDecoder:
    made = EncoderDecoder(CONFIG, seed=1).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim == 2:
                parameter.mul_(10.0)
    return made


def ids(length: int, seed: int) -> torch.Tensor:
    return torch.randint(0, 40, (length,), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("placement", ["pre", "post"])
def test_layers_equal_torchs_decoder_layer(placement: str) -> None:
    """nn.TransformerDecoderLayer: causal self-attention, attention to a memory, feed-forward; LayerNorms, biases, ReLU."""
    cfg = DecoderConfig(
        d_model=16, n_heads=4, n_layers=1, norm="layernorm", placement=placement, position=NoPosition(),  # type: ignore[bad-argument-type]
        feed_forward=Mlp(d_ff=24, activation="relu", gated=False, bias=True), attention_bias=True, output_bias=True,
        cross_attention=True,
    )  # fmt: skip
    torch.manual_seed(0)
    theirs = nn.TransformerDecoderLayer(16, 4, 24, dropout=0.0, norm_first=placement == "pre").eval()
    ours = make_block(cfg, 0).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        pairs: list[tuple[nn.Module, nn.Module]] = [
            (ours.attn_norm, theirs.norm1), (ours.cross_norm, theirs.norm2), (ours.mlp_norm, theirs.norm3),
            (ours.mlp.up_proj, theirs.linear1), (ours.mlp.down_proj, theirs.linear2),
        ]  # fmt: skip
        for mine, attention in ((ours.attn, theirs.self_attn), (ours.cross, theirs.multihead_attn)):
            pairs.append((mine.o_proj, attention.out_proj))
            for i, proj in enumerate((mine.q_proj, mine.k_proj, mine.v_proj)):
                proj.weight.copy_(attention.in_proj_weight.chunk(3)[i])
                proj.bias.copy_(attention.in_proj_bias.chunk(3)[i])
        for mine, other in pairs:
            mine.load_state_dict(other.state_dict())
        x, states = torch.randn(5, 16), torch.randn(7, 16)
        mask = nn.Transformer.generate_square_subsequent_mask(5)
        want = theirs(x[:, None], states[:, None], tgt_mask=mask)[:, 0]
        got = ours(x, Packed([5], memory=Memory(states, [7])))
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)


def test_every_path_gives_the_same(model: EncoderDecoder) -> None:
    """Packed, with attention made visible, and in chunks through a cache; each sequence reads its own source alone."""
    source, text, sizes = torch.cat([ids(3, 1), ids(6, 2)]), torch.cat([ids(5, 3), ids(4, 4)]), (5, 4)
    with torch.no_grad():
        memory = model.encode(source, Packed([3, 6], causal=False))
        packed = model(text, Packed(sizes, memory=memory))
        explicit = model(text, Explicit(sizes, memory=memory))
        one = model.encode(source[3:], Packed([6], causal=False))
        alone = model(text[5:], Packed([4], memory=one))
        cache = KVCache(model, rows=2, capacity=8)
        first = model(text[[0, 1, 2, 5]], Cached(cache, [(0, 0, 3), (1, 0, 1)], memory=memory))
        rest = model(text[[6, 7, 8, 3, 4]], Cached(cache, [(1, 1, 3), (0, 3, 2)], memory=memory))
    torch.testing.assert_close(explicit, packed, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(alone, packed[5:], atol=1e-5, rtol=1e-5)
    cached = torch.cat([first[:3], rest[3:], first[3:], rest[:3]])
    torch.testing.assert_close(cached, packed, atol=1e-5, rtol=1e-5)


def test_keys_of_the_source_are_made_once_a_generation(model: EncoderDecoder) -> None:
    with torch.no_grad():
        memory = model.encode(ids(6, 1), Packed([6], causal=False))
        cache = KVCache(model, rows=1, capacity=8)
        with record(model, [f"decoder.blocks.{i}.cross.k_proj" for i in range(3)]) as seen:
            for step in range(4):
                model(ids(1, step), Cached(cache, [(0, step, 1)], memory=memory))
    assert [len(outputs) for outputs in seen.values()] == [1, 1, 1]


def test_gradients_reach_the_encoder_through_every_pass(model: EncoderDecoder) -> None:
    memory = model.encode(ids(6, 1), Packed([6], causal=False))
    for _ in range(2):
        loss = model(ids(3, 2), Packed([3], memory=memory)).square().sum()
        (grad,) = torch.autograd.grad(loss, model.encoder.blocks[0].attn.q_proj.weight, retain_graph=True)
        assert grad.abs().sum() > 0


def test_attention_to_the_source_can_be_seen(model: EncoderDecoder) -> None:
    with torch.no_grad(), record(model, ["decoder.blocks.1.cross.pattern"]) as seen:
        memory = model.encode(ids(9, 1), Packed([3, 6], causal=False))
        model(ids(9, 2), Explicit([5, 4], memory=memory))
    shapes = [tuple(p.shape) for p in seen["decoder.blocks.1.cross.pattern"]]
    assert shapes == [(4, 5, 3), (4, 4, 6)]
    for pattern in seen["decoder.blocks.1.cross.pattern"]:
        torch.testing.assert_close(pattern.sum(-1), torch.ones(pattern.shape[:2]))


def test_several_rows_can_read_one_source(model: EncoderDecoder) -> None:
    """Beams of one source: its keys are kept once."""
    with torch.no_grad():
        states = model.encode(ids(9, 1), Packed([3, 6], causal=False)).states
        shared = Memory(states, [3, 6], of=[1, 1, 0])
        copied = Memory(torch.cat([states[3:], states[3:], states[:3]]), [6, 6, 3])
        got = model(ids(6, 2), Packed([2, 2, 2], memory=shared))
        want = model(ids(6, 2), Packed([2, 2, 2], memory=copied))
    torch.testing.assert_close(got, want, atol=1e-6, rtol=1e-6)


def test_one_embedding_for_both_stacks(model: EncoderDecoder) -> None:
    assert model.decoder.embed is model.encoder.embed
    names = [row.name for row in model.describe()]
    assert "encoder.embed.weight" in names and "decoder.embed.weight" not in names
    assert model.num_parameters() == sum(p.numel() for p in model.parameters())
    weights = [model.encoder.blocks[0].attn.q_proj.weight, model.decoder.blocks[0].attn.q_proj.weight]
    assert not torch.equal(*weights)  # each tensor has a random stream of its own
    assert [spec.layer for spec in model.cache_spec()] == [0, 1, 2]


def test_an_encoder_has_the_heads_its_config_names() -> None:
    encoder = Encoder(
        EncoderConfig(stack=replace(STACK, position=NoPosition()), token_types=2, pooler=True), seed=1
    )
    hidden = encoder(ids(5, 1), Packed([2, 3], causal=False))
    assert encoder.pooled(hidden, [2, 3]).shape == (2, 16)
    torch.testing.assert_close(encoder.pooled(hidden, [2, 3])[1], encoder.pooler(hidden[2]).tanh())  # type: ignore[not-callable]
    with pytest.raises(OrreryError, match="no head for masked tokens"):
        encoder.head(hidden)
    bare = Encoder(EncoderConfig(stack=STACK, masked_lm=MaskedLm()))
    assert bare.head(hidden).shape == (5, 40)
    with pytest.raises(OrreryError, match="no pooler"):
        bare.pooled(hidden, [2, 3])


def test_mistakes_are_named(model: EncoderDecoder) -> None:
    with pytest.raises(OrreryError, match="give its context a memory"):
        model(ids(3, 1), Packed([3]))
    with pytest.raises(OrreryError, match="causal=False"):
        model.encode(ids(3, 1), Packed([3]))
    memory = model.encode(ids(3, 1), Packed([3], causal=False))
    with pytest.raises(OrreryError, match="sequence 1 has no source"):
        model(ids(4, 1), Packed([2, 2], memory=memory))
    with pytest.raises(OrreryError, match="cannot have 3 hidden states"):
        Memory(memory.states, [4])
    for settings, says in [
        ({"decoder": CONFIG.encoder}, "in its decoder"),
        ({"encoder": replace(CONFIG.encoder, tied=False)}, "has no head"),
        ({"encoder": replace(CONFIG.encoder, vocab_size=41)}, "vocab_size must be one"),
    ]:
        with pytest.raises(OrreryError, match=says):
            replace(CONFIG, **settings)  # type: ignore[bad-argument-type]
    for settings, says in [
        ({"stack": CONFIG.decoder}, "reads no memory"),
        ({"next_sentence": True}, "set pooler=true"),
        ({"stack": replace(STACK, tied=False)}, "masked_lm head"),
        ({"token_types": "two"}, "token_types"),
    ]:
        with pytest.raises(OrreryError, match=says):
            EncoderConfig(**{"stack": STACK, **settings})
    with pytest.raises(OrreryError, match="cross_attention goes with"):
        replace(CONFIG.decoder, placement="sandwich")
