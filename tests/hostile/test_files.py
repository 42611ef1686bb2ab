"""Damaged and malicious files, each opened as a person would open it: one typed sentence, in time, within memory."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile.jail import Forge
from tests.hostile.table import CASES, FORMATS, Judged, counts, judge

LIST = Path(__file__).resolve().parents[3] / "shared" / "bad_inputs.json"
RESULTS: dict[str, list[Judged]] = {}


@pytest.fixture(scope="module")
def forge() -> Iterator[Forge]:
    made = Forge("tests.hostile.worker")
    yield made
    made.close()
    print("\n" + counts(RESULTS))


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=case.id, marks=[pytest.mark.slow] if case.slow else []) for case in CASES]
)
def test_what_comes_of_it(case, forge: Forge) -> None:
    RESULTS[case.id] = judge(case, forge)
    faults = [
        f"{one.opener} {Path(one.path).name}: {fault}" for one in RESULTS[case.id] for fault in one.faults
    ]
    assert not faults, "\n".join(faults)


def test_every_case_of_the_list_is_here() -> None:
    """The list of cases that stands beside a checkout on development machines."""
    if not LIST.is_file():
        pytest.skip("the list of cases (../shared/bad_inputs.json) is not on this machine")
    listed = {case["id"] for case in json.loads(LIST.read_text())["cases"] if case["area"] == "files"}
    wanted = {name for name in listed if re.match("|".join(FORMATS), name)}
    have = {case.id.split()[0] for case in CASES}
    assert len(wanted) == 160 and have == wanted
