"""Run every case as one user with one kind of sandbox, and print a line of JSON for each.

python -m tests.kit.sandbox.driver bubblewrap root
python -m tests.kit.sandbox.driver landlock plain       # started as root, becomes nobody first
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from orrery.kit.sandbox import Sandbox, SandboxUnavailable
from orrery.kit.sandbox.cell import open_to_all
from orrery.kit.sandbox.interpreter import find
from tests.kit.sandbox.cases import ALONE, CASES
from tests.kit.sandbox.world import World

PLAIN = {"bubblewrap": 65534, "landlock": 65533}
"""One user each: a kernel counts the processes of a user, whichever program started them."""


def reachable() -> Path | None:
    """A Python that any user can start; None when ours is one."""
    if open_to_all(find(None)):
        return None
    for folder in ("/usr/bin", "/usr/local/bin", "/opt/bin"):
        if (found := shutil.which("python3", path=folder)) and open_to_all(find(Path(found))):
            return Path(found)
    raise SandboxUnavailable("this Python lies in a folder closed to plain users, and there is no other")


def main(kind: str, user: str) -> None:
    """All cases in turn; a first line when nothing can be run."""
    python = None
    try:
        if user == "plain" and os.geteuid() == 0:
            python = reachable()
            os.setgroups([])
            number = PLAIN[kind]
            os.setresgid(number, number, number)
            os.setresuid(number, number, number)
        os.chdir("/")
        sandbox = Sandbox.open(kind, interpreter=python, parallel=8)  # type: ignore[arg-type]
    except SandboxUnavailable as error:
        print(json.dumps({"unavailable": str(error)}))
        return
    world = World(sandbox)
    speaking = threading.Lock()

    def attempt(name: str) -> None:
        try:
            said, held = CASES[name](world), True
        except BaseException:
            said, held = traceback.format_exc(), False
        with speaking:
            print(json.dumps({"case": name, "held": held, "said": said}), flush=True)

    for name in ALONE:
        attempt(name)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(attempt, [name for name in CASES if name not in ALONE]))
    try:
        world.check_untouched()
        print(json.dumps({"case": "host", "held": True, "said": "untouched"}))
    except AssertionError:
        print(json.dumps({"case": "host", "held": False, "said": traceback.format_exc()}))
    world.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
