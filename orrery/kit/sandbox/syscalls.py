"""System calls by number: `name x86_64 aarch64`, from the kernel's public headers ("-": that machine has none).

The groups are those that generated Python may call. What is not named in this file is answered with "no such call".
"""

from __future__ import annotations

import platform

FILES = """
read 0 63, write 1 64, pread64 17 67, pwrite64 18 68, readv 19 65, writev 20 66, preadv 295 69,
pwritev 296 70, preadv2 327 286, pwritev2 328 287, open 2 -, openat 257 56, openat2 437 437, creat 85 -,
close 3 57, close_range 436 436, lseek 8 62, stat 4 -, fstat 5 80, lstat 6 -, newfstatat 262 79,
statx 332 291, access 21 -, faccessat 269 48, faccessat2 439 439, getdents 78 -, getdents64 217 61,
getcwd 79 17, chdir 80 49, fchdir 81 50, readlink 89 -, readlinkat 267 78, mkdir 83 -, mkdirat 258 34,
rmdir 84 -, unlink 87 -, unlinkat 263 35, rename 82 -, renameat 264 38, renameat2 316 276, link 86 -,
linkat 265 37, symlink 88 -, symlinkat 266 36, ftruncate 77 46, fsync 74 82, fdatasync 75 83, flock 73 32,
fallocate 285 47, fadvise64 221 223, sendfile 40 71, copy_file_range 326 285, statfs 137 43, fstatfs 138 44,
umask 95 166, dup 32 23, dup2 33 -, dup3 292 24, pipe 22 -, pipe2 293 59, sync_file_range 277 84
"""
"""Files; what may be opened is for mounts or Landlock to say."""

MEMORY = """
mmap 9 222, munmap 11 215, mremap 25 216, mprotect 10 226, madvise 28 233, mincore 27 232, msync 26 227,
brk 12 214, membarrier 324 283, mlock 149 228, munlock 150 229
"""
"""Memory of one's own."""

TASKS = """
fork 57 -, vfork 58 -, exit 60 93, exit_group 231 94, wait4 61 260, waitid 247 95, getpid 39 172,
getppid 110 173, gettid 186 178, getuid 102 174, geteuid 107 175, getgid 104 176, getegid 108 177,
getresuid 118 148, getresgid 120 150, getgroups 115 158, setsid 112 157, getpgrp 111 -,
set_tid_address 218 96, set_robust_list 273 99, rseq 334 293, arch_prctl 158 -,
sched_yield 24 124, getcpu 309 168, futex 202 98, capget 125 90, uname 63 160, sysinfo 99 179,
times 100 153, getrusage 98 165, getrlimit 97 163, setrlimit 160 164, restart_syscall 219 128,
getrandom 318 278
"""
"""Processes and threads, what they are and how they wait for each other."""

SIGNALS = """
rt_sigaction 13 134, rt_sigprocmask 14 135, rt_sigreturn 15 139, rt_sigpending 127 136,
rt_sigsuspend 130 133, rt_sigtimedwait 128 137, sigaltstack 131 132, pause 34 -, alarm 37 -,
setitimer 38 103, getitimer 36 102, signalfd4 289 74, timer_create 222 107, timer_settime 223 110,
timer_gettime 224 108, timer_getoverrun 225 109, timer_delete 226 111, timerfd_create 283 85,
timerfd_settime 286 86, timerfd_gettime 287 87
"""
"""Signals to oneself and alarms."""

TIME = """
clock_gettime 228 113, clock_getres 229 114, clock_nanosleep 230 115, nanosleep 35 101, gettimeofday 96 169,
time 201 -
"""
"""The time of day, which cannot be set."""

WAITING = """
poll 7 -, ppoll 271 73, select 23 -, pselect6 270 72, epoll_create 213 -, epoll_create1 291 20,
epoll_ctl 233 21, epoll_wait 232 -, epoll_pwait 281 22, eventfd 284 -, eventfd2 290 19
"""
"""Waiting for many things at once."""

PAIRS = """
sendto 44 206, recvfrom 45 207, sendmsg 46 211, recvmsg 47 212, shutdown 48 210, getsockname 51 204,
getpeername 52 205, getsockopt 55 209, setsockopt 54 208
"""
"""Pairs of connected sockets, which `asyncio` wakes itself with."""

LOOKED_INTO = """
socket 41 198, socketpair 53 199, clone 56 220, clone3 435 435, kill 62 129, tkill 200 130, tgkill 234 131,
fcntl 72 25, ioctl 16 29, prctl 157 167, prlimit64 302 261, getpgid 121 155, getsid 124 156,
setpgid 109 154, getpriority 140 141, sched_getaffinity 204 123, sched_getparam 143 121,
sched_getscheduler 145 120, chmod 90 -, fchmod 91 52, fchmodat 268 53, utimensat 280 88, utime 132 -,
utimes 235 -, futimesat 261 -, truncate 76 45
"""
"""Calls that `policy` looks into, or refuses by name."""

SETUP = """
execve 59 221, mount 165 40, seccomp 317 277, capset 126 91, setresuid 117 147, setresgid 119 149,
setgroups 116 159
"""
"""What our own program needs before it seals itself in."""

MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""Machine -> the number by which a seccomp filter knows it (AUDIT_ARCH_*)."""


def numbers(group: str, machine: str = "") -> dict[str, int]:
    """Name -> number of the calls of one group, on `machine` (this one when empty); without those it does not have."""
    column = 1 + list(MACHINES).index(machine or platform.machine())
    rows = (row.split() for row in group.split(","))
    return {row[0]: int(row[column]) for row in rows if row[column] != "-"}
