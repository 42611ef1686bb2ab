"""Steering: add a vector to the residual stream behind a layer, for some sequences of a pass and no others.

    wishes = {0: steering_vectors(model, request.steering)}     # sequence 0 of the pass
    with steered(model, ctx, wishes):
        hidden = model(tokens, ctx)

Activation addition: Turner et al. 2023, arXiv:2308.10248; vectors as differences of mean activations: Rimsky et al. 2023,
arXiv:2312.06681; Marks & Tegmark 2023, arXiv:2310.06824. T tokens, d model width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from orrery.kit.errors import OrreryError
from orrery.kit.lm import Steering
from orrery.model.context import Context
from orrery.model.decoder import Decoder
from orrery.model.packed import Packed
from orrery.model.probe import record
from orrery.serve.mode import evaluating

if TYPE_CHECKING:
    from orrery.serve.lm import LM

Vectors = Mapping[int, Tensor]
"""By layer, what is added to the stream behind it: (d,) in the type of the model."""


def steering_vectors(model: Decoder, wishes: Sequence[Steering]) -> dict[int, Tensor]:
    """The wishes of one request as one vector a layer, the sum of strength * vector in float64, rounded once.

    Raises:
        OrreryError: a layer that the model does not have, a vector of another width, or numbers that are not finite.
    """
    layers, d = len(model.blocks), model.cfg.d_model
    sums: dict[int, Tensor] = {}
    for wish in wishes:
        if not 0 <= wish.layer < layers:
            raise OrreryError(
                f"steering names layer {wish.layer}, but the model's layers are 0 to {layers - 1}"
            )
        if len(wish.vector) != d:
            raise OrreryError(
                f"the steering vector for layer {wish.layer} has {len(wish.vector)} numbers, but the model's stream has {d}"
            )
        added = torch.tensor(wish.vector, dtype=torch.float64) * wish.strength
        sums[wish.layer] = sums.get(wish.layer, torch.zeros(d, dtype=torch.float64)) + added
    vectors = {layer: vector.to(model.device, model.dtype) for layer, vector in sums.items()}
    for layer, vector in vectors.items():
        if not bool(vector.isfinite().all()):
            raise OrreryError(
                f"the steering of layer {layer} is not finite in {model.dtype}; take smaller numbers"
            )
    return vectors


@contextmanager
def steered(model: Decoder, ctx: Context, wishes: Mapping[int, Vectors]) -> Iterator[None]:
    """While the block runs, passes with `ctx` add each sequence's vectors; `wishes` is by the sequence's place in the pass.

    Rows of other sequences keep their bits, and the rows that are steered do not depend on the others. What hooks that were put
    on a layer later see is the steered stream.
    """
    handles: list[Any] = []
    try:
        for layer in sorted({layer for vectors in wishes.values() for layer in vectors}):
            added = [
                (piece_rows(ctx, piece), vectors[layer])
                for piece, vectors in wishes.items()
                if layer in vectors
            ]
            handles.append(model.blocks[layer].register_forward_hook(_adding(ctx, added)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def piece_rows(ctx: Context, piece: int) -> slice:
    """The flat rows of the sequence at place `piece` of the pass."""
    first = sum(ctx.lengths[:piece])
    return slice(first, first + ctx.lengths[piece])


def _adding(ctx: Context, added: list[tuple[slice, Tensor]]) -> Callable[..., Tensor | None]:
    def hook(block: nn.Module, inputs: tuple[Any, ...], stream: Tensor) -> Tensor | None:
        if inputs[1] is not ctx:  # a pass of somebody else
            return None
        stream = stream.clone()
        for rows, vector in added:
            stream[rows] += vector
        return stream

    return hook


def mean_activation(
    model: Decoder, sequences: Sequence[Sequence[int]], *, layer: int, skip: int = 0
) -> Tensor:
    """(d,) float64: the mean of the stream behind `layer` over all tokens but the first `skip` of each sequence.

    Raises:
        OrreryError: no such layer, or a sequence of no more than `skip` tokens.
    """
    if not 0 <= layer < len(model.blocks):
        raise OrreryError(f"there is no layer {layer}; the model's are 0 to {len(model.blocks) - 1}")
    if not sequences or min(len(ids) for ids in sequences) <= skip:
        raise OrreryError(
            f"each text needs more than the {skip} tokens that are left out of the mean; give longer texts"
        )
    lengths = [len(ids) for ids in sequences]
    tokens = torch.tensor([token for ids in sequences for token in ids], device=model.device)
    with torch.inference_mode(), evaluating(model), record(model, [f"blocks.{layer}"]) as seen:
        model(tokens, Packed(lengths, device=model.device))
    streams = seen[f"blocks.{layer}"][0].double().split(lengths)
    return torch.cat([stream[skip:] for stream in streams]).mean(0).cpu()


def steering_from_texts(
    lm: LM, toward: str | Sequence[str], away: str | Sequence[str], *, layer: int, strength: float = 1.0
) -> Steering:
    """The direction from texts of one kind to texts of the other: the difference of their mean activations behind `layer`.

    BOS is left out of the means: its activation is many times larger than any other's and says nothing of the text.

    Raises:
        OrreryError: no such layer, a text without tokens, or a direction of no length.
    """
    skip = 0 if lm.tokenizer.bos_id is None else 1
    means = [
        mean_activation(
            lm.model,
            [lm.prompt_ids(text) for text in ([texts] if isinstance(texts, str) else texts)],
            layer=layer,
            skip=skip,
        )
        for texts in (toward, away)
    ]
    vector = means[0] - means[1]
    if not math.isfinite(float(vector.norm())) or not float(vector.norm()):
        raise OrreryError(
            "the two texts look the same to the model behind this layer; give texts that differ more"
        )
    return Steering(layer=layer, vector=tuple(vector.tolist()), strength=strength)
