"""Small grey images of two strokes with noise, and a few steps of training on them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def strokes(n: int, side: int = 12, seed: int = 0) -> tuple[Tensor, Tensor]:
    """(n, 1, side, side) images and labels: 0 a bar lying, 1 a bar standing, 2 a cross, somewhere in the image."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (n,), generator=generator)
    images = 0.3 * torch.randn(n, 1, side, side, generator=generator)
    places = torch.randint(3, side - 3, (n, 2), generator=generator).tolist()
    for image, label, (y, x) in zip(images, labels.tolist(), places, strict=True):
        if label != 1:
            image[0, y, x - 3 : x + 4] += 1
        if label != 0:
            image[0, y - 3 : y + 4, x] += 1
    return images, labels


def fit(model: nn.Module, images: Tensor, labels: Tensor, *, steps: int, lr: float = 3e-3) -> float:
    """Train on batches of 32; the mean loss of the last five steps."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    losses = []
    model.train()
    for step in range(steps):
        some = torch.randperm(len(images), generator=torch.Generator().manual_seed(step))[:32]
        loss = F.cross_entropy(model(images[some]), labels[some])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return sum(losses[-5:]) / 5


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    return (model.eval()(images).argmax(1) == labels).float().mean().item()
