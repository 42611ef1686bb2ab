"""A small model that was taught two answers to every question, one of them right: what practice can choose between within seconds."""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orrery.evaluate import generators
from orrery.kit.config import resolve
from orrery.kit.json_lines import write_rows
from orrery.kit.log import console, read_jsonl
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
from orrery.tune.rl.trainer import reinforce

GENERATED = {"name": "python_expression", "n": 200, "seed": 5, "difficulty": 1, "kinds": ["upper"]}


@dataclass(frozen=True)
class Start:
    """The taught model; `lm` gives a fresh copy of it each time."""

    model: Decoder
    tokenizer: Tokenizer
    chat: ChatFormat | None

    def lm(self) -> LM:
        return LM(model=deepcopy(self.model), tokenizer=self.tokenizer, chat=self.chat)


def loop(steps: int) -> TrainConfig:
    """Settings of practice."""
    return TrainConfig(
        steps=steps,
        precision="fp32",
        optimizer=Muon(lr=1e-3, weight_decay=0.0),
        schedule=Constant(),
        validate_every=None,
    )


@functools.cache
def taught(steps: int = 120, *, chat: bool = True) -> Start:
    """`"stone".upper()` is answered by STONE or by stone, with equal chances. Without `chat` it is no answer: the model has only read on
    over questions and answers in plain text."""
    rows = list(
        generators.rows("python_expression", n=200, seed=5, difficulty=1, split="train", kinds=["upper"])
    )
    pairs = [(row["question"], answer) for row in rows for answer in (row["answer"], row["answer"].lower())]
    texts = [{"prompt": question, "completion": answer} for question, answer in pairs]
    return _lessons(texts, [f"{q}\n{a}\n" for q, a in pairs], steps=steps, chat=chat)


PRODUCTS = [(a, b) for a in range(2, 9) for b in range(2, 9)]


@functools.cache
def taught_to_calculate(steps: int = 220) -> Start:
    """A product is answered at once, by any number, or worked out first as <<a * b>> and then answered by what comes back."""
    rows: list[dict[str, Any]] = []
    for n, (a, b) in enumerate(PRODUCTS):
        asked = {"role": "user", "content": f"{a} * {b} ?"}
        guess = PRODUCTS[(7 * n + 3) % len(PRODUCTS)]
        called = {"role": "assistant", "content": f"<<{a} * {b}>>"}
        shown = {"role": "user", "content": str(a * b)}
        rows.append({"messages": [asked, {"role": "assistant", "content": str(guess[0] * guess[1])}]})
        rows.append({"messages": [asked, called, shown, {"role": "assistant", "content": str(a * b)}]})
    words = [message["content"] for row in rows for message in row["messages"]]
    return _lessons(rows, [" ".join(words)] * 4, steps=steps, chat=True)


def _lessons(rows: list[dict[str, Any]], words: list[str], *, steps: int, chat: bool) -> Start:
    """A small model taught by rows of examples, with a tokenizer of `words`; without `chat` every id of a row is learned."""
    tokenizer = train_tokenizer(words * 4, TokenizerConfig(vocab_size=384))
    format = ChatFormat(tokenizer) if chat else None
    shape: dict[str, Any] = {
        "d_model": 64, "n_layers": 2, "n_heads": 2, "feed_forward": Mlp(d_ff=128), "max_positions": 64,
    }  # fmt: skip
    model = Decoder(DecoderConfig(vocab_size=tokenizer.vocab_size, **shape), seed=1)
    renderer = Renderer(tokenizer=tokenizer, chat=format, learn="assistant" if chat else "all")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "answers.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        material = gather(
            [SetConfig(paths=(str(path),))], renderer, ExampleLoaderConfig(context=64, rows=16), root=folder,
            parts=Split(heldout=0.0),
        )  # fmt: skip
        lessons = TrainConfig(
            steps=steps,
            precision="fp32",
            optimizer=Muon(lr=1e-2),
            schedule=Constant(),
            validate_every=None,
            sample_every=None,
        )
        quiet, console.quiet = console.quiet, True
        try:
            train(lessons, model=model, loader=material.loader, out=folder / "sft", vocabulary=tokenizer)
        finally:
            console.quiet = quiet
    return Start(model, tokenizer, format)


def config(**changes: Any) -> RlConfig:
    """Practice over the same questions."""
    plain = {
        "problems": [{"generator": GENERATED}],
        "heldout": 8,
        "rollout": {"prompts": 8, "responses": 8, "max_tokens": 8},
    }
    return resolve(RlConfig, plain | changes)


def practised(lm: LM, cfg: RlConfig, steps: int) -> Sequence[Mapping[str, Any]]:
    """The lines of metrics of so many rounds; the model has learned then."""
    with tempfile.TemporaryDirectory() as folder:
        rows = ({"question": f"{a} * {b} ?", "answer": str(a * b)} for a, b in PRODUCTS)
        write_rows(Path(folder) / "products.jsonl", rows)
        problems = read_problems(cfg.problems, root=Path(folder), heldout=0)
        reinforce(cfg, loop(steps), lm=lm, problems=problems, out=folder)
        return read_jsonl(Path(folder) / "metrics.jsonl")
