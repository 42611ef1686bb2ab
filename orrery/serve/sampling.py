"""How the next token is chosen: pure functions on float32 logits.

Each takes logits (V,) and returns logits (V,), with -inf where a token is ruled out; `choose` applies them in this
order: bias, repetition, presence and frequency, temperature, top-k, top-p, min-p, typical, draw. Ties break by the
smaller id everywhere, and the draw is the inverse of the cumulative distribution at one uniform number that is a
function of (seed, request, position) alone: a request gives the same tokens alone, in a batch, or resumed.

V vocabulary.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from orrery.kit.errors import OrreryError
from orrery.kit.lm import Sampling
from orrery.kit.seeds import uniform


def choose(logits: Tensor, sampling: Sampling, *, before: Tensor, made: Tensor, u: float) -> int:
    """The next token id.

    Args:
        logits: (V,) of the model.
        before: (V,) int, how often each token stands in the prompt.
        made: (V,) int, how often each token was generated.
        u: a number in [0, 1), see `position_uniform`; not used when temperature is 0.
    """
    logits = penalized(logits.float(), sampling, before=before, made=made)
    if sampling.temperature == 0:
        return greedy(logits)
    return draw(filtered(logits, sampling), u)


def penalized(logits: Tensor, sampling: Sampling, *, before: Tensor, made: Tensor) -> Tensor:
    """Bias and penalties: what changes even the greedy choice."""
    logits = logit_bias(logits, sampling.logit_bias)
    logits = repetition_penalty(logits, (before + made) > 0, sampling.repetition_penalty)
    return count_penalties(
        logits, made, presence=sampling.presence_penalty, frequency=sampling.frequency_penalty
    )


def filtered(logits: Tensor, sampling: Sampling) -> Tensor:
    """Temperature and the filters."""
    logits = temperature(logits, sampling.temperature)
    logits = top_k(logits, sampling.top_k)
    logits = top_p(logits, sampling.top_p)
    logits = min_p(logits, sampling.min_p)
    return typical(logits, sampling.typical_p)


def position_uniform(seed: int, request: str, position: int) -> float:
    """The number in [0, 1) that decides the token at `position` (tokens before it) of a request."""
    return uniform(seed, "sample", request, position)


def draw(logits: Tensor, u: float) -> int:
    """Inverse-transform sampling: the first id at which the cumulative probability, in order of ids, exceeds u."""
    cumulative = logits.double().softmax(-1).cumsum(-1)
    index = int(torch.searchsorted(cumulative, u * cumulative[-1], right=True))
    # Rounding may put u * total at the total itself: then it is the last id that has any probability.
    return index if index < len(logits) else int(torch.isfinite(logits).nonzero()[-1])


def greedy(logits: Tensor) -> int:
    """The likeliest token, the smallest id of equals."""
    return int(logits.argmax())


def temperature(logits: Tensor, t: float) -> Tensor:
    """logits / t: below 1 sharpens, above 1 flattens."""
    return logits if t == 1 else logits / t


def top_k(logits: Tensor, k: int) -> Tensor:
    """Keep the k likeliest (Fan et al. 2018, arXiv:1805.04833); 0 keeps all."""
    if k == 0 or k >= len(logits):
        return logits
    order = logits.sort(descending=True, stable=True).indices
    return logits.index_fill(0, order[k:], -math.inf)


def top_p(logits: Tensor, p: float) -> Tensor:
    """Nucleus: keep the smallest set of likeliest tokens whose mass is at least p (Holtzman et al. 2019,
    arXiv:1904.09751)."""
    if p >= 1:
        return logits
    order = logits.sort(descending=True, stable=True).indices
    return _keep_mass(logits, order, p)


def min_p(logits: Tensor, p: float) -> Tensor:
    """Keep tokens with at least p times the probability of the likeliest (Nguyen et al. 2024, arXiv:2407.01082)."""
    if p <= 0:
        return logits
    return logits.masked_fill(logits < logits.max() + math.log(p), -math.inf)


def typical(logits: Tensor, p: float) -> Tensor:
    """Locally typical: of the tokens ordered by |surprise - entropy| keep the smallest prefix with mass at least p
    (Meister et al. 2022, arXiv:2202.00666)."""
    if p >= 1:
        return logits
    logprobs = logits.double().log_softmax(-1)
    entropy = torch.special.entr(logprobs.exp()).sum()
    order = (-logprobs - entropy).abs().sort(stable=True).indices
    return _keep_mass(logits, order, p)


def repetition_penalty(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Divide positive and multiply negative logits of tokens already seen, so that both fall when penalty is above 1
    (Keskar et al. 2019, CTRL, arXiv:1909.05858)."""
    if penalty == 1:
        return logits
    return torch.where(seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)


def count_penalties(logits: Tensor, made: Tensor, *, presence: float, frequency: float) -> Tensor:
    """logits - presence * [made > 0] - frequency * made, over generated tokens alone."""
    if presence == 0 and frequency == 0:
        return logits
    return logits - presence * (made > 0) - frequency * made


def logit_bias(logits: Tensor, bias: dict[int, float]) -> Tensor:
    """Add to the logits of named ids; -inf forbids a token."""
    if not bias:
        return logits
    ids = torch.tensor(list(bias), device=logits.device)
    values = torch.tensor(list(bias.values()), dtype=logits.dtype, device=logits.device)
    return logits.index_add(0, ids, values)


def check_sampling(sampling: Sampling, vocab_size: int) -> None:
    """Refuse settings that mean nothing.

    Raises:
        OrreryError: names the setting and its range.
    """
    s = sampling
    wrong = {
        "temperature must be 0 (greedy) or at least 1e-6": s.temperature != 0
        and not 1e-6 <= s.temperature < math.inf,
        "top_k must be 0 (off) or more": s.top_k < 0,
        "top_p must be above 0 and at most 1": not 0 < s.top_p <= 1,
        "min_p must be from 0 to 1": not 0 <= s.min_p <= 1,
        "typical_p must be above 0 and at most 1": not 0 < s.typical_p <= 1,
        "repetition_penalty must be above 0": not (
            s.repetition_penalty > 0 and math.isfinite(s.repetition_penalty)
        ),
        "presence_penalty must be a finite number": not math.isfinite(s.presence_penalty),
        "frequency_penalty must be a finite number": not math.isfinite(s.frequency_penalty),
        f"logit_bias must name ids from 0 to {vocab_size - 1}": not all(
            0 <= i < vocab_size for i in s.logit_bias
        ),
        "logit_bias cannot be nan or +inf": any(
            math.isnan(b) or b == math.inf for b in s.logit_bias.values()
        ),
    }
    for rule, broken in wrong.items():
        if broken:
            name = rule.split()[0]
            raise OrreryError(f"{rule}, not {getattr(s, name)}")


def _keep_mass(logits: Tensor, order: Tensor, p: float) -> Tensor:
    """Keep the shortest prefix of `order` whose probability is at least p; always the first."""
    probabilities = logits.double().softmax(-1)[order]
    reached = probabilities.cumsum(-1)[:-1] >= p - 1e-6  # logits carry 24 bits: a mass this near to p is p
    return logits.index_fill(0, order[1:][reached], -math.inf)
