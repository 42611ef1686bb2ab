"""Seccomp filters, put together from rules: a small assembler for classic BPF.

A filter is a program over `struct seccomp_data` (number, machine, arguments) that the kernel runs at every system call. It
is a list of 8-byte instructions `(code: u16, jump if true: u8, jump if false: u8, k: u32)`; McCanne and Jacobson 1993, and the
kernel's Documentation/userspace-api/seccomp_filter.rst.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable
from dataclasses import dataclass

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER, _MACHINE, _ARGUMENTS = 0, 4, 16
X32 = 0x40000000
"""From here on lie the calls of the x32 interface, which share x86_64's mark but not its numbers."""


@dataclass(frozen=True)
class Among:
    """Allow when the low 32 bits of an argument are one of `values`; an empty tuple refuses always."""

    argument: int
    values: tuple[int, ...]


@dataclass(frozen=True)
class Without:
    """Allow when none of `bits` is set in the low 32 bits of an argument."""

    argument: int
    bits: int


@dataclass(frozen=True)
class Rule:
    """What to do at one system call: allow it, or allow it when the test holds and answer EPERM when not."""

    number: int
    test: Among | Without | None = None


def assemble(rules: Iterable[Rule], machine: int) -> bytes:
    """A filter that follows `rules` and answers ENOSYS to every other call; another machine's calls kill the process.

    ENOSYS, because the C library then falls back to older calls, which have rules of their own.
    """
    code = [
        _step(_LOAD, _MACHINE),
        _step(_EQUAL, machine, 1, 0),
        _step(_RETURN, _KILL),
        _step(_LOAD, _NUMBER),
        _step(_AT_LEAST, X32, 0, 1),
        _step(_RETURN, _ERRNO | errno.ENOSYS),
    ]
    for rule in rules:
        body = _body(rule.test)
        code += [_step(_EQUAL, rule.number, 0, len(body)), *body]
    return b"".join([*code, _step(_RETURN, _ERRNO | errno.ENOSYS)])


def _body(test: Among | Without | None) -> list[bytes]:
    """The instructions for a call whose number is right; they always return, so the number stays loaded for the rest."""
    allow, refuse = _step(_RETURN, _ALLOW), _step(_RETURN, _ERRNO | errno.EPERM)
    match test:
        case None:
            return [allow]
        case Without(argument, bits):
            return [_argument(argument), _step(_ANY_BIT, bits, 1, 0), allow, refuse]
        case Among(argument, values):
            hits = [_step(_EQUAL, value, len(values) - i, 0) for i, value in enumerate(values)]
            return [_argument(argument), *hits, refuse, allow]


def _argument(index: int) -> bytes:
    return _step(_LOAD, _ARGUMENTS + 8 * index)  # the low half comes first: both machines are little-endian


def _step(code: int, k: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, k)
