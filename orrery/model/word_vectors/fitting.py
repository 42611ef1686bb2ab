"""The loop the small models share: shuffle, a batch at a time, an update; the rate falls in a line to zero."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from orrery.kit.errors import OrreryError
from orrery.kit.seeds import torch_generator


@dataclass(frozen=True)
class Loss:
    """A loss summed over a batch and what to divide it by."""

    sum: Tensor
    weight: int


@contextmanager
def _one_thread() -> Iterator[None]:
    """A batch here is so little work that threads wait for each other longer than they help, on a busy machine by far."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@_one_thread()
def fit(
    optimizer: torch.optim.Optimizer,
    loss: Callable[..., Loss],
    examples: Callable[[int], tuple[Tensor, ...]],
    *,
    epochs: int,
    batch_size: int,
    seed: int,
) -> tuple[float, ...]:
    """Go `epochs` times over `examples(epoch)` (tensors of one length N), calling `loss` on rows of each, on one thread.

    Returns:
        The mean loss of each epoch, in nats.

    Raises:
        OrreryError: an epoch has no example.
    """
    rates = [group["lr"] for group in optimizer.param_groups]
    history = []
    for epoch in range(epochs):
        data = examples(epoch)
        n = len(data[0])
        if n == 0:
            raise OrreryError("the text gives nothing to learn from; give sentences of two words or more")
        total, weight = 0.0, 0
        for part in torch.randperm(n, generator=torch_generator(seed, "order", epoch)).split(batch_size):
            result = loss(*(tensor[part] for tensor in data))
            optimizer.zero_grad()
            (result.sum / result.weight).backward()
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * max(1 - (epoch + weight / n) / epochs, 1e-4)
            with torch.sparse.check_sparse_tensor_invariants(False):  # torch warns where nobody has chosen
                optimizer.step()
            total, weight = total + result.sum.item(), weight + result.weight
        history.append(total / weight)
    return tuple(history)
