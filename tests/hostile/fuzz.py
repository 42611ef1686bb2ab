"""Seeded mutants of small valid files, each opened in a child process with limits and an audit hook.

    python -m tests.hostile.fuzz --mutants 200000 --seed 1
    python -m tests.hostile.fuzz --only 4711 --seed 1          one mutant again, in this process, with its traceback

A mutant is accepted (and read to the arrays that other readers give) or refused by an OrreryError. Anything else is a failure:
another exception, a crash, more than a second of processor time, more than 64 MiB, a file outside the folder, a socket, a
program. Children are forked from a process that has imported everything and take mutants one after another; they say which
one they begin, so the one that kills a child is known, and the rest goes on in a new child.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BATCH, HANG_S = 250, 30.0
SECONDS, EXTRA_MIB = 1.0, 64.0


@dataclass
class Child:
    """A forked process at work on mutants [at, end); `said` is what it last began."""

    pid: int
    pipe: int
    at: int
    end: int
    heard: float = field(default_factory=time.monotonic)
    rest: bytes = b""


class Fuzz:
    """One run: numbers of mutants are shared out to children until all are done."""

    def __init__(self, *, seed: int, mutants: int, jobs: int, only: str = "") -> None:
        from tests.hostile.targets import all_targets

        self.seed, self.mutants, self.jobs = seed, mutants, jobs
        self.home = Path(
            tempfile.mkdtemp(prefix="fuzz-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
        ).resolve()
        self.targets = [target for target in all_targets(self.home / "seeds") if only in target.name]
        self.shares = [target.share for target in self.targets]
        self.counts: Counter[tuple[str, str]] = Counter()
        self.failures: list[dict[str, Any]] = []

    def mutant(self, number: int) -> tuple[Any, bytes]:
        """The target and the bytes of a mutant, by its number and the seed alone."""
        from tests.hostile.mutate import mutate

        rng = random.Random(f"{self.seed}:{number}")
        target = rng.choices(self.targets, self.shares)[0]
        return target, mutate(rng.choice(target.seeds), rng, target.kind)

    def run(self) -> None:
        """All mutants, in `jobs` children at a time."""
        waiting = [(at, min(at + BATCH, self.mutants)) for at in range(0, self.mutants, BATCH)][::-1]
        children: dict[int, Child] = {}
        while waiting or children:
            while waiting and len(children) < self.jobs:
                child = self._fork(*waiting.pop())
                children[child.pipe] = child
            ready, _, _ = select.select(list(children), [], [], 1.0)
            for pipe in ready:
                if not self._hear(children[pipe]):
                    self._end(children.pop(pipe), waiting)
            for child in list(children.values()):
                if time.monotonic() - child.heard > HANG_S:
                    os.kill(child.pid, signal.SIGKILL)

    def _hear(self, child: Child) -> bool:
        data = os.read(child.pipe, 1 << 16)
        child.heard = time.monotonic()
        *lines, child.rest = (child.rest + data).split(b"\n")
        for line in lines:
            said = json.loads(line)
            if "at" in said:
                child.at = said["at"]
            elif "fault" in said:
                self._fail(said["number"], said["fault"])
            else:
                for name, result, count in said["counts"]:
                    self.counts[name, result] += count
        return bool(data)

    def _end(self, child: Child, waiting: list[tuple[int, int]]) -> None:
        os.close(child.pipe)
        code = os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1])
        if code != 0:
            how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit {code}"
            self._fail(child.at, f"the child died: {how} (after {HANG_S:g} s without a word it is killed)")
            if child.at + 1 < child.end:
                waiting.append((child.at + 1, child.end))

    def _fail(self, number: int, fault: str) -> None:
        target, data = self.mutant(number)
        self.counts[target.name, "failed"] += 1
        self.failures.append({"number": number, "target": target.name, "fault": fault})
        print(
            f"seed {self.seed} mutant {number} ({target.name}, {len(data)} bytes): {fault[:600]}", flush=True
        )

    def _fork(self, at: int, end: int) -> Child:
        reads, writes = os.pipe()
        pid = os.fork()
        if pid:
            os.close(writes)
            return Child(pid=pid, pipe=reads, at=at, end=end)
        code = 1
        try:
            os.close(reads)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libraries that give up speak there
            self._work(at, end, os.fdopen(writes, "w", buffering=1))
            code = 0
        finally:
            os._exit(code)

    def _work(self, at: int, end: int, pipe: Any) -> None:
        from tests.hostile import jail

        home = Path(tempfile.mkdtemp(dir=self.home))
        folders: dict[str, Path] = {}
        counts: Counter[tuple[str, str]] = Counter()
        watch = jail.Watch()
        jail.limit(cpu_s=int(SECONDS * (end - at)) + 30)
        for number in range(at, end):
            target, data = self.mutant(number)
            if target.name not in folders:
                folders[target.name] = home / str(len(folders))
                folders[target.name].mkdir()
                target.prepare(folders[target.name])
            pipe.write(json.dumps({"at": number}) + "\n")
            result, fault = judged(target, folders[target.name], data, watch)
            counts[target.name, result] += 1
            if fault:
                counts[target.name, result] -= 1
                pipe.write(json.dumps({"number": number, "fault": fault}) + "\n")
        pipe.write(json.dumps({"counts": [[*key, count] for key, count in counts.items()]}) + "\n")
        pipe.close()
        shutil.rmtree(home, ignore_errors=True)

    def table(self) -> str:
        """Mutants by target and what became of them."""
        rows = [f"{'target':26}{'mutants':>9}{'accepted':>10}{'refused':>9}{'failed':>8}"]
        total: Counter[str] = Counter()
        for target in self.targets:
            found = {result: self.counts[target.name, result] for result in ("accepted", "refused", "failed")}
            total.update(found)
            rows.append(
                f"{target.name:26}{sum(found.values()):9}{found['accepted']:10}{found['refused']:9}{found['failed']:8}"
            )
        rows.append(
            f"{'all':26}{total.total():9}{total['accepted']:10}{total['refused']:9}{total['failed']:8}"
        )
        return "\n".join(rows)


def judged(target: Any, folder: Path, data: bytes, watch: Any) -> tuple[str, str]:
    """("accepted" or "refused", what is wrong with that)."""
    from orrery.kit.errors import OrreryError

    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    watch.seen.clear()
    fault, result = "", "accepted"
    watch.writable = True
    watch.folder = str(folder)
    try:
        target.open(folder, data)
    except OrreryError as error:
        result = "refused"
        if "\n" in str(error) or not str(error):
            fault = f"not one sentence: {str(error)[:300]!r}"
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        fault = f"{type(error).__module__}.{type(error).__name__}: {error} at {_place(error)}"
    finally:
        watch.folder = None
    seconds = time.process_time() - began
    extra = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    if watch.seen:
        fault = fault or "; ".join(watch.seen[:3])
    if seconds > SECONDS:
        fault = fault or f"took {seconds:.1f} s of processor time"
    if extra > EXTRA_MIB:
        fault = fault or f"took {extra:.0f} MiB"
    return result, fault


def _place(error: BaseException) -> str:
    trace, places = error.__traceback__, []
    while trace:
        places.append(f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}")
        trace = trace.tb_next
    return " > ".join(places[-4:])


def main(arguments: list[str]) -> int:
    """The command line; 0 when nothing failed."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.hostile.fuzz", description="Mutants of valid files against every loader."
    )
    parser.add_argument("--mutants", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=min(4, os.cpu_count() or 1))
    parser.add_argument("--only", type=int, help="open this mutant alone, in this process")
    parser.add_argument("--target", default="", help="only targets whose name holds this")
    chosen = parser.parse_args(arguments)
    began = time.monotonic()
    fuzz = Fuzz(seed=chosen.seed, mutants=chosen.mutants, jobs=chosen.jobs, only=chosen.target)
    try:
        if chosen.only is not None:
            target, data = fuzz.mutant(chosen.only)
            folder = fuzz.home / "one"
            folder.mkdir()
            target.prepare(folder)
            print(target.name, repr(data[:2000]))
            print("accepted:", target.open(folder, data))
            return 0
        fuzz.run()
    finally:
        shutil.rmtree(fuzz.home, ignore_errors=True)
    print(fuzz.table())
    print(f"seed {chosen.seed}, {time.monotonic() - began:.0f} s, {len(fuzz.failures)} failures")
    return int(bool(fuzz.failures))


if __name__ == "__main__":
    for name in ("OMP_NUM_THREADS", "RAYON_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    os.environ |= {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "RUST_BACKTRACE": "0"}
    sys.exit(main(sys.argv[1:]))
