"""This machine as a row of the device table: caches and memory as the system reports them, speeds as the caller measured them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from orrery.plan.hardware import KIB, MIB, Device, Precision

CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


def cache_sizes(folder: Path = CACHES) -> dict[str, int]:
    """Bytes of the data caches that the first core sees, nearest first: {"L1": ..., "L2": ..., "L3": ...}. Linux only; else {}."""
    sizes = {}
    for entry in sorted(folder.glob("index*")):
        if (entry / "type").read_text().strip() != "Instruction":
            sizes[f"L{(entry / 'level').read_text().strip()}"] = _bytes((entry / "size").read_text().strip())
    return sizes


def this_machine(peak: Mapping[Precision, float], bandwidth: float) -> Device:
    """A `Device` of measured speeds.

    Args:
        peak: FLOP/s by number format, as `train.monitor.matmul_peak` measures them.
        bandwidth: bytes/s, as `model.lowbit.measure_bandwidth` measures it (that one says GB/s).
    """
    caches = cache_sizes()
    known = hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names
    return Device(
        name=f"this machine, {os.cpu_count()} cores",
        memory_bytes=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if known else 0.0,
        bandwidth=bandwidth,
        peak=peak,
        on_chip_bytes=caches.get("L2"),
        cache_bytes=caches.get("L3"),
        source="measured now",
    )


def _bytes(text: str) -> int:
    """'1024K' -> 1048576."""
    units = {"K": KIB, "M": MIB}
    return int(text[:-1]) * units[text[-1]] if text[-1] in units else int(text)
