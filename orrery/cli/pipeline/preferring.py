"""The stage of preference learning: a finished model learns which answers are better; all of it or an adapter."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from orrery.cli.pipeline.made import PAIRS, located, parents_of
from orrery.cli.pipeline.prefer_recipe import PreferStage
from orrery.cli.pipeline.tuning import write
from orrery.kit.errors import OrreryError
from orrery.kit.log import Progress, console
from orrery.serve.find import find_model
from orrery.train.config import TrainConfig
from orrery.tune.dialogue import Dialogue
from orrery.tune.examples import Renderer
from orrery.tune.preference.material import Comparisons, gather_comparisons
from orrery.tune.preference.measure import Measured
from orrery.tune.preference.pairs import state_of_preferences
from orrery.tune.preference.records import answers_of
from orrery.tune.preference.trainer import Preferred, prefer
from orrery.tune.reward.folder import load_reward
from orrery.tune.reward.model import as_learned
from orrery.tune.rl.problems import read_problems, state_of_problems
from orrery.tune.subject import Subject, open_subject

NOTHING: Mapping[str, Path] = MappingProxyType({})


def make_preferred(
    stage: PreferStage, base: Path, folder: Path, progress: Progress, *, inputs: Mapping[str, Path] = NOTHING
) -> None:
    """Learn in `<folder>.work` (checkpoints, logs), then write the finished model or adapter to `folder`.

    Args:
        inputs: by role, the folders of earlier stages that sets of preferences name, and "reward", of the judge.
    """
    base, root = find_model(base), Path(stage.data_root)
    subject = open_subject(
        base, chat_template=stage.chat_template, adapter=stage.adapter, seed=stage.loop.seed
    )
    if stage.loader.context > subject.model.cfg.max_positions:
        raise OrreryError(
            f"loader.context={stage.loader.context} is longer than the model's context of {subject.model.cfg.max_positions}; shorten it"
        )
    renderer = Renderer(tokenizer=subject.tokenizer, chat=subject.chat, system=stage.system)
    found = gather_comparisons(
        located("data", stage.data, inputs, PAIRS), renderer, stage.loss, stage.loader, root=root, heldout=stage.heldout,
        seed=stage.split_seed, virtual=subject.placeholders,
    ) if stage.data else None  # fmt: skip
    for note in found.notes() if found is not None else ():
        console.print(note, style="yellow", markup=False, highlight=False, soft_wrap=True)
    online = stage.online
    problems = (
        None
        if online is None
        else read_problems(online.problems, root=root, heldout=online.heldout, seed=stage.loop.seed)
    )
    shown = None if found is None else asked(found)
    work = folder.with_name(folder.name + ".work")
    result = prefer(
        stage.preference, with_epochs(stage, found), lm=subject.lm(), out=work, comparisons=found, problems=problems,
        judge=as_learned(load_reward(inputs["reward"])) if "reward" in inputs else None,
        parent=None if subject.adapter is None else subject.parent, system=stage.system, virtual=subject.placeholders,
        sample=None if shown is None else lambda model, step: answer(subject, renderer.prompt(shown), stage.sample_tokens),
        progress=progress,
    )  # fmt: skip
    told = effects(result, subject, found) | ({} if problems is None else {"problems": len(problems.heldout)})
    judge = {"reward": inputs["reward"]} if "reward" in inputs else {}
    write(stage, subject, base, folder, work, told, operation="prefer", made={**parents_of(inputs), **judge})


def with_epochs(stage: PreferStage, found: Comparisons | None) -> TrainConfig:
    """The loop's settings; `epochs` of the stage decides on the steps where it is given."""
    if stage.epochs is None or found is None:
        return stage.loop
    items = sum(map(len, found.parts.values()))
    steps = math.ceil(stage.epochs * items / (stage.loader.pairs * stage.loader.micro_batches))
    return dataclasses.replace(stage.loop, steps=max(1, steps), minutes=None)


def asked(found: Comparisons) -> Dialogue | None:
    """A held-out question, with the answer that was preferred behind it."""
    if found.shown is None:
        return None
    messages = found.shown.messages
    return Dialogue(
        (*messages, *answers_of(found.shown)[0]), found.shown.where, silent=frozenset(range(len(messages)))
    )


def answer(subject: Subject, prompt: list[int], tokens: int) -> str:
    """What the model says, after the question."""
    said = subject.lm().generate(prompt, max_tokens=tokens, temperature=0.0, truncation="left")
    return subject.tokenizer.decode(prompt) + said.text


def effects(result: Preferred, subject: Subject, found: Comparisons | None) -> dict[str, Any]:
    """What it did, for the receipt and the report."""
    done = result.training
    trained = [p for p in subject.model.parameters() if p.requires_grad]
    return {
        "parameters": sum(p.numel() for p in subject.model.parameters()),
        "trained": sum(p.numel() for p in trained),
        "share": "all weights learn" if subject.adapter is None else subject.adapter.share(subject.model),
        "steps": done.steps,
        "tokens": done.tokens,
        **({} if found is None else found.report()),
        "preferences": {"before": plain(result.before), "after": plain(result.after)},
        "kl_to_parent": result.kl,
        "score": {"before": result.start, "after": result.end, "rounds": list(result.rounds)},
        "loss": done.loss,
        "tokens_per_s": done.tokens_per_s,
        "utilization": done.utilisation,
        "skipped": done.skipped,
        "seconds": done.seconds,
    }


def plain(found: Measured | None) -> dict[str, float] | None:
    """JSON-able."""
    return None if found is None else dataclasses.asdict(found)


def state_of_stage(stage: PreferStage) -> Any:
    """What the files that the stage reads are, cheaply."""
    root = Path(stage.data_root)
    asked_of = [] if stage.online is None else state_of_problems(stage.online.problems, root)
    return [*state_of_preferences(stage.data, root), *asked_of] or None


def one_line(found: dict[str, Any]) -> str:
    """What the stage did, in a line."""
    before, after, score = found["preferences"]["before"], found["preferences"]["after"], found["score"]
    ranked = (
        f"ranks {before['accuracy']:.3f} -> {after['accuracy']:.3f} of {after['comparisons']} held-out comparisons rightly, margin "
        f"{after['margin']:.2f}, KL {found['kl_to_parent']:.3f}, "
        if before and after
        else ""
    )
    judged = (
        f"answers score {score['before']:.3f} -> {score['after']:.3f} on {found['problems']} held-out problems, "
        if score["after"] is not None
        else ""
    )
    return f"{judged}{ranked}{found['steps']:,} steps, loss {found['loss']:.3f}, {found['tokens_per_s']:,.0f} tokens/s"
