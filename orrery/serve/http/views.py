"""Tokens, log-probabilities and observations as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from orrery.kit.lm import Completion, GenerateRequest
from orrery.text.tokenizer import Tokenizer

LEAST = -9999.0
"""OpenAI's word for minus infinity, which JSON has not."""


def token_view(tokenizer: Tokenizer, id: int, logprob: float) -> dict[str, Any]:
    """{"token", "logprob", "bytes"}: the text is U+FFFD where the token holds part of a character, the bytes are exact."""
    spelled = tokenizer.token_bytes(id)
    return {
        "token": spelled.decode("utf-8", errors="replace"),
        "logprob": finite(logprob),
        "bytes": list(spelled),
    }


def chat_logprobs(
    tokenizer: Tokenizer,
    ids: Sequence[int],
    logprobs: Sequence[float],
    top: Sequence[Mapping[int, float]],
    count: int,
) -> dict[str, Any]:
    """The `logprobs` of a chat choice, or of a chunk of it; the `count` likeliest alternatives of each token."""
    content = []
    for at, (id, logprob) in enumerate(zip(ids, logprobs, strict=True)):
        others = best(top[at], count) if at < len(top) else []
        content.append(
            {
                **token_view(tokenizer, id, logprob),
                "top_logprobs": [token_view(tokenizer, other, value) for other, value in others],
            }
        )
    return {"content": content, "refusal": None}


def legacy_logprobs(
    tokenizer: Tokenizer,
    ids: Sequence[int],
    logprobs: Sequence[float | None],
    top: Sequence[Mapping[int, float] | None],
    count: int,
    offset: int,
) -> dict[str, Any]:
    """The `logprobs` of /v1/completions; `offset` is where in the text the first token begins."""
    views = [token_view(tokenizer, id, 0.0)["token"] for id in ids]
    offsets = []
    for view in views:
        offsets.append(offset)
        offset += len(view)
    tops = [
        None
        if row is None
        else {token_view(tokenizer, i, 0.0)["token"]: finite(value) for i, value in best(row, count)}
        for row in top
    ]
    return {
        "tokens": views,
        "token_logprobs": [None if value is None else finite(value) for value in logprobs],
        "top_logprobs": tops if count else None,
        "text_offset": offsets,
    }


def best(row: Mapping[int, float], count: int) -> list[tuple[int, float]]:
    """The likeliest, the smaller id of equals first."""
    return sorted(row.items(), key=lambda pair: (-pair[1], pair[0]))[:count]


def spoken(ids: Sequence[int], finish: str | None, request: GenerateRequest, stop_ids: Sequence[int]) -> int:
    """How many of these last ids stand in the text: without the stop id that ended it."""
    stops = stop_ids if request.stop_ids is None else request.stop_ids
    ended = finish == "stop" and not request.ignore_eos and len(ids) > 0 and ids[-1] in stops
    return len(ids) - ended


def choice_extra(ids: Sequence[int], observed: Mapping[str, Any] | None) -> dict[str, Any]:
    """What the answer's `orrery` holds of a choice."""
    return {"ids": list(ids), "observed": plain(observed or {})}


def answer_extra(request: GenerateRequest, completion: Completion | None) -> dict[str, Any]:
    """What the answer's `orrery` holds as a whole."""
    extra: dict[str, Any] = {"prompt_ids": list(request.ids)}
    if completion is not None:
        extra |= {
            "cached_tokens": completion.cached_tokens,
            "drafted": completion.drafted,
            "accepted": completion.accepted,
        }
    return extra


def plain(value: Any) -> Any:
    """Tensors and arrays as lists, numbers finite, keys texts: JSON."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    match value:
        case Mapping():
            return {str(key): plain(item) for key, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
        case float():
            return finite(value)
    return value


def finite(value: float) -> float:
    """JSON has no infinity and no NaN."""
    return max(float(value), LEAST) if math.isfinite(value) or value == -math.inf else -LEAST
