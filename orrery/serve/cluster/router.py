"""Which replica gets a request: the one that has its prompt's beginning cached, unless it has too much to do.

    digests   d_0 = H(root), d_i = H(d_{i-1}, block i)       as the engine names its own cached blocks
    open      replicas with fewer than ceil(c (load + 1) / n) requests under way: c times an even share (Mirrokni et al. 2016,
              arXiv:1608.01350); the least loaded one is always open
    choice    of the open ones, that with the longest run d_1 .. d_k of blocks it was sent before; among equals, that with the
              largest H(d_1, name): rendezvous hashing (Thaler & Ravishankar 1998), the same on every router that knows the same
              replicas, and little changes when one comes or goes

Pure: nothing here knows of Ray, of clocks, or of a network.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Container, Mapping, Sequence
from hashlib import blake2b

from orrery.serve.engine.blocks import chain_digest, root_digest

BLOCK = 64
"""Bytes of text in a block, where the router has no tokenizer: about sixteen tokens."""


def prefix_digests(prompt: str | Sequence[int], *, tenant: str = "", block: int | None = None) -> list[bytes]:
    """Digests of the whole blocks of a prompt: of `block` ids (16), or bytes of its text (64); of its start where it has none whole."""
    units = list(prompt.encode()) if isinstance(prompt, str) else list(prompt)
    size = block or (BLOCK if isinstance(prompt, str) else 16)
    digests = [root_digest("route", tenant)]
    for first in range(0, max(len(units) // size, 1) * size, size):
        digests.append(chain_digest(digests[-1], units[first : first + size]))
    return digests[1:]


def choose(
    digests: Sequence[bytes],
    loads: Mapping[str, int],
    seen: Mapping[str, Container[bytes]],
    *,
    slack: float = 1.25,
) -> str:
    """The replica for a prompt.

    Args:
        digests: of its blocks, one or more.
        loads: requests under way, by replica; not empty.
        seen: digests that each replica was sent before.
        slack: c, above 1: how much more than an even share a replica may have for the sake of its cache.
    """
    limit = math.ceil(slack * (sum(loads.values()) + 1) / len(loads))
    least = min(loads.values())
    open_ones = [name for name, load in loads.items() if load < limit or load == least]

    def worth(name: str) -> tuple[int, bytes]:
        return matched(digests, seen.get(name, ())), blake2b(digests[0] + name.encode()).digest()

    return max(open_ones, key=worth)


def matched(digests: Sequence[bytes], seen: Container[bytes]) -> int:
    """How many blocks from the first on are among those seen."""
    return next((i for i, digest in enumerate(digests) if digest not in seen), len(digests))


class Router:
    """What a router remembers: what each replica was sent, and what is under way there.

    Args:
        memory: digests to remember of each replica; the least recently used are forgotten, as its cache forgets blocks.
    """

    def __init__(self, *, slack: float = 1.25, memory: int = 65_536) -> None:
        self.slack, self.memory = slack, memory
        self.loads: dict[str, int] = {}
        self._seen: dict[str, OrderedDict[bytes, None]] = {}

    def update(self, replicas: Sequence[str]) -> None:
        """These replicas are there now; what is known of others is forgotten."""
        self.loads = {name: self.loads.get(name, 0) for name in replicas}
        self._seen = {name: self._seen.get(name, OrderedDict()) for name in replicas}

    def choose(self, digests: Sequence[bytes]) -> str:
        """The replica for a prompt; nothing is remembered before `sent`."""
        return choose(digests, self.loads, self._seen, slack=self.slack)

    def sent(self, replica: str, digests: Sequence[bytes]) -> None:
        """It got the request."""
        if replica not in self.loads:
            return
        self.loads[replica] += 1
        seen = self._seen[replica]
        for digest in reversed(digests):  # the first block last: it must outlive those behind it
            seen[digest] = None
            seen.move_to_end(digest)
        while len(seen) > self.memory:
            seen.popitem(last=False)

    def done(self, replica: str) -> None:
        """One of its requests has ended."""
        if self.loads.get(replica):
            self.loads[replica] -= 1
