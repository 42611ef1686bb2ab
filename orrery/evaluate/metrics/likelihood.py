"""From log-probabilities to the numbers people quote: perplexity, bits per token, bits per byte.

    perplexity = exp(nats / tokens)        bits per token = nats / (tokens ln 2)        bits per byte = nats / (bytes ln 2)

`nats` is -sum ln p over everything scored. Perplexity and bits per token depend on the tokenizer; bits per byte does not.
`orrery.evaluate.bits` measures a model over documents, with its error; these are the formulas alone.
"""

from __future__ import annotations

import math

LN2 = math.log(2)


def perplexity(nats: float, count: int) -> float:
    """exp(nats / count): per token, or per word of the text (then comparable between tokenizers); nan of nothing.

    Infinite where something was held impossible, and beyond the largest float.
    """
    mean = nats / count if count else math.nan
    return math.inf if mean > 709 else math.exp(mean)


def bits_per_token(nats: float, tokens: int) -> float:
    """Yes-no questions a token; nan of nothing."""
    return nats / tokens / LN2 if tokens else math.nan


def bits_per_byte(nats: float, n_bytes: int) -> float:
    """Yes-no questions a byte of the UTF-8 text; nan of nothing."""
    return nats / n_bytes / LN2 if n_bytes else math.nan
