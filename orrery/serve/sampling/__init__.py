"""How the next token is chosen: pure functions on float32 logits, and the state of one sequence that applies them.

Order: a grammar's mask; bias, repetition, presence and frequency, DRY, bad words (`penalties`); temperature, top-k, top-p,
min-p, typical, XTC (`filters`); the draw (`draw`). `Chooser` is what generation uses; `choose` the same as one function.
"""

from orrery.serve.sampling.check import check_sampling
from orrery.serve.sampling.choices import choice_request_id, choice_requests, given
from orrery.serve.sampling.chooser import Choice, Chooser
from orrery.serve.sampling.draw import choose, draw, greedy, position_uniform
from orrery.serve.sampling.filters import (
    candidates,
    filtered,
    largest,
    min_p,
    temperature,
    top_k,
    top_p,
    typical,
    xtc,
)
from orrery.serve.sampling.logprobs import read_logprobs, top_logprobs
from orrery.serve.sampling.penalties import (
    BadWords,
    count_penalties,
    dry_penalties,
    forbid,
    logit_bias,
    penalized,
    repeated_lengths,
    repetition_penalty,
    subtract,
)
from orrery.serve.sampling.words import bad_word_ids, breaker_ids

__all__ = [
    "BadWords",
    "Choice",
    "Chooser",
    "bad_word_ids",
    "breaker_ids",
    "candidates",
    "check_sampling",
    "choice_request_id",
    "choice_requests",
    "choose",
    "count_penalties",
    "draw",
    "dry_penalties",
    "filtered",
    "forbid",
    "given",
    "greedy",
    "largest",
    "logit_bias",
    "min_p",
    "penalized",
    "position_uniform",
    "read_logprobs",
    "repeated_lengths",
    "repetition_penalty",
    "subtract",
    "temperature",
    "top_k",
    "top_logprobs",
    "top_p",
    "typical",
    "xtc",
]
