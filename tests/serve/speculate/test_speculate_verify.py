"""The rejection rule is exact in distribution: chi-square on joint strings, and broken rules that the same test catches.

A target and a drafter are tables: the next token's logits are a function of the last two tokens. Strings of three tokens are
made 1,500 times, each under a seed of its own, and counted against the product of the target's conditionals; the slow test
makes 5,000 of four tokens.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections import Counter
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from orrery.kit.lm import GenerateRequest, Sampling
from orrery.kit.seeds import torch_generator, uniform
from orrery.serve.sampling import Chooser
from orrery.serve.speculate import verify as module
from orrery.serve.speculate.drafter import Draft, DraftView
from orrery.serve.speculate.grow import Plant, grow
from orrery.serve.speculate.verify import inverse, residual, verify

V, LENGTH, SAMPLES = 4, 3, 1500
START = (1, 2)
BROKEN = 1e-6
"""A rule is found wrong below this; what is right lies above 1e-3 under the seeds of these tests."""
Table = dict[tuple[int, int], Tensor]
Verify = Callable[..., tuple[list, list[int]]]


def table(name: str, scale: float) -> Table:
    """Logits (V,) for every last two tokens."""
    rng = torch_generator(0, name)
    return {pair: scale * torch.randn(V, generator=rng) for pair in itertools.product(range(V), repeat=2)}


TARGET = table("target", 1.2)
DRAFTER = {pair: row - 0.7 * TARGET[pair] for pair, row in table("drafter", 0.6).items()}  # much of it falls
SAMPLING = {"temperature": 1.1, "min_p": 0.02}
SHAPES: dict[str, tuple[int, ...]] = {"chain": (1, 1, 1), "tree": (2, 2), "bush": (3, 1)}


@functools.cache
def expected(length: int = LENGTH) -> dict[tuple[int, ...], float]:
    """The probability of each string under the target, filters applied."""
    out = {}
    for string in itertools.product(range(V), repeat=length):
        ids, p = list(START), 1.0
        for token in string:
            chooser = Chooser(GenerateRequest(ids=ids, sampling=Sampling(**SAMPLING)), V, V)
            p *= float(chooser.distribution(TARGET[ids[-2], ids[-1]])[token])
            ids.append(token)
        out[string] = p
    return out


def rows(tables: Table, ids: Sequence[int], draft: Draft) -> Tensor:
    """(n + 1, V): what a model that is `tables` says behind ids and behind each draft."""
    paths = [list(ids)]
    for node in range(len(draft)):
        parent = node - 1 if draft.parents is None else draft.parents[node]
        paths.append([*paths[parent + 1], draft.ids[node]])
    return torch.stack([tables[path[-2], path[-1]] for path in paths])


def drafted(view: DraftView, shape: tuple[int, ...]) -> Draft:
    """A draft of the drafter's table, grown as model drafters grow theirs."""

    def step(plants: list[Plant]) -> list[Tensor]:
        return [rows(DRAFTER, view.ids, plant.draft())[[n + 1 for n in plant.newest]] for plant in plants]

    limit = 12
    return grow([Plant(view, shape, limit)], [DRAFTER[view.ids[-2], view.ids[-1]][None]], step)[0]


def likeliest(view: DraftView, shape: tuple[int, ...]) -> Draft:
    """A tree that nothing random went into: the drafter's top tokens, as of Medusa or a lookup."""
    ids, parents, newest = [], [], [-1]
    for branches in shape:
        before, newest = newest, []
        for node in before:
            row = rows(DRAFTER, view.ids, Draft(tuple(ids), tuple(parents)))[node + 1]
            for token in row.topk(branches).indices.tolist():
                newest.append(len(ids))
                ids.append(token)
                parents.append(node)
    return Draft(tuple(ids), tuple(parents))


def strings(
    check: Verify,
    propose: Callable[[DraftView, tuple[int, ...]], Draft],
    shape: tuple[int, ...],
    samples: int = SAMPLES,
    length: int = LENGTH,
) -> Counter:
    """Strings of `length` tokens by draft and verify."""
    counts: Counter = Counter()
    for seed in range(samples):
        ids = list(START)
        chooser = Chooser(GenerateRequest(ids=ids, sampling=Sampling(**SAMPLING, seed=seed)), V, V)
        while len(ids) < len(START) + length:
            view = DraftView(ticket=0, ids=ids, chooser=chooser, room=len(shape), rule="rejection")
            draft = propose(view, shape)
            kept, nodes = check(draft, rows(TARGET, ids, draft), chooser, len(ids), "rejection")
            assert len(kept) == len(nodes) + 1
            ids += [choice.id for choice in kept]
        counts[tuple(ids[len(START) : len(START) + length])] += 1
    return counts


def p_value(counts: Counter, truth: dict[tuple[int, ...], float]) -> float:
    """Of Pearson's chi-square; strings expected less than 5 times count as one."""
    samples = counts.total()
    rare = [s for s, p in truth.items() if p * samples < 5]
    cells = [(counts[s], p * samples) for s, p in truth.items() if p * samples >= 5]
    if rare:
        cells.append((sum(counts[s] for s in rare), sum(truth[s] for s in rare) * samples))
    cells = [(seen, wanted) for seen, wanted in cells if wanted > 0]
    statistic = sum((seen - wanted) ** 2 / wanted for seen, wanted in cells)
    return float(torch.special.gammaincc(torch.tensor((len(cells) - 1) / 2.0), torch.tensor(statistic / 2)))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("propose", [drafted, likeliest], ids=["drawn", "point masses"])
def test_joint_strings_follow_the_model(shape: str, propose) -> None:
    assert p_value(strings(verify, propose, SHAPES[shape]), expected()) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("propose", [drafted, likeliest], ids=["drawn", "point masses"])
def test_joint_strings_of_four_tokens(shape: str, propose) -> None:
    assert p_value(strings(verify, propose, SHAPES[shape], samples=5000, length=4), expected(4)) > 1e-3


def accept_always(draft, logits, chooser, position, rule):
    """Takes the first branch without a look."""
    kept, nodes, at = [], [], -1
    while at in draft.children:
        at = draft.children[at][0]
        kept.append(chooser.report(logits[at], draft.ids[at]))
        chooser.push(draft.ids[at])
        nodes.append(at)
    kept.append(chooser.choose(logits[at + 1], position + len(nodes)))
    chooser.push(kept[-1].id)
    return kept, nodes


def test_accepting_always_is_caught() -> None:
    assert p_value(strings(accept_always, drafted, SHAPES["chain"]), expected()) < BROKEN


@pytest.mark.parametrize("shape", ["chain", "bush"])
def test_drawing_from_p_instead_of_the_residual_is_caught(shape: str, monkeypatch) -> None:
    monkeypatch.setattr(module, "residual", lambda p, q: p)
    assert p_value(strings(verify, drafted, SHAPES[shape]), expected()) < BROKEN


def test_asking_siblings_in_another_order_is_caught() -> None:
    """The second was drawn from what the first had left; asked first, it is not."""

    def reordered(draft, *rest):
        draft.children.update({parent: nodes[::-1] for parent, nodes in draft.children.items()})
        return verify(draft, *rest)

    assert p_value(strings(reordered, drafted, SHAPES["bush"]), expected()) < BROKEN


def test_judging_by_another_tokens_row_is_caught() -> None:
    """Row i + 1 is about what follows draft i, not about draft i + 1."""

    def shifted(draft, logits, *rest):
        return verify(draft, logits.roll(1, 0), *rest)

    assert p_value(strings(shifted, drafted, SHAPES["chain"]), expected()) < BROKEN


def test_forgetting_that_siblings_were_drawn_without_replacement_is_caught() -> None:
    """The second sibling judged as if it had been drawn from the whole distribution."""

    def forgetful(draft, *rest):
        first = {node: nodes[0] for nodes in draft.children.values() for node in nodes}
        whole = draft.probabilities[[first[node] for node in range(len(draft))]]
        return verify(Draft(draft.ids, draft.parents, whole), *rest)

    assert p_value(strings(forgetful, drafted, SHAPES["bush"]), expected()) < BROKEN


def test_one_draw_for_coin_and_residual_is_caught(monkeypatch) -> None:
    """The number that decided that a draft falls cannot also decide what replaces it."""
    monkeypatch.setattr(module, "uniform", lambda seed, purpose, *rest: uniform(seed, "one", *rest[:2]))
    assert p_value(strings(verify, drafted, SHAPES["chain"]), expected()) < BROKEN


def test_residual_by_hand() -> None:
    p, q = torch.tensor([0.5, 0.3, 0.2]).double(), torch.tensor([0.2, 0.6, 0.2]).double()
    assert residual(p, q).tolist() == pytest.approx([1, 0, 0])
    assert residual(p, p).tolist() == p.tolist()  # nothing can have fallen but by rounding
    assert [inverse(p, u) for u in (0.0, 0.499, 0.5, 0.79, 0.8, math.nextafter(1, 0))] == [0, 0, 1, 1, 2, 2]
    assert inverse(torch.tensor([0.4, 0.6, 0.0]).double(), math.nextafter(1, 0)) == 1


def test_expected_acceptance_of_a_chain_is_one_minus_total_variation() -> None:
    """Leviathan et al. 2023, corollary 3.6: the first draft is kept with probability sum min(p, q)."""
    p = TARGET[START].double().softmax(-1)
    q = DRAFTER[START].double().softmax(-1)
    kept = 0
    for seed in range(1500):
        chooser = Chooser(GenerateRequest(ids=START, sampling=Sampling(seed=seed)), V, V)
        view = DraftView(ticket=0, ids=START, chooser=chooser, room=1, rule="rejection")
        draft = drafted(view, (1,))
        kept += len(verify(draft, rows(TARGET, START, draft), chooser, 2, "rejection")[1])
    wanted = float(torch.minimum(p, q).sum())
    assert kept / 1500 == pytest.approx(wanted, abs=4 * math.sqrt(wanted * (1 - wanted) / 1500))


def test_greedy_keeps_exactly_the_argmax() -> None:
    request = GenerateRequest(ids=START, sampling=Sampling(temperature=0))
    best = int(TARGET[START].argmax())
    for rule in ("coupled", "rejection"):
        for token in range(V):
            chooser = Chooser(request, V, V)
            draft = Draft((token,))
            kept, nodes = verify(draft, rows(TARGET, START, draft), chooser, 2, rule)
            assert kept[0].id == best and nodes == ([0] if token == best else [])


def test_siblings_drawn_without_replacement_differ_and_say_from_what() -> None:
    chooser = Chooser(GenerateRequest(ids=START, sampling=Sampling(seed=5)), V, V)
    view = DraftView(ticket=0, ids=START, chooser=chooser, room=1, rule="rejection")
    draft = drafted(view, (3,))
    q = chooser.distribution(DRAFTER[START])
    assert len(set(draft.ids)) == 3 and draft.probabilities is not None
    assert draft.probabilities[0].tolist() == pytest.approx(q.tolist())
    q[draft.ids[0]] = 0
    assert draft.probabilities[1].tolist() == pytest.approx((q / q.sum()).tolist())
    q[draft.ids[1]] = 0
    assert draft.probabilities[2].tolist() == pytest.approx((q / q.sum()).tolist())
