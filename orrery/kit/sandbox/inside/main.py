"""The first thing in a jail: give up every right, take the job, seal, work."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from orrery.kit.sandbox.inside import checker, confine, supervisor, worker
from orrery.kit.sandbox.inside.codec import read_all
from orrery.kit.sandbox.inside.report import Reporter


def enter(plan: dict[str, Any]) -> None:
    """Follow the plan that the host put on the command line; does not return."""
    if plan["landlock"] is not None:
        supervisor.supervise(lambda: inhabit(plan), plan["scratch"])
    inhabit(plan)


def inhabit(plan: dict[str, Any]) -> None:
    """Become what generated code may run in, and run it; does not return."""
    reporter = Reporter(plan["answer"])
    confine_by(plan)
    reporter.ready()
    reporter.attempt(lambda: _work(plan["job"], plan["scratch"]))


def confine_by(plan: dict[str, Any]) -> None:
    """All of `confine` that the plan asks for but the filter of system calls, which comes with the job."""
    if plan["tmpfs"] is not None:
        confine.limit_scratch(**plan["tmpfs"])
    confine.limit_resources(plan["resources"])
    if plan["user"] is not None:
        confine.drop_user(plan["user"], keep_search=plan["keep_search"])
    confine.drop_capabilities(keep_search=plan["keep_search"])
    confine.close_to_others()
    if plan["landlock"] is not None:
        confine.die_with_parent()
        confine.landlock(**plan["landlock"])
    os.chdir(plan["scratch"])
    os.environ.clear()


def _work(pipe: int, scratch: str) -> Any:
    job = json.loads(read_all(pipe))
    os.close(pipe)
    for name, text in job["files"].items():  # written under the limits of scratch
        os.makedirs(os.path.dirname(os.path.join(scratch, name)), exist_ok=True)
        with open(os.path.join(scratch, name), "wb") as out:
            out.write(bytes.fromhex(text))
    confine.seal(bytes.fromhex(job["filter"]))
    sys.argv = ["program"]
    match job["role"]:
        case "run":
            if job["importable"]:
                sys.path.insert(0, scratch)
            return worker.run(job["code"], job["call"], job["arguments"])
        case "serve":
            if job["importable"]:
                sys.path.insert(0, scratch)
            return worker.serve(job["code"], *job["links"])
        case "check":
            return checker.check(job["names"], job["setup"], job["tests"], *job["links"])
