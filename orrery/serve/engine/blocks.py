"""A pool of fixed-size blocks of cache: reference counts, copy-on-write, and prefixes that are found again.

Keys and values of a sequence lie in blocks of `block_size` tokens, anywhere in a store; a table per sequence says where
(Kwon et al. 2023, PagedAttention, arXiv:2309.06180). Waste is under one block a sequence. Here is only the book-keeping,
plain numbers and no tensors: block i of the pool is row i of whatever store goes with it.

    free        nobody holds it and nothing worth keeping is in it
    used        one or more tables hold it
    cached      nobody holds it, but its tokens can be found again; the first to go when blocks run out

A full block whose tokens are certain is sealed: it never changes again and is found by the digest of its tokens and of all tokens
before them, H(digest of the block before, tokens). The chain starts at a root that names what else decides the content
(weights, adapter, tenant), so what one tenant cached is never found by another. Digests are BLAKE2b, and a find compares the
tokens as well.

Eviction takes the least recently used, and never a block before the blocks that follow it, which would be out of reach without it.
Half of the pool is promised to the roots in even shares: a tenant that floods the cache evicts its own blocks first.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from struct import pack
from typing import NamedTuple

from orrery.kit.errors import OrreryError

SCRATCH = 0
"""The first block of every pool is never handed out: a table entry that points to it holds nothing."""

STALE = 16
"""A root keeps its promised share until the pool was turned over so many times without a use of it."""


class OutOfBlocks(OrreryError):
    """The pool has fewer free blocks than asked for; nothing was changed."""


class Sealed(NamedTuple):
    """A full block that can be found: its digest, the digest before it, its tokens, where it lies, whose it is."""

    digest: bytes
    parent: bytes
    tokens: tuple[int, ...]
    block: int
    root: bytes


def root_digest(*names: str) -> bytes:
    """Where a chain of digests starts: of the names of everything but tokens that decides what is in the cache.

    Give the model and the version of its weights, the adapter and the version of its weights, and the tenant's salt. After a
    change of weights a new root makes old blocks unfindable; they age out.
    """
    return blake2b(
        b"".join(len(name.encode()).to_bytes(8, "big") + name.encode() for name in names), digest_size=32
    ).digest()


def chain_digest(parent: bytes, tokens: Sequence[int]) -> bytes:
    """Digest of a block of tokens and of everything before it, 32 bytes."""
    return blake2b(parent + pack(f"<{len(tokens)}q", *tokens), digest_size=32).digest()


class BlockPool:
    """The blocks of one group of layers, those that keep the same tokens.

    Args:
        n_blocks: blocks in the store, the scratch block included.
        block_size: tokens a block.
        window: how many of the last tokens these layers see; None means all.

    Attributes:
        hits, queries: tokens found in and looked for among cached prefixes, counted where a sequence takes them up.
        evictions: cached blocks that were given away.

    Raises:
        OrreryError: fewer than two blocks, or empty blocks.
    """

    def __init__(self, n_blocks: int, block_size: int = 16, *, window: int | None = None) -> None:
        if n_blocks < 2 or block_size < 1:
            raise OrreryError(
                f"a pool needs two blocks or more (one is scratch) of one token or more, not {n_blocks} of {block_size}"
            )
        self.n_blocks, self.block_size, self.window = n_blocks, block_size, window
        self.hits = self.queries = self.evictions = 0
        self._references = [0] * n_blocks
        self._free = list(range(n_blocks - 1, SCRATCH, -1))  # the last is handed out first
        self._seals: list[Sealed | None] = [None] * n_blocks
        self._found: dict[bytes, int] = {}  # digest -> the block that is found by it
        self._idle: dict[bytes, OrderedDict[int, int]] = {}  # root -> cached blocks, oldest first -> when
        self._cached = 0
        self._clock = 0

    @property
    def free(self) -> int:
        """Blocks that `allocate` could hand out now, cached ones included."""
        return len(self._free) + self._cached

    @property
    def used(self) -> int:
        """Blocks that someone holds."""
        return self.n_blocks - 1 - self.free

    @property
    def cached(self) -> int:
        """Blocks that nobody holds but that can be found."""
        return self._cached

    def allocate(self, n: int) -> list[int]:
        """`n` blocks with one reference each; cached blocks give way, least recently used first.

        Raises:
            OutOfBlocks: fewer than n are free; nothing has changed.
        """
        if n > self.free:
            raise OutOfBlocks(
                f"{n} blocks of {self.block_size} tokens are needed and {self.free} of {self.n_blocks - 1} are free; "
                "give the cache more memory, or run fewer or shorter requests at a time"
            )
        blocks = [self._free.pop() if self._free else self._evict() for _ in range(n)]
        for block in blocks:
            self._references[block] = 1
        return blocks

    def share(self, blocks: Iterable[int]) -> None:
        """One reference more for each: of a fork, or of a prefix that was found. Scratch entries are passed over."""
        for block in blocks:
            if block == SCRATCH:
                continue
            if not self._references[block]:
                seal = self._seals[block]
                assert seal is not None, f"block {block} is shared but nobody holds it"
                self._wake(block, seal.root)
            self._references[block] += 1

    def release(self, blocks: Sequence[int]) -> None:
        """One reference less for each, in the order of a table. Scratch entries are passed over.

        What nobody holds any more is free, or cached when it is the block that its digest finds.
        """
        for block in reversed(blocks):  # so that a block becomes older than the one before it
            if block == SCRATCH:
                continue
            assert self._references[block] > 0, f"block {block} is released but nobody holds it"
            self._references[block] -= 1
            if self._references[block]:
                continue
            seal = self._seals[block]
            if seal is not None and self._found.setdefault(seal.digest, block) == block:
                self._rest(block, seal)
            else:
                self._seals[block] = None
                self._free.append(block)

    def writable(self, block: int) -> tuple[int, int | None]:
        """Copy-on-write: what to write to in place of `block`, and what to copy there first (None: nothing).

        A block that only the caller holds and that is not sealed is itself. Otherwise a new block takes over the caller's
        reference; copy before anything else is written, for the old one may be given away next.

        Raises:
            OutOfBlocks: a copy is needed and no block is free; nothing has changed.
        """
        if not self.needs_copy(block):
            return block, None
        (new,) = self.allocate(1)
        self.release([block])
        return new, block

    def needs_copy(self, block: int) -> bool:
        """Whether `writable` would take another block."""
        return self._references[block] > 1 or self._seals[block] is not None

    def seal(self, block: int, parent: bytes, tokens: Sequence[int], *, root: bytes = b"") -> bytes:
        """Make a full block findable behind `parent` (the digest before it, or a root); returns its digest.

        Where equal content is findable already both are kept, and the first stays the one that is found while it lasts.
        `root` says to whose share of the cache the block counts.
        """
        assert self._references[block] > 0, f"block {block} is sealed but nobody holds it"
        assert len(tokens) == self.block_size, f"block {block} is sealed with {len(tokens)} tokens"
        seal = Sealed(chain_digest(parent, tokens), parent, tuple(tokens), block, root)
        assert self._seals[block] in (None, seal), f"block {block} is sealed with two contents"
        self._seals[block] = seal
        self._found.setdefault(seal.digest, block)
        return seal.digest

    def find(self, digest: bytes, parent: bytes, tokens: Sequence[int]) -> int | None:
        """The block with these tokens behind this parent, or None. It gets no reference."""
        block = self._found.get(digest)
        if block is None:
            return None
        seal = self._seals[block]
        same = seal is not None and seal.parent == parent and seal.tokens == tuple(tokens)
        return block if same else None

    def forget(self, block: int) -> None:
        """A held block is found no more, now or when it comes free: its content is not what its digest says."""
        assert self._references[block] > 0, f"block {block} is forgotten but nobody holds it"
        seal, self._seals[block] = self._seals[block], None
        if seal is not None and self._found.get(seal.digest) == block:
            del self._found[seal.digest]

    def match(self, root: bytes, ids: Sequence[int]) -> list[int]:
        """Blocks of the longest run of whole blocks of `ids`, from the first on, that can be found. They get no reference."""
        blocks, size = [], self.block_size
        for start in range(0, len(ids) - size + 1, size):
            tokens = ids[start : start + size]
            digest = chain_digest(root, tokens)
            block = self.find(digest, root, tokens)
            if block is None:
                break
            blocks.append(block)
            root = digest
        return blocks

    def sealed(self) -> list[Sealed]:
        """Everything that can be found, least recently used first, what is held last.

        To fill another pool: for each, in this order, allocate a block, copy its content, seal and release it.
        """
        idle = sorted((when, block) for blocks in self._idle.values() for block, when in blocks.items())
        held = [block for block in self._found.values() if self._references[block]]
        return [seal for block in (*(b for _, b in idle), *reversed(held)) if (seal := self._seals[block])]

    def idle(self, blocks: Iterable[int]) -> int:
        """How many of these are cached and held by nobody: what `share` would take from `free`."""
        return sum(block != SCRATCH and not self._references[block] for block in blocks)

    def sole(self, blocks: Iterable[int]) -> int:
        """How many of these have one holder: what `release` would add to `free`."""
        return sum(self._references[block] == 1 for block in blocks)

    def count(self, queried: int, hit: int) -> None:
        """Statistics: `hit` of `queried` tokens of a prompt were found."""
        self.queries += queried
        self.hits += hit

    def _rest(self, block: int, seal: Sealed) -> None:
        """Nobody holds the block any more: it is cached, and those before it have been of use just now too."""
        self._idle.setdefault(seal.root, OrderedDict())
        self._cached += 1
        self._touch(block, seal.root)
        if self.window is None:  # layers with a window find a block without those far before it
            while (before := self._found.get(seal.parent)) is not None and not self._references[before]:
                seal = self._seal(before)
                self._touch(before, seal.root)

    def _touch(self, block: int, root: bytes) -> None:
        self._clock += 1
        self._idle[root][block] = self._clock
        self._idle[root].move_to_end(block)

    def _wake(self, block: int, root: bytes) -> None:
        """The block is cached no longer."""
        del self._idle[root][block]
        if not self._idle[root]:
            del self._idle[root]
        self._cached -= 1

    def _evict(self) -> int:
        """Forget the least recently used cached block of those roots that have more than their promised share."""
        owners = list(self._idle.values())
        share = (self.n_blocks - 1) // (2 * len(owners))
        stale = self._clock - STALE * self.n_blocks
        over = [blocks for blocks in owners if len(blocks) > share or next(reversed(blocks.values())) < stale]
        oldest = min(over or owners, key=lambda blocks: next(iter(blocks.values())))
        block = next(iter(oldest))
        seal = self._seal(block)
        self._wake(block, seal.root)
        del self._found[seal.digest]
        self._seals[block] = None
        self.evictions += 1
        return block

    def _seal(self, block: int) -> Sealed:
        seal = self._seals[block]
        assert seal is not None, f"block {block} is cached but not sealed"
        return seal

    def check(self, owners: Iterable[Sequence[int]]) -> None:
        """The ledger: every block is exactly one of free, used or cached, and is held as often as `owners` (tables) name it.

        Raises:
            AssertionError: naming the block.
        """
        held = Counter(block for table in owners for block in table if block != SCRATCH)
        free, times = Counter(self._free), {b: t for blocks in self._idle.values() for b, t in blocks.items()}
        for block in range(1, self.n_blocks):
            count, seal = self._references[block], self._seals[block]
            assert count == held[block], (
                f"block {block} counts {count} references, {held[block]} tables hold it"
            )
            states = free[block] + (block in times) + (count > 0)
            assert states == 1, f"block {block} is in {states} of the states free, cached and used"
            assert not (free[block] and seal), f"block {block} is free but sealed"
            if seal is None:
                continue
            findable = self._found.get(seal.digest) == block
            assert findable or count, f"block {block} is cached but not found by its digest"
            assert block not in times or block in self._idle[seal.root], (
                f"block {block} is cached for another root"
            )
            before = times.get(self._found.get(seal.parent, SCRATCH))
            in_order = (
                self.window is not None or before is None or block not in times or times[block] < before
            )
            assert in_order, f"block {block} would outlive the block before it"
        for digest, block in self._found.items():
            seal = self._seals[block]
            assert seal is not None and seal.digest == digest, (
                f"block {block} is found by a digest not its own"
            )
        assert not self._references[SCRATCH] and not free[SCRATCH], (
            "block 0, the scratch block, was handed out"
        )
        assert self._cached == len(times), f"{self._cached} cached blocks are counted, {len(times)} are there"
        assert all(self._idle.values()), "a root without cached blocks is kept"
