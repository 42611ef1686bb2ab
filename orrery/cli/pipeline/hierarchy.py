"""The memories of this machine, nearest first, and the point where waiting for them gives way to waiting for arithmetic."""

from __future__ import annotations

from orrery.cli.pipeline.machine import Finding


def hierarchy(*, measure: bool = True) -> list[Finding]:
    """Cache sizes; with `measure` memory bandwidth, matmul peak and balance point (about a second)."""
    from orrery.plan.machine import cache_sizes
    from orrery.plan.render import count, size

    caches = cache_sizes()
    findings = [
        Finding(
            what="caches",
            found=", ".join(f"{level} {size(n)}" for level, n in caches.items())
            or "not reported by the system",
            consequence=f"weights that fit into {max(caches)} are read much faster than the rest"
            if caches
            else "",
            state="good" if caches else "note",
        )
    ]
    if not measure:
        return findings
    from orrery.cli.pipeline.device import measured

    here = measured()
    gb = here.bandwidth / 1e9
    findings.append(
        Finding(
            what="memory bandwidth",
            found=f"{gb:.1f} GB/s",
            consequence=f"a model of 1 GB decodes at most {gb:.0f} tokens/s in one stream, whatever its arithmetic",
        )
    )
    for precision in here.peak:
        findings.append(
            Finding(
                what=f"balance point, {precision}",
                found=f"{count(here.flops(precision))}FLOP/s, {here.balance(precision):.1f} FLOPs a byte",
                consequence="passes below it wait for memory: see orrery plan MODEL --device here",
            )
        )
    return findings
