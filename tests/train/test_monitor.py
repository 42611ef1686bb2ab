"""Spikes, skips and utilisation."""

from __future__ import annotations

import json
import math
import random
import statistics

import pytest
import torch

from orrery.kit.errors import OrreryError
from orrery.model.config import DecoderConfig
from orrery.model.mlp import Mlp
from orrery.model.moe import Moe
from orrery.train.monitor import (
    Skips,
    SpikeMonitor,
    Utilisation,
    attention_flops,
    matmul_peak,
)


def test_a_spike_is_measured_in_standard_deviations() -> None:
    monitor = SpikeMonitor(window=8, least=4, sigmas=3.0)
    values = [1.0, 2.0, 3.0, 4.0]
    assert [monitor.see(v) for v in values] == [None] * 4
    mean, std = statistics.fmean(values), statistics.pstdev(values)
    assert monitor.see(mean + 2.9 * std) is None
    monitor = SpikeMonitor(window=8, least=4, sigmas=3.0)
    for value in values:
        monitor.see(value)
    assert monitor.see(mean + 5 * std) == pytest.approx(5.0)


def test_one_spike_is_reported_once_and_stays_out_of_the_window() -> None:
    """TR-13: ten standard deviations."""
    noise = random.Random(0)
    monitor = SpikeMonitor()
    seen = []
    for step in range(400):
        value = 3 + noise.gauss(0, 0.1) + (1.0 if step == 300 else 0.0)
        if monitor.see(value) is not None:
            seen.append(step)
    assert seen == [300]
    assert max(monitor.values) < 3.6


@pytest.mark.parametrize("seed", range(5))
def test_no_false_alarm_in_ten_thousand_clean_steps(seed: int) -> None:
    """TR-13: a loss that falls slowly with Gaussian noise, then a plateau, then a slow rise."""
    noise = random.Random(seed)
    monitor = SpikeMonitor()
    for step in range(10_000):
        drift = (
            8 * math.exp(-step / 1500) if step < 8000 else 8 * math.exp(-8000 / 1500) + (step - 8000) * 1e-4
        )
        assert monitor.see(3 + drift + noise.gauss(0, 0.1)) is None


def test_a_new_level_is_accepted_after_a_while() -> None:
    monitor = SpikeMonitor(patience=8)
    noise = random.Random(1)
    for _ in range(100):
        monitor.see(1 + noise.gauss(0, 0.01))
    reports = [monitor.see(5 + noise.gauss(0, 0.01)) is not None for _ in range(300)]
    assert sum(reports) == 8 and all(reports[:8])


def test_the_monitor_resumes_bit_for_bit() -> None:
    noise = random.Random(2)
    one, two = SpikeMonitor(), SpikeMonitor()
    values = [noise.gauss(3, 0.1) for _ in range(200)]
    for value in values[:150]:
        one.see(value)
    two.load(json.loads(json.dumps(one.state())))
    assert [one.see(v + 1) for v in values[150:]] == [two.see(v + 1) for v in values[150:]]
    assert one.state() == two.state()


def test_a_constant_loss_has_no_spikes() -> None:
    monitor = SpikeMonitor()
    assert all(monitor.see(2.0) is None for _ in range(200))


def test_skips_in_a_row_end_the_run() -> None:
    skips = Skips(limit=3)
    skips.skip(1, "non-finite loss")
    skips.skip(2, "non-finite loss")
    skips.fine()
    skips.skip(4, "non-finite loss")
    skips.skip(5, "non-finite loss")
    with pytest.raises(OrreryError, match=r"3 steps in a row .* step 6 \(non-finite gradient\)"):
        skips.skip(6, "non-finite gradient")
    assert skips.total == 5


def test_flops_by_hand() -> None:
    """d 8, 2 layers, 2 heads of 4, one kv head, gated MLP of 12, vocabulary 20; norms count as weights."""
    cfg = DecoderConfig(
        vocab_size=20, d_model=8, n_layers=2, n_heads=2, n_kv_heads=1, feed_forward=Mlp(d_ff=12)
    )
    layer = 8 * 8 + 2 * 8 * 4 + 8 * 8 + 3 * 8 * 12 + 2 * 8
    used = Utilisation(cfg, peak=1e6)
    assert used.per_token == 6 * (2 * layer + 8)
    assert used.per_loss == 6 * 20 * 8
    # 12 H D n a token and layer: one sequence of 5, one of 3
    assert attention_flops(cfg, (5, 3)) == 2 * 12 * 2 * 4 * (25 + 9)
    assert used.flops((5, 3), 6) == 8 * used.per_token + 6 * used.per_loss + attention_flops(cfg, (5, 3))
    assert used.of(5e5, 2.0) == 0.25


def test_flops_count_only_chosen_experts() -> None:
    moe = Moe(n_experts=4, top_k=2, d_ff=6, shared_experts=1)
    cfg = DecoderConfig(vocab_size=20, d_model=8, n_layers=1, n_heads=2, feed_forward=moe)
    attention, router, expert, norms = 4 * 8 * 8, 4 * 8, 3 * 8 * 6, 3 * 8
    assert Utilisation(cfg, peak=1.0).per_token == 6 * (attention + router + 2 * expert + expert + norms)


def test_multi_token_modules_and_their_heads_count() -> None:
    plain = Utilisation(DecoderConfig(vocab_size=20, d_model=8, n_layers=1, n_heads=2), peak=1.0)
    deeper = Utilisation(
        DecoderConfig(vocab_size=20, d_model=8, n_layers=1, n_heads=2, mtp_heads=1), peak=1.0
    )
    assert deeper.per_loss == 2 * plain.per_loss
    assert deeper.per_token > 2 * plain.per_token - 6 * 8  # one block more, and what joins the two inputs


def test_a_window_bounds_the_attention_flops() -> None:
    cfg = DecoderConfig(d_model=8, n_layers=2, n_heads=2, window=4, layer_pattern=("local", "global"))
    assert attention_flops(cfg, (10,)) == 12 * 8 * (10 * 4 + 10 * 10)


def test_the_peak_is_measured_once_and_is_a_rate() -> None:
    peak = matmul_peak(seconds=0.05)
    assert 1e8 < peak < 1e15
    assert matmul_peak(seconds=0.05) == peak
    assert torch.get_num_threads() >= 1
