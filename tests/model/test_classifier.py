"""A K-way head on a decoder and on an encoder: pooling, what is trained, learning, and no leak between sequences."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from orrery.kit.errors import OrreryError
from orrery.model import Decoder, DecoderConfig, Encoder, EncoderConfig, Packed
from orrery.model.classifier import Classifier, pooled
from orrery.model.encoder import MaskedLm
from orrery.model.mlp import Mlp
from tests.model.shapes import VOCAB, shape, tiny

LENGTHS = (3, 7, 1, 4)
TOKENS = torch.randint(VOCAB, (15,), generator=torch.Generator().manual_seed(0))


def encoder(**changes) -> Encoder:
    return Encoder(EncoderConfig(stack=shape("learned"), pooler=True, masked_lm=MaskedLm(), **changes))


def test_pooling_by_hand() -> None:
    hidden = torch.tensor([[1.0, 0.0], [3.0, 2.0], [5.0, 6.0]])
    assert pooled(hidden, (2, 1), "mean").tolist() == [[2, 1], [5, 6]]
    assert pooled(hidden, (2, 1), "first").tolist() == [[1, 0], [5, 6]]
    assert pooled(hidden, (2, 1), "last").tolist() == [[3, 2], [5, 6]]


@pytest.mark.parametrize("pool", ["mean", "first", "last"])
@pytest.mark.parametrize("kind", ["decoder", "encoder"])
def test_logits_are_a_linear_map_of_the_pooled_states_of_each_sequence_alone(kind: str, pool: str) -> None:
    causal = kind == "decoder"
    model = Classifier(tiny() if causal else encoder(), classes=5, pool=pool).eval()
    if causal and pool == "first":
        with pytest.raises(OrreryError, match="has seen itself alone"):
            model(TOKENS, Packed(LENGTHS))
        return
    logits = model(TOKENS, Packed(LENGTHS, causal=causal))
    assert logits.shape == (4, 5)
    for row, part in zip(logits, TOKENS.split(LENGTHS), strict=True):
        hidden = model.backbone(part, Packed([len(part)], causal=causal))
        vector = {"mean": hidden.mean(0), "first": hidden[0], "last": hidden[-1]}[pool]
        torch.testing.assert_close(row, model.head.weight @ vector + model.head.bias)


@pytest.mark.parametrize("kind", ["decoder", "encoder"])
@pytest.mark.parametrize("what", ["head", "all"])
def test_what_is_trained_moves_and_nothing_else(kind: str, what: str) -> None:
    backbone = tiny("untied") if kind == "decoder" else encoder(next_sentence=True)
    model = Classifier(backbone, classes=3)
    model.train_only(what)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    ctx = Packed(LENGTHS, causal=kind == "decoder")
    F.cross_entropy(model(TOKENS, ctx), torch.tensor([0, 1, 2, 0])).backward()
    optimizer.step()
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    if what == "head":
        assert moved == {"head.weight", "head.bias"} and model.trainable() == 32 * 3 + 3
    else:
        old_heads = ("lm_head", "pooler", "next_sentence")
        kept = {name for name in before if any(part in name for part in old_heads)}
        # Keys shift all scores of a query alike, so a bias of theirs would stand still; these shapes have none.
        assert kept and moved == set(before) - kept


def test_both_ways_learn_and_all_fits_at_least_as_well() -> None:
    """Which of two tokens is the more frequent in a sequence of 9: a count, so the mean of the embeddings nearly says it."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(2, (64, 9), generator=generator)
    labels = (tokens.sum(1) > 4).long()
    cfg = DecoderConfig(vocab_size=2, d_model=16, n_layers=1, n_heads=2, feed_forward=Mlp(d_ff=32))
    accuracy = {}
    for what in ("head", "all"):
        model = Classifier(Decoder(cfg), classes=2)
        model.train_only(what)
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-2)
        for _ in range(60):
            optimizer.zero_grad()
            F.cross_entropy(model(tokens.flatten(), Packed([9] * 64)), labels).backward()
            optimizer.step()
        hits = model(tokens.flatten(), Packed([9] * 64)).argmax(1) == labels
        accuracy[what] = hits.float().mean().item()
    assert accuracy["head"] > 0.8 and accuracy["all"] >= accuracy["head"]


def test_one_class_is_no_choice() -> None:
    with pytest.raises(OrreryError, match="at least 2 classes"):
        Classifier(tiny(), classes=1)
