"""The tokens that a grammar allows next: state of a sequence, like its cache, that moves on, goes back and forks with it.

    constraint = Constraint.compile(Grammar(kind="regex", source="[0-9]+"), tokenizer, vocab=V, stop_ids=lm.stop_ids)
    logits.masked_fill(~constraint.mask(), -inf) -> id -> constraint.accept(id) -> ... until constraint.finished

The grammar is compiled by llguidance (Earley's parser over lexemes matched by derivatives of regular expressions), lazily: what
costs time is a step at a time and has a bound, after which the sequence fails rather than the server. Nothing compiled is shared
between requests, so no request's grammar can use up another's bounds.

V vocabulary.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import accumulate, takewhile
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from orrery.kit.errors import OrreryError
from orrery.kit.lm import Grammar
from orrery.serve.grammar.schema import GrammarLimits
from orrery.serve.grammar.source import described, lark_source
from orrery.serve.grammar.tokenizer_bridge import Bridge, bridge
from orrery.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from llguidance import LLMatcher


class Constraint:
    """One sequence's place in its grammar. A stop id fits where the text may end, and nowhere else."""

    def __init__(
        self,
        matcher: LLMatcher,
        start: LLMatcher | None,
        of: Bridge,
        *,
        vocab: int,
        stop_ids: Collection[int],
    ) -> None:
        """Use `compile`. `start`: the grammar over the tokens as a text's first one; None where it makes no difference."""
        self._matcher, self._start, self._bridge = matcher, start, of
        self._vocab, self._stop_ids = vocab, tuple(dict.fromkeys(stop_ids))
        self._taken: list[int] = []  # of each id accepted: how many tokens the matcher took for it
        self._ended = False

    @classmethod
    def compile(
        cls,
        grammar: Grammar,
        tokenizer: Tokenizer,
        *,
        vocab: int,
        stop_ids: Collection[int],
        limits: GrammarLimits | None = None,
        fresh: bool = True,
    ) -> Constraint:
        """The grammar at its beginning.

        Args:
            vocab: V, the rows of the model's logits; those beyond the tokenizer's last id are never allowed.
            stop_ids: ids that end the text; without any, `finished` alone says that it is whole.
            fresh: the text begins here, after a special token or nothing, as `primed_detokenizer` decides; else it continues one.

        Raises:
            OrreryError: a source that is malformed, beyond the limits, or matched by no text; or a WordPiece tokenizer.
        """
        limits = limits or GrammarLimits()
        of = bridge(tokenizer)
        source = lark_source(grammar, limits)
        start = _matcher(grammar, source, of.first, limits) if fresh and of.starts else None
        made = cls(_matcher(grammar, source, of.rest, limits), start, of, vocab=vocab, stop_ids=stop_ids)
        if not made.finished and not made._bits(made._start or made._matcher).any():
            raise OrreryError(f"no text matches this {described(grammar)}; mend it")
        return made

    # --- what may come next

    @property
    def finished(self) -> bool:
        """Whether nothing more can come: a stop id came, or the text is whole and no longer one matches."""
        return self._ended or (self._matcher.is_stopped() and not self._matcher.is_error())

    @property
    def may_end(self) -> bool:
        """Whether the text so far matches the whole grammar."""
        return self._ended or self._matcher.is_accepting()

    def mask(self) -> Tensor:
        """(V,) bool: the ids allowed next.

        Raises:
            OrreryError: the text has ended, no token fits, or finding out goes beyond the limits.
        """
        bits = self._bits(self._matcher if self._taken or self._start is None else self._start)
        known = min(self._vocab, self._bridge.end)
        allowed = np.zeros(self._vocab, dtype=bool)
        allowed[:known] = bits[:known]
        allowed[self._bridge.holes] = False
        allowed[list(self._stop_ids)] = self._matcher.is_accepting()
        if self._ended or not allowed.any():
            raise OrreryError("the grammar allows no further token; the text ends here")
        return torch.from_numpy(allowed)

    def forced(self) -> list[int]:
        """Ids that spell what must come next, often none. Other ids may spell the same, so they are good drafts; taking them
        unasked would change what is sampled."""
        if self.finished or (self._start is not None and not self._taken):
            return []
        # asked where only a special token fits, the library gives up for good
        ahead = self._matcher.deep_copy()
        ids = self._bridge.encode(ahead.compute_ff_bytes())
        return ids[: self.accepts(ids)]

    def accepts(self, ids: Sequence[int]) -> int:
        """How many of these ids, one after another, fit from here; nothing changes."""
        if self._ended:
            return 0
        ids = list(takewhile(self._is_known, ids))
        stop = next((at for at, i in enumerate(ids) if i in self._stop_ids), len(ids))
        spelled = [self._spelled(len(self._taken) + at, i) for at, i in enumerate(ids[:stop])]
        flat = [token for tokens in spelled for token in tokens]
        fit = self._matcher.validate_tokens(flat) if flat else 0
        if fit < len(flat):
            return sum(end <= fit for end in accumulate(map(len, spelled)))
        if stop == len(ids):
            return stop
        ahead = self._matcher.deep_copy()
        return stop + int(ahead.try_consume_tokens(flat) == len(flat) and ahead.is_accepting())

    # --- moving

    def accept(self, id: int) -> None:
        """Move on by one id.

        Raises:
            OrreryError: it does not fit (nothing changes then), or taking it goes beyond the limits.
        """
        if id in self._stop_ids:
            if self._ended or not self._matcher.is_accepting():
                raise OrreryError(f"the stop id {id} does not fit: the grammar is not at an end here")
            self._ended = True
            self._taken.append(0)
            return
        tokens = list(self._spelled(len(self._taken), id))
        may = not self._ended and self._is_known(id)
        taken = self._matcher.try_consume_tokens(tokens) if may else 0
        if self._matcher.is_error():
            raise _too_complex(self._matcher)
        if not may or taken < len(tokens):
            self._matcher.rollback(taken)
            raise OrreryError(f"the token {id} does not fit the grammar here; draw from what mask() allows")
        self._taken.append(taken)

    def rollback(self, n: int) -> None:
        """Go back by the last n ids.

        Raises:
            OrreryError: fewer were accepted.
        """
        if not 0 <= n <= len(self._taken):
            raise OrreryError(f"cannot go back by {n} tokens: {len(self._taken)} were accepted")
        keep = len(self._taken) - n
        if tokens := sum(self._taken[keep:]):
            self._matcher.rollback(tokens)
        self._ended = self._ended and n == 0
        del self._taken[keep:]

    def clone(self) -> Constraint:
        """The same place, from which both can go their own ways."""
        made = Constraint(
            self._matcher.deep_copy(), self._start, self._bridge, vocab=self._vocab, stop_ids=self._stop_ids
        )
        made._taken, made._ended = list(self._taken), self._ended
        return made

    # --- inside

    def _is_known(self, id: int) -> bool:
        return 0 <= id < self._bridge.end

    def _spelled(self, position: int, id: int) -> Sequence[int]:
        """The ids of the inner table that spell this one at its place."""
        starts = self._bridge.starts if self._start is not None and position == 0 else {}
        return starts.get(id, (id,))

    def _bits(self, matcher: LLMatcher) -> np.ndarray:
        """(end + 1, rounded up) bool of the library's bit mask; the bit `end` is for the end of the text."""
        words = np.zeros(-(-(self._bridge.end + 1) // 32), dtype=np.int32)
        matcher.unsafe_compute_mask_ptr(words.ctypes.data, words.nbytes)
        if matcher.is_error() and "NoExtension" in matcher.get_error():  # which says that nothing fits
            words[:] = 0
        elif matcher.is_error():
            raise _too_complex(matcher)
        return np.unpackbits(words.view(np.uint8), bitorder="little").view(bool)


def _matcher(grammar: Grammar, source: str, trie: Any, limits: GrammarLimits) -> LLMatcher:
    from llguidance import LLMatcher
    from llguidance._lib import LLParserLimits

    bounds = LLParserLimits(
        max_items_in_row=limits.row_items,
        initial_lexer_fuel=limits.compile_fuel,
        step_lexer_fuel=limits.step_fuel,
        step_max_items=limits.step_items,
        max_lexer_states=limits.states,
        max_grammar_size=limits.symbols,
        precompute_large_lexemes=False,
        verbose_errors=False,
    )
    made = LLMatcher(trie, source, log_level=0, limits=bounds)
    if made.is_error():
        raise OrreryError(f"the {described(grammar)} cannot be held to: {_first(made)}")
    return made


def _too_complex(matcher: LLMatcher) -> OrreryError:
    return OrreryError(f"the grammar is too costly to hold the text to ({_first(matcher)}); make it simpler")


def _first(matcher: LLMatcher) -> str:
    return " ".join(matcher.get_error().replace("<non-verbose/>", "").split())[:200]
