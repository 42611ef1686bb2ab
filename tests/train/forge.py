"""A light process that has imported torch once and forks trainers on request, to be killed at any moment.

    with Forge() as forge:
        child = forge.start({"out": "...", "model": "moe"})
        os.kill(child, signal.SIGKILL)
        status = forge.wait(child)            # exit status, or minus the number of the signal

Run as a script it is the process itself: one JSON line in, one line out.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

HERE = Path(__file__).resolve().parent


class Forge:
    """The test's end of the pipe."""

    def __enter__(self) -> Self:
        root = str(HERE.parents[1])
        env = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": f"{root}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
        }
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.kill()  # it holds nothing, and an orderly end of torch takes seconds
        self._process.wait(30)
        self._process.stdin.close()
        self._process.stdout.close()

    def start(self, job: dict[str, Any]) -> int:
        """Fork a child that does `job`; its process id."""
        return int(self._ask(job))

    def wait(self, child: int) -> int:
        """Its exit status; minus the signal's number if one ended it."""
        return int(self._ask({"wait": child}))

    def run(self, job: dict[str, Any]) -> int:
        """Start and wait."""
        return self.wait(self.start(job))

    def _ask(self, message: dict[str, Any]) -> str:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline()


def serve() -> None:
    """The loop of the process: fork or wait."""
    import training_run

    with (
        tempfile.TemporaryDirectory() as folder
    ):  # whatever is imported or measured once is inherited by the children
        training_run.child({"out": f"{folder}/warm", "config": {"steps": 2}})
    for line in sys.stdin:
        message = json.loads(line)
        if "wait" in message:
            answer = os.waitstatus_to_exitcode(os.waitpid(message["wait"], 0)[1])
        elif (answer := os.fork()) == 0:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            status = 1
            try:
                status = training_run.child(message)
            finally:
                sys.stderr.flush()
                os._exit(status)
        print(answer, flush=True)


if __name__ == "__main__":
    serve()
