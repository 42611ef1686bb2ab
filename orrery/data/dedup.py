"""Exact deduplication: a document whose bytes were seen before is dropped.

Bytes are compared by a 128-bit hash (BLAKE2b), so two different documents among a trillion meet with probability
under 1e-14. Memory is 16 bytes a document, plus a set of the latest hashes that is an eighth as long.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

RECENT = 1 << 16


def document_hash(data: bytes) -> bytes:
    """16 bytes that name a text."""
    return hashlib.blake2b(data, digest_size=16).digest()


class Seen:
    """A set of 16-byte hashes: a sorted array, and the latest ones in a Python set until they are merged into it."""

    def __init__(self) -> None:
        self._sorted: npt.NDArray[np.bytes_] = np.empty(0, dtype="S16")
        self._recent: set[bytes] = set()

    def add(self, hash: bytes) -> bool:
        """Remember a hash; False if it was known."""
        if hash in self._recent or self._merged(hash):
            return False
        self._recent.add(hash)
        if len(self._recent) >= max(RECENT, len(self._sorted) // 8):
            self._sorted = np.concatenate([self._sorted, np.array(list(self._recent), dtype="S16")])
            self._sorted.sort(kind="stable")  # two sorted runs would do; a radix or merge sort is close to it
            self._recent.clear()
        return True

    def _merged(self, hash: bytes) -> bool:
        # An S16 drops trailing NULs when it is read; as all are 16 bytes, equality stays exact if both sides are S16.
        probe = np.array([hash], dtype="S16")
        at = int(np.searchsorted(self._sorted, probe)[0])
        return at < len(self._sorted) and bool(self._sorted[at] == probe[0])

    def __len__(self) -> int:
        return len(self._sorted) + len(self._recent)
