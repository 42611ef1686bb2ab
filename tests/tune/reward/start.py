"""A small seeded model that has learned nothing, and preferences with a planted rule: the better answer speaks of cats."""

from __future__ import annotations

import functools
import random

from orrery.model.adapters.config import AdapterConfig
from orrery.model.config import DecoderConfig
from orrery.model.decoder import Decoder
from orrery.model.mlp import Mlp
from orrery.text.chat import ChatFormat
from orrery.text.tokenizer import Tokenizer
from orrery.text.train import TokenizerConfig, train_tokenizer
from orrery.train.config import TrainConfig
from orrery.train.optim.config import AdamW
from orrery.train.schedule import Constant
from orrery.tune.examples import Renderer
from orrery.tune.preference.records import Pair
from orrery.tune.subject import Subject, beside

WORDS = [
    "the",
    "small",
    "green",
    "garden",
    "has",
    "old",
    "red",
    "walls",
    "and",
    "a",
    "hen",
    "that",
    "ran",
    "to",
    "see",
    "her",
    "young",
    "friend",
    "on",
    "this",
    "mat",
]


@functools.cache
def tokenizer() -> Tokenizer:
    return train_tokenizer(
        [" ".join([*WORDS, "cat", "dog", "tell me of"])] * 8, TokenizerConfig(vocab_size=384)
    )


def subject(*, seed: int = 1, adapter: AdapterConfig | None = None, chat: bool = True) -> Subject:
    """An untrained model with a chat format."""
    cfg = DecoderConfig(
        vocab_size=tokenizer().vocab_size, d_model=32, n_layers=2, n_heads=2, feed_forward=Mlp(d_ff=64), max_positions=64,
    )  # fmt: skip
    model = Decoder(cfg, seed=seed)
    model.requires_grad_(adapter is None)
    made = None if adapter is None else beside(model, adapter, seed=seed)
    return Subject(
        model=model, tokenizer=tokenizer(), chat=ChatFormat(tokenizer()) if chat else None, adapter=made, parent_vocab=cfg.vocab_size,
    )  # fmt: skip


def renderer(of: Subject) -> Renderer:
    return Renderer(tokenizer=of.tokenizer, chat=of.chat, learn="last")


def sentence(rng: random.Random, word: str) -> str:
    """Words in any order, with `word` somewhere among them."""
    words = rng.sample(WORDS, rng.randint(3, 6))
    words.insert(rng.randint(0, len(words)), word)
    return " ".join(words)


def pairs(count: int, seed: int = 0) -> list[Pair]:
    rng = random.Random(seed)
    return [
        Pair(
            messages=({"role": "user", "content": f"tell me of the {rng.choice(WORDS)}"},),
            chosen=({"role": "assistant", "content": sentence(rng, "cat")},),
            rejected=({"role": "assistant", "content": sentence(rng, "dog")},),
            where=f"pair {n}",
        )
        for n in range(count)
    ]


def loop(steps: int, lr: float = 3e-3) -> TrainConfig:
    return TrainConfig(
        steps=steps, precision="fp32", optimizer=AdamW(lr=lr, weight_decay=0.0), schedule=Constant(), validate_every=None, sample_every=None,
    )  # fmt: skip
