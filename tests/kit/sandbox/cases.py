"""The attempts, one function each: what the code tries, and what must come of it. The number is the case's in the project's list."""

from __future__ import annotations

from collections.abc import Callable

from tests.kit.sandbox import cases_exhaust, cases_forge, cases_reach
from tests.kit.sandbox.world import World

CASES: dict[str, Callable[[World], str]] = {
    f"SB-{name[2:]}": value
    for name, value in sorted({**vars(cases_reach), **vars(cases_exhaust), **vars(cases_forge)}.items())
    if name[:2] == "sb" and name[2:].isdigit()
}
"""All but SB-39 (`test_parallel.py`) and SB-40 (`test_unavailable.py`)."""
ALONE = ("SB-11", "SB-13", "SB-14")
"""Those that look at the host's own processes and memory."""
