"""Who teaches and who learns: a frozen model, and a student of the same tokenizer, which may begin from nothing."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from torch import Tensor

from orrery.data.batch import Batch
from orrery.kit.errors import OrreryError
from orrery.model.config import DecoderConfig
from orrery.model.decoder import Decoder
from orrery.model.packed import Packed
from orrery.serve.find import is_adapter
from orrery.serve.lm import LM
from orrery.text.tokenizer import Tokenizer
from orrery.train.init import initialize
from orrery.tune.subject import NO_CHAT, Subject, open_floats
from orrery.tune.templates import choose_format


def open_teacher(path: Path) -> LM:
    """A model as it is served (quantised weights stay so), frozen; an adapter is merged into its own."""
    lm = open_floats(path) if is_adapter(path) else LM.load(path)
    lm.model.requires_grad_(False).eval()
    return lm


def require_same_tokenizer(teacher: LM, tokenizer: Tokenizer) -> None:
    """Refuse a teacher whose ids mean something else.

    Raises:
        OrreryError: the tokenizers differ.
    """
    if teacher.tokenizer.fingerprint != tokenizer.fingerprint:
        raise OrreryError(
            f"the teacher ({teacher.folder}) has another tokenizer than the student ({teacher.tokenizer.vocab_size:,} and "
            f"{tokenizer.vocab_size:,} tokens), and distributions over different tokens cannot be compared; take two models of one "
            "tokenizer, or let the teacher answer in a stage of the kind 'sample' and tune the student on what it said"
        )


def fresh_student(cfg: DecoderConfig, teacher: LM, *, chat_template: str = "auto", seed: int = 0) -> Subject:
    """A student that knows nothing yet, with the teacher's tokenizer and chat format.

    Raises:
        OrreryError: a chat format that does not go with the tokenizer.
    """
    tokenizer = teacher.tokenizer
    model = Decoder(dataclasses.replace(cfg, vocab_size=tokenizer.vocab_size), seed=seed)
    initialize(model, cfg.init.kind, std=cfg.init.std, seed=seed)
    chat = None if chat_template == NO_CHAT else choose_format(chat_template, tokenizer, teacher.chat)
    return Subject(
        model=model, tokenizer=tokenizer, chat=chat, adapter=None, parent_vocab=tokenizer.vocab_size
    )


@torch.no_grad()
def teacher_states(model: Decoder, batch: Batch) -> Tensor:
    """(N, d) the teacher's final states at the supervised positions, in its own precision."""
    with torch.autocast(batch.tokens.device.type, enabled=False):
        hidden = model(batch.tokens, Packed(batch.lengths, device=batch.tokens.device))
    return hidden[batch.weights.nonzero().squeeze(1)]
