"""Shared fixtures: one thread a test process, no network, real data where it is present."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")

import pytest

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets that stands beside a checkout on development machines."""
    if not DATA.is_dir():
        pytest.skip("the folder ../shared/data with real data sets is not on this machine")
    return DATA


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """Two test processes share two cores; more threads than cores make every test slower."""
    import torch

    torch.set_num_threads(1)
