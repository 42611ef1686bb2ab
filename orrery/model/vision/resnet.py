"""Residual networks: blocks of convolutions that add to their input (He et al. 2016, arXiv:1512.03385).

    y = relu(x + body(x))                body: 3x3, 3x3, or with a bottleneck 1x1, 3x3, 1x1, each followed by batch norm

Where a block halves the image or widens the channels, x passes a 1x1 convolution first. The stride of a bottleneck sits in its
3x3 convolution, as common libraries have it; the counts are the published ones either way.

    model = ResNet(RESNETS[50])
    logits = model(images)              # (N, 3, 224, 224) -> (N, 1000)
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from orrery.kit.config import config
from orrery.model.he import draw_he
from orrery.model.vision.batch_norm import BatchNorm
from orrery.model.vision.convolution import AveragePool, Conv2d, MaxPool


@config
class ResNetConfig:
    """The shape of a residual network.

    Attributes:
        blocks: how many of each stage; every stage after the first halves the image and doubles the channels.
        width: channels inside the first stage's blocks.
        bottleneck: blocks of three convolutions that put out four times the channels they work in.
        stem: how images come in: a 7x7 convolution of stride 2 and a max pool ("imagenet"), or 3x3 of stride 1 ("small").
        residual: False leaves out the addition (and its 1x1 convolutions): the plain network of the paper's comparison.
        channels, classes: of the images, of the answer.
    """

    blocks: tuple[int, ...] = (2, 2, 2, 2)
    width: int = 64
    bottleneck: bool = False
    stem: Literal["imagenet", "small"] = "imagenet"
    residual: bool = True
    channels: int = 3
    classes: int = 1000

    @property
    def depth(self) -> int:
        """Layers with weights, as the paper counts them: the stem, every convolution of a body, the last linear."""
        return 2 + (3 if self.bottleneck else 2) * sum(self.blocks)


RESNETS: dict[int, ResNetConfig] = {
    18: ResNetConfig(blocks=(2, 2, 2, 2)),  # 11,689,512 weights
    34: ResNetConfig(blocks=(3, 4, 6, 3)),  # 21,797,672
    50: ResNetConfig(blocks=(3, 4, 6, 3), bottleneck=True),  # 25,557,032
    101: ResNetConfig(blocks=(3, 4, 23, 3), bottleneck=True),  # 44,549,160
    152: ResNetConfig(blocks=(3, 8, 36, 3), bottleneck=True),  # 60,192,808
}
"""The networks of the paper for ImageNet, by depth."""


class ResNet(nn.Module):
    """The network a configuration describes, with weights drawn from `seed`."""

    def __init__(self, cfg: ResNetConfig, *, seed: int = 0) -> None:
        super().__init__()
        self.cfg = cfg
        if cfg.stem == "imagenet":
            first = conv_norm(cfg.channels, cfg.width, 7, stride=2)
            self.stem = nn.Sequential(first, nn.ReLU(), MaxPool(3, stride=2, padding=1))
        else:
            self.stem = nn.Sequential(conv_norm(cfg.channels, cfg.width, 3), nn.ReLU())
        channels, stages = cfg.width, []
        for stage, count in enumerate(cfg.blocks):
            for i in range(count):
                stride = 2 if stage > 0 and i == 0 else 1
                block = Block(cfg, channels, cfg.width * 2**stage, stride=stride)
                stages.append(block)
                channels = block.out
        self.blocks = nn.Sequential(*stages)
        self.pool = AveragePool(1)
        self.head = nn.Linear(channels, cfg.classes)
        draw_he(self, seed)

    def forward(self, images: Tensor) -> Tensor:
        """(N, channels, H, W) -> (N, classes) logits."""
        x = self.blocks(self.stem(images))
        return self.head(self.pool(x).flatten(1))

    @classmethod
    def count(cls, cfg: ResNetConfig) -> int:
        """Weights of that shape, without making them (running statistics are not weights)."""
        with torch.device("meta"):
            return sum(p.numel() for p in cls(cfg).parameters())


class Block(nn.Module):
    """Two convolutions, or three with a bottleneck, added to what came in."""

    def __init__(self, cfg: ResNetConfig, channels: int, width: int, *, stride: int) -> None:
        super().__init__()
        self.out = 4 * width if cfg.bottleneck else width
        self.shortcut: nn.Module | None = None
        if cfg.residual:
            same = stride == 1 and channels == self.out
            self.shortcut = nn.Identity() if same else conv_norm(channels, self.out, 1, stride=stride)
        if cfg.bottleneck:
            self.body = nn.Sequential(
                conv_norm(channels, width, 1), nn.ReLU(),
                conv_norm(width, width, 3, stride=stride), nn.ReLU(),
                conv_norm(width, self.out, 1),
            )  # fmt: skip
        else:
            self.body = nn.Sequential(
                conv_norm(channels, width, 3, stride=stride), nn.ReLU(), conv_norm(width, self.out, 3)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, out, H', W')."""
        y = self.body(x)
        return (y if self.shortcut is None else y + self.shortcut(x)).relu()


def conv_norm(channels: int, out: int, size: int, *, stride: int = 1) -> nn.Sequential:
    """A convolution that keeps the image's size (over the stride), and batch norm, which makes a bias needless."""
    return nn.Sequential(
        Conv2d(channels, out, size, stride=stride, padding=size // 2, bias=False), BatchNorm(out)
    )
