"""The assembled filters, run by a small interpreter of the same instructions, on both machines."""

from __future__ import annotations

import errno
import struct

import pytest

from orrery.kit.sandbox import policy, syscalls
from orrery.kit.sandbox.bpf import Among, Rule, Without, assemble

ALLOW, KILL = "allow", "kill"
MACHINES = list(syscalls.MACHINES)


def judge(program: bytes, number: int, machine: int, *arguments: int) -> str:
    """What a filter says to a call: "allow", "kill" or the name of an error."""
    data = struct.pack("=IIQ6Q", number, machine, 0, *(*arguments, *[0] * (6 - len(arguments))))
    steps = [struct.unpack_from("=HBBI", program, i) for i in range(0, len(program), 8)]
    at, loaded = 0, 0
    while True:
        code, yes, no, k = steps[at]
        at += 1
        match code:
            case 0x20:
                loaded = struct.unpack_from("=I", data, k)[0]
            case 0x15:
                at += yes if loaded == k else no
            case 0x35:
                at += yes if loaded >= k else no
            case 0x45:
                at += yes if loaded & k else no
            case 0x06:
                if k >> 16 == 5:
                    return errno.errorcode[k & 0xFFFF]
                return {0x7FFF0000: ALLOW, 0x80000000: KILL}[k]
            case _:
                raise AssertionError(f"no such instruction: {code:#x}")


def test_rules_by_hand() -> None:
    program = assemble(
        [Rule(1), Rule(2, Among(1, (7, 9))), Rule(3, Among(0, ())), Rule(4, Without(0, 0b110))], 0xC000003E
    )
    told = {
        (0,): "ENOSYS", (1,): ALLOW, (2, 0, 7): ALLOW, (2, 0, 9): ALLOW, (2, 7, 8): "EPERM", (2, 0, 7 + (1 << 32)): ALLOW,
        (3, 5): "EPERM", (4, 1): ALLOW, (4, 2): "EPERM", (4, 4): "EPERM", (4, 8): ALLOW, (1 + 0x40000000,): "ENOSYS",
    }  # fmt: skip
    assert {call: judge(program, call[0], 0xC000003E, *call[1:]) for call in told} == told
    assert judge(program, 1, 0x40000003) == KILL  # 32-bit x86 numbers its calls otherwise


@pytest.mark.parametrize("machine", MACHINES)
def test_what_generated_code_may_call(machine: str) -> None:
    numbers = {n: i for g in _groups() for n, i in syscalls.numbers(g, machine).items()}
    mark = syscalls.MACHINES[machine]

    def says(program: bytes, name: str, *arguments: int) -> str:
        return judge(program, numbers[name], mark, *arguments)

    own, sharing = policy.sealed(machine=machine), policy.sealed(alone_with=77, machine=machine)
    for program in (own, sharing):
        assert len(program) // 8 <= 4096  # BPF_MAXINSNS
        for name in ("read", "mmap", "futex", "exit_group", "clock_gettime", "wait4", "ppoll"):
            assert says(program, name) == ALLOW
        for name in syscalls.numbers(syscalls.SETUP, machine):
            assert says(program, name) == "ENOSYS", name
        assert says(program, "socket", 1, 1) == says(program, "socketpair", 2, 1) == "EPERM"
        assert says(program, "socketpair", 1, 1) == says(program, "clone", 0x3D0F00) == ALLOW
        assert {says(program, "clone", 1 << bit | 17) for bit in (17, 25, 26, 27, 28, 29, 30)} == {"EPERM"}
        assert says(program, "clone3") == "ENOSYS"
        assert (
            says(program, "ioctl", 0, 0x5412)
            == says(program, "fcntl", 0, 8)
            == says(program, "prctl", 22)
            == "EPERM"
        )
        assert says(program, "prlimit64", 1) == "EPERM"
        assert judge(program, 435, mark) == judge(program, 9999, mark) == "ENOSYS"
    assert says(own, "kill", 5) == says(own, "fchmodat", 0, 0, 0o755) == says(own, "truncate") == ALLOW
    assert says(own, "fchmodat", 0, 0, 0o4755) == "EPERM"
    assert says(sharing, "kill", 77) == says(sharing, "tgkill", 77, 80) == says(sharing, "getsid", 0) == ALLOW
    for name in ("kill", "tkill", "tgkill", "getsid", "getpgid", "sched_getaffinity"):
        assert says(sharing, name, 5) == says(sharing, name, 0xFFFFFFFF) == "EPERM"
    for name in ("fchmodat", "fchmod", "utimensat", "truncate"):
        assert says(sharing, name, 0, 0, 0o755) == "EPERM"


@pytest.mark.parametrize("machine", MACHINES)
def test_the_filter_of_the_start_allows_what_sealing_takes(machine: str) -> None:
    program = policy.before(machine)
    for name, number in syscalls.numbers(syscalls.SETUP + "," + syscalls.FILES, machine).items():
        assert judge(program, number, syscalls.MACHINES[machine]) == ALLOW, name


@pytest.mark.parametrize("machine", MACHINES)
def test_no_number_is_given_twice(machine: str) -> None:
    numbers = [i for g in _groups() for i in syscalls.numbers(g, machine).values()]
    assert len(numbers) == len(set(numbers))


def _groups() -> list[str]:
    return [value for name, value in vars(syscalls).items() if name.isupper() and isinstance(value, str)]
