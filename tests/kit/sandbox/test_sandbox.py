"""What the sandbox returns for honest and faulty code, with each kind that this machine has."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from orrery.kit.errors import OrreryError
from orrery.kit.sandbox import Limits, Sandbox, SandboxUnavailable
from orrery.kit.sandbox.inside.supervisor import descendants
from tests.kit.sandbox.cases import CASES
from tests.kit.sandbox.cases_forge import TESTS
from tests.kit.sandbox.world import SHORT, World

QUICK_CASES = (
    "SB-01",
    "SB-02",
    "SB-03",
    "SB-05",
    "SB-06",
    "SB-12",
    "SB-14",
    "SB-16",
    "SB-23",
    "SB-24",
    "SB-31",
    "SB-35",
)


def test_a_program_says_what_it_printed(sandbox: Sandbox) -> None:
    outcome = sandbox.run(
        "import sys\nprint('out', __name__)\nprint('err', file=sys.stderr)\nassert input is not None"
    )
    assert (outcome.status, outcome.value, outcome.stdout, outcome.stderr) == (
        "ok",
        None,
        "out __main__\n",
        "err\n",
    )
    assert 0 < outcome.seconds < 5


def test_a_call_returns_plain_json_values(sandbox: Sandbox) -> None:
    code = (
        "class F(float): pass\ndef f(a, b=1, c=None): return {'x': (a, b), 'y': F(1.5), 'z': [c, True, 'ü']}"
    )
    outcome = sandbox.run(code, call="f", arguments=[{"k": [1, 2.5]}, "s"])
    assert outcome.status == "ok"
    assert outcome.value == {"x": [{"k": [1, 2.5]}, "s"], "y": 1.5, "z": [None, True, "ü"]}
    assert type(outcome.value["y"]) is float


@pytest.mark.parametrize(
    ("code", "status", "detail"),
    [
        ("def f(): return 1 / 0", "error", "ZeroDivisionError: division by zero (line 1 of <solution>)"),
        ("def f(:", "error", "SyntaxError"),
        ("x = 1", "error", "NameError: the code defines no 'f'"),
        ("def f(): return {1, 2}", "error", "the value has no form in JSON"),
        ("def f(): raise SystemExit(0)", "error", "SystemExit: 0"),
        ("import os\nos._exit(0)", "crash", "ended with code 0 before it was done"),
        ("import os\nos.abort()", "crash", "ended by signal 6"),
        ("def f(): return 'x' * 10**10", "memory", "MemoryError"),
        ("import time\ntime.sleep(60)", "timeout", "took longer than 1 s"),
        ("while True: print('x' * 1000)", "output", "printed more than 1,048,576 bytes"),
        ("import os\nx = [os.pipe() for _ in range(999)]", "limit", "the limit of open files"),
    ],
)  # fmt: skip
def test_how_a_run_can_end(sandbox: Sandbox, code: str, status: str, detail: str) -> None:
    limits = SHORT if status == "timeout" else Limits(seconds=30.0)
    outcome = sandbox.run(code, call="f", limits=limits)
    assert (outcome.status, outcome.value) == (status, None), outcome
    assert detail in outcome.detail


def test_a_traceback_shows_the_code_and_nothing_of_ours(sandbox: Sandbox) -> None:
    outcome = sandbox.run("def g():\n    raise KeyError('k')\ng()")
    assert outcome.stderr.splitlines() == [
        "Traceback (most recent call last):",
        '  File "<__main__>", line 3, in <module>',
        '  File "<__main__>", line 2, in g',
        "KeyError: 'k'",
    ]


def test_the_beginning_and_the_end_of_long_output_are_kept(sandbox: Sandbox) -> None:
    outcome = sandbox.run("import sys\nsys.stdout.write('a' * 65536 + 'b' * 300000 + 'c' * 16384)")
    assert outcome.status == "ok"
    head, gap, tail = outcome.stdout.partition("\n[... 300,000 bytes left out ...]\n")
    assert (set(head), len(head), bool(gap), set(tail), len(tail)) == ({"a"}, 65536, True, {"c"}, 16384)


def test_files_are_laid_out_and_can_be_imported(sandbox: Sandbox) -> None:
    files = {"helper.py": b"def twice(x): return 2 * x", "data/in.txt": "grüße".encode()}
    outcome = sandbox.run(
        "import helper\ndef f(): return [helper.twice(4), open('data/in.txt').read()]", call="f", files=files
    )
    assert (outcome.status, outcome.value) == ("ok", [8, "grüße"]), outcome
    with pytest.raises(OrreryError, match="relative path"):
        sandbox.run("", files={"../x": b""})


def test_the_standard_library_is_there_and_nothing_else(sandbox: Sandbox) -> None:
    outcome = sandbox.run(
        "import ast, asyncio, collections, decimal, fractions, hashlib, heapq, itertools, json, math, random, re, sqlite3, statistics\n"
        "async def g(): return hashlib.sha256(b'').hexdigest()[:4]\n"
        "def f():\n"
        "    try:\n"
        "        import torch\n"
        "    except ImportError:\n"
        "        return asyncio.run(g())\n",
        call="f",
        limits=Limits(seconds=30.0),
    )
    assert (outcome.status, outcome.value) == ("ok", "e3b0"), outcome


def test_threads_and_processes_within_the_limit_work(sandbox: Sandbox) -> None:
    outcome = sandbox.run(
        "import os, threading\n"
        "def f():\n"
        "    found = []\n"
        "    threads = [threading.Thread(target=found.append, args=(i,)) for i in range(8)]\n"
        "    for t in threads: t.start()\n"
        "    for t in threads: t.join()\n"
        "    reader, writer = os.pipe()\n"
        "    if os.fork() == 0:\n"
        "        os.write(writer, b'child')\n"
        "        os._exit(0)\n"
        "    os.wait()\n"
        "    return [sorted(found), os.read(reader, 9).decode()]\n",
        call="f",
    )
    assert (outcome.status, outcome.value) == ("ok", [list(range(8)), "child"]), outcome


def test_a_forked_copy_of_the_code_reports_nothing(sandbox: Sandbox) -> None:
    outcome = sandbox.run("import os\nchild = os.fork()\ndef f(): return child == 0", call="f")
    assert (outcome.status, outcome.value) == ("ok", False)


@pytest.mark.parametrize("case", QUICK_CASES)
def test_the_quick_attempts_are_contained(sandbox: Sandbox, case: str) -> None:
    world = World(sandbox)
    try:
        CASES[case](world)
        world.check_untouched()
    finally:
        world.close()


def test_test_programs_of_both_customs(sandbox: Sandbox) -> None:
    assert sandbox.run_tests("def add(a, b): return a + b", TESTS).status == "ok"
    check = "def check(candidate):\n    assert candidate(1, 2) == 3\n    assert candidate([1], [2]) == [1, 2]\ncheck(add)"
    stub = "import math\ndef add(a, b):\n    '''the sum'''\n"
    assert sandbox.run_tests(stub + "    return a + b", check, setup=stub, entry=["add"]).status == "ok"
    wrong = sandbox.run_tests("def add(a, b): return 3", check, limits=Limits(seconds=30.0))
    assert (wrong.status, wrong.detail) == ("error", "AssertionError (line 3 of <tests>)")
    assert sandbox.run_tests("def sub(a, b): return 3", check).detail.startswith("NameError: name 'add'")
    broken = sandbox.run_tests("def add(a, b):", TESTS)
    assert (broken.status, broken.detail[:11]) == ("error", "Indentation"), broken


def test_tests_that_need_more_than_plain_values(sandbox: Sandbox) -> None:
    code = """
import math
from collections import Counter, namedtuple
class Stack:
    def __init__(self): self.items = []
    def push(self, x): self.items.append(x)
    def __len__(self): return len(self.items)
    def __eq__(self, other): return self.items == other.items
Point = namedtuple('Point', 'x y')
def pair(a): return Point(a, 2 * a)
def count(text): return Counter(text)
def squares(n): return (i * i for i in range(n))
def rotate(rows): rows[:] = [list(r) for r in zip(*rows)]
def total(stack): return sum(stack.items)
def power(a, b): return a ** b
def root(x):
    if x < 0: raise ValueError('negative')
    return math.sqrt(x)
def adder(a): return lambda b: a + b
"""
    tests = """
s, t = Stack(), Stack()
s.push(1); s.push(2); t.push(3)
assert len(s) == 2 and total(s) == 3 and s.items == [1, 2] and s != t
t.items = [1, 2]
assert s == t
assert pair(3) == (3, 6)
assert count('aab') == {'a': 2, 'b': 1}
assert list(squares(4)) == [0, 1, 4, 9]
rows = [[1, 2], [3, 4]]
assert rotate(rows) is None and rows == [[1, 3], [2, 4]]
assert power(3, 400) == 3 ** 400 and power(2, -1) == 0.5 and power(2.0, 1 + 1j) == 2.0 ** (1 + 1j)
assert math.isclose(root(2), 1.41421356, rel_tol=1e-6)
assert adder(1)(b=2) == 3
try:
    root(-1)
except ValueError as error:
    assert str(error) == 'negative'
else:
    assert False
assert power({1} and 2, b=3) == 8
"""
    outcome = sandbox.run_tests(code, tests, limits=Limits(seconds=30.0))
    assert outcome.status == "ok", outcome
    assert sandbox.run_tests(code, tests + "assert s == 5").status == "error"


def test_leaving_where_the_tests_expect_an_exception_is_no_way_out(sandbox: Sandbox) -> None:
    tests = "try:\n    f(-1)\nexcept BaseException:\n    pass\nelse:\n    assert False\n"
    assert sandbox.run_tests("def f(x): raise ValueError", tests).status == "ok"
    assert sandbox.run_tests("import os\ndef f(x): os._exit(0)", tests).status == "crash"
    assert sandbox.run_tests("def f(x): raise SystemExit", tests).status == "error"


def test_setup_of_the_task_is_not_the_code_s_to_change(sandbox: Sandbox) -> None:
    setup = "def poly(xs, x): return sum(c * x**i for i, c in enumerate(xs))\n"
    tests = "assert abs(poly([-2, 1], find_zero([-2, 1]))) < 1e-4"
    assert (
        sandbox.run_tests(setup + "def find_zero(xs): return -xs[0] / xs[1]", tests, setup=setup).status
        == "ok"
    )
    lie = "def poly(xs, x): return 0\ndef find_zero(xs): return 99"
    assert sandbox.run_tests(lie, tests, setup=setup).status == "error"


def test_the_code_holds_no_right_and_no_pipe_but_its_own(sandbox: Sandbox) -> None:
    outcome = sandbox.run(
        "import ctypes, os, stat, struct\n"
        "def f():\n"
        "    libc = ctypes.CDLL(None)\n"
        "    rights = ctypes.create_string_buffer(24)\n"
        "    libc.capget(struct.pack('=Ii', 0x20080522, 0), rights)\n"
        "    kinds = []\n"
        "    for fd in range(128):\n"
        "        try: kinds.append(stat.S_IFMT(os.fstat(fd).st_mode))\n"
        "        except OSError: pass\n"
        "    return [rights.raw.hex(), os.getresuid(), os.getgroups(), kinds]\n",
        call="f",
    )
    assert outcome.status == "ok", outcome
    rights, users, groups, kinds = outcome.value
    allowed = {"00" * 24} if sandbox.kind == "bubblewrap" else {"00" * 24, "04000000" * 2 + "00" * 16}
    assert (
        rights in allowed
    )  # one right at most: to read through closed folders, where Landlock bounds what is read
    assert 0 not in users and (groups == [] or os.geteuid() != 0)
    assert kinds == [
        stat.S_IFCHR,
        stat.S_IFIFO,
        stat.S_IFIFO,
        stat.S_IFIFO,
    ]  # /dev/null, two outputs, the answer


def test_nothing_is_left_when_a_run_returns(sandbox: Sandbox) -> None:
    before = descendants(os.getpid())
    open_before = len(os.listdir("/proc/self/fd"))
    for code in (
        "",
        "import os\nos.fork()\nos.fork()",
        "raise ValueError",
        "import os\nos.kill(os.getpid(), 9)",
    ):
        sandbox.run(code)
    sandbox.run_tests("def add(a, b): return a + b", TESTS)
    assert descendants(os.getpid()) == before
    assert len(os.listdir("/proc/self/fd")) == open_before


def test_the_jail_ends_with_the_host(sandbox: Sandbox) -> None:
    program = (
        "import sys\nfrom orrery.kit.sandbox import Limits, Sandbox\n"
        f"s = Sandbox.open({sandbox.kind!r})\nprint('up', flush=True)\n"
        "s.run('import os, time\\nif os.fork() == 0: os.setsid()\\ntime.sleep(300)', limits=Limits(seconds=300.0))\n"
    )
    host = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=Path(__file__).resolve().parents[3]
    )
    assert host.stdout is not None
    host.stdout.readline()
    deadline = time.monotonic() + 60
    while len(inside := descendants(host.pid)) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    host.kill()
    host.wait()
    host.stdout.close()
    while any(_lives(pid) for pid in inside):
        assert time.monotonic() < deadline, "processes of the jail outlived their host"
        time.sleep(0.05)


def _lives(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_two_jails_share_nothing(sandbox: Sandbox) -> None:
    sandbox.run("try: open('left', 'w').write('x')\nexcept OSError: pass")
    outcome = sandbox.run("import os\ndef f(): return os.listdir('.')", call="f")
    assert outcome.value == []


def test_a_python_that_cannot_be_started_is_named() -> None:
    with pytest.raises(SandboxUnavailable, match="'/nowhere/python' cannot be started"):
        Sandbox.open(interpreter=Path("/nowhere/python"))
