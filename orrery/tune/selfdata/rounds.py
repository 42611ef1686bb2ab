"""Round by round: sample, keep, fine-tune, and again with the model that learned (RAFT, expert iteration, STaR).

    improve(cfg, loop, lm=lm, out=Path("runs/raft"), root=Path("data"), rounds=3)

The same as stages `sample` and `tune` in turn in a recipe (recipes/raft.yaml), within one process and one model. A killed run goes on:
what was said is recorded, and fine-tuning has its checkpoints.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path

from orrery.evaluate.subject import Subject
from orrery.kit.errors import OrreryError
from orrery.kit.log import Progress
from orrery.serve.lm import LM
from orrery.train.config import TrainConfig
from orrery.train.loop import train
from orrery.tune.dataset import SetConfig, Split
from orrery.tune.examples import Renderer
from orrery.tune.loader import ExampleLoaderConfig
from orrery.tune.material import gather
from orrery.tune.rl.rewards import Learned
from orrery.tune.selfdata.account import Made
from orrery.tune.selfdata.config import SampleConfig
from orrery.tune.selfdata.sample import EXAMPLES, sample, write


@dataclass(frozen=True)
class Round:
    """What the model made before it learned in this round, counted from 0."""

    number: int
    made: Made


def improve(
    cfg: SampleConfig, loop: TrainConfig, *, lm: LM, out: Path, root: Path, rounds: int, loader: ExampleLoaderConfig | None = None,
    restart: bool = False, system: str = "", learned: Learned | None = None, progress: Progress | None = None,
) -> Iterator[Round]:  # fmt: skip
    """Rounds of learning from its own answers; `lm.model` learns in place.

    Args:
        loop: the fine-tuning of one round.
        restart: fine-tune the model that everything began with in each round, as STaR does, and not the last one.

    Raises:
        OrreryError: a round kept nothing to learn from.
    """
    start = deepcopy(lm.model.state_dict()) if restart else None
    for number in range(rounds):
        folder = out / f"round-{number}"
        made = sample(
            replace(cfg, round=cfg.round + number), Subject.of(lm), root=root, out=folder, system=system,
            learned=learned, progress=progress,
        )  # fmt: skip
        if not made.examples:
            raise OrreryError(
                f"round {number} kept nothing to learn from ({made.account.to_dict()['filtered']}); draw more answers (method.n), or "
                "begin with easier problems"
            )
        write(made, folder)
        yield Round(number, made)
        if start is not None:
            lm.model.load_state_dict(start)
        learn(
            folder / EXAMPLES,
            loop,
            lm=lm,
            out=folder / "learned",
            loader=loader,
            system=system,
            progress=progress,
        )


def learn(
    examples: Path, loop: TrainConfig, *, lm: LM, out: Path, loader: ExampleLoaderConfig | None = None, system: str = "",
    progress: Progress | None = None,
) -> None:  # fmt: skip
    """Fine-tune `lm.model` in place on the rows of a file, all of them.

    Raises:
        OrreryError: a row that cannot be taught or does not fit.
    """
    renderer = Renderer(tokenizer=lm.tokenizer, chat=lm.chat, system=system)
    material = gather(
        [SetConfig(paths=(str(examples.resolve()),))], renderer, loader or ExampleLoaderConfig(context=min(lm.context, 1024)),
        root=out, parts=Split(heldout=0.0),
    )  # fmt: skip
    train(loop, model=lm.model, loader=material.loader, out=out, progress=progress, vocabulary=lm.tokenizer)
