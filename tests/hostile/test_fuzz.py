"""Seeded mutants of valid files: 600 in the default tier, 20,000 in CI. `python -m tests.hostile.fuzz` takes more."""

from __future__ import annotations

import os
import random
import subprocess
import sys

import pytest

from tests.hostile.jail import ROOT
from tests.hostile.mutate import mutate


def run(mutants: int, seed: int, timeout_s: int) -> str:
    """The fuzzer in a process of its own, as it is run by hand."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.hostile.fuzz", "--mutants", str(mutants), "--seed", str(seed)],
        cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=timeout_s,
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    return done.stdout


def test_600_mutants() -> None:
    table = run(600, seed=0, timeout_s=300)
    print("\n" + table)
    total = next(line for line in table.splitlines() if line.startswith("all")).split()
    assert total[1] == "600" and total[-1] == "0"
    assert (
        int(total[2]) > 60 and int(total[3]) > 300
    )  # both happen: neither is everything refused, nor nothing


@pytest.mark.slow
def test_20_000_mutants() -> None:
    print("\n" + run(20_000, seed=20, timeout_s=900))


@pytest.mark.parametrize("kind", ["bytes", "text", "json", "safetensors"])
def test_a_mutant_is_its_seed_again(kind) -> None:
    data = (40).to_bytes(8, "little") + b'{"a":{"b":[1,2,{"c":null}]},"d":"text"}\n and more'
    made = {mutate(data, random.Random(i), kind) for i in range(300)}
    assert made == {mutate(data, random.Random(i), kind) for i in range(300)}
    assert len(made) > 200
