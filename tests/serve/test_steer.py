"""Steering: hand-worked additions, neighbours in the batch untouched bit for bit, vectors made from texts."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from orrery.kit.errors import OrreryError
from orrery.kit.lm import Steering
from orrery.model import Cached, Decoder, KVCache, Packed, record
from orrery.serve.lm import LM
from orrery.serve.steer import mean_activation, steered, steering_from_texts, steering_vectors

Make = Callable[..., Decoder]


def text(n: int, seed: int) -> torch.Tensor:
    return torch.randint(5, 90, (n,), generator=torch.Generator().manual_seed(seed))


def push(layer: int, seed: int, strength: float = 1.0) -> Steering:
    vector = torch.randn(32, generator=torch.Generator().manual_seed(seed))
    return Steering(layer=layer, vector=tuple(vector.tolist()), strength=strength)


def test_wishes_for_one_layer_are_one_vector(make_model: Make) -> None:
    model = make_model(90)
    ones, ramp = (1.0,) * 32, tuple(float(i) for i in range(32))
    wishes = (
        Steering(layer=1, vector=ones, strength=0.5),
        Steering(layer=0, vector=ones, strength=-1.0),
        Steering(layer=1, vector=ramp, strength=2.0),
    )
    vectors = steering_vectors(model, wishes)
    assert vectors[0].tolist() == [-1.0] * 32
    assert vectors[1].tolist() == [0.5 + 2 * i for i in range(32)]
    assert vectors[1].dtype == model.dtype and steering_vectors(model, ()) == {}


@torch.inference_mode()
def test_the_stream_behind_the_layer_is_moved_and_neighbours_keep_their_bits(make_model: Make) -> None:
    model, lengths = make_model(90), (4, 7, 1, 5)
    tokens = text(sum(lengths), 0)
    names = ["blocks.0", "blocks.1"]
    with record(model, names) as before:
        plain = model(tokens, Packed(lengths)).split(lengths)
    wishes = {
        1: steering_vectors(model, [push(0, 1, 3.0)]),
        3: steering_vectors(model, [push(1, 2), push(0, 3)]),
    }
    ctx = Packed(lengths)
    with steered(model, ctx, wishes), record(model, names) as after:
        moved = model(tokens, ctx).split(lengths)
    for i in (0, 2):
        assert torch.equal(moved[i], plain[i])
        for name in names:
            assert torch.equal(after[name][0].split(lengths)[i], before[name][0].split(lengths)[i])
    want = before["blocks.0"][0].split(lengths)[1] + wishes[1][0]
    assert torch.equal(after["blocks.0"][0].split(lengths)[1], want)
    for i, n in ((1, 7), (3, 5)):
        assert not torch.equal(moved[i], plain[i])
        alone = Packed([n])
        with steered(model, alone, {0: wishes[i]}):
            torch.testing.assert_close(model(tokens.split(lengths)[i], alone), moved[i], atol=2e-5, rtol=1e-5)
    assert torch.equal(
        torch.cat(model(tokens, Packed(lengths)).split(lengths)), torch.cat(plain)
    )  # it is over
    other = Packed(lengths)
    with steered(model, ctx, wishes):
        assert torch.equal(model(tokens, other), torch.cat(plain))  # a pass of somebody else


@torch.inference_mode()
def test_every_token_is_steered_however_the_sequence_is_cut(make_model: Make) -> None:
    model, tokens = make_model(90), text(9, 1)
    vectors = steering_vectors(model, [push(0, 4, 2.0)])
    whole = Packed([9])
    with steered(model, whole, {0: vectors}):
        want = model(tokens, whole)
    cache, parts = KVCache(model, rows=1, capacity=9), []
    for start, n in ((0, 4), (4, 3), (7, 1), (8, 1)):
        ctx = Cached(cache, [(0, start, n)])
        with steered(model, ctx, {0: vectors}):
            parts.append(model(tokens[start : start + n], ctx))
    torch.testing.assert_close(torch.cat(parts), want, atol=2e-5, rtol=1e-5)


def test_what_does_not_fit_is_refused(make_model: Make) -> None:
    model = make_model(90)
    for wish, says in (
        (Steering(layer=2, vector=(0.0,) * 32), "layer 2"),
        (Steering(layer=-1, vector=(0.0,) * 32), "layer -1"),
        (Steering(layer=0, vector=(0.0,) * 31), "31 numbers"),
        (Steering(layer=0, vector=(math.nan,) * 32), "not finite"),
        (Steering(layer=0, vector=(1e30,) * 32, strength=1e30), "not finite"),
    ):
        with pytest.raises(OrreryError, match=says):
            steering_vectors(model, [wish])


def test_a_direction_is_the_difference_of_mean_activations(lm: LM) -> None:
    bos = [] if lm.tokenizer.bos_id is None else [lm.tokenizer.bos_id]
    texts = ("the cat sat on the mat", "def read(path):", "return path")
    with torch.inference_mode(), record(lm.model, ["blocks.0"]) as seen:
        for part in texts:
            ids = [*bos, *lm.tokenizer.encode(part)]
            lm.model(torch.tensor(ids), Packed([len(ids)]))
    streams = [stream[len(bos) :].double() for stream in seen["blocks.0"]]
    want = streams[0].mean(0) - torch.cat(streams[1:]).mean(0)
    made = steering_from_texts(lm, texts[0], texts[1:], layer=0, strength=4.0)
    assert (made.layer, made.strength) == (0, 4.0)
    torch.testing.assert_close(torch.tensor(made.vector), want.float(), atol=1e-5, rtol=1e-5)
    assert steering_vectors(lm.model, [made])[0].shape == (32,)
    with pytest.raises(OrreryError, match="look the same"):
        steering_from_texts(lm, texts[0], texts[0], layer=0)
    with pytest.raises(OrreryError, match="longer texts"):
        mean_activation(lm.model, [[1, 2]], layer=0, skip=2)
    with pytest.raises(OrreryError, match="no layer 7"):
        steering_from_texts(lm, *texts[:2], layer=7)


@torch.inference_mode()
def test_a_direction_moves_the_stream_along_itself_both_ways(lm: LM) -> None:
    made = steering_from_texts(lm, "def read(path):\n    return path", "the cat sat on the mat.", layer=1)
    tokens, direction = torch.tensor(lm.prompt_ids("the")), torch.tensor(made.vector)
    along = []
    for strength in (-1.0, 0.0, 1.0):
        ctx = Packed([len(tokens)])
        vectors = steering_vectors(lm.model, [replace(made, strength=strength)])
        with steered(lm.model, ctx, {0: vectors}), record(lm.model, ["blocks.1"]) as seen:
            lm.model(tokens, ctx)
        along.append(float((seen["blocks.1"][0] @ direction).mean()))
    length = float(direction.square().sum())
    assert along[2] - along[1] == pytest.approx(length, rel=1e-3)
    assert along[1] - along[0] == pytest.approx(length, rel=1e-3)
