"""The stage of reinforcement learning: a finished model answers problems, is judged, and learns from it; all of it or an adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from orrery.cli.pipeline.recipe import RlStage
from orrery.cli.pipeline.tuning import write
from orrery.kit.log import Progress, console
from orrery.serve.find import find_model
from orrery.tune.reward.folder import load_reward
from orrery.tune.reward.model import as_learned
from orrery.tune.rl.problems import Problems, read_problems
from orrery.tune.rl.recorded import read_recorded
from orrery.tune.rl.trainer import RlResult, reinforce
from orrery.tune.subject import Subject, open_subject

TOLD = (
    "reward", "accuracy", "group_accuracy", "dead_groups", "entropy", "kl_start", "length", "truncated", "first_ratio", "engine_gap",
    "served_gap",
)  # fmt: skip
"""Numbers of the last round that go into the receipt."""


def make_reinforced(
    stage: RlStage, base: Path, folder: Path, progress: Progress, *, reward: Path | None = None
) -> None:
    """Learn in `<folder>.work` (checkpoints, logs), then write the finished model or adapter to `folder`.

    Args:
        reward: the folder of the reward model, where the rewards ask one.
    """
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
        learned=None if reward is None else as_learned(load_reward(reward)),
        recorded=read_recorded(stage.rl.replay, root=Path(stage.data_root)),
        progress=progress,
    )
    found, judges = effects(result, subject, problems), {} if reward is None else {"reward": reward}
    write(stage, subject, base, folder, work, found, operation="reinforce", made=judges)


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


def one_line(found: dict[str, Any]) -> str:
    """What the stage did, in a line."""
    accuracy, last = found["accuracy"], found["last"]
    gained = (
        f"accuracy {accuracy['before']:.3f} -> {accuracy['after']:.3f} on {accuracy['problems']} held-out problems, "
        if accuracy["problems"] and accuracy["after"] is not None
        else ""
    )
    return f"{gained}{found['steps']:,} steps, reward {last['reward']:.3f}, entropy {last['entropy']:.2f}, {found['sampled']:,} tokens written"
