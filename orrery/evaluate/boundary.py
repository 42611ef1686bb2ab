"""Where a context ends and a continuation begins, in ids.

A text is cut into tokens as a whole, so the ids of context + continuation need not begin with those of the context: the end of one and
the beginning of the other may be one token. Therefore

    white space at the end of the context goes to the continuation (" A" is a token, " " and "A" are others),
    context + continuation is encoded as one text: these are the ids that a model meets in such a text,
    it is cut where the context's own ids end, or earlier, where they first differ from those of one of the continuations

so that all continuations of a question are scored behind the same ids. Before the text stands BOS, once, where the tokenizer's files say
so; a continuation of nothing stands behind BOS or, for want of it, EOS. This is how lm-evaluation-harness cuts, except that it keeps the
context's own ids where they are not those of the whole text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from orrery.kit.errors import OrreryError
from orrery.text.tokenizer import Tokenizer

Bos = Literal["auto", "always", "never"]
Ids = list[int]


class Unanswerable(OrreryError):
    """A row that cannot be scored for a reason of its own; the others can."""


def beginning(tokenizer: Tokenizer, bos: Bos = "auto") -> Ids:
    """What stands before every text: [BOS] or nothing. auto: as other tools do with the tokenizer's files.

    Raises:
        OrreryError: "always", and there is no BOS.
    """
    if bos == "never" or (bos == "auto" and not (tokenizer.bos_id is not None and tokenizer.adds[0])):
        return []
    if tokenizer.bos_id is None:
        raise OrreryError("this tokenizer has no BOS token to begin with; leave out --bos always")
    return [tokenizer.bos_id]


def split(
    tokenizer: Tokenizer, context: str, continuations: Sequence[str], *, start: Ids
) -> tuple[Ids, list[Ids]]:
    """The ids of the context, and of each continuation behind it. Neither is empty.

    Raises:
        Unanswerable: a continuation has no text.
    """
    bare = context.rstrip()
    moved = context[len(bare) :]
    if not bare:
        return _from_nothing(tokenizer, [moved + text for text in continuations], start)
    before = tokenizer.encode(bare)
    wholes = [tokenizer.encode(bare + moved + text) for text in continuations]
    cut = min(len(before), *(common(before, whole) for whole in wholes))
    cut = min(cut, *(len(whole) - 1 for whole in wholes))
    if any(whole == before for whole in wholes):
        raise Unanswerable("a continuation has no text")
    if not start and cut == 0:  # not one token of the context stands by itself
        return _from_nothing(tokenizer, [bare + moved + text for text in continuations], start)
    return [*start, *before[:cut]], [whole[cut:] for whole in wholes]


def _from_nothing(tokenizer: Tokenizer, continuations: Sequence[str], start: Ids) -> tuple[Ids, list[Ids]]:
    """Texts as they stand: behind BOS or EOS."""
    wholes = [tokenizer.encode(text) for text in continuations]
    if not all(wholes):
        raise Unanswerable("a continuation has no text")
    before = start or alone(tokenizer)
    if before:
        return before, wholes
    shared = wholes[0][:1]
    if any(whole[:1] != shared or len(whole) < 2 for whole in wholes):
        raise OrreryError(
            "this tokenizer has neither BOS nor EOS, and nothing stands before the texts; give the task a prompt"
        )
    return shared, [whole[1:] for whole in wholes]


def fit(context: Ids, continuation: Ids, *, limit: int, start: Ids) -> tuple[Ids, int]:
    """The context as far as it can be seen with the continuation, cut from its beginning (`start` stays), and how much was cut.

    The continuation's last token is not read, so limit + 1 tokens fit.

    Raises:
        Unanswerable: the continuation alone does not fit.
    """
    over = len(context) + len(continuation) - 1 - limit
    if over <= 0:
        return context, 0
    keep = len(context) - over - len(start)
    if keep < (not start):
        raise Unanswerable("the answer is longer than the model's context")
    return [*start, *context[len(context) - keep :]], over


def make_room(ids: Ids, max_tokens: int, *, limit: int, start: Ids) -> tuple[Ids, int, int]:
    """A prompt cut from its beginning (`start` stays) so that `max_tokens` fit behind it, but to no less than half the context.

    Returns the ids, how many tokens can be made behind them, and how many were cut.
    """
    keep = max(limit + 1 - max_tokens, limit // 2, 1 + len(start))
    over = max(len(ids) - keep, 0)
    if over:
        ids = [*start, *ids[over + len(start) :]]
    return ids, min(max_tokens, limit + 1 - len(ids)), over


def alone(tokenizer: Tokenizer) -> Ids:
    """What stands before a text that nothing else does: BOS or, for want of it, EOS; nothing where there is neither."""
    return [id for id in (tokenizer.bos_id, tokenizer.eos_id) if id is not None][:1]


def common(a: Sequence[int], b: Sequence[int]) -> int:
    """How many ids both begin with."""
    n = min(len(a), len(b))
    return next((i for i in range(n) if a[i] != b[i]), n)
