"""The pool of blocks: references, copy-on-write, prefixes found again, and who is evicted. Small pools, worked by hand."""

from __future__ import annotations

import hashlib
import random

import pytest

from orrery.kit.errors import OrreryError
from orrery.serve.engine.blocks import SCRATCH, BlockPool, OutOfBlocks, chain_digest, root_digest

ROOT = root_digest("model", "")


def cached(pool: BlockPool, ids: list[int], *, root: bytes = ROOT) -> list[int]:
    """Compute `ids` (whole blocks of 2 tokens) and end: its blocks are cached."""
    blocks, parent = pool.allocate(len(ids) // 2), root
    for i, block in enumerate(blocks):
        parent = pool.seal(block, parent, ids[2 * i : 2 * i + 2], root=root)
    pool.release(blocks)
    return blocks


def test_blocks_are_counted() -> None:
    pool = BlockPool(6, 4)
    assert (pool.free, pool.used, pool.cached) == (5, 0, 0)
    first = pool.allocate(2)
    second = pool.allocate(1)
    assert len({SCRATCH, *first, *second}) == 4
    assert (pool.free, pool.used) == (2, 3)
    pool.share(first)
    pool.check([first, first, second])
    pool.release(first)
    assert pool.used == 3
    pool.release(first)
    assert (pool.free, pool.used) == (4, 1)
    pool.check([second])


def test_too_few_blocks_change_nothing() -> None:
    pool = BlockPool(4, 2)
    cached(pool, [1, 2, 3, 4])
    with pytest.raises(OutOfBlocks, match="4 blocks of 2 tokens are needed and 3 of 3 are free"):
        pool.allocate(4)
    assert isinstance(OutOfBlocks("x"), OrreryError)
    assert (pool.cached, pool.evictions) == (2, 0)
    assert len(pool.match(ROOT, [1, 2, 3, 4])) == 2


@pytest.mark.parametrize(("n_blocks", "block_size"), [(1, 16), (0, 16), (8, 0)])
def test_a_pool_needs_blocks(n_blocks: int, block_size: int) -> None:
    with pytest.raises(OrreryError, match="a pool needs two blocks"):
        BlockPool(n_blocks, block_size)


def test_the_digest_is_a_chain() -> None:
    inner = hashlib.blake2b(b"r" + bytes([7] + 7 * [0] + [1, 1] + 6 * [0]), digest_size=32).digest()
    assert chain_digest(b"r", [7, 257]) == inner
    assert chain_digest(inner, [1, 2]) != chain_digest(b"r", [1, 2])


def test_roots_do_not_run_into_each_other() -> None:
    names = [("ab", "c"), ("a", "bc"), ("abc", ""), ("", "abc"), ("abc",), ("ab", "c", "")]
    assert len({root_digest(*n) for n in names}) == len(names)


def test_prefixes_are_found_in_whole_blocks() -> None:
    pool = BlockPool(8, 2)
    blocks = cached(pool, [1, 2, 3, 4, 5, 6])
    assert pool.match(ROOT, [1, 2, 3, 4, 5, 6, 7]) == blocks
    assert pool.match(ROOT, [1, 2, 3]) == blocks[:1]
    assert pool.match(ROOT, [1, 2, 4, 4, 5, 6]) == blocks[:1]
    assert pool.match(ROOT, [3, 4, 5, 6]) == []  # the same tokens elsewhere are other keys
    assert pool.match(ROOT, [1]) == []
    assert pool.match(root_digest("model", "someone else"), [1, 2, 3, 4]) == []


def test_a_hit_is_shared_until_all_let_go() -> None:
    pool = BlockPool(8, 2)
    blocks = cached(pool, [1, 2, 3, 4])
    assert pool.idle(blocks) == 2
    pool.share(blocks)
    assert (pool.free, pool.used, pool.cached, pool.idle(blocks), pool.sole(blocks)) == (5, 2, 0, 0, 2)
    pool.share(pool.match(ROOT, [1, 2, 9, 9]))
    assert pool.sole(blocks) == 1
    pool.check([blocks, blocks[:1]])
    pool.release(blocks)
    assert (pool.used, pool.cached) == (1, 1)
    pool.release(blocks[:1])
    assert pool.match(ROOT, [1, 2, 3, 4]) == blocks


def test_a_forged_digest_finds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if two contents had one digest, the tokens are compared."""
    monkeypatch.setattr("orrery.serve.engine.blocks.chain_digest", lambda parent, tokens: b"the same")
    pool = BlockPool(8, 2)
    (block,) = cached(pool, [1, 2])
    assert pool.match(ROOT, [1, 2]) == [block]
    assert pool.match(ROOT, [8, 9]) == []
    assert pool.match(b"another root", [1, 2]) == []


def test_writing_to_a_shared_block_copies_it() -> None:
    pool = BlockPool(6, 2)
    (block,) = pool.allocate(1)
    assert pool.writable(block) == (block, None)
    pool.share([block])
    new, source = pool.writable(block)
    assert source == block != new
    pool.check([[block], [new]])
    assert pool.writable(block) == (block, None)  # the other one has it alone now


def test_a_sealed_block_never_changes() -> None:
    pool = BlockPool(6, 2)
    (block,) = pool.allocate(1)
    pool.seal(block, ROOT, [1, 2])
    new, source = pool.writable(block)
    assert source == block != new
    assert pool.match(ROOT, [1, 2]) == [block]
    pool.check([[new]])


def test_a_copy_that_finds_no_block_changes_nothing() -> None:
    pool = BlockPool(3, 2)
    blocks = pool.allocate(2)
    pool.share(blocks)
    with pytest.raises(OutOfBlocks):
        pool.writable(blocks[0])
    pool.check([blocks, blocks])


def test_the_least_recently_used_goes_first() -> None:
    pool = BlockPool(5, 2)
    (a,), (b,), (c,) = (cached(pool, [i, i]) for i in (1, 2, 3))
    pool.share([a])
    pool.release([a])  # a was of use again
    assert pool.allocate(1) == [4]  # free ones before cached ones
    assert pool.allocate(2) == [b, c]
    assert pool.evictions == 2
    assert pool.match(ROOT, [1, 1]) == [a]


def test_the_end_of_a_prefix_goes_before_its_beginning() -> None:
    pool = BlockPool(5, 2)
    blocks = cached(pool, [1, 2, 3, 4, 5, 6, 7, 8])
    for length in (3, 2, 1, 0):
        pool.allocate(1)
        assert pool.match(ROOT, [1, 2, 3, 4, 5, 6, 7, 8]) == blocks[:length]


def test_a_beginning_stays_while_its_continuation_is_used() -> None:
    """Two compute the same block at once; the one found is let go first, its continuation by the other later."""
    pool = BlockPool(8, 2)
    first, twin, rest = pool.allocate(3)
    digest = pool.seal(first, ROOT, [1, 2], root=ROOT)
    assert pool.seal(twin, ROOT, [1, 2], root=ROOT) == digest
    pool.seal(rest, digest, [3, 4], root=ROOT)
    pool.release([first])
    other = cached(pool, [9, 9])
    assert pool.match(ROOT, [1, 2, 3, 4]) == [first, rest]
    pool.release([twin, rest])
    pool.check([])
    assert pool.cached == 3  # the twin is free, for nothing finds it
    order = [seal.block for seal in pool.sealed()]
    assert order == [*other, rest, first]


def test_the_twin_of_an_evicted_block_takes_its_place() -> None:
    pool = BlockPool(4, 2)
    first, twin = pool.allocate(2)
    pool.seal(first, ROOT, [1, 2])
    pool.seal(twin, ROOT, [1, 2])
    pool.release([first])
    pool.allocate(2)  # the free one, then `first`
    assert pool.match(ROOT, [1, 2]) == []
    pool.release([twin])
    assert pool.match(ROOT, [1, 2]) == [twin]


def test_a_window_forgets_in_the_order_of_use() -> None:
    """Layers with a window find a block without those before it, so these may go first."""
    pool = BlockPool(4, 2, window=2)
    blocks, parent = pool.allocate(2), ROOT
    for i, block in enumerate(blocks):
        parent = pool.seal(block, parent, [i, i])
    pool.release(blocks[:1])
    pool.release(blocks[1:])
    pool.check([])
    pool.allocate(2)
    assert pool.find(parent, chain_digest(ROOT, [0, 0]), [1, 1]) == blocks[1]


def test_a_flood_leaves_others_their_share() -> None:
    """20 blocks: each of two tenants is promised 5, whatever the other caches; without a promise the flood takes all."""
    pool = BlockPool(21, 2)
    mine, theirs = root_digest("mine"), root_digest("theirs")
    quiet = cached(pool, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10], root=mine)
    for i in range(100, 300):
        cached(pool, [i, i], root=theirs)
    assert pool.match(mine, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]) == quiet
    assert pool.cached == 20
    greedy = cached(pool, list(range(1000, 1020)), root=mine)  # 10 more, beyond the promise
    assert pool.match(mine, list(range(1000, 1020))) == greedy
    for i in range(300, 400):
        cached(pool, [i, i], root=theirs)
    assert len(pool.match(mine, list(range(1000, 1020)))) == 5


def test_a_tenant_that_never_returns_loses_its_share() -> None:
    pool = BlockPool(21, 2)
    gone, here = root_digest("gone"), root_digest("here")
    cached(pool, [1, 2], root=gone)
    for i in range(17 * 21):
        cached(pool, [i, i], root=here)
    assert pool.match(gone, [1, 2]) == []


def test_sealed_blocks_move_to_another_pool() -> None:
    """What `sealed` lists fills an empty pool: same hits, same order of eviction."""
    pool = BlockPool(12, 2)
    cached(pool, [1, 2, 3, 4, 5, 6])
    cached(pool, [7, 8])
    held = pool.allocate(2)
    parent = pool.seal(held[0], ROOT, [9, 9], root=ROOT)
    pool.seal(held[1], parent, [9, 8], root=ROOT)
    other, content = BlockPool(12, 2), {}
    for seal in pool.sealed():
        (block,) = other.allocate(1)
        content[block] = seal.block
        assert other.seal(block, seal.parent, seal.tokens, root=seal.root) == seal.digest
        other.release([block])
        other.check([])
    for ids in ([1, 2, 3, 4, 5, 6], [7, 8], [9, 9, 9, 8]):
        assert [content[b] for b in other.match(ROOT, ids)] == pool.match(ROOT, ids)
    assert [s.tokens for s in other.sealed()] == [s.tokens for s in pool.sealed()]


def test_statistics_are_in_tokens() -> None:
    pool = BlockPool(4, 2)
    pool.count(10, 4)
    pool.count(5, 0)
    assert (pool.queries, pool.hits) == (15, 4)


@pytest.mark.parametrize("misuse", ["release twice", "share free", "seal free", "two contents", "short seal"])
def test_misuse_is_an_assertion_that_names_the_block(misuse: str) -> None:
    pool = BlockPool(4, 2)
    (block,) = pool.allocate(1)
    pool.seal(block, ROOT, [1, 2])
    with pytest.raises(AssertionError, match=r"block [123] "):
        match misuse:
            case "release twice":
                pool.release([block, block])
            case "share free":
                pool.share([block + 1])
            case "seal free":
                pool.seal(block + 1, ROOT, [1, 2])
            case "two contents":
                pool.seal(block, ROOT, [1, 3])
            case "short seal":
                pool.seal(block, ROOT, [1])


def _lost(pool: BlockPool, block: int) -> None:
    pool._references[block] = 0


def _counted_twice(pool: BlockPool, block: int) -> None:
    pool._references[block] += 1


def _free_and_held(pool: BlockPool, block: int) -> None:
    pool._free.append(block)


def _seal_left_behind(pool: BlockPool, block: int) -> None:
    pool._found.clear()
    pool._free.remove(3)
    pool._seals[3] = pool._seals[block]
    pool._free.append(3)


@pytest.mark.parametrize("fault", [_lost, _counted_twice, _free_and_held, _seal_left_behind])
def test_the_ledger_sees_faults(fault: object) -> None:
    pool = BlockPool(5, 2)
    (block,) = pool.allocate(1)
    pool.seal(block, ROOT, [1, 2])
    pool.check([[block]])
    fault(pool, block)  # type: ignore[operator]
    with pytest.raises(AssertionError, match="block "):
        pool.check([[block]])


def test_random_traffic_hits_what_it_computed() -> None:
    """Content follows blocks: what a match returns was written with exactly those tokens behind exactly that prefix."""
    random.seed(3)
    pool, content = BlockPool(30, 2), {}
    for _ in range(2000):
        root = random.choice([b"x", b"y"])
        ids = [random.randrange(2) for _ in range(2 * random.randrange(1, 6))]
        found = pool.match(root, ids)
        assert all(content[b] == (root, *ids[: 2 * i + 2]) for i, b in enumerate(found))
        pool.share(found)
        new = pool.allocate(len(ids) // 2 - len(found))
        parent = root
        for i, block in enumerate(found + new):
            tokens = ids[2 * i : 2 * i + 2]
            if i < len(found):
                parent = chain_digest(parent, tokens)
            else:
                content[block] = (root, *ids[: 2 * i + 2])
                parent = pool.seal(block, parent, tokens, root=root)
        pool.check([found + new])
        pool.release(found + new)
    assert pool.evictions > 100
