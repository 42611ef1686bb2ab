"""Networks over images: convolution, pooling, batch normalisation, and the two networks they made famous.

Legend for this folder: N images of a batch, C and O channels in and out, H and W rows and columns, k size of a window.
"""

from __future__ import annotations

from orrery.model.vision.alexnet import AlexNet, AlexNetConfig
from orrery.model.vision.batch_norm import BatchNorm
from orrery.model.vision.convolution import AveragePool, Conv2d, MaxPool, average_pool_to, conv2d, max_pool
from orrery.model.vision.resnet import ResNet, ResNetConfig

__all__ = [
    "AlexNet",
    "AlexNetConfig",
    "AveragePool",
    "BatchNorm",
    "Conv2d",
    "MaxPool",
    "ResNet",
    "ResNetConfig",
    "average_pool_to",
    "conv2d",
    "max_pool",
]
