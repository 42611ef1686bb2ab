"""A plan: what a model is, what it takes to train it and to run it, in one table.

plan = plan_model(cfg, tokens=2e6, flops_per_s=1.5e11)
plan.to_dict()["parameters"]["total"]
rich.print(plan.render())
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from orrery.kit.errors import OrreryError
from orrery.model.config import DecoderConfig
from orrery.plan.flops import Flops, count_flops
from orrery.plan.kv_cache import kv_bytes, kv_bytes_per_token, state_bytes
from orrery.plan.memory import Optimizer, Precision, TrainingMemory, training_memory
from orrery.plan.parameters import Parameters, count_parameters
from orrery.plan.scaling import BESIROGLU, HOFFMANN_UNROUNDED, TOKENS_PER_PARAMETER

if TYPE_CHECKING:
    from rich.console import RenderableType

KvDtype = Literal["fp32", "bf16", "fp8"]
KV_BYTES: dict[KvDtype, int] = {"fp32": 4, "bf16": 2, "fp8": 1}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Sizes of one model and one training run. Bytes, FLOPs, tokens, seconds; prices in the caller's currency."""

    parameters: Parameters
    flops: Flops
    kv_dtype: KvDtype
    kv_bytes_per_token: int
    kv_bytes: int
    """Of one sequence as long as the context, windows considered."""
    state_bytes: int
    """Of the recurrent layers, for one sequence of any length."""
    weights_bytes: int
    """Of the weights alone, at the precision of the KV cache: what a server loads."""
    batch_tokens: int
    optimizer: Optimizer
    precision: Precision
    memory: TrainingMemory
    tokens: float
    tokens_given: bool
    flops_per_s: float | None
    devices: int
    price_per_hour: float | None

    @property
    def flops_per_token(self) -> float:
        """Training, attention not halved for causality (PaLM appendix B)."""
        return self.flops.training("full")

    @property
    def total_flops(self) -> float:
        return self.flops_per_token * self.tokens

    @property
    def tokens_per_s(self) -> float | None:
        return None if self.flops_per_s is None else self.flops_per_s * self.devices / self.flops_per_token

    @property
    def seconds(self) -> float | None:
        return None if self.tokens_per_s is None else self.tokens / self.tokens_per_s

    @property
    def cost(self) -> float | None:
        if self.seconds is None or self.price_per_hour is None:
            return None
        return self.seconds / 3600 * self.devices * self.price_per_hour

    @property
    def optimal_tokens(self) -> dict[str, float]:
        """Training tokens that would be compute-optimal for this many active parameters, by three rules."""
        n = self.parameters.active
        return {
            "20_per_parameter": TOKENS_PER_PARAMETER * n,
            "hoffmann_approach_3": HOFFMANN_UNROUNDED.tokens_for(n),
            "besiroglu": BESIROGLU.tokens_for(n),
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        m = self.memory
        return {
            "parameters": self.parameters.to_dict(),
            "context": self.flops.context,
            "flops_per_token": self.flops_per_token,
            "flops_per_token_causal": self.flops.training("causal"),
            "forward_flops_per_token": self.flops.forward("full"),
            "kv_dtype": self.kv_dtype,
            "kv_bytes_per_token": self.kv_bytes_per_token,
            "kv_bytes": self.kv_bytes,
            "state_bytes_per_sequence": self.state_bytes,
            "weights_bytes": self.weights_bytes,
            "memory": {
                "weights": m.weights,
                "gradients": m.gradients,
                "optimizer": m.optimizer,
                "activations": m.activations,
                "head": m.head,
                "total": m.total,
                "batch_tokens": self.batch_tokens,
                "optimizer_kind": self.optimizer,
                "precision": self.precision,
            },
            "training": {
                "tokens": self.tokens,
                "flops": self.total_flops,
                "devices": self.devices,
                "flops_per_s": self.flops_per_s,
                "tokens_per_s": self.tokens_per_s,
                "seconds": self.seconds,
                "cost": self.cost,
            },
            "optimal_tokens": self.optimal_tokens,
        }

    def render(self) -> RenderableType:
        """The same as tables for a terminal."""
        from orrery.plan.render import render

        return render(self)


def plan_model(
    cfg: DecoderConfig,
    *,
    tokens: float | None = None,
    context: int | None = None,
    batch_tokens: int | None = None,
    optimizer: Optimizer = "adamw",
    precision: Precision = "fp32",
    checkpointing: bool = False,
    kv_dtype: KvDtype = "bf16",
    flops_per_s: float | None = None,
    devices: int = 1,
    zero_stage: int = 0,
    price_per_hour: float | None = None,
) -> Plan:
    """Size a model and its training.

    Args:
        tokens: to train on; None: 20 for each active parameter.
        context: tokens in a sequence; None: the model's `max_positions`.
        batch_tokens: of one micro-batch on one device; None: one sequence.
        flops_per_s: what one device sustains (its matmul peak times the utilisation you expect); None: no time, no cost.
        price_per_hour: of one device.

    Raises:
        OrreryError: a quantity that cannot be.
    """
    context = cfg.max_positions if context is None else context
    batch_tokens = context if batch_tokens is None else batch_tokens
    amounts = {
        "tokens": tokens, "context": context, "batch_tokens": batch_tokens, "flops_per_s": flops_per_s, "devices": devices,
    }  # fmt: skip
    for name, value in amounts.items():
        if value is not None and not value > 0:
            raise OrreryError(f"a plan needs {name} above 0, not {value}")
    parameters = count_parameters(cfg)
    number = KV_BYTES[kv_dtype]
    return Plan(
        parameters=parameters,
        flops=count_flops(cfg, context),
        kv_dtype=kv_dtype,
        kv_bytes_per_token=kv_bytes_per_token(cfg, bytes_per_number=number),
        kv_bytes=kv_bytes(cfg, context, bytes_per_number=number),
        state_bytes=state_bytes(cfg, bytes_per_number=number),
        weights_bytes=parameters.total * number,
        batch_tokens=batch_tokens,
        optimizer=optimizer,
        precision=precision,
        memory=training_memory(
            cfg, batch_tokens=batch_tokens, context=context, optimizer=optimizer, precision=precision,
            checkpointing=checkpointing, devices=devices, zero_stage=zero_stage,
        ),
        tokens=TOKENS_PER_PARAMETER * parameters.active if tokens is None else tokens,
        tokens_given=tokens is not None,
        flops_per_s=flops_per_s,
        devices=devices,
        price_per_hour=price_per_hour,
    )  # fmt: skip
