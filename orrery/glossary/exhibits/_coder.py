"""A small model with a tokenizer that has seen some Python for a second or two."""

from __future__ import annotations

import functools

import torch

from orrery.glossary.exhibits import _library, _prepared, _tiny
from orrery.model.decoder import Decoder
from orrery.serve.lm import LM


@functools.cache
def coder() -> LM:
    """A decoder over the tokenizer of `_prepared`, trained on six modules of Python's library; do not change it."""
    tokenizer = _prepared.tokenizer()
    ids = torch.tensor([id for text in _library.texts()[:12:2] for id in tokenizer.encode(text)])
    model = Decoder(_tiny.shape(vocab_size=tokenizer.vocab_size, max_positions=1024), seed=0)
    _tiny.train(model, steps=80, ids=ids)
    return LM(model=model.eval(), tokenizer=tokenizer)
