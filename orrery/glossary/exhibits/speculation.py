"""Exhibits of speculative decoding: how many drafted tokens a pass keeps, by drafter and by how good it is."""

from __future__ import annotations

import functools

import torch

from orrery.glossary.exhibit import Exhibit, Series
from orrery.glossary.exhibits import _tiny
from orrery.kit.lm import GenerateRequest, Sampling
from orrery.model.decoder import Decoder
from orrery.serve.lm import LM
from orrery.serve.speculate.draft_model import DraftModelDrafter
from orrery.serve.speculate.drafter import Drafter
from orrery.serve.speculate.generate import speculative_generate
from orrery.serve.speculate.lookup import LookupDrafter
from orrery.serve.speculate.statistics import AcceptanceStatistics
from orrery.text.config import TokenizerConfig
from orrery.text.tokenizer import Tokenizer
from orrery.text.train import train_tokenizer


@functools.cache
def _bytes() -> Tokenizer:
    """A byte-level tokenizer without merges: ids are bytes."""
    return train_tokenizer(["abc"], TokenizerConfig(vocab_size=256, special_tokens=(), bos=None, eos=None))


@functools.cache
def _trained(steps: int, layers: int) -> LM:
    torch.manual_seed(0)
    model = Decoder(_tiny.shape(n_layers=layers), seed=layers)
    if steps:
        _tiny.train(model, steps=steps)
    return LM(model=model.eval(), tokenizer=_bytes())


def _measured(
    lm: LM, drafter: Drafter, prompt: bytes, *, temperature: float = 0.0, rule: str = "coupled"
) -> AcceptanceStatistics:
    counts = AcceptanceStatistics()
    request = GenerateRequest(
        ids=list(prompt), max_tokens=96, ignore_eos=True, sampling=Sampling(temperature=temperature)
    )
    done = speculative_generate(lm, request, drafter, rule=rule, tokens=4, statistics=counts)  # type: ignore[bad-argument-type]
    if rule == "coupled":
        assert done.ids == lm.generate([request])[0].ids
    return counts


def acceptance_by_draft_quality() -> Exhibit:
    """A one-layer draft model after 0 to 160 steps of training drafts for a two-layer one: tokens a pass, and what is kept by place."""
    target, rows, lengths = _trained(160, 2), [], []
    steps = (0, 20, 60, 160)
    for trained in steps:
        counts = _measured(
            target, DraftModelDrafter(_trained(trained, 1), target), b"    def fill(self, text):\n"
        )
        lengths.append(counts.mean_accepted_length)
        places = " ".join(f"{share:.2f}" for share in counts.by_position())
        rows.append((trained, counts.rate, counts.mean_accepted_length, places))
    return Exhibit(
        title="4 drafts a pass, greedy, 96 tokens",
        columns=(
            "training steps of the draft",
            "kept of drafted",
            "tokens a pass",
            "kept by place in the draft",
        ),
        rows=rows,
        series=(Series(name="tokens a pass", x=steps, y=lengths),),
        reads="The better the draft agrees with the model, the more tokens each pass gives; a bad one costs time and nothing else, "
        "since the model verifies every token. Later places are kept less often: they stand on earlier guesses.",
    )


def lookup_and_repetition() -> Exhibit:
    """Prompt lookup on greedy text, which falls into loops, and on sampled text, which does not: it drafts where the past recurs."""
    target = _trained(160, 2)
    rows = []
    for name, temperature in (("greedy, goes round", 0.0), ("sampled, does not", 1.0)):
        counts = _measured(target, LookupDrafter(), b"The quick brown fox", temperature=temperature)
        rows.append((name, counts.passes, counts.nodes, counts.rate, counts.mean_accepted_length))
    return Exhibit(
        title="96 tokens, at most 4 drafts a pass",
        columns=("text", "passes", "drafted", "kept of drafted", "tokens a pass"),
        rows=rows,
        reads="What followed the last occurrence of the text's end is proposed, at the price of a dictionary lookup: no second "
        "model, much gained where an answer repeats what was read (summaries, edits, code), and little lost elsewhere.",
    )


def coupled_or_rejection() -> Exhibit:
    """Sampled text under both ways to verify: the same bytes as without drafts, or more drafts kept with the same distribution."""
    target, draft = _trained(160, 2), _trained(60, 1)
    rows = []
    for rule in ("coupled", "rejection"):
        counts = _measured(
            target, DraftModelDrafter(draft, target), b"    def wrap(", temperature=1.0, rule=rule
        )
        rows.append((rule, counts.passes, counts.rate, counts.mean_accepted_length))
    return Exhibit(
        title="temperature 1, 96 tokens, 4 drafts a pass",
        columns=("rule", "passes", "kept of drafted", "tokens a pass"),
        rows=rows,
        reads="Coupled: a draft is kept if the plain sampler, with its own random number, would have taken it; bytes are those of no "
        "speculation. Rejection: kept with probability min(1, p/q), else drawn from what p has more; the distribution is the model's.",
    )
