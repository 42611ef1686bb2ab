from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from orrery.kit.artifact import write_receipt
from orrery.model import Decoder, DecoderConfig
from orrery.model.folder import save_model
from orrery.model.mlp import Mlp
from orrery.serve.lm import LM
from orrery.text import Tokenizer, TokenizerConfig, train_tokenizer
from orrery.text.chat import ChatFormat

TEXTS = [
    "the cat sat on the mat. ",
    "def read(path):\n    return path\n",
    "grüße aus 東京 🎉 naïve café ",
] * 20


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return train_tokenizer(TEXTS, TokenizerConfig(vocab_size=320))


def tiny_model(vocab_size: int, **changes) -> Decoder:
    shape = {
        "vocab_size": vocab_size, "d_model": 32, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2,
        "feed_forward": Mlp(d_ff=48), "max_positions": 64,
    }  # fmt: skip
    model = Decoder(DecoderConfig(**{**shape, **changes}), seed=1).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3.0 if parameter.ndim > 1 else 1.0)  # far from uniform, so that choices matter
    return model


@pytest.fixture(scope="session")
def make_model() -> Callable[..., Decoder]:
    """(vocab_size, **config) -> a small model with outspoken opinions."""
    return tiny_model


@pytest.fixture(scope="session")
def lm(tokenizer) -> LM:
    return LM(model=tiny_model(tokenizer.vocab_size), tokenizer=tokenizer, chat=ChatFormat(tokenizer))


@pytest.fixture(scope="session")
def save_lm() -> Callable[[LM, Path], Path]:
    """Write an LM as a finished model folder."""

    def save(lm: LM, folder: Path) -> Path:
        folder.mkdir(parents=True)
        save_model(lm.model, folder, bos_id=lm.tokenizer.bos_id, eos_id=lm.tokenizer.eos_id)
        lm.tokenizer.save(folder)
        if lm.chat is not None:
            lm.chat.save(folder)
        write_receipt(folder, kind="model", operation="test")
        return folder

    return save
