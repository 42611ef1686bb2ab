"""Keep freed memory in the process: a step of a model, trained or serving, frees and takes the same large blocks again and again.

glibc hands every block above 128 KiB back to the system when it is freed, and the system clears its pages when it is taken
again. Told to keep them, a training step on a CPU costs some per cent less, a token a tenth. A step of training takes the same blocks
every time and its peak stays the same; in a server requests come and go, and large blocks that are kept leave holes between them
that add up to gigabytes, so there only the small ones are.
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4
SMALL, AT_THE_END = 8 << 20, 128 << 20


@cache
def keep_freed_memory() -> bool:
    """Tell glibc's malloc, once a process, to keep all that is freed from now on; False where there is no glibc."""
    give_back_freed_memory()
    return _set(M_MMAP_MAX, 0) and _set(M_TRIM_THRESHOLD, 2**31 - 1)


@cache
def keep_small_freed_memory() -> bool:
    """The same for blocks of up to 8 MiB; above them, and beyond 128 MiB free at the end, memory goes back to the system."""
    give_back_freed_memory()
    return _set(M_MMAP_THRESHOLD, SMALL) and _set(M_TRIM_THRESHOLD, AT_THE_END)


def _set(option: int, value: int) -> bool:
    libc = _glibc()
    return libc is not None and bool(libc.mallopt(option, value))


def give_back_freed_memory() -> None:
    """Ask glibc for the memory it keeps of what was freed: loading a model leaves some tens of megabytes."""
    if (libc := _glibc()) is not None:
        libc.malloc_trim(0)


@cache
def _glibc() -> ctypes.CDLL | None:
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None
