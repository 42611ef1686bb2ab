"""The stage of reinforcement learning: a finished model answers problems, is judged, and learns from it; all of it or an adapter."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from orrery.cli.pipeline.recipe import RlStage
from orrery.cli.pipeline.training import LOGS
from orrery.kit.artifact import RECEIPT, write_receipt
from orrery.kit.errors import OrreryError
from orrery.kit.files import atomic_folder
from orrery.kit.log import Progress, console
from orrery.model.adapters.folder import save_adapter
from orrery.model.folder import save_model
from orrery.serve.find import find_model, identity_of
from orrery.tune.rl.problems import Problems, read_problems
from orrery.tune.rl.rewards import LearnedReward
from orrery.tune.rl.trainer import RlResult, reinforce
from orrery.tune.subject import Subject, open_subject

TOLD = (
    "reward", "accuracy", "group_accuracy", "dead_groups", "entropy", "kl_start", "length", "truncated", "first_ratio", "engine_gap",
    "served_gap",
)  # fmt: skip
"""Numbers of the last round that go into the receipt."""


def make_reinforced(stage: RlStage, base: Path, folder: Path, progress: Progress) -> None:
    """Learn in `<folder>.work` (checkpoints, logs), then write the finished model or adapter to `folder`."""
    if any(isinstance(term, LearnedReward) for term in stage.rl.rewards):
        raise OrreryError(
            "a learned reward is a function and no setting of a recipe; call orrery.tune.rl.trainer.reinforce with learned=..."
        )
    base = find_model(base)
    subject = open_subject(
        base, chat_template=stage.chat_template, adapter=stage.adapter, seed=stage.loop.seed
    )
    problems = read_problems(
        stage.rl.problems, root=Path(stage.data_root), heldout=stage.rl.heldout, seed=stage.loop.seed
    )
    if problems.unsound:
        console.print(
            f"{problems.unsound:,} problems whose own answer does not pass their scorer were left out",
            style="yellow", highlight=False, soft_wrap=True,
        )  # fmt: skip
    work = folder.with_name(folder.name + ".work")
    result = reinforce(
        stage.rl,
        stage.loop,
        lm=subject.lm(),
        problems=problems,
        out=work,
        parent=None if subject.adapter is None else subject.parent,
        system=stage.system,
        virtual=subject.placeholders,
        progress=progress,
    )
    write(stage, subject, base, folder, work, effects(result, subject, problems))


def effects(result: RlResult, subject: Subject, problems: Problems) -> dict[str, Any]:
    """What it did, for the receipt and the report."""
    trained = [p for p in subject.model.parameters() if p.requires_grad]
    return {
        "parameters": sum(p.numel() for p in subject.model.parameters()),
        "trained": sum(p.numel() for p in trained),
        "share": "all weights learn" if subject.adapter is None else subject.adapter.share(subject.model),
        "steps": result.steps,
        "accuracy": {"before": result.start, "after": result.end, "problems": len(problems.heldout)},
        "problems": {
            "learned": sum(map(len, problems.sets)),
            "drawn": result.drawn,
            "unsound": problems.unsound,
        },
        "tokens": result.tokens,
        "sampled": result.sampled,
        "last": {name: result.last[name] for name in TOLD if name in result.last},
        "skipped": result.skipped,
        "seconds": result.seconds,
    }


def write(
    stage: RlStage, subject: Subject, base: Path, folder: Path, work: Path, found: dict[str, Any]
) -> None:
    """The finished folder: a model that any tool opens, or an adapter in peft's form; the chat format; the logs; the receipt."""
    foreign = (
        {} if (base / RECEIPT).is_file() else {"base": {"path": str(base.resolve()), "id": identity_of(base)}}
    )
    tokenizer, chat = subject.tokenizer, subject.chat
    with atomic_folder(folder) as new:
        if subject.adapter is None:
            save_model(
                subject.model, new, bos_id=tokenizer.bos_id, eos_id=list(subject.lm().stop_ids) or None
            )
            tokenizer.save(new)
        else:
            save_adapter(subject.adapter, subject.model, new, base_model=str(base.resolve()))
        if chat is not None:
            chat.save(new)
        for name in LOGS:
            if (work / name).is_file():
                shutil.copyfile(work / name, new / name)
        write_receipt(
            new, kind="model" if subject.adapter is None else "adapter", operation="reinforce", recipe=stage, home=folder,
            parents={} if foreign else {"model": base}, data=foreign, surgery=subject.model.surgery, effects=found,
        )  # fmt: skip


def one_line(found: dict[str, Any]) -> str:
    """What the stage did, in a line."""
    accuracy, last = found["accuracy"], found["last"]
    gained = (
        f"accuracy {accuracy['before']:.3f} -> {accuracy['after']:.3f} on {accuracy['problems']} held-out problems, "
        if accuracy["problems"] and accuracy["after"] is not None
        else ""
    )
    return f"{gained}{found['steps']:,} steps, reward {last['reward']:.3f}, entropy {last['entropy']:.2f}, {found['sampled']:,} tokens written"
