"""`orrery plan --device` and the memory lines of `orrery doctor`."""

from __future__ import annotations

import json
from pathlib import Path

from orrery.cli.pipeline.hierarchy import hierarchy


def test_a_recipe_on_a_device(orrery) -> None:
    done = orrery("plan", Path("recipes/quickstart.yaml"), "--device", "b200", "--precision", "fp4", "--weight-bits", "4",
                  "--context", "128", "--batch", "1", "--batch", "32", "--json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    plain = json.loads(done.stdout)
    assert plain["device"] == "B200 (Blackwell)" and plain["weight_bytes"] == 0.5
    assert [(row["phase"], row["batch"]) for row in plain["rows"]] == [
        ("prefill", 1),
        ("decode", 1),
        ("decode", 32),
    ]
    assert all(row["bound"] in ("compute", "memory") and row["tokens_per_s"] > 0 for row in plain["rows"])


def test_this_machine_as_a_table(orrery) -> None:
    done = orrery("plan", Path("recipes/quickstart.yaml"), "--device", "here", "--context", "64")
    assert done.returncode == 0, done.stderr
    for part in ("this machine", "prefill, 1 prompt", "decode, 64 at once", "balance point", "measured now"):
        assert part in done.stdout


def test_a_wrong_device_names_the_nearest(orrery) -> None:
    done = orrery("plan", Path("recipes/quickstart.yaml"), "--device", "h10")
    assert done.returncode == 1
    assert "Did you mean 'h100'" in done.stderr and "Traceback" not in done.stderr


def test_a_precision_the_device_lacks(orrery) -> None:
    done = orrery("plan", Path("recipes/quickstart.yaml"), "--device", "a100", "--precision", "fp8")
    assert done.returncode == 1
    assert "has no peak in fp8" in done.stderr


def test_doctor_names_caches_and_measures_the_balance_point() -> None:
    assert [finding.what for finding in hierarchy(measure=False)] == ["caches"]
    found = {finding.what: finding for finding in hierarchy()}
    assert "GB/s" in found["memory bandwidth"].found
    assert "FLOPs a byte" in found["balance point, fp32"].found
