"""A parent for a process that shares the host's process numbers: when it ends, or the host does, nothing of it is left."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable

from orrery.kit.sandbox.inside import confine

_SET_SUBREAPER = 36
_LIFELINE = 0


def supervise(work: Callable[[], None], scratch: str) -> None:
    """Do `work` in a child; end all its descendants when it has ended or standard input has; exit as it did.

    The folder `scratch`, in which nobody but the host has written, is removed then.

    Descendants whose parents are gone become ours (PR_SET_CHILD_SUBREAPER), however they detached themselves.
    """
    confine.call("prctl", _SET_SUBREAPER, 1, 0, 0, 0)
    child = os.fork()
    if child == 0:
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, _LIFELINE)
        os.close(nothing)
        work()
        os._exit(0)
    ended = confine.watch(child)
    os.closerange(1, ended)  # the pipes are the child's alone: they end when its processes do
    os.closerange(ended + 1, 1 << 20)
    select.select([ended, _LIFELINE], [], [])
    if not select.select([ended], [], [], 0)[0]:
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    end_descendants()
    for folder, _, files in os.walk(scratch, topdown=False):
        for name in files:
            os.unlink(os.path.join(folder, name))
        os.rmdir(folder)
    os._exit(128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status))


def end_descendants() -> None:
    """Stop every descendant, then kill them all.

    What is stopped cannot fork and still counts towards the limit of processes, so this comes to an end against a fork
    bomb: each round either finds nobody new or leaves one fewer that can act.
    """
    stopped: set[int] = set()
    while new := descendants(os.getpid()) - stopped:
        for process in new:
            _signal(process, signal.SIGSTOP)
        stopped |= new
    for process in stopped:
        _signal(process, signal.SIGKILL)
    try:
        while True:
            os.waitpid(-1, 0)
    except ChildProcessError:
        return


def descendants(process: int) -> set[int]:
    """The children of a process, their children, and so on, by /proc."""
    found: set[int] = set()
    todo = [process]
    while todo:
        here = todo.pop()
        try:
            for task in os.listdir(f"/proc/{here}/task"):
                with open(f"/proc/{here}/task/{task}/children") as listed:
                    new = [int(word) for word in listed.read().split()]
                found.update(new)
                todo += new
        except OSError:
            continue  # it ended meanwhile
    return found


def _signal(process: int, number: int) -> None:
    try:
        os.kill(process, number)
    except ProcessLookupError:
        return
