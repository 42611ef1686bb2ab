"""Attempts to be judged right without being right: SB-25 to SB-30."""

from __future__ import annotations

from orrery.kit.sandbox import Limits
from tests.kit.sandbox.world import SHORT, World

CHEATS = {
    "prints the marker": "print('passed')\nimport os\nos._exit(0)",
    "leaves before the checks": "import sys\nsys.exit(0)",
    "raises SystemExit": "raise SystemExit",
    "leaves in the call": "def add(a, b):\n    print('passed')\n    import os\n    os._exit(0)",
    "raises SystemExit in the call": "def add(a, b): raise SystemExit(0)",
    "writes a report to every pipe": (
        "import os\n"
        "for fd in range(3, 128):\n"
        '    try: os.write(fd, b\'{"status": "ok", "value": null}\')\n'
        "    except OSError: pass\n"
        "os._exit(0)"
    ),
    "answers every question itself": (
        "import json, os\n"
        "answer = json.dumps({'value': True, 'changed': {}}).encode()\n"
        "for fd in range(3, 128):\n"
        "    try:\n"
        "        for _ in range(50): os.write(fd, len(answer).to_bytes(4, 'big') + answer)\n"
        "    except OSError: pass\n"
        "os._exit(0)"
    ),
    "overwrites the answer file": "open('answer.json', 'w').write('passed')\ndef add(a, b): return None",
}
TESTS = "assert add(1, 2) == 3\nassert add(10, 5) == 15\nassert add(-1, 1) == 0\n"


def _fooled(w: World, cheats: dict[str, str], tests: str = TESTS, limits: Limits = SHORT) -> list[str]:
    """The cheats that passed, by either way of checking."""
    passed = [
        name
        for name, code in cheats.items()
        if w.sandbox.run_tests(code, tests, limits=limits).status == "ok"
    ]
    for name, code in cheats.items():
        outcome = w.sandbox.run(code, call="add", arguments=[1, 2], limits=limits)
        if outcome.status == "ok" and outcome.value == 3:
            passed.append(f"{name} (by value)")
    return passed


def sb25(w: World) -> str:
    honest = w.sandbox.run_tests("def add(a, b): return a + b", TESTS)
    assert honest.status == "ok", honest
    assert _fooled(w, CHEATS) == []
    return f"{len(CHEATS)} cheats fail, the honest one passes"


_YES = "class Yes({base}):\n    def __eq__(self, other): return True\n    def __ne__(self, other): return False\n"
_YES += (
    "    def __hash__(self): return 0\n    def __len__(self): return 3\n    def __bool__(self): return True\n"
)
_YES += "    def __lt__(self, other): return True\n    __le__ = __gt__ = __ge__ = __lt__\n"
_YES += (
    "    def __sub__(self, other): return self\n    __rsub__ = __add__ = __abs__ = lambda self, *a: self\n"
)
_YES += "    def __getattr__(self, name): return self\n    def __call__(self, *a, **k): return self\n"
LIES = {
    "equals everything": _YES.format(base="object") + "def add(a, b): return Yes()",
    "a float that does": _YES.format(base="float") + "def add(a, b): return Yes(1.5)",
    "an int that does": _YES.format(base="int") + "def add(a, b): return Yes(7)",
    "a list that does": _YES.format(base="list") + "def add(a, b): return Yes()",
    "a class that does": _YES.format(base="type") + "def add(a, b): return Yes('x', (), {})",
    "another isinstance": "import builtins\nbuiltins.isinstance = lambda *a: True\ndef add(a, b): return None",
    "another math.isclose": "import math\nmath.isclose = lambda *a, **k: True\ndef add(a, b): return 99",
    "its own math": "class math:\n    isclose = staticmethod(lambda *a, **k: True)\n    fabs = lambda x: 0\ndef add(a, b): return 99",
    "its own abs and len": "import builtins\nabs = len = builtins.abs = builtins.len = lambda x: 0\ndef add(a, b): return 99",
    "another AssertionError": "import builtins\nbuiltins.AssertionError = type('A', (Exception,), {})\ndef add(a, b): return 1",
}


def sb26(w: World) -> str:
    close = "assert math.isclose(add(1, 2), 3)\nassert abs(add(1, 2) - 3) < 1e-6\nassert isinstance(add(1, 2), int)\n"
    assert _fooled(w, LIES) == []
    assert _fooled(w, LIES, close) == []
    assert _fooled(w, LIES, "import math\n" + close) == []
    assert w.sandbox.run_tests("def add(a, b): return a + b", close).status == "ok"
    return f"{len(LIES)} liars fail"


def sb27(w: World) -> str:
    files = {
        "conftest.py": b"import os\nos._exit(0)", "sitecustomize.py": b"import os\nos._exit(0)",
        "usercustomize.py": b"import os\nos._exit(0)", "evil.pth": b"import os; os._exit(0)",
        "unittest.py": b"def main(): pass", "math.py": b"def isclose(*a, **k): return True", "startup.py": b"raise SystemExit",
    }  # fmt: skip
    tests = "import math, unittest\nassert hasattr(unittest, 'TestCase')\nassert math.isclose(add(1, 2), 3)\n"
    patch = (
        "import os, sys, types, unittest, builtins\n"
        "os.environ['PYTHONSTARTUP'] = 'startup.py'\n"
        "fake = types.ModuleType('math'); fake.isclose = lambda *a, **k: True\n"
        "sys.modules['math'] = fake\nsys.modules['unittest'] = types.ModuleType('unittest')\n"
        "builtins.__import__ = lambda *a, **k: fake\n"
        "def add(a, b): return 4\n"
    )
    assert w.sandbox.run_tests(patch, tests, files=files, limits=SHORT).status != "ok"
    assert w.sandbox.run_tests("def add(a, b): return 4", tests, files=files, limits=SHORT).status != "ok"
    assert w.sandbox.run_tests("def add(a, b): return a + b", tests, files=files).status == "ok"
    return "the check imports its own"


def sb28(w: World) -> str:
    crafted = f"import pickle, os\nclass E:\n    def __reduce__(self): return (os.system, ('echo x > {w.work}/escape',))\n"
    assert w.run(crafted + "def attempt(): return pickle.dumps(E())", call="attempt").status == "error"
    assert w.run(crafted + "def attempt(): return E()", call="attempt").status == "error"
    to_pipes = crafted + "for fd in range(3, 128):\n    tried(os.write, fd, pickle.dumps(E()))\nos._exit(0)"
    assert w.run(to_pipes, call="attempt").status == "crash"
    assert w.run("def attempt(): return 'x' * (8 << 20)", call="attempt").status == "output"
    assert w.run("def attempt(): return int('9' * 4000) ** 9", call="attempt").status == "error"
    deep = "def attempt():\n    x = []\n    for _ in range(100000): x = [x]\n    return x"
    assert w.run(deep, call="attempt").status == "error"
    return "no JSON, no value"


def sb29(w: World) -> str:
    expected = f"expected-{w.token}"
    spy = (
        "import gc, sys\n"
        "def add(a, b):\n"
        "    half = 'expected' + '-'\n"
        "    found, frame = [], sys._getframe()\n"
        "    while frame: found.append(repr(frame.f_globals) + repr(frame.f_locals)); frame = frame.f_back\n"
        "    found += [repr(x) for x in gc.get_objects() if isinstance(x, (dict, list, tuple))]\n"
        "    try: found.append(open('/proc/self/mem').read())\n"
        "    except OSError: pass\n"
        "    hits = [text for text in found if half in text and len(text) < 1 << 20]\n"
        "    for text in hits:\n"
        "        at = text.find(half) + len(half)\n"
        "        if text[at:at + 16].isalnum(): return half + text[at:at + 16]\n"
        "    return None\n"
    )
    outcome = w.sandbox.run_tests(spy, f"assert add(1, 2) == {expected!r}")
    assert outcome.status == "error" and "AssertionError" in outcome.detail, outcome
    return "not in that process"


def sb30(w: World) -> str:
    sleepers = {
        "sleeps in the call": "import time\ndef add(a, b): time.sleep(60)",
        "sleeps before": "import time\ntime.sleep(60)",
        "sleeps, then is right": "import time\ndef add(a, b):\n    time.sleep(1.5)\n    return a + b",
    }
    assert _fooled(w, sleepers) == []
    assert w.sandbox.run_tests(sleepers["sleeps in the call"], TESTS, limits=SHORT).status == "timeout"
    return "timeout is fail"
