"""AlexNet: the published counts, and learning small images."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from orrery.kit.errors import OrreryError
from orrery.model.vision.alexnet import ALEXNET_2012, SMALL, AlexNet, AlexNetConfig
from tests.model.vision.images import accuracy, fit, strokes


def test_the_published_counts() -> None:
    assert AlexNet.count(AlexNetConfig()) == 61_100_840  # one tower (2014)
    assert AlexNet.count(ALEXNET_2012) == 60_965_224  # two towers (2012)


def test_shapes_through_the_full_net() -> None:
    with torch.device("meta"):
        model = AlexNet(AlexNetConfig())
        images = torch.empty(2, 3, 224, 224)
    sizes = []
    x = images
    for layer in model.features[:-2]:
        x = layer(x)
        sizes.append(x.shape[1:])
    assert sizes[0] == (64, 55, 55) and sizes[2] == (64, 27, 27) and sizes[-1] == (256, 6, 6)


def test_it_learns_small_images_and_is_seeded() -> None:
    cfg = dataclasses.replace(SMALL, classes=3)
    images, labels = strokes(512, side=16)
    model = AlexNet(cfg, seed=1)
    assert torch.equal(model.features[0].weight, AlexNet(cfg, seed=1).features[0].weight)
    fit(model, images, labels, steps=80, lr=4e-3)
    assert accuracy(model, *strokes(200, side=16, seed=5)) > 0.8


def test_of_the_later_convolutions_the_third_alone_joins_the_towers() -> None:
    model = AlexNet(dataclasses.replace(SMALL, towers=2))
    assert [layer.groups for layer in model.features if hasattr(layer, "groups")] == [1, 2, 1, 2, 2]


def test_what_does_not_fit_says_so() -> None:
    with pytest.raises(OrreryError, match="five convolutions"):
        AlexNetConfig(widths=(1, 2))
    with pytest.raises(OrreryError, match="smaller than a window"):
        AlexNet(SMALL)(torch.zeros(1, 1, 6, 6))
