"""How long bytes take from one place to another: a message is a latency and a size over a bandwidth (Hockney 1994).

    send          a + n / B
    all-reduce    2 (p - 1) (a + n / (p B))      in a ring: reduce-scatter, then all-gather (Patarasuk & Yuan 2009)
    all-to-all    (p - 1) (a + n / (p B))        in p - 1 rounds of pairs (Thakur et al. 2005)

a latency, B bandwidth, n bytes that each of p devices holds. These are floors: starting a collective costs microseconds more,
and links reach some 80 to 95% of their figure.
"""

from __future__ import annotations

from collections.abc import Sequence

from orrery.model.config import DecoderConfig
from orrery.model.moe import Moe
from orrery.plan.hardware import Device, Link, Precision
from orrery.plan.kv_cache import kv_bytes, state_bytes
from orrery.plan.roofline import Work, roof


def send_seconds(size_bytes: float, link: Link, *, staging: Link | None = None, pieces: int = 1) -> float:
    """From one device to another.

    Args:
        staging: the link to the host's memory, when the message must pass through it at both ends: device, host, network, host,
            device. None: the network card reads and writes the device's memory itself (GPUDirect RDMA).
        pieces: a staged message is cut into so many, and while one crosses the network the next is copied.
    """
    stages = [link] if staging is None else [staging, link, staging]
    each = [stage.latency + size_bytes / pieces / stage.bandwidth for stage in stages]
    return sum(each) + (pieces - 1) * max(each)


def all_reduce_seconds(size_bytes: float, devices: int, link: Link) -> float:
    """The sum of `size_bytes` on each device, to each device, in a ring."""
    return 2 * (devices - 1) * (link.latency + size_bytes / devices / link.bandwidth)


def all_to_all_seconds(size_bytes: float, devices: int, link: Link) -> float:
    """Each device's `size_bytes` in equal parts to all devices (its own part stays)."""
    return (devices - 1) * (link.latency + size_bytes / devices / link.bandwidth)


def kv_seconds(
    cfg: DecoderConfig,
    length: int,
    link: Link,
    *,
    staging: Link | None = None,
    pieces: int = 1,
    kv_bytes_per_number: float = 2,
) -> float:
    """The cache of one sequence over a link: a swap to the host (PCIe), or to the machine that decodes (RDMA)."""
    number = kv_bytes_per_number
    size = kv_bytes(cfg, length, bytes_per_number=number) + state_bytes(cfg, bytes_per_number=number)
    return send_seconds(size, link, staging=staging, pieces=pieces)


def tensor_parallel_seconds(
    work: Work, cfg: DecoderConfig, *, device: Device, devices: int, link: Link, precision: Precision = "bf16"
) -> float:
    """One pass with every matrix split over `devices`: a share of the roofline's time, and an all-reduce of the stream after each
    attention and each feed-forward (Shoeybi et al. 2019, arXiv:1909.08053), in 2 bytes a number. Nothing overlaps.
    """
    stream = work.tokens * cfg.d_model * 2
    sums = exchanges(cfg) * all_reduce_seconds(stream, devices, link)
    return roof(work, device, precision).seconds / devices + sums


def exchanges(cfg: DecoderConfig) -> int:
    """All-reduces of a pass under tensor parallelism: one for each sublayer, or for each layer whose sublayers are parallel."""
    sublayers = [(cfg.layer_kind(i) not in ("feed_forward", "dense_feed_forward"), cfg.feeds_forward(i)) for i in range(cfg.n_layers)]  # fmt: skip
    return sum(1 if cfg.parallel else mixes + feeds for mixes, feeds in sublayers)


def expert_parallel_seconds(
    cfg: DecoderConfig,
    *,
    tokens: int,
    devices: int,
    link: Link,
    sent_bytes: float = 2,
    returned_bytes: float = 2,
) -> float:
    """What a pass spends on sending tokens to their experts and back, experts spread evenly over `devices` (Lepikhin et al. 2020,
    arXiv:2006.16668): two all-to-alls a layer of experts, each token once for every expert it is sent to.

    Args:
        tokens: of each device.
        sent_bytes, returned_bytes: of a number on the way out (1 in fp8) and back.
    """
    layers = [cfg.layer_feed_forward(i) for i in range(cfg.n_layers) if cfg.feeds_forward(i)]
    seconds = 0.0
    for layer in layers:
        if isinstance(layer, Moe):
            numbers = tokens * layer.top_k * (layer.latent_width or cfg.d_model)
            seconds += all_to_all_seconds(numbers * sent_bytes, devices, link)
            seconds += all_to_all_seconds(numbers * returned_bytes, devices, link)
    return seconds


def fit_link(sizes: Sequence[float], seconds: Sequence[float], *, name: str = "measured") -> Link:
    """The link whose `latency + size / bandwidth` is nearest to what was measured, in relative squares (so that small messages
    count as much as large ones); the latency is not below zero.
    """
    w = [1 / t**2 for t in seconds]
    total = sum(w)
    x = sum(wi * s for wi, s in zip(w, sizes, strict=True)) / total
    y = sum(wi * t for wi, t in zip(w, seconds, strict=True)) / total
    slope = sum(
        wi * (s - x) * (t - y) for wi, s, t in zip(w, sizes, seconds, strict=True)
    ) / sum(wi * (s - x) ** 2 for wi, s in zip(w, sizes, strict=True))  # fmt: skip
    return Link(name=name, bandwidth=1 / slope, latency=max(0.0, y - slope * x), source="measured")
