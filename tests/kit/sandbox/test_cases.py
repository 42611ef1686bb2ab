"""Every attempt, with both kinds of sandbox, as root and as a plain user: one test each, and a table at the end (-s shows it)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.sandbox.cases import CASES

ROOT = Path(__file__).resolve().parents[3]
KINDS = ("bubblewrap", "landlock")
USERS = ("root", "plain")
Found = dict[str, tuple[bool, str]]


@pytest.fixture(scope="module")
def drivers() -> Iterator[dict[tuple[str, str], subprocess.Popen[str]]]:
    """One process for each kind and user; they wait for clocks most of the time, so they run beside each other."""
    running = {
        (kind, user): subprocess.Popen(
            [sys.executable, "-m", "tests.kit.sandbox.driver", kind, user],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for kind in KINDS
        for user in USERS
        if user == "plain" or os.geteuid() == 0
    }
    yield running
    for process in running.values():
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.fixture(scope="module")
def found(
    drivers: dict[tuple[str, str], subprocess.Popen[str]],
) -> Iterator[dict[tuple[str, str], Found | str]]:
    """What every driver said: a result for each case, or why there are none."""
    table: dict[tuple[str, str], Found | str] = {}
    for key, process in drivers.items():
        lines = [json.loads(line) for line in process.communicate(timeout=580)[0].splitlines()]
        if lines and "unavailable" in lines[0]:
            table[key] = lines[0]["unavailable"]
        else:
            table[key] = {line["case"]: (line["held"], line["said"]) for line in lines}
    yield table
    print()
    for case in (*CASES, "host"):
        for (kind, user), results in table.items():
            if not isinstance(results, str) and case in results:
                held, said = results[case]
                print(
                    f"{case:6} {kind:11} {user:6} {'held' if held else 'FAILED':7} {said.splitlines()[-1][:90]}"
                )


@pytest.mark.slow
@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", [*CASES, "host"])
def test_the_attempt_is_contained(
    case: str, kind: str, user: str, found: dict[tuple[str, str], Found | str]
) -> None:
    if (kind, user) not in found:
        pytest.skip("needs root, to try it as root")
    results = found[kind, user]
    if isinstance(results, str):
        pytest.skip(results)
    assert case in results, f"the driver ended before {case}"
    held, said = results[case]
    assert held, said
