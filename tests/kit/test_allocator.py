"""Freed memory stays with the process: all of it in training; in a server large blocks go back to the system."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROBE = """
import resource, sys
import torch
from orrery.kit import allocator

def held():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(1 << 20)  # 4 MiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

told = getattr(allocator, sys.argv[1])()
faults()
again, before = faults(), held()
block = torch.ones(1 << 24)  # 64 MiB
del block
print(told, again, held() - before)
"""


def kept(function: str) -> tuple[int, float]:
    """Pages taken anew by twenty blocks of 4 MiB, and MiB that stay of a freed block of 64, in a process that was told so."""
    done = subprocess.run([sys.executable, "-c", PROBE, function], capture_output=True, text=True, check=True)
    told, again, stayed = done.stdout.split()
    if told != "True":
        pytest.skip("this system's C library has no mallopt")
    return int(again), float(stayed)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt is glibc's")
def test_all_is_used_again_in_training() -> None:
    again, stayed = kept("keep_freed_memory")
    assert again < 20 * 1024 / 4  # anew each time, it would be 1,024 pages a block
    assert stayed > 48


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt is glibc's")
def test_large_blocks_go_back_in_a_server() -> None:
    again, stayed = kept("keep_small_freed_memory")
    assert again < 20 * 1024 / 4
    assert stayed < 16
