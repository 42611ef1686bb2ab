"""AlexNet: five convolutions, three fully connected layers (Krizhevsky, Sutskever & Hinton 2012, NeurIPS 25).

The default is the variant with one tower (Krizhevsky 2014, arXiv:1404.5997), which the common libraries build: 61,100,840
weights. `ALEXNET_2012` has the widths and the two towers of the first paper, each on a GPU of its own and seeing the other in
the third convolution and the fully connected layers alone: 60,965,224 weights. Its normalisation across channels, which has no weights, is left out.

    model = AlexNet(AlexNetConfig())
    logits = model(images)              # (N, 3, 224, 224) -> (N, 1000)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from orrery.kit.config import config
from orrery.kit.errors import OrreryError
from orrery.model.he import draw_he
from orrery.model.vision.convolution import AveragePool, Conv2d, MaxPool


@config
class AlexNetConfig:
    """The shape of an AlexNet.

    Attributes:
        channels: of the images.
        classes: logits of the answer.
        widths: channels of the five convolutions.
        hidden: width of the two hidden fully connected layers.
        first_size, first_stride: window of the first convolution and the step between windows; 3 and 1 suit images of 32 pixels.
        grid: the image is averaged to grid x grid places before the fully connected layers, whatever its size.
        towers: 2: the second, fourth and fifth convolution are split in two halves that do not see each other.
        dropout: before the two hidden layers.

    Raises:
        OrreryError: not five widths.
    """

    channels: int = 3
    classes: int = 1000
    widths: tuple[int, ...] = (64, 192, 384, 256, 256)
    hidden: int = 4096
    first_size: int = 11
    first_stride: int = 4
    grid: int = 6
    towers: int = 1
    dropout: float = 0.5

    def __post_init__(self) -> None:
        if len(self.widths) != 5:
            raise OrreryError(f"AlexNet has five convolutions; widths has {len(self.widths)} numbers, give 5")


ALEXNET_2012 = AlexNetConfig(widths=(96, 256, 384, 384, 256), towers=2)
"""The widths of the first paper."""

SMALL = AlexNetConfig(
    channels=1, classes=10, widths=(16, 32, 48, 32, 32), hidden=64, first_size=3, first_stride=1, grid=2, dropout=0.0
)  # fmt: skip
"""The same eight layers for grey images of about 16 to 32 pixels."""


class AlexNet(nn.Module):
    """The network a configuration describes, with weights drawn from `seed`."""

    def __init__(self, cfg: AlexNetConfig, *, seed: int = 0) -> None:
        super().__init__()
        self.cfg = cfg
        a, b, c, d, e = cfg.widths
        # The original pads the first window by 2; half of a smaller one keeps the size of the image.
        first = Conv2d(
            cfg.channels, a, cfg.first_size, stride=cfg.first_stride, padding=min(2, cfg.first_size // 2)
        )
        self.features = nn.Sequential(
            first, nn.ReLU(), MaxPool(3, stride=2),
            Conv2d(a, b, 5, padding=2, groups=cfg.towers), nn.ReLU(), MaxPool(3, stride=2),
            Conv2d(b, c, 3, padding=1), nn.ReLU(),
            Conv2d(c, d, 3, padding=1, groups=cfg.towers), nn.ReLU(),
            Conv2d(d, e, 3, padding=1, groups=cfg.towers), nn.ReLU(), MaxPool(3, stride=2),
            AveragePool(cfg.grid), nn.Flatten(),
        )  # fmt: skip
        self.classifier = nn.Sequential(
            nn.Dropout(cfg.dropout), nn.Linear(e * cfg.grid**2, cfg.hidden), nn.ReLU(),
            nn.Dropout(cfg.dropout), nn.Linear(cfg.hidden, cfg.hidden), nn.ReLU(),
            nn.Linear(cfg.hidden, cfg.classes),
        )  # fmt: skip
        draw_he(self, seed)

    def forward(self, images: Tensor) -> Tensor:
        """(N, channels, H, W) -> (N, classes) logits.

        Raises:
            OrreryError: the images are too small for the strides, or have other channels.
        """
        return self.classifier(self.features(images))

    @classmethod
    def count(cls, cfg: AlexNetConfig) -> int:
        """Weights of that shape, without making them."""
        with torch.device("meta"):
            return sum(p.numel() for p in cls(cfg).parameters())
