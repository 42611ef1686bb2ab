"""Residual networks: published counts, parity, learning, and what depth does without the shortcut."""

from __future__ import annotations

import pytest
import torch

from orrery.model.vision.resnet import RESNETS, ResNet, ResNetConfig
from tests.model.vision.images import accuracy, fit, strokes


@pytest.mark.parametrize(
    ("depth", "weights"),
    [(18, 11_689_512), (34, 21_797_672), (50, 25_557_032), (101, 44_549_160), (152, 60_192_808)],
)
def test_the_published_counts(depth: int, weights: int) -> None:
    assert RESNETS[depth].depth == depth
    assert ResNet.count(RESNETS[depth]) == weights


@pytest.mark.parametrize("bottleneck", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_logits_are_those_of_transformers(bottleneck: bool, training: bool) -> None:
    transformers = pytest.importorskip("transformers", reason="parity with transformers")
    cfg = ResNetConfig(blocks=(1, 2), width=8, bottleneck=bottleneck, classes=5)
    out = [8 * 4, 16 * 4] if bottleneck else [8, 16]
    theirs = transformers.ResNetForImageClassification(
        transformers.ResNetConfig(
            embedding_size=8, hidden_sizes=out, depths=[1, 2], layer_type="bottleneck" if bottleneck else "basic", num_labels=5
        )
    )  # fmt: skip
    ours = ResNet(cfg, seed=3)
    # Both list their tensors in the order of the layers, shortcuts before bodies.
    names = [n for n in theirs.state_dict() if not n.endswith("num_batches_tracked")]
    assert len(names) == len(ours.state_dict())
    theirs.load_state_dict(dict(zip(names, ours.state_dict().values(), strict=True)), strict=False)
    images = torch.randn(3, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    ours.train(training)
    theirs.train(training)
    torch.testing.assert_close(ours(images), theirs(images).logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.eval()(images), theirs.eval()(images).logits, rtol=1e-4, atol=1e-5)


def test_it_learns_small_images() -> None:
    images, labels = strokes(256)
    model = ResNet(ResNetConfig(blocks=(1, 1), width=8, stem="small", channels=1, classes=3))
    fit(model, images, labels, steps=50, lr=1e-2)
    assert accuracy(model, *strokes(200, seed=5)) > 0.95


def test_a_deep_plain_net_learns_worse_than_the_same_with_shortcuts() -> None:
    images, labels = strokes(256)
    losses = {}
    for residual in (True, False):
        cfg = ResNetConfig(
            blocks=(8, 8), width=4, stem="small", channels=1, classes=3, residual=residual
        )  # 34 layers
        losses[residual] = fit(ResNet(cfg), images, labels, steps=25, lr=1e-2)
    assert losses[True] < 0.7 * losses[False]


def test_a_block_whose_body_is_silent_is_the_identity() -> None:
    model = ResNet(ResNetConfig(blocks=(1,), width=4, stem="small", channels=1, classes=2)).eval()
    block = model.blocks[0]
    with torch.no_grad():
        block.body[-1][1].weight.zero_()
    x = torch.rand(2, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(block(x), x)
