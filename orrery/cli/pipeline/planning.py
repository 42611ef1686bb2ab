"""What `orrery plan` is given (a model, a config.json, a recipe) as a plan."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, get_args

from orrery.cli.pipeline.recipe import RunRecipe, Stage, TokenizerStage, TrainStage, find_recipe
from orrery.kit.config import override, read_yaml, resolve
from orrery.kit.errors import OrreryError
from orrery.model.build import Config
from orrery.model.config import DecoderConfig
from orrery.plan.memory import Optimizer
from orrery.plan.plan import Plan, plan_model
from orrery.plan.sizes import Sizes, size_model, size_seeing
from orrery.plan.vision import seeing


def make_plan(
    target: Path, overrides: list[str], *, tokens: float | None, context: int | None, flops: float | None
) -> Plan | Sizes:
    """Size what `target` describes: a plan of a decoder; the sizes of an encoder, an encoder-decoder or a model that sees.

    Raises:
        OrreryError: nothing there, or settings given for something that is not a recipe.
    """
    settings: dict[str, Any] = {}
    if target.suffix in (".yaml", ".yml"):
        stage, vocab_size = train_stage(target, overrides)
        cfg = dataclasses.replace(stage.model, vocab_size=vocab_size or stage.model.vocab_size)
        optimizer = stage.loop.optimizer.kind
        settings = {
            "batch_tokens": stage.loader.rows * stage.loader.context,
            "optimizer": optimizer if optimizer in get_args(Optimizer) else "adamw",
            "checkpointing": stage.loop.activation_checkpointing,
        }
        context = context or stage.loader.context
        if tokens is None and stage.loop.steps is not None:
            tokens = stage.loop.steps * stage.loader.rows * stage.loader.context * stage.loader.micro_batches
    elif overrides:
        raise OrreryError(f"'{target}' is not a recipe, so '{overrides[0]}' cannot be changed in it")
    else:
        hf = seeing(target)
        if hf is not None:
            return size_seeing(hf, context=context)
        cfg = model_config(target)
        if not isinstance(cfg, DecoderConfig):
            return size_model(cfg, context=context)
    return plan_model(cfg, tokens=tokens, context=context, flops_per_s=flops or sustained_flops(), **settings)


def train_stage(recipe: Path, overrides: list[str]) -> tuple[TrainStage, int | None]:
    """The train stage in a recipe of one or many stages, and the vocabulary size its tokenizer stage asks for."""
    data = override(read_yaml(find_recipe(recipe)), overrides)
    if "stages" in data:
        stages = list(resolve(RunRecipe, data, where=str(recipe)).stages)
    else:
        data.pop("out", None)
        stages = [resolve(Stage, data, where=str(recipe))]
    train = next((stage for stage in stages if isinstance(stage, TrainStage)), None)
    if train is None:
        raise OrreryError(f"'{recipe}' trains no model, so there is nothing to plan")
    tokenizer = next((stage for stage in stages if isinstance(stage, TokenizerStage)), None)
    return train, tokenizer.tokenizer.vocab_size if tokenizer else None


def model_config(path: Path) -> Config:
    """The shape in a model folder, a run folder, a bare config.json, a GGUF file or a model known by name."""
    from orrery.cli.pipeline.runner import RUN, stage_folder
    from orrery.kit.gguf import GgufFile
    from orrery.model.folder import load_config
    from orrery.model.gguf.read import config_of
    from orrery.serve.find import find_model

    if path.is_file() and path.suffix == ".json":
        return load_config(path)
    if (path / RUN).is_file():
        return load_config(stage_folder(path, "model"))
    if path.is_dir():
        return load_config(path)
    found = find_model(path)
    if found.suffix != ".gguf":
        return load_config(found)
    with GgufFile.open(found) as file:
        return config_of(file)[1]


def sustained_flops() -> float:
    """What training sustains here: two thirds of the measured matmul peak."""
    from orrery.train.monitor import matmul_peak

    return matmul_peak() * 2 / 3
