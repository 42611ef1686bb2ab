"""The quick way for byte-level BPE: tiktoken's engine over our own merges (no download), about twice as fast.

tiktoken knows tokens by their bytes and merges any two neighbours that spell a token, lowest id first; the tokenizers
library merges the pairs in its list, earliest first. They give the same ids on every text when

  1. along the merge list the ids of the products never fall, and each product has a higher id than its parts
     (so both take merges in the same order, and a merge never makes an earlier one possible), and
  2. tiktoken is given just those tokens that the merge list makes of their own bytes: encode(bytes of t) = [t].

Why: the merges inside a stretch of bytes do not depend on what lies outside while nothing crosses its borders. Take the
first step at which tiktoken merges neighbours x, y into t where the library would not. Applied to t's bytes alone, the
merges before that step give [x, y]; by (2) they also give the pair that the list merges into t. So x, y was that pair.

`ranks` checks both conditions on a tokenizer and gives None where they do not hold; then the library encodes. The cut
into words must be the same too, so the engine is used only with the patterns of `patterns.py`, whose two readings (two
regular-expression libraries) a test compares over all of Unicode.
"""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import tokenizers

from orrery.text.patterns import GPT2, PATTERNS
from orrery.text.pieces import BYTE_OF_CHAR, bytes_of
from orrery.text.spec import Spec, merge_pairs


class FastEngine:
    """Plain text to ids through tiktoken. Safe to call from many threads; the interpreter lock is free meanwhile."""

    def __init__(self, pattern: str, table: dict[bytes, int]) -> None:
        import tiktoken

        # tiktoken needs one special token to look for; it is never allowed, so it is never found.
        never = {"<|never|>": max(table.values()) + 1}
        self._engine = tiktoken.Encoding(
            "orrery", pat_str=pattern, mergeable_ranks=table, special_tokens=never
        )

    def encode(self, text: str) -> np.ndarray:
        """Ids as uint32.

        Raises:
            ValueError: a stretch too long for the engine's regular expressions, or a lone surrogate.
        """
        return self._engine.encode_to_numpy(text, disallowed_special=())


def engine(spec: Spec) -> FastEngine | None:
    """The engine for a tokenizer, or None where equal ids are not certain or tiktoken is not installed."""
    pattern = _pattern(spec) or ""
    if pattern not in PATTERNS.values() or any(
        not token["special"] for token in spec.get("added_tokens") or []
    ):
        return None
    if find_spec("tiktoken") is None or (table := ranks(spec)) is None:
        return None
    return FastEngine(pattern, table)


def ranks(spec: Spec) -> dict[bytes, int] | None:
    """Token bytes -> id for tiktoken, or None when conditions 1 and 2 cannot be met."""
    model = spec["model"]
    odd = ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback", "fuse_unk")
    if model.get("type") != "BPE" or any(model.get(name) for name in odd):
        return None
    vocab: dict[str, int] = model["vocab"]
    if not all(char in vocab for char in BYTE_OF_CHAR):
        return None
    merges = merge_pairs(model)
    last = -1
    for pair in merges:
        product = vocab["".join(pair)]
        if product < last or any(len(part) > 1 and vocab[part] >= product for part in pair):
            return None
        last = product
    reachable = {left + right for left, right in merges} | set(BYTE_OF_CHAR)
    special = {token["content"] for token in spec.get("added_tokens") or []}
    others = vocab.keys() - reachable - special
    if model.get("ignore_merges") and others:
        return None  # whole words outside the merge list: the library finds them, a merge never would
    library = tokenizers.models.BPE(vocab, merges)
    table = {}
    for piece in reachable:
        if [token.id for token in library.tokenize(piece)] == [vocab[piece]]:
            table[bytes_of(piece)] = vocab[piece]
        elif model.get("ignore_merges"):
            return None
    return table


def _pattern(spec: Spec) -> str | None:
    """The regular expression of a byte-level pre-tokenizer that tiktoken can repeat."""
    if spec.get("normalizer"):
        return None
    stage = spec.get("pre_tokenizer") or {}
    if stage.get("type") == "ByteLevel":
        return GPT2 if stage.get("use_regex", True) and not stage.get("add_prefix_space", True) else None
    match stage.get("pretokenizers"):
        case [
            {"type": "Split", "behavior": "Isolated", "invert": False} as split,
            {"type": "ByteLevel"} as level,
        ]:
            if not level.get("use_regex", True) and not level.get("add_prefix_space", True):
                return split["pattern"].get("Regex")
    return None
