"""The tuning stage: a finished model learns from examples, with checkpoints beside it until it is done; all of it or an adapter."""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from types import MappingProxyType
from typing import Any

from torch import Tensor

from orrery.cli.pipeline.distill_recipe import DistillStage
from orrery.cli.pipeline.made import EXAMPLES, located, parents_of
from orrery.cli.pipeline.prefer_recipe import PreferStage
from orrery.cli.pipeline.recipe import RlStage, TuneStage
from orrery.cli.pipeline.training import LOGS
from orrery.data.batch import Batch
from orrery.kit.artifact import RECEIPT, write_receipt
from orrery.kit.errors import OrreryError
from orrery.kit.files import atomic_folder
from orrery.kit.log import Progress, console
from orrery.model.adapters.folder import save_adapter
from orrery.model.decoder import Decoder
from orrery.model.folder import save_model
from orrery.serve.find import find_model, identity_of
from orrery.serve.mode import evaluating
from orrery.train.config import TrainConfig
from orrery.train.loop import TrainResult, train
from orrery.tune.dataset import Split
from orrery.tune.examples import Renderer
from orrery.tune.material import Material, gather
from orrery.tune.measure import heldout_loss, learned_states, mean_kl, without_placeholders
from orrery.tune.neftune import neftune
from orrery.tune.subject import Subject, open_floats, open_subject

NOTHING: Mapping[str, Path] = MappingProxyType({})

PROBES = 2
"""Held-out batches on which the distance from the parent is measured."""


def make_tuned(
    stage: TuneStage, base: Path, folder: Path, progress: Progress, *, inputs: Mapping[str, Path] = NOTHING
) -> None:
    """Tune in `<folder>.work` (checkpoints, logs), then write the finished model or adapter to `folder`.

    Args:
        inputs: by role, the folders of earlier stages that sets of examples name.
    """
    base = find_model(base)
    subject = open_subject(
        base, chat_template=stage.chat_template, adapter=stage.adapter, blocks=stage.blocks,
        longer_context=stage.longer_context, new_tokens=stage.new_tokens, seed=stage.loop.seed,
    )  # fmt: skip
    if stage.loader.context > subject.model.cfg.max_positions:
        raise OrreryError(
            f"loader.context={stage.loader.context} is longer than the model's context of {subject.model.cfg.max_positions}; shorten it, "
            "or extend the model by longer_context"
        )
    renderer = Renderer(
        tokenizer=subject.tokenizer, chat=subject.chat, system=stage.system, learn=stage.learn
    )
    data, replay, watch = (
        located(name, getattr(stage, name), inputs, EXAMPLES) for name in ("data", "replay", "watch")
    )
    material = gather(
        data, renderer, stage.loader, root=Path(stage.data_root), parts=Split(heldout=stage.heldout, seed=stage.split_seed),
        replay=replay, replay_share=stage.replay_share, watch=watch, validation_tokens=stage.validation_tokens,
        placeholders=subject.placeholders,
    )  # fmt: skip
    for note in material.notes():
        console.print(note, style="yellow", markup=False, highlight=False, soft_wrap=True)
    before = losses(subject.model, material)
    work = folder.with_name(folder.name + ".work")
    validation = material.validation_batches()
    with neftune(subject.model, stage.neftune) if stage.neftune else nullcontext():
        result = train(
            with_epochs(stage, material),
            model=subject.model,
            loader=material.loader,
            out=work,
            validation=(lambda model: heldout_loss(model, validation)) if validation else None,
            sample=(lambda model, step: answer(subject, renderer, material, stage.sample_tokens))
            if material.shown
            else None,
            progress=progress,
            vocabulary=subject.tokenizer,
        )
    after = losses(subject.model, material)
    found = effects(result, subject, material) | {
        "heldout": {name: {"before": before[name], "after": after[name]} for name in before},
        "kl_to_parent": distance(subject, base, material),
    }
    write(stage, subject, base, folder, work, found, operation="tune", made=parents_of(inputs))


def with_epochs(stage: TuneStage | DistillStage, material: Material) -> TrainConfig:
    """The loop's settings; `epochs` of the stage decides on the steps where it is given."""
    if stage.epochs is None:
        return stage.loop
    steps = max(1, math.ceil(stage.epochs * material.loader.steps_per_epoch))
    return dataclasses.replace(stage.loop, steps=steps, minutes=None)


def losses(model: Decoder, material: Material) -> dict[str, float]:
    """Nats a supervised token on each set's held-out examples."""
    with evaluating(model):
        return {name: heldout_loss(model, batches) for name, batches in material.heldout.items() if batches}


def answer(subject: Subject, renderer: Renderer, material: Material, tokens: int) -> str:
    """What the model says to a held-out question, after the question."""
    assert material.shown is not None
    prompt = renderer.prompt(material.shown)
    said = subject.lm().generate(prompt, max_tokens=tokens, temperature=0.0, truncation="left")
    return subject.tokenizer.decode(prompt) + said.text


def effects(result: TrainResult, subject: Subject, material: Material) -> dict[str, Any]:
    """What tuning did, for the receipt and the report."""
    trained = [p for p in subject.model.parameters() if p.requires_grad]
    return {
        "parameters": sum(p.numel() for p in subject.model.parameters()),
        "trained": sum(p.numel() for p in trained),
        "share": "all weights learn" if subject.adapter is None else subject.adapter.share(subject.model),
        "steps": result.steps,
        "tokens": result.tokens,
        "epochs": result.steps / material.loader.steps_per_epoch,
        **material.report(result.steps),
        "loss": result.loss,
        "validation": result.validation,
        "tokens_per_s": result.tokens_per_s,
        "utilization": result.utilisation,
        "skipped": result.skipped,
        "spikes": result.spikes,
        "seconds": result.seconds,
        "stopped_early": result.stopped_early,
    }


def distance(subject: Subject, base: Path, material: Material) -> float | None:
    """KL(tuned || parent) a token on some held-out batches; None where nothing was held out."""
    probes = material.validation_batches()[:PROBES]
    if not probes:
        return None
    model = subject.model
    parent = open_floats(base).model.eval() if subject.adapter is None else model

    def pair(batch: Batch) -> tuple[Tensor, Tensor]:
        with subject.parent():
            other = learned_states(parent, without_placeholders(batch, subject.placeholders))
        return learned_states(model, batch), other

    with evaluating(model):
        return mean_kl(pair, (model.head, parent.head), probes, vocab_size=subject.parent_vocab)


def write(
    stage: TuneStage | RlStage | PreferStage | DistillStage, subject: Subject, base: Path | None, folder: Path, work: Path, found: dict[str, Any], *,
    operation: str, made: Mapping[str, Path] = NOTHING,
) -> None:  # fmt: skip
    """The finished folder: a model that any tool opens, or an adapter in peft's form; the chat format; the logs; the receipt.

    Args:
        base: None: it began from nothing, and all of it is written.
        made: by role, the folders of rows it learned from that earlier stages wrote.
    """
    ours = base is None or (base / RECEIPT).is_file()
    foreign = {} if ours else {"base": {"path": str(base.resolve()), "id": identity_of(base)}}
    tokenizer, chat = subject.tokenizer, subject.chat
    with atomic_folder(folder) as new:
        if subject.adapter is None:
            stops = [] if chat is None else list(chat.stop_ids)
            stops += (
                [tokenizer.eos_id] if tokenizer.eos_id is not None and tokenizer.eos_id not in stops else []
            )
            save_model(subject.model, new, bos_id=tokenizer.bos_id, eos_id=stops or None)
            tokenizer.save(new)
        else:
            assert base is not None
            save_adapter(subject.adapter, subject.model, new, base_model=str(base.resolve()))
        if chat is not None:
            chat.save(new)
        for name in LOGS:
            if (work / name).is_file():
                shutil.copyfile(work / name, new / name)
        write_receipt(
            new, kind="model" if subject.adapter is None else "adapter", operation=operation, recipe=stage, home=folder,
            parents={**({"model": base} if base is not None and not foreign else {}), **made}, data=foreign, surgery=subject.model.surgery, effects=found,
        )  # fmt: skip
