"""The plan of a step, worked by hand; what holds of every plan."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.serve.engine.scheduler import Item, Limits, Plan, SchedulerState, plan

LIMITS = Limits(token_budget=32, max_sequences=4, block_size=4)


def item(ticket: int, **settings: Any) -> Item:
    return Item(**{"ticket": ticket, "arrival": ticket, "length": 8, "fixed": (0,), "held": (2,), **settings})


def prompt(ticket: int, pending: int, **settings: Any) -> Item:
    return item(ticket, length=0, pending=pending, held=(0,), **settings)


def planned(running: Sequence[Item], queued: Sequence[Item] = (), *, free: int = 100, **more: Any) -> Plan:
    """The plan of step 100 for one group with `free` blocks; `more` are `served` and limits."""
    served = more.pop("served", {})
    state = SchedulerState(
        step=100, running=tuple(running), queued=tuple(queued), free=(free,), served=served
    )
    return plan(state, replace(LIMITS, **more))


# -- a step ---------------------------------------------------------------------------------------------------------


def test_nothing_to_do() -> None:
    assert planned([]) == Plan(preempt=(), admit=(), work=(), wait=(), served={})


def test_decodes_come_first_and_a_prompt_fills_the_step() -> None:
    done = planned([prompt(0, 100), item(1), item(2), item(3)])
    assert dict(done.work) == {1: 1, 2: 1, 3: 1, 0: 29}
    assert done.wait == () == done.preempt


def test_a_prompt_is_let_in_beside_decodes() -> None:
    done = planned([item(0), item(1)], [prompt(2, 20), prompt(3, 20), prompt(4, 5)])
    assert done.admit == (2, 3)  # four slots, and 32 tokens: 1 + 1 + 20 + 10
    assert done.work == ((0, 1), (1, 1), (2, 20), (3, 10))


def test_a_short_rest_goes_with_the_decodes() -> None:
    done = planned([prompt(0, 100), item(1, pending=4), item(2)])
    assert dict(done.work) == {1: 4, 2: 1, 0: 27}


def test_drafts_count_against_the_budget() -> None:
    assert planned([item(0, drafts=5), item(1, drafts=5)]).work == ((0, 6), (1, 6))
    assert planned([item(0, drafts=5), item(1, drafts=5)], token_budget=9).work == ((0, 6), (1, 3))
    assert planned([item(0, drafts=5), item(1, drafts=5)], token_budget=2).work == ((0, 1), (1, 1))


def test_drafts_leave_a_waiting_prompt_half_of_the_rest() -> None:
    done = planned([item(0, drafts=30)], [prompt(1, 100)], token_budget=21)
    assert done.work == ((0, 1 + 10), (1, 10))
    assert planned([item(0, drafts=30)], [prompt(1, 3)], token_budget=21).work == ((0, 18), (1, 3))
    assert planned([item(0, drafts=2)], [prompt(1, 100)], token_budget=21).work == ((0, 3), (1, 18))


def test_drafts_take_no_blocks_that_others_need() -> None:
    """One block is free: the prompt gets it, and the draft stays within its own block (8 tokens are in, 7 have slots)."""
    done = planned([item(0, length=6, drafts=5), prompt(1, 20)], free=1)
    assert dict(done.work) == {0: 2, 1: 4}
    assert done.preempt == ()


def test_a_prompt_shrinks_to_the_free_blocks() -> None:
    done = planned([item(0, length=5, pending=20)], free=2)
    assert done.work == ((0, 3 + 8),)
    assert planned([item(0, length=5, pending=20, fixed=(1,))], free=2).work == ((0, 3 + 4),)  # one is copied


def test_every_group_must_have_room() -> None:
    running = item(0, length=5, pending=20, fixed=(0, 0), held=(2, 2))
    state = SchedulerState(step=0, running=(running,), free=(9, 1))
    assert plan(state, replace(LIMITS, windows=(None, 8))).work == ((0, 3 + 4),)


def test_a_model_without_attention_is_bounded_by_tokens_and_slots() -> None:
    waiting = tuple(Item(ticket=i, arrival=i, pending=12) for i in range(6))
    done = plan(SchedulerState(step=0, queued=waiting), replace(LIMITS, windows=()))
    assert done.work == ((0, 12), (1, 12), (2, 8))


# -- the queue ------------------------------------------------------------------------------------------------------


def admitted(queued: list[Item], **settings: Any) -> tuple[int, ...]:
    return planned([], queued, **settings).admit


def test_the_order_of_the_queue() -> None:
    first = [prompt(3, 1, priority=-1), prompt(1, 1), prompt(2, 1), prompt(0, 1, priority=5)]
    assert admitted(first) == (3, 1, 2, 0)
    tenants = [prompt(i, 4, tenant="busy") for i in range(3)] + [
        prompt(i, 4, tenant="calm") for i in (7, 8, 9)
    ]
    assert admitted(tenants, served={"busy": 100, "calm": 90}) == (7, 8, 9, 0)
    assert admitted(tenants, served={"busy": 10, "calm": 10}) == (0, 7, 1, 8)
    assert admitted([prompt(5, 1, priority=1, tenant="calm"), *tenants[:2]], served={"busy": 9}) == (0, 1, 5)


def test_a_tenant_that_was_away_has_no_credit() -> None:
    done = planned([item(0, tenant="a"), item(1, tenant="b")], served={"a": 500, "b": 300, "gone": 7})
    assert done.served == {"a": 501, "b": 301}
    done = planned([item(0, tenant="a")], [prompt(1, 6, tenant="new")], served={"a": 500})
    assert done.served == {"a": 501, "new": 506}


def test_a_large_request_is_not_overtaken_for_ever() -> None:
    """It needs 10 blocks, the decode takes one and may need one more; the small one behind it must not take what is free."""
    waiting = [prompt(1, 40), prompt(2, 4)]
    assert planned([item(0)], waiting, free=11).admit == ()
    assert planned([item(0)], waiting, free=12).admit == (1,)
    assert planned([item(0)], waiting[1:], free=11).admit == (2,)


def test_no_prompt_is_let_in_while_one_is_read() -> None:
    assert planned([prompt(0, 100)], [prompt(1, 4)]).work == ((0, 32),)


def test_cached_blocks_that_a_prefix_takes_are_not_free_for_others() -> None:
    """20 tokens, of which 12 are cached in three blocks that nobody holds: 3 + 2 of the free ones, and one for the decode."""
    hit = item(1, length=12, pending=8, fixed=(3,), held=())
    for free, admit in [(7, (1,)), (6, ())]:
        assert planned([item(0)], [hit], free=free).admit == admit
    shared = replace(hit, fixed=(0,))
    assert planned([item(0)], [shared], free=4).admit == (1,)


def test_layers_with_a_window_are_counted_by_it() -> None:
    """400 tokens need 100 blocks of a full group, but of a window of 8 at most (8 + 32) / 4 + 1 = 11; one for the decode."""
    queued = [prompt(1, 400, fixed=(0, 0))]
    decode = item(0, length=5, fixed=(0, 0), held=(2, 2))
    for free, admit in [((101, 12), (1,)), ((101, 11), ()), ((100, 12), ())]:
        state = SchedulerState(step=0, running=(decode,), queued=tuple(queued), free=free)
        assert plan(state, replace(LIMITS, windows=(None, 8))).admit == admit


def test_alone_anything_may_begin() -> None:
    assert planned([], [prompt(0, 400)], free=3).work == ((0, 12),)


def test_a_request_that_will_fork_takes_its_slots_at_once() -> None:
    assert planned([item(0), item(1)], [prompt(2, 1, slots=3)]).admit == ()
    assert planned([item(0)], [prompt(2, 1, slots=3), prompt(3, 1)]).admit == (2,)


# -- when blocks or slots run out -----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["recompute", "swap"])
def test_the_last_makes_room(how: Any) -> None:
    """Each is at a border and needs a block; none is free. The last gives up two, for the first two."""
    done = planned([item(0), item(1), item(2)], free=0, preemption=how)
    assert done.preempt == ((2, how),)
    assert done.work == ((0, 1), (1, 1))


def test_lower_priority_makes_room_before_later_arrival() -> None:
    done = planned([item(0, priority=1), item(1), item(2)], free=1)
    assert done.preempt == ((0, "recompute"),)
    assert done.work == ((1, 1), (2, 1))


def test_the_last_itself_pauses() -> None:
    """It keeps its blocks until someone before it needs them."""
    done = planned([item(0, length=5), item(1, length=5), item(2)], free=0)
    assert (done.preempt, done.wait, done.work) == ((), (2,), ((0, 1), (1, 1)))


def test_nobody_is_preempted_in_vain() -> None:
    """The first lacks three blocks, and the other could give one. It pauses, and the other goes on."""
    done = planned([item(0, fixed=(2,)), item(1, length=5, held=(1,))], free=0)
    assert (done.preempt, done.wait, done.work) == ((), (0,), ((1, 1),))


def test_forks_that_hold_all_blocks_together_give_way_one_by_one() -> None:
    """Each alone would free nothing, for the others hold the same; without help nobody could go on."""
    running = [item(i, held=(0,)) for i in range(3)]
    done = planned(running, free=0)
    assert (done.preempt, done.work) == (((2, "recompute"),), ())
    done = planned([replace(running[0], held=(1,)), replace(running[1], held=(1,))], free=0)
    assert (done.preempt, done.work) == (((1, "recompute"),), ((0, 1),))


def test_a_plan_takes_work_back_from_whom_it_preempts() -> None:
    """The decode got a token before the prompt of smaller priority found no block."""
    done = planned([item(0, length=5, priority=1), prompt(1, 40)], free=1)
    assert (done.preempt, done.work) == ((), ((0, 1), (1, 4)))
    done = planned([item(0, length=5, priority=1), prompt(1, 40)], free=0)
    assert done.preempt == ((0, "recompute"),)
    assert done.work == ((1, 8),)
    assert done.served == {"": 8}


def test_smaller_priority_displaces() -> None:
    running = [item(i, priority=2) for i in range(4)]
    done = planned(running, [prompt(9, 5, priority=1)])
    assert (done.preempt, done.admit) == (((3, "recompute"),), (9,))
    assert planned(running, [prompt(9, 5, priority=2)]).preempt == ()


def test_a_tenant_without_a_place_displaces_one_with_two() -> None:
    running = [item(i, tenant="a") for i in range(4)]
    done = planned(running, [prompt(i, 5, tenant="b") for i in range(4, 8)])
    assert done.preempt == ((3, "recompute"), (2, "recompute"))
    assert done.admit == (4, 5)
    even = [*running[:2], item(4, tenant="b"), item(5, tenant="b")]
    assert planned(even, [item(2, tenant="a")], served={"a": 0, "b": 900}).preempt == ()


def test_the_elder_goes_before_all() -> None:
    """The oldest, once it is `patience` steps old; of two old ones only the older."""
    running = [item(i, arrival=90) for i in range(4)]
    queued = [prompt(8, 5, priority=9, arrival=50), prompt(9, 5, priority=9, arrival=40)]
    assert planned(running, queued, patience=61).preempt == ()
    done = planned(running, queued, patience=60)
    assert (done.preempt, done.admit) == (((3, "recompute"),), (9,))
    holds = [item(0, arrival=0, priority=9), item(1, arrival=50)]
    assert planned(holds, [prompt(2, 5, priority=-5)], max_sequences=2, patience=60).preempt == (
        (1, "recompute"),
    )
    assert planned(holds[:1], [prompt(2, 5, priority=-5)], max_sequences=1, patience=60).preempt == ()


# -- properties -----------------------------------------------------------------------------------------------------

ITEMS = st.builds(
    lambda arrival, priority, tenant, length, pending, drafts, fixed, held: Item(
        ticket=0,
        arrival=arrival,
        priority=priority,
        tenant=tenant,
        length=length,
        pending=pending,
        drafts=drafts if pending == 1 else 0,
        fixed=fixed,
        held=held,
    ),
    st.integers(0, 40),
    st.integers(-1, 1),
    st.sampled_from(["a", "b", "c"]),
    st.integers(0, 30),
    st.sampled_from([1, 1, 1, 3, 10, 50]),
    st.integers(0, 6),
    st.tuples(st.integers(0, 1), st.integers(0, 1)),
    st.tuples(st.integers(0, 8), st.integers(0, 3)),
)


@given(
    running=st.lists(ITEMS, max_size=6),
    queued=st.lists(ITEMS, max_size=6),
    free=st.tuples(st.integers(0, 20), st.integers(0, 8)),
    budget=st.integers(1, 40),
    patience=st.sampled_from([10, 1000]),
    shuffle=st.randoms(use_true_random=False),
)
@settings(max_examples=100, deadline=None)
def test_a_plan_keeps_all_limits(
    running: list[Item],
    queued: list[Item],
    free: tuple[int, int],
    budget: int,
    patience: int,
    shuffle: random.Random,
) -> None:
    items = [replace(x, ticket=i) for i, x in enumerate(running + queued)]
    here, there = items[: len(running)], items[len(running) :]
    limits = Limits(token_budget=budget, max_sequences=6, block_size=4, windows=(None, 6), patience=patience)
    state = SchedulerState(step=50, running=tuple(here), queued=tuple(there), free=free)
    done = plan(state, limits)
    work, known = dict(done.work), {x.ticket: x for x in items}
    preempted = {ticket for ticket, _ in done.preempt}
    after = {x.ticket for x in here} - preempted | set(done.admit)
    assert sum(work.values()) <= budget
    assert set(work) | set(done.wait) == after
    assert set(done.admit) <= set(work) & {x.ticket for x in there}
    assert preempted <= {x.ticket for x in here}
    assert len(after) <= 6
    for ticket, n in work.items():
        assert 1 <= n <= known[ticket].pending + known[ticket].drafts
    for group in range(2):
        taken = sum(
            -(-(known[t].length + n) // 4) - -(-known[t].length // 4) + known[t].fixed[group]
            for t, n in work.items()
        )
        assert taken <= free[group] + sum(known[t].held[group] for t in preempted)
    assert sum(done.served.values()) == sum(work.values())
    shuffle.shuffle(here)
    shuffle.shuffle(there)
    assert plan(replace(state, running=tuple(here), queued=tuple(there)), limits) == done
