"""The training stage: a model from prepared data, with checkpoints beside it until it is finished."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

from orrery.cli.pipeline.recipe import TrainStage
from orrery.data.loader import Loader
from orrery.data.manifest import read_manifest
from orrery.data.shard import Shards, heldout_documents
from orrery.evaluate.bits import bits_per_byte
from orrery.kit.artifact import read_receipt, write_receipt
from orrery.kit.errors import OrreryError
from orrery.kit.files import atomic_folder
from orrery.kit.log import Progress
from orrery.model.decoder import Decoder
from orrery.model.folder import save_model
from orrery.serve.lm import LM
from orrery.text.chat import ChatFormat
from orrery.text.tokenizer import Tokenizer
from orrery.train.init import initialize
from orrery.train.loop import TrainResult, train

LOGS = ("metrics.jsonl", "samples.jsonl", "events.jsonl")
VALIDATION_TOKENS = 12_000


def make_model(stage: TrainStage, data: Path, folder: Path, progress: Progress) -> None:
    """Train in `<folder>.work` (checkpoints, logs), then write the finished model to `folder`."""
    tokenizer_folder = tokenizer_of(data)
    tokenizer = Tokenizer.load(tokenizer_folder)
    shards = Shards(data, "train")
    shards.require(tokenizer)
    config = dataclasses.replace(stage.model, vocab_size=tokenizer.vocab_size)
    if stage.loader.context > config.max_positions:
        raise OrreryError(
            f"loader.context={stage.loader.context} is longer than model.max_positions={config.max_positions}; raise max_positions"
        )
    model = Decoder(config, seed=stage.loop.seed)
    initialize(model, config.init.kind, std=config.init.std, seed=stage.loop.seed)
    chat = ChatFormat.load(tokenizer_folder, tokenizer)
    work = folder.with_name(folder.name + ".work")
    start_id = read_manifest(data)["start_id"]
    documents = some_heldout(data, VALIDATION_TOKENS)

    def validation(model: Decoder) -> float:
        """Nats a token on held-out documents."""
        measured = bits_per_byte(model, documents, start_id=start_id, context=stage.loader.context)
        return measured.nats / measured.tokens

    def sample(model: Decoder, step: int) -> str:
        lm = LM(model=model, tokenizer=tokenizer, chat=chat)
        prompt = stage.sample_prompt or [shards.eos_id if start_id is None else start_id]
        completion = lm.generate(prompt, max_tokens=64, temperature=0.7, seed=0)
        return stage.sample_prompt + completion.text

    loader = Loader(shards, stage.loader)
    result = train(
        stage.loop,
        model=model,
        loader=loader,
        out=work,
        validation=validation if documents else None,
        sample=sample,
        progress=progress,
        vocabulary=tokenizer,
    )
    model.eval()
    with atomic_folder(folder) as new:
        save_model(model, new, bos_id=tokenizer.bos_id, eos_id=tokenizer.eos_id)
        tokenizer.save(new)
        chat.save(new)
        for name in LOGS:
            if (work / name).is_file():
                shutil.copyfile(work / name, new / name)
        write_receipt(
            new, kind="model", operation="train", recipe=stage, parents={"data": data}, home=folder,
            surgery=model.surgery, data={"fingerprint": shards.fingerprint}, effects=effects(result, model, loader),
        )  # fmt: skip


def effects(result: TrainResult, model: Decoder, loader: Loader) -> dict[str, Any]:
    """What training did, for the receipt and the report."""
    gap = None if result.validation is None or result.loss is None else result.validation - result.loss
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "steps": result.steps,
        "tokens": result.tokens,
        "epochs": result.steps / loader.steps_per_epoch,
        "loss": result.loss,
        "validation": result.validation,
        "generalization_gap": gap,
        "tokens_per_s": result.tokens_per_s,
        "utilization": result.utilisation,
        "skipped": result.skipped,
        "spikes": result.spikes,
        "seconds": result.seconds,
        "stopped_early": result.stopped_early,
    }


def tokenizer_of(data: Path) -> Path:
    """The folder of the tokenizer that a prepared data set was made with.

    Raises:
        OrreryError: it is not where the receipt says.
    """
    parent = next((p for p in read_receipt(data).parents if p.role == "tokenizer"), None)
    if parent is None:
        raise OrreryError(f"'{data}' does not say which tokenizer made it; prepare it again")
    folder = data / parent.path
    if read_receipt(folder).id != parent.id:
        raise OrreryError(
            f"the tokenizer '{folder}' is not the one that '{data}' was prepared with; prepare the data again"
        )
    return folder


def some_heldout(data: Path, tokens: int) -> list:
    """Held-out documents up to about `tokens` tokens, the same in every run."""
    chosen, total = [], 0
    for document in heldout_documents(data):
        if total + len(document.ids) > tokens and chosen:
            continue
        chosen.append(document)
        total += len(document.ids)
        if total >= tokens:
            break
    return chosen
