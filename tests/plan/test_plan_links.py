"""Times of transfers and collectives: worked by hand, as laws, and the ring against one that is played through."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.model import DecoderConfig
from orrery.model.config import Mlp, Moe
from orrery.plan.hardware import DEVICES, LINKS, Link
from orrery.plan.links import (
    all_reduce_seconds,
    all_to_all_seconds,
    exchanges,
    expert_parallel_seconds,
    fit_link,
    kv_seconds,
    send_seconds,
    tensor_parallel_seconds,
)
from orrery.plan.roofline import decode_work, roof

TOY = Link(name="toy", bandwidth=100.0, latency=1.0, source="2026")
SLOW = Link(name="slow", bandwidth=50.0, latency=2.0, source="2026")
CFG = DecoderConfig(
    n_layers=32, d_model=4096, n_heads=32, n_kv_heads=8, feed_forward=Mlp(d_ff=14_336), vocab_size=128_256, tied=False,
)  # fmt: skip


def test_a_message_is_a_latency_and_a_size() -> None:
    assert send_seconds(500, TOY) == 1 + 5
    assert send_seconds(500, TOY, staging=SLOW) == (1 + 5) + 2 * (
        2 + 10
    )  # device, host, network, host, device


def test_a_staged_message_in_pieces_overlaps_its_copies() -> None:
    """Four pieces of 125: stages of 4.5, 2.25, 4.5 seconds; the first piece passes all, then one every 4.5."""
    assert send_seconds(500, TOY, staging=SLOW, pieces=4) == pytest.approx(11.25 + 3 * 4.5)


def test_collectives_by_hand() -> None:
    """Four devices, 400 bytes each: 6 steps of 100 bytes, 2 seconds a step; 3 rounds of 100 bytes."""
    assert all_reduce_seconds(400, 4, TOY) == 12
    assert all_to_all_seconds(400, 4, TOY) == 6
    assert all_reduce_seconds(400, 1, TOY) == all_to_all_seconds(400, 1, TOY) == 0


@pytest.mark.parametrize("devices", [2, 3, 5])
def test_the_ring_that_is_counted_sums_on_every_device(devices: int) -> None:
    """Played through step by step: 2 (p - 1) messages a device of one p-th each, and every device ends with the sum."""
    held = [[10 * device + part for part in range(devices)] for device in range(devices)]
    want = [sum(column) for column in zip(*held, strict=True)]
    steps = 0
    for phase in ("reduce", "gather"):
        for step in range(devices - 1):
            shift = step if phase == "reduce" else step - 1
            sent = [((device - shift) % devices) for device in range(devices)]
            values = [held[device][sent[device]] for device in range(devices)]
            for device in range(devices):
                left = (device - 1) % devices
                part = sent[left]
                held[device][part] = values[left] + (held[device][part] if phase == "reduce" else 0)
            steps += 1
    assert held == [want] * devices
    assert all_reduce_seconds(devices * 100, devices, TOY) == steps * (1 + 1)


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 64), st.floats(1, 1e9))
def test_a_ring_moves_less_than_twice_the_size_whatever_the_number(devices: int, size: float) -> None:
    free = Link(name="", bandwidth=1.0, latency=0.0, source="")
    assert size <= all_reduce_seconds(size, devices, free) * (1 + 1e-9) < 2 * size * (1 + 1e-9)
    assert all_reduce_seconds(size, devices, free) == pytest.approx(
        2 * all_to_all_seconds(size, devices, free)
    )


def test_a_cache_over_pcie_and_between_machines() -> None:
    """4096 tokens x 131,072 bytes = 2^29: 17.0 ms over PCIe 4; 10.7 ms by RDMA, and 27.8 ms with a copy at either end."""
    assert kv_seconds(CFG, 4096, LINKS["pcie4"]) == pytest.approx(2**29 / 31.5e9, rel=1e-3)
    ndr, host = LINKS["infiniband-ndr"], LINKS["pcie5"]
    direct, staged = kv_seconds(CFG, 4096, ndr), kv_seconds(CFG, 4096, ndr, staging=host)
    assert direct == pytest.approx(10.74e-3, rel=1e-3)
    assert staged == pytest.approx(direct + 2 * kv_seconds(CFG, 4096, host))
    assert direct < kv_seconds(CFG, 4096, ndr, staging=host, pieces=64) < 1.05 * direct
    assert kv_seconds(CFG, 4096, ndr, kv_bytes_per_number=1) == pytest.approx(direct / 2, rel=1e-3)


def test_tensor_parallelism_over_nvlink_and_pcie() -> None:
    """64 all-reduces of 4096 x 2 bytes on 8 devices: 14 steps each, so latency rules a single token's step."""
    work, device = decode_work(CFG, context=4096), DEVICES["h100"]
    assert exchanges(CFG) == 64
    alone = roof(work, device).seconds
    times = {
        name: tensor_parallel_seconds(work, CFG, device=device, devices=8, link=LINKS[name]) for name in ("nvlink4", "pcie5")
    }  # fmt: skip
    assert times["nvlink4"] == pytest.approx(alone / 8 + 64 * 14 * (0.6e-6 + 1024 / 450e9))
    assert times["nvlink4"] < times["pcie5"] < alone
    assert tensor_parallel_seconds(work, CFG, device=device, devices=1, link=LINKS["pcie5"]) == alone


def test_parallel_sublayers_share_an_all_reduce() -> None:
    assert exchanges(DecoderConfig(parallel=True)) == 4
    assert exchanges(DecoderConfig(layer_pattern=("global", "feed_forward"), sublayers="one")) == 4


def test_expert_exchange_by_hand() -> None:
    """2 layers of experts, 10 tokens x 2 experts x 16 numbers: out in 1 byte, back in 2."""
    cfg = DecoderConfig(
        d_model=16, n_layers=3, feed_forward=Moe(n_experts=8, top_k=2, d_ff=8), first_dense_layers=1,
        dense_feed_forward=Mlp(d_ff=8),
    )  # fmt: skip
    out, back = all_to_all_seconds(320, 4, TOY), all_to_all_seconds(640, 4, TOY)
    seconds = expert_parallel_seconds(cfg, tokens=10, devices=4, link=TOY, sent_bytes=1)
    assert seconds == pytest.approx(2 * (out + back))
    assert expert_parallel_seconds(CFG, tokens=10, devices=4, link=TOY) == 0


@settings(max_examples=50, deadline=None)
@given(st.floats(1e-6, 1e-3), st.floats(1e8, 1e12))
def test_a_link_is_found_again_from_its_times(latency: float, bandwidth: float) -> None:
    link = Link(name="", bandwidth=bandwidth, latency=latency, source="")
    sizes = [0.1 * latency * bandwidth, latency * bandwidth, 10 * latency * bandwidth]
    found = fit_link(sizes, [send_seconds(size, link) for size in sizes])
    assert found.latency == pytest.approx(latency, rel=1e-6)
    assert found.bandwidth == pytest.approx(bandwidth, rel=1e-6)
