"""Devices and links as their makers describe them: what a roofline and a transfer time are worked out from.

Peaks are of dense products (data sheets of NVIDIA print twice as much, "with sparsity"), bandwidths of links go one way (data
sheets of NVLink and of TPU interconnects print the sum of both). Real programs reach 60 to 90% of either.

    balance point = peak / bandwidth      FLOPs a byte from which on arithmetic, not memory, is what a device waits for
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from orrery.kit.errors import OrreryError, suggest

Precision = Literal["fp32", "tf32", "bf16", "int8", "fp8", "fp4"]
KB, MB, GB, TB = 1e3, 1e6, 1e9, 1e12
KIB, MIB = 2**10, 2**20


@dataclass(frozen=True, kw_only=True)
class Device:
    """One accelerator, or one machine.

    Attributes:
        memory_bytes: of main memory: HBM, GDDR, or the machine's own.
        bandwidth: of that memory, bytes/s.
        peak: FLOP/s of dense products by number format; a format that is missing has no units of its own.
        on_chip_bytes: fast memory that one block of work has to itself: shared memory of a thread block, VMEM of a TPU's core,
            L2 of a processor core. None: not known.
        cache_bytes: the last cache, which all share.
        link: the fastest link to its neighbours, a key of `LINKS`; None where there is none.
        domain: how many devices that link joins.
        watts: of the device at most, as sold.
    """

    name: str
    memory_bytes: float
    bandwidth: float
    peak: Mapping[Precision, float]
    on_chip_bytes: int | None = None
    cache_bytes: int | None = None
    link: str | None = None
    domain: int = 1
    watts: float | None = None
    source: str

    def flops(self, precision: Precision) -> float:
        """Peak FLOP/s.

        Raises:
            OrreryError: a format the device has no units for.
        """
        if precision not in self.peak:
            raise OrreryError(
                f"{self.name} has no peak in {precision}; it has {', '.join(self.peak)}: choose one of these"
            )
        return self.peak[precision]

    def balance(self, precision: Precision) -> float:
        """FLOPs a byte at which memory and arithmetic take equally long."""
        return self.flops(precision) / self.bandwidth


@dataclass(frozen=True, kw_only=True)
class Link:
    """A way for bytes between two places: a message of n bytes takes `latency + n / bandwidth` seconds.

    Attributes:
        bandwidth: bytes/s one way, of one device.
    """

    name: str
    bandwidth: float
    latency: float
    source: str


HOPPER = (
    "NVIDIA H100 data sheet 2023; H100 architecture white paper 2022; Hopper tuning guide (227 KB a block)"
)
PALLAS = "VMEM of a core: JAX, Pallas TPU hardware reference"
FULL: dict[Precision, float] = {
    "fp32": 66.9 * TB,
    "tf32": 494.7 * TB,
    "bf16": 989.4 * TB,
    "int8": 1978.9 * TB,
    "fp8": 1978.9 * TB,
}

DEVICES: dict[str, Device] = {
    "a100": Device(
        name="A100 80GB SXM", memory_bytes=80 * GB, bandwidth=2.039 * TB, on_chip_bytes=163 * KIB, cache_bytes=40 * MIB,
        peak={"fp32": 19.5 * TB, "tf32": 156 * TB, "bf16": 312 * TB, "int8": 624 * TB},
        link="nvlink3", domain=8, watts=400, source="NVIDIA A100 data sheet 2021; Ampere tuning guide (163 KB a block)",
    ),
    "h100": Device(
        name="H100 SXM5", memory_bytes=80 * GB, bandwidth=3.35 * TB, on_chip_bytes=227 * KIB, cache_bytes=50 * MIB,
        peak=FULL, link="nvlink4", domain=8, watts=700, source=HOPPER,
    ),
    "h100-pcie": Device(
        name="H100 PCIe", memory_bytes=80 * GB, bandwidth=2.0 * TB, on_chip_bytes=227 * KIB, cache_bytes=50 * MIB,
        peak={"fp32": 51 * TB, "tf32": 378 * TB, "bf16": 756 * TB, "int8": 1513 * TB, "fp8": 1513 * TB},
        link="pcie5", domain=8, watts=350, source=HOPPER,
    ),
    "h200": Device(
        name="H200 SXM", memory_bytes=141 * GB, bandwidth=4.8 * TB, on_chip_bytes=227 * KIB, cache_bytes=50 * MIB,
        peak=FULL, link="nvlink4", domain=8, watts=700, source="NVIDIA H200 data sheet 2024; the chip is the H100's",
    ),
    "b200": Device(
        name="B200 (Blackwell)", memory_bytes=180 * GB, bandwidth=8.0 * TB, on_chip_bytes=227 * KIB,
        peak={"bf16": 2.25e15, "int8": 4.5e15, "fp8": 4.5e15, "fp4": 9e15}, link="nvlink5", domain=8, watts=1000,
        source="NVIDIA DGX B200 data sheet 2024 (eight GPUs, with sparsity: divided); Blackwell tuning guide",
    ),
    "gb200-nvl72": Device(
        name="GB200 NVL72, one of 72", memory_bytes=186 * GB, bandwidth=8.0 * TB, on_chip_bytes=227 * KIB,
        peak={"bf16": 2.5e15, "int8": 5e15, "fp8": 5e15, "fp4": 1e16}, link="nvlink5", domain=72, watts=1200,
        source="NVIDIA GB200 NVL72 data sheet 2024 (the rack, with sparsity: divided)",
    ),
    "rtx-4090": Device(
        name="GeForce RTX 4090", memory_bytes=24 * GB, bandwidth=1.008 * TB, on_chip_bytes=99 * KIB, cache_bytes=72 * MIB,
        peak={"fp32": 82.6 * TB, "tf32": 82.6 * TB, "bf16": 165.2 * TB, "int8": 660.6 * TB, "fp8": 330.3 * TB},
        link="pcie4", watts=450,
        source="NVIDIA Ada architecture white paper 2022 (sums in fp32); Ada tuning guide (99 KB a block)",
    ),
    "tpu-v5e": Device(
        name="TPU v5e", memory_bytes=16 * GB, bandwidth=819 * GB, on_chip_bytes=128 * MIB,
        peak={"bf16": 197 * TB, "int8": 393 * TB}, link="ici-v5e", domain=256, source=f"Google Cloud TPU v5e, 2024; {PALLAS}",
    ),
    "tpu-v5p": Device(
        name="TPU v5p", memory_bytes=95 * GB, bandwidth=2.765 * TB, on_chip_bytes=64 * MIB, peak={"bf16": 459 * TB},
        link="ici-v5p", domain=8960, source=f"Google Cloud TPU v5p, 2024; {PALLAS}",
    ),
    "tpu-v6e": Device(
        name="TPU v6e (Trillium)", memory_bytes=32 * GB, bandwidth=1.638 * TB, on_chip_bytes=128 * MIB,
        peak={"bf16": 918 * TB, "int8": 1836 * TB}, link="ici-v6e", domain=256, source=f"Google Cloud TPU v6e, 2025; {PALLAS}",
    ),
}  # fmt: skip
"""By the name `orrery plan --device` takes."""

NCCL = "latency: a step of a ring with the low-latency protocol in the tuning table of NCCL (2023)"
ICI = "latency of a hop: Austin et al. 2025, How to Scale Your Model"
LINKS: dict[str, Link] = {
    "nvlink3": Link(name="NVLink 3", bandwidth=300 * GB, latency=0.6e-6, source=f"A100 data sheet 2021: 600 GB/s both ways; {NCCL}"),
    "nvlink4": Link(name="NVLink 4", bandwidth=450 * GB, latency=0.6e-6, source=f"H100 data sheet 2023: 900 GB/s both ways; {NCCL}"),
    "nvlink5": Link(name="NVLink 5", bandwidth=900 * GB, latency=0.6e-6, source=f"GB200 NVL72 data sheet 2024: 1.8 TB/s both ways; {NCCL}"),
    "ici-v5e": Link(name="ICI, TPU v5e", bandwidth=200 * GB, latency=1e-6, source=f"Google Cloud TPU v5e, 2024: 400 GB/s both ways; {ICI}"),
    "ici-v5p": Link(name="ICI, TPU v5p", bandwidth=600 * GB, latency=1e-6, source=f"Google Cloud TPU v5p, 2024: 1200 GB/s both ways; {ICI}"),
    "ici-v6e": Link(name="ICI, TPU v6e", bandwidth=400 * GB, latency=1e-6, source=f"Google Cloud TPU v6e, 2025: 800 GB/s both ways; {ICI}"),
    "pcie4": Link(name="PCIe 4.0 x16", bandwidth=16e9 * 16 * 128 / 130 / 8, latency=1e-6, source=f"PCI-SIG 2017: 16 GT/s a lane, 128b/130b; {NCCL}"),
    "pcie5": Link(name="PCIe 5.0 x16", bandwidth=32e9 * 16 * 128 / 130 / 8, latency=1e-6, source=f"PCI-SIG 2019: 32 GT/s a lane, 128b/130b; {NCCL}"),
    "infiniband-ndr": Link(name="InfiniBand NDR", bandwidth=400e9 / 8, latency=2.7e-6, source=f"InfiniBand Trade Association: NDR, 400 Gb/s a port; {NCCL}"),
    "roce-400": Link(name="RoCE, 400 Gb Ethernet", bandwidth=400e9 / 8, latency=2.7e-6, source=f"IEEE 802.3bs 2017: 400 Gb/s; {NCCL}"),
    "ethernet-100": Link(name="TCP, 100 Gb Ethernet", bandwidth=100e9 / 8, latency=250e-6, source="IEEE 802.3ba 2010; latency: half a round trip in a data centre, Dean 2009"),
    "ethernet-10": Link(name="TCP, 10 Gb Ethernet", bandwidth=10e9 / 8, latency=250e-6, source="IEEE 802.3ae 2002; latency: half a round trip in a data centre, Dean 2009"),
}  # fmt: skip
"""Between devices, to the host, and between machines. The first two kinds need no network."""


def find_device(name: str) -> Device:
    """A device by its key.

    Raises:
        OrreryError: not in the table.
    """
    if name.lower() not in DEVICES:
        raise OrreryError(
            f"no device is named '{name}'.{suggest(name, DEVICES)} Known: here (this machine, measured), {', '.join(DEVICES)}"
        )
    return DEVICES[name.lower()]
