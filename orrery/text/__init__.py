"""TOKENIZE: text to ids and back, conversations to ids with a role for each, and what a vocabulary costs.

tokenizer = train_tokenizer(texts, TokenizerConfig(vocab_size=4096))
ids = tokenizer.encode("Hello")                  # text from outside never becomes a control token
ChatFormat(tokenizer).render([{"role": "user", "content": "Hello"}], generate=True).ids
"""

from __future__ import annotations

from orrery.text.chat import ChatFormat
from orrery.text.config import SPECIAL_TOKENS, TokenizerConfig
from orrery.text.detokenizer import Detokenizer
from orrery.text.rendered import Rendered, Role
from orrery.text.tokenizer import Piece, Tokenizer
from orrery.text.train import train_tokenizer

__all__ = [
    "SPECIAL_TOKENS",
    "ChatFormat",
    "Detokenizer",
    "Piece",
    "Rendered",
    "Role",
    "Tokenizer",
    "TokenizerConfig",
    "train_tokenizer",
]
