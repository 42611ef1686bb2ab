"""The choice of a replica, without Ray."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.serve.cluster.router import Router, choose, matched, prefix_digests

NAMES = ("a", "b", "c")
PROMPTS = [prefix_digests(f"{i}" * 200) for i in range(60)]


def test_digests_follow_the_blocks() -> None:
    text = "x" * 64 + "y" * 64
    assert len(prefix_digests(text)) == len(prefix_digests(text + "z" * 63)) == 2
    assert prefix_digests(text)[0] == prefix_digests("x" * 128)[0]
    assert prefix_digests(text)[1] != prefix_digests("x" * 128)[1]
    assert prefix_digests(text) != prefix_digests(text, tenant="other")
    assert len(prefix_digests(list(range(40)))) == 2  # ids: blocks of 16
    assert len(prefix_digests("short")) == 1 and prefix_digests("short") != prefix_digests("other")
    assert len(prefix_digests("")) == 1


def test_the_longest_cached_beginning_wins() -> None:
    digests = prefix_digests("q" * 64 * 5)
    loads = dict.fromkeys(NAMES, 0)
    assert choose(digests, loads, {"a": digests[:2], "b": digests[:4], "c": digests[1:]}) == "b"
    assert matched(digests, digests[:3]) == 3 and matched(digests, digests[1:]) == 0


def test_a_busy_replica_gives_way_and_the_least_loaded_is_always_open() -> None:
    digests = prefix_digests("q" * 640)
    # Ten under way at three replicas: c (10 + 1) / 3 = 4.58, so fewer than 5 are open.
    assert choose(digests, {"a": 4, "b": 3, "c": 3}, {"a": digests}) == "a"
    assert choose(digests, {"a": 5, "b": 3, "c": 2}, {"a": digests}) in "bc"
    assert (
        choose(digests, {"a": 9, "b": 9, "c": 9}, {"a": digests}, slack=1.0) == "a"
    )  # equal: the limit is 10
    assert choose(digests, {"a": 0}, {}) == "a"


def test_without_a_cache_the_choice_is_even_and_consistent() -> None:
    loads = dict.fromkeys(NAMES, 0)
    chosen = [choose(digests, loads, {}) for digests in PROMPTS]
    assert all(10 <= n <= 32 for n in Counter(chosen).values())
    assert chosen == [choose(digests, dict.fromkeys(reversed(NAMES), 0), {}) for digests in PROMPTS]
    # One replica goes: only what was its own moves.
    left = [choose(digests, {"a": 0, "b": 0}, {}) for digests in PROMPTS]
    assert all(now == before for now, before in zip(left, chosen, strict=True) if before != "c")
    longer = [prefix_digests(f"{i}" * 200 + "more" * 40) for i in range(60)]
    assert [choose(digests, loads, {}) for digests in longer] == chosen  # by the first block


@given(st.lists(st.integers(0, 50), min_size=1, max_size=8), st.integers(0, 59), st.floats(1.0, 3.0))
@settings(max_examples=200, deadline=None)
def test_nobody_gets_much_more_than_an_even_share(counts: list[int], prompt: int, slack: float) -> None:
    loads = {str(i): n for i, n in enumerate(counts)}
    seen = {str(i): PROMPTS[prompt] for i in range(0, len(counts), 2)}
    chosen = choose(PROMPTS[prompt], loads, seen, slack=slack)
    share = (sum(counts) + 1) / len(counts)
    assert loads[chosen] < slack * share + 1


@given(st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_conversations_stay_where_they_began_and_loads_stay_even(seed: int) -> None:
    """Twelve conversations of growing prompts, answered in any order: nearly all turns find their beginning."""
    rng, router = random.Random(seed), Router(slack=1.5)
    router.update(NAMES)
    talks, under_way, hits, turns = [f"talk {i} " * 20 for i in range(12)], list[str](), 0, 0
    for _ in range(150):
        if (under_way and rng.random() < 0.5) or len(under_way) > 9:
            router.done(under_way.pop(rng.randrange(len(under_way))))
            continue
        i = rng.randrange(12)
        digests = prefix_digests(talks[i])
        chosen = router.choose(digests)
        hits += matched(digests, router._seen[chosen]) > 0
        turns += 1
        router.sent(chosen, digests)
        under_way.append(chosen)
        talks[i] += "and so on " * 8
        assert router.loads[chosen] <= 1.5 * (len(under_way) / 3) + 1
    assert sum(router.loads.values()) == len(under_way)
    assert hits >= 0.6 * (turns - 12)


def test_what_is_not_used_is_forgotten_from_its_end() -> None:
    router = Router(memory=4)
    router.update(["a"])
    first, second = prefix_digests("1" * 64 * 3), prefix_digests("2" * 64 * 3)
    router.sent("a", first)
    router.sent("a", second)
    assert matched(second, router._seen["a"]) == 3 and matched(first, router._seen["a"]) == 1


def test_replicas_come_and_go() -> None:
    router = Router()
    router.update(["a", "b"])
    digests = prefix_digests("q" * 640)
    router.sent("a", digests)
    router.update(["b", "c"])
    assert router.loads == {"b": 0, "c": 0} and router.choose(digests) in ("b", "c")
    router.done("a")  # of a replica that is gone
    router.sent("a", digests)
    router.update(["a", "b"])
    assert router.loads == {"a": 0, "b": 0} and matched(digests, router._seen["a"]) == 0
