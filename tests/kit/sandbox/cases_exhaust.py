"""Attempts to use up processes, disk, output, memory and time: SB-11 to SB-14, SB-19 to SB-21; and what is left over: SB-31 to SB-42."""

from __future__ import annotations

import json
import os
import resource
import time

from orrery.kit.sandbox import Limits
from orrery.kit.sandbox.inside.supervisor import descendants
from tests.kit.sandbox.world import SHORT, World, number

SMALL = Limits(seconds=2.0, cpu_seconds=2.0, memory=128 << 20, disk=8 << 20, files=200)


def sb11(w: World) -> str:
    most = w.ask(
        "def attempt():\n"
        "    import time\n"
        "    made = 0\n"
        "    while True:\n"
        "        try: child = os.fork()\n"
        "        except OSError: return made\n"
        "        if child == 0: time.sleep(60)\n"
        "        made += 1\n"
    )
    assert 4 <= most <= 32, most
    before = time.monotonic()
    bomb = w.run("while True:\n    try: os.fork()\n    except OSError: pass", limits=SHORT)
    assert bomb.status == "timeout" and bomb.seconds < SHORT.seconds + w.grace, bomb
    assert descendants(os.getpid()) == w.children
    load = time.monotonic() - before
    return f"{most} forks; the bomb ended after {bomb.seconds:.1f} s ({load:.1f} with clearing up)"


def sb12(w: World) -> str:
    filled = w.ask(
        "def attempt():\n"
        "    written = 0\n"
        "    for place in ('/tmp/big', '/dev/shm/bigger', 'biggest'):\n"
        "        try:\n"
        "            with open(place, 'wb', 0) as out:\n"
        "                for _ in range(300): written += out.write(bytes(1 << 20))\n"
        "        except OSError: pass\n"
        "    return written\n",
        limits=SMALL,
    )
    assert filled <= SMALL.disk
    files = w.ask(
        "def attempt():\n"
        "    made = 0\n"
        "    try:\n"
        "        while made < 10_000_000: os.close(os.open(f'f{made}', os.O_CREAT | os.O_WRONLY)); made += 1\n"
        "    except OSError: return made\n",
        limits=SMALL,
    )
    assert files <= SMALL.files
    return f"{filled >> 20} MiB, {files} files"


def sb13(w: World) -> str:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for body in (
        "sys.stdout.write('x' * (64 << 20))",
        "sys.stderr.write('x' * (64 << 20))",
        "while True: print('x' * 1000)",
        "while True: os.write(2, bytes(65536))",
    ):
        outcome = w.run(body)
        assert outcome.status == "output", outcome.status
        assert len(outcome.stdout) + len(outcome.stderr) < 90_000
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 24 << 10, f"the host grew by {grown} KiB"
    return f"64 KiB and the tail kept; the host grew by {grown} KiB"


def sb14(w: World) -> str:
    outcome = w.run(
        "import time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0: time.sleep(60)\n    os._exit(0)"
    )
    assert outcome.status == "ok" and outcome.seconds < w.grace
    assert descendants(os.getpid()) == w.children
    return f"gone after {outcome.seconds:.2f} s"


def sb19(w: World) -> str:
    ways = (
        "while True: pass",
        "import signal\n"
        "for s in range(1, 65):\n    tried(signal.signal, s, lambda *a: None)\n"
        "while True: pass",
        "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\nwhile True: pass",
    )
    for code in ways:
        outcome = w.run(code, limits=SHORT)
        assert outcome.status == "timeout" and outcome.seconds < SHORT.seconds + w.grace, outcome
    patient = Limits(seconds=60.0, cpu_seconds=1.0)
    outcome = w.run("while True: pass", limits=patient)
    assert outcome.status == "timeout" and outcome.detail.startswith("used"), outcome
    return f"timeout each; at the processor's limit: {outcome.detail}"


def sb20(w: World) -> str:
    few = Limits(seconds=20.0, memory=128 << 20)
    for code in (
        "x = bytearray(2**34)",
        "x = []\nwhile True: x.append(bytearray(1 << 20))",
        "import mmap\nx = []\nwhile True: x.append(mmap.mmap(-1, 1 << 24))",
        "x = []\nwhile True: x.append('x' * 100 + str(len(x)))",
        "import time\n"
        "for _ in range(6):\n"
        "    if os.fork() == 0:\n        x = bytearray(b'x') * (60 << 20)\n        time.sleep(20)\n        os._exit(0)\n"
        "time.sleep(20)",
    ):
        outcome = w.run(code, limits=few)
        assert outcome.status == "memory", (code, outcome)
    return "memory each"


def sb21(w: World) -> str:
    for code in ("10**10**10", "import re\nre.match('(a+)+b', 'a' * 64)", "sum(range(10**12))"):
        outcome = w.run(code, limits=SHORT)
        assert outcome.status in ("timeout", "memory") and outcome.seconds < SHORT.seconds + w.grace, outcome
    return "timeout each"


def sb31(w: World) -> str:
    w.run(
        "for p in ('json.py', 'evil.so', '__pycache__/json.cpython-311.pyc', '.config/pip/pip.conf', '.cache/huggingface/x'):\n"
        "    tried(lambda: (os.makedirs(os.path.dirname(p) or '.', exist_ok=True), open(p, 'w').write('raise SystemExit')))\n"
        "import json\ntried(open, json.__file__, 'a')"
    )
    left, where = w.ask("def attempt():\n    import json\n    return [os.listdir('.'), json.__file__]")
    assert left == [] and "lib" in where
    return "scratch is empty again"


def sb32(w: World) -> str:
    here = set(os.listdir("."))
    for code in (
        "ctypes.string_at(0)",
        "os.abort()",
        "import signal\nsignal.raise_signal(signal.SIGBUS)",
        "sys.setrecursionlimit(10**9)\nclass A:\n    def __getattr__(self, n): return getattr(self, n)\nA().x",
        "libc.qsort(None, 100, 8, None)",
    ):  # fmt: skip
        outcome = w.run(code)
        assert outcome.status == "crash", (code, outcome)
    assert not [n for n in set(os.listdir(".")) - here if n.startswith("core")]
    return "crash each, no core file"


def sb33(w: World) -> str:
    threads = "import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(30,), daemon=True).start()"
    assert w.run(threads).status in ("limit", "memory")
    assert w.run("import select\nx = [select.epoll() for _ in range(100000)]").status == "limit"
    filled = w.ask(
        "def attempt():\n"
        "    total = 0\n"
        "    while True:\n"
        "        try: out = os.pipe()[1]\n"
        "        except OSError: return total\n"
        "        os.set_blocking(out, False)\n"
        "        try:\n"
        "            while True: total += os.write(out, bytes(65536))\n"
        "        except BlockingIOError: pass\n"
    )
    assert filled <= 64 << 16
    return f"limits hold; {filled >> 10} KiB in pipes"


def sb34(w: World) -> str:
    w.refused(
        "for p in given: made.append(tried(lambda: open(p, 'rb').read(1)))\nmade.append(tried(os.listdir, '/sys'))",
        "/proc/kallsyms", "/proc/kcore", "/proc/cpuinfo", "/proc/meminfo", "/proc/version", "/proc/net/tcp", "/dev/mem",
        "/dev/kmsg", "/sys/kernel/notes", "/sys/devices/system/cpu/online", "/etc/hostname", "/etc/shadow",
    )  # fmt: skip
    assert (
        w.ask(f"def attempt(): return syscall({number(103, 116)}, 3, ctypes.create_string_buffer(99), 99)")[0]
        == -1
    )
    return "absent or closed"


def sb35(w: World) -> str:
    made = w.ask(
        "def attempt():\n"
        "    names = ['\\u202e\\U0001f600', 'a\\nb', 'x' * 255, '-rf', ' ', '\\\\', b'\\xff\\xfe'.decode('utf-8', 'surrogateescape')]\n"
        "    made = sum(tried(lambda: open(n, 'w').close())[0] == 'came through' for n in names)\n"
        "    deep = 0\n"
        "    try:\n"
        "        while deep < 1000: os.mkdir('d' * 100); os.chdir('d' * 100); deep += 1\n"
        "    except OSError: pass\n"
        "    return [made, deep]\n"
    )
    assert made == ([0, 0] if w.shared else [7, 1000]), made
    assert w.ask("def attempt(): return os.listdir('.')") == []
    return f"{made[0]} odd names, {made[1]} folders deep; then clean"


def sb36(w: World) -> str:
    sources = {
        "NUL": "x = 1\0", "BOM": "\ufeffx = (", "lone surrogate": "x = '\ud800'", "50 MB": "x = [" + "1,\n" * 16_000_000 + "]",
        "brackets": "(" * 100_000, "minus": "-" * 1_000_000 + "1", "lambdas": "lambda: " * 100_000 + "1",
        "indents": "".join(" " * i + "if 1:\n" for i in range(200)), "path": "open('a\0b')",
        "attribute": "x" + ".x" * 200_000,
    }  # fmt: skip
    said = {
        name: w.sandbox.run(code, limits=Limits(seconds=20, memory=256 << 20))
        for name, code in sources.items()
    }
    assert all(o.status in ("error", "memory", "crash", "timeout") for o in said.values()), said
    return ", ".join(f"{name}: {o.status}" for name, o in said.items())


def sb37(w: World) -> str:
    before = time.time()
    w.refused(
        "import time, resource\n"
        "made += [tried(time.clock_settime, time.CLOCK_REALTIME, 0), tried(os.setpriority, os.PRIO_PROCESS, 0, -20)]\n"
        "made += [tried(os.nice, -20), tried(os.sched_setaffinity, 0, {0})]\n"
        "for kind in (resource.RLIMIT_AS, resource.RLIMIT_NPROC, resource.RLIMIT_CPU, resource.RLIMIT_NOFILE, resource.RLIMIT_CORE):\n"
        "    made.append(tried(resource.setrlimit, kind, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)))\n"
        "made.append(tried(resource.prlimit, given[0], resource.RLIMIT_CPU, (0, 0)))",
        os.getpid(),
    )
    assert time.time() >= before
    return "refused"


def sb38(w: World) -> str:
    devices = [
        "/dev/kvm",
        "/dev/fuse",
        "/dev/nvidia0",
        "/dev/nvidiactl",
        "/dev/dri/card0",
        "/dev/kfd",
        "/dev/vda",
        "/dev/sda",
    ]
    devices += ["/dev/loop0", "/dev/net/tun", "/dev/vsock", "/dev/input/event0", "/dev/ptmx"]
    w.refused("for p in given: made.append(tried(os.open, p, os.O_RDWR))", *devices)
    return "absent or closed"


def sb41(w: World) -> str:
    programs = [
        "/bin/sh",
        "/bin/bash",
        "/usr/bin/awk",
        "/usr/bin/perl",
        "/usr/bin/gcc",
        "/usr/bin/env",
        "/lib64/ld-linux-x86-64.so.2",
    ]
    w.refused(
        "for p in given: made.append(tried(os.execv, p, [p]))\n"
        "import subprocess\nfor p in given: made.append(tried(subprocess.run, [p, '-c', 'echo']))",
        *programs,
    )
    return "no program can be started"


def sb42(w: World) -> str:
    nasty = [
        "; rm -rf /",
        "$(touch x)",
        "../../etc/passwd",
        "--help",
        "a\0b",
        "\x1b]0;x\x07",
        "\ud800",
        "`id`",
        "%s%n",
        "\u202e",
    ]
    found = w.ask(f"def attempt(): return {nasty!r}")
    assert found == nasty and all(type(text) is str for text in found)
    json.dumps(found)
    for name in ("../x", "/x", "a/../../x", ""):
        try:
            w.run("", files={name: b""})
        except ValueError:
            continue
        raise AssertionError(f"{name!r} was taken for a file's name")
    printed = w.run("sys.stdout.buffer.write(b'\\xff\\x00\\x1b[2J')")
    assert printed.status == "ok" and isinstance(printed.stdout, str), printed
    return "text stays text"
