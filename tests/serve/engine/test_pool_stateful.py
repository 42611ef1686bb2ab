"""Anything may happen to the cache in any order: add, step, cancel, fork, preempt, finish, step back. The ledger holds after each.

The machine of hypothesis finds and shrinks short failures. The driver goes far: ORRERY_POOL_OPERATIONS says how many operations
(200,000 unless it does); by hand

    ORRERY_POOL_OPERATIONS=1000000 pytest -m slow -n 0 tests/serve/engine/test_pool_stateful.py
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from orrery.kit.errors import OrreryError
from orrery.serve.engine import blocks
from orrery.serve.engine.blocks import BlockPool
from orrery.serve.engine.scheduler import Limits, Preemption
from orrery.serve.engine.tables import BlockTables
from tests.serve.engine.simulation import Simulation, alone

OPERATIONS = int(os.environ.get("ORRERY_POOL_OPERATIONS", "200000"))
SLACK = 3
LIVE = 10
WINDOWS: tuple[tuple[int | None, ...], ...] = ((None,), (None, 6), (5,), (None, 3, 9))


def simulation(
    windows: tuple[int | None, ...], preemption: Preemption, n_blocks: int, seed: int
) -> Simulation:
    limits = Limits(
        token_budget=12, max_sequences=5, block_size=4, windows=windows, patience=60, preemption=preemption
    )
    return Simulation(limits, n_blocks=n_blocks, slack=SLACK, seed=seed)


class Traffic:
    """The operations on a simulation; `pick` chooses among n sequences."""

    def __init__(
        self, windows: tuple[int | None, ...], preemption: Preemption, n_blocks: int, seed: int
    ) -> None:
        self.simulation = simulation(windows, preemption, n_blocks, seed)
        self.prompts: dict[int, list[int]] = {}
        self.seen = 0

    def add(self, prompt: list[int], n: int, priority: int, tenant: str, drafts: int) -> None:
        if len(self.simulation.running) + len(self.simulation.queued) < LIVE:
            ticket = self.simulation.add(prompt, n, priority=priority, tenant=tenant, drafts=drafts)
            self.prompts[ticket] = prompt

    def cancel(self, pick: Callable[[int], int]) -> None:
        live = [*self.simulation.running, *self.simulation.queued]
        if live:
            self.simulation.cancel(live[pick(len(live))])

    def finish(self, pick: Callable[[int], int]) -> None:
        """It ends with the token it has."""
        if running := self.simulation.running:
            self.simulation.cancel(running[pick(len(running))])

    def fork(self, pick: Callable[[int], int]) -> None:
        reading = [s for s in self.simulation.running if s.tables.length == len(s.ids) - 1]
        if reading and len(self.simulation.running) + len(self.simulation.queued) < LIVE:
            self.simulation.fork(reading[pick(len(reading))])

    def preempt(self, pick: Callable[[int], int], how: Preemption) -> None:
        if running := self.simulation.running:
            self.simulation.preempt(running[pick(len(running))], how)

    def back(self, pick: Callable[[int], int], n: int) -> None:
        """Only behind the prompt, and as far as the slack goes."""
        can = [
            s
            for s in self.simulation.running
            if s.tables.length == len(s.ids) - 1 >= s.prompt + n and s.tables.length - n >= s.furthest - SLACK
        ]
        if can:
            self.simulation.back(can[pick(len(can))], n)

    def step(self) -> None:
        self.simulation.step()

    def check(self) -> None:
        """The ledger, and every sequence that ended by itself said what it says alone."""
        s = self.simulation
        s.check()
        for ticket in list(s.finished)[self.seen :]:
            _, sequence = s.finished.pop(ticket)
            if not sequence.changed:
                prompt = self.prompts[ticket]
                assert sequence.ids == alone(prompt, len(sequence.ids) - len(prompt))
        for pool in s.pools:
            assert pool.free + pool.used == pool.n_blocks - 1
        for sequence in s.running:
            tables = sequence.tables
            assert all(
                0 <= len(b) * tables.block_size - tables.length < tables.block_size for b in tables.blocks
            )

    def end(self) -> None:
        """All that is left runs to its end, and nothing is held."""
        self.simulation.run()
        self.check()
        assert all(pool.used == 0 for pool in self.simulation.pools)


PROMPTS = st.lists(st.integers(0, 1), min_size=1, max_size=24)
PICK = st.integers(0, LIVE - 1).map(lambda i: lambda n: i % n)


@settings(max_examples=40, stateful_step_count=40, deadline=None)
class Machine(RuleBasedStateMachine):
    """Hypothesis in the place of chance: short runs, and failures shrunk to their cause."""

    @initialize(
        windows=st.sampled_from(WINDOWS),
        preemption=st.sampled_from(["recompute", "swap"]),
        n_blocks=st.integers(16, 30),
    )
    def begin(self, windows: tuple[int | None, ...], preemption: Preemption, n_blocks: int) -> None:
        self.traffic = Traffic(windows, preemption, n_blocks, 0)

    @rule(
        prompt=PROMPTS,
        n=st.integers(1, 16),
        priority=st.integers(0, 2),
        tenant=st.sampled_from("ab"),
        drafts=st.integers(0, 3),
    )
    def add(self, prompt: list[int], n: int, priority: int, tenant: str, drafts: int) -> None:
        self.traffic.add(prompt, n, priority, tenant, drafts)

    @rule()
    def step(self) -> None:
        self.traffic.step()

    @rule(pick=PICK)
    def cancel(self, pick: Callable[[int], int]) -> None:
        self.traffic.cancel(pick)

    @rule(pick=PICK)
    def finish(self, pick: Callable[[int], int]) -> None:
        self.traffic.finish(pick)

    @rule(pick=PICK)
    def fork(self, pick: Callable[[int], int]) -> None:
        self.traffic.fork(pick)

    @rule(pick=PICK, how=st.sampled_from(["recompute", "swap"]))
    def preempt(self, pick: Callable[[int], int], how: Preemption) -> None:
        self.traffic.preempt(pick, how)

    @rule(pick=PICK, n=st.integers(1, SLACK))
    def back(self, pick: Callable[[int], int], n: int) -> None:
        self.traffic.back(pick, n)

    @invariant()
    def ledger(self) -> None:
        if hasattr(self, "traffic"):
            self.traffic.check()

    def teardown(self) -> None:
        if hasattr(self, "traffic"):
            self.traffic.end()


test_machine = Machine.TestCase


def drive(operations: int, seed: int) -> Counter[str]:
    """Random operations, a check after each; the simulation begins anew every 2,000, with a seed of its own."""
    done = Counter[str]()
    for begin in range(0, operations, 2000):
        rng = random.Random(f"{seed} {begin}")
        windows = WINDOWS[begin // 2000 % len(WINDOWS)]
        preemption: Preemption = "swap" if rng.random() < 0.5 else "recompute"
        traffic = Traffic(windows, preemption, rng.randrange(16, 31), rng.randrange(2**30))
        pick = rng.randrange
        for _ in range(min(2000, operations - begin)):
            chance = rng.random()
            if chance < 0.55:
                traffic.step()
                done["step"] += 1
            elif chance < 0.75:
                prompt = [rng.randrange(2) for _ in range(rng.randrange(1, 25))]
                traffic.add(
                    prompt, rng.randrange(1, 17), rng.randrange(3), rng.choice("ab"), rng.randrange(4)
                )
                done["add"] += 1
            elif chance < 0.81:
                traffic.fork(pick)
                done["fork"] += 1
            elif chance < 0.86:
                traffic.cancel(pick)
                done["cancel"] += 1
            elif chance < 0.89:
                traffic.finish(pick)
                done["finish"] += 1
            elif chance < 0.94:
                traffic.preempt(pick, rng.choice(("recompute", "swap")))
                done["preempt"] += 1
            else:
                traffic.back(pick, rng.randrange(1, SLACK + 1))
                done["back"] += 1
            traffic.check()
        traffic.end()
        s = traffic.simulation
        done["evictions"] += sum(pool.evictions for pool in s.pools)
        done["hits"] += s.hits
        done["preemptions"] += s.preemptions
        done["put back"] += s.put_back
    return done


def test_three_thousand_operations() -> None:
    done = drive(3000, seed=0)
    assert all(done[kind] > 50 for kind in done if kind != "put back") and len(done) == 11


@pytest.mark.slow
def test_as_many_operations_as_asked_for() -> None:
    done = drive(OPERATIONS, seed=1)
    print(dict(done))
    assert (
        sum(done[kind] for kind in ("step", "add", "fork", "cancel", "finish", "preempt", "back"))
        == OPERATIONS
    )


# -- the test is tested: each of these faults must be seen -----------------------------------------------------------

RELEASE, EVICT, CHAIN = BlockPool.release, BlockPool._evict, blocks.chain_digest


def _evict_but_still_find(pool: BlockPool) -> int:
    found = dict(pool._found)
    block = EVICT(pool)
    pool._found.update(found)
    return block


def _depth(parent: bytes) -> bytes:
    """How deep a block lies, so that faulty digests make no circles; a root has 32 bytes, a faulty digest never."""
    return bytes([parent[0] + 1 if len(parent) != 32 else 1])


def _without_the_past(parent: bytes, tokens: Sequence[int]) -> bytes:
    return _depth(parent) + CHAIN(b"", tokens)


def _of_one_byte(parent: bytes, tokens: Sequence[int]) -> bytes:
    return _depth(parent) + CHAIN(parent, tokens)[:1]


def _ends_of_drafts_stay(tables: BlockTables, length: int) -> None:
    tables.length = min(tables.length, length)


FAULTS: dict[str, dict[str, Callable[..., Any]]] = {
    "a reference is not given back": {
        "blocks.BlockPool.release": lambda pool, blocks: RELEASE(pool, blocks[:-1])
    },
    "a reference is given back twice": {
        "blocks.BlockPool.release": lambda pool, blocks: (RELEASE(pool, blocks), RELEASE(pool, blocks[:1]))
    },
    "a fork takes no references": {"blocks.BlockPool.share": lambda pool, blocks: None},
    "nothing is copied before it is written": {"blocks.BlockPool.needs_copy": lambda pool, block: False},
    "digests forget the past": {
        "blocks.chain_digest": _without_the_past,
        "tables.chain_digest": _without_the_past,
        "blocks.BlockPool.find": lambda pool, digest, parent, tokens: pool._found.get(digest),
    },
    "short digests, tokens not compared": {
        "blocks.chain_digest": _of_one_byte,
        "tables.chain_digest": _of_one_byte,
        "blocks.BlockPool.find": lambda pool, digest, parent, tokens: pool._found.get(digest),
    },
    "an evicted block is still found": {"blocks.BlockPool._evict": _evict_but_still_find},
    "a window is one block short": {
        "tables._first_seen": lambda pool, n: max(0, n - (pool.window or n) + 5) // pool.block_size
    },
    "rejected drafts keep their blocks": {"tables.BlockTables.truncate": _ends_of_drafts_stay},
    "the plan does not count blocks": {"scheduler._Step.fit": lambda step, item: step.budget},
    "the plan does not count slots": {"scheduler._Step.has_room": lambda step, item: step.fit(item) > 0},
    "the plan does not count tokens": {
        "scheduler._Step.give": lambda step, item, n, sign=1: None,
    },
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for place, replacement in FAULTS[fault].items():
        monkeypatch.setattr(f"orrery.serve.engine.{place}", replacement)
    with pytest.raises((AssertionError, OrreryError, IndexError)):
        drive(8000, seed=2)
