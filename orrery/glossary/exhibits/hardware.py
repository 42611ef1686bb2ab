"""Exhibits of hardware: what this machine's memories do, measured, and what data sheets promise of devices and links."""

from __future__ import annotations

import math
import time

import torch

from orrery.glossary.exhibit import Exhibit, Series
from orrery.model.config import DecoderConfig
from orrery.model.lowbit import measure_bandwidth
from orrery.model.mlp import Mlp
from orrery.model.moe import Moe
from orrery.plan.hardware import DEVICES, LINKS, MIB, Precision
from orrery.plan.kv_cache import kv_bytes
from orrery.plan.links import (
    all_reduce_seconds,
    exchanges,
    expert_parallel_seconds,
    fit_link,
    kv_seconds,
    send_seconds,
    tensor_parallel_seconds,
)
from orrery.plan.machine import cache_sizes, this_machine
from orrery.plan.roofline import decode_work, prefill_work, roof
from orrery.plan.tiles import choose_tiles, untiled_bytes
from orrery.train.monitor import matmul_peak

EIGHT_B = DecoderConfig(
    n_layers=32, d_model=4096, n_heads=32, n_kv_heads=8, feed_forward=Mlp(d_ff=14_336), vocab_size=128_256, tied=False,
)  # fmt: skip
"""The shape of Llama 3 8B."""
FORMATS: tuple[tuple[Precision, float], ...] = (("bf16", 2.0), ("fp8", 1.0), ("fp4", 0.5))
"""And bytes of a weight."""


def roofline_here() -> Exhibit:
    """The roof of this machine, measured; prefill and decode of a 270M shape under it; products timed beside it."""
    here = this_machine({"fp32": matmul_peak(seconds=0.2)}, 1e9 * measure_bandwidth(2**26, repeats=4))
    cfg = DecoderConfig(
        n_layers=18, d_model=640, n_heads=4, n_kv_heads=1, head_dim=256, feed_forward=Mlp(d_ff=2048), vocab_size=262_144,
        window=512, layer_pattern=("local",) * 5 + ("global",),
    )  # fmt: skip
    balance, sizes = here.balance("fp32"), {"context": 1024, "weight_bytes": 4.0, "kv_bytes_per_number": 4.0}
    works = {
        "decode": [decode_work(cfg, batch=batch, **sizes) for batch in (1, 4, 16, 64, 256)],
        "prefill": [prefill_work(cfg, **{**sizes, "context": tokens}) for tokens in (16, 64, 256, 1024)],
    }
    x = [balance / 64, balance, balance * 64]
    series = [Series(name="roof", x=x, y=[min(here.peak["fp32"], i * here.bandwidth) / 1e9 for i in x])]
    rows = []
    for name, passes in works.items():
        tops = [roof(work, here, "fp32") for work in passes]
        series.append(
            Series(
                name=name, x=[work.intensity for work in passes], y=[top.flops_per_s / 1e9 for top in tops]
            )
        )
        for work, top in zip(passes, tops, strict=True):
            what = f"{work.batch} sequences" if name == "decode" else f"{work.context} tokens"
            rows.append((name, what, work.intensity, top.bound, top.tokens_per_s))
    timed = [_product(rows_) for rows_ in (1, 4, 16, 64, 256)]
    series.append(
        Series(name="products, timed", x=[i for i, _ in timed], y=[speed / 1e9 for _, speed in timed])
    )
    return Exhibit(
        title=f"Balance point {balance:.1f} FLOPs a byte: {here.peak['fp32'] / 1e9:.0f} GFLOP/s over {here.bandwidth / 1e9:.1f} GB/s",
        x="FLOPs a byte",
        y="GFLOP/s",
        log_x=True,
        log_y=True,
        series=series,
        columns=("pass", "of", "FLOPs a byte", "waits for", "tokens/s at best"),
        rows=rows,
        reads="Left of the corner a pass waits for memory, right of it for arithmetic. Decoding starts far left and moves right with the batch; a prompt of a few "
        "dozen tokens is already right of it. Float32 weights of a 270M shape, speeds of this machine now; timed products of few rows show the slope.",
    )


def _product(rows: int) -> tuple[float, float]:
    """FLOPs a byte and FLOP/s of (rows, 1024) by matrices (1024, 1024), 16 in turn so that they come from memory."""
    n, x = 1024, torch.ones(rows, 1024)
    matrices = [torch.ones(n, n) for _ in range(16)]
    best = math.inf
    for _ in range(3):
        start = time.perf_counter()
        for matrix in matrices:
            x @ matrix
        best = min(best, (time.perf_counter() - start) / len(matrices))
    flops = 2.0 * rows * n * n
    return flops / (4 * (n * n + 2 * rows * n)), flops / best


def memory_hierarchy() -> Exhibit:
    """Bytes a second at which arrays of growing size are read, again and again: from caches while they fit."""
    sizes = [2**k for k in range(14, 27, 2)]
    speeds = [measure_bandwidth(size, repeats=max(4, min(60, 2**25 // size))) for size in sizes]
    caches = cache_sizes()
    named = [next((level for level, room in caches.items() if size <= room), "memory") for size in sizes]
    found = (
        ", ".join(f"{level} {room // 1024:,} KiB" for level, room in caches.items()) or "caches not reported"
    )
    return Exhibit(
        title=f"Reading with {torch.get_num_threads()} threads; {found}",
        x="bytes",
        y="GB/s",
        log_x=True,
        log_y=True,
        series=[Series(name="read", x=[float(size) for size in sizes], y=speeds)],
        columns=("KiB", "would fit", "GB/s"),
        rows=[(size // 1024, level, speed) for size, level, speed in zip(sizes, named, speeds, strict=True)],
        reads="Small arrays pay for the call; those that fit a cache are read several times faster than those that come from memory. The last row is what decoding "
        "lives on, for no model fits a cache.",
    )


def device_table() -> Exhibit:
    """Devices by their data sheets, and what an 8B model in bf16 would make of each: one stream, and 64 at 4096 tokens."""
    rows = []
    for device in DEVICES.values():
        one, many = (roof(decode_work(EIGHT_B, batch=batch, context=4096), device) for batch in (1, 64))
        rows.append(
            (
                device.name,
                f"{device.memory_bytes / 1e9:.0f}",
                f"{device.bandwidth / 1e12:.2f}",
                f"{device.flops('bf16') / 1e12:,.0f}",
                f"{device.balance('bf16'):.0f}",
                "" if device.watts is None else f"{device.watts:.0f}",
                f"{one.tokens_per_s:.0f}" if device.memory_bytes > 2 * 8.03e9 else "does not fit",
                f"{many.tokens_per_s:,.0f}"
                if device.memory_bytes > 2 * 8.03e9 + many.work.cache_bytes
                else "does not fit",
            )
        )
    return Exhibit(
        title="Dense bf16, data sheets; decoding at best",
        columns=("device", "GB", "TB/s", "TFLOP/s", "FLOPs a byte", "watts", "tokens/s, 1", "tokens/s, 64"),
        rows=rows,
        reads="A single stream follows memory bandwidth and nothing else: the H200, whose arithmetic is the H100's, gains 43%. The PCIe card of the same name as the SXM5 "
        "module has 60% of its bandwidth, 76% of its arithmetic and half of its power.",
    )


def number_formats_by_device() -> Exhibit:
    """Which number formats have units of their own, and what halving the number does for an 8B model: decode and prefill."""
    rows = []
    for name in ("a100", "h100", "b200"):
        device = DEVICES[name]
        for precision, width in FORMATS:
            arithmetic: Precision = precision if precision in device.peak else "bf16"
            sizes = {"context": 4096, "weight_bytes": width, "kv_bytes_per_number": max(width, 1.0)}
            decode = roof(decode_work(EIGHT_B, **sizes), device, arithmetic)
            prefill = roof(prefill_work(EIGHT_B, **sizes), device, arithmetic)
            peak = f"{device.flops(precision) / 1e12:,.0f}" if precision in device.peak else "none"
            rows.append(
                (device.name, precision, peak, f"{decode.tokens_per_s:,.0f}", f"{prefill.tokens_per_s:,.0f}")
            )
    return Exhibit(
        title="Weights in a format, arithmetic in it where the device can, else in bf16; 4096 tokens, at best",
        columns=("device", "weights", "TFLOP/s", "decode, tokens/s", "prefill, tokens/s"),
        rows=rows,
        reads="Smaller weights speed up decoding on every device, for fewer bytes are read. Prefill gains only where the format has units: FP8 from Hopper on, FP4 "
        "from Blackwell on. The cache stays in 8 bits beside 4-bit weights.",
    )


def link_table() -> Exhibit:
    """Links by their specifications: one message, an all-reduce over eight, and a sequence's cache on its way."""
    rows = []
    for link in LINKS.values():
        rows.append(
            (
                link.name,
                link.bandwidth / 1e9,
                1e6 * link.latency,
                1e6 * send_seconds(8192, link),
                1e6 * all_reduce_seconds(8192, 8, link),
                1e3 * all_reduce_seconds(2**26, 8, link),
                1e3 * kv_seconds(EIGHT_B, 4096, link),
            )
        )
    return Exhibit(
        title="One way, one device; 8 KiB is one token's stream of an 8B model, 512 MiB the cache of 4096 tokens",
        columns=(
            "link",
            "GB/s",
            "latency, us",
            "8 KiB, us",
            "8 KiB summed over 8, us",
            "64 MiB summed over 8, ms",
            "cache of 4096, ms",
        ),
        rows=rows,
        reads="Small messages cost latency, large ones size over bandwidth: a ring of eight takes fourteen steps, so sums of one token's stream are all latency. Floors: "
        "real links reach most of their bandwidth, and starting a collective adds microseconds.",
    )


def gpudirect_on_and_off() -> Exhibit:
    """A sequence's cache from machine to machine: straight from device memory, or copied through the hosts' memory."""
    net, host, rows = LINKS["infiniband-ndr"], LINKS["pcie5"], []
    for length in (128, 1024, 8192, 65_536):
        direct = kv_seconds(EIGHT_B, length, net)
        staged = kv_seconds(EIGHT_B, length, net, staging=host)
        pieces = kv_seconds(EIGHT_B, length, net, staging=host, pieces=16)
        tcp = kv_seconds(EIGHT_B, length, LINKS["ethernet-100"], staging=host)
        rows.append(
            (length, kv_bytes(EIGHT_B, length) / MIB, *(1e3 * t for t in (direct, staged, pieces, tcp)))
        )
    return Exhibit(
        title="Milliseconds for the cache of one sequence of an 8B model, bf16, InfiniBand NDR and PCIe 5",
        columns=(
            "tokens",
            "MiB",
            "GPUDirect RDMA",
            "copied at both ends",
            "copied in 16 pieces",
            "copied, TCP at 100 Gb/s",
        ),
        rows=rows,
        reads="Copies through host memory cost two more trips over PCIe. Cut into pieces they hide behind the network, but still take the hosts' memory bandwidth "
        "and processors, which this model does not charge for.",
    )


def kv_swap_or_recompute() -> Exhibit:
    """A preempted sequence of an 8B model on an H100: its cache fetched back over PCIe, or its prompt read again."""
    rows, series = [], {"PCIe 4": [], "PCIe 5": [], "recompute": []}
    lengths = (256, 1024, 4096, 16_384, 65_536)
    for length in lengths:
        times = {
            "PCIe 4": kv_seconds(EIGHT_B, length, LINKS["pcie4"]),
            "PCIe 5": kv_seconds(EIGHT_B, length, LINKS["pcie5"]),
            "recompute": roof(prefill_work(EIGHT_B, context=length), DEVICES["h100"]).seconds,
        }
        for name, seconds in times.items():
            series[name].append(1e3 * seconds)
        rows.append((length, *(1e3 * seconds for seconds in times.values())))
    return Exhibit(
        title="Milliseconds to have the cache back, one way, at best",
        x="tokens",
        y="ms",
        log_x=True,
        log_y=True,
        series=[Series(name=name, x=[float(n) for n in lengths], y=y) for name, y in series.items()],
        columns=("tokens", "PCIe 4.0 x16", "PCIe 5.0 x16", "recompute"),
        rows=rows,
        reads="Fetching grows with the length, reading again faster than that, for attention does. Grouped-query attention makes the cache small beside the work it stands "
        "for, so fetching wins by three to fifteen times; it would lose over PCIe 4 with a cache eight times as large. Writing it out costs as much again.",
    )


def tensor_parallel_over_links() -> Exhibit:
    """One decoding step of an 8B model split over 1 to 8 H100s, joined by NVLink and by PCIe: milliseconds."""
    rows, device = [], DEVICES["h100"]
    for batch in (1, 64):
        work = decode_work(EIGHT_B, batch=batch, context=4096)
        for devices in (1, 2, 4, 8):
            times = [
                tensor_parallel_seconds(work, EIGHT_B, device=device, devices=devices, link=LINKS[name])
                for name in ("nvlink4", "pcie5")
            ]
            alone = roof(work, device).seconds
            rows.append((batch, devices, *(1e3 * t for t in times), *(f"{alone / t:.1f}x" for t in times)))
    return Exhibit(
        title=f"Roofline of the split step and {exchanges(EIGHT_B)} all-reduces of the stream, nothing overlapped",
        columns=("sequences", "devices", "NVLink 4, ms", "PCIe 5, ms", "NVLink gains", "PCIe gains"),
        rows=rows,
        reads="Every layer waits twice for a sum over all devices, so the link decides what splitting gains. At one sequence both are ruled by latency, at 64 the bytes "
        "of the stream begin to tell.",
    )


def expert_parallel_in_a_rack() -> Exhibit:
    """Tokens sent to experts on 72 devices and back: all in one NVLink domain, or over InfiniBand."""
    cfg = DecoderConfig(
        n_layers=61, d_model=7168, n_heads=128, feed_forward=Moe(n_experts=256, top_k=8, d_ff=2048, shared_experts=1),
        first_dense_layers=3, dense_feed_forward=Mlp(d_ff=18_432), vocab_size=129_280,
    )  # fmt: skip
    rack, rows = DEVICES["gb200-nvl72"], []
    for tokens in (1, 16, 64, 256):
        times = [
            expert_parallel_seconds(cfg, tokens=tokens, devices=rack.domain, link=LINKS[name], sent_bytes=1)
            for name in (rack.link or "", "infiniband-ndr")
        ]
        rows.append((tokens, *(1e3 * t for t in times), times[1] / times[0]))
    return Exhibit(
        title="58 layers of 256 experts, 8 a token, 7168 wide (DeepSeek-V3's): milliseconds a pass in the exchange",
        columns=("tokens a device", "NVLink 5 among 72", "InfiniBand NDR among 72", "ratio"),
        rows=rows,
        reads="Out in 8 bits, back in 16, one message to each other device. With few tokens it is latency times 71 times two a layer; with many the eighteenfold bandwidth "
        "tells. A flat network stands for nodes of eight, where an eighth of the traffic would stay inside.",
    )


def attention_tiles() -> Exhibit:
    """Tiles of attention for chips with little and with much fast memory, and the traffic that they save."""
    rows, widths, length = [], {"key_dim": 128, "value_dim": 128}, 8192
    whole = untiled_bytes(length, causal=False, **widths)
    for name, room in [("48 KiB", 48 * 1024), *((d.name, d.on_chip_bytes) for d in _with_tiles())]:
        tiles = choose_tiles(room, length=length, **widths)
        moved = tiles.traffic_bytes(length, **widths)
        shape = f"{tiles.queries} x {tiles.keys}"
        rows.append((name, room // 1024, shape, tiles.on_chip_bytes / 1024, moved / MIB, whole / moved))
    return Exhibit(
        title=f"One head of 128, {length} tokens, bf16, causal; all scores written out and read again: {whole / MIB:,.0f} MiB",
        columns=("chip", "KiB", "queries x keys", "KiB used", "MiB moved", "times less"),
        rows=rows,
        reads="The more queries stay on the chip, the fewer times keys and values pass by; with too little room (48 KiB for heads of 128) tiles save nothing. Here scores and sums "
        "have to fit as well; kernels keep those in registers, and caches between catch some of the traffic.",
    )


def _with_tiles() -> list:
    return [DEVICES[name] for name in ("rtx-4090", "a100", "h100", "tpu-v5p")]


def copies_as_a_link() -> Exhibit:
    """Copies inside this machine's memory, timed, and the latency and bandwidth that explain them."""
    sizes = [2**k for k in range(12, 21)]
    times = []
    for size in sizes:
        source, target = torch.ones(size // 4), torch.empty(size // 4)
        best = math.inf
        for _ in range(60):
            start = time.perf_counter()
            target.copy_(source)
            best = min(best, time.perf_counter() - start)
        times.append(best)
    link = fit_link(sizes[::2], times[::2])
    told = [send_seconds(size, link) for size in sizes]
    return Exhibit(
        title=f"Fitted to every second size: {1e6 * link.latency:.1f} us + size / {link.bandwidth / 1e9:.0f} GB/s",
        x="bytes",
        y="us",
        log_x=True,
        log_y=True,
        series=[
            Series(name="measured", x=[float(n) for n in sizes], y=[1e6 * t for t in times]),
            Series(name="latency + size / bandwidth", x=[float(n) for n in sizes], y=[1e6 * t for t in told]),
        ],
        columns=("KiB", "measured, us", "by the link, us", "ratio"),
        rows=[(n // 1024, 1e6 * t, 1e6 * p, t / p) for n, t, p in zip(sizes, times, told, strict=True)],
        reads="Two numbers describe a link: small messages cost the first, large ones the second. Beyond the caches another bandwidth holds. `benchmarks/links.py` does the "
        "same for sums between processes.",
    )
