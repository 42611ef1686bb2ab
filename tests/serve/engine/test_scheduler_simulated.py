"""The scheduler at work, simulated without a model: outputs, throughput, fairness, and that nobody starves."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from orrery.serve.engine.scheduler import Limits, Plan
from tests.serve.engine.simulation import Simulation, alone

LIMITS = Limits(token_budget=32, max_sequences=4, block_size=4)


def texts(seed: int, n: int, longest: int) -> list[list[int]]:
    rng = random.Random(seed)
    return [[rng.randrange(2) for _ in range(rng.randrange(1, longest))] for _ in range(n)]


@pytest.mark.parametrize(
    ("preemption", "prefix_cache", "budget"),
    [("recompute", True, 8), ("swap", True, 64), ("recompute", False, 64), ("swap", False, 8)],
)
def test_many_on_few_blocks_say_what_they_say_alone(preemption: Any, prefix_cache: bool, budget: int) -> None:
    """60 requests on blocks for about three, with drafts, priorities and tenants."""
    limits = replace(LIMITS, token_budget=budget, max_sequences=8, windows=(None, 7), preemption=preemption)
    simulation = Simulation(limits, n_blocks=31, prefix_cache=prefix_cache)
    rng = random.Random(5)
    requests = {}
    for prompt_ids in texts(4, 60, 40):
        n = rng.randrange(1, 40)
        settings: dict[str, Any] = {
            "drafts": rng.choice([0, 3]),
            "tenant": rng.choice("ab"),
            "priority": rng.randrange(3),
        }
        requests[simulation.add(prompt_ids, n, **settings)] = (prompt_ids, n)
        if rng.random() < 0.5:
            simulation.step()
            simulation.check()
    while simulation.running or simulation.queued:
        simulation.step()
        simulation.check()
    assert len(simulation.finished) == 60
    for ticket, (prompt_ids, n) in requests.items():
        assert simulation.finished[ticket][1].ids == alone(prompt_ids, n)
    assert simulation.preemptions > 5
    assert any(s.preempted > 0 for _, s in simulation.finished.values())
    assert (simulation.hits > 0) == prefix_cache
    assert simulation.put_back <= 2
    assert all(pool.used == 0 for pool in simulation.pools)


def test_the_same_requests_give_the_same_plans() -> None:
    def run() -> list[Plan]:
        simulation = Simulation(replace(LIMITS, windows=(None, 5)), n_blocks=30, seed=1)
        for i, ids in enumerate(texts(2, 30, 30)):
            simulation.add(ids, 12, drafts=i % 3, tenant="ab"[i % 2])
        simulation.run()
        return simulation.trace

    assert run() == run()


def test_a_full_step_while_prompts_wait() -> None:
    """Throughput: with blocks and slots for all, every step but the last few spends the whole budget on needed tokens."""
    simulation = Simulation(replace(LIMITS, max_sequences=64), n_blocks=2000, prefix_cache=False)
    requests = texts(8, 40, 200)
    for ids in requests:
        simulation.add(ids, 4)
    simulation.run()
    needed = sum(len(ids) + 4 - 1 for ids in requests)  # the last token is not read
    assert simulation.tokens == needed
    assert simulation.preemptions == 0
    assert simulation.steps <= -(-needed // 32) + 4


def test_one_step_a_token_whatever_prompts_arrive() -> None:
    """Chunked prefill: a sequence that decodes gets a token in every step while long prompts come in."""
    simulation = Simulation(replace(LIMITS, max_sequences=8), n_blocks=2000)
    ticket = simulation.add([1, 2], 60)
    for ids in texts(1, 30, 300):
        simulation.step()
        simulation.add(ids, 2)
    simulation.run()
    end, sequence = simulation.finished[ticket]
    assert sequence.started is not None and end - sequence.started == 60 - 1


def test_waits_are_fair_on_a_small_pool() -> None:
    """200 equal requests at once on blocks for four: each begins when its fair turn comes, three times that at most."""
    simulation = Simulation(replace(LIMITS, max_sequences=8), n_blocks=4 * 10 + 1, prefix_cache=False)
    for ids in texts(6, 200, 21):
        simulation.add(ids, 20)
    simulation.run()
    assert len(simulation.finished) == 200
    for ticket, (_, sequence) in simulation.finished.items():
        turn = ticket / 200 * simulation.steps
        assert sequence.started is not None and sequence.started <= 3 * turn + 20


def _waits(flood: bool) -> list[int]:
    """Steps that ten short requests of one tenant take, while another has 300 long ones waiting or none."""
    simulation = Simulation(replace(LIMITS, max_sequences=8), n_blocks=400, prefix_cache=False)
    if flood:
        for ids in texts(3, 300, 60):
            simulation.add(ids, 60, tenant="flood")
    for _ in range(30):
        simulation.step()
    came = {}
    for ids in texts(4, 10, 20):
        came[simulation.add(ids, 8, tenant="short")] = simulation.steps
        for _ in range(15):
            simulation.step()
    return sorted(simulation.finished[ticket][0] - step + 1 for ticket, step in came.items())


def test_a_flood_does_not_delay_another_tenant() -> None:
    solo, crowded = _waits(flood=False), _waits(flood=True)
    assert crowded[-1] <= 2 * solo[-1]


@pytest.mark.parametrize("reason", ["priority", "size", "tenant"])
def test_nobody_starves(reason: str) -> None:
    """Others that are preferred always wait. The last of six requests ends all the same, and the elder sees to it: without it
    the requests wait as long as others come. (Each new tenant is level with the least served: fair, and no end to it.)"""

    def end(patience: int) -> int | None:
        limits = replace(LIMITS, max_sequences=4, patience=patience, token_budget=16)
        simulation = Simulation(limits, n_blocks=30, prefix_cache=False)
        prompt_ids = [1] * (80 if reason == "size" else 10)
        tickets = [simulation.add(prompt_ids, 20, tenant="poor") for _ in range(6)]
        for _ in range(900):
            while len(simulation.queued) < 8:
                i = simulation.tickets
                tenant = f"new {i}" if reason == "tenant" else "rich"
                simulation.add([1, 2, i % 3], 10, tenant=tenant, priority=0 if reason == "tenant" else -1)
            simulation.step()
        ends = [simulation.finished[ticket][0] for ticket in tickets if ticket in simulation.finished]
        return max(ends) if len(ends) == len(tickets) else None

    assert end(10**9) is None
    ended = end(200)
    assert ended is not None and ended < 200 + 6 * 60


def test_everyone_ends_under_overload() -> None:
    """Random priorities, tenants and sizes, far more than can be served for 150 steps: each ends, in bounded time."""
    rng = random.Random(9)
    limits = replace(LIMITS, max_sequences=6, patience=50, windows=(None, 9))
    simulation = Simulation(limits, n_blocks=60, prefix_cache=False)
    for ids in texts(7, 150, 60):
        simulation.add(ids, rng.randrange(1, 40), priority=rng.randrange(5), tenant=rng.choice("abcd"))
        simulation.step()
    assert len(simulation.queued) > 50
    simulation.run()
    assert len(simulation.finished) == 150
    assert all(s.preempted < 30 for _, s in simulation.finished.values())
