"""Block tables of one sequence: growth, windows, prefixes of several groups, forks, going back, swapping."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.kit.errors import OrreryError
from orrery.serve.engine.blocks import BlockPool, OutOfBlocks, root_digest
from orrery.serve.engine.tables import BlockTables, Copy

ROOT = root_digest("model")
WINDOWS = st.lists(st.none() | st.integers(1, 12), min_size=1, max_size=3)


def pools(*windows: int | None, n_blocks: int = 32, block_size: int = 4) -> list[BlockPool]:
    return [BlockPool(n_blocks, block_size, window=window) for window in windows]


def check(groups: Sequence[BlockPool], *tables: BlockTables) -> None:
    for group, pool in enumerate(groups):
        pool.check([t.blocks[group] for t in tables])


def compute(
    groups: Sequence[BlockPool], ids: Sequence[int], *, chunk: int = 100, root: bytes = ROOT
) -> BlockTables:
    """A sequence that has computed `ids`, `chunk` tokens a step."""
    tables = BlockTables(groups, root=root)
    tables.adopt(tables.prefix(ids), queried=len(ids))
    while tables.length < len(ids):
        tables.grow(min(chunk, len(ids) - tables.length))
        tables.commit(ids[: tables.length])
    return tables


def test_blocks_come_when_tokens_cross_a_border() -> None:
    groups = pools(None)
    tables = BlockTables(groups, root=ROOT)
    assert (tables.need(0), tables.need(4), tables.need(5)) == ((0,), (1,), (2,))
    assert tables.grow(3) == []
    assert (tables.length, len(tables.blocks[0]), tables.need(1), tables.need(2)) == (3, 1, (0,), (1,))
    tables.grow(2)
    assert (tables.length, len(tables.blocks[0]), groups[0].used) == (5, 2, 2)
    tables.release()
    assert (tables.length, groups[0].used, groups[0].cached) == (0, 0, 0)


@given(windows=WINDOWS, steps=st.lists(st.integers(1, 9), max_size=30), slack=st.integers(0, 5))
@settings(max_examples=200, deadline=None)
def test_what_is_kept_is_what_later_tokens_see(
    windows: list[int | None], steps: list[int], slack: int
) -> None:
    """After a commit of n tokens every position that a query from n - slack on sees has a block, and no block is of no use.

    A query at position p sees positions above p - window. Slots without a token are fewer than a block a group.
    """
    groups = pools(*windows, n_blocks=100)
    tables, ids = BlockTables(groups, root=ROOT, slack=slack), []
    for n in steps:
        need, free = tables.need(n), [pool.free for pool in groups]
        tables.grow(n)
        assert [f - pool.free for f, pool in zip(free, groups, strict=True)] == list(need)
        ids += range(len(ids), len(ids) + n)
        tables.commit(ids)
        check(groups, tables)
        for window, blocks in zip(windows, tables.blocks, strict=True):
            assert 0 <= len(blocks) * 4 - len(ids) < 4
            first_seen = 0 if window is None else max(0, len(ids) - slack - window + 1)
            assert [bool(block) for block in blocks] == [4 * i + 3 >= first_seen for i in range(len(blocks))]


def test_a_window_holds_a_bounded_number_of_blocks() -> None:
    groups = pools(None, 8, n_blocks=60)
    tables, ids = BlockTables(groups, root=ROOT), list(range(200))
    for i in range(200):
        tables.grow(1)
        tables.commit(ids[: i + 1])
    assert (groups[0].used, groups[1].used) == (50, 2)  # 200 tokens; positions 193..199 for the next
    assert groups[1].cached == 48


def test_the_next_asks_where_the_last_left_off() -> None:
    groups = pools(None)
    first = compute(groups, range(10))
    second = BlockTables(groups, root=ROOT)
    prefix = second.prefix([*range(9), 50, 51])
    assert (prefix.length, prefix.blocks, prefix.idle) == (8, (tuple(first.blocks[0][:2]),), (0,))
    second.adopt(prefix, queried=11)
    assert (groups[0].hits, groups[0].queries) == (8, 10 + 11)
    second.grow(3)
    check(groups, first, second)
    assert second.blocks[0][:2] == first.blocks[0][:2] and second.blocks[0][2] != first.blocks[0][2]


def test_a_private_sequence_leaves_nothing_to_find() -> None:
    groups = pools(None, 5)
    tables = BlockTables(groups, root=ROOT)
    tables.grow(20)
    tables.commit(range(20), findable=False)
    assert [bool(block) for block in tables.blocks[1]] == [False] * 4 + [True]  # it still forgets
    tables.release()
    check(groups)
    assert [pool.cached for pool in groups] == [0, 0]
    assert BlockTables(groups, root=ROOT).prefix(range(20)).length == 0


def test_the_last_token_is_always_computed() -> None:
    groups = pools(None)
    compute(groups, range(8)).release()
    for length, hit in [(4, 0), (5, 4), (7, 4), (8, 4), (9, 8)]:
        assert BlockTables(groups, root=ROOT).prefix(range(length)).length == hit


def test_a_prefix_is_found_by_its_own_root_only() -> None:
    groups = pools(None)
    compute(groups, range(8)).release()
    assert BlockTables(groups, root=root_digest("model", "other")).prefix(range(8)).length == 0


def test_a_prefix_must_be_whole_in_every_group() -> None:
    """Blocks of 4 and a window of 5: behind 12 tokens a query sees 8..12, so block 2 is all the window needs.

    A token at position 8 sees 4..8: block 1. The window's pool gave its blocks 0 and 1 away.
    """
    groups = pools(None, 5)
    compute(groups, range(13), chunk=1).release()
    prefix = BlockTables(groups, root=ROOT).prefix(range(13))
    assert prefix.length == 12
    assert [bool(b) for b in prefix.blocks[1]] == [False, False, True]
    groups[1].allocate(groups[1].free - 1)  # evicts block 0, then 1, the first that fell out of the window
    again = BlockTables(groups, root=ROOT)
    assert again.prefix(range(13)) == prefix
    assert again.prefix(range(12)).length == 0  # 8 is next, and block 1 is gone
    groups[0].allocate(groups[0].free - 2)  # the full group keeps its first two blocks
    assert again.prefix(range(13)).length == 0


@given(
    windows=WINDOWS,
    texts=st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=24), min_size=1, max_size=12),
    chunk=st.sampled_from([1, 3, 100]),
    n_blocks=st.integers(16, 30),
    slack=st.sampled_from([0, 0, 3]),
)
@settings(max_examples=200, deadline=None)
def test_prefixes_are_the_longest_usable_ones(
    windows: list[int | None], texts: list[list[int]], chunk: int, n_blocks: int, slack: int
) -> None:
    """Against the definition: the longest run of whole blocks of which each group finds all that the next token sees."""
    groups = pools(*windows, n_blocks=n_blocks, block_size=2)
    for ids in texts:
        tables = BlockTables(groups, root=ROOT, slack=slack)
        prefix = tables.prefix(ids)
        usable = []
        for n in range((len(ids) - 1) // 2 + 1):
            here = []
            for pool, window in zip(groups, windows, strict=True):
                lowest = 0 if window is None else max(0, 2 * n - slack - window + 1)
                held = {seal.digest for seal in pool.sealed()}
                chain = BlockTables([pool], root=ROOT)._chain(ids, n)
                here.append(all(chain[i] in held for i in range(n) if 2 * i + 1 >= lowest))
            usable.append(all(here))
        assert prefix.length == 2 * max(n for n, ok in enumerate(usable) if ok)
        free = [pool.free for pool in groups]
        tables.adopt(prefix, queried=len(ids))
        assert [f - pool.free for f, pool in zip(free, groups, strict=True)] == list(prefix.idle)
        while tables.length < len(ids):
            tables.grow(min(chunk, len(ids) - tables.length))
            tables.commit(ids[: tables.length])
            check(groups, tables)
        tables.release()
        check(groups)


def test_forks_share_until_they_write() -> None:
    groups = pools(None, 6)
    first = compute(groups, range(10))
    second, third = first.fork(), first.fork()
    assert first.blocks == second.blocks == third.blocks
    assert [pool.used for pool in groups] == [3, 2]
    assert first.copies == second.copies == (1, 1)
    assert second.need(3) == (2, 2)
    last = [blocks[-1] for blocks in first.blocks]
    assert second.grow(3) == [Copy(g, last[g], second.blocks[g][2]) for g in range(2)]
    assert first.held == (0, 0)
    first.grow(1)
    third_copies = third.grow(1)
    assert third_copies == [] and third.copies == (0, 0)  # the others copied: the block is its own
    check(groups, first, second, third)
    assert len({t.blocks[0][2] for t in (first, second, third)}) == 3
    for tables in (first, second, third):
        tables.release()
    assert [pool.used for pool in groups] == [0, 0]


def test_forks_at_a_border_copy_nothing() -> None:
    groups = pools(None)
    first = compute(groups, range(8))
    second = first.fork()
    assert second.copies == (0,) and second.grow(1) == [] and first.grow(1) == []
    check(groups, first, second)


def test_rejected_drafts_give_their_blocks_back() -> None:
    groups = pools(None, 3)
    tables = compute(groups, range(7))
    before = [list(blocks) for blocks in tables.blocks]
    tables.grow(10)
    tables.truncate(8)
    tables.commit(range(8))
    assert [len(blocks) for blocks in tables.blocks] == [2, 2]
    assert tables.blocks[0] == before[0]
    check(groups, tables)
    tables.release()
    assert BlockTables(groups, root=ROOT).prefix(range(9)).length == 8


def test_going_back_into_a_sealed_block_copies_it() -> None:
    """Tokens 4..7 were certain and are replaced: others may still find the old ones."""
    groups = pools(None)
    tables = compute(groups, range(9))
    old = tables.blocks[0][1]
    tables.truncate(6)
    assert tables.copies == (1,)
    assert tables.grow(2) == [Copy(0, old, tables.blocks[0][1])]
    tables.commit([0, 1, 2, 3, 4, 5, 60, 70])
    tables.release()
    fresh = BlockTables(groups, root=ROOT)
    assert fresh.prefix(range(9)).length == 8
    assert BlockTables(groups, root=ROOT).prefix([0, 1, 2, 3, 4, 5, 60, 70, 0]).length == 8


def test_going_back_needs_slack_where_there_is_a_window() -> None:
    groups = pools(None, 5)
    ids = list(range(20))
    strict, slack = BlockTables(groups, root=ROOT), BlockTables(groups, root=ROOT, slack=6)
    for tables in (strict, slack):
        tables.grow(20)
        tables.commit(ids)
    with pytest.raises(OrreryError, match="cannot go back to 14 tokens"):
        strict.truncate(14)
    assert strict.length == 20
    slack.truncate(14)  # sees 10..14, which begins in block 2
    assert [bool(b) for b in slack.blocks[1]] == [False, False, True, True]
    check(groups, strict, slack)
    strict.grow(3)
    strict.commit(range(23))
    strict.truncate(20)  # sees 16..20, and block 4 is there for the sake of token 19: no slack needed
    check(groups, strict, slack)


def test_a_pool_that_is_short_changes_no_other() -> None:
    groups = [BlockPool(10, 4), BlockPool(3, 4, window=8)]
    tables = BlockTables(groups, root=ROOT)
    with pytest.raises(OutOfBlocks, match="12 more tokens need 3 blocks and 2 of 2 are free"):
        tables.grow(12)
    assert (tables.length, tables.blocks, groups[0].free, groups[1].free) == (0, [[], []], 9, 2)
    tables.grow(8)
    check(groups, tables)


def test_suspended_and_resumed() -> None:
    groups = pools(None, 5)
    ids = list(range(18))
    tables = compute(groups, ids)
    other = compute(groups, [*range(12), 99])
    shape = [[bool(b) for b in blocks] for blocks in tables.blocks]
    tables.suspend()
    assert tables.parked == (5, 2)
    check(groups, other)
    before = [pool.free for pool in groups]
    tables.resume()
    assert [[bool(b) for b in blocks] for blocks in tables.blocks] == shape
    assert [b - pool.free for b, pool in zip(before, groups, strict=True)] == [5, 2]
    assert tables.parked == (0, 0) and tables.length == 18
    check(groups, tables, other)
    tables.grow(2)
    tables.commit([*ids, 18, 19])
    tables.release()
    check(groups, other)
    assert BlockTables(groups, root=ROOT).prefix(range(21)).length == 20


def test_resuming_without_room_changes_nothing() -> None:
    groups = pools(None, None, n_blocks=6)
    tables = compute(groups, range(12))
    tables.suspend()
    groups[1].allocate(3)
    with pytest.raises(OutOfBlocks, match="3 blocks are needed to go on and 2 of 5 are free"):
        tables.resume()
    assert groups[0].free == 5 and tables.parked == (3, 3)


def test_a_model_without_attention_has_no_tables() -> None:
    tables = BlockTables([])
    assert tables.prefix(range(9)).length == 0
    assert (tables.need(5), tables.grow(5), tables.held, tables.copies) == ((), [], (), ())
    tables.commit(range(5))
    tables.truncate(3)
    assert tables.fork().length == 3


def test_contents_survive_everything() -> None:
    """Forks, drafts, steps back and evictions against a store of tokens: a table always reads the sequence's own tokens."""
    random.seed(11)
    windows = (None, 5)
    groups = pools(*windows, n_blocks=40)
    stores = [[[-1] * 4 for _ in range(40)] for _ in windows]
    live: list[tuple[BlockTables, list[int]]] = []

    def write(tables: BlockTables, ids: list[int], n: int) -> None:
        start = tables.length
        for group, source, target in tables.grow(n):
            stores[group][target] = list(stores[group][source])
        for group, store in enumerate(stores):
            for p in range(start, start + n):
                store[tables.blocks[group][p // 4]][p % 4] = ids[p]

    for _ in range(3000):
        kind = random.randrange(6)
        if kind == 0 and len(live) < 4:
            ids = [random.randrange(2) for _ in range(random.randrange(2, 20))]
            tables = BlockTables(groups, root=ROOT, slack=2)
            tables.adopt(tables.prefix(ids), queried=len(ids))
            write(tables, ids, len(ids) - tables.length)
            tables.commit(ids)
            live.append((tables, ids))
        elif kind == 1 and 0 < len(live) < 4:
            tables, ids = random.choice(live)
            live.append((tables.fork(), list(ids)))
        elif kind == 2 and live:
            tables, _ = live.pop(random.randrange(len(live)))
            tables.release()
        elif kind == 3 and live:
            tables, ids = random.choice(live)
            if len(ids) > 3:
                back = random.randrange(1, 3)
                if tables._kept[1] * 4 <= max(0, len(ids) - back - 4):
                    del ids[-back:]
                    tables.truncate(len(ids))
        elif live:
            tables, ids = random.choice(live)
            if len(ids) > 26:
                continue
            drafts = [random.randrange(2) for _ in range(random.randrange(1, 5))]
            write(tables, ids + drafts, len(drafts))
            ids += drafts[: random.randrange(1, len(drafts) + 1)]
            tables.truncate(len(ids))
            tables.commit(ids)
        check(groups, *(tables for tables, _ in live))
        for tables, ids in live:
            for window, blocks, store in zip(windows, tables.blocks, stores, strict=True):
                lowest = 0 if window is None else max(0, len(ids) - window + 1)
                assert [store[blocks[p // 4]][p % 4] for p in range(lowest, len(ids))] == ids[lowest:]
    assert all(pool.evictions > 100 and pool.hits > 100 for pool in groups)
