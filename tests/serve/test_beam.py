from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.kit.errors import OrreryError
from orrery.serve.beam import Beam, _falling, beam_search, gnmt_length

EOS = 0


class Table:
    """A language model over 3 tokens given by a function of the ids so far; it follows the beams as a cache would."""

    def __init__(self, seed: int, vocab: int = 3) -> None:
        self.seed, self.vocab = seed, vocab
        self.rows: list[tuple[int, ...]] = [()]

    def logprobs(self, ids: tuple[int, ...]) -> torch.Tensor:
        generator = torch.Generator().manual_seed(hash((self.seed, *ids)) % 2**31)
        return torch.randn(self.vocab, generator=generator).log_softmax(0)

    def step(self, parents: list[int], tokens: list[int]) -> torch.Tensor:
        self.rows = [(*self.rows[p], t) for p, t in zip(parents, tokens, strict=True)]
        return torch.stack([self.logprobs(row) for row in self.rows])

    def search(self, width: int, n: int, alpha: float) -> list[Beam]:
        return beam_search(
            self.logprobs(()),
            self.step,
            width=width,
            max_tokens=n,
            length_penalty=alpha,
            ended=lambda ids: ids[-1] == EOS,
        )

    def exhaustive(self, n: int, alpha: float) -> list[tuple[float, tuple[int, ...]]]:
        texts = set()
        for ids in itertools.product(range(self.vocab), repeat=n):
            texts.add(ids[: ids.index(EOS) + 1] if EOS in ids else ids)
        scored = []
        for ids in texts:
            logprob = sum(float(self.logprobs(ids[:i])[token]) for i, token in enumerate(ids))
            scored.append((logprob / gnmt_length(len(ids), alpha), ids))
        return sorted(scored, reverse=True)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 4), st.sampled_from([0.0, 0.6, 1.0, 2.0]))
def test_with_a_width_of_all_continuations_the_search_is_exhaustive(seed, n, alpha) -> None:
    beams = Table(seed).search(3**n, n, alpha)
    want = Table(seed).exhaustive(n, alpha)
    assert [beam.ids for beam in beams] == [ids for _, ids in want]
    assert [beam.score(alpha) for beam in beams] == pytest.approx([score for score, _ in want], abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000))
def test_width_one_without_an_end_is_greedy(seed) -> None:
    table, ids = Table(seed), ()
    for _ in range(5):
        ids = (*ids, int(table.logprobs(ids).argmax()))
    (beam,) = beam_search(table.logprobs(()), table.step, width=1, max_tokens=5, ended=lambda ids: False)
    assert beam.ids == ids
    assert not beam.finished


def test_a_garden_path_where_greedy_loses() -> None:
    """Greedy takes .6 then .34; the other way is .4 then .9."""
    table = {(): [0.0, 0.6, 0.4], (1,): [0.32, 0.34, 0.34], (2,): [0.9, 0.05, 0.05]}
    rows: list[tuple[int, ...]] = [()]

    def step(parents, tokens):
        rows[:] = [(*rows[p], t) for p, t in zip(parents, tokens, strict=True)]
        return torch.tensor([table[row] for row in rows]).log()

    def run(width):
        rows[:] = [()]
        return beam_search(
            torch.tensor(table[()]).log(),
            step,
            width=width,
            max_tokens=2,
            ended=lambda ids: ids[-1] == EOS,
            length_penalty=0.0,
        )

    assert run(1)[0].ids == (1, 1)
    assert run(2)[0].ids == (2, 0)
    assert run(2)[0].logprob == pytest.approx(math.log(0.36))


def test_length_penalty_by_hand() -> None:
    assert gnmt_length(1, 0.6) == 1
    assert gnmt_length(7, 1.0) == 2
    assert gnmt_length(19, 0.5) == 2
    beam = Beam(ids=(1,) * 7, logprobs=(-0.5,) * 7)
    assert beam.score(1.0) == pytest.approx(-1.75)
    assert beam.score(0.0) == pytest.approx(-3.5)


def test_a_higher_penalty_prefers_longer_texts() -> None:
    """Stopping has probability .3 everywhere: log .3 = -1.20 beats 6 log .7 = -2.14, but not -2.14 / (11/6)^2 = -.64."""
    p = torch.tensor([0.3, 0.7]).log()

    def length(alpha: float) -> int:
        step, stop = lambda parents, tokens: p.expand(len(parents), 2), lambda ids: ids[-1] == EOS
        return len(beam_search(p, step, width=4, max_tokens=6, ended=stop, length_penalty=alpha)[0].ids)

    assert [length(0.0), length(2.0)] == [1, 6]


@settings(deadline=None)
@given(st.lists(st.sampled_from([-1.0, 0.0, 0.5]), min_size=1, max_size=300), st.integers(1, 300))
def test_places_fall_as_in_a_whole_sort(values, asked) -> None:
    """Also far beyond the first places that are sorted, and with many equals."""
    want = torch.tensor(values).sort(descending=True, stable=True).indices.tolist()
    assert list(itertools.islice(_falling(torch.tensor(values)), asked)) == want[:asked]


def test_mistakes_are_named() -> None:
    with pytest.raises(OrreryError, match="width"):
        Table(0).search(0, 3, 1.0)
