"""The whole model: its derivative, its head, its parts, its starting weights."""

from __future__ import annotations

import copy

import pytest
import torch

from orrery.kit.errors import OrreryError
from orrery.model import Decoder, DecoderConfig, Packed
from orrery.model.describe import parameters_by_component
from orrery.model.mlp import Mlp
from orrery.model.positions import Learned

from .shapes import SHAPES, ids, shape, tiny


@pytest.mark.parametrize("name", SHAPES)
def test_the_gradient_is_the_derivative(name: str) -> None:
    model = tiny(name, dtype=torch.float64).train()
    tokens, ctx = ids(11), Packed((4, 7))
    generator = torch.Generator().manual_seed(3)
    weights = torch.randn(11, model.cfg.vocab_size, dtype=torch.float64, generator=generator)

    def loss() -> torch.Tensor:
        return (model.head(model(tokens, ctx)) * weights).sum()

    loss().backward()
    step = 1e-6
    for name_, parameter in model.named_parameters():
        assert parameter.grad is not None, name_
        direction = torch.randn(parameter.shape, dtype=torch.float64, generator=generator)
        with torch.no_grad():
            parameter.add_(direction, alpha=step)
            up = loss()
            parameter.sub_(direction, alpha=2 * step)
            down = loss()
            parameter.add_(direction, alpha=step)
        slope = (up - down) / (2 * step)
        torch.testing.assert_close(slope, (parameter.grad * direction).sum(), rtol=2e-5, atol=2e-5)


@torch.no_grad()
def test_the_head_is_the_embedding_transposed_unless_untied() -> None:
    hidden = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
    tied = tiny()
    assert torch.equal(tied.head(hidden), hidden @ tied.embed.weight.T) and tied.lm_head is None
    untied = tiny("untied")
    assert torch.equal(untied.head(hidden), hidden @ untied.lm_head.weight.T)
    assert not torch.equal(untied.lm_head.weight, untied.embed.weight)


@torch.no_grad()
def test_logits_are_scaled_then_capped() -> None:
    hidden = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
    model = tiny("softcap", logit_scale=2.0)
    raw = hidden @ model.embed.weight.T
    torch.testing.assert_close(model.head(hidden), 3.0 * torch.tanh(2.0 * raw / 3.0))
    assert model.head(100 * hidden).abs().max() <= 3.0


@torch.no_grad()
def test_embeddings_are_scaled_before_positions_are_added() -> None:
    model = tiny("learned", embedding_scale=5.0, n_layers=1)
    with torch.no_grad():
        for p in (model.blocks[0].attn.o_proj, model.blocks[0].mlp.down_proj):
            p.weight.zero_()  # the block adds nothing
    tokens = ids(4)
    want = model.norm(5.0 * model.embed.weight[tokens] + model.position_embed.weight[:4])
    torch.testing.assert_close(model(tokens, Packed([4])), want)


@torch.no_grad()
def test_where_the_norms_stand() -> None:
    x = torch.randn(4, 32, generator=torch.Generator().manual_seed(0))

    def halves(block, ctx):
        return (lambda y: block.attn(y, ctx)), (lambda y: block.mlp(y, ctx))

    ctx = Packed([4])
    block = tiny("gqa").blocks[0]
    attn, mlp = halves(block, ctx)
    mid = x + attn(block.attn_norm(x))
    torch.testing.assert_close(block(x, ctx), mid + mlp(block.mlp_norm(mid)))
    block = tiny("post-norm").blocks[0]
    attn, mlp = halves(block, ctx)
    mid = block.attn_norm(x + attn(x))
    torch.testing.assert_close(block(x, ctx), block.mlp_norm(mid + mlp(mid)))
    block = tiny("sandwich").blocks[0]
    attn, mlp = halves(block, ctx)
    mid = x + block.attn_out_norm(attn(block.attn_norm(x)))
    torch.testing.assert_close(block(x, ctx), mid + block.mlp_out_norm(mlp(block.mlp_norm(mid))))
    block = tiny("parallel").blocks[0]
    attn, mlp = halves(block, ctx)
    normed = block.attn_norm(x)
    torch.testing.assert_close(block(x, ctx), x + attn(normed) + mlp(normed))


def test_every_tensor_is_counted_once() -> None:
    cfg = DecoderConfig(
        vocab_size=100,
        d_model=32,
        n_layers=2,
        n_heads=4,
        n_kv_heads=2,
        feed_forward=Mlp(d_ff=48),
        qk_norm=True,
    )
    model = Decoder(cfg)
    attention = 32 * 32 + 2 * (32 * 16) + 32 * 32
    assert parameters_by_component(model) == {
        "embedding": 100 * 32,
        "attention": 2 * attention,
        "norm": 2 * (2 * 32 + 2 * 8) + 32,
        "feed_forward": 2 * 3 * 32 * 48,
    }
    assert model.num_parameters() == sum(p.numel() for p in model.parameters())
    assert "head" in parameters_by_component(tiny("untied"))
    row = next(row for row in model.describe() if row.name == "blocks.1.attn.k_proj.weight")
    assert (row.component, row.shape, row.parameters) == ("attention", (16, 32), 512)


def test_active_parameters_of_experts() -> None:
    # One dense layer, two with six experts of which two run, one shared.
    model = tiny("moe-sigmoid", mtp_heads=1)
    expert = 3 * 32 * 16
    mtp = sum(p.numel() for p in model.mtp.parameters())
    assert model.num_parameters() - model.num_parameters(active=True) == 2 * 4 * expert + mtp


@pytest.mark.parametrize("name", SHAPES)
def test_counting_needs_no_memory(name: str) -> None:
    with torch.device("meta"):
        model = Decoder(shape(name))
    assert model.num_parameters() == tiny(name).num_parameters()


def test_a_seed_is_the_weights() -> None:
    cfg = shape("gqa")
    one, same, other = Decoder(cfg, seed=1), Decoder(cfg, seed=1), Decoder(cfg, seed=2)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert not torch.equal(one.embed.weight, other.embed.weight)
    deeper = Decoder(shape("gqa", n_layers=5), seed=1)
    assert torch.equal(deeper.blocks[2].mlp.up_proj.weight, one.blocks[2].mlp.up_proj.weight)
    other.reset_parameters(1)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_starting_weights() -> None:
    model = Decoder(shape("biases", d_model=128, norm_unit_offset=True, sinks=True))
    for row, parameter in zip(model.describe(), model.parameters(), strict=True):
        if parameter.ndim == 2:
            assert abs(parameter.std().item() - 0.02) < 0.002 and abs(parameter.mean().item()) < 0.002
        else:
            assert not parameter.any(), row.name  # biases, sinks, and norms that multiply by 1 + weight
    layer_norm = Decoder(shape("layernorm"))
    assert (layer_norm.norm.weight == 1).all() and (layer_norm.norm.bias == 0).all()
    logits = model.head(model(ids(50), Packed([50])))
    assert abs(torch.log_softmax(logits, -1).mean().item() + torch.log(torch.tensor(61.0)).item()) < 0.1


@torch.no_grad()
def test_a_copy_is_independent() -> None:
    for name in ("t5", "moe-softmax"):
        model = tiny(name, mtp_heads=1)
        twin = copy.deepcopy(model)
        tokens = ids(6)
        assert torch.equal(model(tokens, Packed([6])), twin(tokens, Packed([6])))
        for parameter in model.parameters():
            parameter.zero_()
        assert twin(tokens, Packed([6])).any()
    assert twin.mtp[0]._embed[0].__self__ is twin


def test_shared_tables_are_stored_once() -> None:
    model = tiny("t5", mtp_heads=1)
    names = [name for name in model.state_dict() if "relative" in name]
    assert names == ["position_bias.relative_attention_bias.weight"]
    assert model.blocks[2].attn.bias is model.position_bias


def test_multi_token_prediction_learns_the_token_after_next() -> None:
    model = Decoder(shape("gqa", mtp_heads=1, n_layers=1))
    tokens = torch.arange(24) % 6
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        ctx = Packed([24])
        hidden = model(tokens, ctx)
        after = model.mtp[0].predict(hidden, tokens.roll(-1), ctx)
        loss = torch.nn.functional.cross_entropy(model.head(after[:-2]), tokens[2:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1


def test_a_sequence_beyond_a_learned_table_is_refused() -> None:
    model = tiny("learned", position=Learned(max_positions=8))
    model(ids(12), Packed([8, 4]))
    with pytest.raises(OrreryError, match="9 tokens does not fit the model, which learned 8 positions"):
        model(ids(12), Packed([9, 3]))
