"""The stage that makes data: a model speaks, what is kept is written down with an account of what is not."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from orrery.cli.pipeline.made import EXAMPLES, located, parents_of
from orrery.cli.pipeline.sample_recipe import SampleStage
from orrery.evaluate.subject import Subject
from orrery.kit.artifact import RECEIPT, write_receipt
from orrery.kit.errors import OrreryError
from orrery.kit.files import atomic_folder
from orrery.kit.log import Progress
from orrery.serve.find import find_model, identity_of
from orrery.serve.lm import LM
from orrery.tune.dataset import state_of_files
from orrery.tune.rl.problems import state_of_problems
from orrery.tune.rl.rewards import Learned
from orrery.tune.selfdata.account import Made
from orrery.tune.selfdata.constitutional import Constitutional
from orrery.tune.selfdata.sample import sample, write
from orrery.tune.selfdata.self_instruct.loop import SelfInstruct
from orrery.tune.templates import choose_format


def make_samples(stage: SampleStage, inputs: Mapping[str, Path], folder: Path, progress: Progress) -> None:
    """Let the model speak, with its records in `<folder>.work`, then write `examples.jsonl`, `pairs.jsonl` and `account.json`.

    Raises:
        OrreryError: nothing was kept, and what the account says of why.
    """
    base = find_model(inputs["model"])
    judge = find_model(inputs["judge"]) if stage.judge else None
    root = Path(stage.data_root)
    cfg = dataclasses.replace(stage, prompts=located("prompts", stage.prompts, inputs, EXAMPLES))
    made = sample(
        cfg, speaking(base, stage.chat_template), root=root, out=folder.with_name(folder.name + ".work"), system=stage.system,
        judge=None if judge is None else Subject.of(LM.load(judge)),
        learned=reward_of(inputs["reward"]) if stage.reward_model else None, progress=progress,
    )  # fmt: skip
    if not (made.examples or made.pairs):
        raise OrreryError(
            f"the stage '{stage.name}' kept nothing of {made.account.drawn:,} drawn ({reasons(made)}); ask for more, or ask otherwise"
        )
    models = {"model": base, **({"judge": judge} if judge else {})}
    ours = {role: found for role, found in models.items() if (found / RECEIPT).is_file()}
    foreign = {
        role: {"path": str(found.resolve()), "id": identity_of(found)} for role, found in models.items() if role not in ours
    }  # fmt: skip
    reward = {"reward": inputs["reward"]} if stage.reward_model else {}
    with atomic_folder(folder) as new:
        write(made, new)
        write_receipt(
            new, kind="examples", operation=f"sample {stage.method.kind}", recipe=stage, home=folder,
            parents={**ours, **reward, **parents_of(inputs)}, data=foreign,
            effects={"examples": len(made.examples), "pairs": len(made.pairs), **made.account.to_dict()},
        )  # fmt: skip


def speaking(base: Path, chat_template: str) -> Subject:
    """The model with the chat format it speaks in."""
    lm = LM.load(base)
    if chat_template == "none":
        lm.chat = None
    elif chat_template != "auto":
        lm.chat = choose_format(chat_template, lm.tokenizer, lm.chat)
    return Subject.of(lm)


def reward_of(folder: Path) -> Learned:
    """The reward model in a folder, as a function of conversations."""
    from orrery.tune.reward import load_reward

    score: Callable[..., Any] = load_reward(folder).score
    return lambda conversations: score(conversations).tolist()


def state_of_samples(stage: SampleStage) -> Any:
    """What the files are that a stage reads, cheaply; None where there are none."""
    root = Path(stage.data_root)
    named = []
    if isinstance(stage.method, SelfInstruct):
        named = [root / Path(path).expanduser() for path in stage.method.seeds]
    if isinstance(stage.method, Constitutional) and stage.method.file:
        named = [Path(stage.method.file)]
    missing = next((path for path in named if not path.is_file()), None)
    if missing is not None:
        raise OrreryError(f"there is no file at '{missing}', which the stage '{stage.name}' reads")
    states = [
        *state_of_problems(stage.problems, root),
        *state_of_files([cfg for cfg in stage.prompts if cfg.paths], root),
        *((str(path.resolve()), stat.st_size, stat.st_mtime_ns) for path in named for stat in [path.stat()]),
    ]
    return states or None


def reasons(made: Made) -> str:
    """Why things were left out, oftenest first."""
    return (
        ", ".join(f"{count:,} {why}" for why, count in made.account.filtered.most_common(4)) or "none drawn"
    )


def one_line(effects: Mapping[str, Any]) -> str:
    """What the stage did, in a line."""
    told = [f"{effects['examples']:,} examples"]
    if effects["pairs"]:
        told.append(f"{effects['pairs']:,} pairs")
    told.append(f"{effects['kept']:,} kept of {effects['drawn']:,} drawn")
    names = ("pass_rate", "mean_reward", "label_accuracy", "before", "after", "orders_agree")
    told += [
        f"{name.replace('_', ' ')} {number:.3f}"
        for name in names
        if (number := effects["numbers"].get(name)) is not None
    ]
    return ", ".join(told)
