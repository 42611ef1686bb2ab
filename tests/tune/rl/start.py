"""A small model that was taught two answers to every question, one of them right: what reinforcement learning can choose between."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orrery.evaluate import generators
from orrery.kit.config import resolve
from orrery.model.config import DecoderConfig
from orrery.model.decoder import Decoder
from orrery.model.mlp import Mlp
from orrery.serve.lm import LM
from orrery.text.chat import ChatFormat
from orrery.text.tokenizer import Tokenizer
from orrery.text.train import TokenizerConfig, train_tokenizer
from orrery.train.config import TrainConfig
from orrery.train.loop import train
from orrery.train.optim.config import Muon
from orrery.train.schedule import Constant
from orrery.tune.dataset import SetConfig, Split
from orrery.tune.examples import Renderer
from orrery.tune.loader import ExampleLoaderConfig
from orrery.tune.material import gather
from orrery.tune.rl.config import RlConfig
from orrery.tune.rl.problems import read_problems
from orrery.tune.rl.trainer import RlResult, reinforce

GENERATED = {"name": "python_expression", "n": 200, "seed": 5, "difficulty": 1, "kinds": ["upper"]}
LOOP = TrainConfig(
    steps=25, precision="fp32", optimizer=Muon(lr=1e-3, weight_decay=0.0), schedule=Constant(), validate_every=None
)


@dataclass(frozen=True)
class Start:
    """The taught model; `lm` gives a fresh copy of it each time."""

    model: Decoder
    tokenizer: Tokenizer
    chat: ChatFormat

    def lm(self) -> LM:
        return LM(model=deepcopy(self.model), tokenizer=self.tokenizer, chat=self.chat)


def taught(folder: Path, *, steps: int = 120) -> Start:
    """`"stone".upper()` is answered by STONE or by stone, with equal chances."""
    rows = list(generators.rows(split="train", **GENERATED))
    pairs = [(row["question"], answer) for row in rows for answer in (row["answer"], row["answer"].lower())]
    path = folder / "answers.jsonl"
    path.write_text("".join(json.dumps({"prompt": q, "completion": a}) + "\n" for q, a in pairs))
    tokenizer = train_tokenizer([f"{q}\n{a}\n" for q, a in pairs] * 4, TokenizerConfig(vocab_size=384))
    chat = ChatFormat(tokenizer)
    shape = {"d_model": 64, "n_layers": 2, "n_heads": 2, "feed_forward": Mlp(d_ff=128), "max_positions": 64}
    model = Decoder(DecoderConfig(vocab_size=tokenizer.vocab_size, **shape), seed=1)
    material = gather(
        [SetConfig(paths=(str(path),))], Renderer(tokenizer=tokenizer, chat=chat), ExampleLoaderConfig(context=64, rows=16),
        root=folder, parts=Split(heldout=0.0),
    )  # fmt: skip
    loop = TrainConfig(
        steps=steps, precision="fp32", optimizer=Muon(lr=1e-2), schedule=Constant(), validate_every=None, sample_every=None
    )
    train(loop, model=model, loader=material.loader, out=folder / "sft", vocabulary=tokenizer)
    return Start(model, tokenizer, chat)


def config(**changes: Any) -> RlConfig:
    """A run over the same questions."""
    plain = {
        "problems": [{"generator": GENERATED}],
        "heldout": 8,
        "rollout": {"prompts": 8, "responses": 8, "max_tokens": 8},
    }
    return resolve(RlConfig, plain | changes)


def run(start: Start, out: Path, cfg: RlConfig, loop: TrainConfig = LOOP, lm: LM | None = None) -> RlResult:
    problems = read_problems(cfg.problems, root=out, heldout=cfg.heldout)
    return reinforce(cfg, loop, lm=lm or start.lm(), problems=problems, out=out)
