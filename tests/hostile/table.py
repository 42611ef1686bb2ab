"""Every case of one table: build, open in a child, judge. `python -m tests.hostile` prints the counts."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

from tests.hostile import (
    of_archives,
    of_checkpoints,
    of_configs,
    of_data,
    of_pickles,
    of_safetensors,
    of_tokenizers,
)
from tests.hostile.case import Case
from tests.hostile.jail import Forge, Outcome

MODULES = (of_safetensors, of_tokenizers, of_configs, of_archives, of_checkpoints, of_pickles, of_data)
CASES: list[Case] = [case for module in MODULES for case in module.CASES]
SECONDS, EXTRA_MIB = 1.0, 64.0
FORMATS = {
    "ST": "safetensors", "TK": "tokenizer", "CF": "config, recipe", "AR": "index, archive, checkpoint", "PT": "pickle, torch",
    "NP": "npy, npz", "PQ": "parquet", "JL": "JSON lines", "TS": "token shards",
}  # fmt: skip
ACTIONS = {"long_texts", "spelled_control", "any_bytes", "all_pairs"}
"""Openers that encode megabytes of text: they hold themselves to their own bounds of time."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One file of a case: what was opened how, what came of it, and what is wrong with that (nothing, if all is well)."""

    opener: str
    path: str
    outcome: Outcome
    faults: tuple[str, ...]


def judge(case: Case, forge: Forge) -> list[Judged]:
    """Build the files of a case in a folder of its own and open each in a child."""
    folder = Path(tempfile.mkdtemp(prefix="hostile-")).resolve()
    try:
        opened = [(opener, path) for opener, path in case.build(folder)]
        judged = []
        for opener, path in opened:
            answer = forge.ask({"opener": opener, "path": str(path), "folder": str(folder)})
            outcome = Outcome(**{**answer, "violations": tuple(answer["violations"])})
            judged.append(
                Judged(
                    opener=opener,
                    path=str(path),
                    outcome=outcome,
                    faults=tuple(_faults(case, opener, path, folder, outcome)),
                )
            )
        return judged
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _faults(case: Case, opener: str, path: Path, folder: Path, outcome: Outcome) -> list[str]:
    wanted = "accepted" if case.refused is None else "refused"
    faults = []
    if outcome.result != wanted:
        faults.append(f"{outcome.result} instead of {wanted}: {outcome.message[:300]}")
    elif case.refused is not None:
        if re.search(case.refused, outcome.message, re.DOTALL) is None:
            faults.append(f"the sentence does not say /{case.refused}/: {outcome.message[:400]}")
        named = (path, *path.iterdir()) if path.is_dir() and not path.is_symlink() else (path,)
        if not any(str(place) in outcome.message for place in named) and folder.name not in outcome.message:
            faults.append(f"the sentence names no file: {outcome.message[:300]}")
        if "\n" in outcome.message or len(outcome.message) > 2000:
            faults.append(f"not one sentence: {outcome.message[:300]!r}")
    elif re.search(case.accepted, outcome.message, re.DOTALL) is None:
        faults.append(f"what was made is not /{case.accepted}/: {outcome.message[:400]}")
    faults += outcome.violations
    if outcome.seconds > SECONDS and opener not in ACTIONS:
        faults.append(f"took {outcome.seconds:.2f} s of processor time")
    if outcome.extra_mib > EXTRA_MIB and opener not in ACTIONS:
        faults.append(f"took {outcome.extra_mib:.0f} MiB")
    if any(folder.rglob("canary")):
        faults.append("the payload ran: its canary is there")
    return faults


def counts(results: dict[str, list[Judged]]) -> str:
    """A table of formats: cases, files, accepted, refused, wrong; slowest and largest."""
    by_format: dict[str, Counter[str]] = defaultdict(Counter)
    peaks: dict[str, tuple[float, float]] = {}
    ids: dict[str, set[str]] = defaultdict(set)
    for name, judged in results.items():
        kind = name[:2]
        ids[kind].add(name.split()[0])
        for one in judged:
            by_format[kind]["files"] += 1
            by_format[kind]["wrong" if one.faults else one.outcome.result] += 1
            if one.opener not in ACTIONS:
                slow, large = peaks.get(kind, (0.0, 0.0))
                peaks[kind] = max(slow, one.outcome.seconds), max(large, one.outcome.extra_mib)
    head = f"{'format':28}{'cases':>7}{'files':>7}{'refused':>9}{'accepted':>10}{'wrong':>7}{'slowest':>10}{'most memory':>13}"
    rows = [head]
    for kind in FORMATS:
        if kind in by_format:
            c, (slow, large) = by_format[kind], peaks.get(kind, (0.0, 0.0))
            rows.append(
                f"{FORMATS[kind]:28}{len(ids[kind]):7}{c['files']:7}{c['refused']:9}{c['accepted']:10}{c['wrong']:7}{slow:8.2f} s{large:9.0f} MiB"
            )
    total = sum(by_format.values(), Counter())
    rows.append(
        f"{'all':28}{sum(map(len, ids.values())):7}{total['files']:7}{total['refused']:9}{total['accepted']:10}{total['wrong']:7}"
    )
    return "\n".join(rows)


def main(chosen: str = "") -> int:
    """Run the table (or the cases whose id begins with `chosen`), print what is wrong and the counts."""
    forge = Forge("tests.hostile.worker")
    results: dict[str, list[Judged]] = {}
    try:
        for case in CASES:
            if case.id.startswith(chosen):
                results[case.id] = judge(case, forge)
                for one in results[case.id]:
                    for fault in one.faults:
                        print(f"{case.id}: {one.opener} {Path(one.path).name}: {fault}", flush=True)
    finally:
        forge.close()
    print(counts(results))
    return int(any(one.faults for judged in results.values() for one in judged))
