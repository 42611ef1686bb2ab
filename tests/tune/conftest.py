"""A tiny model with a tokenizer and a chat format, made once."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from orrery.model.config import DecoderConfig
from orrery.model.decoder import Decoder
from orrery.model.mlp import Mlp
from orrery.text.chat import ChatFormat
from orrery.text.tokenizer import Tokenizer
from orrery.text.train import TokenizerConfig, train_tokenizer
from orrery.tune.examples import Renderer

TEXT = (
    "what is one plus two it is three be short and say more or less of the same call add with a and b\n" * 40
)


@dataclass(frozen=True)
class Small:
    tokenizer: Tokenizer
    chat: ChatFormat

    def model(self, seed: int = 3, **changes: object) -> Decoder:
        shape: dict[str, object] = {
            "vocab_size": self.tokenizer.vocab_size, "d_model": 32, "n_layers": 2, "n_heads": 2,
            "feed_forward": Mlp(d_ff=64), "max_positions": 128,
        }  # fmt: skip
        return Decoder(DecoderConfig(**shape | changes), seed=seed)

    def renderer(self, **settings: object) -> Renderer:
        return Renderer(**{"tokenizer": self.tokenizer, "chat": self.chat} | settings)


@pytest.fixture(scope="session")
def small() -> Small:
    tokenizer = train_tokenizer([TEXT], TokenizerConfig(vocab_size=320))
    return Small(tokenizer, ChatFormat(tokenizer))
