"""The device `orrery plan` is asked about, and what it would make of a model."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from orrery.cli.pipeline.planning import model_config, train_stage
from orrery.kit.errors import OrreryError
from orrery.model.build import Config
from orrery.model.config import DecoderConfig
from orrery.plan.forecast import Forecast, forecast
from orrery.plan.hardware import Device, Precision, find_device
from orrery.plan.machine import this_machine
from orrery.plan.parameters import count_parameters
from orrery.plan.plan import KV_BYTES, KvDtype


def measured() -> Device:
    """This machine, measured in under a second."""
    import torch

    from orrery.model.lowbit import measure_bandwidth
    from orrery.train.monitor import matmul_peak
    from orrery.train.precision import bf16_is_fast

    peak: dict[Precision, float] = {"fp32": matmul_peak()}
    if bf16_is_fast():
        peak["bf16"] = matmul_peak(dtype=torch.bfloat16)
    return this_machine(peak, 1e9 * measure_bandwidth())


def make_forecast(
    target: Path,
    overrides: list[str],
    *,
    device: str,
    context: int | None,
    batches: list[int],
    weight_bits: float | None,
    kv_dtype: KvDtype,
    precision: Precision | None,
) -> Forecast:
    """The forecast for what `target` describes (as `planning.make_plan`).

    Args:
        weight_bits: of a weight on average; None: those of a GGUF file, else 16.

    Raises:
        OrreryError: an unknown device or precision, or a model that does not decode.
    """
    chosen = measured() if device.lower() == "here" else find_device(device)
    cfg = (
        train_stage(target, overrides)[0].model
        if target.suffix in (".yaml", ".yml")
        else model_config(target)
    )
    if not isinstance(cfg, DecoderConfig):
        raise OrreryError(f"'{target}' is no decoder, and --device forecasts decoding; leave it out")
    return forecast(
        cfg,
        chosen,
        context=context or cfg.max_positions,
        precision=precision,
        weight_bytes=(weight_bits or file_bits(target, cfg)) / 8,
        kv_bytes_per_number=KV_BYTES[kv_dtype],
        batches=batches,
    )


def described(target: Path, overrides: list[str]) -> Config:
    """The shape in a recipe, or in anything `planning.model_config` reads."""
    if target.suffix not in (".yaml", ".yml"):
        return model_config(target)
    stage, vocab_size = train_stage(target, overrides)
    return dataclasses.replace(stage.model, vocab_size=vocab_size or stage.model.vocab_size)


def file_bits(target: Path, cfg: DecoderConfig) -> float:
    """Bits a weight takes in the file: of a GGUF file its size over its weights, else 16."""
    from orrery.serve.find import find_model

    if target.exists() and target.suffix != ".gguf":
        return 16.0
    found = find_model(target)
    return 8 * found.stat().st_size / count_parameters(cfg).total if found.suffix == ".gguf" else 16.0
