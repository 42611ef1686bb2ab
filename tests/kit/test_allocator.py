"""Freed memory stays with the process: the second round of large blocks takes no new pages."""

from __future__ import annotations

import resource
import sys

import pytest
import torch

from orrery.kit.allocator import keep_freed_memory


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt is glibc's")
def test_large_blocks_are_used_again() -> None:
    if not keep_freed_memory():
        pytest.skip("this system's C library has no mallopt")

    def faults() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(20):
            torch.ones(1 << 22)  # 16 MiB
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    faults()
    assert faults() < 20 * 4096 / 4  # anew each time, it would be 4,096 pages a block
