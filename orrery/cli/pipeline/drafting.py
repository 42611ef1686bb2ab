"""The drafter stage: heads or a layer that guess what a finished model will say, and how much its generation gains by them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch

from orrery.cli.pipeline.recipe import DrafterStage
from orrery.cli.pipeline.training import LOGS, VALIDATION_TOKENS, some_heldout
from orrery.data.batch import batch_of
from orrery.data.loader import Loader
from orrery.data.shard import Shards
from orrery.kit.artifact import write_receipt
from orrery.kit.errors import OrreryError
from orrery.kit.files import atomic_folder
from orrery.kit.lm import GenerateRequest, Sampling
from orrery.kit.log import Progress
from orrery.model.drafter_folder import save_drafter
from orrery.model.drafters import DraftNet, Eagle, Medusa, SemiAutoregressive, make_net
from orrery.serve.lm import LM
from orrery.serve.speculate.drafter import Drafter
from orrery.serve.speculate.eagle import EagleDrafter
from orrery.serve.speculate.generate import speculative_generate
from orrery.serve.speculate.medusa import MedusaDrafter
from orrery.serve.speculate.semi_autoregressive import SemiAutoregressiveDrafter
from orrery.serve.speculate.statistics import AcceptanceStatistics
from orrery.train.loop import TrainResult, train
from orrery.train.objectives import DraftObjective
from orrery.train.objectives.apply import compute
from orrery.train.objectives.drafting import Drafted, accuracy

PROMPTS, PROMPT_TOKENS, ANSWER_TOKENS = 6, 24, 48


def make_trained_drafter(
    stage: DrafterStage, base: Path, data: Path, folder: Path, progress: Progress
) -> None:
    """Train in `<folder>.work` (checkpoints, logs), then write the finished drafter to `folder`.

    Raises:
        OrreryError: the objective is not a drafter's, or data and model do not belong together.
    """
    objective = stage.loop.objective
    if not isinstance(objective, DraftObjective):
        raise OrreryError(
            f"a drafter cannot be trained on the objective '{objective.kind}'; loop.objective is medusa, eagle or semi"
        )
    lm = LM.load(base, dequantise=True)
    lm.model.requires_grad_(False)
    shards = Shards(data, "train")
    shards.require(lm.tokenizer)
    if stage.loader.context > lm.context:
        raise OrreryError(
            f"loader.context={stage.loader.context} is longer than the model's context of {lm.context}"
        )
    net = make_net(objective.net, lm.model)
    net.reset_parameters(stage.loop.seed)
    documents = [
        ids
        for d in some_heldout(data, VALIDATION_TOKENS)
        if len(ids := d.ids.tolist()[: stage.loader.context]) > 2
    ]
    heldout = [batch_of([ids]) for ids in documents]
    before = acceptance(lm, net, documents)

    @torch.no_grad()
    def validation(drafted: Any) -> float:
        """The loss a token on held-out documents."""
        losses = [compute(objective, drafted, batch) for batch in heldout]
        return float(sum(loss.sum for loss in losses) / sum(loss.weight for loss in losses))

    loader = Loader(shards, stage.loader)
    work = folder.with_name(folder.name + ".work")
    drafted = Drafted(net)
    result = train(
        stage.loop,
        model=drafted,  # type: ignore[bad-argument-type]  # parameters, cfg and blocks are all that the loop asks for
        loader=loader,
        out=work,
        validation=validation if heldout else None,
        progress=progress,
        vocabulary=lm.tokenizer,
    )
    if isinstance(net, Medusa) and heldout:
        net.accuracy.copy_(accuracy(net, heldout))
    with atomic_folder(folder) as new:
        save_drafter(net, new, tokenizer=lm.tokenizer.fingerprint)
        for name in LOGS:
            if (work / name).is_file():
                shutil.copyfile(work / name, new / name)
        write_receipt(
            new, kind="drafter", operation="train drafter", recipe=stage, parents={"model": base, "data": data}, home=folder,
            data={"fingerprint": shards.fingerprint}, effects=effects(net, result, before, acceptance(lm, net, documents)),
        )  # fmt: skip


def effects(
    net: DraftNet, result: TrainResult, before: AcceptanceStatistics, after: AcceptanceStatistics
) -> dict[str, Any]:
    """What training did, for the receipt: acceptance is of greedy continuations of held-out texts."""
    return {
        "kind": net.cfg.kind,
        "parameters": sum(p.numel() for p in net.parameters()),
        "steps": result.steps,
        "tokens": result.tokens,
        "loss": result.loss,
        "validation": result.validation,
        "untrained_length": before.mean_accepted_length,
        "mean_accepted_length": after.mean_accepted_length,
        "acceptance": after.by_position(),
        "seconds": result.seconds,
    }


def acceptance(lm: LM, net: DraftNet, documents: list[list[int]]) -> AcceptanceStatistics:
    """How many drafts are kept in greedy continuations of the first words of some documents."""
    statistics, training = AcceptanceStatistics(), net.training
    net.eval()
    for ids in documents[:PROMPTS]:
        prompt = ids[: min(PROMPT_TOKENS, lm.context // 2)]
        request = GenerateRequest(ids=prompt, max_tokens=ANSWER_TOKENS, sampling=Sampling(temperature=0))
        speculative_generate(lm, request, drafter_of(net), statistics=statistics)
    net.train(training)
    return statistics


def drafter_of(net: DraftNet) -> Drafter:
    """What drafts with the network."""
    match net:
        case Medusa():
            return MedusaDrafter(net)
        case Eagle():
            return EagleDrafter(net)
        case SemiAutoregressive():
            return SemiAutoregressiveDrafter(net)
