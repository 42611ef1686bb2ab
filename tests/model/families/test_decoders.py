"""Every family of decoders against transformers: logits on every path, greedy text, and the way back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.model.families.cases import CASES
from tests.model.families.harness import check_greedy, check_logits, check_written_back, make

pytest.importorskip("transformers", reason="the reference models are transformers'")

CHECKS = ("logits", "greedy", "written-back")
PASSED: dict[str, list[str]] = {name: [] for name in CASES}


@pytest.fixture(scope="module", params=CASES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Any, Path]:
    folder = tmp_path_factory.mktemp(request.param)
    return request.param, make(CASES[request.param], folder), folder


@pytest.fixture(scope="module", autouse=True)
def table() -> Iterator[None]:
    """Prints family x check (pytest -s)."""
    yield
    print(f"\n{'family':<24}" + "".join(f"{check:<14}" for check in CHECKS))
    for name, passed in PASSED.items():
        print(f"{name:<24}" + "".join(f"{'equal' if check in passed else '-':<14}" for check in CHECKS))


@pytest.mark.parametrize("check", CHECKS)
def test_equal_to_transformers(family: tuple[str, Any, Path], check: str, tmp_path: Path) -> None:
    name, theirs, folder = family
    match check:
        case "logits":
            check_logits(theirs, folder, by_length=CASES[name].get("angles") == "by length")
        case "greedy":
            check_greedy(theirs, folder)
        case "written-back":
            check_written_back(theirs, folder, tmp_path / "again")
    PASSED[name].append(check)
