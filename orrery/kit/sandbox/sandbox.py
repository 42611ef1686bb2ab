"""Run code that nobody has read.

    sandbox = Sandbox.open()
    outcome = sandbox.run(code, call="add", arguments=[1, 2])
    right = outcome.status == "ok" and outcome.value == 3
What generated code says about itself is an answer, never a verdict: it can return any value, or none, or claim to have come to
its end. Verdicts are made where it cannot reach: by the host, on plain JSON values, or by `run_tests`, whose test program runs
in a second jail with the expected values and the built-in functions to itself.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from orrery.kit.errors import OrreryError
from orrery.kit.sandbox import interpreter as python
from orrery.kit.sandbox.bubblewrap import Bubblewrap
from orrery.kit.sandbox.cell import Backend
from orrery.kit.sandbox.cgroup import places
from orrery.kit.sandbox.jail import Jail, attend
from orrery.kit.sandbox.landlock import Landlock
from orrery.kit.sandbox.outcome import Limits, Outcome, SandboxUnavailable

Kind = Literal["auto", "bubblewrap", "landlock"]
_BACKENDS = {"bubblewrap": Bubblewrap, "landlock": Landlock}
_TRIAL = Limits(seconds=30.0)
_TRIAL_CODE = "def double(x):\n    return 2 * x\n"


class Sandbox:
    """A way to run generated code that has been tried on this machine. Safe to use from several threads at once."""

    def __init__(self, backend: Backend, *, groups: tuple[Path, ...], parallel: int) -> None:
        """As `Sandbox.open` makes it, which also tries it."""
        self._backend = backend
        self._groups = groups
        self._turns = threading.BoundedSemaphore(parallel)

    @classmethod
    def open(
        cls, kind: Kind = "auto", *, interpreter: Path | None = None, parallel: int | None = None
    ) -> Sandbox:
        """The best sandbox of this machine, or the one named.

        Args:
            interpreter: the Python to run code with; the one that runs us when None.
            parallel: at most so many runs at a time, others wait; as many as there are processors when None, so that a
                clock measures the code and not its neighbours.

        Raises:
            SandboxUnavailable: none can be built here; with each one's reason and how to mend it.
        """
        found = python.find(interpreter)
        groups = places()
        reasons = []
        for name in _BACKENDS if kind == "auto" else [kind]:
            try:
                made = cls(_BACKENDS[name](found), groups=groups, parallel=parallel or os.cpu_count() or 1)
                made._try()
                return made
            except SandboxUnavailable as error:
                reasons.append(f"{name}: {error}")
        raise SandboxUnavailable(
            "generated code is not run, because there is no sandbox: " + "; ".join(reasons)
        )

    @property
    def kind(self) -> str:
        """ "bubblewrap" or "landlock"."""
        return self._backend.name

    @property
    def grouped(self) -> bool:
        """Whether a control group keeps the limits of memory and processes, beside the limits of each process."""
        return bool(self._groups)

    def run(
        self,
        code: str,
        *,
        call: str | None = None,
        arguments: Sequence[Any] = (),
        limits: Limits | None = None,
        files: Mapping[str, bytes] | None = None,
    ) -> Outcome:
        """Run `code` as a program; or, with `call`, as a module, and return what `call(*arguments)` gave, as JSON values.

        Args:
            arguments: plain JSON values.
            files: name -> contents, laid into the working folder first; Python files among them can be imported.

        Raises:
            OrreryError: an argument is no JSON value, or a file's name leads elsewhere.
            SandboxUnavailable: the jail could not be built; nothing was run.
        """
        job = {"role": "run", "code": code, "call": call, "arguments": list(arguments)} | {
            "importable": bool(files)
        }
        limits, files = limits or Limits(), _named(files)
        with self._turns:
            jail = Jail(self._backend, limits, job, files=files, groups=self._groups)
            attend([jail], limits.seconds)
        return jail.outcome()

    def run_tests(
        self,
        code: str,
        tests: str,
        *,
        setup: str = "",
        entry: Sequence[str] = (),
        limits: Limits | None = None,
        files: Mapping[str, bytes] | None = None,
    ) -> Outcome:
        """Run a test program of assertions against `code`; "ok" only when all of it ran to its end.

        The program runs in a jail of its own. Names it does not define itself, and that are no built-ins, stand for what the
        code defines: values go over, values come back. So leaving early, objects that equal everything, changed built-ins
        and looking for the expected values achieve nothing.

        Args:
            tests: e.g. `assert add(1, 2) == 3`, or HumanEval's `check` followed by a call of it.
            setup: run before the tests, beside them, and trusted like them: imports, helpers of the task.
            entry: names that are the code's even where `setup` or Python has something of that name.

        Raises:
            SandboxUnavailable: a jail could not be built; nothing was run.
        """
        limits, files = limits or Limits(), _named(files)
        ask_out, ask_in = os.pipe()
        tell_out, tell_in = os.pipe()
        served = {"role": "serve", "code": code, "links": [ask_out, tell_in], "importable": bool(files)}
        checked = {
            "role": "check",
            "names": list(entry),
            "setup": setup,
            "tests": tests,
            "links": [ask_in, tell_out],
        }
        with self._turns:
            jails = []
            try:
                for job, links, given in (
                    (checked, (ask_in, tell_out), {}),
                    (served, (ask_out, tell_in), files),
                ):
                    jails.append(
                        Jail(self._backend, limits, job, files=given, links=links, groups=self._groups)
                    )
            except BaseException:
                for jail in jails:
                    jail.close()
                raise
            finally:
                for pipe in (ask_out, ask_in, tell_out, tell_in):
                    os.close(pipe)
            attend(jails, limits.seconds)
        return _verdict(*jails)

    def _try(self) -> None:
        """One small run, before anything depends on it."""
        try:
            outcome = self.run(_TRIAL_CODE, call="double", arguments=[21], limits=_TRIAL)
        except OSError as error:
            raise SandboxUnavailable(
                f"a first run did not start ({error}); Linux 5.13 or newer is needed"
            ) from None
        if outcome.value != 42:
            raise SandboxUnavailable(f"a first run of 21 + 21 ended as '{outcome.status}' ({outcome.detail})")


def _verdict(checker: Jail, server: Jail) -> Outcome:
    """The checker's word; and where it only lost sight of the code's process, what became of that."""
    verdict = checker.outcome()
    if server.ready_at is None and not server.died_early:
        return replace(verdict, value=None)  # the tests ended before the code was needed
    ran = server.outcome()
    cause = ran if checker.gone and ran.status != "ok" else verdict
    return Outcome(
        status=cause.status,
        stdout=ran.stdout,
        stderr=ran.stderr + verdict.stderr,
        seconds=verdict.seconds,
        detail=cause.detail,
    )


def _named(files: Mapping[str, bytes] | None) -> Mapping[str, bytes]:
    """`files`, whose names stay in the working folder."""
    for name in files or {}:
        parts = PurePosixPath(name).parts
        if not parts or name.startswith("/") or ".." in parts or "\0" in name:
            raise OrreryError(
                f"{name!r} is no name for a file in the working folder; give a relative path without '..'"
            )
    return files or {}
