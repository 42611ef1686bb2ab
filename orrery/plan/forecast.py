"""What a device would make of a model: prefill and decode under its roof, and how many sequences it holds.

print(forecast(cfg, find_device("h100"), context=4096).render())
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orrery.kit.errors import OrreryError
from orrery.model.config import DecoderConfig
from orrery.plan.hardware import Device, Precision
from orrery.plan.parameters import count_parameters
from orrery.plan.roofline import Roof, decode_work, prefill_work, roof, sequences_that_fit

if TYPE_CHECKING:
    from rich.console import RenderableType

BATCHES = (1, 8, 64, 256)


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """Upper bounds on speed, from data sheets or measured peaks. Bytes, FLOPs, seconds."""

    device: Device
    precision: Precision
    """Of the arithmetic."""
    context: int
    weight_bytes: float
    """Of a weight on average."""
    model_bytes: float
    sequences: int
    """Of `context` tokens that fit beside the weights."""
    roofs: tuple[Roof, ...]
    """Prefill of one prompt, then decoding at growing batches."""

    @property
    def balance(self) -> float:
        """FLOPs a byte."""
        return self.device.balance(self.precision)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "device": self.device.name,
            "source": self.device.source,
            "precision": self.precision,
            "peak_flops_per_s": self.device.flops(self.precision),
            "bandwidth": self.device.bandwidth,
            "balance": self.balance,
            "context": self.context,
            "weight_bytes": self.weight_bytes,
            "model_bytes": self.model_bytes,
            "sequences_that_fit": self.sequences,
            "rows": [
                {
                    "phase": row.work.phase,
                    "batch": row.work.batch,
                    "intensity": row.work.intensity,
                    "bound": row.bound,
                    "seconds": row.seconds,
                    "tokens_per_s": row.tokens_per_s,
                    "flops_per_s": row.flops_per_s,
                }
                for row in self.roofs
            ],
        }

    def render(self) -> RenderableType:
        """The same as a table for a terminal."""
        from orrery.plan.render import render_forecast

        return render_forecast(self)


def forecast(
    cfg: DecoderConfig,
    device: Device,
    *,
    context: int,
    precision: Precision | None = None,
    weight_bytes: float = 2,
    kv_bytes_per_number: float = 2,
    batches: Sequence[int] = BATCHES,
) -> Forecast:
    """Put a model under a device's roof.

    Args:
        precision: of the arithmetic; None: bf16, or fp32 where the device has no bf16.
        weight_bytes: of a weight on average: smaller than the arithmetic's where weights are widened before they are used.

    Raises:
        OrreryError: a precision the device has not; a batch or a context below one.
    """
    if context < 1 or min(batches, default=0) < 1:
        raise OrreryError(
            f"a forecast needs context and batches of at least 1, not {context} and {list(batches)}"
        )
    chosen = precision or ("bf16" if "bf16" in device.peak else "fp32")
    sizes = {"context": context, "weight_bytes": weight_bytes, "kv_bytes_per_number": kv_bytes_per_number}
    works = [prefill_work(cfg, **sizes), *(decode_work(cfg, batch=batch, **sizes) for batch in batches)]
    return Forecast(
        device=device,
        precision=chosen,
        context=context,
        weight_bytes=weight_bytes,
        model_bytes=weight_bytes * count_parameters(cfg).total,
        sequences=sequences_that_fit(cfg, device, **sizes),
        roofs=tuple(roof(work, device, chosen) for work in works),
    )
