"""Batches are a pure function of the step; rows hold whole examples; shares are kept exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.data.mixture import BLOCK
from orrery.kit.errors import OrreryError
from orrery.model.packed import Packed
from orrery.tune.example_set import ExampleSet
from orrery.tune.examples import Example
from orrery.tune.loader import ExampleLoader, ExampleLoaderConfig

from .conftest import Small


def made(lengths: list[int], name: str = "x", base: int = 0) -> ExampleSet:
    """Examples of these lengths; the second half of each is learned, and ids name the example."""
    return ExampleSet.of(
        (
            Example(tuple(base + 100 * n + i for i in range(length)), tuple(float(i >= length / 2) for i in range(length)), f"row {n}")
            for n, length in enumerate(lengths)
        ),
        name=name,
    )  # fmt: skip


def loader(*sets: ExampleSet, shares: tuple[float, ...] | None = None, **settings: object) -> ExampleLoader:
    return ExampleLoader(sets, ExampleLoaderConfig(**{"context": 16, "rows": 2} | settings), shares=shares)


def test_a_batch_by_hand() -> None:
    batch = loader(made([4, 5]), rows=1).batch(0)
    assert sorted(batch.lengths) == [3, 4] and len(batch) == 7
    at = 0
    for piece, length in zip(batch.pieces, batch.lengths, strict=True):
        ids = [100 * piece.document + i for i in range(length + 1)]
        assert batch.tokens[at : at + length].tolist() == ids[:-1]
        assert batch.targets[at : at + length].tolist() == ids[1:]
        learned = [float(i >= (length + 1) / 2) for i in range(1, length + 1)]
        assert batch.weights[at : at + length].tolist() == learned
        at += length


@settings(max_examples=30, deadline=None)
@given(
    lengths=st.lists(st.integers(2, 17), min_size=1, max_size=40),
    rows=st.integers(1, 3),
    seed=st.integers(0, 3),
    packing=st.sampled_from(["best-fit", "none"]),
)
def test_an_epoch_shows_every_example_once(lengths: list[int], rows: int, seed: int, packing: str) -> None:
    one = loader(made(lengths), rows=rows, seed=seed, packing=packing)
    total = round(one.steps_per_epoch * one.rows_per_step)
    single = loader(made(lengths), rows=1, seed=seed, packing=packing)
    batches = [single.batch(step) for step in range(total)]
    assert sorted(piece.document for batch in batches for piece in batch.pieces) == list(range(len(lengths)))
    assert all(sum(batch.lengths) <= 16 for batch in batches)
    if packing == "none":
        assert all(len(batch.lengths) == 1 for batch in batches)
    again = loader(made(lengths), rows=rows, seed=seed, packing=packing)
    assert torch.equal(again.batch(5).tokens, one.batch(5).tokens)
    first = [batch.tokens for batch in (single.batch(n) for n in range(rows))]
    assert torch.equal(one.batch(0).tokens, torch.cat(first))


def test_ranks_and_micro_batches_divide_a_step() -> None:
    data = made([5] * 40)
    whole = loader(data, rows=4).batch(3).tokens
    parts = [
        ExampleLoader([data], ExampleLoaderConfig(context=16, rows=1, micro_batches=2), rank=r, world=2)
        for r in range(2)
    ]
    assert torch.equal(
        whole, torch.cat([parts[rank].batch(3, micro).tokens for micro in range(2) for rank in range(2)])
    )
    assert parts[0].fingerprint == loader(data, rows=4).fingerprint == parts[1].fingerprint


def test_fingerprints_tell_runs_apart() -> None:
    one = loader(made([5, 6, 7])).fingerprint
    assert one == loader(made([5, 6, 7])).fingerprint
    others = [
        loader(made([5, 6, 8])),
        loader(made([5, 6, 7]), seed=1),
        loader(made([5, 6, 7]), context=17),
        loader(made([5, 6, 7]), packing="none"),
    ]
    assert len({one, *(other.fingerprint for other in others)}) == 5


def test_replay_keeps_its_share_exactly() -> None:
    new, old = made([5] * 60, "new"), made([9] * 12, "old", base=10_000)
    mixed = loader(new, old, shares=(0.75, 0.25), rows=4)
    steps = BLOCK // 4
    found = {part.name: part for part in mixed.drawn(steps)}
    assert found["old"].share == found["old"].wanted == 0.25 and found["new"].rows == 3 * found["old"].rows
    batches = [mixed.batch(step) for step in range(6)]
    drawn = mixed.drawn(6)
    for corpus, part in enumerate(drawn):
        pieces = [piece for batch in batches for piece in batch.pieces if piece.corpus == corpus]
        assert len(pieces) == part.examples
        assert part.supervised == sum(int((mixed.sets[corpus][p.document][1][1:] > 0).sum()) for p in pieces)
    assert sum(int((b.weights > 0).sum()) for b in batches) == sum(part.supervised for part in drawn)


def test_what_has_nothing_to_learn_is_refused() -> None:
    with pytest.raises(OrreryError, match="row 3: this example has nothing to learn"):
        ExampleSet.of([Example((1, 2, 3), (1.0, 0.0, 0.0), "row 3")], name="x")
    with pytest.raises(OrreryError, match="'x' has nothing to learn from"):
        ExampleSet.of([], name="x")
    empty = made([4, 4])
    empty.weights[:] = 0
    with pytest.raises(
        OrreryError, match=r"a batch has nothing to learn from: no token of row [01], row [01] is a target"
    ):
        loader(empty, rows=1).batch(0)
    with pytest.raises(OrreryError, match="row 1: 20 tokens do not fit into a row of 16"):
        loader(made([4, 20]))
    with pytest.raises(OrreryError, match="2 shares for 1 sets"):
        loader(made([4]), shares=(1.0, 2.0))


def test_packed_examples_do_not_see_each_other(small: Small) -> None:
    """The states of an example are the same bits alone and packed beside others."""
    model = small.model().eval()
    data = ExampleSet.of(
        (Example(tuple(int(i) for i in np.arange(3, 3 + n)), (1.0,) * n) for n in (5, 9, 3)), name="x"
    )
    batch = ExampleLoader([data], ExampleLoaderConfig(context=32, rows=1)).batch(0)
    with torch.no_grad():
        together = model(batch.tokens, Packed(batch.lengths)).split(batch.lengths)
        for tokens, states in zip(batch.tokens.split(batch.lengths), together, strict=True):
            alone = model(tokens, Packed([len(tokens)]))
            torch.testing.assert_close(states, alone, rtol=0, atol=1e-6)
