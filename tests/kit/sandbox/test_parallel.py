"""SB-39: a hundred runs at once of what exhausts processes, disk, output and memory; the host answers, and all comes back."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from orrery.kit.sandbox import Limits, Sandbox, SandboxUnavailable
from orrery.kit.sandbox.inside.supervisor import descendants

HUNGRY = (
    "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
    "n = 0\nwhile True:\n    open(f'f{n}', 'wb').write(bytes(1 << 16))\n    n += 1",
    "while True: print('x' * 1000)",
    "x = []\nwhile True: x.append(bytearray(1 << 20))",
)
LIMITS = Limits(seconds=2.0, cpu_seconds=2.0, memory=64 << 20, disk=4 << 20, processes=16)


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _used() -> int:
    here = os.statvfs("/tmp")
    return (here.f_blocks - here.f_bfree) * here.f_frsize


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bubblewrap", "landlock"])
def test_a_hundred_hungry_runs_at_once(kind: str) -> None:
    try:
        sandbox = Sandbox.open(kind, parallel=100)  # type: ignore[arg-type]
    except SandboxUnavailable as error:
        pytest.skip(str(error))
    sandbox.run("")
    resident, used, before = _resident(), _used(), descendants(os.getpid())
    longest, done = [0.0], threading.Event()

    def answers() -> None:
        """The host's own pulse: how late a nap of 50 ms ends."""
        while not done.is_set():
            begun = time.monotonic()
            time.sleep(0.05)
            longest[0] = max(longest[0], time.monotonic() - begun)

    pulse = threading.Thread(target=answers)
    pulse.start()
    with ThreadPoolExecutor(100) as pool:
        outcomes = list(pool.map(lambda n: sandbox.run(HUNGRY[n % 4], limits=LIMITS), range(100)))
    done.set()
    pulse.join()
    assert all(outcome.status != "ok" for outcome in outcomes)
    assert descendants(os.getpid()) == before
    assert longest[0] < 10
    deadline = time.monotonic() + 10
    while _resident() - resident > 64 << 20 or _used() - used > 64 << 20:
        assert time.monotonic() < deadline, (_resident() - resident, _used() - used)
        time.sleep(0.1)
    assert sandbox.run("def f(): return 1", call="f", limits=Limits(seconds=30.0)).value == 1


def test_runs_wait_for_their_turn() -> None:
    try:
        sandbox = Sandbox.open(parallel=1)
    except SandboxUnavailable as error:
        pytest.skip(str(error))
    nap = "import time\ndef f():\n    a = time.time()\n    time.sleep(0.3)\n    return [a, time.time()]"
    with ThreadPoolExecutor(2) as pool:
        one, two = sorted(o.value for o in pool.map(lambda _: sandbox.run(nap, call="f"), range(2)))
    assert one[1] <= two[0]
