"""The device and link tables: figures of data sheets, and what follows from them."""

from __future__ import annotations

import re

import pytest

from orrery.kit.errors import OrreryError
from orrery.plan.hardware import DEVICES, LINKS, find_device
from orrery.plan.machine import cache_sizes, this_machine


def test_balance_points() -> None:
    """989.4e12 / 3.35e12 = 295; 312 / 2.039 = 153; TPU v5e 197 / 0.819 = 241."""
    assert DEVICES["h100"].balance("bf16") == pytest.approx(295.3, abs=0.1)
    assert DEVICES["a100"].balance("bf16") == pytest.approx(153.0, abs=0.1)
    assert DEVICES["tpu-v5e"].balance("bf16") == pytest.approx(240.5, abs=0.1)


def test_halving_the_number_doubles_the_peak() -> None:
    """Each step of the tensor cores' formats; NVIDIA rounds its figures."""
    for name, device in DEVICES.items():
        for wide, narrow in (("tf32", "bf16"), ("bf16", "fp8"), ("bf16", "int8"), ("fp8", "fp4")):
            if (
                wide in device.peak
                and narrow in device.peak
                and not (name == "rtx-4090" and narrow == "int8")
            ):
                assert device.flops(narrow) == pytest.approx(2 * device.flops(wide), rel=0.005), name


def test_what_sets_the_devices_apart() -> None:
    sxm, pcie = DEVICES["h100"], DEVICES["h100-pcie"]
    assert sxm.memory_bytes == pcie.memory_bytes and sxm.cache_bytes == pcie.cache_bytes
    assert (sxm.bandwidth / pcie.bandwidth, sxm.watts, pcie.watts) == (pytest.approx(1.675), 700, 350)
    assert (sxm.link, pcie.link) == ("nvlink4", "pcie5")
    assert DEVICES["h200"].peak == sxm.peak and DEVICES["h200"].bandwidth > sxm.bandwidth
    assert [name for name, device in DEVICES.items() if "fp4" in device.peak] == ["b200", "gb200-nvl72"]
    assert "fp8" not in DEVICES["a100"].peak


def test_the_rack_is_the_sum_of_its_devices() -> None:
    """The GB200 NVL72 data sheet: 13.4 TB, 576 TB/s, 720 PFLOP/s of dense FP4, 130 TB/s of NVLink (both ways)."""
    one = DEVICES["gb200-nvl72"]
    assert one.domain * one.memory_bytes == pytest.approx(13.4e12, rel=0.005)
    assert one.domain * one.bandwidth == pytest.approx(576e12)
    assert one.domain * one.flops("fp4") == pytest.approx(720e15)
    assert 2 * one.domain * LINKS[one.link or ""].bandwidth == pytest.approx(130e12, rel=0.005)


def test_pcie_from_its_signalling_rate() -> None:
    """16 GT/s x 16 lanes, 128 of 130 bits are data: 31.5 GB/s; the next generation twice that."""
    assert LINKS["pcie4"].bandwidth == pytest.approx(31.5e9, rel=1e-3)
    assert LINKS["pcie5"].bandwidth == 2 * LINKS["pcie4"].bandwidth


def test_every_row_names_its_source_and_year_and_its_link() -> None:
    for row in (*DEVICES.values(), *(link for name, link in LINKS.items() if name != "infiniband-ndr")):
        assert re.search(r"20\d\d", row.source), row.name
    assert all(device.link in LINKS for device in DEVICES.values())


def test_a_wrong_name_or_format_says_what_there_is() -> None:
    with pytest.raises(OrreryError, match="Did you mean 'h100'"):
        find_device("h10")
    with pytest.raises(OrreryError, match=r"A100 .* has no peak in fp8; it has fp32"):
        find_device("A100").flops("fp8")


def test_caches_are_read_as_the_system_writes_them(tmp_path) -> None:
    rows = [
        ("1", "Data", "32K"),
        ("1", "Instruction", "64K"),
        ("2", "Unified", "1024K"),
        ("3", "Unified", "32M"),
    ]
    for n, (level, kind, size) in enumerate(rows):
        (tmp_path / f"index{n}").mkdir()
        for name, text in (("level", level), ("type", kind), ("size", size)):
            (tmp_path / f"index{n}" / name).write_text(text + "\n")
    assert cache_sizes(tmp_path) == {"L1": 32 << 10, "L2": 1 << 20, "L3": 32 << 20}
    assert cache_sizes(tmp_path / "nowhere") == {}


def test_this_machine_is_a_device() -> None:
    here = this_machine({"fp32": 1e11}, 2e10)
    assert here.balance("fp32") == 5
    assert here.memory_bytes > 0
