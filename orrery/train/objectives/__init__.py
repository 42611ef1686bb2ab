"""What is predicted from what: each objective is a pure function of ids, and `apply.py` puts it on a batch.

batch = transform(objective, batch, tokenizer, rng)
loss = compute(objective, model, batch, context_for(objective, batch))
"""

from orrery.train.objectives.config import (
    CausalLM,
    DraftEagle,
    DraftMedusa,
    DraftObjective,
    DraftSemi,
    FillInTheMiddle,
    MaskedLM,
    MultiToken,
    Objective,
    PrefixLM,
    SpanCorruption,
)

__all__ = [
    "CausalLM",
    "DraftEagle",
    "DraftMedusa",
    "DraftObjective",
    "DraftSemi",
    "FillInTheMiddle",
    "MaskedLM",
    "MultiToken",
    "Objective",
    "PrefixLM",
    "SpanCorruption",
]
