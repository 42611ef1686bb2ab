"""What is tuned: a base model opened for training, edited if asked, with its tokenizer and the chat format it will be tuned with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from orrery.kit.errors import OrreryError
from orrery.model.adapters import Adapter, AdapterConfig, AdapterSlots, new_adapter
from orrery.model.decoder import Decoder
from orrery.serve.adapters import DEFAULT, Adapters
from orrery.serve.find import is_adapter
from orrery.serve.lm import LM
from orrery.text.chat import ChatFormat
from orrery.text.tokenizer import Tokenizer
from orrery.tune.longer_context import LongerContext, lengthen
from orrery.tune.templates import choose_format
from orrery.tune.vocabulary import NewTokens, extend

NO_CHAT = "none"


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A model to be tuned.

    Attributes:
        chat: None: it learns to continue text.
        adapter: what learns beside the frozen model; None: all weights learn.
        parent_vocab: how many tokens the base knew.
    """

    model: Decoder
    tokenizer: Tokenizer
    chat: ChatFormat | None
    adapter: Adapter | None
    parent_vocab: int

    @property
    def placeholders(self) -> int:
        """Ids that stand for the adapter's virtual tokens before every example."""
        return 0 if self.adapter is None else self.adapter.virtual_tokens

    def lm(self) -> LM:
        """It as something that speaks."""
        return LM(model=self.model, tokenizer=self.tokenizer, chat=self.chat)

    @contextmanager
    def parent(self) -> Iterator[None]:
        """Within the block the frozen model is alone, without its adapter."""
        slots = AdapterSlots.of(self.model)
        own, slots.default = slots.default, None
        try:
            yield
        finally:
            slots.default = own


def open_subject(
    base: Path, *, chat_template: str = "auto", adapter: AdapterConfig | None = None, blocks: bool = False,
    longer_context: LongerContext | None = None, new_tokens: NewTokens | None = None, seed: int = 0,
) -> Subject:  # fmt: skip
    """Open a base model for training, in float32 (or, with `blocks`, in the blocks of its GGUF file).

    An adapter as the base is merged into its model first.

    Raises:
        OrreryError: the base cannot be opened, or what is asked does not go with it.
    """
    if blocks and is_adapter(base):
        raise OrreryError(
            f"'{base}' is an adapter, which is merged into its model first, and blocks have no room for that; set blocks: false"
        )
    lm = open_floats(base) if not blocks else LM.load(base)
    model, tokenizer, own = lm.model, lm.tokenizer, lm.chat
    vocab = model.cfg.vocab_size
    if longer_context is not None:
        model = lengthen(model, longer_context)
    if new_tokens is not None:
        model, tokenizer = extend(model, tokenizer, new_tokens)
        own = (
            None if own is None else ChatFormat.from_template(own.templates, tokenizer, stop_ids=own.stop_ids)
        )
    matches = getattr(adapter, "matches", None)
    taught = matches is not None and model.lm_head is not None and matches("lm_head")
    head_learns = adapter is None or taught
    frozen = None if head_learns else model
    chat = None if chat_template == NO_CHAT else choose_format(chat_template, tokenizer, own, frozen=frozen)
    model.requires_grad_(adapter is None)
    made = None if adapter is None else beside(model, adapter, seed=seed)
    return Subject(model=model, tokenizer=tokenizer, chat=chat, adapter=made, parent_vocab=vocab)


def open_floats(base: Path) -> LM:
    """A model with float32 weights; an adapter is merged into its own."""
    lm = LM.load(base, dtype=torch.float32, dequantise=True)
    if is_adapter(base):
        Adapters.of(lm.model).merge(DEFAULT)
    return lm


def beside(model: Decoder, cfg: AdapterConfig, *, seed: int) -> Adapter:
    """A new adapter that every token of the model goes through. The model owns it as `learned`, so that whoever trains the model's
    parameters trains the adapter's, and only those.

    Raises:
        OrreryError: the model has nothing that the config names.
    """
    adapter = new_adapter(model, cfg, seed=seed)
    slots = AdapterSlots.of(model)
    slots.default = slots.add(adapter)
    model.learned = adapter  # type: ignore[bad-argument-type]
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise OrreryError(f"an adapter of the kind '{cfg.kind}' has nothing to learn here; take another")
    return adapter
