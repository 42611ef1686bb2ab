"""More tokens for a trained model, without disturbing what it says.

    mean       e_new = mean(E)                       gaussian   e_new ~ N(mean(E), s cov(E)),  s small

With the mean, a new token's logit is the mean of all logits, never above the largest, so the probability that old tokens lose is at
most n / (V + n); rows drawn as HF's default does (std 0.02) can take nearly all of it. The Gaussian tells the new tokens apart from
the start. Hewitt 2021, "Initializing New Word Embeddings for Pretrained Language Models". Old rows and so old logits stay, bit for bit.

V vocabulary, d width, n new tokens.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from orrery.kit.config import config
from orrery.kit.errors import OrreryError
from orrery.kit.seeds import torch_generator
from orrery.model.decoder import Decoder
from orrery.text.tokenizer import Tokenizer
from orrery.tune.rebuild import rebuilt


@config
class NewTokens:
    """Tokens to add.

    Attributes:
        names: as they will be written; those that are there already are left alone.
        special: control tokens, which no text from outside can make.
        init: where their embeddings begin; spread: s, of the Gaussian.
    """

    names: Annotated[tuple[str, ...], Field(min_length=1)]
    special: bool = True
    init: Literal["mean", "gaussian"] = "gaussian"
    spread: Annotated[float, Field(gt=0, le=1)] = 1e-5
    seed: int = 0


def extend(model: Decoder, tokenizer: Tokenizer, cfg: NewTokens) -> tuple[Decoder, Tokenizer]:
    """The model and its tokenizer with the new tokens; the old embedding's rows are kept bit for bit.

    Rows that a model has beyond its tokenizer's ids (padding to a round number) are used first.

    Raises:
        OrreryError: all of the tokens are there already.
    """
    missing = [name for name in cfg.names if name not in tokenizer]
    if not missing:
        raise OrreryError(
            f"the tokens {', '.join(cfg.names)} are all in the vocabulary; leave new_tokens out"
        )
    first, wider = tokenizer.vocab_size, tokenizer.add_tokens(missing, special=cfg.special)
    rows = max(model.cfg.vocab_size, wider.vocab_size)
    tables = ["embed.weight", *([] if model.lm_head is None else ["lm_head.weight"])]
    state = model.state_dict()
    weights = {name: extended(state[name], first, wider.vocab_size, rows, cfg) for name in tables}
    if model.lm_head is not None and model.lm_head.bias is not None:
        bias = state["lm_head.bias"]
        grown = torch.cat([bias, bias.new_zeros(rows - len(bias))])
        grown[first : wider.vocab_size] = bias[:first].mean()
        weights["lm_head.bias"] = grown
    new = rebuilt(model, dataclasses.replace(model.cfg, vocab_size=rows), weights)
    arguments = {"tokens": missing, "init": cfg.init, "from": model.cfg.vocab_size, "to": rows}
    new.surgery.append({"operation": "new tokens", "modules": tables, "arguments": arguments})
    return new, wider


def extended(table: Tensor, first: int, last: int, rows: int, cfg: NewTokens) -> Tensor:
    """(rows, d): the table with rows [first, last) begun anew from its first `first` rows."""
    known = table[:first].float()
    mean = known.mean(0)
    new = mean.expand(last - first, -1)
    if cfg.init == "gaussian":
        generator = torch_generator(cfg.seed, "new tokens")
        # (E - mean)^T z / sqrt(V) with z standard normal has the covariance of E, which need not be formed.
        z = torch.randn(last - first, first, generator=generator).to(known.device)
        new = new + (cfg.spread / first) ** 0.5 * (z @ (known - mean))
    grown = (
        torch.cat([table, table.new_zeros(rows - len(table), table.shape[1])])
        if rows > len(table)
        else table.clone()
    )
    grown[first:last] = new.to(table.dtype)
    return grown
