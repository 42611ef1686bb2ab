"""Attempts to read, write, call or signal something outside: SB-01 to SB-10, SB-15 to SB-18, SB-22 to SB-24."""

from __future__ import annotations

import os

from tests.kit.sandbox.world import World, number


def sb01(w: World) -> str:
    why = w.refused("made.append(tried(open, '/etc/passwd'))")[0]
    assert w.shared or "FileNotFoundError" in why
    return why


def sb02(w: World) -> str:
    why = w.refused("made += [tried(open, p) for p in given]", *map(str, w.canaries))
    assert w.shared or all("FileNotFoundError" in reason for reason in why)
    return "cannot be opened; that they exist can be seen" if w.shared else "no such file"


def sb03(w: World) -> str:
    places = [
        "/",
        "/tmp/",
        "/usr/",
        "/usr/lib/",
        "/var/tmp/",
        "/dev/",
        "/dev/shm/",
        f"{w.home}/",
        f"{w.work}/",
        "/proc/sys/",
    ]
    w.ask(
        "def attempt(*given): return [tried(open, p, 'w') for p in given]",
        *(f"{place}escape-{w.token}" for place in places),
    )
    w.ask(
        "def attempt(*given):\n"
        "    for p in given:\n"
        "      for work in (lambda: open(p, 'a'), lambda: os.truncate(p, 0), lambda: os.unlink(p), lambda: os.chmod(p, 0o777),\n"
        "                 lambda: os.utime(p, (1, 1)), lambda: os.rename(p, p + '2'), lambda: os.setxattr(p, 'user.a', b'b')):\n"
        "        tried(work)",
        *map(str, w.canaries),
    )
    w.check_untouched()
    return "host unchanged"


def sb04(w: World) -> str:
    found = w.ask(
        "def attempt(p, q): return [libc.system(b'echo x > ' + q.encode()), libc.open(p.encode(), 0),"
        " libc.open(p.encode(), 1), libc.chmod(p.encode(), 0)]",
        str(w.canaries[0]),
        f"{w.work}/escape",
    )
    assert found[0] != 0 and found[1:] == [-1, -1, -1]
    return "-1 each"


def sb05(w: World) -> str:
    port = w.tcp.getsockname()[1]
    return w.refused(
        "import socket\nmade.append(tried(socket.create_connection, ('127.0.0.1', given[0]), 2))", port
    )[0]


def sb06(w: World) -> str:
    w.refused(
        "for p in ('1', 'self', str(os.getppid()), str(given[0])):\n"
        "    made.append(tried(open, f'/proc/{p}/environ'))\n"
        "made.append(tried(lambda: os.environ['ORRERY_SECRET']))",
        os.getpid(),
    )
    assert w.ask("def attempt(): return dict(os.environ)") == {}
    return "empty environment, no /proc"


def sb07(w: World) -> str:
    w.ask(
        "def attempt(host, neighbour):\n"
        "    for p in (host, neighbour, os.getppid(), -1):\n"
        "        for s in (0, 9):\n"
        "            ctypes.set_errno(0); libc.kill(p, s)\n",
        os.getpid(),
        w.neighbour.pid,
    )
    return "host and neighbour live"


def sb08(w: World) -> str:
    w.refused("made.append(tried(os.listdir, '/proc'))")
    answers = w.ask(
        "def attempt(most):\n"
        "    found = {}\n"
        "    for p in range(1, most):\n"
        "        for ask in (lambda: os.kill(p, 0), lambda: os.getsid(p), lambda: os.sched_getaffinity(p), lambda: os.getpgid(p)):\n"
        "            try: ask(); said = 'there'\n"
        "            except OSError as error: said = errno.errorcode[error.errno]\n"
        "            found[said] = found.get(said, 0) + (p != os.getpid())\n"
        "    return found\n",
        20_000,
    )
    # All answers are the same, or only the jail's own first processes are there.
    assert set(answers) - {"there"} == {"EPERM"} if w.shared else answers["there"] <= 16, answers
    return f"answers: {answers}"


def sb09(w: World) -> str:
    found = w.ask(
        "def attempt(p):\n"
        "    every = ().__class__.__base__.__subclasses__()\n"
        "    wrap = next(c for c in every if c.__name__ == '_wrap_close')\n"
        "    module = wrap.__init__.__globals__\n"
        "    return [len(every), module['system']('echo x > ' + p), tried(module['listdir'], '/root')]\n",
        f"{w.work}/escape",
    )
    assert found[0] > 50 and found[1] != 0 and found[2][0] == "refused"
    return "every class, nothing outside"


def sb10(w: World) -> str:
    found = w.ask(
        "def attempt(p):\n    import posix\n    return posix.system('echo x > ' + p)", f"{w.work}/escape"
    )
    assert found != 0
    return f"posix.system: {found}"


def sb15(w: World) -> str:
    w.refused(
        "def through(make, name):\n"
        "    make(given[0], name)\n"
        "    return open(name).read()\n"
        "made += [tried(through, os.symlink, 's'), tried(through, os.link, 'h')]\n"
        "made.append(tried(open, '/proc/self/root' + given[0]))\n"
        "made.append(tried(os.listdir, '/proc/self/fd'))\n"
        "made.append(tried(open, '../' * 20 + given[0][1:]))\n"
        "here = os.open('.', os.O_RDONLY)\n"
        "made.append(tried(os.open, '../' * 20 + given[0][1:], os.O_RDONLY, dir_fd=here))",
        str(w.canaries[0]),
    )
    return "refused"


def sb16(w: World) -> str:
    return w.refused(
        "import socket\n"
        "for p in given:\n"
        "    made.append(tried(lambda: socket.socket(socket.AF_UNIX).connect(p.replace('@', chr(0)))))",
        f"@orrery-{w.token}", f"{w.folder}/socket", "/run/dbus/system_bus_socket", "/var/run/docker.sock",
        "/tmp/.X11-unix/X0", "@/tmp/.X11-unix/X0",
    )[0]  # fmt: skip


def sb17(w: World) -> str:
    w.refused(
        "made.append(tried(open, '/dev/shm/' + given[0]))\n"
        "from multiprocessing import shared_memory\n"
        "made.append(tried(shared_memory.SharedMemory, given[0]))",
        w.shm.name,
    )
    found = w.ask(f"def attempt(key): return syscall({number(29, 194)}, key, 4096, 0)", w.segment_key)
    assert found[0] == -1
    return f"none of the host's; shmget {found[1]}"


def sb18(w: World) -> str:
    return w.refused(
        "import socket\n"
        "made.append(tried(socket.getaddrinfo, 'example.com', 80))\n"
        "for family, kind in ((2, 2), (2, 3), (10, 1), (40, 1), (16, 3), (38, 5), (17, 3), (1, 1), (31, 3)):\n"
        "    made.append(tried(socket.socket, family, kind))"
    )[-1]


def sb22(w: World) -> str:
    w.refused(
        "made += [tried(input), tried(open, '/dev/tty'), tried(open, '/dev/console'), tried(os.openpty)]"
    )
    assert w.ask("def attempt(): return sys.stdin.read()") == ""
    push = f"def attempt(): return [syscall({number(16, 29)}, fd, 0x5412, b'x') for fd in range(3)]"
    assert all(answer == [-1, "EPERM"] for answer in w.ask(push))
    return "end of input; no terminal"


CALLS = {
    "execve": (59, 221), "execveat": (322, 281), "mount": (165, 40), "umount2": (166, 39), "unshare": (272, 97),
    "setns": (308, 268), "pivot_root": (155, 41), "chroot": (161, 51), "ptrace": (101, 117), "bpf": (321, 280),
    "perf_event_open": (298, 241), "keyctl": (250, 219), "add_key": (248, 217), "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425), "kexec_load": (246, 104), "init_module": (175, 105), "reboot": (169, 142),
    "process_vm_readv": (310, 270), "memfd_create": (319, 279), "pidfd_open": (434, 434), "seccomp": (317, 277),
    "open_by_handle_at": (304, 265), "mknodat": (259, 33), "fsopen": (430, 430), "move_mount": (429, 429),
    "clone3": (435, 435), "setuid": (105, 146), "capset": (126, 91), "quotactl": (179, 60), "swapon": (167, 224),
    "personality": (135, 92), "shmget": (29, 194), "semget": (64, 190), "mq_open": (240, 180), "kcmp": (312, 272),
    "process_madvise": (440, 440), "landlock_restrict_self": (446, 446), "ioprio_set": (251, 30), "acct": (163, 89),
}  # fmt: skip


def sb23(w: World) -> str:
    found = w.ask(
        "def attempt(calls): return {name: syscall(n, 0, 0, 0, 0, 0) for name, n in calls.items()}",
        {name: number(*numbers) for name, numbers in CALLS.items()},
    )
    wrong = {
        name: answer
        for name, answer in found.items()
        if answer[0] != -1 or answer[1] not in ("EPERM", "ENOSYS")
    }
    assert wrong == {}
    w.refused(
        "made.append(tried(os.execv, sys.executable or '/python/bin/python3', ['x']))\n"
        "import subprocess\n"
        "made.append(tried(subprocess.run, ['/bin/true']))\n"
        "made.append(tried(lambda: (open('f', 'w').close(), os.chmod('f', 0o4755))))\n"
        "made.append(tried(os.chmod, '/tmp', 0o2777))"
    )
    return f"{len(found)} calls refused"


def sb24(w: World) -> str:
    news = {"user": 0x10000000, "mount": 0x20000, "net": 0x40000000, "pid": 0x20000000}
    found = w.ask(
        f"def attempt(flags): return [syscall({number(56, 220)}, f | 17, 0, 0, 0, 0) for f in flags]"
        f" + [syscall({number(272, 97)}, f) for f in flags]",
        list(news.values()),
    )
    assert all(answer[0] == -1 and answer[1] in ("EPERM", "ENOSYS") for answer in found), found
    return "refused"
