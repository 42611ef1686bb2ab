"""Speculative generation over a contiguous cache: the whole loop in sight.

    draft  ->  one pass of the model over the last token and all drafts  ->  verify  ->  keep the path that holds

The engine does the same over its pages for many sequences at once; this is the reference it is held against, and the bench on
which drafters are measured.

    done = speculative_generate(lm, lm.request("text", temperature=0), LookupDrafter())
    done.accepted, done.drafted
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from orrery.kit.errors import OrreryError
from orrery.kit.lm import Completion, GenerateRequest
from orrery.model.cache import Cached, KVCache
from orrery.model.decoder import Decoder
from orrery.serve.finite import check_finite
from orrery.serve.generate import Generation
from orrery.serve.grammar.constraint import Constraint
from orrery.serve.mode import evaluating
from orrery.serve.request import new_tokens, read_ids
from orrery.serve.sampling import Choice, Chooser
from orrery.serve.speculate.drafter import NOTHING, Draft, Drafter, DraftView, Rule
from orrery.serve.speculate.statistics import AcceptanceStatistics
from orrery.serve.speculate.tree_cache import TreeCached, keep
from orrery.serve.speculate.verify import verify

if TYPE_CHECKING:
    from orrery.serve.lm import LM

TICKET = 0


def speculative_generate(
    lm: LM,
    request: GenerateRequest,
    drafter: Drafter,
    *,
    rule: Rule = "coupled",
    tokens: int = 8,
    statistics: AcceptanceStatistics | None = None,
) -> Completion:
    """One continuation of a request, with drafts of at most `tokens` nodes.

    With the rule "coupled" ids and text are those of `lm.generate`; logprobs agree to rounding, because the model reads several
    tokens in a pass.

    Args:
        statistics: what was kept is added to it.

    Raises:
        OrreryError: as `lm.generate`; or beam or contrastive search, which choose by more than one token's logits.
    """
    if request.num_beams > 1 or request.sampling.contrastive_alpha:
        raise OrreryError(
            "beam search and contrastive search cannot be drafted for; set num_beams=1 and contrastive_alpha=0, or speculate=false"
        )
    counts = AcceptanceStatistics()
    stop_ids = lm.stop_ids if request.stop_ids is None else request.stop_ids
    stops = frozenset() if request.ignore_eos else frozenset(stop_ids)
    search = partial(
        speculated_tokens, stop_ids=stops, drafter=drafter, rule=rule, tokens=tokens, statistics=counts
    )
    generation = Generation(lm.model, lm.tokenizer, request, stop_ids, search=search)
    with evaluating(lm.model):
        for _ in generation:
            pass
    drafter.forget(TICKET)
    if statistics is not None:
        statistics.add(counts)
    return replace(generation.completion, drafted=counts.nodes, accepted=counts.kept)


@torch.inference_mode()
def speculated_tokens(
    model: Decoder,
    request: GenerateRequest,
    *,
    known: int,
    constraint: Constraint | None = None,
    stop_ids: frozenset[int] = frozenset(),
    drafter: Drafter,
    rule: Rule,
    tokens: int,
    statistics: AcceptanceStatistics,
) -> Iterator[Choice]:
    """Each new token, as `generate.sampled_tokens`; several at a time where drafts hold."""
    ids = read_ids(model, request)
    end = len(ids) + new_tokens(model, request)
    chooser = Chooser(request, model.cfg.vocab_size, known)
    reader = Reader(model, capacity=end + tokens)
    draft = NOTHING
    while len(ids) < end:
        logits = reader.read(ids, draft)
        kept, nodes = verify(draft, logits, chooser, len(ids), rule, constraint)
        fresh = reader.settle(nodes)
        last = next((i for i, choice in enumerate(kept) if choice.id in stop_ids), len(kept) - 1)
        statistics.record(draft, min(len(nodes), last + 1))
        yield from kept[: last + 1]
        if constraint is not None and constraint.finished:
            return
        ids += [choice.id for choice in kept]
        drafter.accepted(TICKET, ids[-1 - len(fresh) : -1], fresh if drafter.reads_hidden else None)
        view = DraftView(
            ticket=TICKET,
            ids=ids,
            chooser=chooser,
            room=reader.room(ids, end),
            hidden=fresh[-1] if drafter.reads_hidden else None,
            rule=rule,
        )
        (draft,) = drafter.propose([view], tokens)
        if reader.recurrent:
            draft = draft.first_branch()


class Reader:
    """The model with a cache of one sequence, of which it knows what is certain."""

    def __init__(self, model: Decoder, capacity: int) -> None:
        self.model, self.cache = model, KVCache(model, rows=1, capacity=capacity)
        self.recurrent = bool(model.state_spec())
        self.start = 0
        """Tokens in the cache for good."""
        self.told = 0
        """Tokens whose states `settle` has given."""

    def room(self, ids: list[int], end: int) -> int:
        """How many drafts in a row can be read now: up to the last token but one, and within one kind of LongRoPE angles."""
        turn = self.cache.restart_beyond
        room = end - len(ids) - 1
        return room if turn is None or len(ids) > turn else min(room, turn - len(ids))

    def read(self, ids: list[int], draft: Draft) -> Tensor:
        """Read what is new and the draft in one pass; (n + 1, V) float32 on the CPU: behind the last token, and each draft.

        Raises:
            OrreryError: the model's own numbers are not finite.
        """
        if not self.cache.serves(self.start, len(ids)):
            self.start = 0
        self.fresh, self.draft = len(ids) - self.start, draft
        # A layer makes new states and never writes to one, so that keeping the list keeps them.
        self.states = {site: list(states) for site, states in self.cache.states.items()}
        new = torch.tensor([*ids[self.start :], *draft.ids], device=self.model.device)
        self.hidden = self.model(new, self._context())
        logits = self.model.head(self.hidden[self.fresh - 1 :]).float().cpu()
        return check_finite(logits, len(ids))

    def settle(self, nodes: list[int]) -> Tensor:
        """Keep these nodes of the draft, which are a path, and forget the others; (n, d) states of the tokens that have
        now been read for good and were not before."""
        m = self.fresh
        path = [*range(m), *(m + node for node in nodes)]
        states = self.hidden[path][self.told - self.start :]
        self.told += len(states)
        if self.recurrent and len(nodes) < len(self.draft):
            # A state after a rejected draft cannot go back: return to the one before, and read what was kept again.
            self.cache.states = self.states
            self.cache.truncate(0, self.start)
        else:
            if self.draft.parents is None:
                self.cache.truncate(0, self.start + len(path))
            else:
                keep(self.cache, self.start, path)
            self.start += len(path)
        return states

    def _context(self) -> Cached | TreeCached:
        if self.draft.parents is None:
            return Cached(self.cache, [(0, self.start, self.fresh + len(self.draft))])
        last = self.fresh - 1
        line = range(-1, last)
        return TreeCached(
            self.cache, self.start, [*line, *(last if p < 0 else p + last + 1 for p in self.draft.parents)]
        )
