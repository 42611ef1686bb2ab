"""What a run in the sandbox costs before the code starts and after it ends.

    python benchmarks/sandbox.py --runs 40

One run: build the jail, start `python -I -S` in it, give up all rights, call a function that returns its argument, end every
process, take the jail away. A test program takes two jails at once. The goal is a median under 150 ms.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

from rich.console import Console
from rich.table import Table

from orrery.kit.sandbox import Outcome, Sandbox, SandboxUnavailable

CODE = "def same(x):\n    return x\n"
GOAL_MS = 150


def milliseconds(work: Callable[[], Outcome], runs: int) -> list[float]:
    """How long each of `runs` took, sorted."""
    taken = []
    for _ in range(runs):
        begun = time.perf_counter()
        assert work().status == "ok"
        taken.append((time.perf_counter() - begun) * 1e3)
    return sorted(taken)


def main() -> None:
    """Print median and ninth decile for each kind that works here."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=40)
    runs = parser.parse_args().runs
    table = Table("sandbox", "what", "median ms", "90% ms", f"under {GOAL_MS} ms")
    for kind in ("bubblewrap", "landlock"):
        try:
            sandbox = Sandbox.open(kind)
        except SandboxUnavailable as error:
            table.add_row(kind, str(error), "", "", "")
            continue
        works: dict[str, Callable[[], Outcome]] = {
            "one call": lambda s=sandbox: s.run(CODE, call="same", arguments=[1]),
            "a test program": lambda s=sandbox: s.run_tests(CODE, "assert same(1) == 1"),
        }
        for what, work in works.items():
            taken = milliseconds(work, runs)
            median, late = statistics.median(taken), taken[int(0.9 * (runs - 1))]
            table.add_row(kind, what, f"{median:.0f}", f"{late:.0f}", "yes" if median < GOAL_MS else "no")
    Console().print(table)


if __name__ == "__main__":
    main()
