"""Runs of practice from the small model of the exhibits, which was taught a right and a wrong answer to every question."""

from __future__ import annotations

from pathlib import Path

from orrery.glossary.exhibits._choosing import Start, config, loop, taught
from orrery.serve.lm import LM
from orrery.train.config import TrainConfig
from orrery.tune.rl.config import RlConfig
from orrery.tune.rl.problems import read_problems
from orrery.tune.rl.trainer import RlResult, reinforce

__all__ = ["LOOP", "Start", "config", "run", "taught"]
LOOP = loop(25)


def run(start: Start, out: Path, cfg: RlConfig, loop: TrainConfig = LOOP, lm: LM | None = None) -> RlResult:
    """Practise in the folder `out`, with a fresh copy of the model unless one is given."""
    problems = read_problems(cfg.problems, root=out, heldout=cfg.heldout)
    return reinforce(cfg, loop, lm=lm or start.lm(), problems=problems, out=out)
