"""The Python that runs generated code: a base interpreter and its standard library, without what was installed into it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orrery.kit.sandbox.outcome import SandboxUnavailable
from orrery.kit.sandbox.program import COMPILE, START, sources

_ASK = """
import os, sysconfig
print(json.dumps([os.path.realpath(sys._base_executable), os.path.realpath(sys.base_prefix),
                  os.path.realpath(sysconfig.get_path("stdlib")), program]))
"""


@dataclass(frozen=True)
class Interpreter:
    """Where a Python lies.

    Attributes:
        executable: the program itself, not a link in a virtual environment.
        prefix: the folder it was installed into.
        library: the folder of the standard library, below `prefix`.
        program: our program of the jail, compiled by it.
    """

    executable: Path
    prefix: Path
    library: Path
    program: str

    @property
    def folders(self) -> list[Path]:
        """What it reads to run: the library folders below its prefix."""
        return [path for name in ("lib", "lib64") if (path := self.prefix / name).is_dir()]

    def command(self, executable: Path, plan: dict[str, Any]) -> list[str]:
        """Our program, started as `executable`: isolated (-I: no environment, no user's folder), no site packages (-S)."""
        options = ["-I", "-S", "-X", "utf8", "-c", START]
        return [str(executable), *options, self.program, json.dumps(plan)]


def find(executable: Path | None) -> Interpreter:
    """The base interpreter behind `executable`; the one that runs us when None.

    Raises:
        SandboxUnavailable: it does not run.
    """
    program = str(executable or sys.executable)
    try:
        asked = subprocess.run(
            [program, "-I", "-S", "-c", COMPILE + _ASK],
            input=json.dumps(sources()),
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise SandboxUnavailable(
            f"the Python '{program}' cannot be started ({error}); give interpreter= one that can"
        ) from None
    *paths, compiled = json.loads(asked.stdout)
    return Interpreter(*map(Path, paths), program=compiled)
