"""An exhibit of containment: what hostile programs try, and what comes back."""

from __future__ import annotations

from orrery.glossary.exhibit import Exhibit
from orrery.kit.sandbox import Limits, Sandbox, SandboxUnavailable

LIMITS = Limits(seconds=1.0, memory=128 << 20, processes=16)
ATTEMPTS = {
    "add two numbers": "def f(): return 1 + 2",
    "read the list of users": "def f(): return open('/etc/passwd').read()",
    "read the host's variables": "import os\ndef f(): return dict(os.environ)",
    "call a server": "import socket\ndef f(): return socket.create_connection(('127.0.0.1', 80))",
    "start another program": "import os\ndef f(): os.execv('/bin/sh', ['sh'])",
    "write outside": "def f(): open('/usr/escape', 'w')",
    "fork for ever": "import os\ndef f():\n    while True: os.fork()",
    "take all memory": "def f(): return bytearray(2**36)",
    "print for ever": "def f():\n    while True: print('x' * 1000)",
    "sleep past the clock": "import time\ndef f(): time.sleep(60)",
}
TESTS = "assert f(2) == 4\nassert f(10) == 20\n"
CANDIDATES = {
    "be right": "def f(x): return 2 * x",
    "be wrong": "def f(x): return x + 2",
    "leave before the checks": "def f(x):\n    import os\n    os._exit(0)",
    "return what equals everything": (
        "class Yes:\n    def __eq__(self, other): return True\ndef f(x): return Yes()"
    ),
}


def sandbox_attempts() -> Exhibit:
    """Programs that read, call, fork and lie, and what the sandbox of this machine says to each."""
    title = "What generated code tried, and what came back"
    try:
        sandbox = Sandbox.open()
    except SandboxUnavailable as error:
        return Exhibit(
            title=title,
            reads="This machine has no sandbox, and without one nothing is run.",
            columns=("sandbox", "why not"),
            rows=[("none", str(error))],
        )
    rows = []
    for tried, code in ATTEMPTS.items():
        outcome = sandbox.run(code, call="f", limits=LIMITS)
        rows.append(
            (tried, outcome.status, repr(outcome.value) if outcome.status == "ok" else outcome.detail)
        )
    for tried, code in CANDIDATES.items():
        outcome = sandbox.run_tests(code, TESTS, limits=LIMITS)
        rows.append((f"against tests: {tried}", outcome.status, outcome.detail))
    return Exhibit(
        title=f"{title} ({sandbox.kind})",
        reads=(
            "Only the honest sum and the right function come back as ok. The kernel refuses the rest or a limit ends it, "
            "and the tests, which run in a jail of their own, cannot be talked round."
        ),
        columns=("tried", "status", "what came back"),
        rows=rows,
    )
