"""A plan as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table

if TYPE_CHECKING:
    from orrery.plan.forecast import Forecast
    from orrery.plan.parameters import Parameters
    from orrery.plan.plan import Plan
    from orrery.plan.sizes import Sizes

LABELS = {
    "embedding": "embeddings",
    "attention": "attention",
    "recurrent": "recurrent layers",
    "feed_forward": "feed-forward",
    "norm": "norms",
    "head": "head",
    "multi_token": "multi-token heads",
    "vision": "image encoder",
}


def render(plan: Plan) -> RenderableType:
    """Parameters, compute, memory and time, one table each."""
    f, m = plan.flops, plan.memory
    compute = [
        ("training, attention over all of the context", f"{count(f.training('full'))}FLOPs a token"),
        ("training, only what the causal mask leaves", f"{count(f.training('causal'))}FLOPs a token"),
        ("generating one token at full context", f"{count(f.forward('full'))}FLOPs"),
    ]
    memory = [
        (f"weights ({plan.precision})", size(m.weights)),
        ("gradients", size(m.gradients)),
        (f"optimiser ({plan.optimizer})", size(m.optimizer)),
        (f"activations of {plan.batch_tokens:,} tokens (estimate)", size(m.activations)),
        ("head and its loss", size(m.head)),
        ("[bold]training, together[/]", f"[bold]{size(m.total)}[/]"),
        (f"to serve: weights in {plan.kv_dtype}", size(plan.weights_bytes)),
        (f"to serve: KV cache in {plan.kv_dtype}, a token", f"{plan.kv_bytes_per_token:,} B"),
        (f"to serve: KV cache, a sequence of {f.context:,}", size(plan.kv_bytes)),
    ]
    if plan.state_bytes:
        memory.append(("to serve: recurrent states, a sequence of any length", size(plan.state_bytes)))
    return Group(
        _parameters(plan.parameters),
        _table((f"compute at context {f.context:,}", ""), compute),
        _table(("memory", ""), memory),
        _table(("training", ""), _training(plan)),
    )


def render_sizes(sizes: Sizes) -> RenderableType:
    """Parameters, forward compute and what is kept, for models that are no decoders."""
    kept = [
        (f"weights in {sizes.kv_dtype}", size(sizes.weights_bytes)),
        (f"KV cache in {sizes.kv_dtype}, a token", f"{sizes.kv_bytes_per_token:,} B"),
    ]
    source = sizes.source_bytes_per_token
    if source is not None:
        kept.append((f"keys and values of the source in {sizes.kv_dtype}, a token", f"{source:,} B"))
    kept.append((f"KV cache, a sequence of {sizes.context:,}", size(sizes.kv_bytes)))
    compute = [("forward", f"{count(sizes.forward_flops_per_token)}FLOPs a token")]
    return Group(
        _parameters(sizes.parameters),
        _table((f"compute at context {sizes.context:,}", ""), compute),
        _table(("memory to serve", ""), kept),
    )


def render_forecast(forecast: Forecast) -> RenderableType:
    """Prefill and decode under a device's roof, and what memory holds."""
    device, rows = forecast.device, []
    for row in forecast.roofs:
        what = "prefill, 1 prompt" if row.work.phase == "prefill" else f"decode, {row.work.batch} at once"
        rows.append(
            (what, f"{row.work.intensity:,.1f}", row.bound, f"{1e3 * row.seconds:,.2f}", f"{count(row.tokens_per_s)}")
        )  # fmt: skip
    peak = f"{count(device.flops(forecast.precision))}FLOP/s in {forecast.precision}"
    facts = [
        ("arithmetic", peak),
        ("memory", f"{size(device.memory_bytes)}, {count(device.bandwidth)}B/s"),
        ("balance point", f"{forecast.balance:,.0f} FLOPs a byte"),
        (f"weights at {8 * forecast.weight_bytes:.3g} bits", size(forecast.model_bytes)),
        (f"sequences of {forecast.context:,} that fit beside them", f"{forecast.sequences:,}"),
        ("source", device.source),
    ]
    return Group(
        _table((f"at best on {device.name}", "FLOPs a byte", "waits for", "ms a pass", "tokens/s"), rows),
        _table((device.name, ""), facts),
    )


def _parameters(p: Parameters) -> Table:
    parts = [(LABELS[name], f"{n:,}", f"{n / p.total:.1%}") for name, n in p.by_component().items() if n]
    if p.active != p.stored:
        parts.append(("active in one token", f"{p.active:,}", f"{p.active / p.total:.1%}"))
    return _table(("parameters", f"{p.total:,}", ""), parts)


def _training(plan: Plan) -> list[tuple[str, str]]:
    rule = "" if plan.tokens_given else " (20 a parameter)"
    rows = [(f"tokens{rule}", count(plan.tokens)), ("compute", f"{plan.total_flops:.3g} FLOPs")]
    if plan.tokens_per_s is not None and plan.seconds is not None and plan.flops_per_s is not None:
        devices = "" if plan.devices == 1 else f" on each of {plan.devices}"
        rows.append(
            (f"speed at {count(plan.flops_per_s)}FLOP/s{devices}", f"{count(plan.tokens_per_s)}tokens/s")
        )
        rows.append(("time", duration(plan.seconds)))
    if plan.cost is not None:
        rows.append(("cost", f"{plan.cost:,.2f}"))
    rules = plan.optimal_tokens
    return [
        *rows,
        ("compute-optimal tokens, 20 a parameter", count(rules["20_per_parameter"])),
        ("compute-optimal tokens, Hoffmann et al. approach 3", count(rules["hoffmann_approach_3"])),
        ("compute-optimal tokens, Besiroglu et al.", count(rules["besiroglu"])),
    ]


def count(n: float) -> str:
    """1.24e9 -> '1.24 G'."""
    for unit in ("", "k", "M", "G", "T", "P", "E"):
        if abs(n) < 999.5 or unit == "E":
            break
        n /= 1000
    return f"{n:.3g} {unit}" if abs(n) < 1e6 else f"{n:.3g} "


def size(n: float) -> str:
    """Bytes in binary units."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if n < 1024 or unit == "TiB":
            break
        n /= 1024
    return f"{n:,.0f} {unit}" if unit == "B" else f"{n:,.2f} {unit}"


def duration(seconds: float) -> str:
    """The two largest units that matter."""
    steps = [("d", 86400), ("h", 3600), ("min", 60), ("s", 1)]
    for (name, step), (small, below) in pairwise(steps):
        if seconds >= step:
            return f"{int(seconds // step):,} {name} {int(seconds % step // below)} {small}"
    return f"{seconds:.1f} s"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Table:
    table = Table(*head[:1], box=None, pad_edge=False, header_style="bold cyan", min_width=72)
    for title in head[1:]:
        table.add_column(title, justify="right")
    for row in rows:
        table.add_row(*row)
    table.add_row(*[""] * len(head))
    return table
